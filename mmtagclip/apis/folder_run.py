"""Long runs over many images: results are safe while the run goes on, and it can go on later."""

import csv
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from ..clip import Names, weights_digest
from ..images import read_image
from ..jobs.identity import fingerprint
from ..jobs.pseudo_labels import Manifest, PseudoLabelWriter
from ..labels import labels_metainfo
from ..version import __version__
from ..visualization import contact_sheet
from .inferencer import ImageInferencer, SegInferencer
from .inputs import ImageInput
from .results import SegResult

COMMIT_SECONDS = 2.0
FORMATS = ('.jsonl', '.csv', '.json')
SHEET_SIZE = 30


class FolderRun:
    """A run over images whose results go to a folder of pseudo labels.

    Started again with the same images and options it does what is missing. The
    folder is that of :class:`mmtagclip.jobs.pseudo_labels.PseudoLabelWriter`.

    Args:
        inferencer: What runs.
        images: The images, all of them.
        root: The folder.
        batch_size: Images a batch; batches are the same however often the run is
            started.
        options: Of the inferencer's call.

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
    ) -> None:
        self.inferencer = inferencer
        self.images = list(images)
        self.batch_size = batch_size
        self.options = dict(options)
        self.segments = isinstance(inferencer, SegInferencer)
        self.writer = PseudoLabelWriter(Path(root), self._manifest())

    @property
    def num_done(self) -> int:
        """How many images are done."""
        return len(self.writer.done)

    def run(self) -> None:
        """Do what is missing.

        Raises:
            ValueError: An image can't be read and is not to be skipped; what was
                done stays.
        """
        left = [
            index
            for start in range(0, len(self.images), self.batch_size)
            for index in self._batch(start)
        ]
        committed = time.monotonic()
        results = self.inferencer.stream(
            [self.images[index] for index in left], batch_size=self.batch_size, **self.options
        )
        try:
            for index, result in zip(left, results, strict=True):
                self.writer.add(index, self._record(result), self._files(result))
                if time.monotonic() - committed > COMMIT_SECONDS:
                    self.writer.commit()
                    committed = time.monotonic()
        finally:
            self.writer.commit()
        self.writer.finish()

    def records(self) -> list[dict[str, Any]]:
        """What a finished run says of each image, in order."""
        path = self.writer.root / 'labels.jsonl'
        return [json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()]

    def results(self) -> Iterator[dict[str, Any]]:
        """The records of a finished run; those of masks with their run lengths."""
        for record in self.records():
            yield self._mask(record).to_dict() if 'masks' in record else record

    def export(self, path: str | Path) -> None:
        """Write the results of a finished run as one file, whole or not at all.

        Args:
            path: ``.jsonl`` (a line an image), ``.csv`` (a line a tag) or ``.json``
                (images, categories and annotations, as COCO has them).
        """
        path = Path(path)
        temporary = path.with_name(f'{path.name}.part')
        with temporary.open('w', encoding='utf-8', errors='backslashreplace', newline='') as file:
            if path.suffix == '.jsonl':
                file.writelines(
                    json.dumps(record, ensure_ascii=False) + '\n' for record in self.results()
                )
            elif path.suffix == '.csv':
                names = ['image', 'tag', 'score', *(['share'] if self.segments else [])]
                table = csv.DictWriter(file, names, lineterminator='\n')
                table.writeheader()
                for record in self.records():
                    table.writerows(self._rows(record))
            else:
                json.dump(self._coco(), file, ensure_ascii=False)
        os.replace(temporary, path)

    def _batch(self, start: int) -> range:
        """The batch that starts here, or nothing of it if it is done."""
        batch = range(start, min(start + self.batch_size, len(self.images)))
        return range(0) if self.writer.done.issuperset(batch) else batch

    def _record(self, result: Any) -> dict[str, Any]:
        record = {'image': result.image}
        if result.error is not None:
            return {**record, 'error': result.error}
        return {**record, 'tags': list(result.tags), 'scores': list(result.tags.values())}

    def _files(self, result: Any) -> dict[str, bytes]:
        if not isinstance(result, SegResult) or result.error is not None:
            return {}
        return {'masks.png': result.mask_png()}

    def _mask(self, record: dict[str, Any]) -> SegResult:
        """The result that a record and its mask hold."""
        classes = self.writer.manifest.classes
        background = 0 if classes[0] == 'background' else None
        with Image.open(self.writer.root / record['masks']) as file:
            mask = np.array(file)
        meta = labels_metainfo(classes[int(background is not None) :], background is not None)
        return SegResult(
            record['image'],
            cast(tuple[int, int], mask.shape),
            classes,
            tuple(map(tuple, meta['palette'])),
            mask,
            dict(zip(record['tags'], record['scores'], strict=True)),
            background,
        )

    def _rows(self, record: dict[str, Any]) -> list[dict[str, Any]]:
        if 'masks' in record:
            return self._mask(record).rows()
        return [
            {'image': record['image'], 'tag': tag, 'score': score}
            for tag, score in zip(record.get('tags', ()), record.get('scores', ()), strict=True)
        ]

    def _coco(self) -> dict[str, Any]:
        """Images, categories (ids from 1) and annotations with scores and run lengths."""
        classes = self.writer.manifest.classes
        names = classes[1:] if self.segments and classes[0] == 'background' else classes
        ids = {name: number for number, name in enumerate(names, start=1)}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for image_id, record in enumerate(self.results(), start=1):
            image = {'id': image_id, 'file_name': record['image']}
            if 'size' in record:
                image['height'], image['width'] = record['size']
            images.append(image)
            scores = dict(zip(record.get('tags', ()), record.get('scores', ()), strict=True))
            for found in record.get('masks', ({'tag': tag} for tag in scores)):
                annotation = {
                    'id': len(annotations) + 1,
                    'image_id': image_id,
                    'category_id': ids[found['tag']],
                    'iscrowd': 0,
                }
                if scores.get(found['tag']) is not None:
                    annotation['score'] = scores[found['tag']]
                if 'segmentation' in found:
                    annotation.update(
                        segmentation=found['segmentation'],
                        bbox=found['box'],
                        area=round(found['share'] * image['width'] * image['height']),
                    )
                annotations.append(annotation)
        categories = [{'id': number, 'name': name} for name, number in ids.items()]
        return {'images': images, 'categories': categories, 'annotations': annotations}

    def _manifest(self) -> Manifest:
        options = {key: value for key, value in self.options.items() if key != 'vis_dir'}
        names = {key: options.pop(key, None) for key in ('classes', 'background')}
        model = self.inferencer.model
        words = self.inferencer.names_for(**names)
        # All weights: a fitted classifier's, another encoder's, a source's of affinities.
        config = self.inferencer.cfg.to_dict()
        decides = fingerprint(
            config['model'],
            json.dumps(config, sort_keys=True, default=str),
            self.inferencer.max_side,
            self.batch_size,
            options,
            _words(words),
            [image.name for image in self.images],
            weights_digest(model),
        )
        return Manifest(
            kind='masks' if self.segments else 'tags',
            classes=tuple(
                words.dataset_meta['classes'] if self.segments else words.vocabulary.names
            ),
            num_images=len(self.images),
            model=model.encoder.name,
            weights=weights_digest(model.encoder.clip),
            config=decides,
            version=__version__,
        )


def _words(names: Any) -> list[Any]:
    """The lists of names of a tagger, which a call may have given."""
    tagging = names if isinstance(names, Names) else names.tagger
    return [] if tagging is None else [tagging.vocabulary.phrases, tagging.background.phrases]


def write_contact_sheets(records: Sequence[dict[str, Any]], folder: str | Path) -> list[Path]:
    """Write pages of small pictures with their tags.

    Args:
        records: Of the images: ``image``, and ``tags`` and ``scores``, or ``error``.
        folder: To write ``sheet-0001.jpg`` and so on to.

    Returns:
        The pages.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pages = []
    for start in range(0, len(records), SHEET_SIZE):
        cells = (_cell(record) for record in records[start : start + SHEET_SIZE])
        pages.append(folder / f'sheet-{start // SHEET_SIZE + 1:04d}.jpg')
        Image.fromarray(contact_sheet(cells)).save(pages[-1], quality=90)
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
