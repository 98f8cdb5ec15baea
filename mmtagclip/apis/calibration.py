"""Calibrate a tagger to a folder of images, without labels."""

from ..frameworks import pretrain  # noqa: F401

# isort: split
import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor
from tqdm import tqdm

from ..clip import Names, Vocabulary
from ..files import write_whole
from ..jobs.description import Source, file_stamp, flatten
from ..jobs.identity import identity
from ..jobs.runner import (
    Job,
    Manifest,
    only_clean_up_is_left,
    read_results,
    remove_results,
    unfinished,
)
from ..models.precision import full_precision
from ..models.taggers.calibration import (
    PREFIX,
    Calibration,
    describe_head,
    fit_tensors,
    read_compound_prompts,
    relative_scores,
    written,
)
from ..models.taggers.tagger import TagCLIP, group_by_size
from ..records import ImageRecord
from ..version import __version__
from .call import NameSource
from .inferencer import LoadedImage
from .inputs import ImageInput, list_images
from .tag_inferencer import TagInferencer

PROMPT = 'a photo of a {}.'


def calibrate(
    inferencer: TagInferencer,
    inputs: Any,
    out: str | Path,
    *,
    classes: NameSource | None = None,
    background: NameSource | None = None,
    compound: str | Path | None = None,
    template: str = PROMPT,
    batch_size: int = 1,
    on_error: str = 'skip',
    replace: bool = False,
) -> dict[str, str]:
    """Fit a calibration (SPARC) to the scores of unlabelled images, and save it.

    Each image is seen once. Started again with the same arguments, a run that was stopped
    resumes. The checkpoint holds the head's fitted classifier, too, if it has one; it is given
    to an inferencer as ``weights``.

    Args:
        inferencer: Of the tagger, which may have any head.
        inputs: See :func:`mmtagclip.apis.list_images`; files only.
        out: The checkpoint, ``.pth``.
        classes: See :class:`mmtagclip.apis.call.Call`.
        background: The same.
        compound: File of prompts that name several classes, see
            :func:`~mmtagclip.models.taggers.calibration.read_compound_prompts`; None for none.
        template: Of the compound prompts, and of the simple prompts that they are compared with.
        batch_size: Images that are read together.
        on_error: ``'raise'``, or ``'skip'`` images that can't be read.
        replace: Whether to replace a file that is there.

    Returns:
        For each image that could not be read, by its path, the reason.

    Raises:
        FileExistsError: The file is there.
        FileNotFoundError: There is no image, or no such file of prompts.
        TypeError: An image that is not a file, or a model of another kind.
        ValueError: Fewer than two readable images or classes, a class with the same score in all
            images, bad names or prompts, a model that is calibrated already, or another run was
            begun at ``out``.
    """
    out = Path(out)
    if out.suffix != '.pth':
        raise ValueError(f'a calibration is written to a .pth file, not to {out}')
    if out.exists() and not replace and not only_clean_up_is_left(out):
        raise FileExistsError(f'{out} exists already; replace it, or name another file')
    tagger = inferencer.model
    if not isinstance(tagger, TagCLIP):
        raise TypeError(f'a {type(tagger).__name__} was trained, and is not calibrated here')
    if tagger.head.calibration is not None:
        raise ValueError('the model is calibrated already: build it without that calibration')
    names = inferencer.names_for(classes, background)
    if not isinstance(names, Names):
        raise TypeError('a calibration is for a list of names: names of each image have none')
    if names.num_foreground < 2:
        raise ValueError('a calibration compares classes with each other: name at least 2')
    images = list_images(inputs)
    for image in images:
        if not isinstance(image.source, Path):
            raise TypeError(f'{image.name} is not a file, so that a run over it could not resume')
    if len(images) < 2:
        raise ValueError(
            f'a calibration compares images with each other: {len(images)} is too few, give some '
            'hundred'
        )
    fit = _Fit(inferencer, names, compound, template)
    sources = [Source(image.name, file_stamp(str(image.source))) for image in images]
    manifest = Manifest('calibration', names.vocabulary.names, flatten(fit.description()))
    job = Job(unfinished(out), manifest, sources, replace=replace)
    fit.see(job, images, batch_size, on_error)
    records = read_results(job.root)[1]
    content = fit.checkpoint(records)
    write_whole(out, content)
    remove_results(job.root)
    return {record.image: record.error for record in records if record.error is not None}


class _Fit:
    """The names of a fit, their prompts, and what is computed of an image."""

    def __init__(
        self,
        inferencer: TagInferencer,
        names: Names,
        compound: str | Path | None,
        template: str,
    ) -> None:
        self.inferencer = inferencer
        self.tagger: TagCLIP = inferencer.model
        self.names = names
        phrases = names.vocabulary.phrases
        prompts: list[str] = []
        member = torch.zeros(len(phrases), 0, dtype=torch.bool)
        if compound is not None:
            prompts, member = read_compound_prompts(compound, phrases)
        self.member = member
        empty = torch.zeros(0, names.text.shape[1])
        # Without compound prompts, nothing is compared with the simple ones.
        self.simple, self.compound = (
            self._encode([own[0] for own in phrases] if prompts else [], template, empty),
            self._encode(prompts, template, empty),
        )

    def _encode(self, texts: Sequence[str], template: str, empty: Tensor) -> Tensor:
        if not texts:
            return empty
        vocabulary = Vocabulary(tuple((text,) for text in texts))
        return self.tagger.encoder.encode_names(vocabulary, (template,))

    def description(self) -> dict[str, Any]:
        """What decides the statistics, besides the images."""
        return {
            'version': __version__,
            'model': identity(self.tagger),
            'names': identity(self.names),
            'prompts': identity([self.simple, self.compound, self.member]),
            'pipeline': identity(self.inferencer.pipeline),
        }

    def see(self, job: Job, images: Sequence[ImageInput], batch_size: int, on_error: str) -> None:
        """Write what is needed of each image that has no result yet.

        Raises:
            FileNotFoundError: Results were removed meanwhile.
            ValueError: An image can't be read and is not to be skipped.
        """
        if batch_size < 1:
            raise ValueError(f'batch_size must be at least 1, not {batch_size}')
        starts = range(0, len(images), batch_size)
        batches = job.left([range(start, min(start + batch_size, len(images))) for start in starts])
        left = [index for batch in batches for index in batch]
        loaded = self.inferencer.preprocess([images[index] for index in left], batch_size, on_error)
        silent = None if self.inferencer.show_progress else True
        try:
            with tqdm(total=len(left), unit='image', disable=silent) as progress:
                place = 0
                for batch in loaded:
                    indices = left[place : place + len(batch)]
                    for index, record in zip(indices, self._records(batch), strict=True):
                        job.add(index, record)
                    place += len(batch)
                    progress.update(len(batch))
        finally:
            job.commit()
        if not job.finish():
            raise FileNotFoundError(f'results in {job.root} were removed meanwhile; start again')

    def _records(self, batch: Sequence[LoadedImage]) -> list[ImageRecord]:
        """One record per image, with its row: ``F + K`` numbers, float32."""
        readable = [image.data for image in batch if image.data is not None]
        rows = iter(self._rows(readable) if readable else ())
        records = []
        for image in batch:
            if image.data is None:
                records.append(ImageRecord(image.source.name, error=image.error))
                continue
            text = base64.b64encode(next(rows).tobytes()).decode()
            records.append(ImageRecord(image.source.name, more={'row': text}))
        return records

    def _rows(self, data: Sequence[Any]) -> np.ndarray:
        tagger = self.tagger
        images = tagger.data_preprocessor(pseudo_collate(data), False)['inputs']
        rows = np.empty((len(images), sum(self.member.shape)), '<f4')
        for group in group_by_size(images):
            scores, token = _score(tagger, torch.stack([images[i] for i in group]), self.names)
            parts = [relative_scores(scores)]
            if len(self.compound):
                simple, compound = (
                    token @ text.to(token).T for text in (self.simple, self.compound)
                )
                parts.append(relative_scores(compound, simple))
            rows[group] = torch.cat(parts, dim=1).cpu().numpy()
        return rows

    def checkpoint(self, records: Sequence[ImageRecord]) -> bytes:
        """The fitted calibration, and the head's classifier if it has one.

        Raises:
            ValueError: The images can't be calibrated.
        """
        names, tagger = self.names, self.tagger
        rows = [
            np.frombuffer(base64.b64decode(record.more['row']), '<f4')
            for record in records
            if record.error is None
        ]
        values = torch.from_numpy(np.array(rows).reshape(len(rows), -1)).double()
        classes = names.num_foreground
        relative, compound = values[:, :classes], values[:, classes:]
        tensors = fit_tensors(relative, compound, self.member, names.vocabulary.names)
        texts = {'text': names.text.cpu(), 'simple': self.simple, 'compound': self.compound}
        belongs_to = {
            'classes': written(names),
            'encoder': tagger.encoder.identity,
            'head': describe_head(tagger.head),
        }
        calibration = Calibration({**tensors, **texts}, belongs_to).float()
        state = {
            f'head.{key}': value.cpu().clone() for key, value in tagger.head.state_dict().items()
        }
        state |= {f'{PREFIX}{key}': value for key, value in calibration.state_dict().items()}
        content = io.BytesIO()
        meta = {'mmtagclip_version': __version__, **belongs_to}
        torch.save({'meta': meta, 'state_dict': state}, content)
        return content.getvalue()


@torch.no_grad()
@full_precision
def _score(tagger: TagCLIP, images: Tensor, names: Names) -> tuple[Tensor, Tensor]:
    """Scores ``(B, F)`` and class tokens ``(B, D)``, float64, of images of one size."""
    encoded = tagger.encode(images)
    scores = tagger.head(encoded, names).scores
    return scores.double(), tagger.encoder.ordinary_class_token(encoded.features).double()
