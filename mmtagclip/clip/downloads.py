"""Weights that are fetched from elsewhere: only if the user allowed it, else from this machine."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..files import user_path

WEIGHTS = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
TIMM_WEIGHTS = ('model.safetensors', 'pytorch_model.bin')


def cached(repository: str, names: Sequence[str] = WEIGHTS) -> Path | None:
    """The first of these files of a repository of the Hugging Face hub that is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def cached_tag(source: Mapping[str, Any]) -> Path | None:
    """The weights of one of open_clip's tags, if they are on this machine.

    Args:
        source: What open_clip says of the tag.
    """
    if source.get('hf_hub'):
        repository, _, name = source['hf_hub'].rpartition('/')
        names = (str(Path(name).with_suffix('.safetensors')), name) if name else WEIGHTS
        found = cached(repository, names)
        if found is not None:
            return found
    path = user_path('~/.cache/clip') / os.path.basename(source.get('url') or '')
    return path if path.is_file() else None


def cached_features(model: str) -> Path | None:
    """The weights of one of timm's models, if they are on this machine."""
    import timm

    known = timm.get_pretrained_cfg(model)
    hub = None if known is None else known.hf_hub_id
    return None if hub is None else cached(hub, TIMM_WEIGHTS)


def refused(weights: str) -> FileNotFoundError:
    """The error for weights that would have to be downloaded.

    Args:
        weights: Their name.
    """
    return FileNotFoundError(
        f'the weights of {weights} are not on this machine, and nothing is downloaded without '
        'asking: allow it with --download (in Python and in configs download=True), or give the '
        'file with --checkpoint (checkpoint=)'
    )


@contextmanager
def downloading(weights: str, repository: str | None = None) -> Iterator[None]:
    """Turn all that can go wrong with a download into one sentence, said once and soon.

    Args:
        weights: What is downloaded, for the message.
        repository: Of the Hugging Face hub, which would retry for a minute where there is no
            connection; here it is asked once before.

    Raises:
        FileNotFoundError: The download failed.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import HfHubHTTPError

    logger = logging.getLogger('huggingface_hub')
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        if repository:
            with suppress(HfHubHTTPError):  # which shows that there is a connection
                get_hf_file_metadata(hf_hub_url(repository, 'README.md'))
        yield
    except Exception as error:  # each library has its own, some of which are no OSError
        reason = ' '.join((str(error) or type(error).__name__).split())
        raise FileNotFoundError(
            f'Failed to download {weights} ({reason}): try again with a connection, or give the '
            'file with --checkpoint (checkpoint=)'
        ) from None
    finally:
        logger.setLevel(level)


def fetch_features(model: str) -> None:
    """Download the weights of one of timm's models.

    Raises:
        FileNotFoundError: The download failed.
    """
    import timm
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError

    known = timm.get_pretrained_cfg(model)
    if known is None or known.hf_hub_id is None:
        return  # timm says that there is no such model, or fetches the file itself
    with downloading(f'{model} (timm)', known.hf_hub_id):
        safe, other = TIMM_WEIGHTS
        try:
            hf_hub_download(known.hf_hub_id, safe)
        except EntryNotFoundError:
            hf_hub_download(known.hf_hub_id, other)


@contextmanager
def offline(weights: str, download: bool) -> Iterator[None]:
    """Let a library find only what is on this machine, unless downloads are allowed.

    Args:
        weights: What it looks for, for the message.
        download: Whether downloads are allowed.

    Raises:
        FileNotFoundError: It is not on this machine.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not download
    try:
        yield
    except OSError:
        if download:
            raise
        raise refused(weights) from None
    finally:
        constants.HF_HUB_OFFLINE = before


def missing_weights(model: Any) -> str | None:
    """What building a model would download, if that is allowed.

    Args:
        model: Its config.

    Returns:
        The name of the first weights; None if nothing would be downloaded.
    """
    return next((name for name, _ in _missing(model)), None)


def settle_downloads(model: Any, download: bool) -> None:
    """Allow the parts of a model to download their weights, or refuse, before anything is built.

    Args:
        model: Its config, which is changed if downloads are allowed.
        download: Whether they are allowed; else only for parts with ``download=True``.

    Raises:
        FileNotFoundError: Weights are not on this machine and may not be downloaded.
    """
    if download:
        for part in _parts_with_weights(model):
            part['download'] = True
    for name, part in _missing(model):
        if not part.get('download'):
            raise refused(name)


def _missing(model: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a model whose weights are not on this machine, with the weights' names."""
    from open_clip.pretrained import get_pretrained_cfg

    for part in _parts_with_weights(model):
        name, tag = part['model'], part.get('pretrained')
        if tag is True:
            if cached_features(name) is None:
                yield f'{name} (timm)', part
        elif name.startswith('hf-hub:'):
            if cached(name.removeprefix('hf-hub:')) is None:
                yield name, part
        else:
            source = get_pretrained_cfg(name, tag)
            if source and cached_tag(source) is None:  # building it says what else is wrong
                yield f'{name} ({tag})', part


def _parts_with_weights(part: Any) -> Iterator[Any]:
    """The parts of a config that name weights that are elsewhere."""
    if isinstance(part, Mapping):
        name, tag = part.get('model'), part.get('pretrained')
        if isinstance(name, str) and (name.startswith('hf-hub:') or isinstance(tag, str) or tag):
            yield part
        part = list(part.values())
    if isinstance(part, list | tuple):
        for one in part:
            yield from _parts_with_weights(one)
