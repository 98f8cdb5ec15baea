"""Make configs, metafiles and the tables of published figures from each folder's published.yml.

python tools/dev/make_configs.py          # writes what differs
python tools/dev/make_configs.py --check  # names what differs, and changes nothing
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from mmtagclip.apis.config_table import ConfigTable

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
OVERVIEW = CONFIGS.parent / 'docs/direct_segmentation.md'
TASKS = {'masks': 'Semantic Segmentation', 'tags': 'Multi-Label Classification'}
TASKS['piaa'] = TASKS['tags']
METAFILE = """\
# Made of published.yml by tools/dev/make_configs.py. Metrics called "(paper)" are those that the
# paper reports, "(reported by ...)" those of another table. None was measured with this package.
# Command says what a config is for: tag, segment, or train. Weights are those that are downloaded.
"""
BACKBONE = 'vit-base-p16_openai'  # of the figures of direct segmentation that do not name another
START, END = '<!-- made of published.yml by tools/dev/make_configs.py -->', '<!-- end -->'


def made_files(table: ConfigTable) -> Iterator[tuple[Path, str]]:
    """Every file that is made, with its content."""
    for folder in table.published:
        for cell in table.cells(folder):
            text = table.text(cell.method.name, cell.backbone, cell.data, table.configs / folder)
            yield table.configs / folder / f'{cell.name}.py', text
        yield table.configs / folder / 'metafile.yml', metafile(table, folder)
        path = table.configs / folder / 'README.md'
        yield path, with_table(path.read_text(), card_table(table, folder))
    yield OVERVIEW, with_table(OVERVIEW.read_text(), overview(table))


def stale_files(table: ConfigTable) -> list[Path]:
    """Configs of these folders that the tables do not hold."""
    names = {path for path, _ in made_files(table)}
    return [
        path
        for folder in table.published
        for path in sorted((table.configs / folder).glob('*.py'))
        if path not in names
    ]


def metafile(table: ConfigTable, folder: str) -> str:
    """The metafile of a folder: one collection and its models."""
    content = table.published[folder]
    collection = {
        'Name': content['collection'],
        'Metadata': {'Architecture': content['architecture']},
        'Paper': {'Title': content['title'], 'URL': content['url']},
        'README': f'configs/{folder}/README.md',
    }
    models = []
    for cell in table.cells(folder):
        model = {
            'Name': cell.name,
            'In Collection': content['collection'],
            'Config': f'configs/{folder}/{cell.name}.py',
            'Metadata': {'Command': content['command'], 'Weights': table.weights(cell)},
        }
        if cell.results:
            result = {
                'Dataset': table.title(content['data'], cell.data),
                'Task': TASKS[content['data']],
                'Metrics': dict(cell.results),
            }
            model['Results'] = [result]
        models.append(model)
    text = yaml.safe_dump(
        {'Collections': [collection], 'Models': models}, sort_keys=False, width=1000
    )
    return METAFILE + text


def card_table(table: ConfigTable, folder: str) -> str:
    """The table of a folder's card."""
    cells = list(table.cells(folder))
    metrics = list(dict.fromkeys(metric for cell in cells for metric in cell.results))
    rows = [['config', 'data', *metrics]]
    for cell in cells:
        results = [str(cell.results.get(metric, '')) for metric in metrics]
        rows.append([f'`{cell.name}`', table.title(cell.method.data, cell.data), *results])
    return markdown(rows)


def overview(table: ConfigTable) -> str:
    """The table of all figures of direct segmentation: a column for each data set."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for folder, content in table.published.items():
        for cell in table.cells(folder):
            if table.model(cell.method)['type'] != 'mmtagclip.DirectSegmentor':
                continue
            further = [cell.method.variant, cell.backbone * (cell.backbone != BACKBONE)]
            version = cell.method.plain.removeprefix(folder.replace('_', '-'))
            name = ', '.join([content['collection'] + version, *filter(None, further)])
            for metric, value in cell.results.items():
                source = metric.partition('(')[2].removesuffix(')')
                rows.setdefault((name, source), {})[cell.data] = str(value)
    columns = sorted({data for row in rows.values() for data in row})
    return markdown(
        [
            ['method', 'figures', *columns],
            *([*key, *(row.get(data, '') for data in columns)] for key, row in rows.items()),
        ]
    )


def markdown(rows: list[list[str]]) -> str:
    """A table in Markdown; the first row is its head."""
    lines = [rows[0], ['---'] * len(rows[0]), *rows[1:]]
    return '\n'.join(re.sub(r'\|  (?=\|)', '| ', f'| {" | ".join(row)} |') for row in lines)


def with_table(text: str, table: str) -> str:
    """A page whose table, between the two marks, is replaced."""
    if text.count(START) != 1 or text.count(END) != 1:
        raise ValueError(f'the page needs one line {START!r} and one line {END!r}')
    return re.sub(
        f'{re.escape(START)}.*{re.escape(END)}',
        lambda _: f'{START}\n\n{table}\n\n{END}',
        text,
        flags=re.S,
    )


def main() -> int:
    """Run the script."""
    parser = argparse.ArgumentParser(description='Make configs, metafiles and tables of cards.')
    parser.add_argument(
        '--check', action='store_true', help='change nothing; exit 1 if any differs'
    )
    args = parser.parse_args()
    table = ConfigTable(CONFIGS)
    differing = [
        (path, text)
        for path, text in made_files(table)
        if not path.is_file() or path.read_text() != text
    ]
    stale = stale_files(table)
    for path in [*(path for path, _ in differing), *stale]:
        print(path.relative_to(CONFIGS.parent))
    if args.check:
        return int(bool(differing or stale))
    for path, text in differing:
        path.write_text(text)
    for path in stale:
        path.unlink()
    return 0


if __name__ == '__main__':
    sys.exit(main())
