"""The command line, as users type it."""

import argparse
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmtagclip import cli
from mmtagclip.apis import SegInferencer
from mmtagclip.apis.model_zoo import load_config
from mmtagclip.clip import parse_names
from mmtagclip.jobs.pseudo_labels import read_pseudo_labels
from mmtagclip.jobs.runner import Manifest
from mmtagclip.models import TagCLIP
from tests.processes import ROOT, run

SCENES = ROOT / 'demo' / 'data' / 'JPEGImages'
TAG = ['--model', 'tagclip_demo', '--quiet']
SEGMENT = ['--model', 'cls-seg_demo', '--quiet']


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name in ('000001', '000003', '000040', '000045', '000070'):
        shutil.copy(SCENES / f'{name}.jpg', folder)
    return folder


def mmtagclip(*words):
    return cli.main([str(word) for word in words])


def lines(path):
    return [json.loads(line) for line in Path(path).read_text(encoding='utf-8').splitlines()]


def test_tags_are_printed(photos, capsys):
    assert mmtagclip('tag', photos / '000040.jpg', *TAG) == 0
    said = capsys.readouterr()
    assert said.out == f'{photos}/000040.jpg: bell 0.99, octopus 0.99, train 0.92\n'
    assert said.err == ''
    assert (
        mmtagclip(
            'tag',
            photos,
            *TAG,
            '--out',
            '-',
            '--classes',
            'bell,train,"a big, red bus"',
            '--background',
            'wall',
            '--threshold',
            0.9,
        )
        == 0
    )
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(records) == 5
    assert {tag for one in records for tag in one['tags']} <= {'bell', 'train', 'a big, red bus'}


def test_no_tag_is_an_answer(photos, tmp_path, capsys):
    Image.new('RGB', (96, 96)).save(photos / 'black.png')
    one, black = photos / '000040.jpg', photos / 'black.png'
    assert mmtagclip('tag', one, black, *TAG, '--top', 1) == 0
    assert capsys.readouterr().out == f'{one}: bell 0.99\n{black}: no tags\n'
    options = ['--min-score', 0.95, '--all-scores', '--out', tmp_path / 'a.jsonl']
    assert mmtagclip('tag', one, black, *TAG, *options) == 0
    scene, none = lines(tmp_path / 'a.jsonl')
    assert (scene['tags'], none['tags'], none['scores']) == (['bell', 'octopus'], [], [])
    assert len(scene['class_scores']) == len(none['class_scores']) == 50
    assert mmtagclip('tag', black, *TAG, '--min-score', 0) == 0
    assert 'no tags' not in capsys.readouterr().out


def test_a_notice_where_the_demo_s_model_meets_other_images(photos, capsys):
    words = ['tag', photos, '--model', 'tagclip_demo', '--classes', 'bell,traffic light']
    assert mmtagclip(*words) == 0
    (line,) = [one for one in capsys.readouterr().err.splitlines() if 'pictograms' in one]
    assert line.startswith('mmtagclip: this small model knows only 50 pictograms')
    command = f"mmtagclip tag {photos} '--classes=bell,traffic light' --download"
    assert line.endswith(command)
    for quiet in (['tag', SCENES / '000040.jpg', *TAG[:2]], [*words, '--quiet']):
        assert mmtagclip(*quiet) == 0
        assert 'pictograms' not in capsys.readouterr().err


@pytest.mark.parametrize(
    'quiet, terminal, out, shown',
    [
        (False, False, None, True),
        (False, True, None, False),  # a bar would get between the lines of results
        (False, True, 'a.jsonl', True),
        (True, False, None, False),
        (True, True, None, False),
    ],
)
def test_when_progress_is_shown(tmp_path, monkeypatch, quiet, terminal, out, shown):
    def stop(self, *arguments, show_progress, **options):
        raise ValueError(f'show_progress={show_progress}')

    from mmtagclip.apis import TagInferencer

    monkeypatch.setattr(TagInferencer, '__init__', stop)
    errors = io.StringIO()
    words = ['tag', SCENES / '000040.jpg', *TAG[:2]] + ['--quiet'] * quiet
    words += [] if out is None else ['--out', tmp_path / out]
    monkeypatch.setattr(sys, 'stderr', errors)
    monkeypatch.setattr(sys.stdout, 'isatty', lambda: terminal, raising=False)
    assert mmtagclip(*words) == 2
    assert f'show_progress={shown}' in errors.getvalue()


def test_json_lines_equal_the_inferencers(photos, demo_tagger, tmp_path):
    out = tmp_path / 'new' / 'tags.jsonl'
    assert mmtagclip('tag', photos, *TAG, '--out', out, '--batch-size', 2) == 0
    expected = demo_tagger(photos, batch_size=2)
    assert lines(out) == [result.to_dict() for result in expected]
    assert not out.with_name('tags.jsonl.unfinished').exists()


def test_csv_and_coco(photos, tmp_path):
    assert mmtagclip('tag', photos, *TAG, '--out', tmp_path / 'a.jsonl') == 0
    assert mmtagclip('tag', photos, *TAG, '--out', tmp_path / 'a.csv') == 0
    assert mmtagclip('tag', photos, *TAG, '--out', tmp_path / 'a.json') == 0
    pairs = [
        (one['image'], tag, score)
        for one in lines(tmp_path / 'a.jsonl')
        for tag, score in zip(one['tags'], one['scores'], strict=True)
    ]
    with (tmp_path / 'a.csv').open() as file:
        assert [
            (row['image'], row['tag'], float(row['score'])) for row in csv.DictReader(file)
        ] == pairs
    pairs = [(Path(image).name, tag, score) for image, tag, score in pairs]
    coco = COCO(str(tmp_path / 'a.json'))
    names = {key: one['name'] for key, one in coco.cats.items()}
    assert [
        (coco.imgs[one['image_id']]['file_name'], names[one['category_id']], one['score'])
        for one in coco.anns.values()
    ] == pairs


def test_masks_to_a_folder_and_to_coco(photos, demo_segmentor, tmp_path):
    assert mmtagclip('segment', photos, *SEGMENT, '--out', tmp_path / 'masks') == 0
    assert mmtagclip('segment', photos, *SEGMENT, '--out', tmp_path / 'coco.json') == 0
    assert mmtagclip('segment', photos, *SEGMENT, '--out', tmp_path / 'rows.csv') == 0
    assert mmtagclip('segment', photos, *SEGMENT, '--out', tmp_path / 'lines.jsonl') == 0
    results = demo_segmentor(photos)
    classes = Manifest.load(tmp_path / 'masks').classes
    assert classes == results[0].classes
    coco = COCO(str(tmp_path / 'coco.json'))
    ids = {one['name']: key for key, one in coco.cats.items()}
    assert 'background' not in ids
    for number, (record, result) in enumerate(
        zip(lines(tmp_path / 'masks/labels.jsonl'), results, strict=True), start=1
    ):
        with Image.open(tmp_path / 'masks' / record['masks']) as mask:
            assert np.array_equal(np.asarray(mask), result.mask)
        for name in set(result.shares) - {'background'}:
            (one,) = coco.loadAnns(coco.getAnnIds(imgIds=number, catIds=[ids[name]]))
            assert np.array_equal(coco.annToMask(one).astype(bool), result.binary_mask(name))
            assert one['area'] == result.binary_mask(name).sum()
            assert one['score'] == result.tags[name]
    assert lines(tmp_path / 'lines.jsonl') == [result.to_dict() for result in results]
    with (tmp_path / 'rows.csv').open() as file:
        assert [row['tag'] for row in csv.DictReader(file)] == [
            row['tag'] for result in results for row in result.rows()
        ]
    assert (tmp_path / 'masks/classes.txt').read_text().splitlines() == list(classes)


def test_words_of_a_tagger(photos, tmp_path, capsys):
    """Descriptions, a shortlist, hidden classes and labels, in a run to a file."""
    said, called = tmp_path / 'said.yaml', tmp_path / 'de.json'
    said.write_text(
        'bell: [a clapper, a golden metal body]\ntrain: [rails]\noctopus: [eight arms]\n'
    )
    called.write_text('{"bell": "Glocke", "train": "Zug", "octopus": "Krake"}')
    out = tmp_path / 'tags.jsonl'
    words = ['tag', photos / '000040.jpg', '--model', 'tagclip_demo', '--out', out]
    words += ['--classes', 'bell,train,octopus', '--descriptions', said, '--labels', called]
    words += ['--shortlist', 2]
    assert mmtagclip(*words, '--hide', 'train', '--all-scores') == 0
    (record,) = lines(out)
    assert set(record['class_scores']) == {'Glocke', 'Krake'}
    assert list(record['why']) == record['tags']
    assert all(sum(one.values()) == pytest.approx(1) for one in record['why'].values())
    assert record['why'].get('Krake', {'eight arms': 1}) == {'eight arms': 1}
    for option, value, message in (
        ('--hide', 'bel', "did you mean 'bell'"),
        ('--shortlist', 4, 'a shortlist of 4 is longer than the list of 3'),
        ('--model', 'clip_demo', 'and clip_demo has neither'),
        ('--labels', said, "the label of 'bell' must be a string"),
        ('--descriptions', called, "'bell' must have a list of descriptors"),
    ):
        assert mmtagclip(*words, '--overwrite', option, value) == 2
        assert message in capsys.readouterr().err


def test_converting(photos, tmp_path, capsys):
    masks = tmp_path / 'masks'
    broken = tmp_path / 'broken.jpg'
    broken.write_text('no image')
    assert mmtagclip('segment', photos / '000040.jpg', broken, *SEGMENT, '--out', masks) == 1
    out = tmp_path / 'tasks.json'
    words = ('convert', masks, '--to', 'label-studio', '--out', out)
    assert mmtagclip(*words, '--shapes', 'boxes') == 0
    assert f'1 images in {out}, 1 could not be read; their' in capsys.readouterr().out
    assert len(json.loads(out.read_text())) == 1
    assert mmtagclip(*words) == 2
    assert 'exists already; add --overwrite' in capsys.readouterr().err
    assert mmtagclip(*words, '--overwrite') == 0
    capsys.readouterr()
    # Its label config is a list of class names.
    config = out.with_suffix('.xml')
    names = list(Manifest.load(masks).classes[1:])
    assert list(parse_names(str(config)).names) == names
    assert mmtagclip('convert', masks, '--to', 'csv', '--out', tmp_path / 'a.json') == 2
    assert 'csv is a file that ends in .csv' in capsys.readouterr().err
    config.write_text('<View/>')
    assert mmtagclip('tag', photos, *TAG, '--classes', config) == 2
    assert f'{config}: the label config has no' in capsys.readouterr().err


def test_an_interrupted_run_goes_on_and_ends_the_same(photos, tmp_path, monkeypatch, capsys):
    command = ['tag', photos, '--model', 'tagclip_demo', '--batch-size', 2, '--out']
    assert mmtagclip(*command, tmp_path / 'whole.jsonl') == 0
    score, calls = TagCLIP.score, []

    def interrupted(self, images, names=None):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(self, images, names)

    monkeypatch.setattr(TagCLIP, 'score', interrupted)
    assert mmtagclip(*command, tmp_path / 'parts.jsonl') == 130
    assert '4 of 5 images are safe; run the same command again' in capsys.readouterr().err
    assert not (tmp_path / 'parts.jsonl').exists()
    assert mmtagclip(*command, tmp_path / 'parts.jsonl') == 0
    assert calls == [2, 2, 1, 1]
    assert '4 of 5 images are done already' in capsys.readouterr().err
    assert (tmp_path / 'parts.jsonl').read_text() == (tmp_path / 'whole.jsonl').read_text()


def test_another_run_does_not_go_on_with_what_is_there(photos, tmp_path, capsys):
    out = tmp_path / 'masks'
    assert mmtagclip('segment', photos / '000040.jpg', *SEGMENT, '--out', out) == 0
    before = {path: path.read_bytes() for path in out.rglob('*') if path.is_file()}
    assert mmtagclip('segment', photos, *SEGMENT, '--out', out, '--classes', 'bell,dog') == 2
    assert 'was begun by another job: classes was' in capsys.readouterr().err
    assert mmtagclip('segment', photos / '000045.jpg', *SEGMENT, '--out', out) == 2
    assert 'has the results of other images, which would be lost' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob('*') if path.is_file()} == before
    assert (
        mmtagclip(
            'segment',
            photos / '000040.jpg',
            *SEGMENT,
            '--out',
            out,
            '--classes',
            'bell,dog',
            '--overwrite',
        )
        == 0
    )
    assert Manifest.load(out).classes == ('background', 'bell', 'dog')
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'mine.txt').touch()
    assert mmtagclip('segment', photos / '000040.jpg', *SEGMENT, '--out', other, '--overwrite') == 2
    assert 'leaves it alone' in capsys.readouterr().err
    assert (other / 'mine.txt').is_file()


def test_unreadable_images_are_named_and_counted(photos, tmp_path, capsys):
    (photos / 'broken.jpg').write_bytes(b'')
    assert (
        mmtagclip(
            'tag', photos, *TAG, '--out', tmp_path / 'tags.jsonl', '--sheets', tmp_path / 'sheets'
        )
        == 1
    )
    error = capsys.readouterr().err
    assert f'could not read: {photos}/broken.jpg is an empty file' in error
    assert [one['image'] for one in lines(tmp_path / 'tags.jsonl') if 'error' in one] == [
        str(photos / 'broken.jpg')
    ]
    assert [path.name for path in (tmp_path / 'sheets').iterdir()] == ['sheet-0001.jpg']
    assert mmtagclip('tag', photos, *TAG) == 1
    assert 'broken.jpg' in capsys.readouterr().err
    assert mmtagclip('tag', photos, *TAG, '--on-error', 'raise') == 2


def test_files_that_are_not_read_are_counted_at_the_end(photos, tmp_path, capsys):
    for name in ('a.mov', 'b.MOV', 'c.aae'):
        (photos / name).write_bytes(b'x')
    out = photos / 'tags.jsonl'
    for _ in range(2):  # its own output is not among them
        assert mmtagclip('tag', photos, *TAG, '--out', out, '--overwrite') == 0
        assert capsys.readouterr().err.splitlines()[-1] == (
            'mmtagclip: 3 files were not read: 2 .mov, 1 .aae'
        )
    only = tmp_path / 'only'
    only.mkdir()
    (only / 'a.mov').write_bytes(b'x')
    assert mmtagclip('tag', only, *TAG) == 2
    assert 'no image in' in (error := capsys.readouterr().err)
    assert '(1 file was not read: 1 .mov)' in error


def test_pictures(photos, tmp_path):
    assert (
        mmtagclip('tag', photos, *TAG, '--vis', tmp_path / 'vis', '--out', tmp_path / 'a.jsonl')
        == 0
    )
    assert sorted(path.stem for path in (tmp_path / 'vis').glob('*.png')) == [
        path.stem for path in sorted(photos.iterdir())
    ]


@pytest.mark.parametrize(
    'words, message',
    [
        (['nowhere.jpg'], r'nowhere.jpg'),
        ([SCENES, '--out', 'tags.txt'], 'must end in .json, .csv, .jsonl, .parquet'),
        ([SCENES, '--out', 'folder'], 'must end in .json, .csv, .jsonl, .parquet'),
        ([SCENES, '--classes', 'no/such/file'], 'no file of names at no/such/file'),
        ([SCENES, '--classes', 'names.txt'], 'no file of names at names.txt'),
        ([SCENES, '--classes', ','], 'classes is empty'),
        ([SCENES, '--model', 'tagclip_dem'], 'similar names: tagclip_demo'),
        (
            [SCENES, '--model', 'cls-seg_demo'],
            'makes masks, not tags: use `mmtagclip segment`',
        ),
        ([SCENES, '--threshold', '3'], 'threshold must be in'),
        ([SCENES, '--max-side', '0'], '--max-side must be at least 1, not 0'),
        ([SCENES, '--batch-size', '0'], '--batch-size must be at least 1, not 0'),
        ([SCENES, '--device', 'toaster'], "the device 'toaster' can not be used"),
        ([SCENES, '--device', 'meta'], "meta' can not be used: this torch computes nothing on it"),
        ([SCENES, '--model', ROOT / 'README.md'], 'README.md is no config'),
        (
            [SCENES, '--out', ROOT / 'README.md/a.csv'],
            'README.md is a file, so nothing can be written',
        ),
        ([SCENES, '--vis', ROOT / 'README.md'], '--vis: '),
        ([SCENES, '--sheets', ROOT / 'README.md/pages'], '--sheets: '),
        ([SCENES, '--vis', ROOT / 'demo'], '--vis would write among the images'),
        (['nowhere', 'either.jpg'], 'no image or folder at nowhere or either.jpg'),
        ([SCENES, '--checkpoint', 'gone.pt'], '--checkpoint: there is no file gone.pt'),
        ([SCENES, '--weights', 'gone.pth'], '--weights: there is no file gone.pth'),
        ([SCENES, '--classes', 'coko'], 'did you mean coco'),
        (['https://example.org/a.jpg'], 'nothing is downloaded'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = [] if '--model' in words else TAG
    assert mmtagclip('tag', *words, *model, '--on-error', 'raise') == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith('mmtagclip: error: ')
    assert message in error


def test_a_format_without_its_package_is_refused_before_the_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    for words in (['tag', *TAG], ['segment', *SEGMENT], ['embed']):
        assert mmtagclip(*words, SCENES, '--out', tmp_path / 'a.parquet') == 2
        assert "parquet needs pyarrow: pip install -e '.[parquet]'" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_names_with_spaces_between_them(capsys):
    with pytest.raises(SystemExit):
        mmtagclip('tag', SCENES, '--classes', 'dog,', 'cat')
    assert 'unrecognized arguments: cat; names are separated by commas' in capsys.readouterr().err


def test_a_tagger_makes_no_masks(capsys):
    assert mmtagclip('segment', SCENES, *TAG) == 2
    assert (
        'tagclip_demo makes tags, not masks: use `mmtagclip tag`, or a model that '
        '`mmtagclip models` lists as "segment"'
    ) in capsys.readouterr().err


def test_a_failed_download_is_said_in_one_sentence(monkeypatch, capsys):
    def no_connection(url):
        raise ConnectionError('no route')

    monkeypatch.setattr('mmtagclip.clip.downloads.cached', lambda *of: None)
    monkeypatch.setattr('huggingface_hub.get_hf_file_metadata', no_connection)
    assert mmtagclip('tag', SCENES, '--download') == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('mmtagclip: error: Failed to download ViT-B-16-quickgelu (openai) (no r')
    assert '--checkpoint' in line


def test_broken_configs_and_options_are_refused(tmp_path, capsys):
    (tmp_path / 'broken.py').write_text('model = dict(')
    assert mmtagclip('tag', SCENES, '--model', tmp_path / 'broken.py') == 2
    assert 'broken.py is no config: ' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mmtagclip('tag', SCENES, *TAG, '--cfg-options', 'model.threshold')
    assert 'model.threshold: an option is KEY=VALUE' in capsys.readouterr().err
    assert mmtagclip('tag', SCENES, *TAG, '--cfg-options', 'model.encoder=3') == 2
    assert 'error: model.encoder must be a dict, not 3' in capsys.readouterr().err
    assert mmtagclip('segment', SCENES, *SEGMENT, '--classes', 'background,bell') == 2
    assert "'background' is label 0 already" in capsys.readouterr().err
    assert mmtagclip('models', 'zebra') == 2
    assert "no model has 'zebra' in its name" in capsys.readouterr().err
    assert mmtagclip('export', 'encoder.txt', '--model', 'tagclip_demo') == 2
    assert 'must end in .onnx, not encoder.txt' in capsys.readouterr().err
    assert mmtagclip('demo', '--out', tmp_path / 'broken.py') == 2
    assert 'broken.py is a file' in capsys.readouterr().err


def test_a_folder_that_may_not_be_written_to_is_refused_at_once(photos, monkeypatch, capsys):
    monkeypatch.setattr('os.access', lambda path, mode: Path(path) != photos)
    assert mmtagclip('tag', photos, *TAG, '--out', photos / 'new' / 'a.csv') == 2
    assert f'{photos} is not writable' in capsys.readouterr().err


def test_own_pictures_are_no_photographs(photos, tmp_path, monkeypatch, capsys):
    """A second run over a folder that holds the pictures of the first."""
    monkeypatch.chdir(photos)
    words = [
        'tag',
        '.',
        *TAG,
        '--vis',
        'pictures',
        '--sheets',
        'pages',
        '--overwrite',
        '--out',
        'tags.jsonl',
    ]
    for _ in range(2):
        assert mmtagclip(*words) == 0
        assert len(lines('tags.jsonl')) == 5
    assert len(list(Path('pictures').iterdir())) == 5
    for words in (
        ['tag', 'pictures', *TAG, '--vis', '.'],
        ['tag', '*.jpg', *TAG, '--sheets', '.'],
        ['segment', '.', *SEGMENT, '--out', '../photos'],
    ):
        assert mmtagclip(*words) == 2
        assert 'would write among the images of' in capsys.readouterr().err


def test_own_masks_are_no_photographs(photos, monkeypatch):
    monkeypatch.chdir(photos)
    for name in ('000008', '000011', '000027', '000070'):
        Path(f'{name}.jpg').unlink(missing_ok=True)
    count = len(list(photos.iterdir()))
    for out, results in (('masks', 'masks/labels.jsonl'), ('lines.jsonl', 'lines.jsonl')):
        for _ in range(2):
            assert mmtagclip('segment', '.', *SEGMENT, '--out', out, '--overwrite') == 0
            assert len(lines(results)) == count
        shutil.rmtree('masks', ignore_errors=True)


def test_nothing_is_downloaded_unasked(capsys, monkeypatch):
    monkeypatch.setattr('mmtagclip.clip.downloads.cached', lambda *of: None)
    assert mmtagclip('tag', SCENES) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'the weights of ViT-B-16-quickgelu (openai) are not on this machine' in line
    assert 'allow it with --download' in line


def test_options_reach_the_config(monkeypatch):
    args = cli.make_parser().parse_args(
        [
            'segment',
            'a.jpg',
            '--checkpoint',
            'w.pt',
            '--cfg-options',
            'model.tagger.head.threshold=0.3',
        ]
    )
    config = cli.common.config_of(args)
    assert config.model.tagger.encoder.pretrained is None
    assert config.model.tagger.encoder.checkpoint == 'w.pt'
    assert config.model.tagger.head.threshold == 0.3


def test_models(capsys):
    assert mmtagclip('models', 'demo') == 0
    out = capsys.readouterr().out
    assert 'tagclip_demo ' in out
    assert 'bundled' in out
    assert 'voc07' not in out
    assert mmtagclip('models', '--json') == 0
    report = json.loads(capsys.readouterr().out)
    (one,) = (model for model in report['models'] if model['name'] == 'tagclip_demo')
    assert one['task'] == 'tag'
    assert one['results'] == ['Demo, 120 scenes: mAP 97.8']
    assert Path(one['config']).is_file()


def test_demo(tmp_path, capsys):
    """It shows scenes that come out right, and says that they were chosen."""
    assert mmtagclip('demo', '--out', tmp_path) == 0
    out = capsys.readouterr().out
    figures = json.loads((ROOT / 'tools/dev/demo_scenes.json').read_text())
    assert f'{len(figures["right"])} of {len(figures["scenes"])} that come out right' in out
    drawings = {path.stem for path in tmp_path.glob('*.png')}
    assert drawings == {*cli.demo.SCENES, 'overview'}
    for name in cli.demo.SCENES:
        assert name in figures['right']
        (line,) = (one for one in out.splitlines() if f'{name}.jpg' in one)
        found = {part.rsplit(' ', 1)[0] for part in line.split(': ')[1].split(', ')}
        for overlaps in figures['scenes'][name]['iou'].values():
            assert found == set(overlaps)


def test_as_a_process(photos):
    """JSON lines and nothing else on the output; no progress bar where there is no terminal."""
    process = run(
        sys.executable, '-m', 'mmtagclip', 'tag', photos, '--model', 'tagclip_demo', '--out', '-'
    )
    assert process.returncode == 0, process.stderr
    assert len([json.loads(line) for line in process.stdout.splitlines()]) == 5
    assert 'image/s' not in process.stderr


def test_a_reader_that_stops_is_no_error():
    process = subprocess.Popen(
        [sys.executable, '-m', 'mmtagclip', 'models'],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    error = process.stderr.read()
    assert b'Traceback' not in error
    assert b'BrokenPipe' not in error
    assert process.wait() == 0


def test_a_reader_that_stops_while_images_are_tagged(monkeypatch, capsys):
    read, write = os.pipe()
    os.close(read)
    with open(write, 'w', buffering=1) as stream:
        monkeypatch.setattr(sys, 'stdout', stream)
        assert mmtagclip('tag', SCENES / '000040.jpg', *TAG) == 0
        assert os.fstat(write).st_rdev == os.stat(os.devnull).st_rdev  # it had stopped
    assert capsys.readouterr().err == ''


def test_checking_a_folder(photos, tmp_path, capsys):
    out = tmp_path / 'masks'
    words = ['segment', photos / '000040.jpg', *SEGMENT, '--out', out]
    assert mmtagclip(*words) == 0
    assert mmtagclip('check', out) == 0
    assert '1 images, all as written' in capsys.readouterr().out
    mask = out / 'masks/000040.png'
    mask.write_bytes(b'other')
    assert mmtagclip('check', out) == 2
    assert '000040.jpg, is damaged' in capsys.readouterr().err
    more = ['segment', photos / '000040.jpg', photos / '000045.jpg', *words[2:]]
    assert mmtagclip(*more) == 0  # repaired, and extended
    assert mmtagclip('check', out) == 0
    assert '2 images, all as written' in capsys.readouterr().out
    assert mmtagclip(*(word for word in more if word != '--quiet')) == 0
    assert '2 of 2 images are done already' in capsys.readouterr().err
    assert mmtagclip('check', photos) == 2
    assert 'holds no results' in capsys.readouterr().err


@pytest.mark.parametrize('encoding', ['ascii', 'cp1252', 'utf-8'])
@pytest.mark.parametrize('odd', ['\u72ac\u00e9', '\U0001f600', '\udcff'])
def test_an_output_of_another_code_page_ends_no_run(tmp_path, monkeypatch, encoding, odd):
    name = f'{odd}.jpg'
    try:
        shutil.copy(SCENES / '000040.jpg', tmp_path / name)
    except OSError:
        pytest.skip('no such name on this file system')
    (tmp_path / f'{odd}-broken.jpg').write_bytes(b'')
    monkeypatch.chdir(tmp_path)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, 'stdout', streams[0])
    monkeypatch.setattr(sys, 'stderr', streams[1])
    assert mmtagclip('tag', name, f'{odd}-broken.jpg', *TAG, '--out', '-') == 1
    assert mmtagclip('tag', name, *TAG, '--classes', f'bell,{odd[0]}') == 0 or odd == '\udcff'
    written = [stream.buffer.getvalue().decode(encoding) for stream in streams]
    records = [json.loads(line) for line in written[0].splitlines()[:2]]
    assert [one['image'] for one in records] == [name, f'{odd}-broken.jpg']
    assert 'broken.jpg is an empty file' in written[1]


@pytest.mark.parametrize(
    'error, code, message',
    [
        (KeyError('nothing'), 3, "KeyError: 'nothing'\nmmtagclip: this is a bug of mmtagclip"),
        (RuntimeError('shape'), 3, 'RuntimeError: shape\nmmtagclip: this is a bug of mmtagclip'),
        (MemoryError(), 2, 'mmtagclip: error: out of memory: try a smaller --batch-size'),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, 'error: out of memory'),
        (ValueError('wrong'), 2, 'mmtagclip: error: wrong\n'),
        (PermissionError(13, 'no', 'a.txt'), 2, 'mmtagclip: error: a.txt: no\n'),
        (OSError('Failed to download a.'), 2, 'mmtagclip: error: Failed to download a.\n'),
        (KeyboardInterrupt(), 130, 'mmtagclip: interrupted\n'),
    ],
)
def test_exit_codes(monkeypatch, capsys, error, code, message):
    def fail(args):
        raise error

    monkeypatch.setattr(cli.check, 'run', fail)
    assert mmtagclip('check', 'folder') == code
    written = capsys.readouterr().err
    assert message in written
    assert ('Traceback' in written) == (code == 3)


def test_exit_codes_are_documented():
    codes = {cli.OK, cli.SOME_UNREADABLE, cli.WRONG, cli.CRASHED, cli.INTERRUPTED}
    epilog = cli.make_parser().epilog
    page = (ROOT / 'docs/using.md').read_text()
    for text, pattern in ((epilog, r'\b(\d+) \w'), (page, r'\b(\d+): \w')):
        listed = text.lower()[text.lower().index('exit codes') :].split('\n## ')[0]
        assert {int(number) for number in re.findall(pattern, listed)} == codes


@pytest.mark.parametrize(
    ('port', 'is_one'), [(-1, False), (65536, False), (0, True), (65535, True)]
)
def test_ports_of_the_page(port, is_one, monkeypatch, capsys):
    served = []
    monkeypatch.setattr('mmtagclip.web.server.serve', lambda *_, **options: served.append(options))
    code = mmtagclip('web', '--port', str(port), '--host', '0.0.0.0')
    assert (code == 2) != is_one
    said = f'--port must be in 0 to 65535, not {port}'
    assert (said in capsys.readouterr().err) != is_one


def test_names_that_begin_with_a_tilde(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / '~x').mkdir()
    for name in ('~a.jpg', '~x/~b.jpg'):
        shutil.copy(SCENES / '000040.jpg', name)
    assert mmtagclip('tag', '~a.jpg', '~x', '~x/*.jpg', *TAG) == 0
    words = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in words] == ['~a.jpg', '~x/~b.jpg', '~x/~b.jpg']
    assert mmtagclip('tag', '~x', *TAG, '--vis', '~x') == 2
    assert '--vis would write among the images of ~x' in capsys.readouterr().err
    for option in ('--checkpoint', '--weights', '--classes'):
        assert mmtagclip('tag', '~x', *TAG, option, '~gone/a.pt') == 2
        assert '~gone/a.pt' in capsys.readouterr().err
    assert mmtagclip('tag', '~x', '--model', '~gone') == 2
    assert "'~gone' is neither a config file nor" in capsys.readouterr().err


# Prints the help of each command, then whether that needed torch.
HELP = """
import sys
from mmtagclip import cli

for command in ([], *([word] for word in sys.argv[1:])):
    try:
        cli.main([*command, '--help'])
    except SystemExit as end:
        assert end.code == 0
assert 'torch' not in sys.modules
"""


def test_help_says_the_defaults_that_hold():
    (subparsers,) = (a for a in cli.make_parser()._actions if isinstance(a.choices, dict))
    said = {
        (command, action.option_strings[-1]): (text[1], action.default)
        for command, parser in subparsers.choices.items()
        for action in parser._actions
        if action.default not in (None, False, argparse.SUPPRESS)
        and (text := re.search(r'default: ([^,;)\s]+)', action.help or ''))
    }
    assert len(said) >= 15
    for place, (text, default) in said.items():
        assert type(default)(text) == default, place


def test_help_is_quick_and_has_examples():
    (subparsers,) = (a for a in cli.make_parser()._actions if isinstance(a.choices, dict))
    commands = list(subparsers.choices)
    assert {'tag', 'segment', 'config'} <= set(commands)
    process = run(sys.executable, '-c', HELP, *commands)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count('examples:') == 1 + len(commands)


@pytest.mark.parametrize('model', ['direct_demo', 'tag-guided_demo'])
def test_other_segmentors_write_folders_too(photos, tmp_path, model):
    words = ['segment', photos, '--model', model, '--quiet', '--out', tmp_path / 'masks']
    assert mmtagclip(*words) == 0
    expected = SegInferencer(model, show_progress=False)(photos)
    manifest, records = read_pseudo_labels(tmp_path / 'masks', expected[0].classes)
    assert manifest.kind == 'masks'
    for record, result in zip(records, expected, strict=True):
        with Image.open(tmp_path / 'masks' / record.more['masks']) as mask:
            assert np.array_equal(np.array(mask), result.mask)


@pytest.mark.parametrize('model', ['direct_demo', 'tag-guided_demo'])
def test_other_segmentors_take_other_names(photos, tmp_path, capsys, model):
    words = ['segment', photos, '--model', model, '--quiet', '--classes', 'bell, zebra']
    options = {'classes': ['bell', 'zebra'], 'background': ['wall', 'sky']}
    words += ['--background', 'wall, sky']
    if model == 'direct_demo':
        assert mmtagclip(*words, '--threshold', 0.9) == 2
        assert 'has no tagger, so it takes no threshold' in capsys.readouterr().err
    else:
        words += ['--threshold', 0.9]
        options['threshold'] = 0.9
    assert mmtagclip(*words, '--out', tmp_path / 'masks') == 0
    expected = SegInferencer(model, show_progress=False)(photos, **options)
    assert Manifest.load(tmp_path / 'masks').classes == ('background', 'bell', 'zebra')
    records = lines(tmp_path / 'masks/labels.jsonl')
    for record, result in zip(records, expected, strict=True):
        assert record['tags'] == list(result.tags)
        with Image.open(tmp_path / 'masks' / record['masks']) as mask:
            assert np.array_equal(np.array(mask), result.mask)
    assert any('bell' in result.shares for result in expected)


def test_other_segmentors_are_exported(tmp_path, capsys):
    pytest.importorskip('onnx')
    words = ['export', tmp_path / 'encoder.onnx', '--model', 'direct_demo']
    assert mmtagclip(*words) == 2
    assert 'direct_demo uses no attention maps: name the --layers' in capsys.readouterr().err
    assert mmtagclip(*words, '--layers', 1, 2) == 0
    assert (tmp_path / 'encoder.onnx').is_file()


@pytest.mark.parametrize('model', ['direct_demo', 'tag-guided_demo'])
def test_views_descriptions_and_closing(photos, tmp_path, model):
    """ITACLIP's parts, with another encoder; other descriptions are another run."""
    for name in ('000001', '000003', '000045'):
        (photos / f'{name}.jpg').unlink()
    words, names = tmp_path / 'descriptions.txt', ROOT / 'demo/data/classes.txt'
    texts = [f'It is called {line}.' for line in names.read_text().splitlines()]
    words.write_text('\n'.join(texts))
    options = {
        'model.views.type': 'mmtagclip.ImageViews',
        'model.label_processor.type': 'mmtagclip.LabelClosing',
        'model.logit_processor.type': 'mmtagclip.PAMR',
        'model.head.descriptions': str(words),
    }
    command = [
        'segment',
        photos,
        '--model',
        model,
        '--quiet',
        '--out',
        tmp_path / 'masks',
        '--cfg-options',
        *(f'{key}={value}' for key, value in options.items()),
    ]
    assert mmtagclip(*command) == 0
    expected = SegInferencer(load_config(model, options), show_progress=False)(photos)
    plain = SegInferencer(model, show_progress=False)(photos)
    for record, result in zip(lines(tmp_path / 'masks/labels.jsonl'), expected, strict=True):
        with Image.open(tmp_path / 'masks' / record['masks']) as mask:
            assert np.array_equal(np.array(mask), result.mask)
    assert any(
        not np.array_equal(one.mask, other.mask) for one, other in zip(expected, plain, strict=True)
    )

    (tmp_path / 'masks/labels.jsonl').unlink()
    words.write_text('\n'.join(['It is a bell.', *texts[1:]]))
    assert mmtagclip(*command) == 2


def test_other_prompts_of_cls_seg_are_another_run(photos, tmp_path, capsys):
    words, names = tmp_path / 'prompts.txt', (ROOT / 'demo/data/classes.txt').read_text()
    words.write_text(names)
    command = [
        'segment',
        photos / '000040.jpg',
        *SEGMENT,
        '--out',
        tmp_path / 'masks',
        '--cfg-options',
        f'model.prompts={words}',
    ]
    assert mmtagclip(*command) == 0
    (tmp_path / 'masks/labels.jsonl').unlink()
    words.write_text(names.replace('bell', 'ringing bell'))
    assert mmtagclip(*command) == 2
    error = capsys.readouterr().err
    assert 'was begun by another job: model.prompts.' in error
    assert 'model.prompts.phrases was' in error


def test_a_checkpoint_is_that_of_every_encoder():
    args = cli.make_parser().parse_args(
        [
            'segment',
            'photos',
            '--checkpoint',
            'ViT-B-16.pt',
            '--model',
            'tag-guided-sclip_vit-base-p16_openai_voc21',
        ]
    )
    config = cli.common.config_of(args)
    for encoder in (config.model.encoder, config.model.tagger.encoder):
        assert encoder.pretrained is None
        assert encoder.checkpoint == 'ViT-B-16.pt'


@pytest.mark.parametrize(
    'classes, captions, names, expected',
    [
        (None, None, None, None),
        ('dog,cat', None, None, None),
        ('auto', None, None, ('imagenet12k', None, 100)),
        ('auto:coco', 'captions.jsonl', 7, ('coco', 'captions.jsonl', 7)),
        ('dog', 'captions.jsonl', None, '--captions needs --classes auto'),
        (None, None, 7, '--names needs --classes auto'),
    ],
)
def test_names_that_are_chosen_for_each_image(monkeypatch, classes, captions, names, expected):
    from mmtagclip import models
    from mmtagclip.cli.images import auto_names

    def made(words, captions=None, count=100):
        return words, captions, count

    monkeypatch.setattr(models, 'AutoNames', made)
    monkeypatch.setattr('mmtagclip.clip.parse_names', lambda text: text)
    args = argparse.Namespace(classes=classes, captions=captions, names=names)
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            auto_names(args)
    else:
        assert auto_names(args) == expected
