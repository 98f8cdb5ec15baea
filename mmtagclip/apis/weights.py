"""Models that were trained: their checkpoints, and the classes that they know."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS
from mmengine.runner.checkpoint import load_from_local
from torch import nn

from ..clip.loading import load_weights
from ..engine.checkpoints import read_checkpoint
from ..files import user_path
from ..labels import labels_metainfo


def load_trained(model: nn.Module, weights: str | Path, trust: bool = False) -> dict[str, Any]:
    """Load a checkpoint that MMEngine saved into the model that was trained.

    Args:
        model: The model.
        weights: The checkpoint.
        trust: Whether it is unpickled, which runs what code it brings; otherwise only its
            weights, numbers and strings are read.

    Returns:
        What the checkpoint says of the data set: ``classes`` and ``palette``, if it says it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a web address, can not be read as data alone, or has the weights of
            another model.
    """
    if '://' in str(weights):
        raise ValueError(f'{weights} is a web address: download the checkpoint and give its path')
    path = user_path(weights)
    if trust and path.is_file():
        content = load_from_local(str(path), 'cpu')
    else:
        content = read_checkpoint(path)
    state = content.get('state_dict', content)
    if all(key.startswith('module.') for key in state):
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    load_weights(model, dict(state), path, type(model).__name__)
    meta = content.get('meta', {})
    # Releases before MMEngine wrote them in capitals.
    old = {key.lower(): meta[key] for key in ('CLASSES', 'PALETTE') if meta.get(key)}
    return dict(meta.get('dataset_meta') or old)


def class_meta(said: Mapping[str, Any] | None, config: Any, model: Any) -> dict[str, Any]:
    """The classes of a trained model, and the colours of its labels.

    Args:
        said: What its checkpoint or the model itself says: ``classes`` and ``palette``.
        config: Its config, whose data sets count if nothing else is said.
        model: The model.

    Raises:
        ValueError: The classes are not known, or are not as many as the model's outputs.
    """
    name = type(model).__name__
    meta = next((one for one in (said, *_metas(config)) if one and one.get('classes')), None)
    if meta is None:
        raise ValueError(
            f'neither the checkpoint nor the config of this {name} names its classes: set them, '
            "as in test_dataloader.dataset.metainfo=dict(classes=['dog', 'cat']) in the config, or "
            'as dataset_meta of the built model'
        )
    classes = tuple(map(str, meta['classes']))
    outputs = getattr(getattr(model, 'head', model), 'num_classes', None)
    if outputs is not None and outputs != len(classes):
        raise ValueError(
            f'this {name} has {outputs} outputs, but its {len(classes)} classes are '
            f'{", ".join(classes[:5])}...: give the checkpoint and the config of one training'
        )
    first = int(classes[0] == 'background')
    palette = meta.get('palette') or labels_metainfo(classes[first:], bool(first))['palette']
    return {'classes': classes, 'palette': palette}


def _metas(config: Any) -> Iterator[Mapping[str, Any]]:
    """What the data sets of a config say, those for tests first."""
    for loader in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        dataset = (config.get(loader) or {}).get('dataset')
        while isinstance(dataset, Mapping):
            yield dataset.get('metainfo') or {}
            kind = dataset.get('type')
            kind = DATASETS.get(kind) if isinstance(kind, str) else kind
            yield getattr(kind, 'METAINFO', {})
            dataset = dataset.get('dataset')
