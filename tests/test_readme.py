"""The README's snippets run, and its commands name what exists."""

import argparse
import ast
import inspect
import re
import runpy
import shlex
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config, DictAction

from mmtagclip import cli
from mmtagclip.apis.config_table import ConfigTable
from mmtagclip.registry import MODELS

ROOT = Path(__file__).parent.parent
CARDS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / 'configs').glob('*/README.md'))]
PAGES = [
    'README.md',
    'CONTRIBUTING.md',
    'SECURITY.md',
    'demo/README.md',
    *CARDS,
    *(f'docs/{path.name}' for path in sorted((ROOT / 'docs').glob('*.md'))),
]


def blocks(page, language):
    return re.findall(rf'^```{language}\n(.*?)^```', (ROOT / page).read_text(), re.S | re.M)


def commands():
    for page in PAGES:
        for block in blocks(page, 'bash'):
            for line in block.replace('\\\n', ' ').splitlines():
                words = shlex.split(line, comments=True)
                words = words[: words.index('>')] if '>' in words else words
                while words and re.match(r'[A-Z_]+=', words[0]):  # variables of the environment
                    del words[0]
                if words:
                    yield pytest.param(words, id=f'{page}: {" ".join(words)}'[:90])


def snippets():
    for page in PAGES:
        for number, block in enumerate(blocks(page, 'python')):
            yield pytest.param(block, id=f'{page}-{number}')


@pytest.mark.parametrize('snippet', snippets())
def test_python_snippets_run(snippet, tmp_path, monkeypatch, capsys):
    script = workplace(tmp_path) / 'snippet.py'
    script.write_text(snippet)
    if snippet.startswith('_base_ ='):  # a config
        config = Config.fromfile(script)
        assert MODELS.get(config.model.type) is not None
        return
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(script), run_name='__main__')
    printed = re.findall(r"^\{'.*?\}", capsys.readouterr().out, re.M)
    rounded = [
        [(name, round(score, 2)) for name, score in ast.literal_eval(line).items()]
        for line in printed
    ]
    for said in re.findall(r'^print\(.*\) *# (\{.*?\})', snippet, re.M):
        assert list(ast.literal_eval(said).items()) in rounded


def demo_commands():
    """Commands of the program that need nothing but the demo."""
    for param in commands():
        (words,) = param.values
        if words[0] == 'mmtagclip' and (
            words[1] in ('demo', 'models') or any(word.endswith('_demo') for word in words)
        ):
            yield param


def workplace(folder):
    """A folder that holds what the repository's does, to write in."""
    (folder / 'work_dirs').mkdir()
    for name in ('demo', 'configs', 'tools', 'docs'):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.parametrize('words', demo_commands())
def test_commands_of_the_demo_run(words, tmp_path, monkeypatch):
    monkeypatch.chdir(workplace(tmp_path))
    assert cli.main(words[1:]) == 0


@pytest.mark.parametrize('words', commands())
def test_commands_name_what_exists(words):
    program, *rest = words
    if program == 'export':
        folder_chain = (ROOT / 'configs/pseudo_labels/folder.py').read_text()
        for word in rest:
            assert f'{{{{${word.partition("=")[0]}:' in folder_chain
    elif program == 'make':
        targets = re.findall(r'^([a-z]+):', (ROOT / 'Makefile').read_text(), re.M)
        assert rest[0] in targets
    elif program == 'pip':
        extras = re.search(r'\[(.*)\]', rest[-1])
        files = [word for word in rest if word.endswith('.txt')]
        assert extras or files
        assert all((ROOT / file).is_file() for file in files)
        project = (ROOT / 'pyproject.toml').read_text()
        for extra in extras.group(1).split(',') if extras else ():
            assert f'\n{extra} = [' in project
    elif program == 'mmtagclip':
        cli.make_parser().parse_args(rest)
    elif rest[:2] == ['-m', 'pytest']:
        assert rest[2:]
        assert all((ROOT / path).is_file() for path in rest[2:] if '/' in path)
    elif program in ('python', 'bash'):
        script = ROOT / rest[0]
        assert script.is_file()
        if 'my_config.py' in rest:  # the reader's own
            return
        if script == ROOT / 'tools/train.py':
            assert 'train_dataloader' in Config.fromfile(ROOT / rest[1])
        elif script.name in ('test.py', 'dist_test.sh'):
            check_test_command(rest[1:], distributed=script.suffix == '.sh')
        elif script.suffix == '.py':
            check_options(script, rest[1:])
    else:
        assert (ROOT / program).is_file()


def check_test_command(words, distributed):
    """The config loads, the options fit it, and the model has such arguments."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument('config')
    if distributed:
        parser.add_argument('processes', type=int)
    else:
        parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--work-dir')
    parser.add_argument('--out')
    parser.add_argument('--tta', action='store_true')
    parser.add_argument('--download', action='store_true')
    parser.add_argument('--show-dir')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args(words)
    cfg = Config.fromfile(ROOT / args.config)
    for key in args.cfg_options or {}:
        if key.startswith('test_dataloader.dataset.'):
            assert key.rsplit('.', 1)[1] in cfg.test_dataloader.dataset
    cfg.merge_from_dict(args.cfg_options or {})
    if 'train_dataloader' in cfg:  # a model of OpenMMLab's own, from the checkpoint
        return
    parts = list(parts_of(cfg.model))
    assert parts
    for part in parts:
        assert set(part) - {'type'} <= parameters_of(MODELS.get(part['type'])), part


def parts_of(value):
    """Every part of ours that a config describes, however deep."""
    if isinstance(value, dict):
        if str(value.get('type')).startswith('mmtagclip.'):
            yield value
        for one in value.values():
            yield from parts_of(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from parts_of(one)


def parameters_of(kind):
    """Names of the arguments that a class takes, those that it hands on to its base included."""
    names = set()
    for base in kind.__mro__:
        parameters = inspect.signature(base.__init__).parameters
        names |= set(parameters)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            break
    return names


def check_options(script, words):
    """The script, or what it takes its options from, knows every option."""
    text = script.read_text()
    options = (ROOT / 'mmtagclip/engine/options.py').read_text()
    for name in re.findall(r'\b(add_\w+)\(parser\)', text):
        _, _, body = options.partition(f'def {name}(')
        text += body.partition('\ndef ')[0]
    for word in words:
        if word.startswith('--'):
            assert f"'{word}'" in text


def anchors(path):
    """The anchors of a page's headings, as GitHub and Sphinx make them."""
    text = re.sub(r'^```.*?^```', '', path.read_text(), flags=re.S | re.M)
    for heading in re.findall(r'^#+ (.*)$', text, re.M):
        yield re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-')


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r'\]\(([^)]+)\)', (ROOT / page).read_text()):
            if target.startswith('http'):
                continue
            name, _, anchor = target.partition('#')
            path = (ROOT / page).parent / name if name else ROOT / page
            assert path.exists(), f'{page}: {target}'
            assert not anchor or anchor in anchors(path), f'{page}: {target}'


def test_every_page_of_the_docs_is_in_the_index():
    listed = re.findall(r'maxdepth.*?\n\n(.*?)```', (ROOT / 'docs/index.md').read_text(), re.S)
    pages = {path.stem for path in (ROOT / 'docs').glob('*.md')} - {'index'}
    assert sorted(' '.join(listed).split()) == sorted({*pages, 'tools/index'})


def rows_of(path):
    """The rows of a page's tables, each as a dict."""
    for table in re.findall(r'(?:^\|.*\n)+', path.read_text(), re.M):
        header, _, *rows = [
            [cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()
        ]
        yield from (dict(zip(header, row, strict=True)) for row in rows)


@pytest.mark.parametrize(
    'folder', sorted(path.parent.name for path in (ROOT / 'configs').glob('*/metafile.yml'))
)
def test_a_folder_s_card_says_what_its_metafile_says(folder):
    rows = list(rows_of(ROOT / 'configs' / folder / 'README.md'))
    metafile = yaml.safe_load((ROOT / 'configs' / folder / 'metafile.yml').read_text())
    for model in metafile['Models']:
        row = next(one for one in rows if f'`{model["Name"]}`' in one['config'])
        for result in model.get('Results', []):
            for metric, value in result['Metrics'].items():
                assert row[metric] == str(value)


def test_pages_that_list_methods_list_all_of_them():
    zoo, encoders = ((ROOT / f'docs/{name}.md').read_text() for name in ('model_zoo', 'encoders'))
    table = ConfigTable(ROOT / 'configs')
    for folder in table.published:
        assert f'(../configs/{folder}/README.md)' in zoo
    for method in table.methods.values():
        block = table.model(method).get('encoder', {}).get('last_block')
        if block:
            assert f'`{block["type"].removeprefix("mmtagclip.")}`' in encoders


# Data sets as pages call them, where the configs have another name.
DATA = {
    'VOC2007': 'voc07',
    'VOC2007 test': 'voc07',
    'VOC2012': 'voc12',
    'VOC2012 val': 'voc12',
    'COCO2014': 'coco14_tagclip-labels',
    'COCO-Stuff-27': 'cocostuff27',
}


def published():
    """Every figure of the published.yml, by collection, variant and data set."""
    table = ConfigTable(ROOT / 'configs')
    return {
        (table.published[folder]['collection'], cell.method.variant, cell.data): value
        for folder in table.published
        for cell in table.cells(folder)
        for value in cell.results.values()
    }


def figures_of_readme():
    """README: "VOC2012, mIoU 64.8; 68.7 with CRF", and the columns of the papers."""
    for row in rows_of(ROOT / 'README.md'):
        if 'published figure' in row:
            data = row['published figure'].partition(',')[0]
            for value, variant in re.findall(
                r'(\d+\.\d)(?: with (CRF|PAMR))?', row['published figure']
            ):
                yield re.split('[ :]', row['methods'])[0], variant.lower(), data, value
        for column, value in row.items():
            if column.startswith('paper, ') and value:
                method = 'TagCLIP' if 'TagCLIP' in row[''] else 'CLS-SEG'
                yield method, 'crf' if 'CRF' in row[''] else '', column.split(', ')[1], value


def figures_of_reproducing():
    """docs/reproducing.md: "COCO-Object, 34.0; with CRF, 35.3", and the configs in this order."""
    names = {
        cell.name: (table.published[folder]['collection'], cell.method.variant, cell.data)
        for table in [ConfigTable(ROOT / 'configs')]
        for folder in table.published
        for cell in table.cells(folder)
    }
    for row in rows_of(ROOT / 'docs/reproducing.md'):
        if 'in the paper' in row:
            first, *others = re.findall('`(.*?)`', row['config'])
            values = re.findall(r'\d+\.\d', row['in the paper'].partition('(')[0])
            configs = [first, *(other.replace('...', first) for other in others)]
            for config, value in zip(configs, values, strict=True):
                yield *names[config.partition('/')[2]], value


@pytest.mark.parametrize(
    'figures, least',
    [
        (figures_of_readme, 17),
        (figures_of_reproducing, 8),
    ],
)
def test_published_figures_are_those_of_the_configs(figures, least):
    found, expected = list(figures()), published()
    assert len(found) >= least  # a form that is not read would be missing
    for collection, variant, data, value in found:
        figure = expected[collection, variant, DATA.get(data, data.lower())]
        assert abs(float(value) - figure) < 0.051, (collection, variant, data)  # rounded
