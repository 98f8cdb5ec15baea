"""Text features: cut prompts, synonyms, and the cache."""

import hashlib
import json
import multiprocessing
from copy import deepcopy

import numpy as np
import open_clip
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch.nn.functional import normalize

from mmtagclip.clip import DenseEncoder, TextEncoder, Vocabulary, encode_text, load_clip
from mmtagclip.clip import text as text_module
from mmtagclip.clip.vocabulary import BUILTIN_DIR
from mmtagclip.files import default_cache_dir
from mmtagclip.registry import MODELS
from tests import twins
from tests.conftest import TINY

TEMPLATES = ('a photo of a {}.', 'there is the {} in the scene, seen from very far away.')
# The built-in lists of names.
LISTS = sorted(
    path.stem
    for path in BUILTIN_DIR.glob('*.txt')
    if not path.stem.startswith('templates') and not path.stem.endswith(('values', 'groups'))
)
NAMES = Vocabulary.load(['dog', 'traffic light', ('person', 'people', 'human being')])


def test_cut_prompts_equal_padded_ones(encoder):
    got = TextEncoder(encoder, TEMPLATES, cache_dir=False)(NAMES)
    for row, name in zip(got[:2], NAMES.names[:2], strict=True):
        plain = twins.text_feature(encoder.clip, encoder.tokenizer, name, TEMPLATES)
        torch.testing.assert_close(row, plain, atol=1e-6, rtol=0)


def test_memory_of_names_is_bounded(encoder, monkeypatch):
    monkeypatch.setattr(text_module, 'KEPT', 3)
    monkeypatch.setattr(text_module, 'KEPT_WORDS', len(encoder.tokenizer.cache) + 1)
    text = TextEncoder(encoder, ['{}'], cache_dir=False)
    first = text(Vocabulary.load(['brook', 'pond', 'dune', 'marsh']))
    assert list(text._known) == [('pond',), ('dune',), ('marsh',)]
    again = text(Vocabulary.load(['marsh', 'brook']))
    assert list(text._known) == [('dune',), ('marsh',), ('brook',)]
    assert torch.equal(again, first[[3, 0]])
    assert len(encoder.tokenizer.cache) == text_module.KEPT_WORDS
    assert '<end_of_text>' in encoder.tokenizer.cache


def test_where_features_are_cached(encoder, tmp_path):
    kept = {
        source: TextEncoder(encoder, TEMPLATES, cache_dir=source).cache_dir
        for source in (None, True, False, str(tmp_path))
    }
    default = default_cache_dir()
    assert kept == {None: default, True: default, False: None, str(tmp_path): tmp_path}


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


@pytest.mark.parametrize('custom', [False, True])
@pytest.mark.parametrize(
    'options, cut',
    [
        ({}, True),
        ({'proj_type': 'none'}, True),
        ({'proj_bias': True}, True),
        ({'pool_type': 'eos', 'eos_id': 49407}, True),
        ({'no_causal_mask': True}, False),
        ({'no_causal_mask': True, 'proj_type': 'none'}, False),
        ({'pool_type': 'last'}, False),
        ({'pool_type': 'first', 'no_causal_mask': True}, False),
    ],
)
def test_every_text_tower_gives_what_open_clip_gives(monkeypatch, custom, options, cut):
    """Cut at the longest prompt where it is causal, and whole otherwise."""
    torch.manual_seed(0)
    config = deepcopy({**TINY, 'text_cfg': {**TINY['text_cfg'], **options}})
    clip = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config).eval()
    tokens = open_clip.SimpleTokenizer(context_length=77)(['dog', 'a very long name'])
    with torch.no_grad():
        expected = clip.encode_text(tokens)
        tower = clip.text.transformer if custom else clip.transformer
        forward, lengths = tower.forward, []
        monkeypatch.setattr(
            tower,
            'forward',
            lambda x, attn_mask=None: lengths.append(x.shape[1]) or forward(x, attn_mask=attn_mask),
        )
        got = encode_text(clip, tokens)
    assert lengths == [6 if cut else 77]
    if cut:
        torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)
    else:
        assert torch.equal(got, expected)


def test_a_text_tower_with_a_class_token_runs_whole():
    torch.manual_seed(0)
    config = deepcopy(TINY)
    config['text_cfg'].update(embed_cls=True)
    clip = open_clip.CustomTextCLIP(**config).eval()
    tokens = open_clip.SimpleTokenizer(context_length=77)(['dog'])
    with torch.no_grad():
        assert torch.equal(encode_text(clip, tokens), clip.encode_text(tokens))


@pytest.mark.parametrize(
    'first, second',
    [
        ('bell', 'Bell'),
        ('traffic light', 'traffic  light'),
        ('caf\u00e9', 'cafe\u0301'),
        ('cats & dogs', 'cats &amp; dogs'),
        ('fi', '\ufb01'),
        ('caf\u00e9', 'caf\u00c3\u00a9'),  # UTF-8 read as Latin-1
        ('bell', 'BELL&nbsp;'),
    ],
)
def test_names_that_are_one_to_the_tokenizer_are_refused(encoder, first, second):
    encode = TextEncoder(encoder, TEMPLATES, cache_dir=False)
    same = Vocabulary.load([first, 'sky', second])
    with pytest.raises(ValueError, match='are the same name') as error:
        encode(same)
    assert repr(first) in str(error.value)
    assert repr(second) in str(error.value)


def test_names_of_the_background_are_compared_too(encoder_config):
    config = {
        'type': 'mmtagclip.TagCLIP',
        'encoder': encoder_config,
        'head': {'type': 'mmtagclip.TagCLIPHead'},
        'classes': ['bell', 'dog'],
        'background': ['wall', 'BELL'],
        'templates': TEMPLATES,
    }
    with pytest.raises(ValueError, match="'bell' and 'BELL' are the same name"):
        MODELS.build(config)


def test_the_built_in_lists_hold_no_doubles(encoder):
    """Nor does any of them together with the words of any background."""
    encode = TextEncoder(encoder, TEMPLATES, cache_dir=False)
    words = {name: dict.fromkeys(sum(Vocabulary.load(name).phrases, ())) for name in LISTS}
    for name in LISTS:
        for background in ('', *(one for one in LISTS if 'background' in one)):
            encode.check_doubles(Vocabulary.load([*(words[name] | words.get(background, {}))]))


def test_synonyms_are_averaged(encoder):
    encode = TextEncoder(encoder, ('a {}.',), cache_dir=False)
    words = [encode(Vocabulary.load([word]))[0] for word in NAMES.phrases[2]]
    expected = normalize(torch.stack(words).mean(0), dim=0)
    torch.testing.assert_close(encode(NAMES)[2], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize('by_prefix', [True, False])
def test_a_class_does_not_depend_on_its_neighbours(encoder, monkeypatch, by_prefix):
    """Its feature has the same bits alone, among others of any length, and in any order."""
    if not by_prefix:
        monkeypatch.setattr(text_module, 'prefix_blocks', lambda text: None)
    encode = TextEncoder(encoder, ('a {}.', '{}, seen from far away'), cache_dir=False)
    random = np.random.RandomState(0)
    words = ['dog', 'traffic light', 'bell', 'a ' * 12 + 'b', 'x' * 9, 'very ' * 40 + 'old']
    names = [(*random.choice(words, 1 + n % 3, replace=False), str(n)) for n in range(45)]
    alone = {name: encode.encode_class(name) for name in names[::6]}
    for count in (2, 17, 45):
        order = random.permutation(len(names))[:count]
        features = encode.encode_classes([names[at] for at in order])
        for at, feature in zip(order, features, strict=True):
            assert torch.equal(feature, alone.setdefault(names[at], feature))


def test_each_batch_has_one_shape(encoder, monkeypatch):
    """Filled up in rows and in length; each prompt as long as it needs, but for the step."""
    monkeypatch.setattr(text_module, 'prefix_blocks', lambda text: None)
    shapes = []
    forward = encoder.clip.transformer.forward
    monkeypatch.setattr(
        encoder.clip.transformer,
        'forward',
        lambda x, attn_mask: shapes.append(tuple(x.shape[:2])) or forward(x, attn_mask),
    )
    encode = TextEncoder(encoder, ('{}',), cache_dir=False)
    encode.encode_classes([('dog',), ('a ' * 7,), *((str(n),) for n in range(32)), ('a ' * 72,)])
    assert sorted(shapes) == [(32, 8), (32, 8), (32, 16), (32, 77)]


def test_classes_come_in_groups_of_bounded_size(encoder, monkeypatch, tmp_path):
    monkeypatch.setattr(text_module, 'GROUP', 5)
    encode, sizes = TextEncoder(encoder, TEMPLATES, tmp_path), []
    original = encode.encode_classes
    monkeypatch.setattr(encode, 'encode_classes', lambda c: sizes.append(len(c)) or original(c))
    names = Vocabulary.load(['dog', 'cat', 'owl', ('a', 'b', 'c'), 'cow'])
    got = encode(names)
    assert sizes == [3, 1, 1]  # prompts: 6, 6 and 2
    assert torch.equal(got, TextEncoder(encoder, TEMPLATES, cache_dir=False)(names))


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
    broken = deepcopy(clip)
    broken.ln_final.weight.data[0] = float('nan')
    encode = TextEncoder(DenseEncoder(load_clip(broken)), ('{}',), cache_dir=False)
    with pytest.raises(ValueError, match="class 'dog' is not finite"):
        encode(NAMES)


@pytest.fixture
def counted(monkeypatch):
    """Names of the classes that were really encoded."""
    encoded = []
    original = TextEncoder.encode_classes
    monkeypatch.setattr(
        TextEncoder,
        'encode_classes',
        lambda self, classes: encoded.extend(one[0] for one in classes) or original(self, classes),
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


def variant(state_dict, vision=None, text=None, **options):
    """An encoder of the golden weights in another architecture."""
    model = {**deepcopy(TINY), **options}
    model['vision_cfg'].update(vision or {})
    model['text_cfg'].update(text or {})
    clip = open_clip.CLIP(**model)
    clip.load_state_dict(state_dict)
    return DenseEncoder(load_clip(clip))


@pytest.mark.parametrize(
    'change',
    [
        {'quick_gelu': False},
        {'text': {'heads': 2}},
        {'text': {'pool_type': 'last'}},
        {'text': {'pool_type': 'eos'}},
        {'text': {'pool_type': 'eos', 'eos_id': 49406}},
        {'text': {'no_causal_mask': True}},
        {'text': {'norm_kwargs': {'eps': 1e-3}}},
    ],
    ids=str,
)
def test_another_architecture_of_the_same_weights_is_not_found(
    encoder, state_dict, tmp_path, counted, change
):
    other = variant(state_dict, **change)
    TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES)
    got = TextEncoder(other, TEMPLATES, tmp_path)(NAMES)
    assert len(counted) == 6
    assert torch.equal(got, TextEncoder(other, TEMPLATES, cache_dir=False)(NAMES))


def test_an_approximated_activation_is_another(state_dict):
    keys = {
        TextEncoder(variant(state_dict, quick_gelu=False, text=text), TEMPLATES)._key(('dog',))
        for text in ({}, {'act_kwargs': {'approximate': 'tanh'}})
    }
    assert len(keys) == 2


def test_one_architecture_is_found_however_it_was_loaded(
    encoder, clip, state_dict, checkpoint, tmp_path
):
    folder = tmp_path / 'model'
    folder.mkdir()
    config = {'model_cfg': TINY, 'preprocess_cfg': {'mean': [0.5] * 3}}
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
    (folder / 'model.safetensors').write_bytes(checkpoint.read_bytes())
    trained = deepcopy(clip).train()
    trained.set_grad_checkpointing()
    trained.output_dict = True
    square = deepcopy(TINY)
    square['vision_cfg']['image_size'] = [224, 224]
    others = [
        DenseEncoder(load_clip(TINY, checkpoint=checkpoint)),
        DenseEncoder(load_clip(square, checkpoint=checkpoint)),
        DenseEncoder(load_clip(f'local-dir:{folder}')),
        DenseEncoder(load_clip(trained)),
        DenseEncoder(load_clip(clip), dtype='bfloat16'),
    ]
    key = TextEncoder(encoder, TEMPLATES)._key(('dog',))
    for other in others:
        assert TextEncoder(other, TEMPLATES)._key(('dog',)) == key
        assert {**other.identity, 'name': encoder.name} == encoder.identity
    heads = variant(state_dict, vision={'head_width': 32})
    assert TextEncoder(heads, TEMPLATES)._key(('dog',)) == key  # of the image tower
    assert heads.identity != encoder.identity


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


@pytest.mark.parametrize(
    'change',
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.int32),
        lambda x: x[None],
        lambda x: x[:32],
        lambda x: np.concatenate([x, x]) / np.float32(2**0.5),
        lambda x: x * np.float32(1.01),
        lambda x: x * 0,
        lambda x: np.full_like(x, np.nan),
        lambda x: np.full_like(x, np.inf),
    ],
)
def test_a_whole_file_of_other_values_is_made_again(encoder, tmp_path, counted, change):
    cold = TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES)
    path = sorted(tmp_path.rglob('*.safetensors'))[0]
    with safe_open(path, framework='numpy') as file:
        feature, facts = change(file.get_tensor('feature')), file.metadata()
    digest = hashlib.sha256(feature.tobytes()).hexdigest()
    save_file({'feature': feature}, path, metadata={**facts, 'sha256': digest})
    assert torch.equal(TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES), cold)
    assert len(counted) == 4


def test_a_cache_that_can_not_be_written_is_done_without(encoder, tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('in the way')
    with pytest.warns(UserWarning, match='text features are not cached'):
        got = TextEncoder(encoder, TEMPLATES, blocked / 'cache')(NAMES)
    assert torch.equal(got, TextEncoder(encoder, TEMPLATES, cache_dir=False)(NAMES))


def test_a_writer_that_dies_leaves_no_half_file(encoder, tmp_path, monkeypatch):
    def dies(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmtagclip.files.os.replace', dies)
    with pytest.raises(KeyboardInterrupt):
        TextEncoder(encoder, TEMPLATES, tmp_path)(NAMES)
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def _encode(config, checkpoint, cache, barrier, results):
    torch.set_num_threads(1)
    encoder = DenseEncoder(load_clip(config, checkpoint=checkpoint))
    barrier.wait()
    results.put(TextEncoder(encoder, TEMPLATES, cache)(NAMES).numpy())


def test_two_processes_writing_at_once(encoder, checkpoint, tmp_path):
    context = multiprocessing.get_context('fork')
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


@pytest.mark.parametrize(
    'change',
    [
        lambda patch, text: patch.setattr('mmtagclip.clip.text.version', lambda name: '0'),
        lambda patch, text: patch.setattr('mmtagclip.clip.text.__version__', '0'),
        lambda patch, text: patch.setattr(torch, '__version__', '0'),
        lambda patch, text: patch.setattr(
            text, 'tokenizer', lambda *a, real=text.tokenizer, **k: real(*a, **k) + 1
        ),
        lambda patch, text: patch.setattr(text, 'templates', ('a {}',)),
    ],
    ids=['open_clip', 'mmtagclip', 'torch', 'tokenizer', 'templates'],
)
def test_what_the_cache_finds_a_feature_by(encoder, tmp_path, monkeypatch, change):
    text, same = (TextEncoder(encoder, TEMPLATES, tmp_path) for _ in range(2))
    before = text._key(('dog',))
    assert same._key(('dog',)) == before
    other = TextEncoder(encoder, TEMPLATES, tmp_path)
    change(monkeypatch, other)
    assert other._key(('dog',)) != before
