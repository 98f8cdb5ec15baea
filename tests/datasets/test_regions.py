"""Regions from files: formats, how an image is found, and what is refused."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_masks

from mmtagclip.datasets import LoadRegions
from mmtagclip.regions import paint, read_regions, region_files
from tests.golden import GOLDEN
from tests.golden.regions.stand_ins import region_map

IDS = np.array([[0, 1, 1], [300, 300, 65535]])


def write(path, ids=IDS, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == '.npz':
        np.savez(path, **(kwargs or {'instance_mask': ids}))
    else:
        Image.fromarray(ids.astype(np.uint16)).save(path)
    return path


def load(path, image, size=(2, 3), **kwargs):
    return LoadRegions(str(path), **kwargs)({'img_path': image, 'ori_shape': size})


@pytest.mark.parametrize('ending', ['npz', 'png'])
def test_a_folder_of_files(tmp_path, ending):
    write(tmp_path / f'a.b.{ending}')
    write(tmp_path / f'sub/c.{ending}', IDS.T)
    write(tmp_path / f'other/c.{ending}', IDS[::-1].T)
    for image in ('photos/a.b.jpg', 'a.b', 'a.b.png'):
        found = load(tmp_path, image)['regions']
        assert found.dtype == np.int32
        assert np.array_equal(found, IDS)
    assert np.array_equal(load(tmp_path, '/data/sub/c.jpg', (3, 2))['regions'], IDS.T)
    assert np.array_equal(load(tmp_path, 'other/c.jpeg', (3, 2))['regions'], IDS[::-1].T)
    with pytest.raises(ValueError, match=r'has 2 images with the name of .*/third/c'):
        load(tmp_path, 'third/c.jpg')
    with pytest.raises(ValueError, match=r'has no image with the name of .*/d\.jpg'):
        load(tmp_path, 'd.jpg')


def test_images_of_one_name(tmp_path, monkeypatch):
    """The files are called like the images, as ``mmtagclip regions`` calls them."""
    files = {'1.png': 1, 'sub/1.png': 2, 'sub/sub/1.png': 3, '2.jpg.png': 4, '2.png.png': 5}
    for file, value in files.items():
        write(tmp_path / 'out' / 'regions' / file, np.full((1, 1), value))
    (tmp_path / 'out' / 'manifest.json').write_text('{}')
    regions = LoadRegions(str(tmp_path / 'out'))

    def value(image):
        return regions({'img_path': str(image), 'ori_shape': (1, 1)})['regions'].item()

    images = ['1.jpg', 'sub/1.jpg', 'sub/sub/1.jpg', '2.jpg', '2.png']
    assert [value(tmp_path / 'photos' / image) for image in images] == [1, 2, 3, 4, 5]
    (tmp_path / 'photos' / 'sub').mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'photos')
    assert [value(image) for image in images] == [1, 2, 3, 4, 5]
    monkeypatch.chdir(tmp_path / 'photos' / 'sub')
    assert [value(image) for image in ('1.jpg', 'sub/1.jpg', '../1.jpg')] == [2, 3, 1]


def test_another_id_of_no_region(tmp_path):
    path = write(tmp_path / 'a.npz', np.array([[-1, 0, 7]]))
    assert read_regions(path, unsegmented=-1).tolist() == [[0, 1, 8]]
    assert load(tmp_path, 'a.jpg', (1, 3), unsegmented=-1)['regions'].tolist() == [[0, 1, 8]]
    with pytest.raises(ValueError, match=r'a\.npz has ids from -1 to 7, but ids must be from 0'):
        read_regions(path)


def coco(tmp_path, segmentations, size=(2, 3), scores=None):
    height, width = size
    content = {
        'images': [
            {'id': 5, 'file_name': 'sub/a.jpg', 'height': height, 'width': width},
            {'id': 6, 'file_name': 'b.jpg', 'height': 4, 'width': 4},
        ],
        'annotations': [{'image_id': 5, 'segmentation': one} for one in segmentations],
    }
    for one, score in zip(content['annotations'], scores or (), strict=False):
        one['score'] = score
    path = tmp_path / 'regions.json'
    path.write_text(json.dumps(content))
    return path


def test_a_coco_file_of_run_lengths(tmp_path):
    """Compressed, as lists and as polygons; a mask hides those before it."""
    first = np.asfortranarray([[1, 1, 0], [1, 0, 0]], dtype=np.uint8)
    second = np.asfortranarray([[0, 1, 1], [0, 0, 0]], dtype=np.uint8)
    packed = coco_masks.encode(first)
    packed['counts'] = packed['counts'].decode()
    plain = {'size': [2, 3], 'counts': [2, 1, 1, 1, 1]}  # column by column
    assert np.array_equal(coco_masks.decode(coco_masks.frPyObjects(plain, 2, 3)), second)
    path = coco(tmp_path, [packed, plain, [[0, 1, 1, 1, 1, 2, 0, 2]]])
    assert load(path, 'x/sub/a.jpg')['regions'].tolist() == [[1, 2, 2], [3, 0, 0]]
    assert load(path, 'b.png', (4, 4))['regions'].tolist() == [[0] * 4] * 4
    with pytest.raises(ValueError, match=r'has no image with the name of .*/c\.jpg'):
        load(path, 'c.jpg')
    wrong = coco(tmp_path, [{'size': [9, 9], 'counts': packed['counts']}])
    with pytest.raises(ValueError, match='mask that is neither RLE nor polygons of 2x3 pixels'):
        load(wrong, 'a.jpg')


def test_masks_with_scores_are_painted_as_entity_seg_paints_them(tmp_path):
    """The released regions: of a score of 0.5 and more, the highest on top."""
    golden = np.load(GOLDEN / 'regions' / 'masks.npz')
    cells = {'regions': 4, 'unsegmented': 0}
    masks = [region_map(40, 56, seed, **cells) == 1 for seed in range(90, 96)]
    scores = golden['entityseg/scores'].tolist()
    kept = [index for index, score in enumerate(scores) if score >= 0.5]
    numbers = [masks[one].astype(np.uint8) for one in kept]
    ids = paint(numbers, (40, 56), [scores[one] for one in kept])
    assert np.array_equal(ids, golden['entityseg/regions'])
    packed = [coco_masks.encode(np.asfortranarray(one, dtype=np.uint8)) for one in masks]
    packed = [{**one, 'counts': one['counts'].decode()} for one in packed]
    path = coco(tmp_path, packed, (40, 56), scores)
    assert np.array_equal(load(path, 'a.jpg', (40, 56), min_score=0.5)['regions'], ids)
    assert load(path, 'a.jpg', (40, 56))['regions'].max() == 6
    path = coco(tmp_path, packed, (40, 56), [0.5] * 6)  # equal ones in the file's order
    expected = load(coco(tmp_path, packed, (40, 56)), 'a.jpg', (40, 56))['regions']
    assert np.array_equal(load(path, 'a.jpg', (40, 56))['regions'], expected)


def test_scores_that_are_missing_or_no_numbers(tmp_path):
    with pytest.raises(ValueError, match=r'mask 1 is \(3, 2\), not \(2, 3\)'):
        paint([np.zeros((2, 3)), np.zeros((3, 2))], (2, 3))
    mask = [[0, 1, 1, 1, 1, 2, 0, 2]]
    for scores in ([0.5], [0.5, float('nan')], [0.5, 'high'], [0.5, None]):
        with pytest.raises(ValueError, match=r'is no COCO file of masks .* all or none with a sco'):
            region_files(coco(tmp_path, [mask, mask], scores=scores))
    with pytest.raises(ValueError, match=r'for a COCO file with scores, but .*\.json has none'):
        LoadRegions(str(coco(tmp_path, [mask])), min_score=0.5)
    write(tmp_path / 'folder/a.npz')
    with pytest.raises(ValueError, match=r'for a COCO file with scores, but .* is a folder'):
        LoadRegions(str(tmp_path / 'folder'), min_score=0.5)


@pytest.mark.parametrize(
    'mask',
    [
        [[0, 0]],
        [['a', 'b']],
        [],
        None,
        {'counts': [6]},
        {'size': [2, 3], 'counts': [-3, 9]},
        {'size': [2, 3], 'counts': [0, 2]},  # fewer pixels than the image has
        {'size': [2, 3], 'counts': '0'},
    ],
)
def test_damaged_masks_of_a_coco_file(tmp_path, mask):
    with pytest.raises(ValueError, match=r'regions\.json has a mask that is neither RLE nor poly'):
        load(coco(tmp_path, [mask]), 'a.jpg')


@pytest.mark.parametrize('height', [0, -1, float('inf')])
def test_impossible_sizes_in_a_coco_file(tmp_path, height):
    with pytest.raises(ValueError, match=r'regions\.json is no COCO file of masks'):
        region_files(coco(tmp_path, [], (height, 3)))


@pytest.mark.parametrize(
    'arrays, message',
    [
        ({'masks': IDS}, "it has no 'instance_mask', only masks"),
        ({'instance_mask': IDS.astype(float)}, r'needs integers \(H, W\).* not float64 \(2, 3\)'),
        ({'instance_mask': IDS > 0}, 'not bool'),
        ({'instance_mask': IDS[None]}, r'not int64 \(1, 2, 3\)'),
        ({'instance_mask': np.zeros((0, 3), int)}, r'not int64 \(0, 3\)'),
        ({'instance_mask': np.array([[2**31]])}, f'has ids from {2**31} to {2**31}'),
        ({'instance_mask': np.array([{}], dtype=object)}, 'is no .npz file of regions'),
    ],
)
def test_what_is_no_map_of_ids(tmp_path, arrays, message):
    write(tmp_path / 'a.npz', **arrays)
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, 'a.jpg')
    assert 'a.npz' in str(error.value)


def test_regions_of_another_image_and_damaged_files(tmp_path):
    write(tmp_path / 'a.npz')
    with pytest.raises(
        ValueError, match=r'b/a\.jpg is 2x3 pixels, but its regions in .*a\.npz are 3x2'
    ):
        load(tmp_path, 'b/a.jpg', (3, 2))
    (tmp_path / 'broken.npz').write_bytes((tmp_path / 'a.npz').read_bytes()[:60])
    with pytest.raises(ValueError, match=r'broken\.npz is no \.npz file of regions'):
        load(tmp_path, 'broken.jpg')
    np.save(tmp_path / 'b.npy', IDS)
    (tmp_path / 'b.npy').rename(tmp_path / 'broken.npz')
    with pytest.raises(ValueError, match=r'broken\.npz is no \.npz file of regions: it is an .npy'):
        load(tmp_path, 'broken.jpg')
    with zipfile.ZipFile(tmp_path / 'broken.npz', 'w') as file:
        file.writestr('instance_mask.npy', b'text')
    with pytest.raises(ValueError, match=r"broken\.npz .* its 'instance_mask' is no array"):
        load(tmp_path, 'broken.jpg')
    np.savez_compressed(tmp_path / 'broken.npz', instance_mask=np.arange(9999).reshape(99, 101))
    content = bytearray((tmp_path / 'broken.npz').read_bytes())
    content[len(content) // 2] ^= 255  # of the compressed numbers
    (tmp_path / 'broken.npz').write_bytes(content)
    with pytest.raises(ValueError, match=r'broken\.npz is no \.npz file of regions'):
        load(tmp_path, 'broken.jpg')
    np.savez(tmp_path / 'broken.npz', instance_mask=IDS)
    content = (tmp_path / 'broken.npz').read_bytes()
    start = content.rindex(b'PK\x01\x02')  # of the list of files
    for place, value in ((6, 99), (8, 1), (10, 97)):  # version, password and method
        broken = bytearray(content)
        broken[start + place] = value
        (tmp_path / 'broken.npz').write_bytes(broken)
        with pytest.raises(ValueError, match=r'broken\.npz is no \.npz file of regions'):
            load(tmp_path, 'broken.jpg')
    Image.new('RGB', (3, 2)).save(tmp_path / 'colour.png')
    with pytest.raises(ValueError, match=r'colour\.png has mode RGB, so it is not an index image'):
        load(tmp_path, 'colour.jpg')
    with pytest.raises(FileNotFoundError, match='no regions at'):
        read_regions(tmp_path / 'none.npz')


def test_an_image_without_regions_is_skipped_if_wanted(tmp_path):
    write(tmp_path / 'a.npz')
    found = load(tmp_path, 'b.jpg', on_error='skip')
    assert 'regions' not in found
    assert f'has no image with the name of {Path("b.jpg").absolute()}' in found['load_error']
    before = {'img_path': 'a.jpg', 'ori_shape': (0, 0), 'load_error': 'unreadable'}
    assert LoadRegions(str(tmp_path))(dict(before)) == before
    with pytest.raises(ValueError, match="must be 'raise' or 'skip'"):
        LoadRegions(str(tmp_path), on_error='stop')


def test_paths_without_regions(tmp_path):
    with pytest.raises(ValueError, match=r'holds no \.npz or \.png files of regions'):
        LoadRegions(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='name a folder of files, or a COCO file'):
        LoadRegions(str(tmp_path / 'none'))
    for content in (
        '{',
        '[]',
        '{"images": []}',
        '[' * 100000,
        '{"images": [{}], "annotations": []}',
    ):
        (tmp_path / 'x.json').write_text(content)
        with pytest.raises(ValueError, match=r'x\.json is no COCO file of masks'):
            region_files(tmp_path / 'x.json')
