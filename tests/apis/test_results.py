"""Results and what they convert to."""

import io
import json
import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from mmtagclip.apis import ImageInput, SegResult, TagResult
from mmtagclip.apis import result as result_module
from mmtagclip.apis.result import KeptImage
from mmtagclip.models import TagRule, relative_threshold
from mmtagclip.visualization import draw_result
from tests.conftest import picture

CLASSES = ('dog', 'traffic light', 'Äpfel')
SCORES = np.array([0.2, 0.9, 0.6], np.float32)
MASK = np.array([[0, 0, 2, 2, 2], [1, 0, 2, 2, 255]], np.uint8)


def tags(**changes):
    return TagResult(
        **{
            'image': 'a.jpg',
            'size': (4, 5),
            'classes': CLASSES,
            'scores': SCORES,
            'labels': np.array([1, 2]),
            **changes,
        }
    )


def masks(**changes):
    return SegResult(
        **{
            'image': 'a.jpg',
            'size': (2, 5),
            'classes': ('background', 'dog', 'cat'),
            'palette': ((0, 0, 0), (255, 0, 0), (0, 255, 0)),
            'mask': MASK,
            'tags': {'cat': 0.9, 'dog': None},
            'background': 0,
            **changes,
        }
    )


def test_tags_come_from_the_highest_to_the_lowest():
    assert list(tags().tags) == ['traffic light', 'Äpfel']
    assert tags().to_dict() == {
        'image': 'a.jpg',
        'tags': ['traffic light', 'Äpfel'],
        'scores': pytest.approx([0.9, 0.6]),
        'size': [4, 5],
    }
    assert 'Äpfel' in tags().to_json()
    assert json.loads(tags().to_json()) == tags().to_dict()
    assert tags().rows() == [
        {'image': 'a.jpg', 'tag': 'traffic light', 'score': pytest.approx(0.9)},
        {'image': 'a.jpg', 'tag': 'Äpfel', 'score': pytest.approx(0.6)},
    ]


def test_all_scores():
    result = tags(all_scores=True)
    scores = {'dog': 0.2, 'traffic light': 0.9, 'Äpfel': 0.6}
    assert result.record.class_scores == result.to_dict()['class_scores'] == pytest.approx(scores)
    assert list(result.to_dict()['class_scores']) == list(CLASSES)
    assert [(row['class'], row['is_tag']) for row in result.rows()] == [
        ('dog', False),
        ('traffic light', True),
        ('Äpfel', True),
    ]
    assert [row['score'] for row in result.rows()] == pytest.approx([0.2, 0.9, 0.6])
    bad = tags(labels=np.zeros(0, np.int64), all_scores=True, error='gone')
    assert bad.to_dict() == {'image': 'a.jpg', 'error': 'gone'}
    assert bad.rows() == []
    assert masks(class_scores={'dog': 0.5, 'cat': 0.9}).to_dict()['class_scores'] == {
        'dog': 0.5,
        'cat': 0.9,
    }


def test_another_rule_keeps_what_is_not_given():
    none = tags().with_rule(min_score=0.95)
    assert none.tags == {}
    assert none.record.tags == ()
    assert none.with_threshold(0.1).tags == {}
    assert list(tags().with_rule(min_score=0.5, top=1).tags) == ['traffic light']
    assert list(tags().with_rule(threshold=0.0, top=5).tags) == ['traffic light', 'Äpfel']


@pytest.mark.parametrize('k', [0.0, 0.1, 0.5, 0.9, 1.0])
def test_another_threshold_is_that_of_the_head(k):
    expected = relative_threshold(torch.from_numpy(SCORES), k).nonzero().flatten()
    assert tags().with_threshold(k).labels.tolist() == expected.tolist()


def test_an_image_that_could_not_be_read():
    bad = tags(labels=np.zeros(0, np.int64), scores=np.zeros(3, np.float32), error='gone')
    assert bad.to_dict() == {'image': 'a.jpg', 'error': 'gone'}
    assert bad.with_threshold(0.0).tags == {}
    assert bad.rows() == []
    assert bad.to_datasample().load_error == 'gone'
    bad = masks(mask=np.zeros((0, 0), np.uint8), size=(0, 0), tags={}, error='gone')
    assert bad.to_dict() == {'image': 'a.jpg', 'error': 'gone'}
    assert bad.shares == {}


def test_data_samples_hold_the_same():
    sample = tags(score_maps=np.ones((3, 2, 2), np.float32)).to_datasample()
    assert sample.tags == ['traffic light', 'Äpfel']
    assert torch.equal(sample.pred_score, torch.from_numpy(SCORES))
    assert sample.score_maps.shape == (3, 2, 2)
    sample = masks().to_datasample()
    assert np.array_equal(sample.pred_sem_seg.data[0].numpy(), MASK)


def test_masks_convert_to_run_lengths_and_rows():
    result = masks()
    assert result.labels == [0, 1, 2]
    assert result.shares == pytest.approx({'cat': 0.5, 'background': 0.3, 'dog': 0.1})
    record = json.loads(result.to_json())
    assert [one['tag'] for one in record['masks']] == ['cat', 'dog']
    for one in record['masks']:
        assert np.array_equal(coco_mask.decode(one['segmentation']), result.binary_mask(one['tag']))
    assert record['masks'][0]['box'] == [2, 0, 3, 2]
    assert [row['tag'] for row in result.rows()] == ['cat', 'background', 'dog']
    with pytest.raises(KeyError, match='bird'):
        result.binary_mask('bird')


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'scores': np.zeros(2, np.float32)}, r'scores must be \(3,\)'),
        ({'labels': np.array([3])}, 'indices of 3 classes'),
        ({'score_maps': np.zeros((2, 4, 4), np.float32)}, r'score_maps must be \(3, h, w\)'),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tags(**changes)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'size': (5, 2)}, r'mask must be \(5, 2\)'),
        ({'palette': ()}, '3 classes, but 0 colours'),
        ({'mask': MASK + 1}, 'label 3, but there are 3'),
    ],
)
def test_masks_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        masks(**changes)


def test_thresholds_outside_the_range_are_refused():
    with pytest.raises(ValueError, match='threshold must be in'):
        tags().with_threshold(1.5)


CHANGES = {
    tags: [
        {'image': 'b.jpg'},
        {'size': (5, 4)},
        {'classes': ('dog', 'traffic light', 'cat')},
        {'scores': SCORES * 0.9},
        {'scores': SCORES.astype(np.float64)},
        {'labels': np.array([1])},
        {'score_maps': np.zeros((3, 2, 2), np.float32)},
        {'rule': TagRule(top=2)},
    ],
    masks: [
        {'image': 'b.jpg'},
        {'palette': ((0, 0, 0), (255, 0, 0), (0, 255, 1))},
        {'mask': np.where(MASK == 1, 0, MASK)},
        {'tags': {'cat': 0.8, 'dog': None}},
        {'background': None},
    ],
}


@pytest.mark.parametrize('make', [tags, masks])
def test_results_compare_and_hash(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    for changes in CHANGES[make]:
        assert make(**changes) != make(), changes
        assert make() != make(**changes), changes
    assert len({make(), make(), make(image='b.jpg')}) == 2
    assert make() != 'a.jpg'
    assert tags() != masks()
    maps = {'score_maps': np.ones((3, 2, 2), np.float32)}
    assert tags(**maps) == tags(**maps)


def test_results_print_in_one_line():
    assert repr(tags()) == "TagResult('a.jpg', 5x4, traffic light 0.90, Äpfel 0.60)"
    assert repr(tags(labels=np.zeros(0, np.int64))) == "TagResult('a.jpg', 5x4, nothing found)"
    assert repr(masks()) == "SegResult('a.jpg', 5x2, cat 50.0%, background 30.0%, dog 10.0%)"
    names = tuple('abcdefgh')
    many = tags(classes=names, scores=np.linspace(1, 0.3, 8, dtype=np.float32), labels=np.arange(8))
    assert repr(many).endswith('a 1.00, b 0.90, c 0.80, d 0.70, e 0.60, 3 more)')
    bad = tags(labels=np.zeros(0, np.int64), size=(0, 0), error='a.jpg is an\nempty file')
    assert repr(bad) == "TagResult('a.jpg', error: a.jpg is an empty file)"


@pytest.mark.parametrize('make', [tags, masks])
def test_a_result_of_a_file_reads_it_again_to_draw_itself(make, tmp_path):
    height, width = make().size
    path, pixels = tmp_path / 'a.png', picture(height, width, 1)
    Image.fromarray(pixels).save(path)
    result = make(source=KeptImage(ImageInput(str(path), path)))
    assert result == make()
    drawn = result.draw()
    assert np.array_equal(drawn, draw_result(pixels, result))
    assert np.array_equal(drawn, make().draw(pixels))
    result.save(tmp_path / 'new' / 'drawn.png')
    assert np.array_equal(np.asarray(Image.open(tmp_path / 'new' / 'drawn.png')), drawn)
    png = Image.open(io.BytesIO(result._repr_png_()))
    assert png.format == 'PNG'
    assert max(png.size) <= 1200
    with pytest.raises(ValueError, match='the ending names no format'):
        result.save(tmp_path / 'drawn.xyz')
    Image.fromarray(picture(9, 7, 1)).save(path)
    with pytest.raises(ValueError, match=r'a\.png is 7x9 pixels, but the result is of an'):
        result.draw()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r'a\.png'):
        result.draw()
    assert result._repr_png_() is None


def test_a_result_without_its_image_says_so():
    with pytest.raises(ValueError, match=r'a\.jpg is not in memory: pass the image, as in draw\('):
        tags().draw()
    assert tags()._repr_png_() is None
    bad = tags(labels=np.zeros(0, np.int64), size=(0, 0), error='a.jpg is an empty file')
    with pytest.raises(ValueError, match=r'there is nothing to draw: a\.jpg is an empty file'):
        bad.draw()


def test_images_in_memory_are_kept_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(result_module, 'KEPT_BYTES', 3 * 60)
    # What other tests left is older, so it goes first.
    results = [
        tags(image=f'image-{n}', source=KeptImage(ImageInput(f'image-{n}', picture(4, 5, n))))
        for n in range(4)
    ]
    assert [result._repr_png_() is not None for result in results] == [False, True, True, True]
    assert len(KeptImage._all) == 3
    del results[2]
    assert len(KeptImage._all) == 2
    assert KeptImage._total == 2 * 60
    large = Image.new('RGB', (100, 100))
    alone = KeptImage(ImageInput('image-9', large))  # more than the limit: kept alone
    assert alone.image is not None
    assert [result.source.image is None for result in results] == [True] * 3
    again = pickle.loads(pickle.dumps(results[0]))
    assert again == results[0]
    assert again.source is None


@pytest.mark.parametrize('shown', [True, False])
def test_results_show_themselves(monkeypatch, shown):
    seen = []
    monkeypatch.setattr(
        'PIL.ImageShow.show', lambda image, title: seen.append((title, image.size)) or shown
    )
    pixels = picture(4, 5, 1)
    if shown:
        tags().show(pixels)
    else:
        with pytest.raises(RuntimeError, match=r'use save\(path\) instead'):
            tags().show(pixels)
    height, width = tags().draw(pixels).shape[:2]
    assert seen == [('a.jpg', (width, height))]


def test_results_show_themselves_below_the_cell_of_a_notebook(monkeypatch):
    seen = []
    shell = SimpleNamespace(kernel=None)
    modules = {
        'IPython': SimpleNamespace(get_ipython=lambda: shell),
        'IPython.display': SimpleNamespace(display=seen.append),
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    tags().show(picture(4, 5, 1))
    assert isinstance(seen[0], Image.Image)
