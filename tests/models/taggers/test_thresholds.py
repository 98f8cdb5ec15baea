"""Thresholds of single classes, and their files."""

import pytest
import torch

from mmtagclip.models import TagRule
from mmtagclip.models.taggers.thresholds import class_thresholds, read_thresholds

NAMES = ('dog', 'cat', 'car')


def tags(scores, thresholds, **options):
    rule = TagRule(thresholds=class_thresholds(thresholds, NAMES), **options)
    return rule.labels(torch.tensor(scores)).tolist()


def test_each_kind_in_place_of_the_rule():
    scores = [0.2, 0.5, 0.9]
    assert tags(scores, {}) == [2]
    assert tags(scores, {'dog': 0.1}) == [0, 2]
    assert tags(scores, {'dog': 0.2}) == [2]  # above it
    assert tags(scores, {'dog': 0.1}, min_score=0.95) == [0]
    # 0.5 is at 3/7 of the range.
    assert tags(scores, {'cat': {'relative': 0.42}}) == [1, 2]
    assert tags(scores, {'cat': {'relative': 0.43}}) == [2]
    assert tags(scores, {'cat': {'relative': 0.42}}, min_score=0.6) == [2]
    assert tags(scores, {'cat': {'relative': 0.42, 'absolute': 0.55}}) == [2]
    assert tags(scores, {'cat': {'relative': 0.42, 'absolute': 0.45}}) == [1, 2]
    assert tags([1.0, 1.0, 1.0], {'dog': 1.0}) == []  # never, and a rule alone gives the first
    assert tags(scores, [0.1, 0.1, 0.95]) == [0, 1]
    assert tags(scores, [0.1, 0.1, 0.1], top=1) == [2]
    with pytest.raises(ValueError, match='thresholds for 3 classes, but scores of 2'):
        tags([0.1, 0.2], {'dog': 0.5})


def test_files(tmp_path):
    table = tmp_path / 'thresholds.csv'
    table.write_bytes(
        '\ufefftag,absolute,relative,f1,note\r\n"dog",0.25,,0.8,few\r\ncat,,0.5,,\r\n'.encode()
    )
    assert read_thresholds(table) == {'dog': {'absolute': 0.25}, 'cat': {'relative': 0.5}}
    found = class_thresholds(table, NAMES)
    assert found.absolute == (0.25, None, None)
    assert found.relative == (None, 0.5, None)
    published = tmp_path / 'ram_tag_list_threshold.txt'
    published.write_text('0.65\n0.8\n1.0')
    assert class_thresholds(published, NAMES).absolute == (0.65, 0.8, 1)


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('a.csv', 'tag,absolute\ndgo,0.5\n', r"a\.csv: a threshold for 'dgo', which is none"),
        ('a.csv', 'tag,absolute\nx,0.5\ny,0.5\n', "for 'x' and 1 more names"),
        ('a.csv', 'tag,absolute\ndog,1.5\n', r'line 2: a threshold must be in \[0, 1\], not 1\.5'),
        ('a.csv', 'tag,absolute\ndog,nan\n', r'line 2: a threshold must be in \[0, 1\], not nan'),
        ('a.csv', 'tag,absolute\ndog,high\n', "line 2 has no number: 'high'"),
        ('a.csv', 'tag,absolut\ndog,0.5\n', 'needs a header with the column "tag" and "absolute"'),
        ('a.csv', 'dog,0.5\n', 'needs a header'),
        ('a.csv', '', 'needs a header'),
        ('a.csv', 'tag,absolute\n', 'holds no thresholds'),
        ('a.csv', 'tag,absolute\ndog,0.5,\n', 'line 2 has 3 cells, but the header has 2'),
        ('a.csv', 'tag,absolute\ndog,0.5\ndog,0.6\n', "line 3 has 'dog' a second time"),
        ('a.csv', 'tag,absolute\n,0.5\n', 'line 2 names no tag'),
        ('a.csv', 'tag,absolute\n"dog,0.5\n', 'is not a CSV file'),
        ('a.txt', '0.5\n0.5\n', '2 thresholds in the order of the classes, but there are 3'),
        ('a.txt', '0.5\n-0.5\n0.5\n', r'line 2: a threshold must be in \[0, 1\]'),
        ('a.txt', 'tag,absolute\n', r'line 1 is no number but .*: a table of thresholds ends in'),
        ('a.txt', '\n', 'holds no thresholds'),
        ('a.txt', b'\xff', 'is not a UTF-8 text file'),
    ],
)
def test_bad_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        class_thresholds(path, NAMES)


def test_bad_values(tmp_path):
    with pytest.raises(TypeError, match='one number for all classes is the option threshold'):
        read_thresholds(0.3)
    with pytest.raises(FileNotFoundError, match='no file of thresholds at'):
        class_thresholds(tmp_path / 'none.csv', NAMES)
    with pytest.raises(TypeError, match="absolute threshold of 'dog' must be a number"):
        class_thresholds({'dog': 'high'}, NAMES)
    with pytest.raises(ValueError, match="threshold of 'dog' is absolute or relative, not 'high'"):
        class_thresholds({'dog': {'high': 0.5}}, NAMES)
    with pytest.raises(TypeError, match='thresholds must be ClassThresholds'):
        TagRule(thresholds={'dog': 0.5})
