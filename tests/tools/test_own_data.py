"""docs/own_data.md, as its reader follows it: own images and labels to metrics."""

import json
import re
import shlex
import shutil

import pytest

from mmtagclip import cli
from tests.processes import ROOT, run_script

DEMO = ROOT / 'demo' / 'data'
PAGE = (ROOT / 'docs' / 'own_data.md').read_text()
TABLES = re.findall(r'^```text\n(.*?)^```', PAGE, re.S | re.M)
COMMANDS = [
    shlex.split(line.partition(' > ')[0])[1:]
    for line in re.findall(r'^mmtagclip config .*', PAGE, re.M)
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder that the page speaks of, with scenes as photographs."""
    monkeypatch.chdir(tmp_path)
    for name in ('000001', '000003', '000040'):
        for folder, source, ending in (
            ('photos', 'JPEGImages', 'jpg'),
            ('photos/images', 'JPEGImages', 'jpg'),
            ('masks', 'SegmentationClass', 'png'),
        ):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            shutil.copy(DEMO / source / f'{name}.{ending}', tmp_path / folder)
    (tmp_path / 'photos/labels').mkdir()
    (tmp_path / 'photos/labels/000040.txt').write_text('49 .5 .5 .2 .2\n')
    (tmp_path / 'labels.csv').write_text(TABLES[0])
    shutil.copy(DEMO / 'classes.txt', tmp_path / 'names.txt')
    return tmp_path


def write_config(words, place, capsys, name='my_config.py'):
    """Run a command of the page, with the demo's model in the place of OpenAI's."""
    words = ['vit-demo' if word == 'vit-base-p16_openai' else word for word in words]
    assert cli.main(words) == 0
    path = place / name
    path.write_text(capsys.readouterr().out)
    return path


def measure(config):
    out = config.with_suffix('.json')
    workers = ['--cfg-options', 'test_dataloader.num_workers=0']
    process = run_script(ROOT / 'tools/test.py', config, '--out', out, *workers, cwd=config.parent)
    assert process.returncode == 0, process.stderr
    return json.loads(out.read_text())


def test_tags_of_both_tables(place, capsys):
    metrics = []
    for name, table in zip(('long', 'wide'), TABLES, strict=True):
        (place / 'labels.csv').write_text(table)
        config = write_config(COMMANDS[0], place, capsys, f'{name}.py')
        assert "classes = ['bell', 'train']\n" in config.read_text()
        metrics.append(measure(config))
        tags = place / 'work_dirs' / name / 'tags.jsonl'
        images = [json.loads(line)['image'] for line in tags.read_text().splitlines()]
        assert images == [
            str(place / 'photos' / f'{n}.jpg') for n in ('000040', '000001', '000003')
        ]
    assert metrics[0] == metrics[1]
    assert metrics[0]['multi-label/mAP'] > 50


def test_masks(place, capsys):
    (words,) = [words for words in COMMANDS if 'sclip' in words]
    metrics = measure(write_config(words, place, capsys))
    assert 0 < metrics['mIoU'] < 100


def test_the_other_commands_make_configs(place, capsys):
    yolo, folders = COMMANDS[1:3]
    text = write_config(yolo, place, capsys).read_text()
    assert f"classes = '{place}/names.txt'\n" in text
    assert f"labels='{place}/photos/labels'" in text
    for path in (place / 'photos').glob('*.jpg'):
        path.unlink()
    shutil.rmtree(place / 'photos/labels')
    assert "classes = ['images']\n" in write_config(folders, place, capsys).read_text()


@pytest.mark.parametrize(
    'words, message',
    [
        ('sclip vit-demo photos', 'photos is a folder: name its labels with --labels'),
        ('sclip vit-demo voc21 --classes a', '--classes goes with --labels'),
        ('sclip vit-demo photos --labels labels.csv', 'holds no masks, which this method'),
        ('piaa-sclip vit-demo photos --labels labels.csv', 'a method that is fitted needs'),
        ('slip vit-demo photos --labels labels.csv', "there is no method 'slip'"),
        ('sclip vit-dem photos --labels labels.csv', "there is no backbone of sclip 'vit-dem'"),
        ('tagclip vit-demo gone --labels labels.csv', 'there is no folder'),
        ('tagclip vit-demo photos --labels gone.csv', 'there are no labels at'),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(words, message, place, capsys):
    assert cli.main(['config', *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1
