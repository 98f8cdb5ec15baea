"""Write each image's tags while a test runs."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
import glob
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from mmengine.dist import all_reduce, barrier, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample

from ..files import whole_lines, write_whole
from ..records import ImageRecord, encode_line
from ..registry import HOOKS

STALE_PART = re.compile(r'.*\.part-\d+-of-\d+')


@HOOKS.register_module()
class TagWriterHook(Hook):
    """Write one line of JSON per image: ``{"image": ..., "tags": [...], "scores": [...]}``.

    Scores are those of the tags, in their order (the order of the classes). An
    image without a tag has two empty lists; one that could not be read has
    ``"error"`` instead of both, and the number of these is added to the metrics
    as ``unreadable_images``.

    While the test runs, each process appends to a part file of its own beside
    the final one; at the end they become one file in the order of the data
    set, the same for any number of processes. A run in which no image at all
    could be read ends with a ValueError.

    Args:
        out_file: The file, relative to the run's working directory.
        relative_to: Folder that image paths are written relative to, where they
            lie below it; paths are as the data set gives them if None.
        all_scores: Whether each line also has ``"class_scores"``, the score of every
            class by its name.
    """

    def __init__(
        self,
        out_file: str = 'tags.jsonl',
        relative_to: str | None = None,
        all_scores: bool = False,
    ) -> None:
        self.out_file = out_file
        self.relative_to = relative_to
        self.all_scores = all_scores
        self._classes: tuple[str, ...] = ()
        self.unreadable = self._readable = 0
        self._part: TextIO | None = None

    def before_test_epoch(self, runner: Any) -> None:
        """Open this process's part file."""
        rank, world_size = get_dist_info()
        if self.all_scores:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            self._classes = model.vocabulary.names
        self.unreadable = self._readable = 0
        self.path = Path(runner.work_dir) / self.out_file
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._parts = [
            self.path.with_name(f'{self.path.name}.part-{i + 1}-of-{world_size}')
            for i in range(world_size)
        ]
        if is_main_process():  # what a run that was killed left behind
            for stale in self.path.parent.glob(f'{glob.escape(self.path.name)}.part-*'):
                if STALE_PART.fullmatch(stale.name):
                    stale.unlink()
        barrier()
        self._part = self._parts[rank].open('x', encoding='utf-8')

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[DataSample] | None = None,
    ) -> None:
        """Append a batch's lines."""
        if self._part is None:
            raise RuntimeError('TagWriterHook was given results before the test began')
        for sample in outputs or ():
            record = self.record(sample)
            self._readable += record.error is None
            if 'sample_idx' not in sample:
                raise ValueError("TagWriterHook needs 'sample_idx' among PackInputs' meta_keys")
            self._part.write(json.dumps([sample.sample_idx, record.to_dict()]) + '\n')
        self._part.flush()
        if batch_idx + 1 == len(runner.test_loop.dataloader):
            self._check_readable()

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Merge the part files in the order of the data set, and count what was unreadable."""
        if self._part is not None:
            self._part.close()
            self._part = None
        barrier()
        if is_main_process():
            records = merge_parts(self._parts)
            self.unreadable = sum(record.error is not None for record in records)
            write_whole(self.path, (encode_line(record.to_json()) for record in records))
            for part in self._parts:
                part.unlink()
            runner.logger.info(f'Tags written to {self.path}')
            if self.unreadable:
                runner.logger.warning(
                    f'{self.unreadable} images could not be read; {self.path} names them'
                )
            if metrics is not None:
                metrics['unreadable_images'] = self.unreadable

    def _check_readable(self) -> None:
        """Refuse a run without a single readable image, of which no metric can be made."""
        readable = torch.tensor(self._readable)
        all_reduce(readable)
        if not readable:
            raise ValueError(f'not one image could be read; {self._parts[0]} says why for each')

    def record(self, sample: DataSample) -> ImageRecord:
        """What is written of one image."""
        image = str(sample.img_path)
        if self.relative_to is not None and Path(image).is_relative_to(self.relative_to):
            image = Path(image).relative_to(self.relative_to).as_posix()
        if sample.get('load_error') is not None:
            return ImageRecord(image, error=sample.load_error)
        scores = sample.pred_score[sample.pred_label].tolist()
        every = class_scores(self._classes, sample) if self.all_scores else None
        return ImageRecord(
            image, tuple(sample.tags), tuple(scores), size=size_of(sample), class_scores=every
        )


def size_of(sample: BaseDataElement) -> tuple[int, int] | None:
    """``(H, W)`` of a sample's image in pixels; None if its transforms did not keep it."""
    shape = sample.get('ori_shape')
    return None if shape is None else (int(shape[0]), int(shape[1]))


def class_scores(classes: Sequence[str], sample: DataSample) -> dict[str, float]:
    """The score of every class of a tagger's sample, by its name."""
    return dict(zip(classes, sample.pred_score.tolist(), strict=True))


def merge_parts(parts: Sequence[Path]) -> list[ImageRecord]:
    """Records of all part files in the order of their indices, each index once.

    A distributed sampler repeats the first images to give every process as
    many as the others.
    """
    records: dict[int, Any] = {}
    for part in parts:
        records.update(map(json.loads, whole_lines(part)))
    return [ImageRecord.from_dict(records[index]) for index in sorted(records)]
