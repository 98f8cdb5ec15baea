"""SAM 3's files: where it comes from, what is refused, text features on disk."""

import json
from copy import deepcopy
from unittest import mock

import open_clip
import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file, save_file

from mmtagclip.clip.downloads import needed_weights, settle_downloads
from mmtagclip.models import Sam3
from mmtagclip.models.segmentors import sam3 as sam3_module
from mmtagclip.registry import MODELS
from tests.golden.sam3 import TINY_SAM3

WORDS = [('dog', 'dog'), ('traffic light', 'traffic light')]


@pytest.fixture(scope='module')
def weights(sam3_config):
    return load_file(sam3_config['checkpoint'])


@pytest.fixture(scope='module')
def sam3(sam3_config):
    return MODELS.build(sam3_config)


def folder_of(path, settings, weights, files=1):
    """A folder as the hub has it, its weights in one file or several."""
    path.mkdir(parents=True, exist_ok=True)
    (path / 'config.json').write_text(json.dumps(settings))
    names = sorted(weights)
    for number in range(files):
        part = {name: weights[name] for name in names[number::files]}
        save_file(part, path / f'model{"" if files == 1 else f"-{number}-of-{files}"}.safetensors')
    return f'local-dir:{path}'


def same(one, other):
    state = other.model.state_dict()
    return all(torch.equal(value, state[key]) for key, value in one.model.state_dict().items())


# Where it comes from


def test_a_folder_in_the_published_layout(sam3, weights, tmp_path):
    """The published file holds a tracker for videos too, and other names."""
    published = {f'detector_model.{name}': value for name, value in weights.items()}
    published['tracker_model.memory'] = torch.zeros(2)
    video = {'model_type': 'sam3_video', 'detector_config': {'model_type': 'sam3', **TINY_SAM3}}
    assert same(sam3, Sam3(folder_of(tmp_path / 'video', video, published), text_cache=False))


def test_a_folder_of_several_files_as_transformers_saves_it(sam3, weights, tmp_path):
    sam3.model.config.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / 'config.json').read_text())
    place = folder_of(tmp_path, settings, weights, files=2)
    assert same(sam3, Sam3(place, text_cache=False))


def test_a_file_of_torch(sam3, weights, tmp_path):
    torch.save(weights, tmp_path / 'sam3.pt')
    assert same(sam3, Sam3(TINY_SAM3, tmp_path / 'sam3.pt', text_cache=False))


def test_a_repository_in_the_hub_s_cache(sam3, weights, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    repository = tmp_path / 'models--facebook--sam3'
    folder_of(repository / 'snapshots' / ('a' * 40), {'model_type': 'sam3', **TINY_SAM3}, weights)
    (repository / 'refs').mkdir()
    (repository / 'refs' / 'main').write_text('a' * 40)
    settle_downloads({'sam3': {'model': 'hf-hub:facebook/sam3'}}, False)
    assert same(sam3, Sam3('hf-hub:facebook/sam3', text_cache=False))


def test_memory_of_phrases_is_bounded(sam3, monkeypatch):
    monkeypatch.setattr(sam3_module, 'KEPT', 1)
    words = [('a', 'brook'), ('b', 'pond')]
    assert [one.text for one in sam3.phrases(words)] == ['brook', 'pond']
    assert list(sam3._known) == ['pond']
    assert sam3.phrases(words[:1])[0].text == 'brook'


def test_it_is_frozen_and_in_evaluation_mode(sam3):
    assert not any(parameter.requires_grad for parameter in sam3.parameters())
    assert not any(part.training for part in sam3.modules() if part is not sam3)
    assert (sam3.side, sam3.patch_size, sam3.mean, sam3.std) == (224, 14, (0.5,) * 3, (0.5,) * 3)


def test_narrow_weights(sam3, sam3_config):
    """Positions and the text tower stay wide."""
    narrow = MODELS.build({**sam3_config, 'dtype': 'bfloat16'})
    state = narrow.model.state_dict()
    assert state['detr_decoder.query_embed.weight'].dtype == torch.bfloat16
    assert state['text_projection.weight'].dtype == torch.float32
    assert narrow.model.vision_encoder.backbone.layers[1].position_ids.dtype == torch.float32
    image = torch.randn(3, 224, 224, generator=torch.Generator().manual_seed(1))
    prompts = [one.tokens for one in narrow.phrases(WORDS)]
    with torch.no_grad():
        got = narrow.presence(narrow.encode(image), prompts)
        expected = sam3.presence(sam3.encode(image), prompts)
        (answer, _) = narrow.ask(narrow.encode(image), prompts)
    assert answer.masks.dtype == torch.float32
    assert torch.allclose(got, expected, atol=0.1)
    assert not torch.equal(got, expected)


# Refusals


@pytest.mark.parametrize(
    'start, message',
    [
        ('image_encoder.blocks.0.', 'SAM 1 or 2, which take points and boxes, but no words'),
        ('sam_mask_decoder.', 'SAM 1 or 2'),
        ('shared_image_embedding.', 'SAM 1 or 2'),
        ('detector.backbone.', "under the names of Meta's own program"),
        ('visual.', 'the weights of another model'),
    ],
)
def test_weights_of_other_models(start, message, tmp_path):
    save_file({f'{start}weight': torch.zeros(1)}, tmp_path / 'a.safetensors')
    with pytest.raises(ValueError, match=message) as error:
        Sam3(TINY_SAM3, tmp_path / 'a.safetensors')
    assert 'https://huggingface.co/facebook/sam3' in str(error.value)


def test_a_checkpoint_of_sam_2_as_meta_saves_it(tmp_path):
    torch.save({'model': {'memory_attention.weight': torch.zeros(1)}}, tmp_path / 'sam2.pt')
    with pytest.raises(ValueError, match='SAM 1 or 2'):
        Sam3(TINY_SAM3, tmp_path / 'sam2.pt')


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'model_type': 'sam2'}, "type 'sam2', which takes points and boxes, but no words"),
        ({'model_type': 'sam_hq'}, 'no words'),
        ({'model_type': 'clip'}, "type 'clip': use those of SAM 3"),
        ([], 'type None'),
        ({'model_type': 'sam3', 'vision_config': 3}, 'settings that are no Sam3Config'),
    ],
)
def test_folders_of_other_models(settings, message, weights, tmp_path):
    with pytest.raises(ValueError, match=message):
        Sam3(folder_of(tmp_path, settings, weights))


def test_what_is_missing_or_damaged(weights, sam3_config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'has no config\.json: use those of SAM 3'):
        Sam3(f'local-dir:{tmp_path}')
    (tmp_path / 'config.json').write_text('{')
    with pytest.raises(ValueError, match=r'config\.json is no JSON'):
        Sam3(f'local-dir:{tmp_path}')
    (tmp_path / 'config.json').write_text(json.dumps({'model_type': 'sam3', **TINY_SAM3}))
    with pytest.raises(FileNotFoundError, match=r'has no model\.safetensors'):
        Sam3(f'local-dir:{tmp_path}')
    fewer = {key: value for key, value in weights.items() if key != 'text_projection.bias'}
    save_file(fewer, tmp_path / 'fewer.safetensors')
    with pytest.raises(ValueError, match=r'lacks text_projection.bias \(1 weights\)'):
        Sam3(TINY_SAM3, tmp_path / 'fewer.safetensors')
    save_file({**weights, 'extra': torch.zeros(1)}, tmp_path / 'more.safetensors')
    with pytest.raises(ValueError, match='has the unknown extra'):
        Sam3(TINY_SAM3, tmp_path / 'more.safetensors')
    other = deepcopy(TINY_SAM3)
    other['text_config']['hidden_size'] = 16
    with pytest.raises(ValueError, match='size'):
        Sam3(other, sam3_config['checkpoint'])
    with pytest.raises(ValueError, match='the weights of SAM 3 are not given'):
        Sam3(TINY_SAM3)
    with pytest.raises(FileNotFoundError, match='no checkpoint at'):
        Sam3(TINY_SAM3, tmp_path / 'none.pt')


@pytest.mark.parametrize(
    'options, error, message',
    [
        ({'model': 'facebook/sam3'}, ValueError, "name a repository as 'hf-hub:facebook/sam3'"),
        ({'model': 3}, TypeError, 'not int'),
        ({'dtype': 'int8'}, ValueError, 'dtype must be one of'),
        ({'max_phrases': 0}, ValueError, 'max_phrases must be at least 1, not 0'),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        Sam3(**options)


def test_a_built_model_has_its_weights(sam3):
    with pytest.raises(ValueError, match='leave out checkpoint'):
        Sam3(sam3.model, 'a.pt')
    assert Sam3(sam3.model).name == 'Sam3Model'


# The gate


def test_nothing_is_downloaded_without_asking(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, 'HF_HUB_CACHE', str(tmp_path))
    for refuse in (
        lambda: Sam3(),
        lambda: settle_downloads({'sam3': {'model': 'hf-hub:facebook/sam3'}}, False),
    ):
        with pytest.raises(FileNotFoundError) as error:
            refuse()
        assert str(error.value) == (
            'the weights of hf-hub:facebook/sam3 are not on this machine, and nothing is '
            'downloaded without asking: allow it with --download (in Python and in configs '
            'download=True), or name the folder of its files as local-dir:PATH; the hub asks you '
            "to accept Meta's SAM License at https://huggingface.co/facebook/sam3 and to log in "
            "with 'hf auth login'"
        )


def test_the_hub_s_refusal_names_the_licence(monkeypatch):
    def refuse(*args, **kwargs):
        raise GatedRepoError('gated', response=mock.MagicMock())

    monkeypatch.setattr('huggingface_hub.snapshot_download', refuse)
    with pytest.raises(FileNotFoundError) as error:
        Sam3(download=True)
    assert str(error.value) == (
        'Failed to download hf-hub:facebook/sam3 (the hub refuses facebook/sam3 to you): try '
        'again with a connection, or name the folder of its files as local-dir:PATH; the hub asks '
        "you to accept Meta's SAM License at https://huggingface.co/facebook/sam3 and to log in "
        "with 'hf auth login'"
    )


def test_a_file_makes_the_repository_superfluous():
    part = {'model': 'hf-hub:facebook/sam3', 'download': False}
    assert list(needed_weights({'sam3': part})) == ['hf-hub:facebook/sam3']
    assert not needed_weights({'sam3': {**part, 'checkpoint': 'model.safetensors'}})


@pytest.mark.parametrize('found', ['4.57.1', None])
def test_transformers_is_needed_and_its_version_5(found, monkeypatch):
    if found is None:
        monkeypatch.setattr('mmtagclip.extras.find_spec', lambda name: None)
        message = r"SAM 3 needs transformers: pip install -e '.\[sam\]'"
    else:
        monkeypatch.setattr('mmtagclip.models.segmentors.sam3_files.version', lambda name: found)
        message = 'SAM 3 needs transformers>=5, but 4.57.1 is installed: pip install'
    with pytest.raises(ImportError, match=message):
        Sam3(TINY_SAM3)


# Texts


def test_phrases_are_encoded_as_the_model_does_with_padding(sam3):
    ids = open_clip.tokenize([text for _, text in WORDS], context_length=32)
    mask = (ids != 0).long()
    with torch.no_grad():
        states = sam3.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        expected = sam3.model.text_projection(states)
    table = sam3.model.text_encoder.get_input_embeddings().weight
    for phrase, row, count, features in zip(
        sam3.phrases(WORDS), ids, mask.sum(1), expected, strict=True
    ):
        assert phrase.tokens.shape == (count, 32)
        assert torch.allclose(phrase.tokens, features[:count], atol=1e-5)
        assert torch.allclose(phrase.embedding, table[row[:count]].mean(0), atol=1e-6)


def test_features_are_cached_on_disk(sam3_config, tmp_path, monkeypatch):
    config = {**sam3_config, 'text_cache': str(tmp_path)}
    first = MODELS.build(config).phrases(WORDS)
    assert len(list(tmp_path.rglob('*.safetensors'))) == 2
    again = MODELS.build(config)
    monkeypatch.setattr(again.model.text_encoder, 'forward', None)  # would fail
    for one, other in zip(first, again.phrases(WORDS), strict=True):
        assert torch.equal(one.tokens, other.tokens)
    # A file with another content is made again; without a disk nothing is written.
    for path in tmp_path.rglob('*.safetensors'):
        save_file({'feature': torch.zeros(3, 32)}, path)
    third = MODELS.build(config)
    assert torch.equal(third.phrases(WORDS)[0].tokens, first[0].tokens)
    third.forget_disk()
    third.phrases([('cat', 'cat')])
    assert len(list(tmp_path.rglob('*.safetensors'))) == 2


def test_other_weights_have_other_features_in_the_cache(sam3_config, weights, tmp_path):
    config = {**sam3_config, 'text_cache': str(tmp_path / 'cache')}
    first = MODELS.build(config).phrases(WORDS)
    changed = {**weights, 'text_projection.bias': weights['text_projection.bias'] + 1}
    save_file(changed, tmp_path / 'other.safetensors')
    other = MODELS.build({**config, 'checkpoint': str(tmp_path / 'other.safetensors')})
    assert torch.allclose(other.phrases(WORDS)[0].tokens, first[0].tokens + 1, atol=1e-5)


def test_features_that_are_not_finite(sam3_config, weights, tmp_path):
    broken = {**weights, 'text_projection.bias': weights['text_projection.bias'] * torch.nan}
    save_file(broken, tmp_path / 'broken.safetensors')
    sam3 = MODELS.build({**sam3_config, 'checkpoint': str(tmp_path / 'broken.safetensors')})
    with pytest.raises(ValueError, match="the text features of 'dog' are not finite"):
        sam3.phrases(WORDS)
