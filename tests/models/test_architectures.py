"""Every last block on other architectures than B/16, below all that reads it, in batches."""

import pytest
import torch
from mmseg.structures import SegDataSample

from mmtagclip.clip import LAST_BLOCKS
from mmtagclip.registry import MODELS
from tests.clip.last_blocks.test_last_blocks import DEEP, untrained
from tests.conftest import picture

POLICIES = [name.removesuffix('LastBlock') for name in LAST_BLOCKS]
# Patch size, depth, and the layers of DMAR and of the CAMs' affinity.
ARCHITECTURES = {
    'B/32': (32, 12, (8, 9, 10), tuple(range(4, 11))),
    'L/14': (14, 24, tuple(range(16, 23)), tuple(range(16, 23))),
}
GRIDS = [(5, 4), (7, 3), (5, 4)]
ORDER = [0, 2, 1]  # in which a batch is worked off: those of one size together


def segmentor(architecture, policy):
    patch, depth, layers, affinity = ARCHITECTURES[architecture]
    options = DEEP.get(policy.lower(), {}) if depth == 24 else {}
    return MODELS.build(
        {
            'type': 'mmtagclip.CLSSeg',
            'tagger': {
                'type': 'mmtagclip.TagCLIP',
                'encoder': {
                    'type': 'mmtagclip.CLIPEncoder',
                    'model': untrained(patch, depth),
                    'text_cache': False,
                    'positions': 'bicubic_scale',
                    'last_block': {'type': f'mmtagclip.{policy}LastBlock', **options},
                },
                'head': {
                    'type': 'mmtagclip.TagCLIPHead',
                    'dmar': {'type': 'mmtagclip.DMAR', 'layers': layers, 'votes': depth // 3},
                    'cwr': {'type': 'mmtagclip.CWR', 'threshold': 0.5},
                },
                'classes': ['cat', 'dog', 'bus'],
                'background': ['sky'],
                'templates': ['{}'],
            },
            'affinity': {
                'type': 'mmtagclip.AffinityRefinement',
                'layers': affinity,
                'box_threshold': 0.4,
            },
            'background_prompts': ['sky'],
        }
    )


def batch(patch, grids):
    images, samples = [], []
    for seed, (height, width) in enumerate(grids):
        size = (patch * height, patch * width)
        images.append(torch.from_numpy(picture(*size, seed).copy()).permute(2, 0, 1))
        samples.append(SegDataSample(metainfo={'ori_shape': size}))
    return {'inputs': images, 'data_samples': samples}


@pytest.mark.parametrize('policy', POLICIES)
@pytest.mark.parametrize('architecture', ARCHITECTURES)
def test_a_batch_equals_single_images(architecture, policy):
    model, patch = segmentor(architecture, policy), ARCHITECTURES[architecture][0]
    scores = []
    model.tagger.head.register_forward_hook(lambda *args: scores.extend(args[-1].scores))
    masks = model.test_step(batch(patch, GRIDS))
    for index in ORDER:
        alone = {key: [value[index]] for key, value in batch(patch, GRIDS).items()}
        (segmented,) = model.test_step(alone)
        assert segmented.tags
        assert segmented.tags == masks[index].tags
        different = segmented.pred_sem_seg.data != masks[index].pred_sem_seg.data
        assert different.float().mean() < 0.005
    together, one_by_one = torch.stack(scores).chunk(2)
    torch.testing.assert_close(together, one_by_one, atol=2e-5, rtol=0)
