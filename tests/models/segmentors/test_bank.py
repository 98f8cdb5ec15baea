"""What regions add to a memory bank, and their neighbours in it to a segmentor."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from mmtagclip.clip import Vocabulary
from mmtagclip.models import (
    BankProcessor,
    CorrCLIPLastBlock,
    EncodedImage,
    RegionEncoder,
    SlidingWindows,
)
from mmtagclip.models.segmentors.bank import cosines_of
from mmtagclip.models.segmentors.windows import resize
from mmtagclip.regions import Affinity, AffinitySource
from mmtagclip.regions.bank import MemoryBank, source_identity
from tests.golden import GOLDEN
from tests.golden.weights import region_map, smooth_image
from tests.regions.test_bank import write
from tests.regions.test_corrclip import dino, network_input, segmentor_of  # noqa: F401

WORDS = Vocabulary.load(list('abcdefgh'))


@pytest.fixture(scope='module')
def golden():
    files = [np.load(GOLDEN / 'regions' / f'corrclip_v{version}.npz') for version in (1, 2)]
    return {'text': files[0]['text'], **files[1]}


def rows(seed, *shape):
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def unit(seed, *shape):
    return F.normalize(torch.from_numpy(np.random.RandomState(seed).standard_normal(shape))).float()


@pytest.fixture(scope='module')
def banks(golden, tmp_path_factory):
    """The golden bank, and that of the second CLIP, float32."""
    folder = tmp_path_factory.mktemp('banks')
    keys, text = unit(61, 400, 24), torch.from_numpy(golden['text'])
    values = F.normalize(0.3 * rows(62, 400, 64) + text.repeat_interleave(50, dim=0))
    return [
        write(folder / 'one.safetensors', keys, values),
        write(folder / 'two.safetensors', keys, unit(63, 400, 32)),
    ]


def encoded(seed=41, regions=None):
    features = rows(52, 24, 9, 13)
    regions = region_map(90, 131, seed) if regions is None else regions
    return EncodedImage((90, 131), None, None, None, None, None, regions, features)


class Second(nn.Module):
    """A second CLIP, of which only text features are asked."""

    last_block = None

    def __init__(self, **identity):
        super().__init__()
        self.identity = {'name': 'n', 'architecture': 'a', 'weights': 'w', **identity}

    def encode_names(self, vocabulary, templates):
        assert (vocabulary, templates) == (WORDS, 'templates_80')
        return unit(22, 8, 32)

    def patch_text(self, text):
        return text


@pytest.mark.parametrize('name', ['bank', 'bank_aux'])
def test_the_released_codes_cosines(golden, banks, name):
    others = [] if name == 'bank' else [{'encoder': Second(), 'bank': banks[1]}]
    processor = BankProcessor(banks[0], weight=1.0, others=others)
    text = torch.from_numpy(golden['text'])
    spread = processor(torch.zeros(8, 224, 326), encoded(), text, WORDS)
    # All steps up to the original size are linear.
    spread = resize(spread[None], (90, 131))[0, :, ::3, ::3]
    single = torch.from_numpy(golden['pipeline/90x131/single/cosines'])
    expected = torch.from_numpy(golden[f'pipeline/90x131/{name}/cosines'])
    torch.testing.assert_close((single + spread) / 2, expected, atol=1e-5, rtol=0)


class Fixed(AffinitySource):
    """Returns the same features for each image."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.features = rows(52, 1, 24, 9, 13)

    def extra_repr(self):
        return ''

    def forward(self, pixels):
        return Affinity(self.features)


def region_encoder(encoder_config, source):
    last_block = CorrCLIPLastBlock(source, merge=False, lowest_is_none=True)
    config = {**encoder_config, 'positions': 'bicubic_scale', 'last_block': last_block}
    windows = SlidingWindows(224, 112, max_windows=2, pad_to=56)
    return RegionEncoder(config, Fixed(), windows, side=224)


def test_the_released_codes_rows(encoder_config, dino, golden, monkeypatch):  # noqa: F811
    monkeypatch.setattr('mmtagclip.models.segmentors.bank.CHANNELS', 24)
    built = region_encoder(encoder_config, dino)
    ids, keys, values = built(smooth_image(90, 131, 5), region_map(90, 131, 41))
    close = {'atol': 1e-5, 'rtol': 0}
    assert ids.tolist() == list(range(1, 8))
    expected = F.normalize(torch.from_numpy(golden['bank/90x131/keys']))
    torch.testing.assert_close(keys, expected, **close)
    torch.testing.assert_close(values, torch.from_numpy(golden['bank/90x131/values']), **close)


@pytest.fixture(scope='module')
def segmentor(encoder_config, golden, banks):
    """The second version with the golden bank, which says that it is of this encoder."""
    texts = {'v1': {'text': torch.from_numpy(golden['text'])}}
    built = segmentor_of(encoder_config, texts, Fixed(), 0.3, whole_image=True)
    of = {
        'encoder': {**built.encoder.identity, 'last_block': 'another'},
        'source': source_identity(built.encoder.last_block.source),
    }
    with safe_open(banks[0], 'pt') as file:
        keys, values = file.get_tensor('keys'), file.get_tensor('values')
    built.cosine_processor = BankProcessor(
        write(banks[0].with_name('own.safetensors'), keys, values, **of)
    )
    built.cosine_processor.attach(built.encoder)
    return built


@torch.no_grad()
def test_the_whole_of_the_second_version_with_its_bank(segmentor, golden):
    ids = region_map(90, 131, 41)
    original = smooth_image(90, 131, 5)[..., ::-1].copy()
    image = network_input(90, 131, 224)
    encoded = segmentor.encode(image, original, regions=ids)
    cosines = segmentor._refined(encoded, segmentor.names, range(8))
    expected = torch.from_numpy(golden['pipeline/90x131/bank/cosines'])
    close = {'atol': 1e-5, 'rtol': 0}
    torch.testing.assert_close(resize(cosines[None], (90, 131))[0, :, ::3, ::3], expected, **close)
    labels = segmentor.masks(encoded).pred_sem_seg.data[0]
    np.testing.assert_array_equal(labels, golden['pipeline/90x131/bank/labels'])
    # With tags, only their words are compared.
    some = segmentor._refined(encoded, segmentor.names, [0, 4, 6])
    torch.testing.assert_close(some, cosines[[0, 4, 6]], **close)
    # Regions are those of the image before it was flipped.
    segmentor.cosine_processor.weight = 1.0
    kept = segmentor._refined(encoded, segmentor.names, range(8))
    flipped = replace(encoded, image=image.flip(-1), flip='horizontal', features=None)
    torch.testing.assert_close(
        segmentor._refined(flipped, segmentor.names, range(8)), kept, **close
    )
    segmentor.cosine_processor.weight = 0.5


def test_a_bank_of_another_encoder_or_source_is_refused(segmentor, banks, encoder):
    processor = BankProcessor(banks[0])
    with pytest.raises(ValueError, match=r'one.safetensors has values of n, whose architecture'):
        processor.attach(segmentor.encoder)
    with pytest.raises(ValueError, match=r'sees no whole image, .*: set source'):
        segmentor.cosine_processor.attach(encoder)
    other = BankProcessor(segmentor.cosine_processor.bank, source=Fixed(2.0))
    assert (other.needs_original, segmentor.cosine_processor.needs_original) == (True, False)
    with pytest.raises(ValueError, match=r'has keys of Fixed\(\), but the queries are of other'):
        other.attach(encoder)
    own = BankProcessor(segmentor.cosine_processor.bank, source=Fixed())
    own.attach(encoder)  # any encoder with a source
    image = replace(encoded(), original=np.zeros((90, 131, 3), np.uint8), whole=None)
    asked = torch.zeros(2, 9, 13), torch.eye(64)[:2], WORDS
    expected = segmentor.cosine_processor(asked[0], encoded(), *asked[1:])
    torch.testing.assert_close(own(asked[0], image, *asked[1:]), expected)


@pytest.mark.parametrize('ids', [np.zeros((90, 131), int), np.full((90, 131), 7)])
def test_an_image_of_one_region_or_none_has_one_query(banks, ids):
    text = torch.eye(64)[:3]
    result = BankProcessor(banks[0])(torch.zeros(3, 9, 13), encoded(regions=ids), text, WORDS)
    assert torch.isfinite(result).all()
    assert len(result.flatten(1).unique(dim=1).T) == 1


def test_what_the_processor_refuses(banks, tmp_path):
    pixels = np.arange(90 * 131).reshape(90, 131)
    with pytest.raises(ValueError, match='11790 regions, and a memory bank takes at most 4096'):
        BankProcessor(banks[0])(
            torch.zeros(3, 90, 131), encoded(regions=pixels), torch.eye(64)[:3], WORDS
        )
    with pytest.raises(ValueError, match='neighbours >= 1, not 0'):
        BankProcessor(banks[0], neighbours=0)
    with pytest.raises(ValueError, match=r'weight in \[0, 1\], not 1.5'):
        BankProcessor(banks[0], weight=1.5)
    with pytest.raises(ValueError, match='one of the others needs encoder and bank, not bank'):
        BankProcessor(banks[0], others=[{'bank': banks[1]}])
    with pytest.raises(ValueError, match='has values of n, whose weights are not those of this n'):
        BankProcessor(banks[0], others=[{'encoder': Second(weights='x'), 'bank': banks[1]}])
    few = write(tmp_path / 'few.safetensors', unit(1, 9, 4), unit(2, 9, 4), regions='others')
    with pytest.raises(ValueError, match=r'few\.safetensors has not the same regions'):
        BankProcessor(banks[0], others=[{'encoder': Second(), 'bank': few}])


def test_fewer_neighbours_are_averaged_alone(banks):
    bank = MemoryBank(banks[0])
    text = torch.eye(64)
    found = cosines_of(bank, torch.tensor([[3, 8, -1], [-1, -1, -1]]), text)
    mean = F.normalize(bank.values(torch.tensor([3, 8])).sum(dim=0), dim=0)
    torch.testing.assert_close(found, torch.stack([mean, torch.zeros(64)]))


def test_what_the_region_encoder_refuses(encoder_config, dino):  # noqa: F811
    built = region_encoder(encoder_config, dino)
    image = smooth_image(90, 131, 5)
    with pytest.raises(ValueError, match='regions of 5x4 pixels do not fit an image of 131x90'):
        built(image, np.ones((4, 5), int))
    with pytest.raises(ValueError, match='11790 regions'):
        built(image, np.arange(90 * 131).reshape(90, 131))
    ids, keys, values = built(image, np.zeros((90, 131), int))
    assert (len(ids), keys.shape, values.shape) == (0, (0, 24), (0, 64))
    with pytest.raises(ValueError, match='RegionEncoder needs side >= 1'):
        RegionEncoder(encoder_config, Fixed(), side=0)
