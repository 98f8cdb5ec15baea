"""Memory banks: regions of unlabelled images, each with a key to find it by and a CLIP vector.

A bank is a ``.safetensors`` file of N regions, image by image:

- ``keys`` ``(N, K)``, float16 or float32: features of another model, unit length;
- ``values`` ``(N, D)`` of the same type: CLIP features, unit length;
- ``image`` ``(N,)`` int32: where the region's image is in the JSON list ``images`` of the metadata;
- ``region`` ``(N,)`` int32: the region's id in that image.

The metadata ``mmtagclip``, a JSON object, says whose features they are, see :class:`MemoryBank`.
The file stays on the disk: it is mapped into memory, and read in pieces.
"""

import json
import math
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..clip.loading import weights_digest
from ..extras import require
from ..files import safetensors_content, user_path, write_whole
from ..records import parse_json
from .grids import bilinear

FORMAT = 'mmtagclip memory bank 2'
DTYPES = {'float16': torch.float16, 'float32': torch.float32}
KINDS = {'F16': torch.float16, 'F32': torch.float32, 'I32': torch.int32}
LENGTH_ERROR = 0.01  # of a vector that is not damaged, at most
ROWS = 8192  # of keys that are compared together, at most
PRODUCTS = 2**22  # numbers of one piece of a table of products, at most
GATHERED = 256  # values that are read together: the system maps 64 kB or more for each
TRAINING = 2**17  # keys that FAISS's index is trained with, at most
PAIRS = 2**14  # pairs of a query and a key whose product is computed again together
CANDIDATES = 500  # of FAISS's index for a query
SEARCHES = ('exact', 'faiss')


class FeatureFile:
    """A file of features that were made with a CLIP and with another model.

    Attributes:
        facts: ``encoder`` and ``source``: name and digests of both, see :class:`MemoryBank`.
        of_clip: What of CLIP the file holds, for messages.
        of_source: What of the other model.
        another: How to make another file.
    """

    facts: dict[str, Any]
    of_clip: str
    of_source: str
    another: str
    _path: Path

    def check_encoder(self, encoder: Any) -> None:
        """Refuse a file of another CLIP, which can't be compared with the texts of this one.

        Args:
            encoder: A :class:`mmtagclip.clip.DenseEncoder`; its last block does not matter.

        Raises:
            ValueError: The weights or the architecture are others.
        """
        ours, theirs = encoder.identity, self.facts['encoder']
        for key in ('architecture', 'weights'):
            if ours[key] != theirs[key]:
                raise ValueError(
                    f'{self._path} has {self.of_clip} {theirs["name"]}, whose {key} are not those '
                    f'of this {ours["name"]}: {self.another} with this encoder'
                )

    def check_source(self, source: nn.Module) -> None:
        """Refuse a file whose features are another model's.

        Args:
            source: The :class:`~mmtagclip.regions.AffinitySource` of the queries.

        Raises:
            ValueError: It is another one, or has other weights.
        """
        ours, theirs = source_identity(source), self.facts['source']
        if ours != theirs:
            same = ours['name'] == theirs['name']
            raise ValueError(
                f'{self._path} has {self.of_source} of {theirs["name"]}, but the queries are of '
                f'{"other weights of the same model" if same else ours["name"]}: {self.another} '
                'with this source'
            )


class MemoryBank(FeatureFile):
    """A bank on the disk.

    Args:
        path: The file, of ``mmtagclip bank``.
        search: ``'exact'``: all products, in pieces; or ``'faiss'``: exact products with the
            candidates of the index that :meth:`add_index` made, which is quick and misses some.
        nprobe: Lists of FAISS's index that are searched; published: 256. Ignored by an exact
            search.
        candidates: How many rows the index names for a query, at least as many as are asked for;
            published: only these. Ignored by an exact search.

    Attributes:
        facts: ``rows`` (N), ``key_dimension`` (K), ``dimension`` (D), ``dtype``, ``encoder``
            (digests of CLIP's weights and architecture, and more), ``source`` (name and digest of
            the model whose features the keys are), ``settings`` (how both were computed),
            ``regions`` (digest of which regions these are), ``content`` (digest of their keys and
            values), ``errors`` (images without regions in the bank, with the reason).

    Raises:
        FileNotFoundError: There is no such file, or no index.
        ImportError: ``search='faiss'`` without FAISS.
        ValueError: The file is damaged, not finished, or no bank.
    """

    of_clip, of_source, another = 'values of', 'keys', 'make a bank'

    def __init__(
        self,
        path: str | Path,
        search: str = 'exact',
        nprobe: int = 256,
        candidates: int = CANDIDATES,
    ) -> None:
        if search not in SEARCHES:
            raise ValueError(f'search must be one of {", ".join(SEARCHES)}, not {search!r}')
        for name, number in (('nprobe', nprobe), ('candidates', candidates)):
            if number < 1:
                raise ValueError(f'{name} must be at least 1, not {number}')
        path = user_path(path)
        if not path.is_file():
            begun = path.with_name(f'{path.name}.unfinished').is_dir()
            what = 'is not finished' if begun else 'is not there'
            raise FileNotFoundError(f'the memory bank {path} {what}: run mmtagclip bank for it')
        self.search_by = search
        self.nprobe = nprobe
        self.candidates = candidates
        self._path = path
        try:
            self._read_header()
        except ImportError:
            raise
        except Exception as error:
            reason = ' '.join(str(error).split())
            raise ValueError(f'{path} is no memory bank, or a damaged one: {reason}') from None
        self._checked = False
        self._index = self._load_index() if search == 'faiss' else None

    def _read_header(self) -> None:
        from safetensors import safe_open

        with safe_open(self._path, 'pt') as file:  # checks that the tensors fill the file
            metadata = file.metadata() or {}
        self.facts = parse_json(metadata.get('mmtagclip', 'null'))
        if not isinstance(self.facts, dict) or self.facts.get('format') != FORMAT:
            raise ValueError(f'its metadata lacks "format": "{FORMAT}"')
        _check_facts(self.facts)
        with self._path.open('rb') as opened:
            # Private, as torch takes no memory that it must not write to; nothing is written.
            self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        start = 8 + int.from_bytes(self._map[:8], 'little')
        header = json.loads(self._map[8:start])
        rows, dtype = self.facts['rows'], DTYPES[self.facts['dtype']]
        shapes = {
            'keys': ([rows, self.facts['key_dimension']], dtype),
            'values': ([rows, self.facts['dimension']], dtype),
            'image': ([rows], torch.int32),
            'region': ([rows], torch.int32),
        }
        self._tensors: dict[str, Tensor] = {}
        for name, (shape, kind) in shapes.items():
            entry = header.get(name)
            if entry is None or entry['shape'] != shape or KINDS.get(entry['dtype']) != kind:
                raise ValueError(f'it has no {name} of shape {shape} and type {kind}')
            self._tensors[name] = torch.frombuffer(
                self._map,
                dtype=kind,
                count=math.prod(shape),
                offset=start + entry['data_offsets'][0],
            ).view(shape)

    def __len__(self) -> int:
        """N, the number of regions."""
        return self.facts['rows']

    @property
    def images(self) -> list[str]:
        """Paths of the images, to which ``image`` of :meth:`origin` refers."""
        from safetensors import safe_open

        with safe_open(self._path, 'pt') as file:
            return parse_json(file.metadata()['images'])

    def origin(self, row: int) -> tuple[int, int]:
        """The number of a region's image in :attr:`images`, and its id there."""
        return int(self._tensors['image'][row]), int(self._tensors['region'][row])

    def check_regions(self, other: 'MemoryBank') -> None:
        """Refuse another bank whose rows are not the same regions.

        Raises:
            ValueError: They are not.
        """
        if self.facts['regions'] != other.facts['regions']:
            raise ValueError(
                f'{other._path} has not the same regions of the same images as {self._path}: make '
                'both from the same images and regions'
            )

    def search(self, queries: Tensor, count: int = 20) -> Tensor:
        """Find the regions whose keys are nearest to queries, by inner product.

        Args:
            queries: ``(Q, K)`` float32, unit length.
            count: How many to find; all N if the bank has fewer.

        Returns:
            ``(Q, count)`` int64 rows of the bank, the nearest first; equal ones in the order of
            the rows. -1 where FAISS's index finds fewer.

        Raises:
            ValueError: ``count`` is below 1, queries have another length or are not finite, or the
                keys are damaged.
        """
        if count < 1:
            raise ValueError(f'the number of neighbours must be at least 1, not {count}')
        if queries.ndim != 2 or queries.shape[1] != self.facts['key_dimension']:
            raise ValueError(
                f'{self._path} has keys of {self.facts["key_dimension"]} numbers, a query '
                f'{queries.shape[-1]}'
            )
        count = min(count, len(self))
        if self._index is not None:
            found = self._of_candidates(self._index, queries.float().cpu(), count)
            return found.to(queries.device)
        rows = min(ROWS, max(256, PRODUCTS // max(1, len(queries))))
        _, found = nearest(queries.float(), self.keys(rows, queries.device), count)
        self._checked = True
        return found

    def _of_candidates(self, index: Any, queries: Tensor, count: int) -> Tensor:
        """The nearest of the candidates that FAISS's index names, by exact products."""
        if not torch.isfinite(queries).all():
            raise ValueError('a query is not finite')
        candidates = min(max(count, self.candidates), len(self))
        nearest_rows = queries.new_full((len(queries), count), -1, dtype=torch.long)
        found = torch.from_numpy(index.search(queries.numpy(), candidates)[1])
        for query, rows, best in zip(queries, found, nearest_rows, strict=True):
            rows = rows[rows >= 0].sort().values
            keys = self._tensors['keys'][rows].float()
            self._release()
            self._check_unit(keys, 'key', rows.tolist())
            order = (keys * query).sum(dim=1).argsort(descending=True, stable=True)[:count]
            best[: len(order)] = rows[order]
        return nearest_rows

    def keys(self, rows: int, device: Any = 'cpu') -> Iterator[Tensor]:
        """Keys ``(n, K)`` float32, a number of rows at a time.

        Raises:
            ValueError: They are damaged.
        """
        for start in range(0, len(self), rows):
            part = self._tensors['keys'][start : start + rows].to(device).float()
            if not self._checked:
                self._check_unit(part, 'key', range(start, start + len(part)))
            yield part
            self._release()

    def values(self, rows: Tensor) -> Tensor:
        """Values ``(..., D)`` float32 of rows, on their device.

        Raises:
            ValueError: One is damaged.
        """
        parts = []
        for some in rows.flatten().cpu().split(GATHERED):
            parts.append(self._tensors['values'][some].float())
            self._release()
        found = torch.cat(parts)
        self._check_unit(found, 'value', rows.flatten().tolist())
        return found.view(*rows.shape, -1).to(rows.device)

    def add_index(self, factory: str | None = None) -> Path:
        """Make FAISS's index of the keys, in a file beside the bank; it replaces an earlier one.

        Args:
            factory: What FAISS's ``index_factory`` makes. Default: ``IVF{int(8 * sqrt(N))},PQ32``,
                as published.

        Returns:
            The file.

        Raises:
            ImportError: FAISS is missing.
            ValueError: FAISS can't make such an index of these keys.
        """
        faiss = _faiss()
        clusters = int(8 * math.sqrt(len(self)))
        size = self.facts['key_dimension']
        try:
            index = faiss.index_factory(
                size, factory or f'IVF{clusters},PQ32', faiss.METRIC_INNER_PRODUCT
            )
            step = -(-len(self) // TRAINING)
            # Copies, as a view keeps its whole piece in memory.
            index.train(torch.cat([part[::step].clone() for part in self.keys(ROWS)]).numpy())
            for part in self.keys(ROWS):
                index.add(part.numpy())
            content = faiss.serialize_index(index).tobytes()
        except (RuntimeError, AssertionError) as error:
            reason = ' '.join(str(error).split())
            raise ValueError(
                f'FAISS can not make such an index of {len(self)} keys of {size} numbers: {reason}'
            ) from None
        write_whole(self.index_path, content)
        return self.index_path

    @property
    def index_path(self) -> Path:
        """The file of FAISS's index; its name holds a digest, so that no bank reads another's."""
        return self._path.with_suffix(f'.{self.facts["content"][:8]}.faiss')

    def _load_index(self) -> Any:
        faiss = _faiss()
        path = self.index_path
        if not path.is_file():
            raise FileNotFoundError(
                f'there is no index {path} of this bank: make it with mmtagclip bank --faiss, or '
                "set search='exact'"
            )
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            reason = ' '.join(str(error).split())
            raise ValueError(f'{path} is no index of FAISS, or a damaged one: {reason}') from None
        if (index.ntotal, index.d) != (len(self), self.facts['key_dimension']):
            raise ValueError(
                f'{path} has {index.ntotal} keys of {index.d} numbers, the bank {len(self)} of '
                f'{self.facts["key_dimension"]}: make the index again'
            )
        if hasattr(index, 'nprobe'):
            index.nprobe = self.nprobe
        return index

    def _check_unit(self, vectors: Tensor, what: str, rows: Sequence[int]) -> None:
        """Refuse vectors ``(n, ...)`` of another length: one flipped bit puts one before all."""
        whole = (vectors.norm(dim=-1) - 1).abs() < LENGTH_ERROR  # False for NaN
        if not whole.all():
            row = rows[int((~whole).nonzero()[0])]
            raise ValueError(
                f'{self._path} is damaged: the {what} of row {row} does not have length 1'
            )

    def _release(self) -> None:
        """Give back the memory of what was read; the system keeps the file in its cache."""
        if hasattr(self._map, 'madvise'):
            self._map.madvise(mmap.MADV_DONTNEED)


def nearest(queries: Tensor, keys: Iterable[Tensor], count: int) -> tuple[Tensor, Tensor]:
    """Find the nearest keys by inner product, in one pass.

    A piece's table of products only tells which keys may be among the nearest. Their products are
    computed again, each by itself, so that the result does not depend on the size of the pieces.

    Args:
        queries: ``(Q, K)`` float32, at most unit length.
        keys: ``(n, K)`` each, in order, of unit length.
        count: How many to find.

    Returns:
        Products ``(Q, count)``, the highest first, and the rows of their keys; equal ones in the
        order of the rows. Fewer than ``count``, if there are fewer keys.

    Raises:
        ValueError: A query is not finite.
    """
    if not torch.isfinite(queries).all():
        raise ValueError('a query is not finite')
    # Above what a product in another order can differ by, for vectors of unit length.
    margin = 2 * queries.shape[1] * torch.finfo(torch.float32).eps
    which = queries.new_zeros(0, dtype=torch.long)
    rows, products = which, queries.new_zeros(0)
    start = 0
    for part in keys:
        table = queries @ part.T
        if start >= count:
            limit = products.view(len(queries), count)[:, -1:]
        else:
            limit = table.topk(min(count, len(part)), dim=1).values[:, -1:]
        asked, found = (table > limit - margin).nonzero(as_tuple=True)
        again = [
            (queries[one] * part[other]).sum(dim=1)
            for one, other in zip(asked.split(PAIRS), found.split(PAIRS), strict=True)
        ]
        which, rows, products = _best(
            torch.cat([which, asked]),
            torch.cat([rows, found + start]),
            torch.cat([products, *again]),
            count,
        )
        start += len(part)
    shape = len(queries), min(count, start)
    return products.view(shape), rows.view(shape)


def _best(
    which: Tensor, rows: Tensor, products: Tensor, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``count`` highest products of each query, the highest first; equal ones by their rows."""
    order = rows.argsort(stable=True)
    order = order[products[order].argsort(stable=True, descending=True)]
    order = order[which[order].argsort(stable=True)]
    which = which[order]
    # Place of each within its query: its own place less that of its query's first.
    place = torch.arange(len(which), device=which.device) - torch.searchsorted(which, which)
    order = order[place < count]
    return which[place < count], rows[order], products[order]


def region_means(parts: Iterable[Tensor], ids: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of a map over each region.

    Args:
        parts: ``(c, H, W)`` each, the map's channels in order, so that it need not be held whole.
        ids: ``(H, W)`` integers, the region of each pixel.

    Returns:
        The R ids, ascending, and ``(R, C)`` float32.
    """
    regions, index = ids.unique(return_inverse=True)
    sums = [
        part.new_zeros(len(part), len(regions), dtype=torch.float64).index_add_(
            1, index.flatten(), part.flatten(1).double()
        )
        for part in parts
    ]
    count = torch.bincount(index.flatten(), minlength=len(regions))
    return regions, (torch.cat(sums) / count).T.float()


def unit_region_means(features: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over each region of a map that is resized, and brought to unit length at each pixel.

    The map is not resized: a pixel is a weighted sum of four places of the map, its squared length
    one of their products, and a region's mean one of all places.

    Args:
        features: ``(C, h, w)``, resized bilinearly to the size of the ids.
        ids: ``(H, W)`` integers, the region of each pixel.

    Returns:
        The R ids, ascending, and ``(R, C)`` float32.
    """
    regions, index = ids.unique(return_inverse=True)
    height, width = features.shape[1:]
    # The last row and column once more, so that each pixel has four places.
    features = nn.functional.pad(features[None].double(), (0, 1, 0, 1), mode='replicate')[0]
    (rows, down), (columns, right) = (
        bilinear(*sides) for sides in zip((height, width), ids.shape, strict=True)
    )
    y, down = rows[0][:, None].to(ids.device), down[:, None].to(features)
    x, right = columns[0].to(ids.device), right.to(features)
    steps = [(0, 0), (0, 1), (1, 0), (1, 1)]
    corners = [features[:, dy : dy + height, dx : dx + width] for dy, dx in steps]
    weights = [(down if dy else 1 - down) * (right if dx else 1 - right) for dy, dx in steps]
    squares = torch.zeros(ids.shape, dtype=torch.float64, device=ids.device)
    for one, other in combinations_with_replacement(range(4), 2):
        products = (corners[one] * corners[other]).sum(dim=0)[y, x]
        squares += (1 if one == other else 2) * weights[one] * weights[other] * products
    length = squares.clamp_(min=0).sqrt_().clamp_(min=1e-12)
    cells = (height + 1) * (width + 1)
    shares = squares.new_zeros(len(regions) * cells)
    for (dy, dx), weight in zip(steps, weights, strict=True):
        place = index * cells + (y + dy) * (width + 1) + x + dx
        shares.index_add_(0, place.flatten(), (weight / length).flatten())
    count = torch.bincount(index.flatten(), minlength=len(regions))
    means = shares.view(len(regions), cells) @ features.flatten(1).T
    return regions, (means / count[:, None]).float()


def source_identity(source: nn.Module) -> dict[str, str]:
    """Everything that determines a source's features, as text: ``name`` and ``weights``."""
    return {
        'name': f'{type(source).__name__}({source.extra_repr()})',
        'weights': weights_digest(source),
    }


def bank_content(
    facts: Mapping[str, Any],
    images: Sequence[str],
    image: Sequence[int],
    region: Sequence[int],
    keys: Iterable[bytes],
    values: Iterable[bytes],
) -> Iterator[bytes]:
    """The content of a bank's file, piece by piece.

    Args:
        facts: See :class:`MemoryBank`, but ``format``.
        images: Paths of the images.
        image: The number of each region's image in these.
        region: The id of each region.
        keys: Those of the regions, in pieces, in the type that the facts name, little endian.
        values: Theirs, likewise.
    """
    rows, kind = facts['rows'], {'float16': 'F16', 'float32': 'F32'}[facts['dtype']]

    def numbers(of: Sequence[int]) -> list[bytes]:
        return [torch.tensor(of, dtype=torch.int32).numpy().astype('<i4').tobytes()]

    return safetensors_content(
        {
            # The widest first, so that all are aligned.
            'image': ('I32', (rows,), numbers(image)),
            'region': ('I32', (rows,), numbers(region)),
            'keys': (kind, (rows, facts['key_dimension']), keys),
            'values': (kind, (rows, facts['dimension']), values),
        },
        {'mmtagclip': json.dumps({'format': FORMAT, **facts}), 'images': json.dumps(list(images))},
        'make several banks',
    )


def _check_facts(facts: Mapping[str, Any]) -> None:
    parts = [facts.get(key) for key in ('encoder', 'source', 'settings', 'errors')]
    if (
        not all(type(facts.get(key)) is int for key in ('rows', 'key_dimension', 'dimension'))
        or facts['rows'] < 1
        or facts.get('dtype') not in DTYPES
        or not all(isinstance(facts.get(key), str) for key in ('regions', 'content'))
        or not all(isinstance(part, dict) for part in parts)
        or not {'name', 'architecture', 'weights'} <= facts['encoder'].keys()
        or not {'name', 'weights'} <= facts['source'].keys()
    ):
        raise ValueError('its metadata is damaged')


def _faiss() -> Any:
    require('faiss', 'faiss', "search='faiss'")
    import faiss

    return faiss
