"""MaskCLIP's prompt denoising and key smoothing against their plain twin."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmseg.structures import SegDataSample

from mmtagclip.models import MaskCLIPRefinement
from mmtagclip.registry import MODELS
from tests import twins
from tests.conftest import picture

WORDS = ['dog', 'cat', 'bus', 'person', 'sky']


@pytest.fixture(scope='module')
def config(encoder_config):
    return {
        'type': 'mmtagclip.DirectSegmentor',
        'encoder': {**encoder_config, 'positions': 'bicubic'},
        'head': {'type': 'mmtagclip.SegTextHead', 'classes': WORDS, 'templates': ['a {}.']},
    }


def build(config, head=None, **options):
    cfg = deepcopy(config)
    cfg['head'].update(head or {})
    if options:
        cfg['patch_processor'] = {'type': 'mmtagclip.MaskCLIPRefinement', **options}
    return MODELS.build(cfg)


def image_of(segmentor, height, width, seed):
    image = torch.from_numpy(picture(height, width, seed)[..., ::-1].copy()).permute(2, 0, 1)
    return segmentor.data_preprocessor({'inputs': [image], 'data_samples': [SegDataSample()]})[
        'inputs'
    ][0]


@torch.no_grad()
def plain(segmentor, image, denoising, smoothing, published):
    """Refined values (K, h, w) of one image: word by word, patch by patch."""
    features = segmentor.encoder(image[None])
    cosines = (features.patches[0] @ segmentor.text.T).clone()
    p = (100 * cosines).softmax(-1)
    best = [p[:, word].max().item() for word in range(len(WORDS))]
    for word, value in enumerate(best):
        if value < denoising and value < max(best):
            cosines[:, word] = -100
    if smoothing:
        p = (100 * cosines).softmax(-1)
        layer = segmentor.encoder.visual.transformer.resblocks[-1]
        _, k, _ = twins.heads(layer, features.last_input[0])
        keys = layer.attn.out_proj(k.transpose(0, 1).flatten(1))[1:]
        keys = (
            torch.stack([one / one.norm() for one in keys.T]).T
            if published
            else torch.stack([one / one.norm() for one in keys])
        )
        cosines = p.clone()
        for i in range(len(p)):
            if p[i].max() < smoothing:
                cosines[i] = sum((keys[i] @ keys[j]) * p[j] for j in range(len(p)))
    return cosines.T.unflatten(1, features.grid)


@pytest.mark.parametrize('published', [False, True])
@pytest.mark.parametrize(
    ('denoising', 'smoothing'), [(0.5, 0.0), (0.0, 1.0), (0.0, 0.6), (0.5, 0.6), (1.0, 0.0)]
)
def test_agrees_with_the_plain_twin(config, denoising, smoothing, published):
    segmentor = build(
        config, prompt_denoising=denoising, key_smoothing=smoothing, published_keys=published
    )
    changed = 0
    for seed in range(3):
        image = image_of(segmentor, 96, 128, seed)
        got = segmentor.cosines(image[None], segmentor.text)[0]
        twin = plain(segmentor, image, denoising, smoothing, published)
        torch.testing.assert_close(got, twin, atol=1e-4, rtol=1e-5)
        label = masks(segmentor, image)
        resized = F.interpolate(twin[None], size=(96, 128), mode='bilinear')
        values = F.interpolate(resized, size=(100, 130), mode='bilinear')[0]
        assert (label != values.argmax(0)).float().mean() < 0.001
        changed += (label != masks(build(config), image)).sum().item()
    assert changed


def masks(segmentor, image):
    return segmentor.masks(segmentor.encode(image, size=(100, 130))).pred_sem_seg.data[0]


def test_it_is_off_by_default(config):
    cosines = torch.rand(2, 6, 4)
    assert MaskCLIPRefinement()(cosines, None, None) is cosines
    assert build(config).patch_processor is None


def test_dropped_words_win_no_pixel_and_the_surest_stays():
    part = MaskCLIPRefinement(prompt_denoising=0.5)
    cosines = torch.tensor([[[0.30, 0.25, 0.299], [0.20, 0.26, 0.259]]])
    # Best patches: 0.52, 0.51 and 0.48.
    assert part(cosines, None, None)[0].eq(-100).tolist() == [[False, False, True]] * 2
    alike = torch.tensor([[[0.30, 0.30, 0.30, 0.301]]])
    assert part(alike, None, None)[0].eq(-100).tolist() == [[True, True, True, False]]


def test_two_images_do_not_mix(config):
    segmentor = build(config, prompt_denoising=0.4, key_smoothing=1.0)
    images = torch.stack([image_of(segmentor, 96, 128, seed) for seed in (1, 2)])
    together = segmentor.cosines(images, segmentor.text)
    for index, image in enumerate(images):
        torch.testing.assert_close(
            together[index], segmentor.cosines(image[None], segmentor.text)[0], atol=1e-4, rtol=1e-5
        )


def test_what_is_refused(config):
    for key in ('prompt_denoising', 'key_smoothing'):
        with pytest.raises(ValueError, match=rf'needs {key} in \[0, 1\], not 50'):
            MaskCLIPRefinement(**{key: 50})
    with pytest.raises(ValueError, match='set windows to WholeImage'):
        build({**config, 'windows': {'type': 'mmtagclip.SlidingWindows'}}, prompt_denoising=0.5)
    head = {'background': ['wall'], 'background_threshold': 0.1}
    build(config, head, prompt_denoising=0.5)
    with pytest.raises(ValueError, match='no probabilities for a background_threshold'):
        build(config, head, key_smoothing=1.0)
    segmentor = build(config, key_smoothing=1.0)
    features = segmentor.encoder(image_of(segmentor, 96, 128, 1)[None])
    with pytest.raises(ValueError, match='a key for each of the 6 patches, but there are 48'):
        segmentor.patch_processor(torch.rand(1, 6, 5), features, segmentor.encoder)
