"""The bundled configs: found by name, and what their weights need."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ..clip import downloads
from ..files import user_path

# Modules that import torch are imported where they are needed: a wrong name is refused quickly.
if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict

PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class ModelEntry:
    """A bundled model.

    Attributes:
        name: Its name, that of its config.
        config: Path of the config.
        task: ``'tag'``, ``'segment'`` or ``'train'``.
        weights: What it downloads; see :func:`needed_weights`. Empty if all is bundled.
        results: Lines such as ``'VOC2007: mAP (paper) 92.8'``.
    """

    name: str
    config: Path
    task: str
    weights: tuple[str, ...] = ()
    results: tuple[str, ...] = ()


def zoo_root() -> Path:
    """Folder that holds ``model-index.yml``, ``configs`` and ``demo``.

    It is ``mmtagclip/.mim`` of an installed package, and the repository of one
    that is used in place.

    Raises:
        FileNotFoundError: Neither is there.
    """
    for root in (PACKAGE / '.mim', PACKAGE.parent):
        if (root / 'model-index.yml').is_file():
            return root
    raise FileNotFoundError(f'{PACKAGE} has no configs; install mmtagclip again')


def list_models() -> list[ModelEntry]:
    """All bundled models, folder by folder."""
    return list(_entries(zoo_root()))


@cache
def _entries(root: Path) -> tuple[ModelEntry, ...]:
    """The models of a folder; its files are read once, since a command looks up several things."""
    entries = []
    for metafile in _yaml(root / 'model-index.yml')['Import']:
        for model in _yaml(root / metafile)['Models']:
            results = tuple(
                f'{result["Dataset"]}: '
                + ', '.join(f'{key} {value}' for key, value in result['Metrics'].items())
                for result in model.get('Results', ())
            )
            facts = model['Metadata']
            entries.append(
                ModelEntry(
                    model['Name'],
                    root / model['Config'],
                    facts['Command'],
                    tuple(facts.get('Weights', ())),
                    results,
                )
            )
    return tuple(entries)


def _yaml(path: Path) -> Any:
    loader = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
    return yaml.load(path.read_text(encoding='utf-8'), loader)


def find_config(model: str | Path) -> Path:
    """Path of a config.

    Args:
        model: A path, or the name of a bundled model.

    Raises:
        FileNotFoundError: Neither; the message names similar models.
    """
    path = user_path(model)
    if path.is_file():
        return path
    configs = {entry.name: entry.config for entry in list_models()}
    name = str(model).removesuffix('.py')
    if name in configs:
        return configs[name]
    similar = get_close_matches(name, configs, n=3, cutoff=0.4)
    hint = f'; similar names: {", ".join(similar)}' if similar else ''
    raise FileNotFoundError(
        f'{str(model)!r} is neither a config file nor a bundled model '
        f"(see 'mmtagclip models'){hint}"
    )


def task_of(model: str | Path) -> str | None:
    """What a bundled model is for, as ``mmtagclip models`` lists it; None for another config."""
    path = find_config(model)
    return next((entry.task for entry in list_models() if entry.config == path), None)


def load_config(
    model: 'str | Path | Mapping[str, Any] | Config',
    options: Mapping[str, Any] | None = None,
    encoder: str | None = None,
) -> 'Config':
    """Read a config.

    Args:
        model: A path, the name of a bundled model, a config, or a dict with
            the key ``model``.
        options: Overrides, ``{'model.encoder.checkpoint': 'ViT-B-16.pt'}``.
        encoder: Another encoder, see :func:`set_encoder`.

    Raises:
        FileNotFoundError: See :func:`find_config`.
        TypeError: ``model`` is of none of these kinds.
        ValueError: The file is no config, or it has no ``model``.
    """
    from mmengine.config import Config, ConfigDict

    if isinstance(model, str | Path):
        path = find_config(model)
        try:
            config = Config.fromfile(path)
        except (OSError, SyntaxError) as error:
            raise ValueError(f'{path} is no config: {error}') from None
    elif isinstance(model, Config):
        config = model.copy()
    elif isinstance(model, Mapping):
        config = Config(ConfigDict(model).to_dict())
    else:
        raise TypeError(
            'model is the path or name of a config, a config or a model, not '
            f'{type(model).__name__}'
        )
    if encoder is not None and 'model' in config:
        set_encoder(config, encoder)
    if options:
        config.merge_from_dict(dict(options))
    if 'model' not in config:
        raise ValueError("the config has no key 'model', so it describes no model")
    _check_part('model', config.model)
    return config


def _check_part(key: str, part: Any) -> None:
    """Refuse a model, tagger or encoder that is no dict, such as of an option ``model.encoder=3``.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(part, Mapping):
        raise ValueError(f'{key} must be a dict, not {part!r}')
    for name in ('encoder', 'tagger'):
        if part.get(name) is not None:
            _check_part(f'{key}.{name}', part[name])


# Settings that belong to one model, or to one depth, by the name of their part; the encoder's too.
OF_ONE_MODEL = {
    'CLIPEncoder': ('pretrained', 'checkpoint', 'quick_gelu', 'mean', 'std', 'tokenizer', 'tower'),
    'DMAR': ('layers', 'votes'),
    'AffinityRefinement': ('layers',),
    'ITACLIPLastBlock': ('layers',),
    'SCCLIPLastBlock': (
        'similarity_layer',
        'output_layer',
        'fusion_layers',
        'class_token_weight',
    ),
    'CLIPDataPreprocessor': ('mean', 'std'),
}


def set_encoder(config: 'Config', encoder: str) -> None:
    """Put another encoder into a config, in all places; layers then follow from its depth.

    A convolutional encoder has no attention, so DMAR is left out.

    Args:
        config: Is changed.
        encoder: ``NAME:TAG`` of open_clip, such as ``'ViT-B-16-SigLIP2:webli'``, ``NAME`` if it
            has one tag, or if the weights come from a file, ``local-dir:PATH``,
            ``hf-hub:ORG/REPO``, or a name of :data:`mmtagclip.clip.published.PUBLISHED`.

    Raises:
        ValueError: open_clip has no such model or tag, the model is unsupported, or the config
            has no encoder.
    """
    import open_clip

    from ..clip.loading import check_vision_config, get_architecture
    from ..clip.published import PUBLISHED

    settings: dict[str, Any] = {'model': encoder}
    convolutional = False
    if not (encoder in PUBLISHED or encoder.startswith(('local-dir:', 'hf-hub:'))):
        name, _, tag = encoder.partition(':')
        family = check_vision_config(get_architecture(name), name)
        convolutional = getattr(family, 'num_blocks', None) == 0
        tags = open_clip.list_pretrained_tags_by_model(name)
        if tag and tag not in tags:
            raise ValueError(f'{name} has no weights {tag!r}: choose {", ".join(tags) or "a file"}')
        settings['model'] = name
        if tag or len(tags) == 1:
            settings['pretrained'] = tag or tags[0]
    encoders = encoder_configs(config)
    if not encoders:
        raise ValueError('--encoder takes the place of an encoder; this model has none')

    def strip(part: Any) -> None:
        if not isinstance(part, dict):
            return
        kind = str(part.get('type', '')).removeprefix('mmtagclip.')
        for key in OF_ONE_MODEL.get(kind, ()):
            part.pop(key, None)
        if convolutional:
            part.pop('dmar', None)
        for value in part.values():
            strip(value)

    strip(config.model)
    for one in encoders:
        one.update(settings)


def encoder_configs(config: 'Config') -> 'list[ConfigDict]':
    """The parts of a config that describe encoders: the model's own, its tagger's, or both."""
    parts = (config.model, config.model.get('tagger'))
    return [part.encoder for part in parts if part is not None and 'encoder' in part]


def needed_weights(config: 'Config') -> list[str]:
    """Names of the weights that building a model downloads unless they are on this machine.

    Args:
        config: Of the model.

    Returns:
        Such as ``'ViT-B-16-quickgelu (openai)'``, ``'hf-hub:ORG/REPO'`` and
        ``'vit_base_patch8_224.dino (timm)'``, each once.
    """
    return list(downloads.needed_weights(config.model))
