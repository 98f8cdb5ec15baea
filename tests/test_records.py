"""One image's result as a line."""

import json

import pytest

from mmtagclip.records import ImageRecord, encode_line

RECORDS = [
    (ImageRecord('a.jpg'), {'image': 'a.jpg', 'tags': []}),
    (ImageRecord('a.jpg', ('b',)), {'image': 'a.jpg', 'tags': ['b']}),
    (
        ImageRecord('a.jpg', ('b', 'c'), (0.5, None)),
        {'image': 'a.jpg', 'tags': ['b', 'c'], 'scores': [0.5, None]},
    ),
    (
        ImageRecord('a.jpg', (), (), class_scores={'c': 0.25, 'b': 0}),
        {'image': 'a.jpg', 'tags': [], 'scores': [], 'class_scores': {'c': 0.25, 'b': 0}},
    ),
    (ImageRecord('a.jpg', error='no'), {'image': 'a.jpg', 'error': 'no'}),
    (
        ImageRecord('ü\u2028.jpg', ('b',), (1,), size=(1, 2), more={'masks': 'm.png'}),
        {'image': 'ü\u2028.jpg', 'tags': ['b'], 'scores': [1], 'size': [1, 2], 'masks': 'm.png'},
    ),
]


@pytest.mark.parametrize(('record', 'content'), RECORDS)
def test_there_and_back(record, content):
    assert record.to_dict() == content
    assert list(record.to_dict()) == list(content)
    assert ImageRecord.from_dict(content) == record
    assert ImageRecord.from_json(record.to_json()) == record
    assert json.loads(encode_line(record.to_json())) == content
    assert encode_line(record.to_json()).count(b'\n') == 1


def test_a_name_that_is_not_utf8():
    record = ImageRecord('caf\udce9.jpg')
    assert ImageRecord.from_json(encode_line(record.to_json())) == record


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([], 'must be an object with "image"'),
        ({'tags': []}, 'must be an object with "image"'),
        ({'image': 1, 'tags': []}, 'must be an object with "image"'),
        ({'image': 'a'}, r'and "tags" \(a list of names\), or "error"'),
        ({'image': 'a', 'tags': 'dog'}, r'and "tags" \(a list of names\)'),
        ({'image': 'a', 'tags': [1]}, '"tags" must be a list of names'),
        ({'image': 'a', 'error': 3}, '"error" must be a string, not 3'),
        ({'image': 'a', 'error': 'no', 'tags': ['b']}, 'has no "tags", scores'),
        ({'image': 'a', 'error': 'no', 'size': [1, 1]}, 'scores or "size"'),
        ({'image': 'a', 'tags': [], 'size': [1]}, r'must be \[height, width\]'),
        ({'image': 'a', 'tags': [], 'size': [1, 2.5]}, r'must be \[height, width\]'),
        ({'image': 'a', 'tags': [], 'size': 7}, r'must be \[height, width\]'),
        ({'image': 'a', 'tags': [], 'size': [0, 1]}, 'must be from 1 to 2147483647 pixels'),
        ({'image': 'a', 'tags': [], 'size': [1, 2**31]}, 'must be from 1 to 2147483647 pixels'),
        ({'image': 'a', 'tags': ['b'], 'scores': 0.5}, '"scores" must be a list'),
        ({'image': 'a', 'tags': ['b'], 'scores': []}, '0 for 1 tags'),
        ({'image': 'a', 'tags': ['b'], 'scores': [0.1, 0.2]}, '2 for 1 tags'),
        ({'image': 'a', 'tags': ['b'], 'scores': ['high']}, "numbers or null, not 'high'"),
        ({'image': 'a', 'tags': ['b'], 'scores': [True]}, 'numbers or null, not True'),
        ({'image': 'a', 'tags': ['b'], 'scores': [float('nan')]}, 'must be finite, not nan'),
        ({'image': 'a', 'tags': ['b'], 'scores': [10**400]}, '"scores" must be finite, not inf'),
        ({'image': 'a', 'tags': [], 'class_scores': [1]}, 'must map class names to numbers'),
        ({'image': 'a', 'tags': [], 'class_scores': {'b': None}}, 'must be numbers, not None'),
        ({'image': 'a', 'error': 'no', 'class_scores': {'b': 0}}, 'has no "tags", scores'),
    ],
)
def test_what_is_no_record(content, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ImageRecord.from_dict(content)
    with pytest.raises((ValueError, TypeError), match=message):
        ImageRecord.from_json(json.dumps(content))


def test_further_keys_have_names_of_their_own():
    with pytest.raises(ValueError, match="'scores' can not be a further key"):
        ImageRecord('a', more={'scores': [1]})
