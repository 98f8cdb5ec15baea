"""Long runs over many images: results are safe during the run, and it can be resumed."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..exports import Options, formats_of_runs, open_results
from ..files import make_folder, write_image
from ..images import read_image
from ..jobs.description import Source, file_stamp, flatten
from ..jobs.identity import identity
from ..jobs.runner import Job, Manifest, read_results
from ..models.taggers.thresholds import read_thresholds
from ..records import ImageRecord
from .inferencer import ImageInferencer
from .inputs import ImageInput
from .results import SegResult
from .tag_inferencer import TagInferencer

SHEET_SIZE = 30
# Options of a call that decide no result, or decide it through the names. Any other counts.
WITHOUT_INFLUENCE = (
    'classes',
    'background',
    'descriptions',
    'hide',
    'labels',
    'on_error',
    'out_dir',
    'vis_dir',
    'show',
    'wait_time',
    'channel_order',
)


class FolderRun:
    """A run over images whose results go to a folder of pseudo labels.

    Started again with the same images and options, it does what is missing. The folder is
    that of :class:`mmtagclip.jobs.runner.Job`.

    Args:
        inferencer: What runs.
        images: The images, all of them.
        root: The folder.
        batch_size: Images per batch; batches are the same however often the run is started.
        options: Of the inferencer's call.
        replace: Whether to replace results that are there, when the run ends.

    Raises:
        ValueError: The folder was begun by another run.
    """

    def __init__(
        self,
        inferencer: ImageInferencer,
        images: Sequence[ImageInput],
        root: str | Path,
        batch_size: int,
        options: Mapping[str, Any],
        replace: bool = False,
    ) -> None:
        self.inferencer = inferencer
        self.images = list(images)
        self.batch_size = batch_size
        self.options = dict(options)
        if self.options.get('thresholds') is not None:  # which count by their content
            self.options['thresholds'] = read_thresholds(self.options['thresholds'])
        self.segments = not isinstance(inferencer, TagInferencer)
        sources = [Source(image.name, _stamp(image)) for image in self.images]
        names = inferencer.names_for(
            **{key: self.options.get(key) for key in inferencer.name_options}
        )
        manifest = manifest_of(inferencer, self.options, batch_size, names)
        self.job = Job(root, manifest, sources, replace=replace)

    @property
    def num_done(self) -> int:
        """How many images are done."""
        return len(self.job.done)

    def run(self) -> None:
        """Do what is missing.

        Raises:
            FileNotFoundError: Results of this run were removed meanwhile.
            ValueError: An image can't be read and is not to be skipped; what was
                done stays.
        """
        indices, size = range(len(self.images)), self.batch_size
        batches = [indices[start : start + size] for start in range(0, len(indices), size)]
        left = [index for batch in self.job.left(batches) for index in batch]
        results = self.inferencer.stream(
            [self.images[index] for index in left], batch_size=self.batch_size, **self.options
        )
        try:
            for index, result in zip(left, results, strict=True):
                self.job.add(index, result.record, self._files(result))
        finally:
            self.job.commit()
        if not self.job.finish():
            raise FileNotFoundError(
                f'results in {self.job.root} were removed while a run was writing them; start it '
                'again'
            )

    def records(self) -> list[dict[str, Any]]:
        """What a finished run says of each image, in order."""
        return [record.to_dict() for record in self._records()]

    def export(self, path: str | Path) -> None:
        """Write the results of a finished run as one file, whole or not at all.

        Args:
            path: Its ending names the format: one of
                :func:`~mmtagclip.exports.formats_of_runs`.
        """
        path = Path(path)
        # Within the folder, so that nothing else is left behind where this is killed.
        scratch = self.job.work if self.job.root.parent == path.parent else None
        if scratch is not None:
            make_folder(scratch)
        results = open_results(self.job.root)
        formats_of_runs()[path.suffix].write(results, path, Options(), scratch)

    def _records(self) -> list[ImageRecord]:
        return read_results(self.job.root)[1]

    def _files(self, result: Any) -> dict[str, bytes]:
        if not isinstance(result, SegResult) or result.error is not None:
            return {}
        return {'masks.png': result.mask_png()}


def manifest_of(
    inferencer: ImageInferencer, options: Mapping[str, Any], batch_size: int, names: Any
) -> Manifest:
    """What decides the results of a run, without its images.

    Args:
        inferencer: What runs.
        options: Of its call.
        batch_size: Images per batch.
        names: What its ``names_for`` returned for these options.
    """
    description = {
        'model': identity(inferencer.model),
        'names': identity(names),
        'options': {
            key: value
            for key, value in {'threshold': None, **options}.items()
            if key not in WITHOUT_INFLUENCE
        },
        'pipeline': identity(inferencer.pipeline),
        'file_max_side': inferencer.file_max_side,
        'batch_size': batch_size,
    }
    # Names and colours of the labels follow from the classes.
    job = {
        key: value
        for key, value in flatten(description).items()
        if not key.startswith('names.dataset_meta.')
    }
    kind = 'tags' if isinstance(inferencer, TagInferencer) else 'masks'
    return Manifest(kind, inferencer.label_names(names), job)


def _stamp(image: ImageInput) -> Any:
    """What changes when an image's content does."""
    if isinstance(image.source, Path):
        return file_stamp(image.source)
    if isinstance(image.source, bytes):
        return hashlib.sha256(image.source).hexdigest()[:32]
    pixels = np.ascontiguousarray(image.source)
    return [list(pixels.shape), hashlib.sha256(pixels.tobytes()).hexdigest()[:32]]


def write_contact_sheets(records: Sequence[dict[str, Any]], folder: str | Path) -> list[Path]:
    """Write pages of small pictures with their tags.

    Args:
        records: Of the images: ``image``, and ``tags`` and ``scores``, or ``error``.
        folder: To write ``sheet-0001.jpg`` and so on to.

    Returns:
        The pages.
    """
    from ..visualization import contact_sheet  # here: matplotlib takes its time

    folder = Path(folder)
    pages = []
    for start in range(0, len(records), SHEET_SIZE):
        cells = (_cell(record) for record in records[start : start + SHEET_SIZE])
        pages.append(folder / f'sheet-{start // SHEET_SIZE + 1:04d}.jpg')
        write_image(pages[-1], contact_sheet(cells), quality=90)
    return pages


def _cell(record: dict[str, Any]) -> tuple[np.ndarray | None, str]:
    name = Path(record['image']).name
    if 'error' in record:
        return None, record['error']
    tags = ', '.join(
        tag if score is None else f'{tag} {score:.2f}'
        for tag, score in zip(record['tags'], record['scores'], strict=True)
    )
    return read_image(record['image']), f'{name}: {tags or "no tags"}'
