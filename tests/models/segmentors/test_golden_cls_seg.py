"""The CAMs, CRF and PAMR results that the published programs returned are reproduced."""

from functools import cache

import numpy as np
import pytest
import torch

from mmtagclip.clip import TextEncoder, Vocabulary, load_templates
from mmtagclip.models import PAMR, AffinityRefinement, DenseCRF, SoftmaxGradCAM
from mmtagclip.models.maps import resize_map
from tests.conftest import normalised, picture
from tests.golden import GOLDEN

# File, foreground, background, layers, box threshold.
SETTINGS = {
    'voc2012': ('voc_clsseg', 'voc_background', tuple(range(4, 11)), 0.4),
    'coco2017': ('coco_clsseg', 'coco_background', tuple(range(4, 12)), 0.7),
    'cocostuff': ('cocostuff_clsseg', 'cocostuff_clsseg_background', tuple(range(4, 12)), 0.7),
}


@cache
def arrays(name):
    return dict(np.load(GOLDEN / f'{name}.npz'))


@pytest.mark.parametrize('name', SETTINGS)
def test_text_features(encoder, name):
    encode = TextEncoder(encoder, load_templates('templates_origami'), cache_dir=False)
    golden = arrays(f'clsseg_{name}')
    for source, key in zip(SETTINGS[name], ('text_fg', 'text_bg'), strict=False):
        text = encode(Vocabulary.load(source))
        np.testing.assert_allclose(text.numpy(), golden[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ('name', 'size'),
    [
        ('voc2012', '224x224x1'),
        ('voc2012', '97x161x2'),
        ('voc2012', '128x192x5'),
        ('coco2017', '97x161x2'),
        ('coco2017', '128x192x5'),
        ('cocostuff', '128x192x5'),
    ],
)
def test_cams(encoder, name, size):
    golden = arrays(f'clsseg_{name}')
    _, _, layers, threshold = SETTINGS[name]
    tags = golden[f'{size}/keys']
    text = torch.from_numpy(np.concatenate([golden['text_fg'][tags], golden['text_bg']]))
    height, width, seed = map(int, size.split('x'))
    features = encoder(normalised(encoder, height, width, seed), [layers])
    cams = SoftmaxGradCAM()(features, text, len(tags), encoder)
    refined = AffinityRefinement(layers, threshold)(
        cams, features.attention.mean(layers)[0], features.grid
    )
    for one, published in zip(refined, golden[f'{size}/cam'], strict=True):
        resized = resize_map(one.unflatten(0, features.grid).numpy(), (height, width))
        np.testing.assert_allclose(resized, published.astype(np.float32), atol=5e-4, rtol=0)


@pytest.mark.parametrize('size', ['128x192x5', '97x161x2'])
@pytest.mark.parametrize(('wrapped', 'key'), [(False, 'crf_plain'), (True, 'crf_wrapped')])
def test_crf(size, wrapped, key):
    pytest.importorskip('pydensecrf')
    golden = arrays('crf')
    image = picture(*map(int, size.split('x')))[..., ::-1]
    refined = DenseCRF(wrapped_input=wrapped)(torch.from_numpy(golden[f'{size}/prob']), image)
    published = golden[f'{size}/{key}']
    np.testing.assert_allclose(refined.numpy(), published, atol=1e-3, rtol=0)
    assert (refined.numpy().argmax(0) != published.argmax(0)).mean() <= 0.001


def test_pamr():
    golden = arrays('pamr')
    refined = PAMR()(torch.from_numpy(golden['logits']), picture(40, 56, 9))
    np.testing.assert_allclose(refined.numpy(), golden['refined'], atol=1e-5, rtol=0)
