"""Weights that are fetched from elsewhere: only if the user allowed it, else from this machine."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..files import user_path

WEIGHTS = ('open_clip_model.safetensors', 'open_clip_pytorch_model.bin')
GIVE_WEIGHTS = 'give the file with --checkpoint (checkpoint=)'
GIVE_FOLDER = 'name the folder of its files as local-dir:PATH'
TIMM = 'timm'
TIMM_WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
# Where Hugging Face's cache has the weights that the bundled configs name. The catalogues of
# open_clip and timm say so, too, but they import torch; a test compares.
REPOSITORIES = {
    'ViT-B-16-quickgelu (openai)': 'timm/vit_base_patch16_clip_224.openai',
    'ViT-L-14-quickgelu (openai)': 'timm/vit_large_patch14_clip_224.openai',
    'ViT-H-14-worldwide-quickgelu (metaclip2_worldwide)': (
        'timm/vit_huge_patch14_clip_224.metaclip2_worldwide'
    ),
    'ViT-B-16-quickgelu (metaclip_fullcc)': 'timm/vit_base_patch16_clip_224.metaclip_2pt5b',
    'ViT-B-16 (laion2b_s34b_b88k)': 'laion/CLIP-ViT-B-16-laion2B-s34B-b88K',
    'ViT-B-16-quickgelu (dfn2b)': 'apple/DFN2B-CLIP-ViT-B-16',
    'EVA02-B-16 (merged2b_s8b_b131k)': 'timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k',
    'ViT-B-16-SigLIP2 (webli)': 'timm/ViT-B-16-SigLIP2',
    'ViT-SO400M-16-SigLIP2-384 (webli)': 'timm/ViT-SO400M-16-SigLIP2-384',
    'PE-Core-B-16 (meta)': 'timm/PE-Core-B-16',
    'PE-Core-L-14-336 (meta)': 'timm/PE-Core-L-14-336',
    'MobileCLIP2-B (dfndr2b)': 'timm/MobileCLIP2-B-OpenCLIP',
    'MobileCLIP2-S0 (dfndr2b)': 'timm/MobileCLIP2-S0-OpenCLIP',
    'convnext_large_d_320 (laion2b_s29b_b131k_ft_soup)': (
        'laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup'
    ),
    'vit_base_patch16_224.dino (timm)': 'timm/vit_base_patch16_224.dino',
    'vit_base_patch8_224.dino (timm)': 'timm/vit_base_patch8_224.dino',
    'vit_small_patch16_224.dino (timm)': 'timm/vit_small_patch16_224.dino',
    'vit_large_patch16_radio_v3.c_radio (timm)': 'timm/vit_large_patch16_radio_v3.c_radio',
}
# Repositories of the Hugging Face hub whose files are given only to those who accepted a licence,
# with the page where that is done.
GATED = {'facebook/sam3': "Meta's SAM License at https://huggingface.co/facebook/sam3"}

# Weights that their publisher has on a server of its own. The file's name ends with the first
# digits of its SHA-256.
FILES = {
    f'{model} (sa1b)': f'https://dl.fbaipublicfiles.com/segment_anything/{model}_{digits}.pth'
    for model, digits in (
        ('sam_vit_b', '01ec64'),
        ('sam_vit_l', '0b3195'),
        ('sam_vit_h', '4b8939'),
    )
}


def cached(repository: str, names: Sequence[str] = WEIGHTS) -> Path | None:
    """The first of these files of a repository of the Hugging Face hub that is on this machine."""
    from huggingface_hub import constants

    # The rest of the library takes a third of a second to import.
    if not Path(constants.HF_HUB_CACHE, f'models--{repository.replace("/", "--")}').is_dir():
        return None
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
        return cached(repository, names)
    path = user_path('~/.cache/clip') / os.path.basename(source.get('url') or '')
    return path if path.is_file() else None


def file_path(weights: str) -> Path:
    """Where a file of :data:`FILES` is on this machine once it was downloaded: torch's cache."""
    root = user_path(os.environ.get('TORCH_HOME', '~/.cache/torch'))
    return root / 'hub' / 'checkpoints' / FILES[weights].rpartition('/')[2]


def timm_repository(model: str) -> str | None:
    """The repository of one of timm's models; None if it has none."""
    if f'{model} ({TIMM})' in REPOSITORIES:
        return REPOSITORIES[f'{model} ({TIMM})']
    import timm

    known = timm.get_pretrained_cfg(model)
    return None if known is None else known.hf_hub_id


def on_this_machine(weights: str) -> bool:
    """Whether weights are in the cache of open_clip or timm.

    Those of the bundled configs are found without importing either. Of unknown names nothing is
    missing here: building the model says what is wrong.

    Args:
        weights: A name of :func:`needed_weights`.
    """
    if weights.startswith('hf-hub:'):
        return cached(weights.removeprefix('hf-hub:'), (*WEIGHTS, *TIMM_WEIGHTS)) is not None
    if weights in FILES:
        return file_path(weights).is_file()
    model, _, tag = weights.removesuffix(')').rpartition(' (')
    if tag == TIMM:
        repository = timm_repository(model)
        return repository is not None and cached(repository, TIMM_WEIGHTS) is not None
    if weights in REPOSITORIES:
        return cached(REPOSITORIES[weights]) is not None
    from open_clip.pretrained import get_pretrained_cfg

    source = get_pretrained_cfg(model, tag)
    return not source or cached_tag(source) is not None


def needed_weights(model: Any) -> dict[str, Any]:
    """The weights that building a model downloads unless they are on this machine.

    Args:
        model: Its config.

    Returns:
        The part of the config by the name of its weights, such as
        ``'ViT-B-16-quickgelu (openai)'``, ``'hf-hub:ORG/REPO'`` and
        ``'vit_base_patch8_224.dino (timm)'``. Of parts with the same weights, one that may not
        download them.
    """
    needed: dict[str, Any] = {}
    for part in _parts_with_weights(model):
        name, tag = part['model'], part.get('pretrained')
        if not name.startswith('hf-hub:'):
            name = f'{name} ({TIMM if tag is True else tag})'
        if not (name in needed and part.get('download')):
            needed[name] = part
    return needed


def refused(missing: str, instead: str = GIVE_WEIGHTS) -> FileNotFoundError:
    """The error for what would have to be downloaded.

    Args:
        missing: What is missing: ``'the weights of ...'``.
        instead: What to do where there is no connection, as an imperative.
    """
    return FileNotFoundError(
        f'{missing} are not on this machine, and nothing is downloaded without asking: allow it '
        f'with --download (in Python and in configs download=True), or {instead}'
    )


def refused_weights(weights: str) -> FileNotFoundError:
    """The same for weights.

    Args:
        weights: A name of :func:`needed_weights`.
    """
    hub, _, repository = weights.partition('hf-hub:')
    instead = GIVE_WEIGHTS if hub else f'{GIVE_FOLDER}{terms(repository)}'
    return refused(f'the weights of {weights}', instead)


def terms(repository: str) -> str:
    """What a user of a gated repository must do first, to follow a sentence; else empty.

    Args:
        repository: Of the Hugging Face hub.
    """
    if repository not in GATED:
        return ''
    return f"; the hub asks you to accept {GATED[repository]} and to log in with 'hf auth login'"


@contextmanager
def downloading(
    what: str, repository: str | None = None, instead: str = GIVE_WEIGHTS
) -> Iterator[None]:
    """Turn all that can go wrong with a download into one sentence, said once and soon.

    Args:
        what: What is downloaded, for the message.
        repository: Of the Hugging Face hub, which would retry for a minute where there is no
            connection; here it is asked once before.
        instead: What to do instead, for the message; see :func:`refused`.

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
            f'Failed to download {what} ({reason}): try again with a connection, or {instead}'
        ) from None
    finally:
        logger.setLevel(level)


def fetch_features(model: str, download: bool) -> None:
    """Download the weights of one of timm's models, if they are not on this machine.

    Args:
        model: Its name. timm itself refuses names that it does not know.
        download: Whether that is allowed.

    Raises:
        FileNotFoundError: It is not allowed, or it failed.
    """
    name = f'{model} ({TIMM})'
    if on_this_machine(name):
        return
    if not download:
        raise refused_weights(name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError

    repository = timm_repository(model)
    if repository is None:  # timm has another address
        return
    with downloading(name, repository):
        try:
            hf_hub_download(repository, TIMM_WEIGHTS[0])
        except EntryNotFoundError:
            hf_hub_download(repository, TIMM_WEIGHTS[1])


def fetch_file(weights: str, download: bool) -> Path:
    """The path of a file of :data:`FILES`, which is downloaded if it is not on this machine.

    Args:
        weights: Its name.
        download: Whether that is allowed.

    Raises:
        FileNotFoundError: It is not allowed, or it failed.
    """
    path = file_path(weights)
    if path.is_file():
        return path
    if not download:
        raise refused_weights(weights)
    from torch.hub import download_url_to_file

    with downloading(weights):
        path.parent.mkdir(parents=True, exist_ok=True)
        digits = path.stem.rpartition('_')[2]
        download_url_to_file(FILES[weights], str(path), hash_prefix=digits)
    return path


@contextmanager
def offline(missing: str, download: bool, instead: str = GIVE_WEIGHTS) -> Iterator[None]:
    """Let a library find only what is on this machine, unless downloads are allowed.

    Args:
        missing: What it looks for, for the message; see :func:`refused`.
        download: Whether downloads are allowed.
        instead: The same.

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
        raise refused(missing, instead) from None
    finally:
        constants.HF_HUB_OFFLINE = before


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
    for name, part in needed_weights(model).items():
        if not part.get('download') and not on_this_machine(name):
            raise refused_weights(name)


def _parts_with_weights(part: Any) -> Iterator[Any]:
    """The parts of a config that name weights that are elsewhere."""
    if isinstance(part, Mapping):
        name, tag = part.get('model'), part.get('pretrained')
        if isinstance(name, str) and (name.startswith('hf-hub:') or tag):
            # A file makes a gated repository superfluous: nothing else is read of it.
            given = name.removeprefix('hf-hub:') in GATED and part.get('checkpoint') is not None
            yield from () if given else (part,)
        part = list(part.values())
    if isinstance(part, list | tuple):
        for one in part:
            yield from _parts_with_weights(one)
