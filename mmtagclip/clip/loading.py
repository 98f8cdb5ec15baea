"""Load a CLIP model of open_clip, with its tokenizer, from a name, a file or an object."""

import hashlib
import json
import pickle
import struct
import tarfile
import types
import zipfile
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip import hf_model
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.convert import convert_state_dict
from open_clip.hf_model import HFTextEncoder
from open_clip.model import CLIPTextCfg, convert_to_custom_text_state_dict
from open_clip.pretrained import (
    download_pretrained,
    download_pretrained_from_hf,
    get_pretrained_cfg,
)
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer
from open_clip.tokenizer import _tokenizer as DEFAULT_TOKENIZER
from open_clip.transformer import QuickGELU
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..extras import require
from ..files import user_path
from ..records import parse_json
from .building import Unfilled
from .downloads import (
    GIVE_FOLDER,
    WEIGHTS,
    cached,
    cached_tag,
    downloading,
    offline,
    refused_weights,
)
from .published import PUBLISHED, SentencePieceTokenizer
from .tokenizer import FILE, SETTINGS, FileTokenizer, find_tokenizer
from .torch_file import plain, read_torch_zip
from .towers import Tower, check_tower

# File names of the architecture and the weights in open_clip's layout, the safest first.
FOLDER_CONFIG = 'open_clip_config.json'
FOLDER_WEIGHTS = (
    'open_clip_model.safetensors',
    'model.safetensors',
    'open_clip_pytorch_model.bin',
    'pytorch_model.bin',
)
# Of the files of a folder that are weights, if a publisher spreads them over several.
WEIGHT_SUFFIXES = ('.safetensors', '.pth', '.pt', '.bin', '.npz')
# Entries of OpenAI's archives and state dicts that are not weights.
OPENAI_KEYS = ('input_resolution', 'context_length', 'vocab_size')
# Tensors in them, and in old text towers, that a model creates itself.
MADE_BY_MODEL = ('attn_mask', 'position_ids')
# Tokenizer options that an architecture may set. Others would reach transformers' own loader.
TOKENIZER_OPTIONS = {
    'additional_special_tokens',
    'clean',
    'language',
    'reduction_mask',
    'strip_sep_token',
}

# Errors of the readers of files that are damaged or of another kind.
DAMAGE = (
    SafetensorError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError, TypeError, LookupError,
    AttributeError, OverflowError, struct.error,
)  # fmt: skip

# Errors of open_clip for options of an architecture that do not fit.
UNBUILDABLE = (
    TypeError, ValueError, RuntimeError, AttributeError, ArithmeticError, AssertionError,
)  # fmt: skip

# Normalisation of OpenAI's models, and of open_clip's if nothing else is said.
OPENAI_PREPROCESS = {'mean': OPENAI_DATASET_MEAN, 'std': OPENAI_DATASET_STD}
# Attributes of modules that training or the form of an output sets, and that change no feature.
NO_ARCHITECTURE = {'training', 'grad_checkpointing', 'gradient_checkpointing', 'output_dict'}


@dataclass(frozen=True)
class LoadedCLIP:
    """A CLIP model in evaluation mode, without gradients, and its tokenizer.

    Attributes:
        model: The open_clip model, float32.
        tokenizer: Callable ``(list[str], context_length=int) -> (n, length)`` of
            token ids.
        name: The user's name for the model; for messages.
        mean, std: Normalisation of the images that the model was trained with, for RGB values in
            [0, 1]; None if it is not known.
    """

    model: nn.Module
    tokenizer: Callable[..., Tensor]
    name: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def load_clip(
    model: str | Mapping[str, Any] | nn.Module,
    pretrained: str | None = None,
    checkpoint: str | Path | None = None,
    quick_gelu: bool | None = None,
    tokenizer: Callable[..., Tensor] | str | Path | None = None,
    download: bool = False,
) -> LoadedCLIP:
    """Load a frozen CLIP whose image tower is of a supported family.

    Args:
        model: An open_clip architecture name (``'ViT-B-16-quickgelu'``), a folder
            in open_clip's layout with its weights (``'local-dir:PATH'``), a
            repository of the Hugging Face hub (``'hf-hub:ORG/REPO'``), an
            architecture as a dict (``embed_dim``, ``vision_cfg``, ``text_cfg``,
            optionally ``quick_gelu``), an open_clip model that is already
            built, or a name of :data:`mmtagclip.clip.published.PUBLISHED`
            (``'TIPSv2-B-14'``) with its publisher's files.
        pretrained: A tag of open_clip (``'openai'``).
        checkpoint: A file of weights: OpenAI's TorchScript archive, a state
            dict (``.pt``; bare or under ``'state_dict'``, with or without
            ``module.`` prefixes) or ``.safetensors``. For a published model also
            the folder of its files.
        quick_gelu: Whether the weights in ``checkpoint`` were trained with
            QuickGELU. Not needed if the file shows that it is OpenAI's, or if
            ``model`` says it (a name that ends in ``-quickgelu``, or a dict with
            the key ``quick_gelu``).
        tokenizer: The function that turns texts into token ids, or the path of a
            ``tokenizer.json`` of Hugging Face or its folder. Default: the architecture's
            tokenizer, searched beside the weights and in the cache of the Hugging Face hub,
            or CLIP's if the architecture names none. CLIP's is refused for a text tower with
            another vocabulary.
        download: Whether what a tag or a hub repository names may be downloaded if it
            is not on this machine; the same for a text tower's tokenizer.

    Raises:
        FileNotFoundError: There is no such file, folder or repository, or it would have
            to be downloaded.
        ImportError: The text tower is one of Hugging Face and transformers is
            not installed.
        TypeError: ``model`` is none of these kinds.
        ValueError: The name or tag is unknown, the weights are for another
            architecture, the file is damaged or unsafe, the activation is unknown
            or wrong, the image tower is unsupported, or the tokenizer is unknown or would run
            code.
    """
    if isinstance(model, str) and model in PUBLISHED:
        return _load_published(model, pretrained, checkpoint, tokenizer)
    if isinstance(model, nn.Module):
        if pretrained is not None or checkpoint is not None:
            raise ValueError('leave out pretrained and checkpoint for an already built model')
        name, clip = type(model).__name__, deepcopy(model)  # does not change the caller's model
        visual = getattr(clip, 'visual', None)
        check_tower(visual, name)
        text: Mapping[str, Any] = {}
        places: tuple[Path | None, ...] = ()
        preprocess = getattr(visual, 'preprocess_cfg', None) or _usual_preprocess(clip)
    elif isinstance(model, str | Mapping):
        source = _source(model, pretrained, checkpoint, quick_gelu, download)
        name, (clip, preprocess) = source.name, _build(source, download)
        text, places = source.config['text_cfg'], (source.folder,)
    else:
        raise TypeError(
            f'model must be a name, a dict or an open_clip model, not {type(model).__name__}'
        )
    if tokenizer is None or isinstance(tokenizer, str | Path):
        tokenizer = _tokenizer(text, clip, name, places, tokenizer, download)
    clip = clip.float().eval().requires_grad_(False)
    mean, std = (preprocess.get(key) for key in ('mean', 'std'))
    return LoadedCLIP(
        clip,
        tokenizer,
        name,
        None if mean is None else tuple(mean),
        None if std is None else tuple(std),
    )


def _load_published(
    model: str,
    pretrained: str | None,
    checkpoint: str | Path | None,
    tokenizer: Callable[..., Tensor] | str | Path | None,
) -> LoadedCLIP:
    """Load a model of :data:`PUBLISHED`; see :func:`load_clip`."""
    source = PUBLISHED[model]
    where = f'give the folder of its files with --checkpoint (checkpoint=): {source.files}'
    if pretrained is not None:
        raise ValueError(f'{model} has no tag of weights, such as {pretrained!r}: {where}')
    if checkpoint is None:
        raise ValueError(f'the weights of {model} are not given: {where}')
    path = user_path(str(checkpoint))
    if not path.exists():
        raise FileNotFoundError(f'no checkpoint at {path}: {where}')
    folder = path if path.is_dir() else path.parent
    state = _read_folder(path, where) if path.is_dir() else read_state_dict(path)[0]
    name = f'{model} ({checkpoint})'
    with Unfilled():
        clip = source.build()
    load_weights(clip, source.convert(state, clip, path), path, name)
    if source.sentencepiece and (tokenizer is None or isinstance(tokenizer, str | Path)):
        place = folder if tokenizer is None else tokenizer
        tokenizer = SentencePieceTokenizer(place, clip.vocab_size, clip.context_length)
    elif tokenizer is None or isinstance(tokenizer, str | Path):
        tokenizer = _tokenizer({}, clip, name, (), tokenizer, False)
    clip = clip.eval().requires_grad_(False)
    return LoadedCLIP(clip, tokenizer, name, source.mean, source.std)


def _read_folder(folder: Path, where: str) -> dict[str, Tensor]:
    """Read all files of weights of a folder; see :func:`read_state_dict`."""
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    if not files:
        raise FileNotFoundError(f'no weights in {folder}: {where}')
    merged: dict[str, Tensor] = {}
    for path in files:
        state, _ = read_state_dict(path)
        twice = merged.keys() & state.keys()
        if twice:
            raise ValueError(
                f'{path} repeats {min(twice)} of another file in its folder: leave only the '
                'files of one model there'
            )
        merged.update(state)
    return merged


def check_vision_config(config: Mapping[str, Any], name: str) -> type[Tower]:
    """Refuse an unsupported architecture before its weights are downloaded or read.

    Builds the image tower on the meta device, without memory, and checks it with
    :func:`mmtagclip.clip.towers.check_tower`.

    Returns:
        The family of the image tower.

    Raises:
        ImportError: The text tower needs transformers, which is not installed.
        ValueError: ``config`` is not an architecture, or a tower is unsupported; the
            message names it and says why.
    """
    missing = {'embed_dim', 'vision_cfg', 'text_cfg'} - config.keys()
    if missing:
        raise ValueError(f'the architecture {name} lacks {", ".join(sorted(missing))}')
    for key in ('vision_cfg', 'text_cfg'):
        if not isinstance(config[key], Mapping):
            raise ValueError(f'{key} of {name} must be a dict, not {config[key]!r}')
    if 'multimodal_cfg' in config:
        raise ValueError(f'{name} is a CoCa, which is unsupported; use a CLIP such as ViT-B-16')
    trunk = str(config['vision_cfg'].get('timm_model_name') or '')
    if ':' in trunk or '/' in trunk:  # timm would fetch its architecture at once
        raise ValueError(
            f"the image tower of {name} is timm's {trunk}, which is fetched from elsewhere; only "
            'towers that timm has itself are supported'
        )
    # timm would download the weights that it knows.
    vision = {**config['vision_cfg'], 'timm_model_pretrained': False}
    smallest = {'context_length': 1, 'vocab_size': 1, 'width': 1, 'heads': 1, 'layers': 1}
    try:
        with torch.device('meta'):
            clip = open_clip.CLIP(config['embed_dim'], vision, smallest)
    except UNBUILDABLE as error:
        raise ValueError(f"the image tower of {name} can't be built: {error}") from None
    family = check_tower(clip.visual, name)
    _check_text_config(config['text_cfg'], name)
    return family


def _check_text_config(text: Mapping[str, Any], name: str) -> None:
    """Refuse a text tower or tokenizer that can't be built or that asks to run its own code."""
    options = text.get('tokenizer_kwargs') or {}
    if not isinstance(options, Mapping):
        raise ValueError(f'tokenizer_kwargs of {name} must be a dict, not {options!r}')
    if 'trust_remote_code' in {*text, *options}:
        raise ValueError(
            f'{name} sets trust_remote_code, which would run code from its repository and is '
            'refused; remove it from text_cfg'
        )
    unknown = sorted(
        text.keys() - CLIPTextCfg.__dataclass_fields__.keys() | options.keys() - TOKENIZER_OPTIONS
    )
    if unknown:
        raise ValueError(
            f'text_cfg of {name} has unknown options: {", ".join(unknown)}; remove them'
        )
    # open_clip looks for transformers only once, when open_clip is imported.
    if text.get('hf_model_name') and hf_model.transformers is None:
        raise ImportError(f'the text tower of {name} needs transformers: pip install transformers')
    if text.get('hf_tokenizer_name'):
        require('tokenizers', 'text', f'the tokenizer of {name}')


def context_length(clip: Any) -> int:
    """Return the number of tokens that a text is cut or padded to, with start and end."""
    if isinstance(getattr(clip, 'text', None), HFTextEncoder):
        # Such a tower states its upper limit; open_clip trains and tokenises with fewer.
        return DEFAULT_CONTEXT_LENGTH
    length = getattr(clip, 'context_length', None)
    return int(length if length is not None else clip.text.context_length)


def read_state_dict(path: str | Path, strict: bool = True) -> tuple[dict[str, Tensor], bool]:
    """Read the weights in a file without running code from it.

    Args:
        path: ``.safetensors``, ``.npz``, a TorchScript archive (only its tensors are
            read), or a file of ``torch.save`` that contains only tensors and plain
            containers.
        strict: Whether objects of classes, such as mmengine saves beside the weights, are
            refused. If False, they are left out; they are never made.

    Returns:
        The state dict without ``module.`` prefixes, and whether the file shows that
        it is OpenAI's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, contains pickled objects or contains no weights.
    """
    path = user_path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    try:
        content = _read_file(path, strict)
    except pickle.UnpicklingError:
        raise ValueError(
            f'{path} is damaged or contains pickled Python objects, which could run '
            'code and are refused; save its weights as .safetensors'
        ) from None
    except DAMAGE as error:
        raise ValueError(f'{path} is not a complete checkpoint file: {error}') from None
    # The second in Meta's files, the third in CLIP-DINOiser's.
    for key in ('state_dict', 'model', 'model_state_dict'):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
        or not all(isinstance(key, str) for key in content)
    ):
        raise ValueError(f'{path} contains no state dict of weights')
    state = dict(content)
    if all(key.startswith('module.') for key in state):
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    from_openai = any(key in state for key in OPENAI_KEYS)
    return {
        key: value
        for key, value in state.items()
        if key not in OPENAI_KEYS and key.rpartition('.')[2] not in MADE_BY_MODEL
    }, from_openai


def _read_file(path: Path, strict: bool) -> Any:
    """Read the content of a checkpoint file."""
    if path.suffix == '.safetensors':
        return load_file(path)
    if path.suffix == '.npz':
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays}
    with path.open('rb') as file:
        start = file.read(4)
    if zipfile.is_zipfile(path) or start == b'PK\x03\x04':
        content = read_torch_zip(path, strict=strict)
        return content if strict else plain(content)
    if tarfile.is_tarfile(path):
        raise ValueError('it is a tar archive, as PyTorch wrote before 2018')
    if not start.startswith(pickle.PROTO):  # such as a web page's text
        raise ValueError('it is no file of torch.save')
    return torch.load(path, map_location='cpu', weights_only=True)


def weights_digest(module_or_state: nn.Module | Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of the names, shapes, dtypes and values of all weights, in hex."""
    state = (
        module_or_state.state_dict() if isinstance(module_or_state, nn.Module) else module_or_state
    )
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def architecture_digest(module: nn.Module, without: str | None = None) -> str:
    """Compute the SHA-256 of what a module computes with its weights, in hex.

    Weights of one name and shape serve several architectures. The digest covers each
    part's class, its public attributes that are plain values, classes or functions
    (heads, pooling, eps), and the buffers that a state dict lacks (the causal mask).

    Args:
        module: The module.
        without: Name of a part that does not count.
    """
    parts: dict[str, Any] = {}
    for name, part in module.named_modules(remove_duplicate=False):
        if without is not None and f'{name}.'.startswith(f'{without}.'):
            continue
        attributes = {
            key: value
            for key, value in vars(part).items()
            if not key.startswith('_') and key not in NO_ARCHITECTURE and _is_plain(value)
        }
        buffers = {key: part._buffers[key] for key in part._non_persistent_buffers_set}
        present = {key: value for key, value in buffers.items() if value is not None}
        parts[name] = type(part).__name__, attributes, weights_digest(present)
    content = json.dumps(parts, sort_keys=True, default=lambda thing: thing.__qualname__)
    return hashlib.sha256(content.encode()).hexdigest()


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, text, None, a class, a function, or a sequence of these."""
    if isinstance(value, tuple | list):
        return all(_is_plain(one) for one in value)
    kinds = bool | int | float | str | type | types.FunctionType | types.BuiltinFunctionType
    return value is None or isinstance(value, kinds)


@dataclass(frozen=True)
class _Source:
    """An architecture and the location of its weights.

    Attributes:
        name: For messages.
        config: The checked architecture. Its text tower is built without separate
            weights.
        weights: Returns the path of the weights. Called after all checks, because it
            may download them.
        quick_gelu: Whether the weights need QuickGELU; None if unknown.
        preprocess: Preprocessing of the training, ``mean`` and ``std``. Default: see
            :func:`_usual_preprocess`.
        folder: Folder that is searched first for a tokenizer.
    """

    name: str
    config: dict[str, Any]
    weights: Callable[[], Path]
    quick_gelu: bool | None
    preprocess: Mapping[str, Any] | None = None
    folder: Path | None = None


def _source(
    model: str | Mapping[str, Any],
    pretrained: str | None,
    checkpoint: str | Path | None,
    quick_gelu: bool | None,
    download: bool,
) -> _Source:
    """Turn the arguments of :func:`load_clip` into a source."""
    if isinstance(model, str) and model.startswith(('local-dir:', 'hf-hub:')):
        if pretrained is not None or checkpoint is not None:
            raise ValueError(f'{model!r} has its own weights: leave out pretrained and checkpoint')
        return _hub(model, download) if model.startswith('hf-hub:') else _folder(model)
    if pretrained is not None and checkpoint is not None:
        raise ValueError(
            f'both pretrained={pretrained!r} and checkpoint={str(checkpoint)!r} '
            'are set; set one of them to None'
        )
    if pretrained is not None:
        if not isinstance(model, str):
            raise ValueError(
                f'pretrained={pretrained!r} needs the name of an architecture, not a dict'
            )
        return _tag(model, pretrained, download)
    if checkpoint is None:
        raise ValueError(
            f'the weights of {model!r} are not given: set pretrained '
            "(a tag, such as 'openai') or checkpoint (a file)"
        )
    path = user_path(str(checkpoint))
    called = model if isinstance(model, str) else 'CLIP'
    config = _checked(get_architecture(model) if isinstance(model, str) else model, called)
    said = config.get('quick_gelu') if quick_gelu is None else quick_gelu
    if said is None and not _has_two_activations(model):
        said = False
    name = f'{called} ({checkpoint})'
    usual = _preprocess_of_name(model)
    return _Source(name, config, lambda: path, said, usual, path.parent)


def _has_two_activations(model: str | Mapping[str, Any]) -> bool:
    """Whether weights of an architecture may need QuickGELU or GELU."""
    if isinstance(model, str):
        return f'{model}-quickgelu' in open_clip.list_models()
    return not model['vision_cfg'].get('timm_model_name')


def _preprocess_of_name(model: str | Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The normalisation of all weights that open_clip has for an architecture.

    Returns:
        ``mean`` and ``std``, None if weights differ; None for an architecture without a name.
    """
    if not isinstance(model, str):
        return None
    tags = open_clip.list_pretrained_tags_by_model(model)
    found = {
        tuple((key, tuple(get_pretrained_cfg(model, tag)[key])) for key in OPENAI_PREPROCESS)
        for tag in tags
    }
    if len(found) > 1:
        return dict.fromkeys(OPENAI_PREPROCESS)
    return dict(found.pop()) if found else OPENAI_PREPROCESS  # open_clip's own default


def _usual_preprocess(clip: Any) -> dict[str, Any]:
    """OpenAI's normalisation for towers of OpenAI's kinds; empty for timm's, which have several."""
    return {} if hasattr(clip.visual, 'trunk') else OPENAI_PREPROCESS


def _hub(model: str, download: bool) -> _Source:
    repository = model.removeprefix('hf-hub:')

    def file(names: Sequence[str], filename: str | None = None) -> Path:
        path = cached(repository, names)
        if path is not None:
            return path
        if not download:
            raise refused_weights(model)
        with downloading(model, repository, GIVE_FOLDER):
            return Path(download_pretrained_from_hf(repository, filename=filename))

    # The architecture is small and comes first; the weights follow if it is supported.
    config, preprocess = _folder_config(file([FOLDER_CONFIG], FOLDER_CONFIG))
    config = _checked(config, model)
    quick_gelu = config.get('quick_gelu', False)
    return _Source(model, config, lambda: file(WEIGHTS), quick_gelu, preprocess)


def _folder(model: str) -> _Source:
    folder = user_path(model.removeprefix('local-dir:'))
    path = folder / FOLDER_CONFIG
    if not path.is_file():
        raise FileNotFoundError(f'{model!r} needs the file {path}, as written by open_clip')
    config, preprocess = _folder_config(path)
    config = _checked(config, model)
    weights = [folder / name for name in FOLDER_WEIGHTS if (folder / name).is_file()]
    if not weights:
        raise FileNotFoundError(f'no weights in {folder}: none of {", ".join(FOLDER_WEIGHTS)}')
    # In this layout a missing quick_gelu means GELU.
    quick_gelu = config.get('quick_gelu', False)
    return _Source(model, config, lambda: weights[0], quick_gelu, preprocess, folder)


def _folder_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the architecture and preprocessing of a folder in open_clip's layout."""
    try:
        config = parse_json(path.read_text(encoding='utf-8'))
        said = config.get('preprocess_cfg', {}) if isinstance(config, dict) else None
        if not isinstance(said, dict):
            raise TypeError('it or its preprocess_cfg is no object')
        known = {key: tuple(said[key]) for key in OPENAI_PREPROCESS if said.get(key)}
        return dict(config['model_cfg']), known
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not in open_clip's layout: {error!r}") from None


def _tag(model: str, tag: str, download: bool) -> _Source:
    name = f'{model} ({tag})'
    config = _checked(get_architecture(model), name)
    weights = get_pretrained_cfg(model, tag)
    if not weights:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise ValueError(
            f'{tag!r} is not a tag of {model!r} (known: {", ".join(tags) or "none"}); '
            'give a file with checkpoint='
        )
    trained, built = weights.get('quick_gelu', False), config.get('quick_gelu', False)
    base = model.removesuffix('-quickgelu')
    twin = base if model != base else f'{base}-quickgelu'
    # If the architecture exists with one activation only, its weights use it; the tag is ignored.
    if trained != built and twin in open_clip.list_models():
        raise ValueError(
            f'the weights {tag!r} were trained with {_activation(trained)}, but '
            f'{model!r} computes {_activation(built)}: use {twin!r}'
        )

    def file() -> Path:
        path = cached_tag(weights)
        if path is not None:
            return path
        if not download:
            raise refused_weights(name)
        hub, _, _ = (weights.get('hf_hub') or '').rpartition('/')
        with downloading(name, hub or None):
            return Path(download_pretrained(weights))

    return _Source(name, config, file, built, {key: weights[key] for key in OPENAI_PREPROCESS})


def _checked(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check an architecture and return a copy."""
    check_vision_config(config, name)
    copy = deepcopy(dict(config))
    copy['vision_cfg']['timm_model_pretrained'] = False
    if copy['text_cfg'].get('hf_model_name'):
        copy['text_cfg']['hf_model_pretrained'] = False
    return copy


def _build(source: _Source, download: bool) -> tuple[Any, Mapping[str, Any]]:
    """Build the model and load its weights; returns it with ``mean`` and ``std``."""
    path, config = source.weights(), dict(source.config)
    state, from_openai = read_state_dict(path)
    if from_openai and source.quick_gelu is False:
        raise ValueError(
            f'{path} is a checkpoint of OpenAI, trained with QuickGELU, but the '
            'config has quick_gelu=False'
        )
    if source.quick_gelu is None and not from_openai:
        raise ValueError(
            f'{path} does not show which activation it was trained with: set '
            'quick_gelu=True (OpenAI, DFN, MetaCLIP) or quick_gelu=False (LAION, '
            'DataComp and most others)'
        )
    config['quick_gelu'] = from_openai or source.quick_gelu
    custom_text = config.pop('custom_text', False) or bool(config['text_cfg'].get('hf_model_name'))
    tower = config['text_cfg'].get('hf_model_name')
    try:
        with (
            offline(
                f'the settings of {tower}, the text tower of {source.name},',
                download or not tower,
                f'fetch them elsewhere: hf download {tower} config.json',
            ),
            Unfilled(),
        ):
            clip: Any = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
    except FileNotFoundError:  # which says what is missing
        raise
    except (OSError, LookupError, *UNBUILDABLE) as error:
        said = str(error) or 'open_clip does not know a value of its text_cfg'
        raise ValueError(f"{source.name} can't be built: {said}") from None
    if custom_text:
        state = convert_to_custom_text_state_dict(state)
    load_weights(clip, convert_state_dict(clip, state), path, source.name)
    if from_openai:
        return clip, OPENAI_PREPROCESS
    return clip, {**_usual_preprocess(clip), **(source.preprocess or {})}


def load_weights(module: nn.Module, state: dict[str, Tensor], path: Path, model: str) -> None:
    """Load all weights of a module.

    Args:
        module: The module.
        state: The weights, by their names.
        path: Their file, for messages.
        model: Name of the model, for messages.

    Raises:
        ValueError: Weights are missing, unknown, or of other shapes.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    shapes = [
        f'{key} is {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}'
        for key in sorted(expected.keys() & state.keys())
        if state[key].numel() != expected[key].numel()
        or (state[key].shape != expected[key].shape and expected[key].ndim > 1)
    ]
    if missing or unknown or shapes:
        facts = [f'it lacks {missing[0]} and {len(missing) - 1} more'] if missing else []
        facts += [f'it has the unknown {unknown[0]} and {len(unknown) - 1} more'] if unknown else []
        facts += shapes[:1]
        raise ValueError(
            f'{path} contains weights of another architecture than {model}: ' + '; '.join(facts)
        )
    module.load_state_dict(
        {key: value.reshape(expected[key].shape) for key, value in state.items()}
    )


def get_architecture(model: str) -> dict[str, Any]:
    """Return open_clip's architecture of a name.

    Raises:
        ValueError: There is none; near names are said.
    """
    config = open_clip.get_model_config(model)
    if config is None:
        near = [name for name in open_clip.list_models() if name.startswith(model[:6])]
        raise ValueError(
            f'open_clip has no architecture {model!r}; similar names: '
            f'{", ".join(near) or "see open_clip.list_models()"}; beside open_clip there are '
            f'{", ".join(PUBLISHED)}'
        )
    return config


def _tokenizer(
    text: Mapping[str, Any],
    clip: Any,
    name: str,
    places: Sequence[Path | None],
    given: str | Path | None,
    download: bool,
) -> Callable[..., Tensor]:
    """Build the tokenizer that the text tower was trained with.

    Args:
        text: The architecture of the text tower.
        clip: The model.
        name: The model, for messages.
        places: Folders that may hold a tokenizer.
        given: Path of a tokenizer.
        download: Whether it may be downloaded.

    Raises:
        FileNotFoundError: The tokenizer is not on this machine.
        ImportError: tokenizers is not installed.
        ValueError: The tokenizer is unknown, or its file is damaged.
    """
    options = {'context_length': context_length(clip), **(text.get('tokenizer_kwargs') or {})}
    known = {'context_length', 'clean', 'strip_sep_token'}
    if given is not None:
        return FileTokenizer(given, **{key: options[key] for key in known & options.keys()})
    repository = text.get('hf_tokenizer_name')
    if repository and (
        isinstance(clip.text if hasattr(clip, 'text') else None, HFTextEncoder)
        or text.get('tokenizer_mode')
        or options.keys() - known
    ):  # these have the library of the tower, or options that only it knows
        folder = next((one for one in places if one and (one / SETTINGS[0]).is_file()), None)
        source = str(folder or repository)
        with offline(
            f'the files of {source}, the tokenizer of {name},',
            download,
            'give its folder as tokenizer=',
        ):
            return HFTokenizer(
                source,
                tokenizer_mode=text.get('tokenizer_mode'),
                trust_remote_code=False,
                **options,
            )
    if repository:
        path = find_tokenizer(repository, places, download)
        if path is None:
            raise FileNotFoundError(
                f'the tokenizer of {name} is not on this machine, and nothing is downloaded '
                f'without asking: allow it with --download (download=True), or put {FILE} and '
                f'{SETTINGS[0]} of https://huggingface.co/{repository} beside the weights, or pass '
                'their folder as tokenizer='
            )
        return FileTokenizer(path, **options)
    tokenizer = _clip_tokenizer(json.dumps(options))
    size = getattr(clip, 'vocab_size', None) or clip.token_embedding.num_embeddings
    if size != tokenizer.vocab_size or isinstance(getattr(clip, 'text', None), HFTextEncoder):
        raise ValueError(
            f'the text tower of {name} has a vocabulary of {size} tokens, not the '
            f"{tokenizer.vocab_size} of CLIP's tokenizer: pass the tokenizer of its training "
            'as tokenizer='
        )
    return tokenizer


@cache
def _clip_tokenizer(options: str) -> Any:
    """CLIP's tokenizer with options in JSON; unpacking its merges takes a tenth of a second."""
    given = json.loads(options)
    if given.keys() != {'context_length'}:
        return open_clip.SimpleTokenizer(**given)
    tokenizer = copy(DEFAULT_TOKENIZER)  # which open_clip makes when it is imported
    tokenizer.context_length = given['context_length']
    return tokenizer


def _activation(quick: bool) -> str:
    return QuickGELU.__name__ if quick else 'GELU'
