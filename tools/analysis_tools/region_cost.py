"""Time and memory of segmentation by regions at its published size, with random weights.

    python tools/analysis_tools/region_cost.py data/photos --count 2
    python tools/analysis_tools/region_cost.py data/photos --count 1 --long-side 2048 --regions 300
    python tools/analysis_tools/region_cost.py data/photos --count 2 --method trident

CLIP is a ViT-B/16. CorrCLIP's other model is DINO's ViT-B/8 of its first version, and its regions
are the cells of a Voronoi diagram. Trident's are DINO's ViT-B/16 and SAM's ViT-B. SAM is asked for
every component of every label, and all masks are kept, which is more than with real weights.
Printed are the CPU seconds and the peak memory of each image, with one line for the whole process.
The masks mean nothing.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

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

# Short side of the image, as published on VOC21.
SHORT_SIDES = {'corrclip': 336, 'trident': 448}


def dino(folder: Path, model: str, **options: Any) -> dict[str, Any]:
    """Config of a DINO with random weights."""
    path = folder / 'dino.safetensors'
    vit = timm.create_model(model, num_classes=0, dynamic_img_size=True)
    save_file(vit.state_dict(), path)
    return {
        'type': 'mmtagclip.TimmFeatures',
        'model': model,
        'checkpoint': path,
        'positions': 'bicubic_scale',
        **options,
    }


def corrclip(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """CorrCLIP's last block and the parts around it, as configs/corrclip has them."""
    source = dino(folder, 'vit_base_patch8_224.dino', tokens='q+k')
    return {'type': 'mmtagclip.CorrCLIPLastBlock', 'source': source}, {
        'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 336, 'pad_to': 56},
        'label_processor': {'type': 'mmtagclip.MapCorrection'},
    }


def trident(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Trident's last block and the parts around it, as configs/trident has them."""
    from segment_anything import build_sam_vit_b

    path = folder / 'sam.safetensors'
    save_file(build_sam_vit_b().state_dict(), path)
    source = dino(folder, 'vit_base_patch16_224.dino')
    return {'type': 'mmtagclip.ProxyLastBlock', 'source': source, 'keep_grid': True}, {
        'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 336, 'stride': 224},
        'gatherer': {
            'type': 'mmtagclip.SAMGatherer',
            'sam': {'type': 'mmtagclip.SAM', 'checkpoint': path},
        },
        'label_processor': {
            'type': 'mmtagclip.SAMRefinement',
            'coarse': 0.0,
            'min_quality': float('-inf'),
        },
    }


METHODS = {'corrclip': corrclip, 'trident': trident}


def build(method: str, classes: str, folder: Path) -> torch.nn.Module:
    """A segmentor as its config has it, but for one template and its weights."""
    torch.manual_seed(0)
    last_block, parts = METHODS[method](folder)
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
                'last_block': last_block,
            },
            'head': {
                'type': 'mmtagclip.SegTextHead',
                'classes': classes,
                'background': 'seg_voc_background' if 'voc' in classes else (),
                'templates': ['a photo of a {}.'],
            },
            **parts,
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
    parser.add_argument(
        '--method', choices=METHODS, default='corrclip', help='corrclip (default) or trident'
    )
    parser.add_argument(
        '--classes',
        default='seg_voc_plain',
        help='list of classes (default: seg_voc_plain, with its background)',
    )
    parser.add_argument('--count', type=int, default=2, help='number of images (default: 2)')
    parser.add_argument('--regions', type=int, default=40, help='regions of each (default: 40)')
    parser.add_argument('--long-side', type=int, help='enlarge images to this side, in pixels')
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        segmentor = build(args.method, args.classes, Path(folder))
    for path in photographs(args.images, args.count, args.images):
        image = read_image(path)[..., ::-1]
        if args.long_side is not None:
            scale = args.long_side / max(image.shape[:2])
            image = cv2.resize(image, None, fx=scale, fy=scale)
        height, width = image.shape[:2]
        scale = SHORT_SIDES[args.method] / min(height, width)
        small = cv2.resize(image, (round(width * scale), round(height * scale)))
        pixels = torch.from_numpy(small[..., ::-1].copy()).permute(2, 0, 1)
        pixels = segmentor.data_preprocessor.normalise(pixels)
        ids = regions((height, width), args.regions)
        seconds = time.process_time()

        def run(pixels=pixels, image=image, ids=ids) -> None:
            segmentor.masks(segmentor.encode(pixels, np.ascontiguousarray(image), regions=ids))

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
