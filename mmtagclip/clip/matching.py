"""Which names a text holds: whole words, with their plurals, the longest name first."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Plurals that no rule makes; compounds such as "fireman" follow the last word.
IRREGULAR = {
    'child': 'children',
    'foot': 'feet',
    'goose': 'geese',
    'louse': 'lice',
    'man': 'men',
    'mouse': 'mice',
    'ox': 'oxen',
    'person': 'people',
    'tooth': 'teeth',
    'woman': 'women',
}


class Match(NamedTuple):
    """A name in a text.

    Attributes:
        label: Index of the class.
        start: Index of its first word in the text.
        stop: Index after its last word.
    """

    label: int
    start: int
    stop: int


class NameFinder:
    """Finds the names of classes in texts.

    Names and texts are compared word by word, without case; everything but letters and digits
    separates words, so ``T-shirt`` is found in ``two t shirts``.

    Args:
        phrases: For each class its name and synonyms. If two classes have the same phrase, it
            is the first one's. A plural yields to another class's own phrase.
    """

    def __init__(self, phrases: Sequence[Sequence[str]]) -> None:
        self._labels: dict[tuple[str, ...], int] = {}
        forms = [
            [form for form in map(words_of, own) if form]
            for own in phrases
        ]  # fmt: skip
        for label, own in enumerate(forms):
            for form in own:
                self._labels.setdefault(form, label)
        for label, own in enumerate(forms):
            for form in own:
                for plural in plurals(form[-1]):
                    self._labels.setdefault((*form[:-1], plural), label)
        self._longest = max(map(len, self._labels), default=0)

    def find(self, words: Sequence[str]) -> list[Match]:
        """The names in a text, in its order.

        The longest name, in letters, is found first; a word belongs to one name only.

        Args:
            words: Of the text, as :func:`words_of` returns them.
        """
        found = []
        for start in range(len(words)):
            for stop in range(start + 1, min(start + self._longest, len(words)) + 1):
                label = self._labels.get(tuple(words[start:stop]))
                if label is not None:
                    found.append(Match(label, start, stop))
        found.sort(key=lambda one: (-sum(map(len, words[one.start : one.stop])), one.start))
        used: set[int] = set()
        kept = []
        for match in found:
            place = range(match.start, match.stop)
            if used.isdisjoint(place):
                used.update(place)
                kept.append(match)
        return sorted(kept, key=lambda one: one.start)

    def labels(self, text: str) -> list[int]:
        """Indices of the classes that a text names, ascending, each once."""
        return sorted({match.label for match in self.find(words_of(text))})


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text: runs of letters and digits, in lower case."""
    return tuple(re.findall(r'[^\W_]+', text.lower()))


def plurals(word: str) -> Iterable[str]:
    """What a word may be in the plural, the rule's form and an irregular one."""
    for singular, plural in IRREGULAR.items():
        if word == singular or (singular in ('man', 'woman') and word.endswith(singular)):
            yield word.removesuffix(singular) + plural
    if re.search('[^aeiou]y$', word):
        yield word[:-1] + 'ies'
    if re.search('(s|x|z|ch|sh|o)$', word):
        yield word + 'es'
    if re.search('[^f]fe?$', word):
        yield re.sub('fe?$', 'ves', word)
    yield word + 's'
