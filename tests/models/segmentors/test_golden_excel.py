"""ExCEL's maps, masks and PAR, as the released code returned them."""

from functools import cache

import numpy as np
import pytest
import torch

from mmtagclip.clip import SVCLastBlock
from mmtagclip.models import PAR, AffinityRefinement, SurgeryCAM
from mmtagclip.models.maps import resize_map, scale_cam
from mmtagclip.models.segmentors.cam import surgery_maps
from tests.golden import seeds

GOLDEN = seeds.arrays('excel')
LAYERS = (2, 3, 4, 5, 6, 7)


@cache
def encoded():
    """The encoder, and the features of both images with what the parts need."""
    encoder = seeds.encoder(quick_gelu=True)
    affinity = AffinityRefinement(LAYERS, 0.79, layer_weights=(1, 3, 3, 3, 3, 3))
    cam = SurgeryCAM(SVCLastBlock(), across_tokens=True)
    cam.set_encoder(encoder)
    features = encoder(GOLDEN['images'], affinity.layer_sets, inputs=cam.block_inputs)
    return encoder, features, cam, affinity


def close(mine, published, atol=2e-5):
    torch.testing.assert_close(mine, published.float(), atol=atol, rtol=0)


def test_tokens_of_the_second_path():
    encoder = seeds.encoder(SVCLastBlock(), quick_gelu=True)
    raw = []
    encoder.visual.ln_post.register_forward_hook(lambda *given: raw.append(given[2]))
    features = encoder(GOLDEN['images'])
    close(raw[0] @ encoder.visual.proj, GOLDEN['tokens'])
    close(features.patches, torch.nn.functional.normalize(GOLDEN['tokens'][:, 1:], dim=-1))


@pytest.mark.parametrize(('text', 'maps'), [('enriched', 'maps'), ('text', 'maps_plain_text')])
def test_maps(text, maps):
    words = GOLDEN[text].float()
    close(surgery_maps(GOLDEN['tokens'], words, across_tokens=True), GOLDEN[maps])
    encoder, features, cam, _ = encoded()
    for image in range(2):
        mine = cam(features[image], words, 9, encoder)
        close(mine.T, GOLDEN[maps][image, 1:])


@pytest.mark.parametrize('image', [0, 1])
def test_masks(image):
    encoder, features, cam, affinity = encoded()
    features = features[image]
    tags = GOLDEN['tags'][image].nonzero()[:, 0].tolist()
    others = [word for word in range(9) if word not in tags]
    cams = cam(features, GOLDEN['enriched'][tags + others], len(tags), encoder)
    attention = affinity.mean(features.attention)[0]
    spread = affinity.spread(cams, attention, features.grid)
    close(spread.unflatten(1, features.grid), GOLDEN[f'refined{image}'])
    maps = scale_cam(spread).unflatten(1, features.grid).numpy()
    planes = np.stack([resize_map(np.ascontiguousarray(one), (60, 52)) for one in maps])
    planes = torch.from_numpy(np.concatenate([1 - planes.max(axis=0, keepdims=True), planes]))
    close(planes, GOLDEN[f'planes{image}'], atol=1e-4)
    refined = PAR()(planes, GOLDEN['images'][image].permute(1, 2, 0))
    labels = torch.tensor([0, *(1 + tag for tag in tags)])[refined.argmax(dim=0)]
    assert torch.equal(labels, GOLDEN['labels'][image])


def test_par_resizes_the_image_to_the_planes():
    refined = PAR()(GOLDEN['par_masks'][0], GOLDEN['par_image'][0].permute(1, 2, 0))
    # The weights of the released code sum to 1.01 in each of the 20 steps.
    close(1.01**20 * refined, GOLDEN['par_out'][0])
