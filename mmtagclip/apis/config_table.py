"""Configs as a table: any method with any backbone on any data set.

What the papers publish stands in one ``published.yml`` in each folder of the configs. A cell of
the table (method, backbone, data set) becomes the text of an ordinary config here; the published
cells are committed, ``mmtagclip config`` prints any other.

A cell's settings come from four places, the later over the earlier: the method
(``_base_/methods``), the backbone (``_base_/backbones``, by the names of parts: the layers of
``DMAR``), the data set (``_base_/datasets``, its ``parts``: the classes of ``SegTextHead``) and
the row of ``published.yml``.
"""

import os
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import mmengine
from mmengine.config import Config

from .model_zoo import encoder_configs, needed_weights, zoo_root

WIDTH = 100
ENCODER = 'CLIPEncoder'  # whose settings are the backbone's ``encoder``
BACKGROUND = 'coco_background'  # names that compete with the user's own classes
HEADER = '# Made of published.yml by tools/dev/make_configs.py.'


class Ref(str):
    """A Python expression, printed as it is."""

    __slots__ = ()


@dataclass(frozen=True)
class Row:
    """What is published of a method on a data set.

    Attributes:
        parts: Settings by the name of a part.
        model: Further settings of the model, by key.
        scale: Of the pipeline's ``Resize``.
        results: Figures by metric, with whose they are.
        variants: The same for each variant that has a config.
        backbones: The same for each further backbone that has a config.
        note: What to say of the settings.
    """

    parts: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    scale: tuple[int, int] | None = None
    results: Mapping[str, float] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    backbones: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    note: str = ''


@dataclass(frozen=True)
class Method:
    """A method of the table.

    Attributes:
        name: As in the names of its configs; what follows an underscore stands at their end.
        folder: Of its configs, below ``configs``.
        data: Folder of its data sets, below ``_base_/datasets``.
        pipeline: Its pipeline, below ``_base_/pipelines``.
        backbone: What its figures are published with.
        rows: By data set.
        plain: The name without the variant.
        variant: Of ``_base_/variants.yml``, or none.
    """

    name: str
    folder: str
    data: str
    pipeline: str
    backbone: str
    rows: Mapping[str, Row]
    plain: str
    variant: str = ''

    def leaf(self, backbone: str, data: str) -> str:
        """Name of the config of a cell."""
        stem, _, ending = self.name.partition('_')
        return f'{stem}_{backbone}_{data}{"_" if ending else ""}{ending}'


@dataclass(frozen=True)
class Cell:
    """A published cell: a config of the tree.

    Attributes:
        method: The method.
        backbone: Name of the backbone.
        data: Name of the data set.
        results: Figures by metric.
    """

    method: Method
    backbone: str
    data: str
    results: Mapping[str, float]

    @property
    def name(self) -> str:
        """Name of the config."""
        return self.method.leaf(self.backbone, self.data)


@dataclass(frozen=True)
class OwnData:
    """The user's own images and labels, in the place of a data set of the table.

    Attributes:
        images: Folder of the images.
        labels: Their labels, see :mod:`mmtagclip.datasets.own_labels`.
        classes: Names of the classes.
        source: Name or path of the list that they come from, if they come from one.
        numbered: Whether the labels are numbers, so that the data set needs the names.
        command: The command that describes this, for the config's first line.
    """

    images: str
    labels: str
    classes: tuple[str, ...]
    source: str | None
    numbered: bool
    command: str

    def line(self) -> str:
        """The line of the config that names the classes."""
        if self.source is not None:
            return f'classes = {self.source!r}'
        names = textwrap.fill(', '.join(map(repr, self.classes)), WIDTH - 5)
        one = f'classes = [{names}]'
        if len(one) <= WIDTH and '\n' not in one:
            return one
        return f'classes = [\n{textwrap.indent(names, "    ")},\n]  # fmt: skip'

    def settings(self, kind: str) -> dict[str, Any]:
        """What a file of a data set contains.

        Args:
            kind: ``tags`` or ``masks``.

        Raises:
            ValueError: Labels that are not masks for a method that makes masks, or another kind.
        """
        dataset: dict[str, Any]
        if kind == 'tags':
            names = {'classes': Ref('classes')} if self.numbered else {}
            dataset = {'type': 'mmtagclip.OwnMultiLabel', 'images': self.images}
            dataset.update(labels=self.labels, **names, test_mode=True)
        elif kind == 'masks' and self.numbered and any(Path(self.labels).rglob('*.png')):
            prefix = {'img_path': self.images, 'seg_map_path': self.labels}
            dataset = {'type': 'mmtagclip.VocabularySegDataset', 'classes': Ref('classes')}
            dataset.update(img_suffix=None, data_prefix=prefix, test_mode=True)
        else:
            raise ValueError(
                f'{self.labels} holds no masks, which this method is measured with: give a folder '
                'with one index PNG per image'
                if kind == 'masks'
                else 'a method that is fitted needs a config of its own for own images; see '
                'configs/piaa/README.md'
            )
        names = {'classes': Ref('classes')}
        from ..clip import Vocabulary

        background = Vocabulary.load(BACKGROUND)
        others = background.without(Vocabulary.load(self.classes))
        rest = BACKGROUND if len(others) == len(background) else list(others.names)
        parts = {
            'TagCLIP': {**names, 'background': rest},
            'SegTextHead': {**names, 'background': ['background'], 'background_threshold': 0.1},
            'CLSSeg': {'background_prompts': rest},
            'ConceptSegmentor': {**names, 'background': ['background']},
            'LoadImage': {'on_error': 'skip'},
            'ResizeToPatchGrid': {'max_side': 1024},
        }
        return {'dataset': dataset, 'parts': parts}


class ConfigTable:
    """The table of a folder of configs.

    Args:
        configs: The folder; that of the package if None.
    """

    def __init__(self, configs: str | Path | None = None) -> None:
        self.configs = zoo_root() / 'configs' if configs is None else Path(configs)
        self.base = self.configs / '_base_'
        self._loaded: dict[Path, dict[str, Any]] = {}

    @cached_property
    def published(self) -> dict[str, dict[str, Any]]:
        """Content of each ``published.yml`` by its folder."""
        return {
            path.parent.name: mmengine.load(path)
            for path in sorted(self.configs.glob('*/published.yml'))
        }

    @cached_property
    def methods(self) -> dict[str, Method]:
        """All methods by name, variants included."""
        methods = {}
        for folder, table in self.published.items():
            for plain, rows in table['methods'].items():
                rows = {data: Row(**(row or {})) for data, row in rows.items()}
                for variant, name in {'': '{}', **table.get('variants', {})}.items():
                    name = name.format(plain)
                    methods[name] = Method(
                        name,
                        folder,
                        table['data'],
                        table.get('pipelines', {}).get(plain, table['pipeline']),
                        table['backbone'],
                        rows,
                        plain,
                        variant,
                    )
        return methods

    def title(self, data: str, name: str) -> str:
        """What a data set is called, by its folder and name."""
        return self._load(self.base / 'datasets' / data / f'{name}.py')['title']

    @cached_property
    def backbones(self) -> list[str]:
        """Names of all backbones."""
        return sorted(path.stem for path in (self.base / 'backbones').glob('*.py'))

    def backbones_of(self, method: Method) -> list[str]:
        """Names of the backbones that a method goes with: those with an encoder, if it has one."""
        encodes = bool(encoder_configs(self._model(method)))
        return [name for name in self.backbones if ('encoder' in self._tower(name)) == encodes]

    def datasets(self, method: str) -> list[str]:
        """Names of the data sets that a method goes with."""
        folder = self.base / 'datasets' / self.methods[method].data
        return sorted(path.stem for path in folder.glob('*.py'))

    def has_dataset(self, method: str, data: str) -> bool:
        """Whether a method goes with a data set of this name."""
        return method in self.methods and data in self.datasets(method)

    def cells(self, folder: str) -> Iterator[Cell]:
        """The published cells of a folder."""
        for method in self.methods.values():
            if method.folder != folder:
                continue
            for data, row in method.rows.items():
                if method.variant:
                    if method.variant in row.variants:
                        results = row.variants[method.variant] or {}
                        yield Cell(method, method.backbone, data, results)
                    continue
                yield Cell(method, method.backbone, data, row.results)
                for backbone, results in row.backbones.items():
                    yield Cell(method, backbone, data, results or {})

    def model(self, method: Method) -> dict[str, Any]:
        """The model of a method, without its variant, backbone and data set."""
        return self._load(self.base / 'methods' / f'{method.plain}.py')['model']

    def weights(self, cell: Cell) -> list[str]:
        """What the model of a cell downloads; see :func:`.model_zoo.needed_weights`."""
        model = self._model(cell.method)
        for encoder in encoder_configs(model):
            encoder.update(self._tower(cell.backbone)['encoder'])
        return needed_weights(model)

    def listing(self) -> str:
        """All names, as ``mmtagclip config`` prints them."""
        groups: dict[tuple[str, ...], list[str]] = {}
        for name in self.methods:
            groups.setdefault(tuple(self.datasets(name)), []).append(name)
        fitting: dict[tuple[str, ...], list[str]] = {}
        for name, method in self.methods.items():
            fitting.setdefault(tuple(self.backbones_of(method)), []).append(name)
        most, *fewer = sorted(fitting, key=len, reverse=True)
        lines = ['backbones: ' + ', '.join(most)]
        lines += [f'backbones of {", ".join(fitting[one])}: {", ".join(one)}' for one in fewer]
        for datasets, methods in groups.items():
            lines += ['', 'methods: ' + ', '.join(methods), '  data sets: ' + ', '.join(datasets)]
        return '\n'.join(lines)

    def find(self, method: str, backbone: str, data: str) -> tuple[Method, str, str]:
        """A cell by its names.

        Raises:
            ValueError: There is no such method, backbone or data set; near names are said.
        """
        found = self.methods[_known('method', method, self.methods)]
        _known(f'backbone of {method}', backbone, self.backbones_of(found))
        _known(f'data set of {method}', data, self.datasets(method))
        return found, backbone, data

    def text(
        self, method: str, backbone: str, data: str | OwnData, base: str | Path | None = None
    ) -> str:
        """The config of a cell.

        Args:
            method: Name of the method.
            backbone: Name of the backbone.
            data: Name of the data set, or the user's own.
            base: Folder from which the config shall find its bases, beside ``_base_``: paths are
                relative to it, or absolute if None.

        Raises:
            ValueError: See :meth:`find`.
        """
        own = data if isinstance(data, OwnData) else None
        if own is None:
            found, backbone, data = self.find(method, backbone, str(data))
        else:
            found = self.methods[_known('method', method, self.methods)]
            data = ''
            _known(f'backbone of {method}', backbone, self.backbones_of(found))
        row = found.rows.get(data, Row())
        names = (
            self._load(self.base / 'datasets' / found.data / f'{data}.py')
            if own is None
            else own.settings(found.data)
        )
        variant = self._load_variant(found.variant)
        plain = self.configs / found.folder
        plain = plain / f'{self.methods[found.plain].leaf(backbone, data)}.py'
        if variant and self._is_published(found, backbone, data):
            bases = [plain]
            whole = changes = variant
            row, lines, note = Row(), [], []
        else:
            bases = [
                self.base / 'methods' / f'{found.plain}.py',
                self.base / 'backbones' / f'{backbone}.py',
                self.base / 'datasets' / found.data / f'{data}.py',
                self.base / 'pipelines' / f'{found.pipeline}.py',
            ]
            if own is not None:  # the evaluator of masks is in their pipeline
                bases[2:3] = [self.base / 'evaluators/tags.py'] if found.data == 'tags' else []
            changes = _merge(row.model, variant)
            whole = _merge(self.model(found), changes)
            note = [f'# {row.note}'] if row.note else []
            lines = self._lines(found, names, row, own is not None)
        settings = self._settings(whole, backbone, names, row, changes, own is not None)
        model_text = _print('model', _merge(changes, settings))
        paths = [
            str(path) if base is None else Path(os.path.relpath(path, base)).as_posix()
            for path in bases
        ]
        if base is not None:
            paths = [path if path.startswith('.') else f'./{path}' for path in paths]
        head = _print('_base_', paths[0] if len(paths) == 1 else paths)
        command = f'config {method} {backbone} {data}' if own is None else own.command
        first = HEADER if base else f'# mmtagclip {command}'
        named = [] if own is None else [own.line()]
        return '\n'.join([first, head, *note, *named, model_text, *lines]) + '\n'

    def _is_published(self, method: Method, backbone: str, data: str) -> bool:
        row = method.rows.get(data)
        return row is not None and backbone in (method.backbone, *row.backbones)

    def _load(self, path: Path) -> dict[str, Any]:
        if path not in self._loaded:
            self._loaded[path] = Config.fromfile(path).to_dict()
        return self._loaded[path]

    def _tower(self, backbone: str) -> dict[str, Any]:
        """The settings of a backbone."""
        return self._load(self.base / 'backbones' / f'{backbone}.py')['backbone']

    def _model(self, method: Method) -> Config:
        """The model of a method, without what a backbone and a data set say of it."""
        model = self._load(self.base / 'methods' / f'{method.plain}.py')['model']
        return Config({'model': _merge(model, self._load_variant(method.variant))})

    def _load_variant(self, name: str) -> dict[str, Any]:
        return mmengine.load(self.base / 'variants.yml')[name] if name else {}

    def _settings(
        self,
        model: Mapping[str, Any],
        backbone: str,
        names: Mapping[str, Any],
        row: Row,
        changes: Mapping[str, Any],
        is_own: bool,
    ) -> dict[str, Any]:
        """What backbone, data set and row say of each part of a model.

        The settings of the user's own data are in no file that the config could refer to.
        """
        tower = self._tower(backbone)
        parts = names.get('parts', {})

        def of(part: Any, change: Any) -> dict[str, Any]:
            if not isinstance(part, Mapping):
                return {}
            change = change if isinstance(change, Mapping) else {}
            kind = str(part.get('type', '')).removeprefix('mmtagclip.')
            inner = {name: of(value, change.get(name)) for name, value in part.items()}
            settings = {
                **row.parts.get(kind, {}),
                **{key: one for key, one in inner.items() if one},
            }
            key = f'{kind}_{names.get("layers")}'
            key = 'encoder' if kind == ENCODER else key if key in tower else kind
            for where, source in (('parts', parts.get(kind)), ('backbone', tower.get(key))):
                if not source:
                    continue
                if set(source) & {*settings, *change} or (
                    is_own and where == 'parts'
                ):  # Python takes no keyword twice
                    settings = _merge(source, settings)
                else:
                    name = kind if where == 'parts' else key
                    settings = {f'**{where}': Ref(f'_base_.{where}.{name}'), **settings}
            return settings

        return of(model, changes)

    def _lines(self, method: Method, names: Mapping[str, Any], row: Row, is_own: bool) -> list[str]:
        """Pipelines that differ, and the data sets, which go with their pipelines."""
        pipelines = self._load(self.base / 'pipelines' / f'{method.pipeline}.py')
        lines = []
        pipeline = Ref('_base_.test_pipeline')
        for name in ('test_pipeline', 'tta_pipeline'):
            changes = []
            for path, step in _steps(pipelines.get(name, []), name):
                kind = step['type'].removeprefix('mmtagclip.')
                new = dict(names.get('parts', {}).get(kind, {}))
                if row.scale is not None and kind == 'Resize' and 'scale' in step:
                    new['scale'] = tuple(row.scale)
                changes += [
                    f'{path}.{key} = {_flat(value)}'
                    for key, value in new.items()
                    if step.get(key) != value
                ]
            if changes:
                lines += [f'{name} = _base_.{name}', *changes]
                if name == 'test_pipeline':
                    pipeline = Ref(name)
        for loader, key in (('train_dataloader', 'train_dataset'), ('test_dataloader', 'dataset')):
            if loader in pipelines:
                dataset = names[key] if is_own else {'**': Ref(f'_base_.{key}')}
                value = {**dataset, 'pipeline': pipeline}
                lines.append(_print(loader, {'dataset': value}))
        return lines


def _known(what: str, name: str, names: Any) -> str:
    if name in names:
        return name
    similar = get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f'; similar names: {", ".join(similar)}' if similar else ''
    raise ValueError(f"there is no {what} {name!r} (see 'mmtagclip config'){hint}")


def _merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """``new`` over ``old``, dicts key by key; ``_delete_`` as mmengine has it."""
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and '_delete_' not in value:
            merged[key] = _merge(before, value)
        else:
            merged[key] = value
    return merged


def _steps(pipeline: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All transforms of a pipeline, each with the expression that leads to it."""
    for number, step in enumerate(pipeline):
        here = f'{path}[{number}]'
        if isinstance(step, Mapping):
            yield here, dict(step)
            yield from _steps(step.get('transforms', []), f'{here}.transforms')
        else:
            yield from _steps(step, here)


def _print(name: str, value: Any, indent: int = 0, end: str = '') -> str:
    """An assignment or an argument as ruff formats it."""
    space = ' ' * indent
    start = f'{space}{_start(name, " = " if not indent else "=")}'
    line = f'{start}{_flat(value)}{end}'
    if len(line) <= WIDTH or not isinstance(value, Mapping | list | tuple):
        return line
    if isinstance(value, Mapping):
        opening, closing = 'dict(', ')'
        items = list(value.items())
    else:
        opening, closing = '[]' if isinstance(value, list) else '()'
        items = [('', one) for one in value]
    inside = ', '.join(f'{_start(key)}{_flat(one)}' for key, one in items)
    body = [f'{space}    {inside}']
    if len(body[0]) > WIDTH:
        body = [_print(key, one, indent + 4, ',') for key, one in items]
    return '\n'.join([f'{start}{opening}', *body, f'{space}{closing}{end}'])


def _start(key: str, sign: str = '=') -> str:
    return '**' if key.startswith('**') else f'{key}{sign}' if key else ''


def _flat(value: Any) -> str:
    if isinstance(value, Ref):
        return str(value)
    if isinstance(value, Mapping):
        if len(value) == 1 and next(iter(value)).startswith('**'):
            return _flat(*value.values())
        return f'dict({", ".join(f"{_start(key)}{_flat(one)}" for key, one in value.items())})'
    if isinstance(value, list):
        return f'[{", ".join(map(_flat, value))}]'
    if isinstance(value, tuple):
        return f'({", ".join(map(_flat, value))}{"," if len(value) == 1 else ""})'
    return repr(value)
