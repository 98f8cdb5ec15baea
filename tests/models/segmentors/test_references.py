"""How references are found in images, and what they add to a segmentor."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmtagclip.clip import Vocabulary
from mmtagclip.models import (
    DirectSegmentor,
    EncodedImage,
    EncoderFeatures,
    ReferenceEncoder,
    ReferenceProcessor,
)
from mmtagclip.models.segmentors.windows import resize
from mmtagclip.regions import Affinity, AffinitySource
from mmtagclip.regions.bank import source_identity
from mmtagclip.regions.references import ReferenceBank
from tests.conftest import picture
from tests.regions.test_references import write_references

CLASSES = ['dog', ('cat', 'kitten')]
ORIGINAL = picture(40, 56, 2)


class Colours(AffinitySource):
    """Mean colours of 8×8 pixels, less a constant."""

    def __init__(self, weight=0.5):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def extra_repr(self):
        return ''

    def forward(self, pixels):
        return Affinity(F.avg_pool2d(pixels, 8) - self.weight)


def places(processor, size):
    """Cosines of the references with the source's features of the original, as levelled."""
    bank = processor.bank
    with torch.no_grad():
        pixels = torch.from_numpy(ORIGINAL[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        features = processor.source(pixels).features[0]
    maps = []
    for reference, (mean, deviation, own_mean, own_deviation) in zip(
        bank.references, bank.levels, strict=True
    ):
        cosines = F.cosine_similarity(features, reference[:, None, None], dim=0)
        maps.append((cosines - own_mean) / own_deviation * deviation + mean)
    return resize(torch.stack(maps)[None], size)[0]


@pytest.fixture(scope='module')
def segmentor(encoder_config, tmp_path_factory):
    built = DirectSegmentor(
        encoder_config,
        {
            'type': 'mmtagclip.SegTextHead',
            'classes': CLASSES,
            'background': ['sky'],
            'templates': ['a {}'],
        },
    ).eval()
    path = tmp_path_factory.mktemp('references') / 'a.safetensors'
    of = {'encoder': built.encoder.identity, 'source': source_identity(Colours())}
    vectors = F.normalize(torch.tensor([[1.0, 2, -1], [0, -1, 1]]))
    with torch.no_grad():  # what brings both cosines to the same level here
        pixels = torch.from_numpy(ORIGINAL[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
        theirs = F.cosine_similarity(Colours()(pixels).features, vectors[..., None, None], dim=1)
        ours = built._cosines(encoded(built), built.text[1:3])
    levels = [one(part, dim=(1, 2)) for part in (ours, theirs) for one in (torch.mean, torch.std)]
    write_references(path, references=vectors, levels=torch.stack(levels, dim=1), **of)
    built.cosine_processor = ReferenceProcessor(path, Colours(), side=40)
    built.cosine_processor.attach(built.encoder)
    return built


def encoded(segmentor, flip=None):
    pixels = torch.from_numpy(ORIGINAL[:32, :48, ::-1].copy()).permute(2, 0, 1) / 255 - 0.5
    pixels = pixels if flip is None else pixels.flip(-1)
    return EncodedImage((40, 56), ORIGINAL, flip, pixels, None, None)


@torch.no_grad()
def test_a_word_has_the_better_of_its_two_cosines(segmentor):
    names, image = segmentor.names, encoded(segmentor)
    assert names.words.words.names == ('sky', 'dog', 'cat', 'kitten')
    plain = segmentor._cosines(image, names.text)
    joined = segmentor._refined(image, names, range(4))
    theirs = places(segmentor.cosine_processor, plain.shape[1:])
    torch.testing.assert_close(joined[1:3], torch.maximum(plain[1:3], theirs))
    assert torch.equal(joined[[0, 3]], plain[[0, 3]])  # words without a reference
    for which in (1, 2):
        assert 0 < (joined[which] == plain[which]).float().mean() < 1
    # Only some words, in another order of the bank.
    some = segmentor._refined(image, names, [0, 2])
    torch.testing.assert_close(some, joined[[0, 2]])
    torch.testing.assert_close(segmentor._refined(image, names, [0, 3]), plain[[0, 3]])
    # The original is not flipped with the encoded image.
    turned = segmentor._cosines(encoded(segmentor, 'horizontal'), names.text)
    joined = segmentor._refined(encoded(segmentor, 'horizontal'), names, range(4))
    torch.testing.assert_close(joined[1:3], torch.maximum(turned[1:3], theirs))


@torch.no_grad()
def test_the_published_product(segmentor):
    processor = ReferenceProcessor(segmentor.cosine_processor.bank, Colours(), 'product', side=40)
    cosines = torch.linspace(-1, 1, 2 * 32 * 48).view(2, 32, 48)
    words = Vocabulary.load(['cat', 'dog'])
    got = processor(cosines, encoded(segmentor), torch.zeros(2, 64), words)
    pixels = torch.from_numpy(ORIGINAL[..., ::-1].copy()).permute(2, 0, 1)[None] / 255
    features = Colours()(pixels).features[0]
    references = processor.bank.references[[1, 0]]  # in the order of the words
    theirs = F.cosine_similarity(features[None], references[..., None, None], dim=1)
    expected = (10 * cosines).sigmoid() * resize(theirs.sigmoid()[None], (32, 48))[0]
    torch.testing.assert_close(got, expected)


def test_masks_of_a_call_and_other_words(segmentor):
    image = segmentor.encode(encoded(segmentor).image, ORIGINAL)
    labels = segmentor.masks(image).pred_sem_seg.data
    assert labels.shape == (1, 40, 56)
    assert segmentor.needs_original
    segmentor.names_for(['dog', 'fox'])  # one of them has a reference
    with pytest.raises(
        ValueError, match=r"a\.safetensors has no reference for 'sky', 'owl', 'fox'"
    ):
        segmentor.names_for(['owl', 'fox'])
    with pytest.raises(ValueError, match="no reference for 'sky', 'owl', 'fox' and 1 more: make"):
        segmentor.names_for(['owl', 'fox', 'elk'])
    product = ReferenceProcessor(segmentor.cosine_processor.bank, Colours(), 'product')
    with pytest.raises(ValueError, match="no reference for 'sky': make references for these"):
        product.check_words(Vocabulary.load(['sky', 'dog', 'cat']))
    product.check_words(Vocabulary.load(['dog']))


def test_references_of_another_encoder_or_source_are_refused(segmentor, encoder_config, tmp_path):
    bank = segmentor.cosine_processor.bank
    with pytest.raises(ValueError, match=r'has references of Colours\(\), but the queries are of'):
        ReferenceProcessor(bank, Colours(0.25)).attach(segmentor.encoder)
    other = ReferenceProcessor(write_references(tmp_path / 'b.safetensors'), Colours())
    head = {'type': 'mmtagclip.SegTextHead', 'classes': CLASSES, 'templates': ['a {}']}
    with pytest.raises(ValueError, match='has references chosen by n, whose architecture are not'):
        DirectSegmentor(encoder_config, head, cosine_processor=other)
    with pytest.raises(ValueError, match="has no reference for 'owl': make references"):
        DirectSegmentor(
            segmentor.encoder,
            {**head, 'classes': ['owl']},
            cosine_processor=segmentor.cosine_processor,
        )


def test_levels_of_other_cosines_are_refused(segmentor, encoder_config, tmp_path):
    head = {'type': 'mmtagclip.SegTextHead', 'classes': CLASSES, 'templates': ['a {}', 'b {}']}
    of = {'encoder': segmentor.encoder.identity, 'source': source_identity(Colours())}
    path = write_references(tmp_path / 'a.safetensors', **of, settings={'templates': ['a {}']})
    for options, message in [
        (
            {'last_block': {'type': 'mmtagclip.SCLIPLastBlock'}},
            r'a\.safetensors .* the last_block SelfOnly.*, but the segmentor has SCLIPLastBlock.*: '
            'make references with this encoder',
        ),
        ({'positions': 'bicubic'}, 'the positions bilinear, but the segmentor has bicubic: make'),
        ({}, r"has 2 others such as 'a \{\}': make references with these templates, or set head"),
    ]:
        encoder = {**encoder_config, **options}
        with pytest.raises(ValueError, match=message):
            DirectSegmentor(encoder, head, cosine_processor=ReferenceProcessor(path, Colours()))
    same = {**head, 'templates': ['a {}']}
    DirectSegmentor(encoder_config, same, cosine_processor=ReferenceProcessor(path, Colours()))
    # A product uses no levels.
    encoder = DirectSegmentor({**encoder_config, 'positions': 'bicubic'}, head).encoder
    ReferenceProcessor(path, Colours(), 'product').attach(encoder, head['templates'])


def test_bad_options(segmentor):
    bank = segmentor.cosine_processor.bank
    with pytest.raises(ValueError, match="join must be one of better, product, not 'sum'"):
        ReferenceProcessor(bank, Colours(), 'sum')
    with pytest.raises(ValueError, match='needs side >= 1, not 0'):
        ReferenceProcessor(bank, Colours(), side=0)
    for options, message in [
        ({'count': 0}, 'needs count >= 1, not 0'),
        ({'min_cosine': 1.5}, r'needs min_cosine in \[-1, 1\], not 1.5'),
        ({'side': 40}, 'needs a side that is a multiple of the patch size 16, not 40'),
        ({'side': 0}, 'multiple of the patch size 16, not 0'),
    ]:
        with pytest.raises(ValueError, match=message):
            ReferenceEncoder(segmentor.encoder, Colours(), **options)


def test_places_are_those_of_the_centre(segmentor):
    model = ReferenceEncoder(segmentor.encoder, Colours(), side=32)
    square = picture(32, 32, 4)
    features, patches = model.places(square)
    assert (features.shape, patches.shape) == ((3, 4, 4), (64, 2, 2))
    pixels = torch.from_numpy(square).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(features, Colours()(pixels).features[0].detach())
    wide = np.concatenate([np.zeros_like(square), square, np.ones_like(square)], axis=1)
    torch.testing.assert_close(model.places(wide)[0], features, atol=0.02, rtol=0)
    mean, std = (
        torch.tensor(one)[:, None, None] for one in (model.encoder.mean, model.encoder.std)
    )
    expected = model.encoder((pixels - mean) / std).patches[0]
    torch.testing.assert_close(patches.flatten(1).T, expected)


def test_a_reference_avoids_contexts_and_knows_its_levels(segmentor):
    """One place of each of two images is like the word, and another like a context."""
    model = ReferenceEncoder(segmentor.encoder, Colours())
    word, context = torch.eye(3)[0], torch.eye(3)[1]
    text = torch.eye(64)[0]

    def image(*shown):
        features = torch.stack([word if one == 'word' else context for one in shown], dim=1)
        return features[:, None], text[:, None, None].repeat(1, 1, len(shown))

    images = [
        image('context', 'word'),
        image(
            'context',
            'word',
        ),
    ]
    plain, _ = model.reference(images, text)
    assert torch.equal(plain, context)  # the first of two equal places
    found, levels = model.reference(images, text, context[None])
    assert torch.equal(found, word)
    torch.testing.assert_close(levels, torch.tensor([1.0, 0, 0.5, 0.5]))


def test_the_source_of_a_clip_s_own_patches(encoder_config, encoder):
    source = EncoderFeatures(encoder_config)
    pixels = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(one)[:, None, None] for one in (encoder.mean, encoder.std))
    enlarged = F.interpolate(pixels, (48, 48), mode='bicubic', align_corners=False)
    expected = encoder((enlarged - mean) / std)
    got = source(pixels).features
    torch.testing.assert_close(got.flatten(2).transpose(1, 2), expected.patches)
    whole = source(enlarged).features
    torch.testing.assert_close(whole, got)
    other = EncoderFeatures({**encoder_config, 'positions': 'bicubic'})
    assert source_identity(other) != source_identity(source)


def test_a_bank_is_read_once(tmp_path):
    path = write_references(tmp_path / 'a.safetensors')
    bank = ReferenceBank(path)
    assert ReferenceProcessor(bank, Colours()).bank is bank
    assert ReferenceProcessor(path, Colours()).bank.path == path
