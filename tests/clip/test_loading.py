"""Weights in every format, the activation that goes with them, and what is refused."""

import pickle
from copy import deepcopy

import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from torch import nn

from mmtagclip.clip import DenseEncoder, load_clip, read_state_dict, weights_digest
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
    import json

    config = {'model_cfg': TINY, 'preprocess_cfg': {'mean': [0.5] * 3, 'std': [0.25] * 3}}
    (tmp_path / 'open_clip_config.json').write_text(json.dumps(config))
    save_file(state_dict, tmp_path / 'open_clip_model.safetensors')
    loaded = load_clip(f'local-dir:{tmp_path}')
    assert torch.equal(features(loaded), features(load_clip(clip)))
    assert DenseEncoder(loaded).mean == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match='brings its own weights'):
        load_clip(f'local-dir:{tmp_path}', pretrained='openai')
    (tmp_path / 'open_clip_model.safetensors').write_bytes(b'half')
    with pytest.raises(ValueError, match='is not a whole checkpoint file'):
        load_clip(f'local-dir:{tmp_path}')
    (tmp_path / 'open_clip_model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='no weights in'):
        load_clip(f'local-dir:{tmp_path}')
    (tmp_path / 'open_clip_config.json').write_text('{}')
    with pytest.raises(ValueError, match="not in open_clip's layout"):
        load_clip(f'local-dir:{tmp_path}')
    with pytest.raises(FileNotFoundError, match=r'needs .*open_clip_config\.json'):
        load_clip(f'local-dir:{tmp_path}/none')


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
    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        self.training = bool(state)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_torchscript_that_runs_at_load_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(RunsAtLoad()), tmp_path / 'runs.pt')
    with pytest.raises(ValueError, match='code that runs when it is loaded'):
        read_state_dict(tmp_path / 'runs.pt')


def test_a_built_model_stays_as_it_is(clip):
    from copy import deepcopy

    mine = deepcopy(clip).train().requires_grad_(True)
    narrow = DenseEncoder(load_clip(mine), dtype='bfloat16')
    assert narrow.dtype == torch.bfloat16
    assert mine.visual.proj.dtype == torch.float32
    assert mine.training
    assert mine.visual.proj.requires_grad


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        ('ViT-B-16-SigLIP', "is timm's vit_base_patch16_siglip_224"),
        ('convnext_base', "is timm's convnext_base"),
        ('RN50', 'is a ResNet'),
        ('coca_ViT-B-32', 'pools by attention'),
        ('ViT-L-14-CLIPA', 'pools by avg'),
    ],
)
def test_towers_are_refused_before_anything_is_fetched(model, message, tmp_path):
    tag = open_clip.list_pretrained_tags_by_model(model)[0]
    for weights in ({'pretrained': tag}, {'checkpoint': tmp_path / 'none.pt', 'quick_gelu': False}):
        with pytest.raises(ValueError, match=f'the image tower of {model}.* {message}'):
            load_clip(model, **weights)


@pytest.mark.parametrize('model', ['coca_base', 'coca_roberta-ViT-B-32'])
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
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*missing\.pt'):
        read_state_dict(tmp_path / 'missing.pt')


@pytest.mark.parametrize(
    ('vision', 'message'),
    [
        ({'pool_type': 'avg'}, r'VisionTransformer\) pools by avg'),
        ({'attentional_pool': True}, 'pools by an attention pool'),
        ({'qk_norm': True}, 'custom attention blocks'),
        ({'layers': (1, 1, 1, 1)}, r'ModifiedResNet\) is not'),
    ],
)
def test_towers_without_a_class_token_are_refused(vision, message):
    config = deepcopy(TINY)
    config['vision_cfg'].update(vision)
    with pytest.raises(ValueError, match=f'the image tower of CLIP .*{message}'):
        load_clip(open_clip.CLIP(**config))


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'model': 'ViT-B-16'}, ValueError, 'either pretrained .* or checkpoint'),
        (
            {'model': 'ViT-B-16', 'pretrained': 'a', 'checkpoint': 'b'},
            ValueError,
            'both pretrained=.* set the one that is not meant to None',
        ),
        ({'model': {'embed_dim': 64}, 'checkpoint': 'b'}, ValueError, 'needs text_cfg, vision_cfg'),
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
