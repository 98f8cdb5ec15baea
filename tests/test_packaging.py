"""What surrounds the package says what is so."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import yaml

from mmtagclip.apis import list_models
from mmtagclip.extras import install
from mmtagclip.version import __version__

ROOT = Path(__file__).parent.parent


def test_the_workflow_calls_targets_of_the_makefile():
    targets = set(re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M))
    workflow = yaml.safe_load((ROOT / '.github/workflows/ci.yml').read_text())
    jobs = workflow['jobs']['make']['strategy']['matrix']['include']
    called = {target for job in jobs for target in job['target'].split()}
    assert called == {'test', 'docs', 'package'}  # test runs lint and type first
    assert re.search(r'^test: lint type$', (ROOT / 'Makefile').read_text(), re.M)
    assert called <= targets


def test_the_citation_names_the_paper_as_the_readme_does():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    paper = citation['preferred-citation']
    readme = (ROOT / 'README.md').read_text()
    assert paper['title'] in readme
    for author in paper['authors']:
        assert f'{author["family-names"]}, {author["given-names"]}' in readme


def test_the_version_is_the_changelogs_and_the_citations():
    changelog = (ROOT / 'CHANGELOG.md').read_text()
    version, date = re.search(r'^## (\S+) - (\S+)$', changelog, re.M).groups()
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    assert __version__ == version == citation['version']
    assert str(citation['date-released']) == date


def test_mim_finds_every_model_by_the_name_of_its_config():
    """It looks for the file name below the whole folder, and refuses two of one name."""
    count = Counter(path.name for path in (ROOT / 'configs').rglob('*.py'))
    assert {entry.config.name: count[entry.config.name] for entry in list_models()} == {
        entry.config.name: 1 for entry in list_models()
    }


def test_no_message_names_an_index_that_lacks_the_package():
    """How to install an extra is said by mmtagclip.extras, for a clone."""
    for path in [*(ROOT / 'mmtagclip').rglob('*.py'), *(ROOT / 'docs').rglob('*.md')]:
        assert 'mmtagclip[' not in path.read_text(), path
    project = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    for extra in (
        'heic',
        'jxl',
        'parquet',
        'web',
        'onnx',
        'crf',
        'onedl',
        'ray',
        's3',
        'gs',
        'http',
    ):
        assert extra in project['project']['optional-dependencies']
        assert install(extra).startswith(f"pip install -e '.[{extra}]' ")


@pytest.mark.parametrize('path', sorted((ROOT / 'tools').rglob('*.py')), ids=lambda path: path.stem)
def test_help_of_the_tools_has_no_gaps(path):
    """A backslash at the end of a line is lost in a string that is not raw, its indent is not."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ''
    assert not re.search(r'\S {3,}[^# ]', text)


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    pytest.importorskip('build', reason='the build package is not installed')
    out = tmp_path_factory.mktemp('dist')
    # Built from a copy, so that nothing is left in the source tree.
    source = tmp_path_factory.mktemp('source')
    names = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    if names.returncode:
        pytest.skip('not a git repository')
    for name in names.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(ROOT / name)
    subprocess.run(
        [
            sys.executable,
            '-m',
            'build',
            '--wheel',
            '--no-isolation',
            '--outdir',
            str(out),
            str(source),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (path,) = out.glob('*.whl')
    return zipfile.ZipFile(path)


def test_the_wheel_holds_configs_demo_and_page(wheel):
    names = set(wheel.namelist())
    for name in (
        'mmtagclip/.mim/model-index.yml',
        'mmtagclip/.mim/demo/data/classes.txt',
        'mmtagclip/.mim/demo/model/open_clip_model.safetensors',
        'mmtagclip/.mim/configs/_base_/backbones/vit-demo.py',
        'mmtagclip/.mim/configs/_base_/variants.yml',
        'mmtagclip/.mim/configs/sclip/published.yml',
        'mmtagclip/.mim/tools/test.py',
        'mmtagclip/.mim/configs/demo/metafile.yml',
        'mmtagclip/web/static/index.html',
        'mmtagclip/vocabularies/voc.txt',
    ):
        assert name in names
    assert any(name.endswith('licenses/demo/LICENSES/CC-BY-4.0.txt') for name in names)
    assert not any('__pycache__' in name or name.startswith('tests/') for name in names)
    metadata = wheel.read(f'mmtagclip-{__version__}.dist-info/METADATA').decode()
    assert 'License-Expression: Apache-2.0 AND CC-BY-4.0 AND MIT' in metadata
