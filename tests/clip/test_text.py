"""Text features: cut prompts, synonyms, and the cache."""

import multiprocessing

import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from mmtagclip.clip import DenseEncoder, TextEncoder, Vocabulary, encode_text, load_clip
from mmtagclip.clip import text as text_module
from tests import twins
from tests.conftest import TINY

TEMPLATES = ('a photo of a {}.', 'there is the {} in the scene, seen from very far away.')
NAMES = Vocabulary.load(['dog', 'traffic light', ('person', 'people', 'human being')])


def test_cut_prompts_equal_padded_ones(encoder):
    got = TextEncoder(encoder, TEMPLATES, cache_dir=False)(NAMES)
    for row, name in zip(got[:2], NAMES.names[:2], strict=True):
        plain = twins.text_feature(encoder.clip, encoder.tokenizer, name, TEMPLATES)
        torch.testing.assert_close(row, plain, atol=1e-6, rtol=0)


def test_cut_prompts_are_cut(encoder, monkeypatch):
    lengths = []
    transformer = encoder.clip.transformer
    forward = transformer.forward
    monkeypatch.setattr(
        transformer,
        'forward',
        lambda x, attn_mask: lengths.append(x.shape[1]) or forward(x, attn_mask),
    )
    encode_text(encoder.clip, encoder.tokenizer(['dog', 'a very long name']))
    assert lengths == [6]


def test_a_text_tower_that_is_not_causal_runs_whole():
    torch.manual_seed(0)
    config = {**TINY, 'text_cfg': {**TINY['text_cfg'], 'no_causal_mask': True, 'pool_type': 'last'}}
    clip = open_clip.CustomTextCLIP(**config).eval()
    tokens = open_clip.SimpleTokenizer(context_length=77)(['dog'])
    assert torch.equal(encode_text(clip, tokens), clip.encode_text(tokens))


def test_synonyms_are_averaged(encoder):
    encode = TextEncoder(encoder, ('a {}.',), cache_dir=False)
    words = [encode(Vocabulary.load([word]))[0] for word in NAMES.phrases[2]]
    expected = normalize(torch.stack(words).mean(0), dim=0)
    torch.testing.assert_close(encode(NAMES)[2], expected, atol=1e-6, rtol=0)


def test_a_class_does_not_depend_on_its_neighbours(encoder):
    encode = TextEncoder(encoder, TEMPLATES, cache_dir=False)
    assert torch.equal(encode(NAMES)[1], encode(Vocabulary.load(['traffic light']))[0])


def test_too_long_a_prompt_names_the_class(encoder):
    encode = TextEncoder(encoder, TEMPLATES, cache_dir=False)
    with pytest.raises(ValueError, match=r"class 'dog dog .* more than 77 tokens"):
        encode(Vocabulary.load(['cat', 'dog ' * 80]))
    # The longest that fits: 75 words and the two end tokens.
    exact = TextEncoder(encoder, ('{}',), cache_dir=False)
    assert torch.isfinite(exact(Vocabulary.load(['dog ' * 74 + 'dog']))).all()
    with pytest.raises(ValueError, match='more than 77 tokens'):
        exact(Vocabulary.load(['dog ' * 75 + 'dog']))


def test_damaged_weights_are_an_error(clip):
    from copy import deepcopy

    broken = deepcopy(clip)
    broken.ln_final.weight.data[0] = float('nan')
    encode = TextEncoder(DenseEncoder(load_clip(broken)), ('{}',), cache_dir=False)
    with pytest.raises(ValueError, match="class 'dog' is not finite"):
        encode(NAMES)


@pytest.fixture
def counted(monkeypatch):
    """Names of the classes that were really encoded."""
    encoded = []
    original = TextEncoder.encode_class
    monkeypatch.setattr(
        TextEncoder,
        'encode_class',
        lambda self, phrases: encoded.append(phrases[0]) or original(self, phrases),
    )
    return encoded


def test_cache_gives_the_same_bits_and_encodes_only_what_is_new(encoder, tmp_path, counted):
    cold = TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES)
    assert counted == list(NAMES.names)
    assert torch.equal(TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES), cold)
    assert len(counted) == 3
    more = TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES + Vocabulary.load(['zebra']))
    assert counted[3:] == ['zebra']
    assert torch.equal(more[:3], cold)


def test_cache_key_is_the_content(encoder, clip, tmp_path, counted, monkeypatch):
    from copy import deepcopy

    TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES)
    changed = deepcopy(clip)
    changed.text_projection.data[0, 0] += 1e-3
    TextEncoder(DenseEncoder(load_clip(changed)), TEMPLATES, tmp_path)(NAMES)
    assert len(counted) == 6
    TextEncoder(encoder, TEMPLATES[:1], tmp_path)(NAMES)
    assert len(counted) == 9
    monkeypatch.setattr(text_module, '__version__', '999')
    TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES)
    assert len(counted) == 12
    visual = deepcopy(clip)
    visual.visual.proj.data += 1  # the image tower has no part in text features
    TextEncoder(DenseEncoder(load_clip(visual)), TEMPLATES, tmp_path)(NAMES)
    assert len(counted) == 12


@pytest.mark.parametrize('damage', ['empty', 'half', 'flipped', 'other'])
def test_a_damaged_file_is_made_again(encoder, tmp_path, counted, damage):
    cold = TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES)
    files = sorted(tmp_path.rglob('*.safetensors'))
    assert len(files) == 3
    content = bytearray(files[0].read_bytes())
    if damage == 'flipped':
        content[-5] ^= 1
    files[0].write_bytes(
        {
            'empty': b'',
            'half': content[: len(content) // 2],
            'flipped': content,
            'other': files[1].read_bytes(),
        }[damage]
    )
    assert torch.equal(TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES), cold)
    assert len(counted) == 4
    assert torch.equal(TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES), cold)
    assert len(counted) == 4


def test_a_cache_that_can_not_be_written_is_done_without(encoder, tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('in the way')
    with pytest.warns(UserWarning, match='text features are not cached'):
        got = TextEncoder(encoder, TEMPLATES, blocked / 'cache')(NAMES)
    assert torch.equal(got, TextEncoder(encoder, TEMPLATES, cache_dir=False)(NAMES))


def test_a_writer_that_dies_leaves_no_half_file(encoder, tmp_path, monkeypatch):
    def dies(tensors, path, metadata):
        with open(path, 'wb') as file:
            file.write(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(text_module, 'save_file', dies)
    with pytest.raises(KeyboardInterrupt):
        TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES)
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def _encode(config, checkpoint, cache, barrier, results):
    torch.set_num_threads(1)
    encoder = DenseEncoder(load_clip(config, checkpoint=checkpoint))
    barrier.wait()
    results.put(TextEncoder(encoder, TEMPLATES, cache)(NAMES).numpy())


def test_two_processes_writing_at_once(encoder, checkpoint, tmp_path):
    context = multiprocessing.get_context('spawn')
    barrier, results = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=_encode, args=(TINY, checkpoint, tmp_path, barrier, results))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    expected = TextEncoder(encoder, TEMPLATES, cache_dir=False)(NAMES)
    for _ in workers:
        assert torch.equal(torch.from_numpy(results.get(timeout=300)), expected)
    for worker in workers:
        worker.join()
    assert len(list(tmp_path.rglob('*.safetensors'))) == 3
    assert not list(tmp_path.rglob('*.part'))
