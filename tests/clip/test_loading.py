"""Weights in every format, the activation that goes with them, and what is refused."""

import json
import pickle
import random
import sys
import tarfile
import zipfile
from collections import OrderedDict
from contextlib import suppress
from copy import deepcopy
from types import ModuleType, SimpleNamespace

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from torch import nn

from mmtagclip.clip import (
    DenseEncoder,
    TextEncoder,
    Vocabulary,
    load_clip,
    loading,
    read_state_dict,
    weights_digest,
)
from mmtagclip.models import CLIPEncoder
from tests.conftest import TINY

OPENAI_EXTRAS = {
    'input_resolution': torch.tensor(224),
    'context_length': torch.tensor(77),
    'vocab_size': torch.tensor(49408),
}
# An architecture that does not say its activation.
SILENT = {key: value for key, value in TINY.items() if key != 'quick_gelu'}


class Archive(nn.Module):
    """A scripted module with nested names, like the archives that OpenAI published."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            module = self
            *path, leaf = name.split('.')
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, Archive({}))
                module = getattr(module, part)
            module.register_buffer(leaf, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture(scope='module')
def files(state_dict, tmp_path_factory):
    """The same weights in each format."""
    folder = tmp_path_factory.mktemp('formats')
    save_file(state_dict, folder / 'plain.safetensors')
    torch.save(state_dict, folder / 'state.pt')
    torch.save(
        {'epoch': 3, 'state_dict': {f'module.{k}': v for k, v in state_dict.items()}},
        folder / 'module.pt',
    )
    torch.save(state_dict | OPENAI_EXTRAS, folder / 'openai_state.pt')
    torch.jit.save(torch.jit.script(Archive(state_dict | OPENAI_EXTRAS)), folder / 'openai.pt')
    return folder


def features(model):
    batch = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    return DenseEncoder(model)(batch).patches


@pytest.mark.parametrize(
    'name', ['plain.safetensors', 'state.pt', 'module.pt', 'openai_state.pt', 'openai.pt']
)
def test_every_format_gives_the_same_features(files, clip, name):
    loaded = load_clip(deepcopy(TINY), checkpoint=files / name)
    assert torch.equal(features(loaded), features(load_clip(clip)))
    assert weights_digest(loaded.model) == weights_digest(clip)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())


def activation(model):
    return type(model.model.visual.transformer.resblocks[0].mlp.gelu)


@pytest.mark.parametrize('name', ['openai_state.pt', 'openai.pt'])
def test_an_openai_file_is_recognised(files, name):
    assert activation(load_clip(SILENT, checkpoint=files / name)) is QuickGELU
    with pytest.raises(ValueError, match='checkpoint of OpenAI, trained with QuickGELU'):
        load_clip(SILENT, checkpoint=files / name, quick_gelu=False)


def test_a_file_of_unknown_origin_needs_its_activation(files):
    path = files / 'plain.safetensors'
    with pytest.raises(ValueError, match='does not show which activation'):
        load_clip(SILENT, checkpoint=path)
    assert activation(load_clip(SILENT, checkpoint=path, quick_gelu=True)) is QuickGELU
    assert activation(load_clip(SILENT, checkpoint=path, quick_gelu=False)) is nn.GELU


def test_a_name_without_quickgelu_does_not_decide_for_a_file(tmp_path):
    path = tmp_path / 'b32.safetensors'
    save_file(open_clip.create_model('ViT-B-32').state_dict(), path)
    with pytest.raises(ValueError, match='does not show which activation'):
        load_clip('ViT-B-32', checkpoint=path)
    assert activation(load_clip('ViT-B-32-quickgelu', checkpoint=path)) is QuickGELU
    assert activation(load_clip('ViT-B-32', checkpoint=path, quick_gelu=False)) is nn.GELU


def test_a_tag_with_the_wrong_activation_is_refused():
    with pytest.raises(ValueError, match=r"trained with QuickGELU.*use 'ViT-B-16-quickgelu'"):
        load_clip('ViT-B-16', pretrained='openai')
    with pytest.raises(ValueError, match='is not a tag of'):
        load_clip('ViT-B-16-quickgelu', pretrained='laion2b_s34b_b88k')


def test_local_folder_in_open_clip_s_layout(state_dict, tmp_path, clip):
    config = {'model_cfg': TINY, 'preprocess_cfg': {'mean': [0.5] * 3, 'std': [0.25] * 3}}
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(config))
    save_file(state_dict, tmp_path / 'open_clip_model.safetensors')
    loaded = load_clip(f'local-dir:{tmp_path}')
    assert torch.equal(features(loaded), features(load_clip(clip)))
    assert DenseEncoder(loaded).mean == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match='has its own weights'):
        load_clip(f'local-dir:{tmp_path}', pretrained='openai')
    (tmp_path / 'open_clip_model.safetensors').write_bytes(b'half')
    with pytest.raises(ValueError, match='is not a complete checkpoint file'):
        load_clip(f'local-dir:{tmp_path}')
    (tmp_path / 'open_clip_model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='no weights in'):
        load_clip(f'local-dir:{tmp_path}')
    nothing = json.dumps({**config, 'preprocess_cfg': None})
    number = json.dumps({**config, 'preprocess_cfg': {'mean': 0.5}})
    for text in ('{}', '[]', 'null', nothing, number):
        (tmp_path / 'open_clip_config.json').write_text(text)
        with pytest.raises(ValueError, match=r"config\.json is not in open_clip's layout"):
            load_clip(f'local-dir:{tmp_path}')
    with pytest.raises(FileNotFoundError, match=r'needs .*open_clip_config\.json'):
        load_clip(f'local-dir:{tmp_path}/none')


@pytest.mark.parametrize(
    'name',
    [
        'open_clip_model.safetensors',
        'model.safetensors',
        'open_clip_pytorch_model.bin',
        'pytorch_model.bin',
    ],
)
def test_every_name_of_weights_in_a_folder(state_dict, tmp_path, clip, name):
    (tmp_path / 'open_clip_config.json').write_text(
        json.dumps({'model_cfg': TINY, 'preprocess_cfg': {}})
    )
    save = save_file if name.endswith('.safetensors') else torch.save
    save(state_dict, tmp_path / name)
    assert torch.equal(features(load_clip(f'local-dir:{tmp_path}')), features(load_clip(clip)))


def test_another_architecture_is_refused(files):
    wide = deepcopy(TINY)
    wide['vision_cfg']['width'] = 192
    with pytest.raises(ValueError, match=r'another architecture.*instead of'):
        load_clip(wide, checkpoint=files / 'plain.safetensors')
    deep = deepcopy(TINY)
    deep['vision_cfg']['layers'] = 13
    with pytest.raises(ValueError, match=r'it lacks visual\.transformer\.resblocks\.12'):
        load_clip(deep, checkpoint=files / 'plain.safetensors')
    other_grid = deepcopy(TINY)
    other_grid['vision_cfg']['image_size'] = 336
    with pytest.raises(ValueError, match='positional_embedding is'):
        load_clip(other_grid, checkpoint=files / 'plain.safetensors')


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return (open, ('/nonexistent/never', 'w'))


def test_pickled_code_is_refused_and_not_run(tmp_path):
    path = tmp_path / 'harmful.pt'
    torch.save({'state_dict': Harmful()}, path)
    with pytest.raises(ValueError, match='pickled Python objects, which could run code'):
        read_state_dict(path)
    plain = tmp_path / 'plain.pt'
    plain.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match=r'plain\.pt'):
        read_state_dict(plain)


class RunsAtLoad(nn.Module):
    """Says so when TorchScript loads it and runs its code."""

    def __init__(self):
        super().__init__()
        self.register_buffer('weight', torch.zeros(3))

    @torch.jit.export
    def __getstate__(self) -> torch.Tensor:
        return self.weight

    @torch.jit.export
    def __setstate__(self, state: torch.Tensor) -> None:
        print('code of the archive ran')
        self.weight = state
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def renamed(source, path, rename):
    """A copy of an archive whose entries are called otherwise."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            new.writestr(rename(name), old.read(name))
    return path


@pytest.mark.parametrize(
    'rename',
    [
        lambda name: name,
        lambda name: name.replace('/code/', '/CODE/').replace('.py', '.PY'),
        lambda name: name.replace('constants', 'Constants').replace('/code/', '/cOde/'),
    ],
)
def test_no_code_of_an_archive_runs(tmp_path, capfd, rename):
    module = Archive({'outer': torch.ones(2)})
    module.add_module('inner', RunsAtLoad())
    torch.jit.save(torch.jit.script(module), tmp_path / 'plain.pt')
    path = renamed(tmp_path / 'plain.pt', tmp_path / 'runs.pt', rename)
    torch.jit.load(str(path))
    assert 'code of the archive ran' in capfd.readouterr().out
    state, _ = read_state_dict(path)
    assert list(state) == ['outer']
    assert 'ran' not in capfd.readouterr().out
    with pytest.raises(ValueError, match='another architecture'):
        load_clip(deepcopy(TINY), checkpoint=path)
    assert 'ran' not in capfd.readouterr().out


def test_pytorch_itself_never_loads_an_archive(files, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError('an archive was handed to PyTorch')

    monkeypatch.setattr(torch.jit, 'load', refuse)
    monkeypatch.setattr(torch, 'load', refuse)
    for name in ('openai.pt', 'state.pt'):
        assert read_state_dict(files / name)[0]


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32, torch.bfloat16])
def test_archives_of_each_dtype_are_read_bit_by_bit(state_dict, tmp_path, dtype):
    """As OpenAI's, with a causal mask in each block, which is no weight."""
    state = {key: value.to(dtype) for key, value in state_dict.items()}
    module = Archive(state | OPENAI_EXTRAS)
    module.transformer.resblocks.register_buffer('attn_mask', torch.ones(77, 77))
    torch.jit.save(torch.jit.script(module), tmp_path / 'openai.pt')
    read, from_openai = read_state_dict(tmp_path / 'openai.pt')
    assert from_openai
    assert weights_digest(read) == weights_digest(state)
    loaded = load_clip(SILENT, checkpoint=tmp_path / 'openai.pt')
    assert torch.equal(loaded.model.visual.proj, state['visual.proj'].float())


def test_views_and_shared_storages_are_read_as_they_are(tmp_path):
    base = torch.arange(24.0).reshape(4, 6)
    state = {'all': base, 'part': base[1:3, ::2], 'turned': base.T, 'none': base[:0]}
    state['parameter'] = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)
    torch.save(OrderedDict(state), tmp_path / 'views.pt')
    read, _ = read_state_dict(tmp_path / 'views.pt')
    assert list(read) == list(state)
    for key, value in state.items():
        assert torch.equal(read[key], value)


def written(path, content, **numbers):
    """A file in PyTorch's layout with this pickle and a storage 0 of four numbers."""
    with zipfile.ZipFile(path, 'w', **numbers) as file:
        file.writestr('x/data.pkl', content)
        file.writestr('x/data/0', torch.arange(4.0).numpy().tobytes())
    return path


def tensor_pickle(size, stride, offset=0, length=4, storage='FloatStorage'):
    def tuple_of(*numbers):
        return b'(' + b''.join(b'J' + n.to_bytes(4, 'little', signed=True) for n in numbers) + b't'

    return (
        b'\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage'
        + f'ctorch\n{storage}\n'.encode()
        + b'X\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ'
        + length.to_bytes(4, 'little')
        + b'tQJ'
        + offset.to_bytes(4, 'little', signed=True)
        + tuple_of(*size)
        + tuple_of(*stride)
        + b'\x89}tRs.'
    )


def test_a_pickle_of_the_least_operations(tmp_path):
    path = written(tmp_path / 'w.pt', tensor_pickle((2, 2), (1, 2)))
    assert read_state_dict(path)[0]['w'].tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize(
    'content, message',
    [
        (tensor_pickle((5,), (1,)), 'larger than its storage'),
        (tensor_pickle((2, 2), (1, 3)), 'larger than its storage'),
        (tensor_pickle((1 << 30,), (0,)), 'larger than its storage'),
        (tensor_pickle((2,), (1,), offset=-1), 'impossible shape'),
        (tensor_pickle((2,), (-1,)), 'impossible shape'),
        (tensor_pickle((2,), (1, 1)), 'impossible shape'),
        (tensor_pickle((2,), (1,), length=5), 'does not contain 5 numbers'),
        (tensor_pickle((2,), (1,), storage='ComplexFloatStorage'), 'pickled Python objects'),
        (b'\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.', 'pickled Python objects'),
        (b'\x80\x02ios\nsystem\n.', 'the operation INST'),
        (b'\x80\x02(X\x02\x00\x00\x00ido.', 'the operation OBJ'),
        (b'\x80\x02\x82\x01.', 'the operation EXT1'),
        (b'\x80\x02}', 'is not a complete checkpoint'),
        (b'\x80\x02t.', 'is damaged'),
        (b'\x80\x02}]s.', 'is damaged'),
        (b'\x80\x02}.', 'no state dict of weights'),
        (b'', 'is not a complete checkpoint'),
    ],
)
def test_hostile_and_damaged_pickles(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_state_dict(written(tmp_path / 'w.pt', content))


def test_archives_of_another_layout(tmp_path):
    good = tensor_pickle((4,), (1,))
    packed = written(tmp_path / 'packed.pt', good, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match='is compressed'):
        read_state_dict(packed)
    with zipfile.ZipFile(tmp_path / 'two.pt', 'w') as file:
        file.writestr('x/data.pkl', good)
        file.writestr('y/data.pkl', good)
    with pytest.raises(ValueError, match='2 entries named'):
        read_state_dict(tmp_path / 'two.pt')
    # The end of a zip file is its table: without it, the file only begins like one.
    whole = written(tmp_path / 'whole.pt', good).read_bytes()
    (tmp_path / 'cut.pt').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r'cut\.pt is not a complete checkpoint file'):
        read_state_dict(tmp_path / 'cut.pt')
    with tarfile.open(tmp_path / 'old.pt', 'w') as file:
        file.add(__file__, 'storages')
    with pytest.raises(ValueError, match='is a tar archive'):
        read_state_dict(tmp_path / 'old.pt')


def test_random_damage_is_an_error_and_nothing_else(tmp_path):
    """Whatever becomes of the pickle, the file is refused or read: no other error, no crash."""
    module = Archive(
        {'inner.weight': torch.ones(2, 3), 'bias': torch.ones(3), 'scale': torch.ones(())}
    )
    torch.jit.save(torch.jit.script(module), tmp_path / 'whole.pt')
    with zipfile.ZipFile(tmp_path / 'whole.pt') as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    generator, read = random.Random(0), 0
    for _ in range(1000):
        content = bytearray(entries['whole/data.pkl'])
        for _ in range(generator.randint(1, 3)):
            content[generator.randrange(len(content))] = generator.randrange(256)
        with zipfile.ZipFile(tmp_path / 'damaged.pt', 'w') as archive:
            for name, value in entries.items():
                archive.writestr(name, content if name.endswith('data.pkl') else value)
        with suppress(ValueError):
            read_state_dict(tmp_path / 'damaged.pt')
            read += 1
    assert 0 < read < 1000


def hub(monkeypatch, tmp_path, files):
    """A hub that has these files of one repository in its cache; the names asked for so far."""
    asked = []

    def download(repo_id, filename, **kwargs):
        asked.append(filename)
        if repo_id != 'someone/model' or filename not in files:
            raise OSError(f'404: {repo_id} {filename}')
        path = tmp_path / 'cache' / filename
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(files[filename])
        return str(path)

    monkeypatch.setattr(open_clip.pretrained, 'hf_hub_download', download)
    monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', lambda url: None)
    return asked


def folder_config(model=TINY, **text):
    model = deepcopy(model)
    model['text_cfg'].update(text)
    return json.dumps({'model_cfg': model, 'preprocess_cfg': {'mean': [0.5] * 3}}).encode()


def test_a_repository_is_downloaded(files, monkeypatch, tmp_path, clip):
    asked = hub(
        monkeypatch,
        tmp_path,
        {
            'open_clip_config.json': folder_config(),
            'open_clip_model.safetensors': (files / 'plain.safetensors').read_bytes(),
        },
    )
    loaded = load_clip('hf-hub:someone/model', download=True)
    assert asked[-1] == 'open_clip_model.safetensors'
    assert weights_digest(loaded.model) == weights_digest(clip)
    assert DenseEncoder(loaded).mean == (0.5, 0.5, 0.5)
    assert DenseEncoder(loaded).std == DenseEncoder(load_clip(clip)).std
    with pytest.raises(FileNotFoundError, match='open_clip_config'):
        load_clip('hf-hub:someone/else', download=True)


@pytest.mark.parametrize(
    'config, error, message',
    [
        (
            {**TINY, 'vision_cfg': {**TINY['vision_cfg'], 'pool_type': 'none'}},
            ValueError,
            'hf-hub:someone/model .* pools by none',
        ),
        (
            {**TINY, 'vision_cfg': {'timm_model_name': 'hf-hub:someone/tower'}},
            ValueError,
            "is timm's hf-hub:someone/tower",
        ),
        ({**TINY, 'vision_cfg': {'depth': 3}}, ValueError, "can't be built"),
        ({**TINY, 'text_cfg': {'hf_model_name': 'a/b'}}, ImportError, 'needs transformers'),
        ({**TINY, 'text_cfg': 3}, ValueError, 'text_cfg of .* must be a dict'),
    ],
)
def test_of_a_repository_that_is_refused_only_the_architecture_is_fetched(
    monkeypatch, tmp_path, config, error, message
):
    monkeypatch.setattr(open_clip.hf_model, 'transformers', None)
    content = json.dumps({'model_cfg': config}).encode()
    asked = hub(monkeypatch, tmp_path, {'open_clip_config.json': content})
    with pytest.raises(error, match=message):
        load_clip('hf-hub:someone/model', download=True)
    assert set(asked) == {'open_clip_config.json'}


@pytest.mark.parametrize(
    'text, message',
    [
        ({'tokenizer_kwargs': {'trust_remote_code': True}}, 'sets trust_remote_code'),
        ({'tokenizer_kwargs': {'trust_remote_code': 0}}, 'sets trust_remote_code'),
        ({'trust_remote_code': True}, 'sets trust_remote_code'),
        ({'tokenizer_kwargs': {'code_revision': 'main'}}, 'has unknown options: code_revision'),
        ({'tokenizer_kwargs': {'tokenizer_file': '/etc/x'}}, 'has unknown options: tokenizer_file'),
        ({'auto_map': {}}, 'has unknown options: auto_map'),
    ],
)
@pytest.mark.parametrize('kind', ['local-dir', 'hf-hub', 'dict'])
def test_an_architecture_that_asks_to_run_code_is_refused(
    files, monkeypatch, tmp_path, text, message, kind
):
    config = folder_config(hf_tokenizer_name='anything', **text)
    (tmp_path / 'open_clip_config.json').write_bytes(config)
    hub(monkeypatch, tmp_path, {'open_clip_config.json': config})
    arguments = {
        'local-dir': {'model': f'local-dir:{tmp_path}'},
        'hf-hub': {'model': 'hf-hub:someone/model'},
        'dict': {
            'model': json.loads(config)['model_cfg'],
            'checkpoint': files / 'plain.safetensors',
        },
    }
    with pytest.raises(ValueError, match=message):
        load_clip(**arguments[kind], download=True)


class HubText(nn.Module):
    """In the place of a text tower of transformers."""

    def __init__(self, config, add_pooling_layer=True):
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(last_hidden_state=self.embeddings(input_ids))


class HubTokenizer:
    """In the place of a tokenizer of transformers; remembers how it was asked for."""

    asked = {}

    @classmethod
    def from_pretrained(cls, name, **kwargs):
        cls.asked = {'name': name, **kwargs}
        return cls()

    def __call__(self, texts, max_length, **kwargs):
        rows = [[len(word) for word in text.split()][:max_length] for text in texts]
        padded = [row + [1] * (max_length - len(row)) for row in rows]
        return SimpleNamespace(input_ids=torch.tensor(padded))


def no_download(*args, **kwargs):
    raise AssertionError('weights of the text tower alone were asked for')


@pytest.fixture
def transformers(monkeypatch):
    """A stand-in for what open_clip takes from transformers."""
    config = SimpleNamespace(
        model_type='roberta',
        vocab_size=50,
        hidden_size=16,
        max_position_embeddings=514,
        pad_token_id=1,
    )
    module = ModuleType('transformers')
    module.AutoTokenizer = HubTokenizer
    module.AutoConfig = SimpleNamespace(from_pretrained=lambda name: config)
    module.AutoModel = SimpleNamespace(from_pretrained=no_download, from_config=HubText)
    monkeypatch.setitem(sys.modules, 'transformers', module)
    monkeypatch.setattr(open_clip.hf_model, 'transformers', module)
    for name in ('AutoConfig', 'AutoModel'):
        monkeypatch.setattr(open_clip.hf_model, name, getattr(module, name), raising=False)
    return module


@pytest.fixture
def roberta(transformers, tmp_path):
    """Weights of ``roberta-ViT-B-32``, in small, as an old transformers named them."""
    small = open_clip.get_model_config('roberta-ViT-B-32')
    small['vision_cfg'].update(layers=2, width=64)
    small['text_cfg']['hf_model_pretrained'] = False
    state = open_clip.CustomTextCLIP(**deepcopy(small)).state_dict()
    state['text.transformer.embeddings.position_ids'] = torch.arange(514)[None]
    save_file(state, tmp_path / 'open_clip_model.safetensors')
    (tmp_path / 'open_clip_config.json').write_text(json.dumps({'model_cfg': small}))
    (tmp_path / 'tokenizer_config.json').write_text('{}')
    return small


@pytest.mark.parametrize('source', ['tag', 'file', 'dict', 'folder', 'hub'])
def test_a_text_tower_of_hugging_face_loads_from_every_source(
    roberta, monkeypatch, tmp_path, source
):
    path = tmp_path / 'open_clip_model.safetensors'
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, 'roberta-ViT-B-32', roberta)
    monkeypatch.setattr(loading, 'download_pretrained', lambda cfg: str(path))
    hub(monkeypatch, tmp_path, {file.name: file.read_bytes() for file in tmp_path.iterdir()})
    arguments = {
        'tag': {'model': 'roberta-ViT-B-32', 'pretrained': 'laion2b_s12b_b32k'},
        'file': {'model': 'roberta-ViT-B-32', 'checkpoint': path},
        'dict': {'model': roberta, 'checkpoint': path},
        'folder': {'model': f'local-dir:{tmp_path}'},
        'hub': {'model': 'hf-hub:someone/model'},
    }
    loaded = load_clip(**arguments[source], download=True)
    assert activation(loaded) is QuickGELU
    assert HubTokenizer.asked['trust_remote_code'] is False
    asked = 'roberta-base' if source in ('tag', 'hub') else str(tmp_path)
    assert HubTokenizer.asked['name'] == asked
    encoder = DenseEncoder(loaded)
    text = TextEncoder(encoder, ('a {}',), cache_dir=False)
    assert text.context_length == 77
    dog, house = text(Vocabulary.load(['dog', 'house']))
    expected = loaded.model.encode_text(loaded.tokenizer(['a dog']), normalize=True)[0]
    torch.testing.assert_close(dog, expected)
    assert (dog - house).abs().max() > 1e-3


@pytest.mark.parametrize('weights', ['tag', 'file'])
def test_a_text_tower_of_hugging_face_needs_transformers(monkeypatch, tmp_path, weights):
    monkeypatch.setattr(open_clip.hf_model, 'transformers', None)
    monkeypatch.setattr(loading, 'download_pretrained', no_download)
    arguments = {
        'tag': {'pretrained': 'laion2b_s12b_b32k'},
        'file': {'checkpoint': tmp_path / 'none.pt'},
    }[weights]
    with pytest.raises(ImportError, match=r'of roberta-ViT-B-32.* needs transformers: pip'):
        load_clip('roberta-ViT-B-32', **arguments)


def test_another_vocabulary_needs_its_tokenizer(state_dict, tmp_path):
    other = deepcopy(TINY)
    other['text_cfg']['vocab_size'] = 60_000
    clip = open_clip.CLIP(**deepcopy(other))
    save_file(clip.state_dict(), tmp_path / 'other.safetensors')
    message = 'a vocabulary of 60000 tokens, not the 49408'
    with pytest.raises(ValueError, match=message):
        load_clip(clip)
    with pytest.raises(ValueError, match=message):
        CLIPEncoder(model=clip, text_cache=False)
    with pytest.raises(ValueError, match=message):
        load_clip(other, checkpoint=tmp_path / 'other.safetensors')
    own = open_clip.SimpleTokenizer(context_length=77)
    assert load_clip(clip, tokenizer=own).tokenizer is own
    assert CLIPEncoder(model=clip, tokenizer=own, text_cache=False).tokenizer is own


def test_a_built_model_stays_as_it_is(clip):
    mine = deepcopy(clip).train().requires_grad_(True)
    narrow = DenseEncoder(load_clip(mine), dtype='bfloat16')
    assert narrow.dtype == torch.bfloat16
    assert mine.visual.proj.dtype == torch.float32
    assert mine.training
    assert mine.visual.proj.requires_grad


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('swin_base_patch4_window7_224', r"\(timm's SwinTransformer\) is unsupported; these kinds"),
        ('vit_relpos_medium_patch16_cls_224', r"\(timm's VisionTransformerRelPos\) is unsupported"),
    ],
)
def test_towers_are_refused_before_anything_is_fetched(model, message, tmp_path):
    for weights in ({'pretrained': 'any'}, {'checkpoint': tmp_path / 'none.pt'}):
        with pytest.raises(ValueError, match=f'the image tower of {model}.* {message}'):
            load_clip(model, **weights)


@pytest.mark.parametrize('model', ['coca_base', 'coca_roberta-ViT-B-32', 'coca_ViT-B-32'])
def test_cocas_with_a_class_token_are_refused_too(model, tmp_path):
    with pytest.raises(ValueError, match=f'{model} is a CoCa'):
        load_clip(model, checkpoint=tmp_path / 'none.pt', quick_gelu=False)


@pytest.mark.parametrize('name', ['plain.safetensors', 'state.pt', 'openai.pt'])
@pytest.mark.parametrize('share', [0.0, 0.5, 0.999])
def test_part_of_a_file_is_refused(files, tmp_path, name, share):
    content = (files / name).read_bytes()
    part = tmp_path / name
    part.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=name):
        read_state_dict(part)


def test_files_without_weights_are_refused(tmp_path):
    torch.save({'note': 'hello'}, tmp_path / 'note.pt')
    with pytest.raises(ValueError, match='no state dict'):
        read_state_dict(tmp_path / 'note.pt')
    torch.save({0: torch.ones(1), 'a': torch.ones(1)}, tmp_path / 'numbers.pt')
    with pytest.raises(ValueError, match=r'numbers\.pt contains no state dict'):
        read_state_dict(tmp_path / 'numbers.pt')
    np.savez(tmp_path / 'words.npz', a=np.array(['x']))
    with (tmp_path / 'array.npz').open('wb') as file:
        np.save(file, np.ones(3))
    # Texts, as a server sends them instead of a file; the last has an old pickle's first byte.
    for name, content in {
        'missing.pt': b'Repository not found',
        'text.pt': b'hello world',
        'start.pt': b'\x80\x02Repository not found',
    }.items():
        (tmp_path / name).write_bytes(content)
    for name in ('words.npz', 'array.npz', 'missing.pt', 'text.pt', 'start.pt'):
        with pytest.raises(ValueError, match=f'{name} is (not a complete checkpoint|damaged)'):
            read_state_dict(tmp_path / name)
    (tmp_path / 'missing.pt').unlink()
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*missing\.pt'):
        read_state_dict(tmp_path / 'missing.pt')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ({'heads': 3}, r"state\.pt\) can't be built: embed_dim must be divisible"),
        ({'heads': 0}, r"state\.pt\) can't be built: "),
        ({'pool_type': 'middle'}, r"state\.pt\) can't be built: open_clip does not know a value"),
        ({'tokenizer_kwargs': ['clean']}, 'tokenizer_kwargs of CLIP must be a dict'),
    ],
)
def test_text_towers_that_can_not_be_built_are_refused(files, text, message):
    config = {**TINY, 'text_cfg': {**TINY['text_cfg'], **text}}
    with pytest.raises(ValueError, match=message):
        load_clip(config, checkpoint=files / 'state.pt')


@pytest.mark.parametrize(
    ('vision', 'message'),
    [
        ({'pool_type': 'none'}, r'VisionTransformer\) pools by none'),
        ({'attentional_pool': True}, "pools by CoCa's attention"),
        ({'qk_norm': True}, 'custom attention blocks'),
    ],
)
def test_unsupported_towers_are_refused(vision, message):
    config = deepcopy(TINY)
    config['vision_cfg'].update(vision)
    with pytest.raises(ValueError, match=f'the image tower of CLIP .*{message}'):
        load_clip(open_clip.CLIP(**config))


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'model': 'ViT-B-16'}, ValueError, 'set pretrained .* or checkpoint'),
        (
            {'model': 'ViT-B-16', 'pretrained': 'a', 'checkpoint': 'b'},
            ValueError,
            'both pretrained=.* set one of them to None',
        ),
        ({'model': {'embed_dim': 64}, 'checkpoint': 'b'}, ValueError, 'lacks text_cfg, vision_cfg'),
        ({'model': 'ViT-Z-99', 'pretrained': 'openai'}, ValueError, "no architecture 'ViT-Z-99'"),
        ({'model': TINY, 'pretrained': 'openai'}, ValueError, 'needs the name of an architecture'),
        ({'model': 3}, TypeError, 'not int'),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        load_clip(**arguments)


def test_a_built_model_takes_no_weights(clip):
    with pytest.raises(ValueError, match='already built'):
        load_clip(clip, pretrained='openai')
