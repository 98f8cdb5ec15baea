"""Pages, docstrings and messages keep to the word list of CONTRIBUTING.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GLOBS = (
    'README.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    'docs/**/*.md',
    'demo/README.md',
    'configs/**/README.md',
    'tools/**/*.py',
    'demo/*.py',
    'CHANGELOG.md',
    'configs/**/*.py',
    'configs/**/*.yml',
    'mmtagclip/**/*.py',
    'mmtagclip/web/static/*',
)
WORD_LIST = '## Language'


def refused():
    """The phrases of the word list's last table, in lower case."""
    section = (ROOT / 'CONTRIBUTING.md').read_text().split(WORD_LIST)[1].split('\n## ')[0]
    table = section[section.index('| write | not |') :]
    return re.findall('`([^`]+)`', table)


def prose(path):
    """A file's text in lower case and on one line, without the word list itself.

    Marks of comments, quotes and lists go too, so that a phrase is found across the end of a line
    and between the parts of a string.
    """
    text = path.read_text(encoding='utf-8')
    if path.name == 'CONTRIBUTING.md':
        before, section = text.split(WORD_LIST)
        text = before + section[section.index('\n## ') :]
    return re.sub(r'[\s#>*\'"`|]+', ' ', text.lower())


@pytest.mark.parametrize('glob', GLOBS)
def test_no_phrase_of_the_word_list_is_used(glob):
    phrases = re.compile(rf'\b({"|".join(map(re.escape, refused()))})(?!\w)')
    paths = sorted(ROOT.glob(glob))
    assert paths
    for path in paths:
        found = [match.group() for match in phrases.finditer(prose(path))]
        assert not found, f'{path.relative_to(ROOT)} says {found}; see CONTRIBUTING.md, Language'


def test_a_phrase_is_found_across_lines_and_parts_of_a_string(tmp_path):
    path = tmp_path / 'module.py'
    path.write_text("# What\n# Comes  along\nraise ValueError('a line '\n    'an image')\n")
    assert 'comes along' in prose(path)
    assert 'a line an image' in prose(path)
    assert {'comes along', 'a line an image'} <= set(refused())
