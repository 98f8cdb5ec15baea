"""Text towers of the real transformers, in small; `tools/dev/try_transformers.sh` runs this."""

import json
from copy import deepcopy

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mmtagclip.clip import DenseEncoder, TextEncoder, Vocabulary, load_clip
from tests.conftest import TINY

transformers = pytest.importorskip('transformers')
tokenizers = pytest.importorskip('tokenizers')

WORDS = ['<s>', '<pad>', '</s>', '<unk>', 'a', 'dog', 'house']
BERT = {
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 32,
    'max_position_embeddings': 90,
}
TOWERS = {
    'RobertaConfig': {**BERT, 'type_vocab_size': 1},
    'XLMRobertaConfig': {**BERT, 'type_vocab_size': 1},
    'BertConfig': BERT,
    'M2M100Config': {
        'd_model': 16,
        'encoder_layers': 2,
        'decoder_layers': 1,
        'encoder_attention_heads': 2,
        'decoder_attention_heads': 2,
        'encoder_ffn_dim': 32,
        'decoder_ffn_dim': 32,
        'max_position_embeddings': 90,
    },
    'MT5Config': {'d_model': 16, 'd_kv': 8, 'd_ff': 32, 'num_layers': 2, 'num_heads': 2},
}


@pytest.mark.parametrize('kind', TOWERS)
def test_a_text_tower_of_the_installed_transformers(kind, tmp_path):
    tower = tmp_path / 'tower'
    config = getattr(transformers, kind)(
        vocab_size=len(WORDS), pad_token_id=1, bos_token_id=0, eos_token_id=2, **TOWERS[kind]
    )
    config.save_pretrained(tower)
    words = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token='<unk>')
    )
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single='<s> $A </s>', special_tokens=[('<s>', 0), ('</s>', 2)]
    )
    model = {
        **deepcopy(TINY),
        'custom_text': True,
        'text_cfg': {
            'hf_model_name': str(tower),
            'hf_tokenizer_name': str(tmp_path),
            'hf_proj_type': 'mlp',
            'hf_pooler_type': 'mean_pooler',
            'hf_model_pretrained': False,
        },
    }
    state = open_clip.CustomTextCLIP(**{k: v for k, v in model.items() if k != 'custom_text'})
    # Of each pair that shares its storage, a file holds one.
    save_file(
        {key: value.clone() for key, value in state.state_dict().items()},
        tmp_path / 'open_clip_model.safetensors',
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token='<pad>', unk_token='<unk>', bos_token='<s>'
    ).save_pretrained(tmp_path)
    (tmp_path / 'open_clip_config.json').write_text(json.dumps({'model_cfg': model}))

    loaded = load_clip(f'local-dir:{tmp_path}')
    tokens = loaded.tokenizer(['a  dog'])
    assert tokens[0, :5].tolist() == [0, 4, 5, 2, 1]
    encoder = DenseEncoder(loaded)
    dog, house = TextEncoder(encoder, ('a {}',), cache_dir=False)(Vocabulary.load(['dog', 'house']))
    with torch.no_grad():
        expected = state.eval().encode_text(tokens, normalize=True)[0]
    torch.testing.assert_close(dog, expected)
    assert (dog - house).abs().max() > 1e-3
