"""Tokenizers from files, and what is said where there is none."""

import json

import open_clip
import pytest
import torch
from open_clip import SimpleTokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mmtagclip.clip import load_clip, loading
from mmtagclip.clip import tokenizer as module
from mmtagclip.clip.tokenizer import FileTokenizer, find_tokenizer
from tests.conftest import TINY

WORDS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', 'a', 'photo', 'of', 'dog', 'the', 'Dog', '!')
SETTINGS = {'pad_token': {'content': '[PAD]'}, 'sep_token': '[SEP]'}


@pytest.fixture
def folder(tmp_path):
    """A tokenizer of whole words with BERT's ends."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token='[UNK]'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)]
    )
    tokenizer.save(str(tmp_path / 'tokenizer.json'))
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(SETTINGS))
    return tmp_path


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, [[2, 4, 9, 10, 3, 0, 0, 0], [2, 8, 7, 5, 6, 4, 7, 3]]),
        ({'clean': 'canonicalize'}, [[2, 4, 7, 3, 0, 0, 0, 0], [2, 8, 7, 5, 6, 4, 7, 3]]),
        ({'clean': 'lower'}, [[2, 4, 7, 10, 3, 0, 0, 0], [2, 8, 7, 5, 6, 4, 7, 3]]),
        ({'strip_sep_token': True}, [[2, 4, 9, 10, 0, 0, 0, 0], [2, 8, 7, 5, 6, 4, 7, 0]]),
    ],
)
def test_texts_are_cleaned_cut_and_padded(folder, options, expected):
    tokenizer = FileTokenizer(folder, 8, **options)
    texts = ['a  Dog !', 'the dog photo of a dog the dog']
    assert tokenizer(texts).tolist() == expected
    shorter = tokenizer(texts[0], context_length=4)
    assert shorter.shape == (1, 4)
    assert tokenizer([]).shape == (0, 8)
    assert tokenizer(texts).dtype == torch.long


def test_padding_on_the_left(folder):
    settings = {**SETTINGS, 'padding_side': 'left', 'truncation_side': 'left'}
    (folder / 'tokenizer_config.json').write_text(json.dumps(settings))
    assert FileTokenizer(folder, 5)(['a', 'a photo of the dog']).tolist() == [
        [0, 0, 2, 4, 3],
        [2, 6, 8, 7, 3],
    ]


def test_files_that_are_missing_or_damaged(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no tokenizer at .*none'):
        FileTokenizer(tmp_path / 'none')
    (folder / 'tokenizer_config.json').write_text('{}')
    with pytest.raises(ValueError, match=r'no padding token of .* put its tokenizer_config\.json'):
        FileTokenizer(folder)
    (folder / 'tokenizer_config.json').write_text('{')
    with pytest.raises(ValueError, match=r'tokenizer_config\.json is damaged'):
        FileTokenizer(folder)
    (folder / 'tokenizer.json').write_text('{}')
    with pytest.raises(ValueError, match='is not a tokenizer of Hugging Face'):
        FileTokenizer(folder)


@pytest.fixture
def siglip(tmp_path):
    """A small model whose text tower has a tokenizer of Hugging Face, and its weights."""
    import open_clip
    from safetensors.torch import save_file

    config = json.loads(json.dumps(TINY))
    config['vision_cfg'].update(layers=1, width=64, image_size=32)
    config['text_cfg'].update(vocab_size=16, context_length=8, layers=1)
    config['text_cfg'].update(no_causal_mask=True, pool_type='last')
    config['custom_text'] = True
    built = {key: value for key, value in config.items() if key != 'custom_text'}
    model = open_clip.CustomTextCLIP(**json.loads(json.dumps(built)))
    save_file(model.state_dict(), tmp_path / 'weights.safetensors')
    config['text_cfg'].update(
        hf_tokenizer_name='someone/words', tokenizer_kwargs={'clean': 'canonicalize'}
    )
    return config


@pytest.fixture
def offline(monkeypatch):
    """The hub: nothing is on this machine, and every download is noted and fails."""
    import huggingface_hub

    asked = []

    def download(repository, name):
        asked.append(name)
        raise OSError('no network')

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
    monkeypatch.setattr(huggingface_hub, 'get_hf_file_metadata', lambda url: None)
    monkeypatch.setattr(huggingface_hub, 'try_to_load_from_cache', lambda *args: None)
    return asked


def test_a_tokenizer_is_found_beside_the_weights(folder, siglip, offline):
    path = folder / 'weights.safetensors'
    loaded = load_clip(siglip, checkpoint=path)
    assert loaded.tokenizer(['a Dog!']).tolist() == [[2, 4, 7, 3, 0, 0, 0, 0]]
    (folder / 'there').mkdir()
    for name in ('tokenizer.json', 'tokenizer_config.json'):
        (folder / name).rename(folder / 'there' / name)
    with pytest.raises(
        FileNotFoundError,
        match=r'the tokenizer of CLIP .* put tokenizer\.json and tokenizer_config\.json of '
        r'https://huggingface\.co/someone/words beside the weights, or pass',
    ):
        load_clip(siglip, checkpoint=path)
    assert not offline
    loaded = load_clip(siglip, checkpoint=path, tokenizer=folder / 'there')
    assert loaded.tokenizer(['a Dog!']).tolist() == [[2, 4, 7, 3, 0, 0, 0, 0]]


def test_only_what_may_be_downloaded_is(folder, offline):
    assert find_tokenizer('someone/words', (None, folder), download=False)
    assert find_tokenizer('someone/words', (None,), download=False) is None
    assert not offline
    said = r'Failed to download the tokenizer someone/words \(no network\): .* as tokenizer=$'
    with pytest.raises(FileNotFoundError, match=said):
        find_tokenizer('someone/words', (), download=True)
    assert offline == ['tokenizer_config.json']


def test_what_a_library_does_not_find_is_called_what_it_is(folder, siglip, monkeypatch):
    def not_found(*args, **options):
        raise OSError('not in the cache')

    monkeypatch.setattr(loading, 'HFTokenizer', not_found)
    siglip['text_cfg']['tokenizer_mode'] = 'clip'
    said = r'^the files of .*, the tokenizer of CLIP .*, are not .* or give its folder as'
    with pytest.raises(FileNotFoundError, match=said):
        load_clip(siglip, checkpoint=folder / 'weights.safetensors')
    monkeypatch.setattr(loading.hf_model, 'transformers', object())
    monkeypatch.setattr(loading.open_clip, 'CustomTextCLIP', not_found)
    siglip['text_cfg']['hf_model_name'] = 'someone/tower'
    said = r'^the settings of someone/tower, the text tower of CLIP .*, are not .* hf download some'
    with pytest.raises(FileNotFoundError, match=said):
        load_clip(siglip, checkpoint=folder / 'weights.safetensors')


def test_the_library_may_be_missing(folder, siglip, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'tokenizers', None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[text\]'"):
        FileTokenizer(folder)
    assert module.FILE == 'tokenizer.json'


@pytest.mark.parametrize(
    'options', [{'context_length': 7}, {'context_length': 9, 'clean': 'whitespace'}]
)
def test_clips_own_is_open_clips(options):
    ours = loading._clip_tokenizer(json.dumps(options))
    texts = ['A Dog', 'photos of very many &amp; unusual animals', '']
    assert torch.equal(ours(texts), SimpleTokenizer(**options)(texts))
    assert ours.context_length == options['context_length']
    assert open_clip.tokenize(texts).shape == (3, 77)  # open_clip's default stays as it is
