"""What regions add to a memory bank, and their neighbours in it to a segmentor."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmtagclip.clip import Vocabulary
from mmtagclip.models import (
    BankProcessor,
    CorrCLIPLastBlock,
    EncodedImage,
    RegionEncoder,
    SlidingWindows,
)
from mmtagclip.models.segmentors.windows import resize
from mmtagclip.regions import Affinity, AffinitySource
from tests.golden import GOLDEN
from tests.golden.weights import region_map, smooth_image
from tests.regions.test_bank import write
from tests.regions.test_corrclip import dino  # noqa: F401

WORDS = Vocabulary.load(list('abcdefgh'))


@pytest.fixture(scope='module')
def golden():
    files = [np.load(GOLDEN / f'corrclip_v{version}.npz') for version in (1, 2)]
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

    def __init__(self):
        super().__init__()
        self.features = rows(52, 1, 24, 9, 13)

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
