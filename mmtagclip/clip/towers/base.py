"""What an image tower must say of itself, so that every method can read it patch by patch."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..block import Block

Family = TypeVar('Family', bound='type[Tower]')
# All families, in the order of definition. There is no other list.
TOWERS: list['type[Tower]'] = []
POSITIONS = ('bilinear', 'bicubic', 'bicubic_scale', 'bilinear_antialias', 'bicubic_antialias')


def tower(family: Family) -> Family:
    """Register a family of towers, so that models of it can be loaded."""
    TOWERS.append(family)
    return family


class Tower(ABC):
    """The image tower of a CLIP, read patch by patch.

    The steps are ``x, grid = embed(images)``; then ``x = block(x)`` for each of
    ``blocks(grid)``; then ``t = norm(x)``; then ``read(t, grid)``. Nothing here is L2-normalised.
    ``P`` is :attr:`lead`.

    Args:
        visual: The library's module; it is not changed.
        positions: How learnt positions are resized off the native grid, one of :data:`POSITIONS`.
            Default: :attr:`default_positions`. Towers without learnt positions ignore it.

    Attributes:
        stride: Side of a patch in pixels.
        native_grid: Patch grid ``(h, w)`` that the model was trained with.
        dim: D, the size of its features.
        lead: Number of tokens in front of the patches.
        num_blocks: Number of transformer blocks, L; 0 for a convolutional tower.
        pooled_by: What the global feature is read from: ``'class token'``, ``'mean'``,
            ``'attention'`` or ``'class token and mean'``.
        default_positions: How this family's learnt positions are resized by default.
    """

    kind: ClassVar[str]
    stride: int
    native_grid: tuple[int, int]
    dim: int
    lead: int
    num_blocks: int
    pooled_by: str
    default_positions: ClassVar[str] = 'bilinear'

    def __init__(self, visual: Any, positions: str | None = None) -> None:
        self.visual = visual
        self.positions = self.default_positions if positions is None else positions

    @staticmethod
    @abstractmethod
    def accepts(visual: Any) -> bool:
        """Whether a module belongs to this family."""

    @staticmethod
    def lacks(visual: Any) -> str | None:
        """Why a module of this family is unsupported, as the end of a sentence; None if it is not.

        The module may be on the meta device.
        """
        return None

    @abstractmethod
    def matrices(self) -> Iterable[nn.Module]:
        """Return the modules whose products are computed in the encoder's dtype."""

    @abstractmethod
    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Compute the input ``(B, P+N, width)`` float32 of block 0, and the patch grid ``(h, w)``.

        Args:
            images: ``(B, 3, H, W)``, normalised; H and W are multiples of the stride.
        """

    def blocks(self, grid: tuple[int, int]) -> Sequence[Block]:
        """Return the blocks, bound to a patch grid."""
        return ()

    def norm(self, x: Tensor) -> Tensor:
        """Apply the norm behind the last block: ``(B, n, width)`` to ``(B, n, width)``."""
        return x

    @abstractmethod
    def patches(self, t: Tensor, grid: tuple[int, int]) -> Tensor:
        """Read patches one by one: ``(B, N, width)``, after :meth:`norm`, to ``(B, N, D)``."""

    @abstractmethod
    def pool(self, t: Tensor, grid: tuple[int, int], seen: Tensor | None = None) -> Tensor:
        """Read the global feature ``(B, D)`` of tokens ``(B, P+N, width)``, after :meth:`norm`.

        Args:
            t: The tokens.
            grid: The patch grid.
            seen: ``(B, N)`` bool, the patches that count. Default: all. A tower that is pooled by
                its class token ignores it: the blocks apply it.
        """

    def read(self, t: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Read patches ``(B, N, D)`` and global feature ``(B, D)`` of tokens after :meth:`norm`."""
        return self.patches(t[:, self.lead :], grid), self.pool(t, grid)

    def global_feature(self, x: Tensor, grid: tuple[int, int], seen: Tensor | None) -> Tensor:
        """Run the last block as trained, and read the global feature ``(B, D)``.

        Args:
            x: ``(B, P+N, width)`` input of block L-1, or of :meth:`norm` if there are no blocks.
            grid: The patch grid.
            seen: See :meth:`pool`.
        """
        if self.num_blocks:
            x = self.blocks(grid)[-1].ordinary(x, self.row_mask(seen))
        return self.pool(self.norm(x), grid, seen)

    def patch_text(self, text: Tensor) -> Tensor:
        """Text features ``(C, D)`` as patches are compared with them: here, the same."""
        return text

    def row_mask(self, seen: Tensor | None) -> Tensor | None:
        """The mask of the first token's row in every block; None if that token is not read."""
        return seen

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matrix products."""
        return next(weight.dtype for part in self.matrices() for weight in part.parameters())

    @property
    def native_size(self) -> tuple[int, int]:
        """Image size ``(H, W)`` in pixels that the model was trained with."""
        height, width = self.native_grid
        return height * self.stride, width * self.stride


def tower_class(visual: Any) -> type[Tower] | None:
    """Return the family of an image tower, the one defined last; None if there is none."""
    return next((family for family in reversed(TOWERS) if family.accepts(visual)), None)


def check_tower(visual: Any, name: str) -> type[Tower]:
    """Return the family of a supported image tower, which may be on the meta device.

    Raises:
        ValueError: The tower is unsupported; the message names it and says why.
    """
    family = tower_class(visual)
    trunk = getattr(visual, 'trunk', None)
    kind = type(visual).__name__ if trunk is None else f"timm's {type(trunk).__name__}"
    start = f'the image tower of {name} ({kind})'
    if family is None:
        known = ', '.join(family.kind for family in TOWERS)
        raise ValueError(f'{start} is unsupported; these kinds are supported: {known}')
    why = family.lacks(visual)
    if why is not None:
        raise ValueError(f'{start} {why}')
    return family


def build_tower(visual: Any, name: str, positions: str | None, options: Mapping[str, Any]) -> Tower:
    """Build the :class:`Tower` of a supported module.

    Args:
        visual: The module.
        name: The model, for messages.
        positions: See :class:`Tower`.
        options: Options of its family.

    Raises:
        ValueError: The module is unsupported, or its family has no such option.
    """
    family = check_tower(visual, name)
    known = list(inspect.signature(family).parameters)[2:]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(
            f'the image tower of {name} has no option {unknown[0]!r}; it has '
            f'{", ".join(known) or "none"}'
        )
    return family(visual, positions, **options)


def resize_positions(square: Tensor, grid: tuple[int, int], how: str) -> Tensor:
    """Resize the positional embedding of a grid of patches.

    Args:
        square: ``(1, width, h0, w0)``, as trained.
        grid: Target grid ``(h, w)``; the native grid changes nothing.
        how: One of :data:`POSITIONS`, see :class:`mmtagclip.clip.DenseEncoder`.

    Returns:
        ``(1, width, h, w)``.
    """
    height, width = square.shape[2:]
    if grid == (height, width):
        return square
    if how == 'bicubic_scale':
        # torch samples with these exact factors, so the result differs from resizing to `grid`.
        factors = ((grid[0] + 0.1) / height, (grid[1] + 0.1) / width)
        return F.interpolate(square, scale_factor=factors, mode='bicubic')
    mode, _, antialias = how.partition('_')
    return F.interpolate(
        square, size=grid, mode=mode, align_corners=False, antialias=bool(antialias)
    )


def resize_token_positions(
    embedding: Tensor, native_grid: tuple[int, int], grid: tuple[int, int], how: str
) -> Tensor:
    """Resize the positions of the patches among those of all tokens.

    Args:
        embedding: ``(n+N0, width)``; the last N0 are those of the patches of the native grid.
        native_grid: ``(h0, w0)``, ``N0 = h0 * w0``.
        grid: Target grid ``(h, w)``.
        how: One of :data:`POSITIONS`.

    Returns:
        ``(n+N, width)``; the embedding itself on the native grid.
    """
    if grid == native_grid:
        return embedding
    height, width = native_grid
    lead = len(embedding) - height * width
    square = embedding[lead:].reshape(1, height, width, -1).permute(0, 3, 1, 2)
    return torch.cat([embedding[:lead], resize_positions(square, grid, how).flatten(2)[0].T])


def output_size(width: int, *parts: nn.Module) -> int:
    """Size of what the parts of a head make of ``width`` features."""
    for part in parts:
        for module in part.modules():
            width = module.out_features if isinstance(module, nn.Linear) else width
    return width


def mean_of(patches: Tensor, seen: Tensor | None) -> Tensor:
    """Mean ``(B, width)`` of the patches ``(B, N, width)`` that are seen; of all if none is."""
    if seen is None:
        return patches.mean(dim=1)
    seen = seen | ~seen.any(dim=1, keepdim=True)
    weight = seen.to(patches.dtype)[..., None]
    return (patches * weight).sum(dim=1) / weight.sum(dim=1)
