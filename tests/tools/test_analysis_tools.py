"""The measuring tools: what they count, what they write, and ratios that must not get worse."""

import json
import sys
from dataclasses import fields
from functools import partial
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from mmtagclip.clip.steps import Steps
from tests.clip.towers.test_golden import encoder_of
from tests.conftest import picture
from tests.processes import ROOT, run, run_script, slow

try:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    unfused_attention = partial(sdpa_kernel, SDPBackend.MATH)
except ImportError:  # torch before 2.3
    unfused_attention = partial(
        torch.backends.cuda.sdp_kernel, enable_flash=False, enable_mem_efficient=False
    )

FOLDER = ROOT / 'tools/analysis_tools'
# Ratios of the pictures and parts below on a quiet machine, one thread; see CONTRIBUTING.md.
RATIOS = ROOT / 'tests/tools/ratios.json'
PARTS = ('text', 'encoder', 'dmar', 'cwr', 'floor')
# A ratio may get worse by this factor, since other programs run beside the tests.
MARGIN = 2


@pytest.fixture(scope='module')
def measuring():
    sys.path.insert(0, str(FOLDER))
    try:
        import measuring

        yield measuring
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def tiny(measuring, clip, monkeypatch):
    """Let the tools measure a tiny model where it doesn't matter what is measured."""
    monkeypatch.setattr(measuring, 'load_model', lambda weights: clip)


def plain_forward(encoder, image):
    """All blocks; torch counts nothing in open_clip's own fused attention."""
    x, grid = encoder.embed(image)
    for block in encoder.tower.blocks(grid):
        x = block.ordinary(x)
    encoder.tower.read(encoder.tower.norm(x), grid)


@pytest.fixture(scope='module')
def photographs(tmp_path_factory):
    """A small picture, so that the model's real size is quick enough."""
    folder = tmp_path_factory.mktemp('photographs')
    Image.fromarray(picture(224, 320, 0)).save(folder / '0.jpg')
    return folder


def test_operations_of_a_vit_are_those_of_its_formula(encoder, measuring):
    patches, width, blocks = 3 * 5, encoder.visual.conv1.out_channels, encoder.num_blocks
    tokens = patches + 1
    expected = 2 * patches * 3 * 16**2 * width  # the embedding
    expected += blocks * (24 * tokens * width**2 + 4 * tokens**2 * width)
    expected += 2 * tokens * width * encoder.dim
    assert measuring.flops(encoder, 48, 80) == expected


@pytest.mark.parametrize('kind', ['clipa', 'siglip', 'eva02', 'dinotxt', 'convnext', 'rn'])
def test_operations_of_other_towers_are_those_that_torch_counts(measuring, kind):
    encoder = encoder_of(kind)
    size = 2 * encoder.patch_size, 3 * encoder.patch_size
    with FlopCounterMode(display=False) as counter, unfused_attention(), torch.no_grad():
        plain_forward(encoder, torch.zeros(1, 3, *size))
    assert measuring.flops(encoder, *size) == counter.get_total_flops() > 1e6


def test_peak_memory_sees_what_is_freed_again(measuring):
    size = 50 * 2**20
    peak = measuring.peak_memory(lambda: torch.ones(size // 4).sum())
    assert size * 0.9 < peak < size * 1.5
    assert measuring.peak_memory(lambda: None) < size * 0.1


@slow
def test_ratios_have_not_got_worse(photographs, tmp_path):
    out = tmp_path / 'benchmark.json'
    process = run(
        sys.executable,
        FOLDER / 'benchmark.py',
        '--photos',
        photographs,
        '--out',
        out,
        '--images',
        1,
        '--repeats',
        1,
        '--parts',
        *PARTS,
        '--check',
        MARGIN,
        '--against',
        RATIOS,
        timeout=900,
        OMP_NUM_THREADS='1',
    )
    assert process.returncode == 0, process.stdout + process.stderr
    rows, earlier = (json.loads(path.read_text())['rows'] for path in (out, RATIOS))
    assert set(rows) | {'encoder_bfloat16'} == set(earlier) | {'encoder_bfloat16'}
    assert rows['text_cold']['details']['max difference'] < 1e-6


@pytest.mark.usefixtures('tiny')
def test_a_ratio_that_is_off_ends_with_an_error(photographs, tmp_path):
    process = run_script(
        FOLDER / 'benchmark.py',
        '--photos',
        photographs,
        '--images',
        1,
        '--repeats',
        1,
        '--parts',
        'loading',
        '--check',
        1e-6,
        '--out',
        tmp_path / 'loading.json',
    )
    assert process.returncode == 1
    assert 'off its target by more than 1e-06 times: loading' in process.stderr
    loading = json.loads((tmp_path / 'loading.json').read_text())['rows']['loading']
    assert 0 < loading['ours'] < loading['other']


def test_an_earlier_ratio_is_what_is_compared_with(measuring):
    import benchmark

    most = benchmark.Row('ours', 'theirs', 2.0, at_most=1)
    assert [most.holds(1.5), most.holds(1.5, 1.4), most.holds(1.5, 1.0)] == [False, True, False]
    least = benchmark.Row('ours', 'theirs', 2.0, at_least=5)
    assert [least.holds(2), least.holds(2, 3.9), least.holds(2, 4.1)] == [False, True, False]


@pytest.mark.usefixtures('tiny')
def test_too_few_photographs(tmp_path):
    process = run_script(FOLDER / 'benchmark.py', '--photos', tmp_path)
    assert process.returncode == 1
    assert f'{tmp_path} holds 0 images, fewer than the requested 6' in process.stderr


@pytest.mark.parametrize('key', ['images', 'repeats'])
def test_nothing_to_measure(key):
    process = run_script(FOLDER / 'benchmark.py', f'--{key}', 0)
    assert process.returncode == 2
    assert process.stderr.strip().endswith(f'error: --{key} must be at least 1, not 0')


def test_figure_of_stored_points(tmp_path):
    points = [
        {
            'axis': axis,
            'value': value,
            'what': 'x',
            'seconds': 2.0 * value,
            'floor': value,
            'bytes': 2**20 * value,
        }
        for axis in ('side', 'classes', 'candidates', 'batch')
        for value in (1, 2)
    ]
    (tmp_path / 'points.json').write_text(json.dumps(points))
    process = run_script(
        FOLDER / 'plot_cost.py',
        '--out',
        tmp_path / 'points.json',
        '--figure',
        tmp_path / 'figure.png',
    )
    assert process.returncode == 0, process.stderr
    assert (tmp_path / 'figure.png').stat().st_size > 10_000


@pytest.mark.usefixtures('measuring')
def test_exponentials_are_drawn_where_they_were_measured(tmp_path):
    import plot_cost

    points = [
        {'axis': 'side', 'value': side, 'what': what, 'seconds': 2.0, 'floor': 1.0, 'bytes': 2**20}
        for what in ('x', 'y')
        for side in (1, 2)
    ]
    for one, value in zip(points, (3.0, 4.0), strict=False):
        one['exponentials'] = value
    plot_cost.draw(points, tmp_path / 'figure.png')
    lines = plot_cost.plt.gcf().axes[0].lines
    assert [line.get_label() for line in lines] == [
        'x',
        'its floor',
        'exponentials alone',
        'y',
        'its floor',
    ]
    assert lines[2].get_ydata().tolist() == [3, 4]


@pytest.mark.usefixtures('tiny')
def test_throughput(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        torch, 'compile', lambda function, **options: compiled.append(options) or function
    )
    process = run_script(FOLDER / 'throughput.py', '--quick', '--compiled', '--out', tmp_path)
    assert process.returncode == 0, process.stderr
    content = json.loads((tmp_path / 'throughput.json').read_text())
    assert content['machine']['torch'] == torch.__version__
    rows = content['rows']
    whats = ['encoder', 'tagger, 20 names', 'tagger, 80 names']
    modes = ['float32', 'float32, compiled']
    assert [(row['dtype'], row['what']) for row in rows] == list(product(modes, whats))
    assert compiled == [{'dynamic': True}] * len(fields(Steps))
    assert all(row['images_per_second'] > 0 and row['share'] > 0 for row in rows)
    assert all(0 < row['candidates'] <= 3 for row in rows if row['what'] != 'encoder')
    lines = (tmp_path / 'throughput.md').read_text().splitlines()
    assert [line.split(' | ')[0] for line in lines[4:]] == [f'| {row["what"]}' for row in rows]
    assert not content['left_out']


@pytest.mark.usefixtures('tiny')
def test_throughput_without_time(tmp_path):
    process = run_script(
        FOLDER / 'throughput.py', '--quick', '--seconds', -1, '--out', tmp_path / 'new'
    )
    assert process.returncode == 0, process.stderr
    assert 'Left out: float32 (no time left).' in (tmp_path / 'new/throughput.md').read_text()


@pytest.mark.usefixtures('tiny')
def test_rows_of_the_command_and_of_waits(tmp_path, measuring, monkeypatch):
    import benchmark

    seconds = {benchmark.IMPORT_RUN: [2.0], benchmark.TAG_RUN: [0.0, 9.0, 6.0, 3.0]}
    monkeypatch.setattr(benchmark, 'run_python', lambda program, *words: seconds[program])
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', '--images', '1', '--parts', 'tag'])
    tool = benchmark.Benchmark(benchmark.parse_args(), tmp_path)
    assert {key: row.ratio for key, row in tool.tag()} == {'tag': 1.5, 'tag_start': 1.5}
    assert len(list((tmp_path / 'scenes').iterdir())) == 200
    seconds[benchmark.TAG_RUN][0] = 2.0
    tool.scratch = tmp_path / 'again'
    tool.scratch.mkdir()
    with pytest.raises(RuntimeError, match='ended with exit code 2'):
        list(tool.tag())
    places = {'a: f': 1, 'b: g': 12}
    monkeypatch.setattr(
        benchmark,
        'import_tests',
        lambda name: SimpleNamespace(waits_of_a_batch=lambda tagger, count: places),
    )
    ((key, row),) = tool.waits()
    assert (key, row.ratio, row.details) == ('waits', 2, {'places': ['a: f', 'b: g']})


def test_seconds_may_be_those_of_the_process(measuring, monkeypatch):
    import benchmark

    moments = iter([10.0, 13.0])
    monkeypatch.setattr(measuring, 'clock', lambda: next(moments))
    assert measuring.timed(lambda: None) == 3
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 2)
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', '--cpu-time'])
    with pytest.raises(SystemExit):
        benchmark.parse_args()


def test_programs_are_run_by_themselves(measuring):
    import benchmark

    program = 'import sys, mmtagclip; print("more"); print(1, *sys.argv[1:])'
    assert benchmark.run_python(program, 2, 3.5) == [1, 2, 3.5]


def test_a_part_of_a_map_counts_for_all_maps(encoder, measuring, monkeypatch):
    seconds = []

    def counted(function, repeats):
        function()
        seconds.append(repeats)
        return 1.0

    monkeypatch.setattr(measuring, 'seconds', counted)
    monkeypatch.setattr(measuring, 'MAP_ENTRIES', 32)
    parts = measuring.attention_steps(encoder, 48, 64)  # 13 tokens, two rows of 16
    assert len(parts) == len(seconds) == 3
    heads = encoder.visual.transformer.resblocks[0].attn.num_heads
    assert set(parts.values()) == {encoder.num_blocks * heads * 13 / 2}


@pytest.mark.parametrize('tool', ['benchmark.py', 'plot_cost.py', 'throughput.py'])
def test_no_such_device(tool, tmp_path):
    process = run_script(FOLDER / tool, '--device', 'cuda:99', '--out', tmp_path / 'out')
    assert process.returncode == 2
    assert "no device 'cuda:99' here" in process.stderr


@slow
def test_one_axis_is_measured_anew(tmp_path):
    out = tmp_path / 'points.json'
    old = {'what': 'x', 'seconds': 2.0, 'floor': 1.0, 'bytes': 2**20}
    out.write_text(
        json.dumps([{'axis': 'side', 'value': 1, **old}, {'axis': 'batch', 'value': 1, **old}])
    )
    process = run(
        sys.executable,
        FOLDER / 'plot_cost.py',
        '--out',
        out,
        '--measure',
        'side',
        '--max-side',
        224,
    )
    assert process.returncode == 0, process.stderr
    kept, *new = json.loads(out.read_text())
    assert kept == {'axis': 'batch', 'value': 1, **old}
    assert {(one['axis'], one['value']) for one in new} == {('side', 224)}
    assert all(0 < one['floor'] < 10 * one['seconds'] for one in new)


def test_the_first_round_does_not_count(measuring, monkeypatch):
    called = []
    lengths = iter([10, 20, *[1, 2] * 2])  # slow at first

    def timed(function):
        function()
        return next(lengths)

    monkeypatch.setattr(measuring, 'timed', timed)
    found = measuring.pair(lambda: called.append('ours'), lambda: called.append('other'), 2)
    assert called == ['ours', 'other'] * 3
    assert found == (1, 2, 0.5)
