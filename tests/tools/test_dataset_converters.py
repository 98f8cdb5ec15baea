import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmpretrain.datasets import MultiLabelDataset
from PIL import Image

from mmtagclip.clip import Vocabulary
from mmtagclip.clip.vocabulary import find_list
from mmtagclip.datasets import CocoMultiLabel
from tests.conftest import picture

TOOLS = Path(__file__).parents[2] / 'tools' / 'dataset_converters'


def converter(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


yolo2coco, masks2tags, nus_wide, remap_masks, coco_object, tags2text, text2tags = map(
    converter,
    ('yolo2coco', 'masks2tags', 'nus_wide', 'remap_masks', 'coco_object', 'tags2text', 'text2tags'),
)


def run(monkeypatch, module, *arguments):
    """Run a converter's command in this process."""
    monkeypatch.setattr(sys, 'argv', [module.__file__, *map(str, arguments)])
    module.main()


def labels(dataset):
    return {
        Path(dataset.get_data_info(i)['img_path']).name: dataset.get_data_info(i)['gt_label']
        for i in range(len(dataset))
    }


# yolo2coco


@pytest.fixture
def yolo(tmp_path):
    """Folders of two images, 80x40 and 10x10 pixels; the first has labels."""
    images, annotations = tmp_path / 'images', tmp_path / 'labels'
    images.mkdir()
    annotations.mkdir()
    Image.fromarray(picture(40, 80, 0)).save(images / 'a.jpg')
    Image.fromarray(picture(10, 10, 1)).save(images / 'b.PNG')
    (images / 'readme.txt').write_text('no image')
    (annotations / 'a.txt').write_text('2 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.2 0.4\n')
    return images, annotations


def test_yolo_boxes_in_pixels(yolo):
    coco = yolo2coco.convert(*yolo, ('cat', 'dog', 'cow'))
    assert coco['images'] == [
        {'id': 1, 'file_name': 'a.jpg', 'width': 80, 'height': 40},
        {'id': 2, 'file_name': 'b.PNG', 'width': 10, 'height': 10},
    ]
    assert coco['categories'] == [
        {'id': 1, 'name': 'cat'},
        {'id': 2, 'name': 'dog'},
        {'id': 3, 'name': 'cow'},
    ]
    assert coco['annotations'] == [
        {
            'id': 1,
            'image_id': 1,
            'category_id': 3,
            'bbox': [30, 10, 20, 20],
            'area': 400,
            'iscrowd': 0,
        },
        {
            'id': 2,
            'image_id': 1,
            'category_id': 1,
            'bbox': [0, 0, 16, 16],
            'area': 256,
            'iscrowd': 0,
        },
    ]


def test_yolo_result_loads(yolo, tmp_path):
    out = tmp_path / 'new' / 'instances.json'
    process = subprocess.run(
        [sys.executable, yolo2coco.__file__, *yolo, out],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == f'{out}: 2 images, 2 objects\n'
    dataset = CocoMultiLabel(ann_file=str(out), data_prefix=str(yolo[0]), keep_unlabelled=True)
    assert labels(dataset) == {'a.jpg': [0, 2], 'b.PNG': []}
    assert dataset.metainfo['classes'] == Vocabulary.load('coco').names


@pytest.mark.parametrize(
    'line, message',
    [
        ('3 0.5 0.5 0.2 0.2', 'names the unknown class 3; there are 3, from 0'),
        ('-1 0.5 0.5 0.2 0.2', 'names the unknown class -1'),
        ('1 0.5 0.5 0.2', 'is not "class x y width height"'),
        ('1 0.1 0.1 0.2 0.1 0.2 0.2', 'is not "class x y width height"'),  # a polygon
        ('cat 0.5 0.5 0.2 0.2', 'is not "class x y width height"'),
    ],
)
def test_yolo_bad_line(yolo, line, message):
    (yolo[1] / 'b.txt').write_text(f'0 0.5 0.5 0.2 0.2\n{line}\n')
    with pytest.raises(ValueError, match=rf'b\.txt, line 2 {message}'):
        yolo2coco.convert(*yolo, ('cat', 'dog', 'cow'))


def test_yolo_no_images(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no image in .* \(endings: \.jpg, '):
        yolo2coco.convert(tmp_path, tmp_path, ('cat',))


# masks2tags


def save_mask(path, values, dtype=np.uint8, mode=None):
    Image.fromarray(np.array(values, dtype), mode).save(path)


def test_masks_with_values_and_ignore(tmp_path):
    save_mask(tmp_path / 'a.png', [[7, 3], [255, 7]])
    save_mask(tmp_path / 'b.png', [[255, 254]])
    tags = masks2tags.convert(tmp_path, ('cat', 'dog', 'cow'), (3, 5, 7), ignore=(254, 255))
    assert tags == {
        'metainfo': {'classes': ['cat', 'dog', 'cow']},
        'data_list': [
            {'img_path': 'a.jpg', 'gt_label': [0, 2]},
            {'img_path': 'b.jpg', 'gt_label': []},
        ],
    }


def test_masks_of_16_bits_and_palettes(tmp_path):
    save_mask(tmp_path / 'deep.png', [[300, 0]], np.uint16)
    indexed = Image.fromarray(np.array([[1, 0]], np.uint8), 'P')
    indexed.putpalette([9, 9, 9, 200, 200, 200])
    indexed.save(tmp_path / 'indexed.png')
    tags = masks2tags.convert(tmp_path, ('cat', 'dog', 'cow'), (0, 1, 300), ignore=())
    assert [item['gt_label'] for item in tags['data_list']] == [[0, 2], [0, 1]]


def test_masks_unknown_value(tmp_path):
    save_mask(tmp_path / 'a.png', [[0, 9]])
    with pytest.raises(ValueError, match=r'a\.png has the pixel value 9, which belongs to no'):
        masks2tags.convert(tmp_path, ('cat', 'dog'), range(2), ignore=(255,))


def test_masks_in_colour(tmp_path):
    Image.fromarray(picture(4, 4, 0)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'a\.png has mode RGB, so it is not an index image'):
        masks2tags.convert(tmp_path, ('cat', 'dog'), range(2), ignore=())


def test_masks_wrong_number_of_values(tmp_path):
    with pytest.raises(ValueError, match='2 classes, but 3 pixel values'):
        masks2tags.convert(tmp_path, ('cat', 'dog'), range(3), ignore=())


def test_masks_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='no PNG masks in'):
        masks2tags.convert(tmp_path, ('cat',), range(1), ignore=())


def test_masks_unknown_list_of_classes(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="'cocostufff' is neither a file nor a built-in"):
        run(monkeypatch, masks2tags, tmp_path, tmp_path / 'out.json', '--classes', 'cocostufff')


def test_masks_result_loads(tmp_path, monkeypatch):
    masks, out = tmp_path / 'masks', tmp_path / 'tags.json'
    masks.mkdir()
    values = [
        int(line)
        for line in find_list('cocostuff_values').read_text().splitlines()
        if not line.startswith('#')
    ]
    save_mask(masks / '000000000139.png', [[values[0], values[170]], [255, values[100]]])
    run(
        monkeypatch,
        masks2tags,
        masks,
        out,
        '--classes',
        'cocostuff',
        '--values',
        'cocostuff_values',
        '--suffix',
        '.png',
    )
    dataset = MultiLabelDataset(ann_file=str(out), data_prefix=str(tmp_path))
    assert labels(dataset) == {'000000000139.png': [0, 100, 170]}
    assert tuple(dataset.metainfo['classes']) == Vocabulary.load('cocostuff').names


# nus_wide


def nus_wide_root(tmp_path, flags, images=('actor\\0001_1.jpg', 'sky\\0002_2.jpg')):
    (tmp_path / 'ImageList').mkdir()
    (tmp_path / 'ImageList' / 'TestImagelist.txt').write_text('\r\n'.join(images) + '\r\n')
    folder = tmp_path / 'Groundtruth' / 'TrainTestLabels'
    folder.mkdir(parents=True)
    for concept, lines in flags.items():
        (folder / f'Labels_{concept}_Test.txt').write_text(lines)
    return tmp_path


def test_nus_wide_labels(tmp_path):
    root = nus_wide_root(tmp_path, {'sky': '1\n1\n', 'water': '0\n1\n', 'zebra': '0\r\n0\r\n'})
    assert nus_wide.convert(root, 'Test', ('sky', 'water', 'zebra')) == {
        'metainfo': {'classes': ['sky', 'water', 'zebra']},
        'data_list': [
            {'img_path': 'actor/0001_1.jpg', 'gt_label': [0]},
            {'img_path': 'sky/0002_2.jpg', 'gt_label': [0, 1]},
        ],
    }


def test_nus_wide_missing_file(tmp_path):
    root = nus_wide_root(tmp_path, {'sky': '1\n1\n'})
    with pytest.raises(FileNotFoundError, match=r'no NUS-WIDE file at .*Labels_water_Test\.txt'):
        nus_wide.convert(root, 'Test', ('sky', 'water'))
    with pytest.raises(FileNotFoundError, match=r'no NUS-WIDE file at .*TrainImagelist\.txt'):
        nus_wide.convert(root, 'Train', ('sky',))


def test_nus_wide_wrong_length(tmp_path):
    root = nus_wide_root(tmp_path, {'sky': '1\n1\n1\n'})
    with pytest.raises(ValueError, match=r'Labels_sky_Test\.txt .* 2 images, but it has 3 lines'):
        nus_wide.convert(root, 'Test', ('sky',))


def test_nus_wide_neither_0_nor_1(tmp_path):
    root = nus_wide_root(tmp_path, {'sky': '1\n-1\n'})
    with pytest.raises(ValueError, match=r"Labels_sky_Test\.txt, line 2 must be 0 or 1, not '-1'"):
        nus_wide.convert(root, 'Test', ('sky',))


def test_nus_wide_result_loads(tmp_path, monkeypatch):
    concepts = Vocabulary.load('nus_wide').names
    root = nus_wide_root(tmp_path, {c: f'{int(c == "zebra")}\n0\n' for c in concepts})
    run(monkeypatch, nus_wide, root, root / 'test.json')
    dataset = MultiLabelDataset(ann_file='test.json', data_root=str(root), data_prefix='Flickr')
    assert labels(dataset) == {'0001_1.jpg': [concepts.index('zebra')], '0002_2.jpg': []}
    assert dataset.get_data_info(0)['img_path'] == str(root / 'Flickr' / 'actor' / '0001_1.jpg')


# remap_masks


def read_mask(path):
    with Image.open(path) as image:
        assert image.mode == 'L'
        return np.asarray(image).tolist()


def test_remap_values_labels_and_other(tmp_path):
    masks, out = tmp_path / 'masks', tmp_path / 'new' / 'out'
    masks.mkdir()
    save_mask(masks / 'a.png', [[3, 5], [7, 255], [0, 3]])
    assert remap_masks.convert(masks, out, (3, 5, 7), (1, 1, 2), other=9) == 1
    assert read_mask(out / 'a.png') == [[1, 1], [2, 9], [9, 1]]


def test_remap_of_16_bits_and_of_palette_indices(tmp_path):
    """A palette's colours count for nothing, its indices do."""
    save_mask(tmp_path / 'deep.png', [[300, 0]], np.uint16)
    indexed = Image.fromarray(np.array([[1, 0]], np.uint8), 'P')
    indexed.putpalette([9, 9, 9, 0, 0, 0])
    indexed.save(tmp_path / 'indexed.png')
    remap_masks.convert(tmp_path, tmp_path / 'out', (1, 300), (5, 6))
    assert read_mask(tmp_path / 'out' / 'deep.png') == [[6, 255]]
    assert read_mask(tmp_path / 'out' / 'indexed.png') == [[5, 255]]


def test_remap_refuses(tmp_path):
    with pytest.raises(ValueError, match='2 pixel values, but 3 labels'):
        remap_masks.convert(tmp_path, tmp_path / 'out', (1, 2), (1, 2, 3))
    with pytest.raises(FileNotFoundError, match='no PNG masks in'):
        remap_masks.convert(tmp_path, tmp_path / 'out', (1,), (1,))
    Image.fromarray(picture(4, 4, 0)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match=r'a\.png has mode RGB, so it is not an index image'):
        remap_masks.convert(tmp_path, tmp_path / 'out', (1,), (1,))


@pytest.mark.parametrize(
    'options, count, labels',
    [
        ('--values cocostuff_values --labels cocostuff_groups', 171, {*range(27), 255}),
        ('--values cocostuff_values', 171, {*range(171), 255}),
        ('--values coco_values --first 1 --other 254', 80, {*range(1, 81), 254}),
    ],
)
def test_remap_with_the_built_in_lists(tmp_path, monkeypatch, options, count, labels):
    save_mask(tmp_path / 'a.png', [[*range(256)]])
    run(monkeypatch, remap_masks, tmp_path, tmp_path / 'out', *options.split())
    (row,) = read_mask(tmp_path / 'out' / 'a.png')
    assert set(row) == labels
    assert sum(label != max(labels) for label in row) == count


# coco_object


@pytest.fixture
def instances(tmp_path):
    """A large polygon, a small one over it as RLE, a crowd, and an image without objects."""
    small = np.zeros((6, 8), np.uint8)
    small[2:4, 3:5] = 1
    flat = small.T.ravel()  # column by column: runs of zeros and ones in turn
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    annotations = [
        {
            'category_id': 7,
            'segmentation': {'size': [6, 8], 'counts': runs},
            'area': 4,
            'iscrowd': 1,
        },
        {'category_id': 3, 'segmentation': [[1, 1, 7, 1, 7, 5, 1, 5]], 'area': 24, 'iscrowd': 0},
    ]
    path = tmp_path / 'instances.json'
    path.write_text(
        json.dumps(
            {
                'images': [
                    {'id': 1, 'file_name': 'a.jpg', 'height': 6, 'width': 8},
                    {'id': 2, 'file_name': 'b.jpg', 'height': 6, 'width': 8},
                ],
                'annotations': [
                    {'id': i, 'image_id': 1, **one} for i, one in enumerate(annotations, 1)
                ],
                'categories': [{'id': 7, 'name': 'dog'}, {'id': 3, 'name': 'cat'}],
            }
        )
    )
    return path


def test_coco_object_paints_smaller_objects_on_top(instances, tmp_path, monkeypatch):
    run(monkeypatch, coco_object, instances, tmp_path / 'out')
    # Labels follow the category ids: cat 1, dog 2. The image without objects has no mask.
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['a.png']
    expected = np.zeros((6, 8), int)
    expected[1:5, 1:7] = 1
    expected[2:4, 3:5] = 2
    assert read_mask(tmp_path / 'out' / 'a.png') == expected.tolist()


def test_coco_object_without_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no COCO annotation file at'):
        coco_object.convert(tmp_path / 'none.json', tmp_path)


# tags2text


def test_tags_as_text(tmp_path, monkeypatch):
    (tmp_path / 'tags.jsonl').write_text(
        '{"image": "a/1.jpg", "tags": ["dog", "cat"], "scores": [0.9, 0.6]}\n'
        '{"image": "a/2.jpg", "error": "gone"}\n{"image": "a/3.jpg", "tags": []}\n'
    )
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    run(
        monkeypatch,
        tags2text,
        tmp_path / 'tags.jsonl',
        tmp_path / 'tags.txt',
        '--classes',
        tmp_path / 'names.txt',
    )
    assert (tmp_path / 'tags.txt').read_text() == '1 1 0\n3\n'


# text2tags


def test_text_as_annotations(tmp_path, monkeypatch):
    (tmp_path / 'labels.txt').write_text('COCO_1 1 0 1\nb/2.png\n')
    (tmp_path / 'names.txt').write_text('cat\ndog\n')
    run(
        monkeypatch,
        text2tags,
        tmp_path / 'labels.txt',
        tmp_path / 'new/labels.json',
        '--classes',
        tmp_path / 'names.txt',
    )
    dataset = MultiLabelDataset(ann_file=str(tmp_path / 'new/labels.json'))
    assert dataset.metainfo['classes'] == ['cat', 'dog']
    assert labels(dataset) == {'COCO_1.jpg': [0, 1], '2.png': []}


def test_text_with_an_index_too_many(tmp_path, monkeypatch):
    (tmp_path / 'labels.txt').write_text('COCO_1 80\n')
    with pytest.raises(ValueError, match='line 1 has the class index 80, but there are 80 classes'):
        run(
            monkeypatch,
            text2tags,
            tmp_path / 'labels.txt',
            tmp_path / 'labels.json',
            '--classes',
            'coco',
        )
