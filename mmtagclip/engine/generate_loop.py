"""Generate pseudo labels for a whole data set, in any number of processes and starts."""

import inspect
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, broadcast_object_list, get_dist_info, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop
from mmengine.structures import BaseDataElement
from torch.utils.data import DataLoader

from ..datasets.samplers import SameGridBatchSampler
from ..exports.instances import concept_fields, instances_of
from ..jobs.description import flatten
from ..jobs.identity import dataset_identity, dataset_sources, identity, loader_of
from ..jobs.runner import Job, Manifest
from ..labels import IGNORED, index_mask, mask_png
from ..models import TagCLIP
from ..models.segmentors.base import TrainingFreeSegmentor
from ..records import ImageRecord
from ..registry import LOOPS
from .tag_writer import class_scores, size_of

# Arguments of the loop that results do not depend on; any other one belongs to the job.
WITHOUT_INFLUENCE = {'runner', 'dataloader', 'evaluator', 'out_dir', 'shard', 'commit_seconds'}


@LOOPS.register_module()
class GenerateLoop(BaseLoop):
    """A test loop that writes pseudo labels instead of computing metrics.

    A tagger writes tags and their scores; a segmentor index masks and tags,
    which are the classes of its mask where it looks for no tags. The job may be
    killed at any moment; started again, in as many processes as before or in
    others, it does what is missing, and the result is the same. Batches are
    fixed by the data set's order, whatever is already done, so that an image is
    always computed together with the same others.

    Args:
        runner: The runner.
        dataloader: The test data loader.
        evaluator: Ignored: labels are written, not evaluated.
        out_dir: Folder to write to, relative to the run's working directory.
        confidence: Mask pixels whose winning probability is lower become 255;
            published: 0.95, after the CRF. Needs ``with_probabilities``.
        save_probabilities: Whether a segmentor's probabilities are stored too,
            in steps of 1/255.
        all_scores: Whether records hold the tagger's score of every class.
        shard: ``(index, count)``, to do only one of ``count`` equal shares of the
            work, without a word to the processes that do the others; the last
            one to end puts the whole together.
        commit_seconds: How often results are brought to the disk: as much work
            is lost at most.

    Raises:
        TypeError: Any other model.
        ValueError: ``confidence`` outside [0, 1], a ``shard`` that is none of its
            count, or options that the model can't serve.
    """

    dataloader: DataLoader

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader | dict,
        evaluator: Any = None,
        out_dir: str = 'pseudo_labels',
        confidence: float = 0.0,
        save_probabilities: bool = False,
        all_scores: bool = False,
        shard: Sequence[int] = (0, 1),
        commit_seconds: float = 2.0,
    ) -> None:
        super().__init__(runner, dataloader)
        if not 0 <= confidence <= 1:
            raise ValueError(f'confidence must be in [0, 1], not {confidence}')
        if len(shard) != 2 or not 0 <= shard[0] < shard[1]:
            raise ValueError(
                f'shard must be (index, count) with 0 <= index < count, not {tuple(shard)}'
            )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        self.segments = isinstance(model, TrainingFreeSegmentor)
        if not isinstance(model, TagCLIP | TrainingFreeSegmentor):
            raise TypeError(
                'GenerateLoop writes the labels of a TagCLIP or a training-free '
                f'segmentor, not of a {type(model).__name__}'
            )
        if (confidence or save_probabilities) and not getattr(model, 'with_probabilities', False):
            raise ValueError(
                'confidence and save_probabilities need a segmentor with with_probabilities=True'
            )
        if all_scores and self.segments and (model.tagger is None or model.tags != 'own'):
            raise ValueError('all_scores needs a tagger whose scores they are')
        self.model = model
        self.out_dir = Path(runner.work_dir) / out_dir
        self.confidence = confidence
        self.save_probabilities = save_probabilities
        self.all_scores = all_scores
        self.shard = tuple(shard)
        self.commit_seconds = commit_seconds
        self.num_images = len(self.dataloader.dataset)  # type: ignore[arg-type]

    def run(self) -> dict[str, Any]:
        """Do what is missing.

        Returns:
            The number of images.
        """
        self.runner.call_hook('before_test')
        self.runner.call_hook('before_test_epoch')
        self.runner.model.eval()
        job = self._job()
        # Shared out before the done ones are left out: another process may be ahead already.
        batches = job.left(self.batches())
        for note in job.notes:
            self.runner.logger.warning(note)
        self.runner.logger.info(
            f'{len(job.done)} images are done, {sum(map(len, batches))} are left for this process'
        )
        self.dataloader = loader_of(batches, self.dataloader)
        for number, batch in enumerate(self.dataloader):
            self.runner.call_hook('before_test_iter', batch_idx=number, data_batch=batch)
            with torch.no_grad():
                outputs = self.runner.model.test_step(batch)
            for sample in outputs:
                if 'sample_idx' not in sample:
                    raise ValueError(
                        "GenerateLoop needs 'sample_idx' among the meta_keys of the "
                        'packing transform'
                    )
                job.add(sample.sample_idx, *self.labels(sample))
            self.runner.call_hook(
                'after_test_iter', batch_idx=number, data_batch=batch, outputs=outputs
            )
        job.commit()
        barrier()
        complete = [job.finish() if is_main_process() else None]
        broadcast_object_list(complete)
        if not complete[0]:
            if self.shard == (0, 1):
                raise RuntimeError(f'{self.out_dir} still lacks images; start the job again')
            self.runner.logger.info('This shard is done; others are not yet')
        self.runner.call_hook('after_test_epoch', metrics={})
        self.runner.call_hook('after_test')
        return {'images': self.num_images}

    def batches(self) -> list[list[int]]:
        """This process's share of all batches, whatever is already done."""
        total = self.num_images
        sampler = self.dataloader.batch_sampler
        if isinstance(sampler, SameGridBatchSampler):
            batches = sampler.batches(range(total))
        else:
            size = self.dataloader.batch_size or 1
            batches = [
                list(range(start, min(start + size, total))) for start in range(0, total, size)
            ]
        (rank, world_size), (shard, shards) = get_dist_info(), self.shard
        return batches[shard * world_size + rank :: shards * world_size]

    def labels(self, sample: BaseDataElement) -> tuple[ImageRecord, dict[str, bytes]]:
        """The record of one image, and its mask and probabilities."""
        image = str(sample.img_path)
        if sample.get('load_error') is not None:
            return ImageRecord(image, error=sample.load_error), {}
        size = size_of(sample)
        if not self.segments:
            scores = sample.pred_score[sample.pred_label].tolist()
            every = class_scores(self.model.vocabulary.names, sample) if self.all_scores else None
            record = ImageRecord(
                image, tuple(sample.tags), tuple(scores), size=size, class_scores=every
            )
            return record, {}
        classes = self.model.dataset_meta['classes']
        mask = index_mask(sample.pred_sem_seg.data[0].cpu().numpy(), classes)
        files = {}
        if self.confidence or self.save_probabilities:
            probabilities = sample.probabilities.data.cpu().numpy()
            if len(probabilities):
                mask[probabilities.max(axis=0) < self.confidence] = IGNORED
            if self.save_probabilities:
                files['probabilities.npz'] = _npz(
                    labels=np.asarray(sample.plane_labels, dtype=np.uint8),
                    probabilities=(probabilities * 255).round().astype(np.uint8),
                )
        tags = sample.tags if 'tags' in sample else self._classes_of(mask)
        found = sample.get('tag_scores')  # of tags that the model itself found
        record = ImageRecord(
            image,
            tuple(tags),
            None if found is None else tuple(found),
            size=size,
            class_scores=sample.get('class_scores') if self.all_scores else None,
            more=concept_fields(
                sample.get('asked'),
                instances_of(sample, classes[int(classes[:1] == ('background',)) :]),
            ),
        )
        palette = self.model.dataset_meta['palette']
        return record, {'masks.png': mask_png(mask, palette), **files}

    def _classes_of(self, mask: np.ndarray) -> list[str]:
        """Names of the classes that occur in a mask."""
        names = self.model.dataset_meta['classes']
        return [
            names[label]
            for label in np.unique(mask)
            if label != IGNORED and not (label == 0 and self.model.with_background)
        ]

    def _job(self) -> Job:
        """The job; nothing is decoded for it, and all weights are read once."""
        model, dataset = self.model, self.dataloader.dataset
        names: Sequence[str] = (
            model.dataset_meta['classes'] if self.segments else model.vocabulary.names
        )
        description = {
            'model': identity(model),
            'data': dataset_identity(dataset),
            'batches': self._batching(),
            'options': {key: getattr(self, key) for key in sorted(self._options())},
        }
        return Job(
            self.out_dir,
            Manifest('masks' if self.segments else 'tags', tuple(names), flatten(description)),
            dataset_sources(dataset),
            fixed_images=self.shard != (0, 1),
            commit_seconds=self.commit_seconds,
        )

    def _options(self) -> set[str]:
        return inspect.signature(type(self)).parameters.keys() - WITHOUT_INFLUENCE

    def _batching(self) -> Any:
        """What decides which images are computed together."""
        sampler = self.dataloader.batch_sampler
        if isinstance(sampler, SameGridBatchSampler):
            return [type(sampler).__name__, sampler.batch_size]
        return self.dataloader.batch_size or 1


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
