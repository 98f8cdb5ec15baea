"""Time and memory of segmentation by regions at its published size, with random weights.

    python tools/analysis_tools/region_cost.py data/photos --count 2
    python tools/analysis_tools/region_cost.py data/photos --count 1 --long-side 2048 --regions 300

CLIP is a ViT-B/16, and the other model DINO's ViT-B/8 of CorrCLIP's first version. Regions are the
cells of a Voronoi diagram. Printed are the CPU seconds and the peak memory of each image, with one
line for the whole process. The masks mean nothing.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import open_clip
import timm
import torch
from measuring import peak_memory, photographs
from safetensors.torch import save_file

from mmtagclip.frameworks import segmentation  # noqa: F401  without its messages
from mmtagclip.images import read_image
from mmtagclip.registry import MODELS

DINO = 'vit_base_patch8_224.dino'
SHORT_SIDE = 336


def build(folder: Path) -> torch.nn.Module:
    """CorrCLIP as configs/corrclip has it, but for one template and its weights."""
    torch.manual_seed(0)
    dino = timm.create_model(DINO, num_classes=0, dynamic_img_size=True)
    save_file(dino.state_dict(), folder / 'dino.safetensors')
    source = {
        'type': 'mmtagclip.TimmFeatures',
        'model': DINO,
        'checkpoint': folder / 'dino.safetensors',
        'positions': 'bicubic_scale',
        'tokens': 'q+k',
    }
    return MODELS.build(
        {
            'type': 'mmtagclip.DirectSegmentor',
            'encoder': {
                'type': 'mmtagclip.CLIPEncoder',
                'model': open_clip.create_model('ViT-B-16-quickgelu'),
                'positions': 'bicubic_scale',
                'mean': open_clip.OPENAI_DATASET_MEAN,
                'std': open_clip.OPENAI_DATASET_STD,
                'text_cache': False,
                'last_block': {'type': 'mmtagclip.CorrCLIPLastBlock', 'source': source},
            },
            'head': {
                'type': 'mmtagclip.SegTextHead',
                'classes': 'seg_voc_plain',
                'background': 'seg_voc_background',
                'templates': ['a photo of a {}.'],
            },
            'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 336, 'pad_to': 56},
            'label_processor': {'type': 'mmtagclip.MapCorrection'},
        }
    )


def regions(size: tuple[int, int], count: int) -> np.ndarray:
    """Cells of a Voronoi diagram, ``(H, W)``, ids from 1."""
    random = np.random.RandomState(0)
    free = np.ones(size, dtype=np.uint8)
    free.ravel()[random.choice(free.size, count, replace=False)] = 0
    return cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)[1]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('--count', type=int, default=2, help='number of images (default: 2)')
    parser.add_argument('--regions', type=int, default=40, help='regions of each (default: 40)')
    parser.add_argument('--long-side', type=int, help='enlarge images to this side, in pixels')
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        segmentor = build(Path(folder))
    for path in photographs(args.images, args.count, args.images):
        image = read_image(path)[..., ::-1]
        if args.long_side is not None:
            scale = args.long_side / max(image.shape[:2])
            image = cv2.resize(image, None, fx=scale, fy=scale)
        height, width = image.shape[:2]
        scale = SHORT_SIDE / min(height, width)
        small = cv2.resize(image, (round(width * scale), round(height * scale)))
        pixels = torch.from_numpy(small[..., ::-1].copy()).permute(2, 0, 1)
        pixels = segmentor.data_preprocessor.normalise(pixels)
        ids = regions((height, width), args.regions)
        seconds = time.process_time()

        def run(pixels=pixels, size=(height, width), ids=ids) -> None:
            segmentor.masks(segmentor.encode(pixels, size=size, regions=ids))

        peak = peak_memory(run)
        seconds = time.process_time() - seconds
        print(
            f'{width}x{height}, {len(np.unique(ids))} regions: {seconds:.1f} CPU seconds, '
            f'{(peak or 0) / 2**20:.0f} MB beyond the models',
            flush=True,
        )
    whole = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f'peak of the process: {whole:.0f} MB')


if __name__ == '__main__':
    main()
