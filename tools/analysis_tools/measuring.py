"""Shared by the tools that measure: images, taggers, clocks, memory and the lower bound."""

import argparse
import copy
import ctypes
import gc
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

import mmtagclip
from mmtagclip.clip import DenseEncoder, load_clip
from mmtagclip.clip.block import MAP_ENTRIES, padded_length
from mmtagclip.clip.towers import build_tower
from mmtagclip.datasets import LoadImage, ResizeToPatchGrid
from mmtagclip.images import split_files
from mmtagclip.models import CWR, DMAR, CLIPEncoder, TagCLIP, TagCLIPHead
from mmtagclip.models.data_preprocessor import CLIPDataPreprocessor

MODEL = 'ViT-B-16-quickgelu'
# What seconds are read from. Where other programs run, `time.process_time` says more.
clock = time.perf_counter
# Height and width of COCO's photographs, the most frequent first.
SIZES = ((480, 640), (427, 640), (640, 480), (480, 640), (425, 640), (500, 375))


def photographs(folder: Path | None, count: int, scratch: Path) -> list[Path]:
    """Images to measure with: the first of a folder, or generated ones of COCO's usual sizes.

    Generated images are enough if time depends on the size only.
    """
    if folder is not None:
        found, _ = split_files(folder.rglob('*'))
        if len(found) < count:
            raise SystemExit(
                f'error: {folder} holds {len(found)} images, fewer than the requested {count}'
            )
        return found[:count]
    paths = []
    for index in range(count):
        path = scratch / f'{index}.jpg'
        noise = np.random.RandomState(index).randint(0, 256, (12, 16, 3), dtype=np.uint8)
        height, width = SIZES[index % len(SIZES)]
        Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


def load(path: Path, patch_size: int = 16) -> dict[str, Any]:
    """Load an image through the pipeline's transforms."""
    return ResizeToPatchGrid(patch_size).transform(LoadImage().transform({'img_path': str(path)}))


def normalise(results: dict[str, Any]) -> torch.Tensor:
    """The encoder's input ``(1, 3, H, W)`` of a loaded image."""
    image = torch.from_numpy(np.ascontiguousarray(results['img'])).permute(2, 0, 1)
    means = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    return CLIPDataPreprocessor(*means).normalise(image)[None]


def load_model(weights: Path | None) -> Any:
    """A ViT-B/16 of open_clip: from a file, or with random weights, which are as fast."""
    if weights is not None:
        return load_clip(MODEL, checkpoint=weights).model
    torch.manual_seed(0)
    return open_clip.create_model(MODEL)


def build_tagger(
    clip: Any, classes: Any, background: Any, dtype: str = 'float32', compiled: bool = False
) -> TagCLIP:
    """TagCLIP with its published settings and text features of one short template."""
    return TagCLIP(
        encoder=CLIPEncoder(clip, dtype=dtype, text_cache=False, compiled=compiled),
        head=TagCLIPHead(dmar=DMAR(layers=(8, 9, 10)), cwr=CWR()),
        classes=classes,
        background=background,
        templates=['{}'],
    ).eval()


def made_candidates(count: int, grid: tuple[int, int], names: int) -> torch.Tensor:
    """Score maps ``(1, N, names)`` in which the first ``count`` classes are candidates for CWR."""
    refined = torch.zeros(1, *grid, names)
    for label in range(count):
        top, left = label % (grid[0] // 2), label % (grid[1] // 2)
        refined[0, top : top + grid[0] // 3, left : left + grid[1] // 3, label] = 1
    return refined.flatten(1, 2)


def pair(ours: Callable[[], Any], other: Callable[[], Any], repeats: int) -> tuple[float, ...]:
    """Time two functions in turn, after one round that does not count.

    Returns:
        Median seconds of ours, of the other, and the median of ours/other
        within each round.
    """
    rounds = [(timed(ours), timed(other)) for _ in range(repeats + 1)][1:]
    return (
        median(one for one, _ in rounds),
        median(two for _, two in rounds),
        median(one / two for one, two in rounds),
    )


def wait() -> None:
    """Wait until a GPU has finished what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def timed(function: Callable[[], Any]) -> float:
    """Seconds of one call, until a GPU has finished its part, too."""
    wait()
    start = clock()
    function()
    wait()
    return clock() - start


def seconds(function: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds of a function, after one call that does not count."""
    function()
    return median(timed(function) for _ in range(repeats))


def peak_memory(function: Callable[[], Any], device: str = 'cpu') -> int | None:
    """Peak memory while a function runs, in bytes above what was held before.

    It is the memory of the tensors on a GPU, else that of the process. The function is called in
    any case; None where the system doesn't tell (it is read from Linux's ``/proc``).
    """
    if on_cuda(device):
        gc.collect()
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - held
    if not sys.platform.startswith('linux'):
        function()
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # give back what earlier calls left behind
    Path('/proc/self/clear_refs').write_text('5')
    before = status('VmRSS')
    function()
    return status('VmHWM') - before


def status(key: str) -> int:
    """A figure of the process in bytes, from Linux's ``/proc``, such as ``VmRSS``."""
    (line,) = (
        line
        for line in Path('/proc/self/status').read_text().splitlines()
        if line.startswith(f'{key}:')
    )
    return 1024 * int(line.split()[1])


def matmul_rate(dtype: torch.dtype, device: str = 'cpu', size: int | None = None) -> float:
    """Floating point operations per second in products of square matrices.

    Args:
        dtype: Of the matrices.
        device: Where they are.
        size: Of a side; 2048 if None, 8192 on a GPU.
    """
    size = size or (8192 if on_cuda(device) else 2048)
    a = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / seconds(lambda: a @ a, 5)


def flops(encoder: DenseEncoder, height: int, width: int) -> float:
    """Floating point operations of a plain forward of any image tower, products alone.

    A product of ``(n, k)`` and ``(k, m)`` counts ``2 n k m``, a convolution likewise. Softmax,
    norms and activations are left out. Nothing is computed: the tower is copied without weights.
    """
    visual = copy.deepcopy(encoder.visual).to('meta')
    tower = build_tower(visual, encoder.name, encoder.positions, encoder.tower_options)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        x, grid = tower.embed(torch.empty(1, 3, height, width, device='meta'))
        for block in tower.blocks(grid):
            x = block.ordinary(x)
        tower.read(tower.norm(x), grid)
    return counter.get_total_flops()


def attention_steps(encoder: DenseEncoder, height: int, width: int) -> dict[str, float]:
    """Seconds of the parts of all attention maps of an image, each alone on a part of one map.

    The parts are the products of a head, which are as narrow as a head, its softmax in float32, and
    the sum over heads. A part of a map is as large as those that the encoder works on.
    """
    tokens = encoder.tower.lead + height * width // encoder.patch_size**2
    device, attn = next(encoder.parameters()).device, encoder.visual.transformer.resblocks[0].attn
    heads, dim = attn.num_heads, attn.head_dim
    columns = padded_length(tokens)
    rows = max(1, MAP_ENTRIES // columns)
    q, k, v = (
        torch.randn(1, count, dim, device=device).to(encoder.dtype)
        for count in (rows, columns, columns)
    )
    logits = torch.empty(1, rows, columns, dtype=encoder.dtype, device=device)
    weights, total = (torch.zeros(1, rows, columns, device=device) for _ in range(2))
    y = torch.empty_like(q)

    def products() -> None:
        torch.bmm(q, k.transpose(1, 2), out=logits)
        torch.bmm(logits, v, out=y)

    parts = {
        'narrow products': products,
        'exponentials': lambda: torch.softmax(logits, -1, dtype=torch.float32, out=weights),
        'sum over heads': lambda: total.add_(weights),
    }
    count = encoder.num_blocks * heads * tokens / rows
    return {key: seconds(part, 9) * count for key, part in parts.items()}


def on_cuda(device: str) -> bool:
    """Whether a device is a GPU."""
    return torch.device(device).type == 'cuda'


def has_bfloat16(device: str = 'cpu') -> bool:
    """Whether the processor multiplies bfloat16 itself; a CPU by AVX512-BF16 or AMX."""
    if on_cuda(device):
        return torch.cuda.get_device_capability(device)[0] >= 8
    return any(
        getattr(torch.cpu, name, bool)()
        for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported')
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--device``."""
    parser.add_argument(
        '--device', type=_device, default='cpu', help='cpu, cuda, cuda:1, ... (default: cpu)'
    )


def _device(name: str) -> str:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise argparse.ArgumentTypeError(f'no device {name!r} here: {reason}') from None
    return name


def machine(device: str = 'cpu') -> dict[str, Any]:
    """Where it was measured."""
    card = {'device': torch.cuda.get_device_name(device)} if on_cuda(device) else {}
    return {
        **card,
        'processor': platform.processor() or platform.machine(),
        'threads': torch.get_num_threads(),
        'capability': torch.backends.cpu.get_cpu_capability(),
        'bfloat16': has_bfloat16(device),
        'torch': torch.__version__,
        'mmtagclip': mmtagclip.__version__,
    }
