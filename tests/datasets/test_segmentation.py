"""The segmentation data set whose classes are a vocabulary."""

from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations, PackSegInputs
from PIL import Image

from mmtagclip.datasets import VocabularySegDataset
from mmtagclip.labels import labels_metainfo
from tests.conftest import picture

MASK = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)


@pytest.fixture
def build(tmp_path):
    for name in ('images', 'masks'):
        (tmp_path / name).mkdir()
    for seed, name in enumerate('ab'):
        Image.fromarray(picture(2, 3, seed)).save(tmp_path / 'images' / f'{name}.jpg')
    Image.fromarray(MASK).save(tmp_path / 'masks' / 'a.png')
    indexed = Image.fromarray(MASK, 'P')
    indexed.putpalette(list(range(255, -1, -1)) * 3)
    indexed.save(tmp_path / 'masks' / 'b.png')

    def build(**options):
        return VocabularySegDataset(
            data_root=str(tmp_path),
            pipeline=[LoadAnnotations()],
            data_prefix={'img_path': 'images', 'seg_map_path': 'masks'},
            **options,
        )

    return build


def test_index_and_palette_masks_are_read_as_indices(build):
    data = build(classes=['cat', 'dog'])
    assert len(data) == 2
    for sample in data:
        assert (sample['gt_seg_map'] == MASK).all()


def test_images_without_a_mask_take_no_part_unless_listed(build, tmp_path):
    (tmp_path / 'masks' / 'b.png').unlink()
    (sample,) = build(classes=['cat', 'dog'])
    assert sample['img_path'] == str(tmp_path / 'images' / 'a.jpg')
    (tmp_path / 'list.txt').write_text('b\n')
    with pytest.raises(FileNotFoundError, match=r'b\.png'):
        build(classes=['cat', 'dog'], ann_file='list.txt')[0]
    (tmp_path / 'masks' / 'a.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'no image \(\*\.jpg\) in .* has a mask'):
        build(classes=['cat', 'dog'])


def test_a_folder_of_several_endings(tmp_path, build):
    (tmp_path / 'images' / 'deep').mkdir()
    Image.fromarray(picture(8, 8, 0)).save(tmp_path / 'images' / 'deep' / 'c.PNG')
    options = {'classes': ['cat'], 'data_root': str(tmp_path), 'img_suffix': None}
    data = VocabularySegDataset(data_prefix={'img_path': 'images'}, **options)
    assert [data.get_data_info(i)['img_path'] for i in range(len(data))] == [
        str(tmp_path / 'images' / name) for name in ('a.jpg', 'b.jpg', 'deep/c.PNG')
    ]
    with pytest.raises(ValueError, match='img_suffix=None is for folders without a list'):
        build(classes=['cat'], img_suffix=None, ann_file='list.txt')
    pairs = build(classes=['cat', 'dog'], img_suffix=None)
    assert [Path(pairs.get_data_info(i)['seg_map_path']).name for i in range(len(pairs))] == [
        'a.png',
        'b.png',
    ]
    assert (pairs[1]['gt_seg_map'] == MASK).all()
    (tmp_path / 'nothing').mkdir()
    with pytest.raises(FileNotFoundError, match=r'no image in .*nothing \(endings: \.jpg'):
        VocabularySegDataset(data_prefix={'img_path': 'nothing'}, **options)


def test_classes_with_and_without_a_background(build):
    assert build(classes=['cat', 'dog']).metainfo['classes'] == ('background', 'cat', 'dog')
    assert build(classes=['cat', 'dog'], with_background=False).metainfo['classes'] == (
        'cat',
        'dog',
    )
    assert len(build(classes='coco').metainfo['classes']) == 81


def test_colours():
    meta = labels_metainfo([str(number) for number in range(171)], True)
    assert meta['palette'][:3] == [[0, 0, 0], [0, 114, 178], [230, 159, 0]]
    assert len({tuple(colour) for colour in meta['palette']}) == 172
    without = labels_metainfo([str(number) for number in range(171)], False)
    assert without['palette'] == meta['palette'][1:]


def test_a_class_is_not_called_background_beside_the_background():
    with pytest.raises(ValueError, match='is label 0 already'):
        labels_metainfo(['dog', 'background'], True)
    assert labels_metainfo(['dog', 'background'], False)['classes'] == ('dog', 'background')


@pytest.mark.parametrize(('packed', 'label'), [(False, 3), (True, 9)])
def test_labels_beyond_the_classes_are_refused(build, tmp_path, packed, label):
    data = build(classes=['cat', 'dog'])
    if packed:
        data.pipeline.transforms = [LoadImageFromFile(), LoadAnnotations(), PackSegInputs()]
    assert data[0] is not None
    values = np.array([[0, label, 255], [1, 2, 2]], np.uint8)
    Image.fromarray(values).save(tmp_path / 'masks' / 'a.png')
    with pytest.raises(
        ValueError, match=rf'a\.png has the label {label}, but the 3 classes have labels 0'
    ):
        data[0]
    Image.fromarray(picture(2, 3, 1)).convert('RGBA').save(tmp_path / 'masks' / 'a.png')
    with pytest.raises(ValueError, match=r'a\.png is a colour image'):
        data[0]
