"""Tag two images with one tower of each family, at its published size with random weights.

    python tools/dev/real_runs.py data/photos
    python tools/dev/real_runs.py data/photos --only PE-Core-B-16

Each tower is a process of tools/test.py, one after the other, with one thread. Printed are its CPU
time, its peak memory and the number of tags that it wrote, which mean nothing. It needs up to 8 GB
of memory and 4 GB of disk, and several minutes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor

from mmtagclip.apis import list_images
from mmtagclip.clip.loading import check_vision_config
from mmtagclip.clip.published import PUBLISHED, SENTENCEPIECE

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / 'configs/tagclip/tagclip_vit-base-p16_openai_folder.py'
# One of each family, the smallest with weights, and the models that are not in open_clip.
TOWERS = {
    'MobileCLIP2-S0': 'FastViT',
    'RN50': "OpenAI's ResNet",
    'convnext_base': 'ConvNeXt',
    'ViT-B-16': "open_clip's ViT",
    'MobileCLIP2-B': "timm's ViT, class token",
    'ViTamin-S': "timm's ViT, mean",
    'EVA02-B-16': 'Eva, class token',
    'PE-Core-B-16': 'Eva, attention',
    'ViT-B-16-SigLIP': "timm's ViT, attention",
    'TIPSv2-B-14': 'TIPS',
    'ViT-L-14-CLIPA': "open_clip's ViT, mean",
    'dinotxt-L-16': 'dino.txt',
}
# For models whose tokenizer is a download: a text tower of CLIP's tokenizer. The image tower stays.
TEXT = {'context_length': 77, 'vocab_size': 49408, 'width': 512, 'heads': 8, 'layers': 12}


def tips_files(clip: Any) -> dict[str, Tensor]:
    """The weights of TIPS by the names of its publisher."""
    found = {f'text_encoder.{key}': value for key, value in clip.text.state_dict().items()}
    vision = clip.visual.trunk.state_dict()
    vision['register_tokens'] = vision.pop('reg_token')
    first = torch.zeros_like(vision['pos_embed'][:, :1])
    vision['pos_embed'] = torch.cat([first, vision['pos_embed']], dim=1)
    vision['mask_token'] = first[0]
    return {**found, **{f'vision_encoder.{key}': value for key, value in vision.items()}}


def dinotxt_files(clip: Any) -> dict[str, Tensor]:
    """The weights of dino.txt by the names of its publisher."""
    found = {'logit_scale': clip.logit_scale.detach().reshape(1)}
    text = (
        (r'transformer[.]resblocks', 'blocks'), (r'[.]ln_1[.]', '.attention_norm.'),
        (r'[.]ln_2[.]', '.ffn_norm.'), (r'[.]attn[.]in_proj_', '.attention.qkv.'),
        (r'[.]attn[.]out_proj[.]', '.attention.proj.'), (r'[.]mlp[.]c_fc[.]', '.feed_forward.fc1.'),
        (r'[.]mlp[.]c_proj[.]', '.feed_forward.fc2.'),
    )  # fmt: skip
    for key, value in clip.text.state_dict().items():
        name = key
        for old, new in text:
            name = re.sub(old, new, name)
        if key == 'text_projection':
            found['text_model.head.linear_projection.weight'] = value.T.contiguous()
        elif not name.endswith('qkv.bias'):
            found[f'text_model.backbone.{name}'] = value
    vision = (
        (r'gamma_([12])', r'ls\1.gamma'), ('fc1_g', 'w1'), ('fc1_x', 'w2'),
        (r'(blocks[.].[.]mlp[.])fc2', r'\1w3'),
    )  # fmt: skip
    backbone = clip.visual.backbone.trunk.state_dict()
    for key in [key for key in backbone if key.endswith('q_bias')]:
        q, v = backbone.pop(key), backbone.pop(key.replace('q_bias', 'v_bias'))
        backbone[key.replace('q_bias', 'qkv.bias')] = torch.cat([q, 0 * q, v])
    backbone['storage_tokens'] = backbone.pop('reg_token')
    for key, value in backbone.items():
        found[re.sub(*vision[0], key)] = value
    for key, value in clip.visual.state_dict().items():
        if not key.startswith('backbone.'):
            for old, new in vision:
                key = re.sub(old, new, key)
            found[f'visual_model.head.{key}'] = value
    return found


def write_tokenizer(path: Path, size: int) -> None:
    """Write a SentencePiece tokenizer of a few letters, filled up to a number of tokens."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    corpus = path.with_suffix('.txt')
    corpus.write_text('a photo of a dog, a cat, a person or a bus\n' * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(path.with_suffix('')), vocab_size=24, pad_id=0,
        unk_id=1, bos_id=2, eos_id=3, minloglevel=2,
    )  # fmt: skip
    model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    for number in range(size - len(model.pieces)):
        model.pieces.add(piece=f'unused{number}', score=-99.0)
    path.write_bytes(model.SerializeToString())


def prepare(name: str, folder: Path) -> tuple[dict[str, Any], bool]:
    """Write files of random weights; return an encoder's settings, and whether it has blocks."""
    torch.manual_seed(0)
    path = folder / 'model.safetensors'
    if name in PUBLISHED:
        clip = PUBLISHED[name].build()
        if PUBLISHED[name].sentencepiece:
            state = tips_files(clip)
            write_tokenizer(folder / SENTENCEPIECE, clip.vocab_size)
            (folder / 'config.json').write_text(json.dumps({'temperature': 0.01}))
        else:
            state = dinotxt_files(clip)
        settings = {'model': name, 'checkpoint': str(folder)}
        has_blocks = True
    else:
        config = open_clip.get_model_config(name)
        if config['text_cfg'].get('hf_tokenizer_name'):
            config['text_cfg'] = TEXT
        config['vision_cfg']['timm_model_pretrained'] = False
        has_blocks = getattr(check_vision_config(config, name), 'num_blocks', None) != 0
        custom = config.pop('custom_text', False)
        clip = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config)
        state = clip.state_dict()
        settings = {'model': {**config, 'custom_text': custom}, 'checkpoint': str(path)}
        settings |= {'quick_gelu': False, 'mean': (0.5,) * 3, 'std': (0.5,) * 3}
    save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
    return {**settings, 'pretrained': None}, has_blocks


def config_text(settings: dict[str, Any], has_blocks: bool, images: Path) -> str:
    """A config that tags a folder of images."""
    dmar = {'_delete_': True, 'type': 'mmtagclip.DMAR'} if has_blocks else None
    no_cache = {'text_cache': False}
    model = {
        'encoder': {'_delete_': True, 'type': 'mmtagclip.CLIPEncoder', **settings, **no_cache},
        'head': {'dmar': dmar},
        'classes': ['dog', 'cat', 'person', 'bus'],
        'background': ['sky'],
        'templates': ['a photo of a {}'],
    }
    data = {'num_workers': 0, 'persistent_workers': False, 'dataset': {'data_prefix': str(images)}}
    return f'_base_ = {str(BASE)!r}\nmodel = {model!r}\ntest_dataloader = {data!r}\n'


def run(name: str, images: Path, folder: Path) -> str:
    """Run one tower; return its row of the table."""
    pid = os.fork()
    if not pid:  # so that the memory of the weights is not this process's
        settings, has_blocks = prepare(name, folder)
        (folder / 'config.py').write_text(config_text(settings, has_blocks, images))
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        raise SystemExit(f'error: no weights of {name} were made')
    log = (folder / 'log.txt').open('wb')
    command = [sys.executable, str(ROOT / 'tools/test.py'), str(folder / 'config.py')]
    command += ['--work-dir', str(folder / 'out')]
    more = {'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '', 'PYTHONPATH': str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **more}, stdout=log, stderr=subprocess.STDOUT
    )
    _, status, usage = os.wait4(process.pid, 0)
    log.close()
    if status:
        print((folder / 'log.txt').read_text()[-2000:], file=sys.stderr)
        return f'| `{name}` | {TOWERS[name]} | failed with exit status {status >> 8} | | |'
    (written,) = (folder / 'out').rglob('*.jsonl')
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20
    tags = ' and '.join(str(len(line['tags'])) for line in lines)
    return f'| `{name}` | {TOWERS[name]} | {seconds:.0f} | {memory:.1f} | {tags} |'


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder whose first two images are tagged')
    parser.add_argument('--only', nargs='+', choices=TOWERS, metavar='NAME', help='some towers')
    args = parser.parse_args()
    two = [image.source for image in list_images(args.images)[:2]]
    print('| tower | family | CPU seconds | GiB | tags |\n|---|---|---|---|---|', flush=True)
    for name in args.only or TOWERS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            (folder / 'images').mkdir()
            for path in two:
                (folder / 'images' / path.name).symlink_to(path.resolve())
            print(run(name, folder / 'images', folder), flush=True)


if __name__ == '__main__':
    main()
