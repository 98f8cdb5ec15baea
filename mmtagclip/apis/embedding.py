"""Embeddings of images and texts: files of them, and search by exact products.

An embedding file has one row per image that could be read:

- ``.parquet``: the columns ``image`` (its path) and ``embedding`` (D float32), and with patches
  ``grid`` (h, w) and ``patches`` (h * w lists of D float16, row by row of the grid).
- ``.safetensors``: the tensors ``embeddings`` ``(n, D)`` float32, and with patches ``grids``
  ``(n, 2)`` int32 and ``patches`` ``(sum of h * w, D)`` float16, image by image. The paths are the
  JSON list ``images`` of the metadata.

Both have the metadata ``mmtagclip``, a JSON object: whose embeddings they are, see
:class:`EmbeddingFile`.
"""

from ..frameworks import pretrain  # noqa: F401

# isort: split
import base64
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..clip import Vocabulary
from ..clip.downloads import settle_downloads
from ..devices import check_device
from ..extras import require
from ..files import make_folder, safetensors_content, write_whole
from ..images import PatchGrid
from ..jobs.description import Source, digest, file_stamp, flatten
from ..jobs.runner import (
    Job,
    Manifest,
    only_clean_up_is_left,
    read_results,
    remove_results,
    unfinished,
)
from ..models import CLIPEncoder
from ..models.taggers.tagger import group_by_size
from ..records import ImageRecord, parse_json
from ..registry import MODELS
from ..version import __version__
from .demo_model import REAL_TAGGER, are_demo_scenes, demo_notice, is_demo_model
from .inputs import ImageInput, list_images
from .model_zoo import encoder_configs, list_models, load_config

FORMAT = 'mmtagclip embeddings 1'
SUFFIXES = ('.parquet', '.safetensors')
ROWS = 1024  # that are written together, or searched
PATCH_ROWS = 16
DEFAULT_MAX_SIDE = 1024
LENGTH_ERROR = 0.01  # of an embedding that is not damaged, at most


class Embedder:
    """A frozen CLIP as an encoder of whole images and of texts.

    An image's embedding is CLIP's own (in most models the class token) of the whole image: by
    default squeezed to the size that CLIP was trained with, as other programs embed it, or of the
    image's own shape. Patch features are always those of its own shape, from the model's last
    block, as all methods of this package see them.

    Args:
        model: Path or name of a config, a config, or a built :class:`CLIPEncoder`. A name is
            written into the files, so that they can be searched without naming it again.
        device: ``'cpu'``, ``'cuda:0'`` and so on; cuda if available by default. A built encoder
            stays where it is.
        max_side: If given, images are embedded at their own shape, and shrunk if their longer
            side has more pixels. Patches are always; they are shrunk to 1024 if this is None.
        encoder: Another CLIP in place of the config's, such as ``'ViT-B-16-SigLIP2:webli'``;
            see :func:`mmtagclip.apis.model_zoo.set_encoder`.
        download: Whether weights that are not on this machine may be downloaded.

    Attributes:
        warns: Whether to warn when the bundled demo model is given other images than the
            demo's; False once that was done.

    Raises:
        FileNotFoundError: There is no such config, or weights would have to be downloaded.
        ValueError: The model has no encoder, ``max_side`` is below 1, the device can't be used,
            or ``encoder`` is unknown, unsupported, or given with a built encoder.
    """

    warns = True

    def __init__(
        self,
        model: Any,
        device: str | None = None,
        max_side: int | None = None,
        *,
        encoder: str | None = None,
        download: bool = False,
    ) -> None:
        check_device(device)
        self.name = model if isinstance(model, str) else ''
        if isinstance(model, CLIPEncoder):
            if encoder is not None:
                raise ValueError('a built encoder has no other: leave out encoder')
            built = model
        else:
            configs = encoder_configs(load_config(model, encoder=encoder))
            if not configs:
                raise ValueError(f'{model} has no encoder')
            settle_downloads(configs[0], download)
            built = MODELS.build(configs[0])
            device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
        self.encoder = built.eval() if device is None else built.eval().to(device)
        self.max_side = max_side
        self.square = PatchGrid(built.patch_size, built.native_size)
        side = DEFAULT_MAX_SIDE if max_side is None else max_side
        self.grid = PatchGrid(built.patch_size, max_side=side)

    @property
    def dimension(self) -> int:
        """D, the length of an embedding."""
        return self.encoder.dim

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Embed images.

        Args:
            images: ``(H, W, 3)`` uint8 RGB each, of any sizes.

        Returns:
            ``(B, D)`` float32, unit length.

        Raises:
            ValueError: An image makes too many patches.
        """
        self.warn_of_demo()
        return self._images([self._resized(image) for image in images])

    def _resized(self, image: np.ndarray, name: object = 'an image') -> np.ndarray:
        return (self.square if self.max_side is None else self.grid).resize(image, name)

    def _images(self, resized: Sequence[np.ndarray]) -> np.ndarray:
        inputs = [self._input(image) for image in resized]
        vectors = np.empty((len(inputs), self.dimension), np.float32)
        for group in group_by_size(inputs):
            pixels = torch.stack([inputs[index] for index in group])
            vectors[group] = self.encoder.encode_class_token(pixels).cpu().numpy()
        return vectors

    def patches(self, image: np.ndarray, name: object = 'an image') -> np.ndarray:
        """Embed the patches of an image.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            name: Of the image, for messages.

        Returns:
            ``(h, w, D)`` float32, unit length.

        Raises:
            ValueError: The image makes too many patches.
        """
        self.warn_of_demo()
        return self._patches(image, name)

    def _patches(self, image: np.ndarray, name: object) -> np.ndarray:
        features = self.encoder(self._input(self.grid.resize(image, name))[None])
        return features.patches[0].unflatten(0, features.grid).cpu().numpy()

    def text(self, text: str) -> np.ndarray:
        """Embed a text as it stands, without a prompt template.

        Returns:
            ``(D,)`` float32, unit length.

        Raises:
            ValueError: It is empty, or too long for the text tower.
        """
        if not text.strip():
            raise ValueError('the text is empty')
        return self.encoder.encode_names(Vocabulary(((text.strip(),),)), ('{}',))[0].numpy()

    def warn_of_demo(self) -> None:
        """Warn once that the demo's model knows no other images, if it is that model."""
        if self.warns and is_demo_model(self):
            self.warns = False
            warnings.warn(demo_notice(f'Embedder({REAL_TAGGER!r})'), stacklevel=3)

    def _input(self, pixels: np.ndarray) -> Tensor:
        device = next(self.encoder.parameters()).device
        image = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1)
        return self.encoder.normalise(image.float() / 255)


def embed_images(
    embedder: Embedder,
    inputs: Any,
    out: str | Path,
    *,
    patches: bool = False,
    batch_size: int = 8,
    on_error: str = 'skip',
    replace: bool = False,
    show_progress: bool = True,
) -> dict[str, str]:
    """Write the embeddings of images to a file, which appears when it is complete.

    Until then, results are in the folder ``OUT.unfinished``; started again with the same
    arguments, a run that was stopped resumes.

    Args:
        embedder: What embeds.
        inputs: See :func:`mmtagclip.apis.list_images`; files only.
        out: ``.parquet`` or ``.safetensors``.
        patches: Whether to write patch features, too.
        batch_size: Images that are embedded together.
        on_error: ``'raise'``, or ``'skip'`` images that can't be read.
        replace: Whether to replace a file that is there.
        show_progress: Whether to show a progress bar.

    Returns:
        For each image that could not be read, by its path, the reason.

    Raises:
        FileExistsError: The file is there.
        FileNotFoundError: There is no image.
        ImportError: ``.parquet`` without pyarrow.
        TypeError: An image that is not a file.
        ValueError: The file has another ending, another run was begun there, no image can be
            read, or ``on_error='raise'`` and one can't.
    """
    out = Path(out)
    check_embedding_file(out)
    if out.exists() and not replace and not only_clean_up_is_left(out):
        raise FileExistsError(f'{out} exists already; replace it, or name another file')
    if on_error not in ('raise', 'skip'):
        raise ValueError(f"on_error must be 'raise' or 'skip', not {on_error!r}")
    if batch_size < 1:
        raise ValueError(f'batch_size must be at least 1, not {batch_size}')
    images = list_images(inputs)
    for image in images:
        if not isinstance(image.source, Path):
            raise TypeError(f'{image.name} is not a file, so its embedding could not be named')
    if not are_demo_scenes(images):
        embedder.warn_of_demo()
    facts = {
        'format': FORMAT,
        'model': embedder.name,
        'dimension': embedder.dimension,
        'patch_dimension': embedder.encoder.patch_dim,
        'max_side': embedder.max_side,
        'encoder': embedder.encoder.identity,
        'version': __version__,
    }
    job = {**{key: facts[key] for key in ('encoder', 'max_side')}, 'patches': patches}
    sources = _sources(images)
    facts['files'] = digest(dict(sources))
    run = Job(unfinished(out), Manifest('embeddings', (), flatten(job)), sources, replace=replace)
    _embed_missing(run, embedder, images, patches, batch_size, on_error, show_progress)
    _, records = read_results(run.root)
    errors = {record.image: record.error for record in records if record.error is not None}
    if len(errors) == len(records):
        raise ValueError(f'not one image could be read: {next(iter(errors.values()))}')
    rows = _Rows(run.root, [record for record in records if record.error is None], patches)
    facts['errors'] = errors
    write = _parquet if out.suffix == '.parquet' else _safetensors
    make_folder(run.work)  # for what is not finished, so that nothing else is left behind
    write_whole(out, write(rows, facts), scratch=run.work)
    remove_results(run.root)
    return errors


def _sources(images: Sequence[ImageInput]) -> list[Source]:
    return [Source(image.name, file_stamp(str(image.source))) for image in images]


def check_embedding_file(out: Path) -> None:
    """Refuse a file of another ending, or Parquet without pyarrow.

    Raises:
        ImportError: pyarrow is missing.
        ValueError: The file has another ending.
    """
    if out.suffix not in SUFFIXES:
        raise ValueError(f'embeddings are written to {" or ".join(SUFFIXES)}, not to {out}')
    if out.suffix == '.parquet':
        _arrow()


def _embed_missing(
    run: Job,
    embedder: Embedder,
    images: Sequence[ImageInput],
    patches: bool,
    batch_size: int,
    on_error: str,
    show_progress: bool,
) -> None:
    """Embed the images that have no result yet."""
    starts = range(0, len(images), batch_size)
    batches = run.left([range(start, min(start + batch_size, len(images))) for start in starts])
    silent = None if show_progress and len(images) > 1 else True
    try:
        with tqdm(total=sum(map(len, batches)), unit='image', disable=silent) as progress:
            for batch in batches:
                _embed_batch(run, embedder, images, batch, patches, on_error)
                progress.update(len(batch))
    finally:
        run.commit()
    if not run.finish():
        raise FileNotFoundError(f'results in {run.root} were removed meanwhile; start again')


def _embed_batch(
    run: Job,
    embedder: Embedder,
    images: Sequence[ImageInput],
    batch: Sequence[int],
    patches: bool,
    on_error: str,
) -> None:
    read: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}
    for index in batch:
        image = images[index]
        try:
            pixels = image.read()
            resized = embedder._resized(pixels, image.name)
            read[index] = resized, embedder._patches(pixels, image.name) if patches else None
        except (ValueError, OSError) as error:
            if on_error == 'raise':
                raise
            run.add(index, ImageRecord(image.name, error=str(error)))
    if not read:
        return
    vectors = embedder._images([resized for resized, _ in read.values()])
    for (index, (_, features)), vector in zip(read.items(), vectors, strict=True):
        text = base64.b64encode(vector.astype('<f4').tobytes()).decode()
        more: dict[str, Any] = {'embedding': text}
        files = {}
        if features is not None:
            more['grid'] = list(features.shape[:2])
            files['patches.bin'] = features.astype('<f2').tobytes()
        run.add(index, ImageRecord(images[index].name, more=more), files)


@dataclass(frozen=True)
class _Rows:
    """The rows of a finished run; patch features stay on the disk."""

    root: Path
    records: Sequence[ImageRecord]
    has_patches: bool

    @property
    def images(self) -> list[str]:
        """Paths, with what is no Unicode escaped."""
        return [record.image.encode(errors='backslashreplace').decode() for record in self.records]

    def vectors(self) -> np.ndarray:
        """``(n, D)`` float32."""
        content = b''.join(base64.b64decode(record.more['embedding']) for record in self.records)
        return np.frombuffer(content, '<f4').reshape(len(self.records), -1)

    def patches(self, index: int) -> bytes:
        """Features of an image's patches, ``(h * w, D)`` float16."""
        return (self.root / self.records[index].more['patches']).read_bytes()


class _Sink:
    """A file of which bytes are taken as they come; pyarrow asks for nothing else."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.place = 0

    def write(self, content: Any) -> int:
        self.parts.append(bytes(content))
        self.place += len(self.parts[-1])
        return len(self.parts[-1])

    def tell(self) -> int:
        return self.place

    def flush(self) -> None:
        """There is nothing to do."""

    def close(self) -> None:
        """There is nothing to do."""

    def take(self) -> list[bytes]:
        parts, self.parts = self.parts, []
        return parts


def _parquet(rows: _Rows, facts: Mapping[str, Any]) -> Iterator[bytes]:
    """The content of a Parquet file, group of rows by group of rows."""
    pa, pq = _arrow()
    size = facts['dimension']
    columns = [('image', pa.string()), ('embedding', pa.list_(pa.float32(), size))]
    if rows.has_patches:
        columns += [
            ('grid', pa.list_(pa.int32(), 2)),
            ('patches', pa.list_(pa.list_(pa.float16(), facts['patch_dimension']))),
        ]
    schema = pa.schema(columns, metadata={'mmtagclip': json.dumps(facts)})
    images, vectors = rows.images, rows.vectors()
    step = PATCH_ROWS if rows.has_patches else ROWS
    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink, mode='w'), schema) as writer:
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            arrays = [
                pa.array(images[part], pa.string()),
                pa.FixedSizeListArray.from_arrays(vectors[part].reshape(-1), size),
            ]
            if rows.has_patches:
                grids = [record.more['grid'] for record in rows.records[part]]
                ends = np.cumsum([0, *(height * width for height, width in grids)])
                content = b''.join(rows.patches(start + row) for row in range(len(grids)))
                values = pa.FixedSizeListArray.from_arrays(
                    np.frombuffer(content, '<f2'), facts['patch_dimension']
                )
                arrays += [
                    pa.array(grids, schema.field('grid').type),
                    pa.ListArray.from_arrays(ends.astype(np.int32), values),
                ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            yield from sink.take()
    yield from sink.take()


def _safetensors(rows: _Rows, facts: Mapping[str, Any]) -> Iterator[bytes]:
    """The content of a safetensors file."""
    vectors = rows.vectors()
    tensors: dict[str, Any] = {'embeddings': ('F32', vectors.shape, [vectors.tobytes()])}
    if rows.has_patches:
        grids = np.array([record.more['grid'] for record in rows.records], '<i4')
        shape = int(grids.prod(axis=1).sum()), facts['patch_dimension']
        patches = (rows.patches(row) for row in range(len(grids)))
        tensors['grids'] = ('I32', grids.shape, [grids.tobytes()])
        tensors['patches'] = ('F16', shape, patches)
    metadata = {'mmtagclip': json.dumps(facts), 'images': json.dumps(rows.images)}
    return safetensors_content(tensors, metadata, 'write .parquet')


class EmbeddingFile:
    """A file that :func:`embed_images` wrote.

    Args:
        path: The file.

    Attributes:
        facts: ``model`` (its name as it was given, or empty), ``dimension``, ``max_side`` of the
            :class:`Embedder`, ``encoder`` (digests of its weights and architecture, and more),
            ``files`` (digest of the images' names, sizes and times), ``errors`` (images that could
            not be read, with the reason).

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: ``.parquet`` without pyarrow.
        ValueError: It is damaged, or not such a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f'there is no file {path}')
        if self.path.suffix not in SUFFIXES:
            raise ValueError(f'embeddings are in {" or ".join(SUFFIXES)} files, not in {path}')
        with _naming(self.path):
            metadata = self._metadata()
            self.facts = parse_json(metadata.get('mmtagclip', 'null'))
            if not isinstance(self.facts, dict) or self.facts.get('format') != FORMAT:
                raise ValueError(f'its metadata lacks "format": "{FORMAT}"')
            _check_facts(self.facts)

    def batches(self) -> Iterator[tuple[list[str], np.ndarray]]:
        """Paths of images and their embeddings ``(n, D)`` float32, some rows at a time.

        Raises:
            ValueError: The file is damaged.
        """
        batches = self._parquet() if self.path.suffix == '.parquet' else self._safetensors()
        while True:
            with _naming(self.path):
                batch = next(batches, None)
            if batch is None:
                return
            with _naming(self.path):
                _check_rows(*batch, self.facts['dimension'])
            yield batch

    def bundled_model(self) -> str:
        """Name of the bundled model that made the file.

        A path in a file of somebody else is not followed, because a config is a program.

        Raises:
            ValueError: It was none.
        """
        name = self.facts['model']
        if name not in {entry.name for entry in list_models()}:
            raise ValueError(
                f'{self.path} was made by {name or "a model"!r}, which is not bundled: name its '
                'config with --model'
            )
        return name

    def check(self, embedder: Embedder) -> None:
        """Refuse embeddings of another encoder: products with them would mean nothing.

        Raises:
            ValueError: They are of another encoder.
        """
        ours, theirs = embedder.encoder.identity, self.facts['encoder']
        for key in ('architecture', 'weights'):
            if ours[key] != theirs[key]:
                raise ValueError(
                    f'{self.path} has embeddings of {theirs["name"]}, whose {key} are not those '
                    f'of this {ours["name"]}: name the model that made the file, or embed the '
                    'images again'
                )

    def check_files(self, images: Sequence[ImageInput]) -> None:
        """Refuse embeddings of files that were changed since; files of 0.6.0 do not tell.

        Args:
            images: All images, files only.

        Raises:
            ValueError: One was changed.
        """
        if self.facts.get('files') not in (None, digest(dict(_sources(images)))):
            raise ValueError(
                f'images have changed since their embeddings in {self.path} were made: name '
                'another file with --embeddings, or remove this one'
            )

    def _metadata(self) -> dict[str, str]:
        if self.path.suffix == '.parquet':
            _, pq = _arrow()
            found = pq.read_schema(self.path).metadata or {}
            return {key.decode(): value.decode() for key, value in found.items()}
        from safetensors import safe_open

        with safe_open(self.path, 'numpy') as file:
            return file.metadata() or {}

    def _parquet(self) -> Iterator[tuple[list[str], np.ndarray]]:
        _, pq = _arrow()
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(ROWS, columns=['image', 'embedding']):
                values = batch.column(1).flatten().to_numpy()
                yield batch.column(0).to_pylist(), values.reshape(batch.num_rows, -1)

    def _safetensors(self) -> Iterator[tuple[list[str], np.ndarray]]:
        from safetensors import safe_open

        with safe_open(self.path, 'numpy') as file:
            images = parse_json(file.metadata()['images'])
            values = file.get_slice('embeddings')
            if values.get_shape()[:1] != [len(images)]:
                raise ValueError(f'it has {values.get_shape()} embeddings of {len(images)} images')
            for start in range(0, len(images), ROWS):
                end = min(start + ROWS, len(images))
                yield images[start:end], values[start:end]


def _check_facts(facts: Mapping[str, Any]) -> None:
    encoder, side = facts.get('encoder'), facts.get('max_side')
    if (
        not isinstance(facts.get('model'), str)
        or type(facts.get('dimension')) is not int
        or not (side is None or (type(side) is int and side > 0))
        or not isinstance(encoder, dict)
        or not {'name', 'architecture', 'weights'} <= encoder.keys()
    ):
        raise ValueError('its metadata is damaged')


def _check_rows(images: Any, vectors: np.ndarray, dimension: int) -> None:
    """Refuse rows that are no embeddings: one flipped bit may put an image before all others."""
    if not all(isinstance(image, str) for image in images):
        raise ValueError('a path is missing or damaged')
    if vectors.shape != (len(images), dimension) or vectors.dtype != np.float32:
        raise ValueError(f'it has no float32 rows of {dimension} numbers')
    with np.errstate(over='ignore', invalid='ignore'):
        whole = abs(np.linalg.norm(vectors, axis=1) - 1) < LENGTH_ERROR  # False for NaN
    if not whole.all():
        raise ValueError(
            f'the embedding of {images[int(whole.argmin())]} is damaged: its length is not 1'
        )


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors of the readers as one sentence that names the file."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        reason = ' '.join(str(error).split())
        raise ValueError(f'{path} is no file of embeddings: {reason}') from None


def search(
    query: np.ndarray, batches: Iterable[tuple[Sequence[str], np.ndarray]], top: int = 10
) -> list[tuple[str, float]]:
    """Find the embeddings that are nearest to a query, by all products.

    Args:
        query: ``(D,)``, unit length.
        batches: Names and embeddings ``(n, D)`` of unit length, as
            :meth:`EmbeddingFile.batches` gives them.
        top: How many to find.

    Returns:
        Names and cosines in [-1, 1], the highest first; equal ones in the order of the rows.

    Raises:
        ValueError: ``top`` is below 1, or the lengths differ.
    """
    if top < 1:
        raise ValueError(f'the number of results must be at least 1, not {top}')
    best: list[tuple[str, float]] = []
    for names, vectors in batches:
        if vectors.shape[1:] != query.shape:
            raise ValueError(f'the query has {len(query)} numbers, a row {vectors.shape[1]}')
        scores = vectors @ query
        order = np.argsort(-scores, kind='stable')[:top]
        best += [(names[row], float(scores[row])) for row in order]
        best = sorted(best, key=lambda one: -one[1])[:top]
    return best


def _arrow() -> tuple[Any, Any]:
    require('pyarrow', 'parquet', 'parquet')
    import pyarrow
    import pyarrow.parquet

    return pyarrow, pyarrow.parquet
