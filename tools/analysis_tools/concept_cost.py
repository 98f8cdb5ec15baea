"""Measure what SAM 3 costs for one image: time and memory by the number of phrases.

python tools/analysis_tools/concept_cost.py --out work_dirs/concept_cost.json

Without --checkpoint the weights are random, which are as fast and as large. Seconds are those of
the processor on a CPU, so other programs do not count; the model runs on one thread.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from measuring import add_device, machine, on_cuda, peak_memory, timed

from mmtagclip.clip import Vocabulary
from mmtagclip.files import write_whole
from mmtagclip.models import ConceptSegmentor, Sam3
from mmtagclip.models.segmentors.sam3_files import import_sam3

SIZE = (480, 640)  # of the image, the most frequent one of COCO


def cost(function: Callable[[], Any], device: str) -> dict[str, Any]:
    """Seconds and peak memory of a call."""
    spent: list[float] = []

    def run() -> None:
        if on_cuda(device):
            spent.append(timed(function))
            return
        start = time.process_time()
        function()
        spent.append(time.process_time() - start)

    return {'bytes': peak_memory(run, device), 'seconds': spent[0]}


def rows(sam3: Sam3, counts: list[int], device: str) -> list[dict[str, Any]]:
    """What the vision tower and each number of phrases cost, with masks at the image's size."""
    names = Vocabulary.load('ade20k').names[: max(counts)]
    segmentor = ConceptSegmentor(sam3, names, confidence=0.5).eval().to(device)
    image = torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    found = []
    encoded: list[Any] = []
    found.append(
        {'step': 'vision tower', **cost(lambda: encoded.append(segmentor.encode(image)), device)}
    )
    print(json.dumps(found[-1]), flush=True)
    for count in counts:
        names_asked = segmentor.names_for(names[:count])
        step = {'step': f'{count} phrases'}
        found.append({**step, **cost(lambda: segmentor.masks(encoded[0], names_asked), device)})  # noqa: B023
        print(json.dumps(found[-1]), flush=True)
    return found


def main() -> int:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--phrases', type=int, nargs='+', default=[1, 8, 40], metavar='N')
    parser.add_argument('--max-phrases', type=int, default=8, help='that are asked for at once')
    parser.add_argument('--checkpoint', type=Path, help='weights of SAM 3; random if left out')
    parser.add_argument('--settings', type=Path, help='config.json of another size (Sam3Config)')
    parser.add_argument('--dtype', default='float32', help='float32, bfloat16 or float16')
    parser.add_argument('--out', type=Path, help='JSON file to write')
    add_device(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {} if args.settings is None else json.loads(args.settings.read_text())
    model: Any = settings
    if args.checkpoint is None:
        transformers = import_sam3()
        torch.manual_seed(0)
        model = transformers.Sam3Model(transformers.Sam3Config(**settings))
    sam3 = Sam3(model, args.checkpoint, args.dtype, args.max_phrases, text_cache=False)
    weights = sum(one.numel() * one.element_size() for one in sam3.parameters())
    result = {
        'machine': machine(args.device),
        'dtype': args.dtype,
        'weights': weights,
        'image': SIZE,
        'max_phrases': args.max_phrases,
        'rows': rows(sam3, args.phrases, args.device),
    }
    if args.out is not None:
        write_whole(args.out, json.dumps(result, indent=1).encode())
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
