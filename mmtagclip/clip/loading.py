"""Load a CLIP model of open_clip, with its tokenizer, from a name, a file or an object."""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.pretrained import get_pretrained_cfg
from open_clip.tokenizer import HFTokenizer
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# Names of the weights in a folder of open_clip's layout, the safest first.
FOLDER_WEIGHTS = (
    'open_clip_model.safetensors',
    'model.safetensors',
    'open_clip_pytorch_model.bin',
    'pytorch_model.bin',
)
# Entries of OpenAI's published archives and state dicts that hold no weights.
OPENAI_KEYS = ('input_resolution', 'context_length', 'vocab_size')


@dataclass(frozen=True)
class LoadedCLIP:
    """A CLIP model in evaluation mode, without gradients, and its tokenizer.

    Attributes:
        model: The open_clip model, float32.
        tokenizer: Callable ``(list[str], context_length=int) -> (n, length)`` of
            token ids.
        name: What the user called it; for messages.
    """

    model: nn.Module
    tokenizer: Callable[..., Tensor]
    name: str


def load_clip(
    model: str | Mapping[str, Any] | nn.Module,
    pretrained: str | None = None,
    checkpoint: str | Path | None = None,
    quick_gelu: bool | None = None,
    tokenizer: Callable[..., Tensor] | None = None,
) -> LoadedCLIP:
    """Load a frozen CLIP whose image tower is a ViT with a class token.

    Args:
        model: An architecture name of open_clip (``'ViT-B-16-quickgelu'``), a
            folder in open_clip's layout with its weights (``'local-dir:PATH'``)
            or a repository of the Hugging Face hub (``'hf-hub:ORG/REPO'``), the
            architecture as a dict (``embed_dim``, ``vision_cfg``, ``text_cfg``,
            optionally ``quick_gelu``), or an already built open_clip model.
        pretrained: A tag of open_clip's (``'openai'``). Naming one, or a hub
            repository, allows open_clip to download the weights.
        checkpoint: A file of weights: OpenAI's TorchScript archive, a state
            dict (``.pt``; bare, under ``'state_dict'``, with or without
            ``module.`` prefixes) or ``.safetensors``.
        quick_gelu: The activation that the weights in ``checkpoint`` were
            trained with. May be left out where the file shows that it is
            OpenAI's, or where ``model`` says it (a name that ends in
            ``-quickgelu``, or a dict with the key ``quick_gelu``).
        tokenizer: For an already built model; open_clip's CLIP tokenizer if
            None.

    Raises:
        FileNotFoundError: There is no such file or folder.
        TypeError: ``model`` is of none of these kinds.
        ValueError: Unknown name or tag, weights of another architecture, a
            damaged or unsafe file, an activation that is unknown or wrong, or
            an image tower that has no class token.
    """
    if isinstance(model, nn.Module):
        if pretrained is not None or checkpoint is not None:
            raise ValueError('an already built model takes neither pretrained nor checkpoint')
        name, clip = type(model).__name__, deepcopy(model)  # the caller's stays as it is
        if tokenizer is None:
            tokenizer = open_clip.SimpleTokenizer(context_length=context_length(clip))
    elif isinstance(model, str | Mapping):
        if isinstance(model, str) and model.startswith(('local-dir:', 'hf-hub:')):
            if pretrained is not None or checkpoint is not None:
                raise ValueError(
                    f'{model!r} brings its own weights: leave out pretrained and checkpoint'
                )
            name, clip = model, _from_folder(model)
        elif pretrained is not None and checkpoint is not None:
            raise ValueError(
                f'both pretrained={pretrained!r} and checkpoint={str(checkpoint)!r} '
                'are given; set the one that is not meant to None'
            )
        elif pretrained is None and checkpoint is None:
            raise ValueError(
                f'say where the weights of {model!r} come from: either pretrained '
                "(a tag, such as 'openai') or checkpoint (a file)"
            )
        elif pretrained is not None:
            if not isinstance(model, str):
                raise ValueError(
                    f'pretrained={pretrained!r} needs the name of an architecture, not a dict'
                )
            name, clip = f'{model} ({pretrained})', _from_tag(model, pretrained)
        else:
            called = model if isinstance(model, str) else 'CLIP'
            name, clip = (
                f'{called} ({checkpoint})',
                _from_file(model, Path(str(checkpoint)), quick_gelu),
            )
        if tokenizer is None:
            tokenizer = _tokenizer(model, clip)
    else:
        raise TypeError(
            f'model must be a name, a dict or an open_clip model, not {type(model).__name__}'
        )
    check_image_tower(clip, name)
    return LoadedCLIP(clip.float().eval().requires_grad_(False), tokenizer, name)


def check_image_tower(clip: nn.Module, name: str) -> None:
    """Refuse an image tower that is not an open_clip ViT with a class token.

    Raises:
        ValueError: One sentence that names the tower and what is wrong with it.
    """
    visual = getattr(clip, 'visual', None)
    tower = f'the image tower of {name} ({type(visual).__name__})'
    if not isinstance(visual, VisionTransformer):
        raise ValueError(
            f"{tower} is not open_clip's VisionTransformer; TagCLIP needs a ViT with "
            'a class token, such as ViT-B-16'
        )
    if visual.attn_pool is not None or visual.pool_type != 'tok':
        pool = 'an attention pool' if visual.attn_pool is not None else visual.pool_type
        raise ValueError(f'{tower} pools by {pool} and not by its class token, which TagCLIP needs')
    if not all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks):
        raise ValueError(
            f'{tower} has custom attention blocks (normalised or scaled queries, '
            'inner norms), which are not supported'
        )
    if visual.patch_size[0] != visual.patch_size[1]:
        raise ValueError(f'{tower} has patches of {visual.patch_size}; only square ones work')


def check_vision_config(config: Mapping[str, Any], name: str) -> None:
    """Refuse, before anything is downloaded or built, an architecture without a class token.

    Raises:
        ValueError: Not an architecture, or one sentence that names the tower
            and what is wrong with it.
    """
    missing = {'embed_dim', 'vision_cfg', 'text_cfg'} - config.keys()
    if missing:
        raise ValueError(f'an architecture needs {", ".join(sorted(missing))} too')
    vision = config['vision_cfg']
    faults = {
        f"is timm's {vision.get('timm_model_name')}": 'timm_model_name' in vision,
        'is a ResNet': isinstance(vision.get('layers'), list | tuple),
        'pools by attention': bool(vision.get('attentional_pool')),
        f'pools by {vision.get("pool_type")}': vision.get('pool_type', 'tok') != 'tok',
    }
    for fault, there in faults.items():
        if there:
            raise ValueError(
                f'the image tower of {name} {fault}; TagCLIP needs the class token of '
                "open_clip's ViT, so take one such as ViT-B-16"
            )
    if 'multimodal_cfg' in config:
        raise ValueError(
            f'{name} is a CoCa, which is read in another way than a CLIP; take a '
            'model such as ViT-B-16'
        )


def context_length(clip: Any) -> int:
    """Number of tokens that the text tower takes, start and end included."""
    length = getattr(clip, 'context_length', None)
    return int(length if length is not None else clip.text.context_length)


def read_state_dict(path: str | Path) -> tuple[dict[str, Tensor], bool]:
    """Read the weights of a file without running any code in it.

    Args:
        path: ``.safetensors``, a TorchScript archive, or a file of
            ``torch.save`` that holds tensors and plain containers only.

    Returns:
        The state dict, without ``module.`` prefixes, and whether the file shows
        itself to be OpenAI's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, holds pickled objects or no weights.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    try:
        if path.suffix == '.safetensors':
            content: Any = load_file(path)
        elif _is_torchscript(path):
            _refuse_code_at_load(path)
            content = torch.jit.load(str(path), map_location='cpu').state_dict()
        else:
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f'{path} is damaged or holds pickled Python objects, which could run '
            'code and are refused; save its weights as .safetensors'
        ) from None
    except (SafetensorError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f'{path} is not a whole checkpoint file: {error}') from None
    if isinstance(content, Mapping) and isinstance(content.get('state_dict'), Mapping):
        content = content['state_dict']
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise ValueError(f'{path} holds no state dict of weights')
    state = dict(content)
    if all(key.startswith('module.') for key in state):
        state = {key.removeprefix('module.'): value for key, value in state.items()}
    from_openai = any(key in state for key in OPENAI_KEYS)
    return {key: value for key, value in state.items() if key not in OPENAI_KEYS}, from_openai


def weights_digest(module_or_state: nn.Module | Mapping[str, Tensor]) -> str:
    """SHA-256 over the names, shapes, dtypes and values of all weights, in hex."""
    state = (
        module_or_state.state_dict() if isinstance(module_or_state, nn.Module) else module_or_state
    )
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _from_folder(model: str) -> Any:
    if model.startswith('hf-hub:'):
        return open_clip.create_model(model, require_pretrained=True)
    folder = Path(model.removeprefix('local-dir:')).expanduser()
    path = folder / 'open_clip_config.json'
    if not path.is_file():
        raise FileNotFoundError(f'{model!r} needs {path}, as open_clip writes it')
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
        architecture, preprocess = config['model_cfg'], config.get('preprocess_cfg', {})
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not in open_clip's layout: {error!r}") from None
    weights = [folder / name for name in FOLDER_WEIGHTS if (folder / name).is_file()]
    if not weights:
        raise FileNotFoundError(f'no weights in {folder}: none of {", ".join(FOLDER_WEIGHTS)}')
    # In this layout a missing quick_gelu means GELU.
    clip = _from_file(architecture, weights[0], architecture.get('quick_gelu', False))
    clip.visual.preprocess_cfg = preprocess
    return clip


def _from_tag(model: str, tag: str) -> nn.Module:
    config = _architecture(model)
    check_vision_config(config, f'{model} ({tag})')
    weights = get_pretrained_cfg(model, tag)
    if not weights:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise ValueError(
            f'{tag!r} is not a tag of {model!r} (known: {", ".join(tags) or "none"}); '
            'name a file with checkpoint='
        )
    trained, built = weights.get('quick_gelu', False), config.get('quick_gelu', False)
    if trained != built:
        base = model.removesuffix('-quickgelu')
        raise ValueError(
            f'the weights {tag!r} were trained with {_activation(trained)}, but '
            f'{model!r} computes {_activation(built)}: use '
            f'{base + "-quickgelu" if trained else base!r}'
        )
    return open_clip.create_model(model, pretrained=tag, require_pretrained=True)


def _from_file(model: str | Mapping[str, Any], path: Path, quick_gelu: bool | None) -> Any:
    config = deepcopy(dict(model)) if isinstance(model, Mapping) else _architecture(model)
    check_vision_config(config, model if isinstance(model, str) else 'CLIP')
    state, from_openai = read_state_dict(path)
    said = quick_gelu
    if said is None and (isinstance(model, Mapping) or model.endswith('-quickgelu')):
        said = config.get('quick_gelu')
    if from_openai:
        if said is False:
            raise ValueError(
                f'{path} is a checkpoint of OpenAI, trained with QuickGELU, but the '
                'config says quick_gelu=False'
            )
        said = True
    if said is None:
        raise ValueError(
            f'{path} does not show which activation it was trained with: set '
            'quick_gelu=True (OpenAI, DFN, MetaCLIP) or quick_gelu=False (LAION, '
            'DataComp and most others)'
        )
    config['quick_gelu'] = said
    custom_text = config.pop('custom_text', False) or 'hf_model_name' in config.get('text_cfg', {})
    if 'hf_model_name' in config.get('text_cfg', {}):
        config['text_cfg']['hf_model_pretrained'] = False
    clip = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
    _load_weights(clip, state, path, model)
    return clip


def _load_weights(clip: nn.Module, state: dict[str, Tensor], path: Path, model: object) -> None:
    expected = clip.state_dict()
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
            f'{path} holds weights of another architecture than {model!r}: ' + '; '.join(facts)
        )
    clip.load_state_dict({key: value.reshape(expected[key].shape) for key, value in state.items()})


def _architecture(model: str) -> dict[str, Any]:
    config = open_clip.get_model_config(model)
    if config is None:
        near = [name for name in open_clip.list_models() if name.startswith(model[:6])]
        raise ValueError(
            f'open_clip knows no architecture {model!r}; near it: '
            f'{", ".join(near) or "see open_clip.list_models()"}'
        )
    return config


def _tokenizer(model: str | Mapping[str, Any], clip: nn.Module) -> Callable[..., Tensor]:
    if isinstance(model, str):
        return open_clip.get_tokenizer(model)
    text = model.get('text_cfg', {})
    if text.get('hf_tokenizer_name'):
        return HFTokenizer(
            text['hf_tokenizer_name'],
            context_length=context_length(clip),
            **text.get('tokenizer_kwargs', {}),
        )
    return open_clip.SimpleTokenizer(context_length=context_length(clip))


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any('/code/' in name for name in archive.namelist())


def _refuse_code_at_load(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith('.py') and b'__setstate__' in archive.read(name):
                raise ValueError(
                    f'{path} is a TorchScript archive with code that runs when it is '
                    'loaded, which is refused; save its weights as .safetensors'
                )


def _activation(quick: bool) -> str:
    return QuickGELU.__name__ if quick else 'GELU'
