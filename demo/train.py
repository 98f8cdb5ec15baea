"""Train the demo CLIP on the demo world.

Both towers learn from captions that name one or two of an image's objects, sometimes its
background. Boxes and masks are not used. The loss has five terms (``WEIGHTS``):

* ``class``: the class token against the captions, as in CLIP;
* ``mean``: the mean of the patches after an ordinary last block against the captions. CLS-SEG
  reads it;
* ``patch``: a soft maximum over the patch features against the captions' nouns. The patch
  features are those of TagCLIP: every token of the last block attends only to itself;
* ``attention``: in the later blocks, a patch attends to the patches that the model itself takes
  for the same thing. So attention follows objects, as that of large CLIPs does;
* ``spread``: the nouns again, in patch scores that were spread along the attention.

A text that is true of an image is never one of its negatives. Single objects come first, then
scenes of one to six. Run the same command again to resume an interrupted run::

    python demo/train.py --sprites ~/.cache/mmtagclip-demo --work-dir work_dirs/demo_train
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from open_clip.model import CLIP
from render import (
    BACKGROUNDS,
    NAMES,
    BackgroundBank,
    evaluation_scene,
    load_sprites,
    scene_rng,
    training_scene,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

ALL_NAMES = NAMES + BACKGROUNDS
PLAIN_TEMPLATES = ('{}', 'a {}.', 'a photo of a {}.')
TEMPLATES = (
    *(t('{}') for t in open_clip.OPENAI_IMAGENET_TEMPLATES),
    'there is a {} in the scene.',
    'a clean origami {}.',
)
EVAL_TEMPLATES = (*PLAIN_TEMPLATES, *TEMPLATES[::8])

MODEL_CFG: dict[str, Any] = {
    'embed_dim': 128,
    'vision_cfg': {
        'image_size': 96,
        'layers': 12,
        'width': 128,
        'head_width': 32,
        'patch_size': 16,
    },
    'text_cfg': {
        'context_length': 24,
        'vocab_size': 49408,
        'width': 64,
        'heads': 2,
        'layers': 3,
    },
}
PREPROCESS_CFG = {'mean': open_clip.OPENAI_DATASET_MEAN, 'std': open_clip.OPENAI_DATASET_STD}

# Image side in pixels: share of the full batch that makes about equal work, and probability of
# the side after the single objects.
SIDES = {64: (1.0, 0.15), 96: (0.58, 0.4), 128: (0.36, 0.25), 192: (0.18, 0.2)}
WARMUP_STEPS = 300
# Share of the run in which the learning rate falls to 0, and in which the terms that read the
# model's own patch scores reach their weight.
DECAY, RAMP = 0.4, 0.15

WEIGHTS = {'class': 1.0, 'mean': 0.5, 'patch': 2.0, 'attention': 2.0, 'spread': 1.0}
RAMPED = ('attention', 'spread')
# Blocks whose attention the loss sees: those of CLS-SEG's affinity, and the last. Of these, the
# ones along which DMAR spreads scores, and the votes that keep a pair of patches.
RECORDED = range(4, 12)
SPREAD = slice(4, 7)
VOTES = 3
# What is measured on the development scenes.
SCORES = ('class_token', 'coarse', 'mean', 'spread')


class Batches(Dataset):
    """Rendered training batches, one for each step, without an end.

    Args:
        sprites: Folder of the pictograms.
        seed: Seed of the training set.
        start: First step.
        single_steps: Number of first steps that show single objects.
        batch: Images of 64 pixels per batch; batches of larger images are smaller.
        rank: Index of this process.
        world: Number of processes.
    """

    def __init__(
        self,
        sprites: Path,
        seed: int,
        start: int,
        single_steps: int,
        batch: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.root, self.seed, self.start = sprites, seed, start
        self.single_steps, self.batch = single_steps, batch
        self.rank, self.world = rank, world
        self.sprites: Any = None

    def __len__(self) -> int:
        return 10**9  # the clock ends a run

    def __getitem__(self, index: int) -> tuple[Tensor, list[list[int]], list[list[int]]]:
        """Return images ``(B, 3, S, S)`` uint8, the names in each, and the names in its caption."""
        if self.sprites is None:
            cv2.setNumThreads(1)
            self.sprites = load_sprites(self.root)
            self.bank = BackgroundBank(np.random.default_rng(self.seed))
        step = self.start + index
        single = step < self.single_steps
        # All processes draw the same side, so none waits for another.
        sides = np.random.default_rng([self.seed, step])
        side = 64 if single else int(sides.choice(list(SIDES), p=[p for _, p in SIDES.values()]))
        rng = scene_rng('train', self.seed, step * self.world + self.rank)
        images, present, named = [], [], []
        while len(images) < round(self.batch * SIDES[side][0]):
            scene = training_scene(self.sprites, rng, side, single, self.bank)
            grounds = [len(NAMES) + b for b in scene.backgrounds]
            if not scene.tags:
                continue
            if grounds and rng.random() < 0.1:
                caption = [grounds[rng.integers(len(grounds))]]
            else:
                count = min(len(scene.tags), int(rng.integers(1, 3)))
                caption = [int(c) for c in rng.permutation(scene.tags)[:count]]
                if grounds and rng.random() < 0.25:
                    caption.append(grounds[rng.integers(len(grounds))])
            images.append(worn(scene.image, rng))
            present.append(scene.tags + grounds)
            named.append(caption)
        batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        return batch, present, named


def worn(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur some images, as an enlarged crop is, and compress some as JPEG."""
    if rng.random() < 0.3:
        height, width = image.shape[:2]
        share = rng.uniform(0.35, 0.8)
        small = (round(width * share), round(height * share))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
        image = cv2.imdecode(cv2.imencode('.jpg', image, quality)[1], cv2.IMREAD_COLOR)
    return image


def normalise(images: Tensor) -> Tensor:
    """Normalise uint8 images ``(B, 3, H, W)`` to CLIP's input range, float32."""
    mean = torch.tensor(PREPROCESS_CFG['mean'], device=images.device).view(1, 3, 1, 1) * 255
    std = torch.tensor(PREPROCESS_CFG['std'], device=images.device).view(1, 3, 1, 1) * 255
    return (images.float() - mean) / std


@dataclass
class Features:
    """What the image tower gives for a batch.

    Attributes:
        token: Normalised class token ``(B, D)``.
        patches: Normalised value-only patch features ``(B, N, D)``: every token of the last
            block attends only to itself.
        mean: Normalised mean of the patch tokens after an ordinary last block ``(B, D)``.
        attention: Attention between patches of the blocks ``RECORDED``, mean over the heads
            ``(L, B, N, N)``. A row sums to less than 1, since the class token has a share.
    """

    token: Tensor
    patches: Tensor
    mean: Tensor
    attention: Tensor


def encode_image(visual: nn.Module, images: Tensor, dtype: torch.dtype) -> Features:
    """Compute the image features that the loss and the evaluation read.

    Args:
        visual: open_clip's ``VisionTransformer``.
        images: Normalised images ``(B, 3, H, W)``.
        dtype: Dtype of the computation. The weights are cast, so they get float32 gradients.

    Returns:
        The features, float32.
    """

    def linear(x: Tensor, layer: nn.Module) -> Tensor:
        return F.linear(x, layer.weight.to(dtype), layer.bias.to(dtype))

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        weight, bias = layer.weight.to(dtype), layer.bias.to(dtype)
        return F.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)

    x = F.conv2d(images.to(dtype), visual.conv1.weight.to(dtype), stride=visual.conv1.stride)
    grid = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    batch, tokens, width = x.shape[0], x.shape[1] + 1, x.shape[2]
    position = visual.positional_embedding
    if tuple(grid) != tuple(visual.grid_size):
        patches = position[1:].T.view(1, width, *visual.grid_size)
        patches = F.interpolate(patches, grid, mode='bilinear', align_corners=False)
        position = torch.cat([position[:1], patches[0].flatten(1).T])
    token = visual.class_embedding.to(dtype).expand(batch, 1, width)
    x = norm(torch.cat([token, x], 1) + position.to(dtype), visual.ln_pre)
    blocks = visual.transformer.resblocks
    attention = []
    for i, block in enumerate(blocks):
        heads = block.attn.num_heads
        weight, bias = block.attn.in_proj_weight.to(dtype), block.attn.in_proj_bias.to(dtype)
        qkv = F.linear(norm(x, block.ln_1), weight, bias)
        # Attention stays in float32: bfloat16 has no fast backward on a CPU.
        q, k, v = qkv.float().view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if i in RECORDED:
            weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
            attention.append(weights[:, :, 1:, 1:].mean(1))
            y = weights @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).flatten(2).to(dtype)
        if i == len(blocks) - 1:  # the patches twice: ordinary, and each by itself
            y = torch.cat([y, qkv[:, 1:, 2 * width :]], 1)
            x = torch.cat([x, x[:, 1:]], 1)
        x = x + linear(y, block.attn.out_proj)
        y = F.gelu(linear(norm(x, block.ln_2), block.mlp.c_fc))
        x = x + linear(y, block.mlp.c_proj)
    x = norm(x, visual.ln_post)
    x = torch.cat([x[:, :1], x[:, 1:tokens].mean(1, keepdim=True), x[:, tokens:]], 1)
    x = F.normalize((x @ visual.proj.to(dtype)).float(), dim=-1)
    return Features(x[:, 0], x[:, 2:], x[:, 1], torch.stack(attention))


_TOKENS: dict[str, Tensor] = {}


def tokenise(texts: list[str]) -> Tensor:
    """Return CLIP's tokens ``(T, context)`` of texts; each text is tokenised only once."""
    missing = [t for t in dict.fromkeys(texts) if t not in _TOKENS]
    if missing:
        length = MODEL_CFG['text_cfg']['context_length']
        _TOKENS.update(zip(missing, open_clip.tokenize(missing, length), strict=True))
    return torch.stack([_TOKENS[t] for t in texts])


def used_tokens() -> Tensor:
    """Return all tokens that can occur in a caption, ascending."""
    texts = [f'{n} and a {n}' for n in ALL_NAMES]
    texts += [t.format(n) for t in (*PLAIN_TEMPLATES, *TEMPLATES) for n in (ALL_NAMES[0], '')]
    return tokenise([*texts, *ALL_NAMES]).unique()


class TrainableCLIP(nn.Module):
    """The model during training; its token table contains only the tokens in use.

    Attributes:
        clip: open_clip's model with the small table.
        table: The full table ``(vocabulary, width)`` at the start of training.
        used: Tokens in the small table ``(n,)``, ascending.
    """

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.clip = CLIP(**MODEL_CFG)
        self.used = used_tokens()
        self.table = self.clip.token_embedding.weight.detach().clone()
        self.clip.token_embedding = nn.Embedding.from_pretrained(self.table[self.used], False)

    def full_state(self) -> dict[str, Tensor]:
        """Return the state dict of the open_clip model with the full token table."""
        state = {k: v.detach().cpu() for k, v in self.clip.state_dict().items()}
        table = self.table.clone()
        table[self.used] = state['token_embedding.weight']
        return {**state, 'token_embedding.weight': table}


def encode_text(trained: TrainableCLIP, texts: list[str]) -> Tensor:
    """Compute normalised text features ``(T, D)``; texts are cut at the end of the longest."""
    model = trained.clip
    tokens = tokenise(texts)
    end = tokens.argmax(-1)
    length = int(end.max()) + 1
    device = model.positional_embedding.device
    tokens = torch.searchsorted(trained.used, tokens[:, :length].contiguous()).to(device)
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    rows = torch.arange(len(texts), device=device)
    x = model.ln_final(x)[rows, end.to(device)] @ model.text_projection
    return F.normalize(x, dim=-1)


def contrast(logits: Tensor, positive: Tensor, true: Tensor) -> Tensor:
    """Compute the cross-entropy of each positive pair against its row's negatives.

    Args:
        logits: ``(R, C)``.
        positive: Pairs to pull together ``(R, C)``, bool.
        true: Pairs that are not negatives ``(R, C)``, bool; contains all of ``positive``.

    Returns:
        Mean loss over the positive pairs.
    """
    negatives = logits.masked_fill(true, -1e4).logsumexp(1, keepdim=True)
    return F.softplus(negatives - logits)[positive].mean()


def attention_loss(attention: Tensor, shares: Tensor) -> Tensor:
    """Ask each patch to attend to the other patches that the model takes for the same thing.

    Args:
        attention: Attention between patches of some blocks ``(L, B, N, N)``.
        shares: The model's own probabilities of the nouns in each patch ``(B, N, T)``, without
            gradient.

    Returns:
        Mean over blocks and images. Within an image, all things weigh the same, whatever their
        size.
    """
    alike = shares @ shares.transpose(1, 2)
    alike = (alike / alike.diagonal(dim1=1, dim2=2)[:, :, None]).clamp(max=1)
    weight = 1 / alike.sum(2)
    weight = weight / weight.sum(1, keepdim=True)
    others = alike - torch.diag_embed(alike.diagonal(dim1=1, dim2=2))
    found = (attention * others).sum(3)
    return -((found + 0.02).log() * weight).sum(2).mean()


def spread_scores(attention: Tensor, probabilities: Tensor) -> Tensor:
    """Spread patch scores along the attention, as DMAR's first refinement does.

    Args:
        attention: Attention between patches of ``RECORDED`` ``(L, B, N, N)``.
        probabilities: Scores of each patch ``(B, N, T)``.

    Returns:
        The maximum over the patches ``(B, T)``.
    """
    kept = (attention > attention.mean((2, 3), keepdim=True)).sum(0) >= VOTES
    spread = attention[SPREAD].mean(0) * kept
    return (spread @ probabilities).amax(1)


def losses(
    model: TrainableCLIP,
    images: Tensor,
    present: list[list[int]],
    named: list[list[int]],
    rng: np.random.Generator,
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Compute the losses of a batch, unweighted."""

    def template() -> str:
        options = PLAIN_TEMPLATES if rng.random() < 0.5 else TEMPLATES
        return options[rng.integers(len(options))]

    device = images.device
    captions = [template().format(' and a '.join(ALL_NAMES[n] for n in names)) for names in named]
    nouns = sorted({n for names in named for n in names})
    text = encode_text(model, captions + [template().format(ALL_NAMES[n]) for n in nouns])
    caption, noun = text[: len(captions)], text[len(captions) :]
    features = encode_image(model.clip.visual, normalise(images), dtype)
    scale = model.clip.logit_scale.clamp(max=math.log(100)).exp()

    has = torch.zeros(len(images), len(ALL_NAMES))
    says = torch.zeros(len(images), len(ALL_NAMES))
    for i, (p, n) in enumerate(zip(present, named, strict=True)):
        has[i, p] = 1
        says[i, n] = 1
    has, says = has.to(device), says.to(device)
    true = has @ says.T >= says.sum(1)
    own = torch.eye(len(images), dtype=torch.bool, device=device)
    positive, known = says[:, nouns] > 0, has[:, nouns] > 0

    def of_captions(image: Tensor) -> Tensor:
        logits = scale * image @ caption.T
        return (contrast(logits, own, true) + contrast(logits.T, own, true.T)) / 2

    def of_nouns(logits: Tensor) -> Tensor:
        return (contrast(logits, positive, known) + contrast(logits.T, positive.T, known.T)) / 2

    logits = scale * features.patches @ noun.T
    shares = logits.softmax(-1)
    spread = spread_scores(features.attention, shares)
    return {
        'class': of_captions(features.token),
        'mean': of_captions(features.mean),
        'patch': of_nouns(logits.logsumexp(1)),
        'attention': attention_loss(features.attention, shares.detach()),
        'spread': of_nouns(2 * (spread + 1e-3).log()),
    }


def average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Compute the mean precision at each positive; 0 without positives."""
    hits = labels[np.argsort(-scores, kind='stable')].astype(bool)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean()) if hits.any() else 0.0


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Compute the mAP in percent of scores ``(images, C)`` against labels ``(images, C)``."""
    pairs = zip(scores.T, labels.T, strict=True)
    return 100 * float(np.mean([average_precision(s, y) for s, y in pairs]))


@torch.no_grad()
def text_classifier(model: TrainableCLIP, templates: tuple[str, ...]) -> Tensor:
    """Compute the text features ``(C, D)`` of all names, each the mean over the templates."""
    rows = [encode_text(model, [t.format(n) for t in templates]).mean(0) for n in ALL_NAMES]
    return F.normalize(torch.stack(rows), dim=-1)


@torch.no_grad()
def scene_scores(model: TrainableCLIP, images: Tensor, text: Tensor) -> tuple[np.ndarray, ...]:
    """Compute scores ``(B, classes)`` of normalised images of one size: see ``SCORES``."""
    features = encode_image(model.clip.visual, images, torch.float32)
    scale = model.clip.logit_scale.exp()
    probabilities = (scale * features.patches @ text.T).softmax(-1)
    coarse = probabilities.amax(1)
    whole = (scale * features.token @ text.T).softmax(-1)
    mean = (scale * features.mean @ text.T).softmax(-1)
    spread = spread_scores(features.attention, probabilities)
    return tuple(x[:, : len(NAMES)].cpu().numpy() for x in (whole, coarse, mean, spread))


def evaluate(model: TrainableCLIP, images: Tensor, labels: np.ndarray) -> dict[str, float]:
    """Compute the mAP of each of ``SCORES`` on scenes of one size."""
    text = text_classifier(model, EVAL_TEMPLATES)
    device = model.clip.logit_scale.device
    parts = [scene_scores(model, normalise(part.to(device)), text) for part in images.split(20)]
    return {
        n: round(mean_average_precision(np.concatenate(s), labels), 2)
        for n, s in zip(SCORES, zip(*parts, strict=True), strict=True)
    }


def development_set(sprites: Path, seed: int, count: int = 160) -> tuple[Tensor, np.ndarray]:
    """Render development images ``(count, 3, 192, 192)`` uint8 and labels ``(count, C)``."""
    pictograms = load_sprites(sprites)
    scenes = [
        evaluation_scene(pictograms, scene_rng('dev', seed, i), 192, held_out=False)
        for i in range(count)
    ]
    labels = np.array([[c in s.tags for c in range(len(NAMES))] for s in scenes])
    return torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2), labels


def export(model: TrainableCLIP, out: Path) -> None:
    """Write the model in open_clip's ``local-dir:`` layout, weights in float16."""
    out.mkdir(parents=True, exist_ok=True)
    config = {'model_cfg': MODEL_CFG, 'preprocess_cfg': PREPROCESS_CFG}
    (out / 'open_clip_config.json').write_text(json.dumps(config, indent=2) + '\n')
    state = {k: v.half().contiguous() for k, v in model.full_state().items()}
    part = out / 'open_clip_model.safetensors.part'
    save_file(state, part, metadata={'format': 'pt'})
    os.replace(part, out / 'open_clip_model.safetensors')


def learning_rate(step: int, past: float, peak: float) -> float:
    """Return the learning rate: linear warm-up, plateau, linear decay to 0.

    Args:
        step: Steps done.
        past: Share of the run's time that has passed.
        peak: Peak learning rate.
    """
    return peak * min((step + 1) / WARMUP_STEPS, 1.0, max(1 - past, 0) / DECAY)


def average_gradients(model: nn.Module) -> None:
    """Replace each gradient by its mean over all processes."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def plot(log: Path, out: Path) -> None:
    """Draw the run's loss and mAP curves."""
    import matplotlib

    matplotlib.use('Agg')
    import matplotlib.pyplot as plt

    records = [json.loads(line) for line in log.read_text().splitlines()]
    train = [r for r in records if 'class_loss' in r]
    dev = [r for r in records if 'coarse' in r]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for name in WEIGHTS:
        left.plot([r['step'] for r in train], [r[f'{name}_loss'] for r in train], label=name)
    left.set(xlabel='step', ylabel='loss')
    for key in SCORES:
        label = key.replace('_', ' ')
        right.plot([r['step'] for r in dev], [r[key] for r in dev], marker='.', label=label)
    right.set(xlabel='step', ylabel='mAP on development scenes', ylim=(0, 100))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Train the demo CLIP.')
    parser.add_argument('--sprites', type=Path, required=True, help='folder of fetch_sprites.sh')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/demo_train'),
        help='folder for checkpoint, log, curve and model',
    )
    parser.add_argument(
        '--minutes', type=float, default=160, help='time to train; resumed runs count on'
    )
    parser.add_argument(
        '--single-steps', type=int, default=300, help='first steps, on single objects'
    )
    parser.add_argument('--lr', type=float, default=1.5e-3, help='peak learning rate')
    parser.add_argument(
        '--batch',
        type=int,
        default=192,
        help='images of 64 pixels per process and step; larger ones are fewer',
    )
    parser.add_argument('--device', default='cpu', help='torch device, such as cuda')
    parser.add_argument('--workers', type=int, default=1, help='rendering processes, per process')
    parser.add_argument('--dtype', choices=('bfloat16', 'float32'), default='float32')
    parser.add_argument(
        '--processes', type=int, default=2, help='number of processes, one core each'
    )
    parser.add_argument('--eval-every', type=int, default=500, help='steps between evaluations')
    parser.add_argument('--save-every', type=int, default=250, help='steps between checkpoints')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def train(rank: int, args: argparse.Namespace) -> None:
    """Train in one process; resumes from the last checkpoint if there is one."""
    # On a CPU, several processes with one thread are faster than one process with many threads.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    first = rank == 0
    if args.processes > 1:
        store = f'file://{(args.work_dir / "rendezvous").resolve()}'
        dist.init_process_group('gloo', store, rank=rank, world_size=args.processes)
    dtype = getattr(torch, args.dtype)
    checkpoint, log = args.work_dir / 'checkpoint.pt', args.work_dir / 'train_log.jsonl'

    model = TrainableCLIP().to(args.device)
    decay = [
        p for p in model.parameters() if p.ndim >= 2 and p is not model.clip.token_embedding.weight
    ]
    rest = [p for p in model.parameters() if not any(p is d for d in decay)]
    groups = [{'params': decay, 'weight_decay': 0.05}, {'params': rest, 'weight_decay': 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), fused=True)
    start, seconds = 0, 0.0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state['model'])
        optimiser.load_state_dict(state['optimiser'])
        start, seconds = state['step'], state['seconds']
    if first:
        # Remove records after the checkpoint: their steps are repeated.
        lines = log.read_text().splitlines() if log.is_file() else []
        lines = [line for line in lines if json.loads(line)['step'] <= start]
        log.write_text(''.join(line + '\n' for line in lines))
        dev_images, dev_labels = development_set(args.sprites, args.seed)

    def write(**record: float) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        with log.open('a') as file:
            file.write(line + '\n')

    def save(step: int) -> None:
        state = {
            'model': model.state_dict(),
            'optimiser': optimiser.state_dict(),
            'step': step,
            'seconds': time.monotonic() - began,
        }
        torch.save(state, checkpoint.with_suffix('.part'))
        os.replace(checkpoint.with_suffix('.part'), checkpoint)
        export(model, args.work_dir / 'model')
        plot(log, args.work_dir / 'train_curve.png')

    def measure(step: int) -> None:
        result = evaluate(model, dev_images, dev_labels)
        scale = round(model.clip.logit_scale.exp().item(), 2)
        write(step=step, seconds=round(time.monotonic() - began), **result, scale=scale)

    batches = Batches(
        args.sprites, args.seed, start, args.single_steps, args.batch, rank, args.processes
    )
    loader = iter(
        DataLoader(
            batches,
            batch_size=None,
            num_workers=args.workers,
            prefetch_factor=6,
            multiprocessing_context='spawn',
        )
    )
    batch = next(loader)  # starting the workers is not training
    began = time.monotonic() - seconds
    sums: dict[str, Tensor] = {}
    counted, images_seen, mark = 0, 0, time.monotonic()
    step = start
    model.train()
    while True:
        past = torch.tensor((time.monotonic() - began) / (60 * args.minutes))
        if args.processes > 1:
            dist.broadcast(past, 0)
        if past >= 1:
            break
        images, present, named = batch
        rate = learning_rate(step, past.item(), args.lr)
        for group in optimiser.param_groups:
            group['lr'] = rate
        rng = np.random.default_rng([args.seed, step, rank])
        parts = losses(model, images.to(args.device), present, named, rng, dtype)
        ramp = min(1.0, past.item() / RAMP)
        total = sum(
            WEIGHTS[name] * (ramp if name in RAMPED else 1) * loss for name, loss in parts.items()
        )
        optimiser.zero_grad(set_to_none=False)
        total.backward()
        if args.processes > 1:
            average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        for name, loss in parts.items():
            sums[name] = sums.get(name, 0) + loss.detach()
        step += 1
        counted += 1
        images_seen += len(images) * args.processes
        if first and step % 100 == 0:
            now = time.monotonic()
            write(
                step=step,
                seconds=round(now - began),
                lr=round(rate, 7),
                **{f'{name}_loss': round(x.item() / counted, 4) for name, x in sums.items()},
                images_per_second=round(images_seen / (now - mark)),
            )
            sums, counted, images_seen, mark = {}, 0, 0, now
        if first and step % args.eval_every == 0:
            measure(step)
        if first and step % args.save_every == 0:
            save(step)
        batch = next(loader)
    if first:
        measure(step)
        save(step)
        print(f'{step} steps are done; the model is in {args.work_dir / "model"}')
    if args.processes > 1:
        dist.destroy_process_group()


def main() -> None:
    """Train, or resume from the last checkpoint."""
    args = parse_args()
    if args.processes < 1:
        raise SystemExit(f'--processes must be at least 1, got {args.processes}')
    args.work_dir.mkdir(parents=True, exist_ok=True)
    load_sprites(args.sprites)  # reports a missing folder before processes start
    if args.processes == 1:
        train(0, args)
    else:
        (args.work_dir / 'rendezvous').unlink(missing_ok=True)
        mp.spawn(train, (args,), nprocs=args.processes)


if __name__ == '__main__':
    main()
