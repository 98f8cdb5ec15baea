"""The pages about other tools: their commands run in order, and so do their snippets."""

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from mmtagclip import cli
from tests.test_readme import workplace

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / 'docs/tools').glob('*.md'))


def blocks(page, language):
    return re.findall(rf'^```{language}\n(.*?)^```', page.read_text(), re.S | re.M)


def run(page):
    for block in blocks(page, 'bash'):
        for line in block.splitlines():
            program, *words = shlex.split(line)
            assert program == 'mmtagclip'
            assert cli.main(words) == 0, line


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder in which the commands of the first page were run."""
    folder = workplace(tmp_path_factory.mktemp('pages'))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(ROOT / 'docs/tools/index.md')
    (folder / 'work_dirs/names.txt').write_text('000008\n000011\n')
    return folder


@pytest.mark.parametrize('page', [page for page in PAGES if page.name != 'index.md'], ids=str)
def test_a_page(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for path in (folder / 'work_dirs').iterdir():
        if path.is_file() and path.name not in ('names.txt', 'tags.jsonl'):
            path.unlink()
    run(page)
    for snippet in blocks(page, 'python'):
        out = io.StringIO()
        with redirect_stdout(out):
            exec(compile(snippet, str(page), 'exec'), {})
        assert out.getvalue().strip()


def test_every_page_is_listed():
    index = (ROOT / 'docs/tools/index.md').read_text()
    listed = re.search(r'toctree.*?\n\n(.*?)```', index, re.S).group(1).split()
    assert listed == sorted({page.stem for page in PAGES} - {'index'})
    assert all(f'({name}.md)' in index for name in listed)
