"""Where SAM 3 comes from: a repository of the hub, a folder or a file; other models are refused."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...clip.downloads import GIVE_FOLDER, downloading, refused_weights, terms
from ...clip.loading import read_state_dict
from ...extras import install, require
from ...files import user_path
from ...records import parse_json

FILES = ('config.json', 'model*.safetensors')  # what is fetched of a repository
PREFIX = 'detector_model.'  # of the names in the published file, which has a tracker for videos too
TRACKER = ('tracker_model.', 'tracker_neck.')
# How the names of the weights of other models start: Meta's SAM and SAM 2, those of transformers.
EARLIER = (
    'image_encoder.',
    'sam_mask_decoder.',
    'prompt_encoder.',
    'memory_attention.',
    'shared_image_embedding.',
)
METAS_OWN = ('detector.', 'backbone.vision_backbone.')  # Meta's program names SAM 3's weights so
USE_SAM3 = (
    'use those of SAM 3 as transformers names them: model.safetensors of '
    'https://huggingface.co/facebook/sam3'
)


def import_sam3() -> Any:
    """Import transformers, and check that it has SAM 3.

    Returns:
        The module ``transformers``.

    Raises:
        ImportError: It is not installed, or older than 5.
    """
    require('transformers', 'sam', 'SAM 3')
    found = version('transformers')
    if int(found.partition('.')[0]) < 5:
        raise ImportError(
            f'SAM 3 needs transformers>=5, but {found} is installed: {install("sam")}'
        )
    import transformers  # takes seconds

    return transformers


def load_sam3(
    model: str | Mapping[str, Any] | nn.Module,
    checkpoint: str | Path | None = None,
    download: bool = False,
) -> tuple[Any, str]:
    """Load a frozen ``Sam3Model`` of transformers, float32.

    Args:
        model: A repository of the Hugging Face hub (``'hf-hub:facebook/sam3'``), a folder with
            its files (``'local-dir:PATH'``), the settings of a ``Sam3Config``, or a model that is
            already built, which is frozen.
        checkpoint: A file of weights (``.safetensors``, ``.pt``) with the names of transformers,
            in place of the repository's or folder's; without a folder, of the published size.
        download: Whether a repository that is not on this machine may be downloaded.

    Returns:
        The model and its name, for messages.

    Raises:
        FileNotFoundError: There is no such folder or file, or the repository would have to be
            downloaded, or the hub refuses it.
        ImportError: transformers is not installed, or has no SAM 3.
        TypeError: ``model`` is none of these kinds.
        ValueError: The weights are those of another model, incomplete or damaged.
    """
    transformers = import_sam3()
    if isinstance(model, transformers.Sam3Model):
        if checkpoint is not None:
            raise ValueError('leave out checkpoint for an already built model')
        return model.eval().requires_grad_(False), 'Sam3Model'
    if not isinstance(model, str | Mapping):
        raise TypeError(
            f'model must be a name, the settings of a Sam3Config or a Sam3Model, not '
            f'{type(model).__name__}'
        )
    settings: Mapping[str, Any] = model if isinstance(model, Mapping) else {}
    name = 'a Sam3Model' if isinstance(model, Mapping) else model
    paths: list[Path] = []
    if isinstance(model, str):
        kind, _, place = model.partition(':')
        if kind not in ('hf-hub', 'local-dir') or not place:
            raise ValueError(
                f"{model!r} is no SAM 3: name a repository as 'hf-hub:facebook/sam3' or a folder "
                "as 'local-dir:PATH', or give a file with checkpoint"
            )
        if kind == 'local-dir' or checkpoint is None:
            folder = user_path(place) if kind == 'local-dir' else _fetch(place, download)
            settings = _read_settings(folder)
            paths = sorted(folder.glob('model*.safetensors'))
            if not paths and checkpoint is None:
                raise FileNotFoundError(f'{folder} has no model.safetensors: {USE_SAM3}')
    if checkpoint is not None:
        name, paths = str(checkpoint), [user_path(checkpoint)]
    if not paths:
        raise ValueError('the weights of SAM 3 are not given: set checkpoint')
    state: dict[str, Tensor] = {}
    for path in paths:
        part, _ = read_state_dict(path)
        state.update(part)
    try:
        config = transformers.Sam3Config(**settings)
    except Exception as error:  # the hub's library has its own, which are no ValueError
        raise ValueError(f'{name} has settings that are no Sam3Config: {_line(error)}') from None
    built = _build(transformers, config, _own_names(state, paths[0]), paths[0])
    return built.eval().requires_grad_(False), name


def _fetch(repository: str, download: bool) -> Path:
    """The folder with the files of a repository."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    weights, files = f'hf-hub:{repository}', list(FILES)
    if not download:
        try:
            return Path(snapshot_download(repository, allow_patterns=files, local_files_only=True))
        except FileNotFoundError:
            raise refused_weights(weights) from None
    with downloading(weights, instead=f'{GIVE_FOLDER}{terms(repository)}'):
        try:
            return Path(snapshot_download(repository, allow_patterns=files))
        except GatedRepoError:
            raise ValueError(f'the hub refuses {repository} to you') from None


def _read_settings(folder: Path) -> Mapping[str, Any]:
    """The settings of a folder's model.

    Raises:
        FileNotFoundError: There is no such folder, or it has no settings.
        ValueError: They are those of another model.
    """
    path = folder / 'config.json'
    if not path.is_file():
        raise FileNotFoundError(f'{folder} has no config.json: {USE_SAM3}')
    try:
        settings = parse_json(path.read_bytes())
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no JSON: {error}') from None
    kind = settings.get('model_type') if isinstance(settings, dict) else None
    if kind == 'sam3_video':  # the published file has the tracker for videos too
        settings = settings.get('detector_config')
        kind = settings.get('model_type') if isinstance(settings, dict) else None
    if kind != 'sam3':
        what = ', which takes points and boxes, but no words' if _is_earlier(kind) else ''
        raise ValueError(f'{path} describes a model of type {kind!r}{what}: {USE_SAM3}')
    return {key: value for key, value in settings.items() if key != 'model_type'}


def _is_earlier(kind: Any) -> bool:
    return isinstance(kind, str) and kind.partition('_')[0] in ('sam', 'sam2', 'edgetam')


def _own_names(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights by the names of ``Sam3Model``, without the tracker's.

    Raises:
        ValueError: They are those of another model.
    """
    keys = [key.removeprefix(PREFIX) for key in state]
    if any(key.startswith(('vision_encoder.backbone.', 'detr_decoder.')) for key in keys):
        return {
            key.removeprefix(PREFIX): value.float()
            for key, value in state.items()
            if not key.startswith(TRACKER)
        }
    if any(key.startswith(METAS_OWN) for key in keys):
        raise ValueError(f"{path} has the weights of SAM 3 under the names of Meta's own program: "
                         f'{USE_SAM3}')  # fmt: skip
    if any(key.startswith(EARLIER) for key in keys):
        raise ValueError(
            f'{path} has the weights of SAM 1 or 2, which take points and boxes, but no words: '
            f'{USE_SAM3}'
        )
    raise ValueError(f'{path} has the weights of another model: {USE_SAM3}')


def _build(transformers: Any, config: Any, state: dict[str, Tensor], path: Path) -> Any:
    """A model with these weights, all of them.

    Raises:
        ValueError: Some are missing, superfluous or of another shape.
    """
    with _silent(transformers):
        try:
            model, report = transformers.Sam3Model.from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True
            )
        except RuntimeError as error:  # of shapes
            raise ValueError(
                f'{path} is of another size than its settings: {_line(error)}'
            ) from None
    for kind, key in (
        ('lacks', 'missing_keys'),
        ('has the unknown', 'unexpected_keys'),
        ('has another shape for', 'mismatched_keys'),
    ):
        if report[key]:
            first = sorted(map(str, report[key]))[0]
            raise ValueError(
                f'{path} {kind} {first} ({len(report[key])} weights): it is damaged, or of a SAM 3 '
                'of another size'
            )
    return model


@contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """Keep transformers from reporting what is checked here."""
    logging = transformers.utils.logging
    level, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())[:300]
