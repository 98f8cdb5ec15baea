"""Descriptions: stored, and compared."""

import pytest

from mmtagclip.jobs.description import differences, flatten


def test_long_values_are_stored_as_digests():
    long = {'short': 1, 'long': list(range(5000)), 'parts': [{'a': 1}, {'a': {'b': 2}}]}
    flat = flatten(long)
    assert flat['parts.1.a.b'] == 2
    assert flat['long'].startswith('digest ')
    long['long'][77] = 0
    (text,) = differences(flat, flatten(long))
    assert text.startswith('long was')


def test_differences_name_what_a_user_knows():
    digest = 'tensor torch.float32 (2,) 0123456789abcdef0123456789abcdef'
    before = {
        'model.a.words': ['x'],
        'model.head.class': 'A',
        'model.head.k': 1,
        'model.text': digest,
        'threshold': None,
        'words': ['x'],
    }
    now = {
        'model.a.words': ['y'],
        'model.b.a.words': ['y'],
        'model.head.class': 'B',
        'model.head.n': 1,
        'model.text': digest.replace('a', 'b'),
        'threshold': 0.5,
        'words': ['y'],
    }
    assert differences(before, now) == [
        'threshold was None, now it is 0.5',
        "words was ['x'], now it is ['y']",
        "model.a.words was ['x'], now it is ['y']",
        "model.head.class was 'A', now it is 'B'",
        "model.b.a.words was not there, now it is ['y']",
    ]
    same = {**now, 'model.c.a.words': ['y']}
    (text,) = differences({**same, 'model.a.words': 1, 'model.c.a.words': 1}, same)
    assert text == "model.a.words was 1, now it is ['y']"
    (text,) = differences({'text': digest}, {'text': digest.replace('a', 'b')})
    assert text.startswith('text was')


@pytest.mark.parametrize(('length', 'shown'), [(60, 60), (61, 57)])
def test_values_of_60_characters_are_shown_whole(length, shown):
    word = 'x' * (length - 2)
    (text,) = differences({'a': word}, {'a': 'y'})
    assert len(text.removeprefix('a was ').removesuffix(", now it is 'y'")) == shown


@pytest.mark.parametrize(('same', 'start'), [(40, "'x"), (41, '...x')])
def test_a_difference_far_from_the_start_cuts_the_start(same, start):
    word = 'x' * (same - 1)
    (text,) = differences({'a': f'{word}1{"z" * 30}'}, {'a': f'{word}2{"z" * 30}'})
    assert text.startswith(f'a was {start}')


def test_long_values_are_shown_where_they_differ():
    names = [f'name {number}' for number in range(100)]
    others = [*names[:70], 'a zebra', *names[71:]]
    for before, now, expected in (
        (
            names,
            others,
            "...me 68', 'name 69', 'name 70', 'name 71', 'name 72', 'n..., "
            "now it is ...me 68', 'name 69', 'a zebra', 'name 71', 'name 72', 'n...",
        ),
        (
            names,
            names[:-1],
            "...'name 97', 'name 98', 'name 99'], now it is ...'name 97', 'name 98']",
        ),
        (
            names,
            None,
            "['name 0', 'name 1', 'name 2', 'name 3', 'name 4', 'na..., now it is None",
        ),
    ):
        assert differences({'words': before}, {'words': now}) == [f'words was {expected}']
