"""Names in texts."""

import numpy as np
import pytest

from mmtagclip.clip.matching import NameFinder, plurals, words_of
from tests.models.taggers.test_calibration import GOLDEN

PHRASES = [('fire engine', 'fire truck'), ('fire',), ('T-shirt',), ('cat',), ('cats',), ('person',)]


@pytest.mark.parametrize(
    ('text', 'labels'),
    [
        ('a Fire Engine on fire', [0, 1]),
        ('a fire engine', [0]),
        ('fire trucks, T_shirts!', [0, 2]),
        ('a cat', [3]),
        ('two cats', [4]),  # the plural yields to a name
        ('people concatenate', [5]),
        ('', []),
    ],
)
def test_names_in_a_text(text, labels):
    assert NameFinder(PHRASES).labels(text) == labels


def test_the_longest_name_takes_its_words():
    finder = NameFinder([('dog house',), ('house of cards',), ('card',)])
    # "house of cards" is longer than "dog house", and leaves it no word.
    assert finder.labels('dog house of cards') == [1]
    assert [one.label for one in finder.find(words_of('cards, dog house, card'))] == [2, 0, 2]


@pytest.mark.parametrize(
    ('word', 'plural'),
    [
        ('pony', 'ponies'),
        ('bus', 'buses'),
        ('leaf', 'leaves'),
        ('knife', 'knives'),
        ('fireman', 'firemen'),
        ('human', 'humans'),
        ('child', 'children'),
        ('cliff', 'cliffs'),
    ],
)
def test_plurals(word, plural):
    assert plural in plurals(word)


def test_the_classes_of_the_golden_prompts():
    golden = np.load(GOLDEN)
    finder = NameFinder([(str(name),) for name in golden['names']])
    for prompt, mine in zip(golden['prompts'], golden['member'].T, strict=True):
        assert finder.labels(str(prompt)) == np.flatnonzero(mine).tolist()
