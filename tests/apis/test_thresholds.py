"""Thresholds from labelled images, and the command that chooses them."""

import json

import numpy as np
import pytest
from PIL import Image

from mmtagclip.apis.thresholds import (
    ScoreTable,
    binomial_interval,
    choose_thresholds,
    read_labels,
    read_scores,
)
from mmtagclip.cli import main
from mmtagclip.models.taggers.thresholds import class_thresholds


def choose(scores, labels, precision=None):
    table = ScoreTable(('dog',), list('abcdefgh')[: len(scores)], np.float32(scores)[:, None])
    labels = np.array(labels, bool)[:, None]
    (found,) = choose_thresholds(table, range(len(scores)), labels, [True], precision)
    return found


@pytest.mark.parametrize(
    ('hits', 'count', 'interval'),
    [
        (0, 10, (0, 0.30850)),
        (10, 10, (0.69150, 1)),
        (8, 10, (0.44390, 0.97479)),
        (450, 500, (0.87029, 0.92486)),
        (0, 0, (0, 1)),
    ],
)
def test_exact_binomial_intervals(hits, count, interval):
    assert binomial_interval(hits, count) == pytest.approx(interval, abs=2e-5)


def test_the_best_f1():
    found = choose([0.9, 0.8, 0.6, 0.4, 0.2], [1, 0, 1, 0, 0])
    assert found.threshold == pytest.approx(0.5)
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 1, 0.8))
    assert found.recall_interval == binomial_interval(2, 2)
    assert found.note == 'only 2 labelled images show it'
    # Every image shows it: half of the lowest score.
    assert choose([0.9, 0.4], [1, 1]).threshold == pytest.approx(0.2)
    # Equal scores are not told apart.
    assert choose([0.5, 0.5, 0.1], [1, 0, 0]).precision == 0.5


def test_a_wanted_precision():
    scores, labels = [0.9, 0.8, 0.7, 0.6, 0.5], [1, 1, 0, 1, 0]
    assert choose(scores, labels, 0.75).threshold == pytest.approx(0.55)
    assert choose(scores, labels, 0.76).threshold == pytest.approx(0.75)
    never = choose([0.9, 0.8], [0, 1], 0.9)
    assert (never.threshold, never.recall) == (1, 0)
    assert 'no threshold has the precision' in never.note
    assert choose(scores, [0] * 5, 0.9).threshold is None
    with pytest.raises(ValueError, match=r'precision must be in \(0, 1\], not 1\.5'):
        choose(scores, labels, 1.5)


def test_neighbours_in_float32_are_told_apart():
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    found = choose([high, low], [1, 0])
    assert low <= np.float32(found.threshold) < high


@pytest.fixture
def scores(tmp_path):
    """Results of six images and three classes, of which the labels know two."""
    path = tmp_path / 'tags.jsonl'
    (tmp_path / 'photos').mkdir()
    lines = []
    for index in range(6):
        image = tmp_path / 'photos' / f'{index}.png'
        Image.new('RGB', (8, 8)).save(image)
        values = {'dog': 0.1 + index / 10, 'cat': 0.6 - index / 10, 'car': 0.3}
        record = {'image': str(image), 'tags': ['dog'], 'scores': [values['dog']]}
        lines.append(json.dumps({**record, 'size': [8, 8], 'class_scores': values}))
    lines.append(json.dumps({'image': 'x.png', 'error': 'damaged'}))
    path.write_text('\n'.join(lines) + '\n')
    return path


def test_a_corrected_tag_file(scores, tmp_path, capsys):
    records = [json.loads(line) for line in scores.read_text().splitlines()][:5]
    for index, record in enumerate(records):
        record['tags'] = ['dog'] if index > 2 else ['cat']
    records[4].update(tags=['dog'], scores=[0.5, 0.4])  # scores are not looked at
    corrected = tmp_path / 'corrected.jsonl'
    corrected.write_text('\n'.join(map(json.dumps, records)))
    out, plot = tmp_path / 'thresholds.csv', tmp_path / 'scores.png'
    command = ['thresholds', str(scores), '--labels', str(corrected)]
    assert main([*command, '--out', str(out), '--plot', str(plot)]) == 0
    said = capsys.readouterr()
    assert 'dog: 0.350  precision 1.00 [0.16, 1.00]  recall 1.00 [0.16, 1.00]' in said.out
    assert '1 classes are in no labelled image and get no threshold: car' in said.err
    found = class_thresholds(out, ('dog', 'cat', 'car'))
    assert found.absolute == (pytest.approx(0.35), pytest.approx(0.35), None)
    with Image.open(plot) as image:
        assert image.format == 'PNG'
    assert main([*command, '--out', str(out)]) == 2
    assert 'exists already; add --overwrite' in capsys.readouterr().err
    assert main([*command, '--relative', '--out', str(out), '--overwrite']) == 0
    found = class_thresholds(out, ('dog', 'cat', 'car'))
    assert found.absolute == (None, None, None)
    # The dog's shares are 0, 0, 0.5 (of 0.3, 0.4, 0.3) and then 1.
    assert found.relative[0] == pytest.approx(0.5)


def test_coco_labels_know_their_classes_only(scores, tmp_path):
    coco = {
        'images': [
            {'id': index, 'file_name': f'{index}.png', 'width': 8, 'height': 8}
            for index in range(6)
        ],
        'categories': [{'id': 1, 'name': 'dog'}],
        'annotations': [
            {'id': index, 'image_id': index, 'category_id': 1, 'bbox': [0, 0, 8, 8], 'area': 64}
            | {'iscrowd': 0}
            for index in (1, 4, 5)
        ],
    }
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(coco))
    table = read_scores(scores)
    places, labels, known = read_labels(table, path, tmp_path / 'photos')
    assert known == [True, False, False]
    assert labels.sum(axis=0).tolist() == [3, 0, 0]
    dog, cat, _ = choose_thresholds(table, places, labels, known)
    assert dog.threshold == pytest.approx(0.45)
    assert cat.note == 'not among the classes of the labels'
    coco['categories'][0]['name'] = 'zebra'
    path.write_text(json.dumps(coco))
    with pytest.raises(ValueError, match="has the class 'zebra', which has no scores"):
        read_labels(table, path, tmp_path / 'photos')
    with pytest.raises(ValueError, match=r'is no tag file .*: name the folder of its images'):
        read_labels(table, path)


def test_a_plot_needs_no_labels(scores, tmp_path, capsys):
    plot = tmp_path / 'scores.png'
    assert main(['thresholds', str(scores), '--plot', str(plot)]) == 0
    with Image.open(plot) as image:
        drawn = np.asarray(image.convert('L'))
    assert (drawn < 200).sum() > 500
    for more, message in [
        (['--out', str(tmp_path / 'a.csv')], 'give --labels FILE'),
        ([], 'give --labels FILE'),
        (['--plot', 'a.jpg'], '--plot must end in .png'),
        (['--plot', str(plot)], 'exists already'),
        (['--labels', 'x', '--precision', '2'], '--precision must be in (0, 1]'),
    ]:
        assert main(['thresholds', str(scores), *more]) == 2
        assert message in capsys.readouterr().err


def test_results_without_all_scores(tmp_path):
    path = tmp_path / 'tags.jsonl'
    line = {'image': 'a.png', 'tags': ['dog'], 'scores': [0.5], 'size': [8, 8]}
    path.write_text(json.dumps(line))
    with pytest.raises(ValueError, match='make it with mmtagclip tag --all-scores'):
        read_scores(path)
    lines = [line | {'image': name, 'class_scores': {name: 0.5}} for name in ('a', 'b')]
    lines = [one | {'tags': [], 'scores': []} for one in lines]
    path.write_text('\n'.join(map(json.dumps, lines)))
    with pytest.raises(ValueError, match='scores of other classes in b than in the image before'):
        read_scores(path)
