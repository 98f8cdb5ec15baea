"""The tokenizers of Hugging Face's models, read from files without their library."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, get_clean_fn
from torch import Tensor

from ..extras import require
from ..files import user_path
from ..records import parse_json
from .downloads import cached, downloading

FILE = 'tokenizer.json'
# Beside it; says how texts are padded.
SETTINGS = ('tokenizer_config.json', 'special_tokens_map.json')
# The length is a setting of the library's tokenizer, which threads share.
_LOCK = threading.Lock()


class FileTokenizer:
    """A tokenizer of a ``tokenizer.json``, as open_clip uses it.

    Args:
        path: The file, or its folder. Beside it must be ``tokenizer_config.json`` or
            ``special_tokens_map.json``, which name the padding token.
        context_length: Number of tokens that texts are cut or padded to.
        clean: How texts are cleaned first: ``'whitespace'``, ``'lower'`` or ``'canonicalize'``
            (SigLIP: lower case, no punctuation).
        strip_sep_token: Whether separators become 0 (CLIPA).

    Raises:
        FileNotFoundError: A file is missing.
        ImportError: tokenizers is not installed.
        ValueError: A file is damaged, or names no padding token.
    """

    def __init__(
        self,
        path: str | Path,
        context_length: int = DEFAULT_CONTEXT_LENGTH,
        clean: str = 'whitespace',
        strip_sep_token: bool = False,
    ) -> None:
        require('tokenizers', 'text', "this model's tokenizer")
        from tokenizers import Tokenizer

        path = user_path(path)
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(f'no tokenizer at {path}')
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f'{path} is not a tokenizer of Hugging Face: {error}') from None
        settings = _settings(path.parent)
        self.context_length = context_length
        self.clean = clean
        self.strip_sep_token = strip_sep_token
        self._clean = get_clean_fn(clean)
        pad = _token(settings, 'pad_token')
        self._sep = _token(settings, 'sep_token')
        self._sides = {
            key: settings.get(f'{key}_side', 'right') for key in ('padding', 'truncation')
        }
        if pad is None or self._tokenizer.token_to_id(pad) is None:
            raise ValueError(
                f'no padding token of {path} is known: put its {" or ".join(SETTINGS)} beside it'
            )
        self._pad = pad

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Return token ids ``(n, context_length)``, long texts cut, short ones padded."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = context_length or self.context_length
        pad = self._tokenizer.token_to_id(self._pad)
        with _LOCK:
            self._tokenizer.enable_truncation(length, direction=self._sides['truncation'])
            self._tokenizer.enable_padding(
                length=length, direction=self._sides['padding'], pad_id=pad, pad_token=self._pad
            )
            rows = self._tokenizer.encode_batch([self._clean(text) for text in texts])
        tokens = torch.tensor([row.ids for row in rows], dtype=torch.long).view(len(texts), length)
        if self.strip_sep_token and self._sep is not None:
            tokens[tokens == self._tokenizer.token_to_id(self._sep)] = 0
        return tokens


def _settings(folder: Path) -> dict[str, Any]:
    """The settings beside a tokenizer; those of the first file win."""
    found: dict[str, Any] = {}
    for name in reversed(SETTINGS):
        path = folder / name
        if path.is_file():
            try:
                found.update(parse_json(path.read_text(encoding='utf-8')))
            except ValueError as error:
                raise ValueError(f'{path} is damaged: {error}') from None
    return found


def _token(settings: Mapping[str, Any], key: str) -> str | None:
    token = settings.get(key)
    return token['content'] if isinstance(token, Mapping) else token


def find_tokenizer(repository: str, folders: Sequence[Path | None], download: bool) -> Path | None:
    """Find the ``tokenizer.json`` of a repository of the Hugging Face hub.

    Args:
        repository: ``ORG/NAME``.
        folders: Folders that are searched first.
        download: Whether it may be downloaded.

    Returns:
        Its path; None if it is not on this machine and may not be downloaded.

    Raises:
        FileNotFoundError: The download failed.
    """
    for folder in folders:
        if folder is not None and (folder / FILE).is_file():
            return folder / FILE
    path = cached(repository, [FILE])
    if path is not None or not download:
        return path
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import EntryNotFoundError

    with downloading(f'the tokenizer {repository}', repository, 'give its folder as tokenizer='):
        for name in SETTINGS:  # one of them is enough
            with suppress(EntryNotFoundError):
                hf_hub_download(repository, name)
        return Path(hf_hub_download(repository, FILE))
