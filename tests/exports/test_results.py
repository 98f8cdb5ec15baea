"""Finished results, opened as a folder and as lines."""

import numpy as np
import pytest
from PIL import Image

from mmtagclip.exports import open_results
from mmtagclip.exports.results import Results, plain
from mmtagclip.records import ImageRecord

TAGS = '{"image": "a.jpg", "tags": ["dog"], "size": [4, 5]}\n'
MASKS = '{"image": "b.jpg", "tags": [], "size": [4, 5], "masks": []}\n'


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.csv', '', 'is neither a folder that --out wrote nor a .jsonl file'),
        ('a.jsonl', TAGS + MASKS, 'has images with masks and images without'),
        ('a.jsonl', TAGS + 'x\n', 'line 2 is broken'),
        ('a.jsonl', TAGS[:-2] + ', "masks": "masks/a.png"}\n', 'give the folder that holds'),
        ('a.jsonl', TAGS + '{"image": "c.j', 'line 2 is broken'),
        ('a.jsonl', TAGS + TAGS.replace('dog', 'cat'), 'a second, other result of a.jpg'),
        ('a.jsonl', '[' * 99999, 'line 1 is broken: nested too deeply'),
        ('a.jsonl', TAGS.replace('dog', r'\u0001'), 'has a character that is no text'),
        ('a.jsonl', TAGS.replace('a.jpg', r'\u0000'), 'has a character that is no text'),
        ('a.jsonl', MASKS.replace('[]}', '[{}]}'), 'an object with a "tag"'),
        ('a.jsonl', MASKS.replace('[]}', '[[]]}'), 'an object with a "tag"'),
        ('a.jsonl', MASKS.replace('[4, 5]', '[9999, 9999]'), 'need a "size" of at most'),
        ('a.jsonl', MASKS.replace(' "size": [4, 5],', ''), 'need a "size" of at most'),
    ],
)
def test_what_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        open_results(tmp_path / name)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match='there are no results at'):
        open_results(tmp_path / 'a.jsonl')
    with pytest.raises(FileNotFoundError, match='holds no results'):
        open_results(tmp_path)


def test_a_folder_knows_its_classes(tags):
    with pytest.raises(ValueError, match='knows its classes'):
        open_results(tags.source, ['dog'])


def test_sizes_of_lines_that_have_none_are_read_from_the_images(tags, tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_text('{"image": "000008.jpg", "tags": []}\n')
    (entry,) = open_results(path, root=tags.folder)
    assert entry.size == next(iter(tags)).size
    with pytest.raises(FileNotFoundError, match='no image at'):
        list(open_results(path))


def test_run_lengths_of_a_stranger_are_checked(tmp_path):
    path = tmp_path / 'a.jsonl'
    mask = '{"tag": "dog", "segmentation": {"size": [4, 5], "counts": "00"}}'
    path.write_text(MASKS.replace('[]}', f'[{mask}]}}'))
    with pytest.raises(ValueError, match=r'a\.jsonl: b\.jpg: its run lengths are damaged'):
        list(open_results(path))


def test_masks_that_do_not_fit_are_named(tmp_path):
    def entry(size=(2, 3), **pixels):
        mask = np.zeros((2, 3), dtype=np.uint16)
        mask.flat[: len(pixels)] = list(pixels.values())
        Image.fromarray(mask).save(tmp_path / 'm.png')
        record = ImageRecord('a.jpg', size=size, more={'masks': 'm.png'})
        labels = ('background', 'dog')
        (one,) = Results(
            tmp_path, 'masks', labels, True, ['a.jpg'], False, '.', lambda: iter([record])
        )
        return one

    assert entry(dog=1, ignored=255).mask.tolist() == [[1, 255, 0], [0, 0, 0]]
    assert entry().mask.dtype == np.uint8
    with pytest.raises(ValueError, match=r'm\.png has the size \(2, 3\), but its image \(3, 2\)'):
        entry(size=(3, 2))
    for label in (2, 257):  # 257 is 1 in one byte
        with pytest.raises(ValueError, match=rf'm\.png has the label {label}, but there are 2'):
            entry(unknown=label)


def test_more_names_than_masks_have_labels(tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_text(MASKS)
    names = [f'name {number}' for number in range(255)]
    assert len(open_results(path, names[1:]).labels) == 255
    with pytest.raises(ValueError, match='has 256 labels, but masks have at most 255'):
        open_results(path, names)


def test_an_image_that_is_listed_twice_counts_once(tmp_path):
    path = tmp_path / 'a.jsonl'
    again = TAGS.replace('a.jpg', './a.jpg')
    last = TAGS.replace('a.jpg', 'b.jpg').rstrip()  # a line that was not ended
    path.write_text(TAGS + TAGS + again + last)
    results = open_results(path)
    assert [entry.stem for entry in results] == ['a', 'b']
    assert len(results) == 2


def test_a_name_in_lines_and_in_xml():
    assert plain('ü b\n\x01\udcff\uffff\\') == r'ü b\n\x01\udcff\uffff' + '\\'
