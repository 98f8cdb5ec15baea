"""Labels in the formats that people have, as tags of a folder of images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtagclip.datasets import OwnMultiLabel, read_tags
from mmtagclip.exports import Options, open_results
from mmtagclip.exports.csv import write as write_csv
from mmtagclip.records import ImageRecord
from tests.conftest import picture

# What all labels here say.
EXPECTED = {'a.jpg': ['cat', 'dog'], 'b.PNG': [], 'deep/c.jpg': ['dog']}


@pytest.fixture
def folder(tmp_path):
    for name in (*EXPECTED, 'deep/d.jpg'):
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(8, 8, len(name))).save(path)
    return tmp_path / 'images'


def named(tags, folder):
    return {
        str(Path(image).relative_to(folder)): [tags.classes[label] for label in labels]
        for image, labels in zip(tags.images, tags.labels, strict=True)
    }


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


COCO = {
    'images': [{'id': 7, 'file_name': name} for name in ('deep/c.jpg',)]
    + [{'id': 3, 'file_name': 'a.jpg'}, {'id': 5, 'file_name': 'b.PNG'}],
    'annotations': [
        {'id': number, 'image_id': image, 'category_id': category}
        for number, (image, category) in enumerate([(3, 9), (3, 2), (3, 9), (7, 9)])
    ],
    'categories': [{'id': 9, 'name': 'dog'}, {'id': 2, 'name': 'cat'}],
}
LONG = 'image,tag\na.jpg,dog\nb.PNG,\ndeep/c.jpg,dog\na.jpg,cat\n\n'
EXPORTED = 'image,tag,score\n"{folder}/a.jpg",cat,0.9\n{folder}/a.jpg,dog,0.8\nc.jpg,dog,1\nb,,\n'
WIDE = '\ufefffilename, cat ,dog\na.jpg,1,1\nb.PNG,0,0\ndeep/c.jpg,0,1\n'


@pytest.mark.parametrize(
    'name, content',
    [('l.json', json.dumps(COCO)), ('l.csv', LONG), ('l.csv', EXPORTED), ('l.csv', WIDE)],
    ids=['coco', 'long', 'exported', 'wide'],
)
def test_files_that_name_images(name, content, folder, tmp_path):
    path = write(tmp_path / name, content.replace('{folder}', str(folder)))
    tags = read_tags(folder, path)
    assert tags.classes == ('cat', 'dog')
    assert named(tags, folder) == EXPECTED
    with pytest.raises(ValueError, match='names its classes itself'):
        read_tags(folder, path, ['cat', 'dog'])


def test_a_table_that_the_exporter_wrote(folder, tmp_path):
    records = [
        ImageRecord(str(folder / name), tuple(tags), tuple(0.5 for _ in tags))
        for name, tags in EXPECTED.items()
    ]
    unread = ImageRecord(str(folder / 'deep/d.jpg'), error='a damaged image')
    lines = write(tmp_path / 'l.jsonl', ''.join(f'{one.to_json()}\n' for one in [*records, unread]))
    write_csv(open_results(lines), tmp_path / 'l.csv', Options())
    assert named(read_tags(folder, tmp_path / 'l.csv'), folder) == EXPECTED


BOXES = '1 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.5 0.1 0.5 0.9\n1 .5 .5 .1 .1\n'


@pytest.mark.parametrize('names', ['[cat, dog]', '{0: cat, 1: dog}', '\n  - cat\n  - dog'])
def test_yolo_with_its_data_yaml(names, folder, tmp_path):
    data = write(tmp_path / 'data.yaml', f'path: elsewhere\nnc: 2\nnames: {names}\n')
    write(tmp_path / 'labels' / 'a.txt', BOXES)
    write(tmp_path / 'labels' / 'b.txt', '')
    write(tmp_path / 'labels' / 'deep' / 'c.txt', '1 0.5 0.5 0.2 0.2')
    tags = read_tags(folder, data)
    assert named(tags, folder) == {**EXPECTED, 'deep/d.jpg': []}
    folders = read_tags(folder, tmp_path / 'labels', ['cat', 'dog'])
    assert folders == tags
    with pytest.raises(ValueError, match=r'labels are numbers: name the classes'):
        read_tags(folder, tmp_path / 'labels')


def test_yolo_labels_beside_images_of_another_folder(tmp_path):
    Image.fromarray(picture(8, 8, 0)).save(tmp_path / 'a.jpg')
    write(tmp_path / 'a.txt', '0 0.5 0.5 0.2 0.2')
    data = write(tmp_path / 'data.yaml', 'names: [cat]')
    assert read_tags(tmp_path, data).labels == [[0]]


@pytest.mark.parametrize(
    'line, message',
    [
        ('2 .5 .5 .1 .1', 'unknown class 2; there are 2, from 0'),
        ('dog .5 .5 .1 .1', 'neither "class x y width height" nor'),
        ('0 .5 .5 .1 .1 .9', 'neither'),
        ('0 .5 .5 .1 .1 .9 .9 .1', 'neither'),
        ('0 .5 .5 .1 x', 'neither'),
        ('0 .5 .5 .1 nan', 'neither'),
        ('-1 .5 .5 .1 .1', 'neither'),
        ('0', 'neither'),
    ],
)
def test_lines_that_are_no_yolo_labels(line, message, folder, tmp_path):
    write(tmp_path / 'labels' / 'a.txt', f'0 .5 .5 .1 .1\n{line}\n')
    with pytest.raises(ValueError, match=rf'a\.txt, line 2 .*{message}'):
        read_tags(folder, tmp_path / 'labels', ['cat', 'dog'])


def test_yolo_labels_that_are_no_text(folder, tmp_path):
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels' / 'a.txt').write_bytes(b'0 .5 .5 .1 .1 \xe9\n')
    with pytest.raises(ValueError, match=r'labels/a\.txt is not a UTF-8 text file'):
        read_tags(folder, tmp_path / 'labels', ['cat', 'dog'])


def test_masks(folder, tmp_path):
    masks = tmp_path / 'masks'
    (masks / 'deep').mkdir(parents=True)
    for name, values in {'a': [1, 2, 255], 'b': [0, 255, 255], 'deep/c': [2, 2, 0]}.items():
        Image.fromarray(np.array([values], np.uint8)).save(masks / f'{name}.png')
    tags = read_tags(folder, masks, ['cat', 'dog'])
    assert named(tags, folder) == EXPECTED
    with pytest.raises(ValueError, match=r'has the label 2, but the 1 classes have labels 1 to 1'):
        read_tags(folder, masks, ['cat'])
    Image.fromarray(picture(8, 8, 0)).save(folder / 'a.gif')
    with pytest.raises(ValueError, match=r'a\.gif and .*a\.jpg would have the same mask'):
        read_tags(folder, masks, ['cat', 'dog'])


def test_a_folder_per_class(tmp_path):
    for name in ('dog/1.jpg', 'dog/more/2.jpg', 'cat/1.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(8, 8, 0)).save(tmp_path / name)
    tags = read_tags(tmp_path, tmp_path)
    assert named(tags, tmp_path) == {
        'cat/1.jpg': ['cat'],
        'dog/1.jpg': ['dog'],
        'dog/more/2.jpg': ['dog'],
    }
    Image.fromarray(picture(8, 8, 0)).save(tmp_path / 'a.jpg')
    with pytest.raises(ValueError, match=r'a\.jpg is in no folder of a class'):
        read_tags(tmp_path, tmp_path)


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('l.csv', 'a.jpg,dog\n', r"needs a header, .*its first line is 'a\.jpg,dog'"),
        ('l.csv', 'image;tag\na.jpg;dog\n', 'needs a header'),
        ('l.csv', '', 'needs a header'),
        ('l.csv', 'image,tag\na.jpg\n', 'line 2 has 1 cells, but the header has 2'),
        ('l.csv', 'image,tag\n,dog\n', 'line 2 names no image'),
        ('l.csv', 'image,tag\na.jpg,\n', 'names no class'),
        ('l.csv', 'image,cat,dog\na.jpg,1,yes\n', "line 2 has the cell 'yes'; .* has 0 or 1"),
        ('l.csv', 'image,cat,dog\na.jpg,1,0\na.jpg,0,0\n', "line 3 has 'a.jpg' a second time"),
        ('l.csv', 'image,cat,cat\na.jpg,1,0\n', 'empty class name in its header, or one twice'),
        ('l.csv', 'image,tag,tag\na.jpg,cat,dog\n', 'empty class name in its header, or one twice'),
        ('l.csv', 'image,tag\nz.jpg,dog\n', r'images has no image with the name of z\.jpg'),
        ('l.csv', 'image,tag\na.jpg,dog\na,dog\n', r"names .*a\.jpg twice, as 'a\.jpg' and 'a'"),
        ('l.json', '[]', "not in COCO's layout"),
        ('l.yaml', 'names: 3', "not YOLO's data.yaml"),
        ('l.yaml', 'a: &a [b]\nnames: [*a]', r'has the YAML alias \*a in line 2'),
        ('l.yaml', 'names: {1: cat}', 'the numbers of its names are not 0, 1, 2'),
        ('l.txt', 'dog', 'has no known format of labels'),
        ('l/readme.md', '', r'has neither label files \(\.txt\) nor masks'),
    ],
)
def test_what_is_no_label_file_is_refused(name, content, message, folder, tmp_path):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        read_tags(folder, path if name.startswith('l.') else path.parent)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no labels at .*gone\.csv'):
        read_tags(folder, tmp_path / 'gone.csv')
    data = write(tmp_path / 'data.yaml', 'names: [cat]')
    with pytest.raises(
        FileNotFoundError, match=r'no image has a label file of .*would be .*labels/a\.txt'
    ):
        read_tags(folder, data)


def test_as_a_data_set(folder, tmp_path):
    labels = write(tmp_path / 'l.csv', WIDE)
    data = OwnMultiLabel(str(folder), str(labels), test_mode=True)
    assert data.metainfo['classes'] == ('cat', 'dog')
    infos = [data.get_data_info(index) for index in range(len(data))]
    assert [info['gt_label'] for info in infos] == [[0, 1], [], [1]]
    assert infos[1]['img_path'] == str(folder / 'b.PNG')
