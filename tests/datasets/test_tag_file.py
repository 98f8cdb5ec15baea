"""Tag files in both formats, and looking images up in them."""

import json

import pytest

from mmtagclip.datasets import LoadTags, TagRecord, read_tag_file, write_tag_file
from mmtagclip.records import ImageRecord, encode_line

CLASSES = ['dog', 'cat', 'traffic light']


@pytest.fixture
def write(tmp_path):
    def write(*lines):
        path = tmp_path / 'tags.txt'
        path.write_text(
            '\n'.join(line if isinstance(line, str) else json.dumps(line) for line in lines) + '\n'
        )
        return path

    return write


def test_json_lines(write):
    path = write(
        {'image': 'a/1.jpg', 'tags': ['traffic light', 'dog'], 'scores': [0.9, 0.8]},
        {'image': 'a/2.jpg', 'error': 'gone'},
        '',
        {'image': 'a/3.jpg', 'tags': []},
    )
    assert read_tag_file(path, CLASSES) == [TagRecord('a/1.jpg', (2, 0)), TagRecord('a/3.jpg', ())]


def test_published_text_format(write):
    assert read_tag_file(write('2007_000033 0 2', '2007_000042'), CLASSES) == [
        TagRecord('2007_000033', (0, 2)),
        TagRecord('2007_000042', ()),
    ]


def test_writing_the_published_text_format(tmp_path):
    path = tmp_path / 'tags.txt'
    write_tag_file(
        path, [TagRecord('JPEGImages/2007_000033.jpg', (0, 2)), TagRecord('2007_000042', ())]
    )
    assert path.read_text() == '2007_000033 0 2\n2007_000042\n'
    assert read_tag_file(path, CLASSES) == [
        TagRecord('2007_000033', (0, 2)),
        TagRecord('2007_000042', ()),
    ]


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (['a/1.jpg', 'b/1.png'], "'b/1.png' is the second image called '1'"),
        (['my dog.jpg'], "'my dog.jpg' has a space in its name"),
        ([''], 'or none'),
    ],
)
def test_what_the_text_format_cannot_hold(tmp_path, images, message):
    with pytest.raises(ValueError, match=message):
        write_tag_file(tmp_path / 'tags.txt', [TagRecord(image, (0,)) for image in images])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        (
            {'image': 'a', 'tags': ['fox']},
            "line 2 has the unknown class 'fox'; classes are dog, cat",
        ),
        ('{"image": "a", "ta', 'line 2 is broken'),
        ({'image': 'a'}, 'line 2 is broken: a record must have "image"'),
        ({'tags': ['dog']}, 'line 2 is broken: a record must be an object with "image"'),
        ('000001 0 3', 'line 2 has the class index 3, but there are 3 classes'),
        ('000001 0 -1', 'class index -1'),
        ('000001 dog', 'line 2 is neither JSON'),
        ('first 1', "line 2 has the image 'first' a second time"),
    ],
)
def test_bad_lines_are_named(write, line, message):
    with pytest.raises(
        ValueError, match=rf'tags\.txt, {message}' if message.startswith('line') else message
    ):
        read_tag_file(write('first 0', line), CLASSES)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match='no tag file at'):
        read_tag_file(tmp_path / 'none.jsonl', CLASSES)


def test_images_are_found_by_path_or_else_by_name(write):
    path = write(
        {'image': 'x/1.jpg', 'tags': ['dog']},
        {'image': 'y/1.jpg', 'tags': ['cat']},
        {'image': 'y/2.jpg', 'tags': ['cat', 'dog']},
    )
    load = LoadTags(str(path), CLASSES)
    assert load({'img_path': 'y/1.jpg'})['tag_labels'] == [1]
    assert load({'img_path': 'data/elsewhere/2.png'})['tag_labels'] == [1, 0]
    with pytest.raises(ValueError, match=r'has no image with the name of z/3\.jpg'):
        load({'img_path': 'z/3.jpg'})
    with pytest.raises(ValueError, match=r'has 2 images with the name of z/1\.jpg'):
        load({'img_path': 'z/1.jpg'})


def test_two_images_do_not_share_tags(write):
    path = write({'image': '2.jpg', 'tags': ['cat']})
    load = LoadTags(str(path), CLASSES)
    for same in ('x/2.jpg', 'x/2.jpg', 'y/../x/2.jpg'):
        assert load({'img_path': same})['tag_labels'] == [1]
    with pytest.raises(ValueError, match=r'entry, 2\.jpg, for two images, x/2\.jpg and y/2\.jpg'):
        load({'img_path': 'y/2.jpg'})


@pytest.mark.parametrize('odd', ['\u2028', '\u2029', '\x85', '\x0b', '\x0c', '\x1c', '\xa0'])
def test_names_with_white_space_that_separates_nothing(tmp_path, odd):
    records = [TagRecord(f'a{odd}b', (0, 2)), TagRecord('c', ())]
    write_tag_file(tmp_path / 'tags.txt', records)
    assert read_tag_file(tmp_path / 'tags.txt', CLASSES) == records
    lines = [ImageRecord(f'x/a{odd}b.jpg', (CLASSES[1],)), ImageRecord('d', error=odd)]
    (tmp_path / 'tags.jsonl').write_bytes(b''.join(encode_line(one.to_json()) for one in lines))
    assert read_tag_file(tmp_path / 'tags.jsonl', CLASSES) == [TagRecord(f'x/a{odd}b.jpg', (1,))]


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        (['bell', 'train'], 'line 1 has no class index, nor has any other line'),
        (['', 'dog.jpg'], 'line 2 has no class index'),
        (['000001;0;3', '000002;1'], 'line 1 has no class index'),
        (['A dog on a beach', 'Two cats'], 'line 1 is neither JSON'),
        (['image,tag,score', 'a.jpg,dog,0.7'], 'line 1 is the header of a CSV table: give'),
        (['image,tag,score,share', 'a b.jpg,dog,0.7,0.1'], 'line 1 is the header of a CSV table'),
        (['names:', '  0: dog'], 'line 1 is YAML'),
        (['000001 0', '000002: 1'], 'line 2 is YAML'),
        (['- 000001'], 'line 1 is YAML'),
        (['000001 1_0'], 'line 1 is neither JSON'),
        (['000001 \u0661'], 'line 1 is neither JSON'),
        (['000001 0.5'], 'line 1 is neither JSON'),
    ],
)
def test_other_formats_are_refused(tmp_path, lines, message):
    path = tmp_path / 'tags.txt'
    path.write_text('\n'.join(lines), encoding='utf-8')
    with pytest.raises(ValueError, match=rf'tags\.txt, {message}'):
        read_tag_file(path, CLASSES)


def test_binary_files_are_refused_and_byte_order_marks_ignored(tmp_path):
    path = tmp_path / 'tags.txt'
    path.write_bytes(b'\x89PNG\r\n')
    with pytest.raises(ValueError, match=r'tags\.txt is not a UTF-8 text file'):
        read_tag_file(path, CLASSES)
    path.write_bytes('\ufeff000001 0\n'.encode())
    assert read_tag_file(path, CLASSES) == [TagRecord('000001', (0,))]


def test_images_that_all_failed_or_have_no_tags(write):
    assert read_tag_file(write({'image': 'a.jpg', 'error': 'gone'}), CLASSES) == []
    assert read_tag_file(write({'image': 'a.jpg', 'tags': []}), CLASSES) == [TagRecord('a.jpg', ())]
