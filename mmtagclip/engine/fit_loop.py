"""Fit a classifier of patches in closed form: one pass over unlabelled images, no gradient."""

import glob
import io
import json
import re
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import (
    all_gather,
    all_reduce,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from ..clip import weights_digest
from ..files import write_whole
from ..jobs.description import Source, differences, flatten
from ..jobs.identity import dataset_identity, dataset_sources, identity, loader_of
from ..models.taggers.piaa import GaussianClassifier, PatchBank
from ..models.taggers.tagger import group_by_size
from ..registry import LOOPS
from ..version import __version__


@LOOPS.register_module()
class FitLoop(BaseLoop):
    """A train loop that fits the :class:`GaussianClassifier` of a tagger and saves it.

    The tagger may be a segmentor's. The checkpoint holds the classifier alone,
    in the model's names, so that ``tools/test.py CONFIG CHECKPOINT`` reads it;
    CLIP brings its own weights. Any number of processes gives the same.

    During the run, each process saves its bank beside the checkpoint. Started again, with
    the same or another number of processes, the loop resumes from these files. They are
    deleted when the classifier is fitted.

    Args:
        runner: The runner.
        dataloader: The train data loader; its labels are not looked at.
        out_file: The checkpoint, relative to the run's working directory.
        save_seconds: How often the bank is saved: as much work is lost at most.

    Raises:
        TypeError: The model has no such classifier.
        ValueError: Fewer images than classes, or a sampler that repeats images.
    """

    max_epochs = 1
    epoch = 0
    dataloader: DataLoader

    def __init__(
        self,
        runner: Any,
        dataloader: DataLoader | dict,
        out_file: str = 'piaa.pth',
        save_seconds: float = 300.0,
    ) -> None:
        super().__init__(runner, dataloader)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        found = [
            (name, part)
            for name, part in model.named_modules()
            if isinstance(part, GaussianClassifier)
        ]
        if len(found) != 1:
            raise TypeError(
                f'FitLoop fits the one GaussianClassifier of a tagger, but '
                f'{type(model).__name__} has {len(found)}; give its head a scorer'
            )
        self.model = model
        self.tagger = getattr(model, 'tagger', model)
        self.prefix, self.classifier = found[0]
        self.out_file = Path(runner.work_dir) / out_file
        self.save_seconds = save_seconds
        self.num_images = len(self.dataloader.dataset)  # type: ignore[arg-type]
        self._check_number(self.num_images, 'images')
        if get_world_size() > 1 and getattr(self.dataloader.sampler, 'round_up', False):
            raise ValueError(
                'in several processes the sampler would repeat images, which count '
                'twice then: set round_up=False in train_dataloader.sampler'
            )
        self.iter = 0
        self.max_iters = len(self.dataloader)

    @torch.no_grad()
    def run(self) -> Any:
        """Pass over the images once, fit, save.

        Raises:
            ValueError: Too few images could be read, the fit failed, or the
                folder holds the bank of another one.
        """
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.model.eval()
        bank = self.classifier.bank(self.tagger.encoder.patch_text(self.tagger.text))
        sources = dataset_sources(self.dataloader.dataset)
        files = BankFiles(self.out_file, flatten(self._description(bank)), sources)
        done = files.take_up(bank)
        if done:
            self.runner.logger.info(f'{len(done)} of {self.num_images} images are done')
        mine = set(done) if is_main_process() else set()  # what this process's bank has seen
        unreadable, saved = 0, time.monotonic()
        for number, (indices, batch) in enumerate(self._batches(done)):
            self.runner.call_hook('before_train_iter', batch_idx=number, data_batch=batch)
            read = self._add(bank, indices, batch)
            unreadable += len(indices) - len(read)
            mine |= read
            if time.monotonic() - saved > self.save_seconds:
                files.save(bank, mine)
                saved = time.monotonic()
            self.iter += 1
            self.runner.call_hook('after_train_iter', batch_idx=number, data_batch=batch)
        files.save(bank, mine)  # lest all be lost where the fit fails
        self._gather(bank)
        self._report(unreadable)
        for note in self.classifier.fit(bank):
            self.runner.logger.warning(f'Classes that {note}')
        if is_main_process():
            state = {
                f'{self.prefix}.{key}': value.cpu()
                for key, value in self.classifier.state_dict().items()
            }
            meta = {'mmtagclip_version': __version__, **self.classifier.belongs_to}
            content = io.BytesIO()
            torch.save({'meta': meta, 'state_dict': state}, content)
            write_whole(self.out_file, content.getvalue())
            self.runner.logger.info(f'Saved the classifier as {self.out_file}')
            files.delete()
        self.runner.call_hook('after_train')
        return self.runner.model

    def _batches(self, done: set[int]) -> Iterator[tuple[list[int], Any]]:
        """What is left of this process's share: the images' numbers and the batch of them."""
        share: Any = self.dataloader.batch_sampler
        left = [[index for index in indices if index not in done] for indices in share]
        left = [indices for indices in left if indices]
        self.dataloader, self.max_iters = loader_of(left, self.dataloader), len(left)
        yield from zip(left, self.dataloader, strict=True)

    def _add(self, bank: PatchBank, indices: list[int], batch: Any) -> set[int]:
        """Show a batch to the bank; the numbers of those of its images that could be read."""
        data = self.model.data_preprocessor(batch)
        readable = [
            place
            for place, sample in enumerate(data['data_samples'])
            if sample.get('load_error') is None
        ]
        images = [data['inputs'][place] for place in readable]
        for group in group_by_size(images):
            features = self.tagger.encoder(torch.stack([images[index] for index in group]))
            bank.add(features.patches.flatten(0, 1))
        return {indices[place] for place in readable}

    def _gather(self, bank: PatchBank) -> None:
        """Bring the banks of all processes together."""
        if get_world_size() == 1:
            return
        parts = [all_gather(one) for one in (bank.features, bank.entropies)]
        bank.entropies.fill_(torch.inf)
        for part in zip(*parts, strict=True):  # in the order of the processes, in all of them
            bank.merge(*part)

    def _report(self, unreadable: int) -> None:
        """Say how many images could not be read in all processes; refuse to fit to too few."""
        total = torch.tensor(unreadable)
        all_reduce(total)
        if total:
            self.runner.logger.warning(
                f'{total} of {self.num_images} images could not be read and are ignored'
            )
        self._check_number(self.num_images - int(total), 'readable images')

    def _check_number(self, images: int, kind: str) -> None:
        classes = len(self.tagger.text)
        if images < classes:
            raise ValueError(
                f'{images} {kind} are too few to fit {classes} classes: a classifier '
                'needs at least as many images as classes'
            )

    def _description(self, bank: PatchBank) -> dict[str, Any]:
        """What decides a bank besides the images: the model as far as the patches."""
        return {
            'version': __version__,
            'classes': self.classifier.belongs_to['classes'],
            'bank': identity(bank),
            'encoder': identity(self.tagger.encoder),
            'preprocessor': identity(self.model.data_preprocessor),
            'data': dataset_identity(self.dataloader.dataset),
        }


class BankFiles:
    """Where the processes of a fit keep their banks while it is under way.

    Each has a file beside the checkpoint, with the images that the bank has seen.

    Args:
        out_file: The checkpoint.
        description: What decides a bank, see :func:`~mmtagclip.jobs.description.flatten`.
        images: All images of the fit.
    """

    def __init__(
        self, out_file: Path, description: dict[str, Any], images: Sequence[Source]
    ) -> None:
        self.out_file = out_file
        self.description = description
        self.images = images
        self._index = {_key(image): index for index, image in enumerate(images)}

    def take_up(self, bank: PatchBank) -> set[int]:
        """Put what earlier starts left into the main process's bank.

        Returns:
            Indices of the images that they have seen, in every process.

        Raises:
            ValueError: A file is of another fit, has seen an image that is not among the images
                or has changed, or is damaged.
        """
        done: set[int] = set()
        if is_main_process():
            for path in self._paths():
                images, features, entropies = self._read(path)
                # A start that ended between saving all as one and deleting the parts left both.
                if not images <= done:
                    bank.merge(features.to(bank.text), entropies.to(bank.text))
                    done |= images
            if done:
                self.save(bank, done)
                self.delete(but=self._path(0))
        everywhere = [done]
        broadcast_object_list(everywhere)
        return everywhere[0]

    def save(self, bank: PatchBank, images: set[int]) -> None:
        """Save this process's bank, which has seen these images: whole, or as it was before."""
        seen = json.dumps([self.images[index] for index in sorted(images)])
        tensors = {
            'features': bank.features.cpu(),
            'entropies': bank.entropies.cpu(),
            'images': torch.frombuffer(bytearray(zlib.compress(seen.encode())), dtype=torch.uint8),
        }
        metadata = {
            'description': json.dumps(self.description),
            'digest': weights_digest(tensors),
        }
        write_whole(self._path(get_rank()), save(tensors, metadata))

    def delete(self, but: Path | None = None) -> None:
        """Delete the files of all processes, but one."""
        for path in self._paths():
            if path != but:
                path.unlink()

    def _read(self, path: Path) -> tuple[set[int], Tensor, Tensor]:
        try:
            with safe_open(path, 'pt') as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if metadata.get('digest') != weights_digest(tensors):
                raise ValueError('its digest is wrong')
            begun = json.loads(metadata['description'])
            seen = json.loads(zlib.decompress(bytes(tensors['images'].tolist())))
        except (SafetensorError, ValueError, KeyError) as error:
            raise ValueError(f'{path} is damaged, delete it: {error}') from None
        changed = differences(begun, self.description)
        if changed:
            raise ValueError(
                f'{path} was left by another fit: {"; ".join(changed[:3])}. Resume with that '
                'config, or delete the file'
            )
        gone = [name for name, stamp in seen if _key((name, stamp)) not in self._index]
        if gone:
            raise ValueError(
                f'{path} was left by a fit to other images: {len(gone)} that it has seen, such as '
                f'{gone[0]}, are no longer there or have changed. Delete the file'
            )
        images = {self._index[_key((name, stamp))] for name, stamp in seen}
        return images, tensors['features'], tensors['entropies']

    def _path(self, rank: int) -> Path:
        return self.out_file.with_name(f'{self.out_file.stem}.bank{rank}.safetensors')

    def _paths(self) -> list[Path]:
        """The files that there are, the main process's first."""
        stem = self.out_file.stem
        name = re.compile(rf'{re.escape(stem)}\.bank\d+\.safetensors')
        found = self.out_file.parent.glob(f'{glob.escape(stem)}.bank*')
        return sorted(path for path in found if name.fullmatch(path.name))


def _key(image: Any) -> str:
    return json.dumps(list(image))
