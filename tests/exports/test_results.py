"""Finished results, opened as a folder and as lines."""

import pytest

from mmtagclip.exports import open_results

TAGS = '{"image": "a.jpg", "tags": ["dog"], "size": [4, 5]}\n'
MASKS = '{"image": "b.jpg", "tags": [], "size": [4, 5], "masks": []}\n'


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.csv', '', 'is neither a folder that --out wrote nor a .jsonl file'),
        ('a.jsonl', TAGS + MASKS, 'has images with masks and images without'),
        ('a.jsonl', TAGS + 'x\n', 'line 2 is broken'),
        ('a.jsonl', TAGS[:-2] + ', "masks": "masks/a.png"}\n', 'give the folder that holds'),
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
