"""tools/test.py and tools/dist_test.sh."""

import json
import sys

import pytest
from PIL import Image

from tests.conftest import picture
from tests.processes import ROOT, free_port, run, run_script

TEST_PY = ROOT / 'tools' / 'test.py'

CONFIG = """\
_base_ = '{configs}/tagclip/tagclip_vit-base-p16_openai_{data}.py'
model = dict(
    encoder=dict(_delete_=True, **{encoder}),
    classes='voc',
    background='voc_background',
    templates='templates_photo')
test_dataloader = dict(num_workers={workers}, dataset=dict({dataset}))
"""
# Sizes of the pictures, an odd number of them, and their objects, difficult ones with an asterisk.
VOC = {
    '000001': ((64, 80), 'cat dog'),
    '000002': ((50, 71), 'person *chair'),
    '000003': ((33, 100), 'cat'),
    '000004': ((64, 80), '*sofa'),
    '000005': ((90, 40), 'car bus'),
}


def run_test(*arguments):
    return run_script(TEST_PY, *arguments)


def write_config(path, encoder_config, data, workers=0, **dataset):
    path.write_text(
        CONFIG.format(
            configs=ROOT / 'configs',
            data=data,
            encoder=encoder_config,
            workers=workers,
            dataset=', '.join(f'{key}={value!r}' for key, value in dataset.items()),
        )
    )
    return path


def write_voc(root):
    for name in ('Annotations', 'JPEGImages', 'ImageSets/Main'):
        (root / name).mkdir(parents=True)
    (root / 'ImageSets' / 'Main' / 'test.txt').write_text('\n'.join(VOC) + '\n')
    for seed, (name, (size, objects)) in enumerate(VOC.items()):
        Image.fromarray(picture(*size, seed)).save(root / 'JPEGImages' / f'{name}.jpg')
        (root / 'Annotations' / f'{name}.xml').write_text(
            '<annotation>'
            + ''.join(
                f'<object><name>{word.lstrip("*")}</name>'
                f'<difficult>{int(word.startswith("*"))}</difficult></object>'
                for word in objects.split()
            )
            + '</annotation>'
        )
    return root


def tags(folder):
    return [json.loads(line) for line in (folder / 'tags.jsonl').read_text().splitlines()]


@pytest.fixture(scope='module')
def voc(tmp_path_factory, encoder_config):
    """A small data set in VOC's layout, and its config."""
    folder = tmp_path_factory.mktemp('voc')
    root = write_voc(folder / 'VOC2007')
    return root, write_config(folder / 'voc.py', encoder_config, 'voc07', data_root=str(root))


@pytest.fixture(scope='module')
def one_process(voc, tmp_path_factory):
    """A finished run as a user starts it: the process, and the folder that it wrote to."""
    out = tmp_path_factory.mktemp('one')
    process = run(
        sys.executable, TEST_PY, voc[1], '--work-dir', out, '--out', out / 'new' / 'metrics.json'
    )
    return process, out


def test_runs_without_a_checkpoint(one_process):
    process, out = one_process
    assert process.returncode == 0, process.stderr
    assert 'array is not writable' not in process.stderr  # torch's warning about read-only images
    metrics = json.loads((out / 'new' / 'metrics.json').read_text())
    for convention in ('difficult_positive', 'difficult_ignored'):
        for name in ('mAP', 'precision_micro', 'recall_micro', 'f1-score_micro'):
            value = metrics[f'{convention}/{name}']
            assert 0 <= value <= 100
            assert f'{convention}/{name}: {value:.4f}' in process.stdout + process.stderr
    assert metrics['unreadable_images'] == 0


def test_tag_file(voc, one_process):
    lines = tags(one_process[1])
    assert [line['image'] for line in lines] == [
        str(voc[0] / 'JPEGImages' / f'{name}.jpg') for name in VOC
    ]
    assert all(line['tags'] and len(line['tags']) == len(line['scores']) for line in lines)


def test_recall_is_that_of_the_tag_file(one_process):
    out = one_process[1]
    hits = positives = 0
    for line, (_, objects) in zip(tags(out), VOC.values(), strict=True):
        names = {word.lstrip('*') for word in objects.split()}
        hits += len(names & set(line['tags']))
        positives += len(names)
    metrics = json.loads((out / 'new' / 'metrics.json').read_text())
    assert metrics['difficult_positive/recall_micro'] == pytest.approx(100 * hits / positives)


def test_two_processes_give_the_same(voc, one_process, tmp_path):
    process = run(
        'bash',
        ROOT / 'tools' / 'dist_test.sh',
        voc[1],
        2,
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'metrics.json',
        PORT=free_port(),
    )
    assert process.returncode == 0, process.stderr
    alone = one_process[1]
    assert (tmp_path / 'tags.jsonl').read_bytes() == (alone / 'tags.jsonl').read_bytes()
    assert json.loads((tmp_path / 'metrics.json').read_text()) == json.loads(
        (alone / 'new' / 'metrics.json').read_text()
    )
    assert not list(tmp_path.glob('*.part*'))


@pytest.fixture(scope='module')
def voc_with_a_gap(tmp_path_factory, encoder_config):
    """The same without its third image, read by worker processes."""
    folder = tmp_path_factory.mktemp('gap')
    root = write_voc(folder / 'VOC2007')
    (root / 'JPEGImages' / '000003.jpg').unlink()
    return root, write_config(
        folder / 'voc.py', encoder_config, 'voc07', workers=1, data_root=str(root)
    )


def test_missing_image_stops_the_run(voc_with_a_gap, tmp_path):
    root, config = voc_with_a_gap
    process = run_test(config, '--work-dir', tmp_path)
    assert process.returncode != 0
    assert f'no image at {root / "JPEGImages" / "000003.jpg"}' in process.stderr
    assert not (tmp_path / 'tags.jsonl').exists()


def test_missing_image_is_skipped_on_request(voc_with_a_gap, one_process, tmp_path):
    root, config = voc_with_a_gap
    process = run_test(
        config,
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'metrics.json',
        '--cfg-options',
        'test_dataloader.dataset.pipeline.0.on_error=skip',
    )
    assert process.returncode == 0, process.stderr
    missing = str(root / 'JPEGImages' / '000003.jpg')
    assert tags(tmp_path)[2] == {'image': missing, 'error': f'no image at {missing}'}
    others = [line['tags'] for line in tags(tmp_path) if 'error' not in line]
    assert others == [line['tags'] for i, line in enumerate(tags(one_process[1])) if i != 2]
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['unreadable_images'] == 1
    assert '1 images could not be read' in process.stdout + process.stderr

    hits = positives = 0
    for line, (_, objects) in zip(tags(tmp_path), VOC.values(), strict=True):
        if 'error' not in line:
            names = {word.lstrip('*') for word in objects.split()}
            hits += len(names & set(line['tags']))
            positives += len(names)
    assert metrics['difficult_positive/recall_micro'] == pytest.approx(100 * hits / positives)


def test_folder_without_labels(encoder_config, tmp_path):
    photos = tmp_path / 'photos'
    (photos / 'holiday').mkdir(parents=True)
    Image.fromarray(picture(40, 1200, 0)).save(photos / 'b.png')
    Image.fromarray(picture(64, 64, 1)).save(photos / 'holiday' / 'sea.JPG')
    (photos / 'a.jpg').write_bytes(b'')
    (photos / 'notes.txt').write_text('not a picture')
    config = write_config(tmp_path / 'folder.py', encoder_config, 'folder', data_prefix=str(photos))
    process = run_test(
        config,
        '--work-dir',
        tmp_path / 'out',
        '--cfg-options',
        f'default_hooks.tags.relative_to={photos}',
    )
    assert process.returncode == 0, process.stderr
    empty, wide, sea = tags(tmp_path / 'out')
    assert empty == {'image': 'a.jpg', 'error': f'{photos / "a.jpg"} is an empty file'}
    assert (wide['image'], sea['image']) == ('b.png', 'holiday/sea.JPG')
    assert wide['tags']
    assert sea['tags']


def test_bad_arguments(voc, tmp_path):
    process = run_test(tmp_path / 'no_such.py')
    assert process.returncode == 2
    assert process.stderr.endswith(f'error: no config file at {tmp_path / "no_such.py"}\n')
    assert 'Traceback' not in process.stderr
