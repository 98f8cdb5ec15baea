"""Measure the cost of each part as a ratio to a yardstick, within one run.

    python tools/analysis_tools/benchmark.py --photos data/coco/val2017 --out benchmark.json

Seconds depend on the machine and its load; ratios hardly do. The twin is the plain version of the
method in tests/twins.py, so run this in a clone of the repository. Without --weights, the weights
are random: they are as fast as trained ones, but give more candidates for CWR.
"""

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import measuring
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from mmtagclip.clip import DenseEncoder, TextEncoder, Vocabulary, load_clip, load_templates
from mmtagclip.clip.prefixes import ROWS, prefix_blocks
from mmtagclip.clip.text import GROUP, encode_text
from mmtagclip.files import write_whole

ROOT = Path(__file__).resolve().parent.parent.parent
# How often each image is read to measure the loading.
LOADING_ROUNDS = 4
COCO, BACKGROUND = Vocabulary.load('coco'), Vocabulary.load('coco_background')
# How many names a long list has: as many as RAM's.
MANY = 4585
# The largest image, pixels per side; and the blocks that encode it here, of one cost each.
LARGE, LARGE_BLOCKS = 2048, 3
SCENES = 200
# Runs the command, and prints seconds: of all, of the model, and until its first result.
TAG_RUN = """
import sys, time
begin = time.perf_counter()
from mmtagclip import cli, lazy
lazy.ours = True  # as the command has it
from mmtagclip.models import TagCLIP
score, ends, inside = TagCLIP.score, [], []

def timed(*args, **options):
    start = time.perf_counter()
    result = score(*args, **options)
    ends.append(time.perf_counter())
    inside.append(ends[-1] - start)
    return result

TagCLIP.score = timed
code = cli.main(sys.argv[1:])
print(code, time.perf_counter() - begin, sum(inside), ends[0] - begin)
"""
# What no command of this package does without, and what installed libraries import besides.
IMPORT_RUN = """
import time
begin = time.perf_counter()
import torch, open_clip, timm
print(time.perf_counter() - begin)
"""


@dataclass
class Row:
    """One ratio with its target.

    Attributes:
        what: What is measured.
        against: Its yardstick.
        ratio: As at_least or at_most defines it.
        at_least: Target for the yardstick's cost divided by ours.
        at_most: Target for our cost divided by the yardstick's.
        ours, other: Median seconds per image (text: for all names).
        details: Further figures.
    """

    what: str
    against: str
    ratio: float
    at_least: float | None = None
    at_most: float | None = None
    ours: float | None = None
    other: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def holds(self, margin: float = 1.0, earlier: float | None = None) -> bool:
        """Whether the ratio misses its target, or an earlier ratio, by no more than a factor."""
        if self.at_least is not None:
            return self.ratio * margin >= (self.at_least if earlier is None else earlier)
        return self.ratio <= ((self.at_most or 0) if earlier is None else earlier) * margin


class Benchmark:
    """The rows by key, and what they share.

    Args:
        options: Options of the command line.
        scratch: Folder for generated images and cached text features.
    """

    def __init__(self, options: argparse.Namespace, scratch: Path) -> None:
        self.options = options
        self.repeats = options.repeats
        self.device: str = options.device
        self.scratch = scratch
        self.clip = measuring.load_model(options.weights)
        self.paths = measuring.photographs(options.photos, options.images, scratch)
        self.loaded = [measuring.load(path) for path in self.paths]
        self.images = [measuring.normalise(one).to(self.device) for one in self.loaded]

    @cached_property
    def tagger(self) -> Any:
        """The whole tagger in float32."""
        return self.build('float32')

    @cached_property
    def narrow(self) -> Any:
        """The same in bfloat16."""
        return self.build('bfloat16')

    def build(self, dtype: str) -> Any:
        """The whole tagger."""
        tagger = measuring.build_tagger(self.clip, COCO.names, BACKGROUND.names, dtype)
        return tagger.to(self.device)

    def peak_memory(self, function: Callable[[], Any]) -> int | None:
        """Peak memory of a function, in bytes above what was held before."""
        return measuring.peak_memory(function, self.device)

    def each(self, function: Callable[[torch.Tensor], Any]) -> Callable[[], None]:
        """A function of one image, run over all images."""

        def run() -> None:
            for image in self.images:
                function(image)

        return run

    def pair(
        self, ours: Callable[[torch.Tensor], Any], other: Callable[[torch.Tensor], Any]
    ) -> tuple[float, ...]:
        """Median seconds per image of both, and their ratio."""
        one, two, ratio = measuring.pair(self.each(ours), self.each(other), self.repeats)
        return one / len(self.images), two / len(self.images), ratio

    def text(self) -> Iterator[tuple[str, Row]]:
        """Text features of one name without a cache, with many templates."""
        yield self._text('text_cold', 1, 8)

    def _text(self, key: str, count: int, target: float) -> tuple[str, Row]:
        encoder, templates = self.tagger.encoder, load_templates('templates_85')
        names = (COCO + BACKGROUND).names
        sample = names[:: len(names) // count][:count]

        def padded() -> torch.Tensor:  # one name: each costs as much as any other
            tokens = encoder.tokenizer([one.replace('{}', sample[0]) for one in templates])
            tokens = tokens.to(self.device)
            with torch.no_grad():
                unit = F.normalize(encoder.clip.encode_text(tokens), dim=-1)
                return F.normalize(unit.mean(0), dim=-1).cpu()

        uncached = TextEncoder(encoder, templates, False)
        ours, other, ratio = measuring.pair(
            lambda: uncached.encode_classes([[name] for name in sample]),
            padded,
            max(1, self.repeats // 3),
        )
        difference = (uncached.encode_class([sample[0]]) - padded()).abs().max().item()
        return key, Row(
            f'text features, {len(templates)} prompts per name, of {count} name{"s"[: count - 1]}',
            'every prompt padded to the whole context, one name at a time',
            count / ratio,
            at_least=target,
            ours=ours,
            other=count * other,
            details={'names': count, 'max difference': difference},
        )

    def names(self) -> Iterator[tuple[str, Row]]:
        """Many names: their text features without a cache, and DMAR for a long list."""
        yield self._text('text_cold_20', 20, 18)
        generator = torch.Generator().manual_seed(0)
        text = torch.randn(MANY, self.tagger.encoder.dim, generator=generator).to(self.device)
        yield self._dmar('dmar_names', F.normalize(text, dim=-1), 0.25)
        encoder, template = self.tagger.encoder, 'a photo of a {}.'
        names = Vocabulary.load('imagenet12k').names[:MANY]
        uncached = TextEncoder(encoder, [template], False)
        sample = names[:: MANY // 64]
        classes = [(name,) for name in names]
        groups = [classes[start : start + GROUP] for start in range(0, MANY, GROUP)]

        def alone() -> None:
            for name in sample:
                tokens = encoder.tokenizer([template.replace('{}', name)]).to(self.device)
                with torch.no_grad():
                    F.normalize(encode_text(encoder.clip, tokens), dim=-1).cpu()

        other = measuring.seconds(alone, 1) / len(sample) * MANY
        ours = measuring.timed(lambda: [uncached.encode_classes(group) for group in groups])
        with FlopCounterMode(display=False) as counter:
            uncached.encode_classes(groups[0])
        operations = counter.get_total_flops() * MANY / len(groups[0])
        plain = operations / measuring.matmul_rate(torch.float32, self.device)
        # At the rate of the tower's own products, of as many rows as it is given at once.
        weights = [
            one for one in prefix_blocks(encoder.clip)[0].module.parameters() if one.ndim == 2
        ]
        inputs = [torch.randn(ROWS, one.shape[1], device=self.device) for one in weights]

        def products() -> None:
            with torch.no_grad():
                for x, weight in zip(inputs, weights, strict=True):
                    F.linear(x, weight)

        one_block = measuring.seconds(products, 20)
        own = operations / (2 * ROWS * sum(map(torch.numel, weights))) * one_block
        yield (
            'text_names',
            Row(
                f'text features of {MANY} names, one prompt per name',
                'each name by itself, cut at its length',
                other / ours,
                at_least=12,
                ours=ours,
                other=other,
                # Seconds of the matrix products alone, and the ratio if they were all.
                details={
                    'products at the rate of plain ones': plain,
                    'products in their own shapes': own,
                    'at most': other / own,
                },
            ),
        )

    def cache(self) -> Iterator[tuple[str, Row]]:
        """Text features of all names from the cache."""
        names, templates = COCO + BACKGROUND, load_templates('templates_85')
        features: list[torch.Tensor] = []

        def encode() -> None:  # a new process has no digest of the weights yet; nor has this
            encoder = TextEncoder(self.tagger.encoder, templates, self.scratch / 'text')
            features.append(encoder(names))

        first = measuring.timed(encode)
        warm = measuring.seconds(encode, self.repeats)
        yield (
            'text_warm',
            Row(
                f'text features of {len(names)} names from the cache',
                'the same without the cache',
                first / warm,
                at_least=100,
                ours=warm,
                other=first,
                details={'identical': all(torch.equal(features[0], one) for one in features)},
            ),
        )

    def encoder(self) -> Iterator[tuple[str, Row]]:
        """The dense encoder with attention statistics beside open_clip's own blocks."""
        yield from self._encoder(self.tagger.encoder, 'float32', 1.15)
        if measuring.has_bfloat16(self.device):
            yield from self._encoder(self.narrow.encoder, 'bfloat16', 1.35)

    def _encoder(self, encoder: Any, dtype: str, limit: float) -> Iterator[tuple[str, Row]]:
        blocks = copy.deepcopy(encoder.visual.transformer).to(encoder.dtype)  # norms as well

        def dense(image: torch.Tensor) -> None:
            encoder(image, ((8, 9, 10),), votes=True)

        def plain(image: torch.Tensor) -> None:
            with torch.no_grad():
                blocks(encoder.embed(image)[0].to(encoder.dtype))

        ours, other, ratio = self.pair(dense, plain)
        yield (
            f'encoder_{dtype}',
            Row(
                f'dense encoder with votes and the mean of three maps, {dtype}',
                'the same open_clip blocks, plainly',
                ratio,
                at_most=limit,
                ours=ours,
                other=other,
            ),
        )
        if dtype == 'float32':
            image = max(self.images, key=torch.numel)
            memory = [
                self.peak_memory(lambda: dense(image)),
                self.peak_memory(lambda: plain(image)),
            ]
            if memory[0] is not None and memory[1] is not None:
                yield (
                    'encoder_memory',
                    Row(
                        'peak memory of the same above the loaded model',
                        'the same open_clip blocks, plainly',
                        memory[0] / memory[1],
                        at_most=1.3,
                        details={'bytes': memory, 'size': list(image.shape[2:])},
                    ),
                )

    def dmar(self) -> Iterator[tuple[str, Row]]:
        """DMAR beside the encoder."""
        yield self._dmar('dmar', self.tagger.text, 0.02)

    def _dmar(self, key: str, text: torch.Tensor, target: float) -> tuple[str, Row]:
        head, encoder = self.tagger.head, self.tagger.encoder
        encoded = [encoder(image, head.attention_layers, True) for image in self.images]
        scores = [(encoder.logit_scale * one.patches @ text.T).softmax(-1) for one in encoded]

        def refine() -> None:
            for one, coarse in zip(encoded, scores, strict=True):
                head.dmar(coarse, one.attention, one.grid)

        encode = self.each(lambda image: encoder(image, head.attention_layers, True))
        ours, other, ratio = measuring.pair(refine, encode, self.repeats)
        return key, Row(
            f'DMAR for {len(text)} names',
            'the dense encoder',
            ratio,
            at_most=target,
            ours=ours / len(self.images),
            other=other / len(self.images),
        )

    def cwr(self) -> Iterator[tuple[str, Row]]:
        """CWR for artificial candidates beside as many plain forwards."""
        encoder, image = self.tagger.encoder, self.images[0]
        grid = image.shape[2] // encoder.patch_size, image.shape[3] // encoder.patch_size
        for count in (1, 8):
            refined = measuring.made_candidates(count, grid, len(self.tagger.text))
            refined = refined.to(self.device)
            scores = refined[..., : len(COCO)].amax(dim=1)
            crops = torch.randn(count, 3, *encoder.native_size).to(self.device)
            candidates = self.tagger.head.cwr.candidates(refined, scores, grid)
            if len(candidates) != count:
                raise RuntimeError(f'{len(candidates)} candidates instead of {count}')

            def again(refined: Any = refined, scores: Any = scores) -> None:
                self.tagger.head.cwr(refined, scores, grid, image, self.tagger.text, encoder)

            def plain(crops: Any = crops) -> None:
                with torch.no_grad():
                    encoder.clip.encode_image(crops)

            ours, other, ratio = measuring.pair(again, plain, self.repeats)
            yield (
                f'cwr_{count}',
                Row(
                    f'CWR, candidates: {count}',
                    f'{count} plain forwards at the native size, batched',
                    ratio,
                    at_most=1.1,
                    ours=ours,
                    other=other,
                ),
            )

    def waits(self) -> Iterator[tuple[str, Row]]:
        """Places where the host waits for a GPU in a batch, found without one by fake tensors."""
        found = import_tests('test_host_waits').waits_of_a_batch(self.tagger, 6)
        yield (
            'waits',
            Row(
                'waits of the host for a GPU, in a batch of 6 images',
                'one per batch',
                len(found),
                at_most=4,
                details={'places': sorted(found)},
            ),
        )

    def large(self) -> Iterator[tuple[str, Row]]:
        """The dense encoder on a large image, where attention maps dominate.

        Its limit is what the libraries reach: the attention's products in their own shapes, which
        are narrow, the exponentials, and the sum over heads, each alone in the same run.
        """
        clip = copy.deepcopy(self.clip)
        blocks = clip.visual.transformer.resblocks
        clip.visual.transformer.resblocks = blocks[:LARGE_BLOCKS]
        image = torch.randn(1, 3, LARGE, LARGE, generator=torch.Generator().manual_seed(0))
        image = image.to(self.device)
        narrow = ['bfloat16'] if measuring.has_bfloat16(self.device) else []
        for dtype, target in (('float32', 1.8), *((one, 3) for one in narrow)):
            encoder = DenseEncoder(load_clip(copy.deepcopy(clip)), dtype=dtype).to(self.device)
            rate = measuring.matmul_rate(encoder.dtype, self.device)
            floor = measuring.flops(encoder, LARGE, LARGE) / rate
            steps = measuring.attention_steps(encoder, LARGE, LARGE)
            ours = measuring.timed(
                lambda encoder=encoder: encoder(image, (tuple(range(LARGE_BLOCKS)),), votes=True)
            )
            yield (
                f'large_{dtype}',
                Row(
                    f'dense encoder on {LARGE}x{LARGE} pixels, {dtype}, {LARGE_BLOCKS} blocks',
                    'its products at the rate of plain matrix products',
                    ours / floor,
                    at_most=target,
                    ours=ours,
                    other=floor,
                    details={
                        **{f'{key}, over the floor': one / floor for key, one in steps.items()},
                        'GFLOP/s': rate / 1e9,
                    },
                ),
            )

    def tag(self) -> Iterator[tuple[str, Row]]:
        """The command on scenes of the demo, its start included."""
        folder = self.scratch / 'scenes'
        folder.mkdir()
        scenes = sorted((ROOT / 'demo/data/JPEGImages').iterdir())
        for index in range(SCENES):
            shutil.copy(scenes[index % len(scenes)], folder / f'{index:03}.jpg')
        words = ['tag', folder, '--model', 'tagclip_demo', '--quiet', '--device', self.device]
        words += ['--out', self.scratch / 'tags.jsonl']
        (imports,) = run_python(IMPORT_RUN)
        code, whole, model, first = run_python(TAG_RUN, *words)
        if code != 0:
            raise RuntimeError(f'mmtagclip tag ended with exit code {code:.0f}')
        yield (
            'tag',
            Row(
                f'`mmtagclip tag` over {SCENES} scenes, start included',
                "the model's own time in it",
                whole / model,
                at_most=1.3,
                ours=whole,
                other=model,
            ),
        )
        yield (
            'tag_start',
            Row(
                'from the start of `mmtagclip tag` to its first result',
                'importing torch, open_clip and timm alone',
                first / imports,
                at_most=1.1,
                ours=first,
                other=imports,
            ),
        )

    def twin(self) -> Iterator[tuple[str, Row]]:
        """The whole tagger beside its plain twin."""
        twins = import_tests('twins')
        encoder, head, text = self.tagger.encoder, self.tagger.head, self.tagger.text
        results: dict[str, list[torch.Tensor]] = {'ours': [], 'twin': []}

        def ours(image: torch.Tensor) -> None:
            results['ours'].append(self.tagger.score(image)[0].scores[0])

        def plain(image: torch.Tensor) -> None:
            patches, _, maps, grid = twins.dense(encoder.visual, image)
            scores = (encoder.logit_scale * patches @ text.T).softmax(-1)
            refined = twins.dmar(scores, maps, head.dmar.layers, head.dmar.votes, grid)
            results['twin'].append(
                twins.cwr(
                    encoder.visual,
                    encoder.logit_scale,
                    text,
                    refined,
                    refined[:, : len(COCO)].amax(0),
                    grid,
                    image,
                    head.cwr.threshold,
                    False,
                )
            )

        seconds, other, ratio = self.pair(ours, plain)
        count = len(self.images)
        difference = max(
            (one - two).abs().max().item()
            for one, two in zip(results['ours'][:count], results['twin'][:count], strict=True)
        )
        yield (
            'tagger_twin',
            Row(
                'the whole tagger, float32',
                'its plain twin: class by class, crop by crop',
                1 / ratio,
                at_least=2,
                ours=seconds,
                other=other,
                details={'max difference': difference},
            ),
        )

    def floor(self) -> Iterator[tuple[str, Row]]:
        """The whole tagger beside its matrix products alone."""
        operations, crops = self.operations()
        count, rate = len(self.images), measuring.matmul_rate(torch.float32, self.device)
        floor = operations / rate / count
        seconds = measuring.seconds(self.each(self.tagger.score), self.repeats) / count
        yield (
            'tagger_floor',
            Row(
                'the whole tagger, float32',
                'its products at the rate of plain matrix products',
                seconds / floor,
                at_most=2,
                ours=seconds,
                other=floor,
                details={
                    'GFLOP per image': operations / count / 1e9,
                    'GFLOP/s': rate / 1e9,
                    'candidates per image': crops / count,
                },
            ),
        )

    def operations(self) -> tuple[float, int]:
        """Operations of tagging all images, and the number of crops in it."""
        encoder, head = self.tagger.encoder, self.tagger.head
        total, crops = 0.0, 0
        for image in self.images:
            encoded = encoder(image, head.attention_layers, True)
            coarse = (encoder.logit_scale * encoded.patches @ self.tagger.text.T).softmax(-1)
            refined = head.dmar(coarse, encoded.attention, encoded.grid)
            scores = refined[..., : len(COCO)].amax(dim=1)
            found = len(head.cwr.candidates(refined, scores, encoded.grid))
            total += measuring.flops(encoder, *image.shape[2:])
            total += found * measuring.flops(encoder, *encoder.native_size)
            crops += found
        return total, crops

    def bfloat16(self) -> Iterator[tuple[str, Row]]:
        """The whole tagger in bfloat16 beside float32, where the processor has it."""
        if not measuring.has_bfloat16(self.device):
            return
        ours, other, ratio = self.pair(self.narrow.score, self.tagger.score)
        yield (
            'tagger_bfloat16',
            Row(
                'the whole tagger, bfloat16',
                'the same in float32',
                1 / ratio,
                at_least=2.5,
                ours=ours,
                other=other,
                details={
                    'plain matrix products, bfloat16 over float32': measuring.matmul_rate(
                        torch.bfloat16, self.device
                    )
                    / measuring.matmul_rate(torch.float32, self.device)
                },
            ),
        )

    def batches(self) -> Iterator[tuple[str, Row]]:
        """Four images in a batch beside the same ones by one: the first, and its mirror images."""
        first = self.images[0]
        images = [first.flip(dims) for dims in ((), (2,), (3,), (2, 3))]
        batch = torch.cat(images)
        results: dict[str, Any] = {}

        def grouped() -> None:
            results['grouped'] = [one.scores for one in self.tagger.score(batch)]

        def single() -> None:
            results['single'] = [self.tagger.score(image)[0].scores for image in images]

        ours, other, ratio = measuring.pair(grouped, single, self.repeats)
        pairs = zip(results['grouped'], results['single'], strict=True)
        difference = max((one - two).abs().max().item() for one, two in pairs)
        yield (
            'batches',
            Row(
                'four images in a batch',
                'the same images one by one',
                1 / ratio,
                at_least=1,
                ours=ours / len(images),
                other=other / len(images),
                details={'max difference': difference},
            ),
        )

    def loading(self) -> Iterator[tuple[str, Row]]:
        """Time that tagging waits for two workers that read, decode and resize."""
        loader = DataLoader(
            self.paths * LOADING_ROUNDS,
            batch_size=None,
            num_workers=2,
            collate_fn=loaded,
            persistent_workers=True,
        )
        for _ in loader:  # the workers' start, once a run, does not count
            pass
        waited, start = 0.0, time.perf_counter()
        images = iter(loader)
        for _ in range(len(loader)):
            asked = time.perf_counter()
            image = next(images)
            waited += time.perf_counter() - asked
            self.tagger.score(image.to(self.device))
        measuring.wait()
        whole = time.perf_counter() - start
        alone = measuring.seconds(lambda: [loaded(path) for path in self.paths], self.repeats)
        yield (
            'loading',
            Row(
                'waiting for two workers that read and resize',
                'the whole with them',
                waited / whole,
                at_most=0.5,
                ours=waited / len(loader),
                other=whole / len(loader),
                details={'seconds per image in one process': alone / len(self.paths)},
            ),
        )


def loaded(path: Path) -> torch.Tensor:
    """The encoder's input of a file."""
    return measuring.normalise(measuring.load(path))


def run_python(program: str, *arguments: object) -> list[float]:
    """The numbers on the last line that a program prints, in a process of its own."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH'))))
    command = [sys.executable, '-c', program, *map(str, arguments)]
    process = subprocess.run(
        command,
        env={**os.environ, 'PYTHONPATH': path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [float(word) for word in process.stdout.splitlines()[-1].split()]


PARTS = (
    'text',
    'names',
    'cache',
    'encoder',
    'dmar',
    'waits',
    'cwr',
    'large',
    'tag',
    'twin',
    'floor',
    'bfloat16',
    'batches',
    'loading',
)


def import_tests(name: str) -> Any:
    """A module of the tests, such as the plain versions that they compare with."""
    if not (ROOT / 'tests' / f'{name}.py').is_file():
        raise SystemExit(
            f'error: this needs tests/{name}.py: run it in a checkout of the repository'
        )
    sys.path.insert(0, str(ROOT))
    return import_module(f'tests.{name}')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, help='JSON file to write the rows to')
    parser.add_argument(
        '--photos',
        type=Path,
        help='folder of photographs (default: generated images of the usual sizes)',
    )
    parser.add_argument(
        '--weights', type=Path, help=f'weights of {measuring.MODEL} (default: random)'
    )
    parser.add_argument('--images', type=int, default=6, help='number of images (default: 6)')
    parser.add_argument('--repeats', type=int, default=5, help='number of rounds (default: 5)')
    parser.add_argument(
        '--parts',
        nargs='+',
        choices=PARTS,
        help='what to measure (default: everything; the twin is measured on a CPU only)',
    )
    parser.add_argument(
        '--cpu-time',
        action='store_true',
        help='measure CPU time, because other programs run; on a CPU with OMP_NUM_THREADS=1',
    )
    parser.add_argument(
        '--check',
        type=float,
        metavar='MARGIN',
        help='fail if a ratio misses its target by more than this factor',
    )
    parser.add_argument(
        '--against',
        type=Path,
        metavar='FILE',
        help='let --check compare with the ratios of an earlier --out instead of the targets',
    )
    measuring.add_device(parser)
    options = parser.parse_args()
    on_cpu = torch.device(options.device).type == 'cpu'
    if options.parts is None:
        options.parts = [part for part in PARTS if on_cpu or part != 'twin']
    elif 'twin' in options.parts and not on_cpu:
        parser.error('the plain twin computes on the CPU: leave out twin, or --device')
    if options.cpu_time and not (on_cpu and torch.get_num_threads() == 1):
        parser.error('--cpu-time needs a CPU and OMP_NUM_THREADS=1')
    if options.against is not None and options.check is None:
        parser.error('--against needs --check')
    for key in ('images', 'repeats'):
        if getattr(options, key) < 1:
            parser.error(f'--{key} must be at least 1, not {getattr(options, key)}')
    return options


def write(path: Path, device: str, rows: dict[str, Row]) -> None:
    """Write the rows."""
    content = {
        'machine': measuring.machine(device),
        'rows': {key: {**asdict(row), 'holds': row.holds()} for key, row in rows.items()},
    }
    write_whole(path, json.dumps(content, indent=2).encode(), b'\n')


def main() -> None:
    """Run the command."""
    args = parse_args()
    earlier = (
        {}
        if args.against is None
        else {
            key: row['ratio'] for key, row in json.loads(args.against.read_text())['rows'].items()
        }
    )
    if args.cpu_time:
        measuring.clock = time.process_time
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory() as scratch:
        benchmark = Benchmark(args, Path(scratch))
        for part in args.parts:
            for key, row in getattr(benchmark, part)():
                rows[key] = row
                sign, target = ('>=', row.at_least) if row.at_most is None else ('<=', row.at_most)
                met = 'met' if row.holds() else 'MISSED'
                print(
                    f'{key:18} {row.ratio:8.3f}  target {sign} {target:<5} {met:7} '
                    f'{row.what} / {row.against}',
                    flush=True,
                )
            if args.out is not None:  # again after each part: what was measured is kept
                write(args.out, args.device, rows)
    if args.check is not None:
        missed = [key for key, row in rows.items() if not row.holds(args.check, earlier.get(key))]
        if missed:
            yardstick = 'target' if args.against is None else 'earlier ratio'
            raise SystemExit(
                f'error: off its {yardstick} by more than {args.check} times: {", ".join(missed)}'
            )


if __name__ == '__main__':
    main()
