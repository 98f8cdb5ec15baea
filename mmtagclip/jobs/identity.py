"""What loops need that go on where an earlier start was interrupted."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader

from ..clip.vocabulary import find_list

# Options of models and transforms that may name a file, whose content decides the results.
LISTS = (
    'classes',
    'background',
    'templates',
    'prompts',
    'background_prompts',
    'label_map',
    'groups',
    'tag_file',
    'descriptions',
)


def fingerprint(*decides: Any) -> str:
    """SHA-256 of what decides a job's results.

    Args:
        *decides: Configs and other values. Files of names and tags that a
            config mentions count with their content.
    """
    return hashlib.sha256(
        json.dumps([_with_lists(one) for one in decides], sort_keys=True, default=str).encode()
    ).hexdigest()


def loader_of(batches: Sequence[list[int]], like: DataLoader) -> DataLoader:
    """A data loader of some batches of the images of another one."""
    return DataLoader(
        like.dataset,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=like.num_workers,
        collate_fn=like.collate_fn,
        worker_init_fn=like.worker_init_fn,
        persistent_workers=False,
    )


def _with_lists(config: Any) -> Any:
    """A config with the content of files of names and tags in the place of their paths."""
    if isinstance(config, list | tuple):
        return [_with_lists(value) for value in config]
    if not isinstance(config, dict):
        return config
    return {
        key: find_list(value).read_text(encoding='utf-8')
        if key in LISTS and isinstance(value, str)
        else _with_lists(value)
        for key, value in config.items()
    }
