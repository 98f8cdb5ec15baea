"""From a table of encoded images to a table of results, for any engine that knows Arrow."""

import io
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..apis.call import Call, NameSource, TagCall, unknown_option
from ..apis.folder_run import manifest_of
from ..apis.inferencer import LoadedImage, inferencer_class
from ..apis.inputs import ImageInput
from ..apis.model_zoo import load_config
from ..apis.tag_inferencer import TagInferencer
from ..exports.parquet import result_fields, result_row
from ..extras import require
from ..jobs.runner import Manifest
from ..models.taggers.open_names import OpenNames
from ..models.taggers.thresholds import read_thresholds
from .checks import check_counts

if TYPE_CHECKING:
    import pyarrow as pa

# Options of a call that have no meaning for a table.
NOT_HERE = (
    'inputs', 'on_error', 'out_dir', 'vis_dir', 'show', 'wait_time', 'batch_size', 'channel_order',
    'return_datasamples', 'score_maps',
)  # fmt: skip


class BatchPredictor:
    """Tags or masks of the images of a table, without any engine.

    Ray Data, Daft, Spark (``mapInArrow``) or a loop of your own can call it. Images are read as
    the inferencers read files: with the same limits and the same sentences. An image that can't be
    read is a row with an ``error``.

    Args:
        model: Path or name of a config, or a config; see
            :class:`mmtagclip.apis.inferencer.ImageInferencer`, like ``weights``, ``device``,
            ``max_side``, ``encoder``, ``download`` and ``trust_checkpoint``.
        classes: What to find; the model's own classes if None.
        background: Names that compete with the classes.
        key: Columns of the table that results keep. The last one names an image in messages.
        content: Column with the content of an image's file; null if there is no such file.
        batch_size: Most images that are encoded together. They have one size for the encoder, and
            come from one table. With 1, scores have the same bits as those of ``mmtagclip tag``.
        threads: Threads of torch; as many as it chooses if None.
        decoders: Threads that decode images ahead of the model.
        names: What :meth:`packed_names` of another predictor with these names returned, so that
            their text features are not computed again.
        weights: See ``model``.
        device: The same.
        max_side: The same.
        encoder: The same.
        download: The same.
        trust_checkpoint: The same.
        **options: Of a call: ``threshold``, ``min_score``, ``top``, ``thresholds`` and
            ``all_scores``; of taggers also ``descriptions``, ``hide`` and ``labels``. See
            :class:`mmtagclip.apis.call.TagCall`.

    Examples:
        >>> predictor = BatchPredictor('tagclip_demo', ['bell', 'train'], key='image')
        >>> content = Path('demo/data/JPEGImages/000040.jpg').read_bytes()
        >>> predictor(pyarrow.table({'image': ['a'], 'bytes': [content]})).to_pylist()

    Raises:
        FileNotFoundError: There is no such config, file of names or weights.
        ImportError: pyarrow is not installed.
        TypeError: An option that does not exist, or of another type.
        ValueError: A number below 1, bad names or options.
    """

    def __init__(
        self,
        model: Any,
        classes: NameSource | None = None,
        background: NameSource | None = None,
        *,
        key: str | Sequence[str] = ('id', 'image'),
        content: str = 'bytes',
        batch_size: int = 1,
        threads: int | None = None,
        decoders: int = 2,
        names: bytes | None = None,
        weights: str | Path | None = None,
        device: str | None = None,
        max_side: int | None = None,
        encoder: str | None = None,
        download: bool = False,
        trust_checkpoint: bool = False,
        **options: Any,
    ) -> None:
        require('pyarrow', 'parquet', 'a table of results')
        check_counts(batch_size=batch_size, threads=threads, decoders=decoders)
        self.key = (key,) if isinstance(key, str) else tuple(key)
        self.content = content
        self.batch_size, self.threads, self.decoders = batch_size, threads, decoders
        self._set_threads()
        config = load_config(model, encoder=encoder)
        kind: Any = inferencer_class(config)
        self.inferencer = kind(
            config,
            weights,
            device,
            max_side,
            show_progress=False,
            download=download,
            trust_checkpoint=trust_checkpoint,
        )
        self.kind = 'tags' if isinstance(self.inferencer, TagInferencer) else 'masks'
        call_class = TagCall if self.kind == 'tags' else Call
        known = [field.name for field in fields(call_class) if field.name not in NOT_HERE]
        for option in options:
            if option not in known:
                raise unknown_option(option, known, f'{type(self).__name__} of {self.kind}', {})
        given = {'classes': classes, 'background': background, **options}
        self.options = {name: value for name, value in given.items() if value is not None}
        if 'thresholds' in self.options:  # files count by their content
            self.options['thresholds'] = read_thresholds(self.options['thresholds'])
        call = call_class(None, **self.options)
        self.names: Any
        if not names:
            options_of_names = {one: getattr(call, one) for one in self.inferencer.name_options}
            self.names = self.inferencer.names_for(**options_of_names)
        else:  # from another process of this job, which is trusted as any argument is
            place = next(self.inferencer.model.parameters()).device
            self.names = torch.load(io.BytesIO(names), map_location=place, weights_only=False)
        self._call = call
        self._rule = self.inferencer._rule(self.names, call)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels; of masks with the background, if there is one, as the first."""
        return self.inferencer.label_names(self.names)

    @property
    def result_schema(self) -> 'pa.Schema':
        """The columns of results behind the kept ones; the names of the labels are metadata."""
        import pyarrow as pa

        columns = result_fields(self.kind, bool(self.options.get('all_scores')))
        return pa.schema(columns, metadata={'classes': json.dumps(self.classes)})

    @property
    def manifest(self) -> Manifest:
        """What decides the results, without the images."""
        return manifest_of(self.inferencer, self.options, self.batch_size, self.names)

    def packed_names(self) -> bytes:
        """The names with their text features, for the argument ``names`` of other processes.

        Empty for names that are chosen for each image: they hold the encoder.
        """
        if isinstance(self.names, OpenNames):
            return b''
        buffer = io.BytesIO()
        torch.save(self.names, buffer)
        return buffer.getvalue()

    def __call__(self, table: 'pa.Table') -> 'pa.Table':
        """Results of the images of a table.

        Args:
            table: Columns ``key`` and ``content`` (binary); others are left out. A record batch
                is accepted too.

        Returns:
            A table of the same rows in the same order: ``key``, ``height`` and ``width`` in
            pixels, ``tags`` and ``scores`` from the highest on, and ``error``. With ``all_scores``
            also ``class_scores``, in the order of the classes. Of masks also ``masks``: ``tag``,
            ``share`` of the image, ``box`` (left, top, width, height in pixels) and
            ``segmentation``, COCO's run lengths.

        Raises:
            ValueError: A column is not there.
        """
        import pyarrow as pa

        for name in (*self.key, self.content):
            if name not in table.schema.names:
                raise ValueError(
                    f'the table has no column {name!r}: it has {", ".join(table.schema.names)}'
                )
        self._set_threads()
        rows: list[Any] = [None] * table.num_rows
        waiting: dict[tuple[int, ...] | None, list[tuple[int, LoadedImage]]] = {}
        for index, image in enumerate(self._decoded(table)):
            grid = None if image.data is None else tuple(image.data['inputs'].shape)
            group = waiting.setdefault(grid, [])
            group.append((index, image))
            if len(group) == self.batch_size:
                self._predict(waiting.pop(grid), rows)
        for group in waiting.values():
            self._predict(group, rows)
        kept = [table.schema.field(name) for name in self.key]
        columns = [table.column(name) for name in self.key]
        results = pa.Table.from_pylist(rows, schema=self.result_schema)
        schema = pa.schema([*kept, *self.result_schema], metadata=self.result_schema.metadata)
        return pa.Table.from_arrays([*columns, *results.columns], schema=schema)

    def _decoded(self, table: 'pa.Table') -> Iterator[LoadedImage]:
        """The images in order; a few are decoded ahead."""
        names, contents = table.column(self.key[-1]), table.column(self.content)
        ahead: deque[Future] = deque()
        with ThreadPoolExecutor(self.decoders) as pool:
            for name, content in zip(names, contents, strict=True):
                ahead.append(pool.submit(self.load, str(name.as_py()), content.as_py()))
                if len(ahead) > 2 * self.decoders:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def load(self, name: str, content: bytes | None) -> LoadedImage:
        """Decode one image and bring it through the pipeline.

        Args:
            name: Of the image, for messages.
            content: Of its file; None if there is none.
        """
        if content is None:
            return LoadedImage(ImageInput(name, b''), error=f'no image at {name}')
        return self.inferencer.load(ImageInput(name, bytes(content)), 'skip')

    def _predict(self, group: list[tuple[int, LoadedImage]], rows: list[Any]) -> None:
        inferencer, rule, call = self.inferencer, self._rule, self._call
        options = inferencer._predict_options(rule, call)
        found = inferencer.forward([image for _, image in group], self.names, **options)
        for (index, _), one in zip(group, found, strict=True):
            result: Any = inferencer.with_options(one, rule, call)
            readable = result.error is None
            mask = result.mask if readable and self.kind == 'masks' else None
            with_background = self.kind == 'masks' and result.background is not None
            rows[index] = result_row(
                result.record, result.size if readable else None, mask, result.classes,
                with_background,
            )  # fmt: skip

    def _set_threads(self) -> None:
        # In each call: a thread of its own starts with torch's own number.
        if self.threads is not None and torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
