"""Models from their publishers' files: names, text towers, tokenizers, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from mmtagclip.apis import load_config
from mmtagclip.clip import DenseEncoder, TextEncoder, Vocabulary, load_clip, published
from mmtagclip.clip.published import PUBLISHED, SentencePieceTokenizer, TIPSText
from mmtagclip.clip.towers import build_tower
from mmtagclip.clip.towers.tips import TIPSVisual
from tests.golden import GOLDEN
from tests.golden.towers import published as small

sentencepiece = pytest.importorskip('sentencepiece')
TIPS, DINOTXT = 'TIPSv2-B-14', 'dinotxt-L-16'


@pytest.fixture(scope='module')
def sentencepiece_model(tmp_path_factory):
    """A tokenizer with as many tokens as the small text tower, the first of them padding."""
    folder = tmp_path_factory.mktemp('sentencepiece')
    corpus = folder / 'corpus.txt'
    lines = ['a photo of a dog', 'a cat on a mat', 'the bus is in the fog', 'lower newer older']
    lines += ['quick brown foxes jump over very lazy zebras', 'which words make up their parts']
    corpus.write_text('\n'.join(lines * 9))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / 'tokenizer'), vocab_size=small.WORDS,
        pad_id=0, unk_id=1, bos_id=2, eos_id=3, minloglevel=2,
    )  # fmt: skip
    return (folder / 'tokenizer.model').read_bytes()


@pytest.fixture
def models(monkeypatch):
    """The published models in small."""
    for name, kind in ((TIPS, 'tips'), (DINOTXT, 'dinotxt')):
        entry = replace(PUBLISHED[name], build=lambda kind=kind: small.untrained(kind))
        monkeypatch.setitem(published.PUBLISHED, name, entry)


@pytest.fixture
def folders(models, tmp_path, sentencepiece_model):
    """The publishers' files, each model in a folder: two .npz, one .safetensors, two .pth."""
    tips, hub, dinotxt = (tmp_path / name for name in ('tips', 'hub', 'dinotxt'))
    for folder in (tips, hub, dinotxt):
        folder.mkdir()
    vision, text = small.tips_vision(), small.tips_text()
    for name, state in (('vision', vision), ('text', text)):
        arrays = {key: value.numpy() for key, value in state.items()}
        np.savez(tips / f'tips_v2_oss_b14_{name}.npz', **arrays)
    temperature = float(text.pop('temperature'))
    whole = {f'vision_encoder.{key}': value for key, value in vision.items()}
    whole |= {f'text_encoder.{key}': value for key, value in text.items()}
    save_file(whole, hub / 'model.safetensors')
    (hub / 'config.json').write_text(json.dumps({'temperature': temperature}))
    for folder in (tips, hub):
        (folder / 'tokenizer.model').write_bytes(sentencepiece_model)
    torch.save(small.dinov3(), dinotxt / 'dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth')
    torch.save(small.dinotxt_rest(), dinotxt / 'dinov3_vitl16_dinotxt.pth')
    return {'tips': tips, 'hub': hub, 'dinotxt': dinotxt}


def test_tips_text_is_the_librarys():
    """What transformers 5.24 returns for the same weights and padded tokens."""
    golden = np.load(GOLDEN / 'towers/tips_text.npz')
    text = small.build_clip('tips').text
    tokens, wanted = (torch.from_numpy(golden[key]) for key in ('tokens', 'features'))
    torch.testing.assert_close(text(tokens), wanted, atol=3e-6 * float(wanted.abs().max()), rtol=0)
    # Padding is never seen, however much there is.
    torch.testing.assert_close(text(tokens[:1, :1]), wanted[:1], atol=1e-5, rtol=0)


def test_mlps_of_any_width():
    """The widths of SO400M's are no multiple of the tower's."""
    with torch.device('meta'):
        text = TIPSText(1152, 16, 1, 4304)
    assert text.transformer.resblocks[0].mlp.c_fc.out_features == 4304


def causal_twin(state, tokens):
    """dino.txt's text tower as its program computes it, by its own names."""
    x = state['backbone.token_embedding.weight'][tokens]
    x = x + state['backbone.positional_embedding'][: tokens.shape[1]]

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f'{name}.weight'], state[f'{name}.bias'])

    def linear(name, x):
        return F.linear(x, state[f'{name}.weight'], state.get(f'{name}.bias'))

    for index in range(2):
        block = f'backbone.blocks.{index}'
        qkv = linear(f'{block}.attention.qkv', norm(f'{block}.attention_norm', x))
        q, k, v = qkv.unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + linear(f'{block}.attention.proj', y)
        hidden = F.gelu(linear(f'{block}.feed_forward.fc1', norm(f'{block}.ffn_norm', x)))
        x = x + linear(f'{block}.feed_forward.fc2', hidden)
    x = linear('head.linear_projection', norm('backbone.ln_final', x))
    return x[torch.arange(len(tokens)), tokens.argmax(dim=-1)]


def test_dinotxt_from_its_files(folders):
    loaded = load_clip(DINOTXT, checkpoint=folders['dinotxt'])
    assert loaded.name == f'{DINOTXT} ({folders["dinotxt"]})'
    assert loaded.mean == pytest.approx((0.485, 0.456, 0.406))
    encoder = DenseEncoder(loaded)
    assert (encoder.num_blocks, encoder.dim, encoder.patch_dim) == (5, 128, 64)
    assert encoder.logit_scale == pytest.approx(float(np.exp(4)))
    assert encoder.logit_bias is None
    vocabulary = Vocabulary.load(['dog', 'cat'])
    text = TextEncoder(encoder, ('a photo of a {}',), cache_dir=False)(vocabulary)
    state = {
        key.removeprefix('text_model.'): value
        for key, value in small.dinotxt_rest().items()
        if key.startswith('text_model.')
    }
    tokens = loaded.tokenizer(['a photo of a dog', 'a photo of a cat'])
    assert tokens.shape == (2, 16)
    twin = F.normalize(causal_twin(state, tokens), dim=-1)
    torch.testing.assert_close(text, twin, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.patch_text(text), F.normalize(twin[:, 64:], dim=-1))
    # The backbone's files may have no biases of the queries, keys and values; Meta's do.
    bias = encoder.visual.backbone.trunk.blocks[0].attn.q_bias
    assert torch.equal(bias, small.dinov3()['blocks.0.attn.qkv.bias'][:64])


@pytest.mark.parametrize('files', ['tips', 'hub'])
def test_tips_from_its_files(folders, files):
    place = folders[files] if files == 'tips' else folders[files] / 'model.safetensors'
    loaded = load_clip(TIPS, checkpoint=place)
    assert (loaded.mean, loaded.std) == ((0.0,) * 3, (1.0,) * 3)
    tokens = loaded.tokenizer(['A Photo of a DOG', 'a cat'])
    assert tokens.shape == (2, 32)
    assert torch.equal(tokens[0], loaded.tokenizer('a photo of a dog')[0])
    assert (tokens[1] == 0).sum() > (tokens[0] == 0).sum() > 0
    encoder = DenseEncoder(loaded)
    assert encoder.logit_scale == pytest.approx(20)
    text = TextEncoder(encoder, ('a photo of a {}', '{}'), cache_dir=False)
    dog, cat = text(Vocabulary.load(['dog', 'cat']))
    assert (dog - cat).abs().max() > 1e-3
    with pytest.raises(ValueError, match='more than 32 tokens, the limit of the text tower'):
        text(Vocabulary.load(['dog ' * 16]))


def test_what_is_not_given_is_said(models, tmp_path):
    where = (
        r'give the folder of its files with --checkpoint \(checkpoint=\): tips_v2_oss_b14_vision'
    )
    with pytest.raises(ValueError, match=f'the weights of {TIPS} are not given: {where}'):
        load_clip(TIPS)
    with pytest.raises(
        ValueError, match=rf"{TIPS} has no tag of weights, such as 'webli': {where}"
    ):
        load_clip(TIPS, pretrained='webli')
    with pytest.raises(FileNotFoundError, match=f'no checkpoint at .*none: {where}'):
        load_clip(TIPS, checkpoint=tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match=f'no weights in .*: {where}'):
        load_clip(TIPS, checkpoint=tmp_path)
    with pytest.raises(
        ValueError, match=r"no architecture 'TIPSv3'.* beside open_clip there are TI"
    ):
        load_clip('TIPSv3', pretrained='a')


def test_wrong_files_are_refused(folders):
    text = folders['tips'] / 'tips_v2_oss_b14_text.npz'
    with pytest.raises(
        ValueError, match='no weights of the image tower of TIPS: put the files of bo'
    ):
        load_clip(TIPS, checkpoint=text)
    backbone, rest = sorted(folders['dinotxt'].iterdir(), reverse=True)
    with pytest.raises(
        ValueError, match=r'no weights of the text tower of dino\.txt: put the files'
    ):
        load_clip(DINOTXT, checkpoint=backbone)
    for name, other in ((TIPS, 'dinotxt'), (DINOTXT, 'tips')):
        with pytest.raises(ValueError, match='has no weights of the text tower of'):
            load_clip(name, checkpoint=folders[other])
    vision = folders['tips'] / 'tips_v2_oss_b14_vision.npz'
    arrays = dict(np.load(vision))
    for changed, message in (
        ({'norm.weight': np.ones(65, np.float32)}, r'trunk\.norm\.weight is \(65,\) instead of'),
        ({'more': np.ones(65, np.float32)}, r'has the unknown visual\.trunk\.more and 0 more'),
    ):
        np.savez(vision, **{**arrays, **changed})
        with pytest.raises(ValueError, match=f'weights of another architecture than .*{message}'):
            load_clip(TIPS, checkpoint=folders['tips'])
    (folders['dinotxt'] / 'copy.pth').write_bytes(rest.read_bytes())
    with pytest.raises(ValueError, match=r'repeats .* of another file in its folder: leave only'):
        load_clip(DINOTXT, checkpoint=folders['dinotxt'])
    np.savez(folders['tips'] / 'evil.npz', a=np.array([object()]))
    with pytest.raises(ValueError, match=r'evil\.npz is not a complete checkpoint file: .*pickle'):
        load_clip(TIPS, checkpoint=folders['tips'])
    (folders['hub'] / 'config.json').write_text('{}')
    with pytest.raises(ValueError, match=r'the temperature of the scores: put the config\.json'):
        load_clip(TIPS, checkpoint=folders['hub'])


def test_a_tokenizer_that_is_missing_or_another(folders, tmp_path, sentencepiece_model):
    place = folders['tips'] / 'tokenizer.model'
    place.write_bytes(b'nothing')
    with pytest.raises(ValueError, match=r'tokenizer\.model is not a tokenizer of SentencePiece'):
        load_clip(TIPS, checkpoint=folders['tips'])
    place.unlink()
    with pytest.raises(FileNotFoundError, match=r'no tokenizer at .*: put the tokenizer\.model of'):
        load_clip(TIPS, checkpoint=folders['tips'])
    other = tmp_path / 'other.model'
    other.write_bytes(sentencepiece_model)
    loaded = load_clip(TIPS, checkpoint=folders['tips'], tokenizer=other)
    assert loaded.tokenizer('a cat').any()
    with pytest.raises(ValueError, match='has 40 tokens, but the text tower has 41: it is the tok'):
        SentencePieceTokenizer(other, 41, 16)
    mine = lambda texts, context_length=16: torch.ones(len(texts), context_length)  # noqa: E731
    assert load_clip(TIPS, checkpoint=folders['tips'], tokenizer=mine).tokenizer is mine


def test_the_command_line_names_them():
    config = load_config('tagclip_demo', encoder=DINOTXT)
    assert config.model.encoder.model == DINOTXT
    assert not {'pretrained', 'checkpoint'} & config.model.encoder.keys()


def test_the_published_sizes():
    assert all(
        timm.is_model(entry.build.args[0]) for name, entry in PUBLISHED.items() if name != DINOTXT
    )
    with torch.device('meta'):
        clip = PUBLISHED[DINOTXT].build()
    tower = build_tower(clip.visual, DINOTXT, None, {})
    assert (tower.num_blocks, tower.dim, tower.native_size) == (26, 2048, (224, 224))
    assert clip.text.context_length == 77
    with pytest.raises(ValueError, match=r'timm .* has no vit_of_tomorrow: install a newer one'):
        TIPSVisual('vit_of_tomorrow')
