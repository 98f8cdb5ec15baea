"""Where the host waits for a GPU, without a GPU: torch's fake tensors on a CUDA device.

Fake tensors have a shape, a dtype and a device, but no numbers. Operations that mix devices are
refused, and those that need numbers on the host are recorded here. Each place that waits is listed
in this file, so a new one fails a test. Autograd of fake CUDA tensors needs a card, so the gradient
CAM of CLS-SEG is not covered. ``tests/test_cuda.py`` compares numbers on a real card.
"""

import traceback
from collections import Counter
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import mmtagclip
from mmtagclip.clip import LAST_BLOCKS, DenseEncoder, load_clip
from mmtagclip.models import AffinityRefinement, SAMRefinement
from mmtagclip.models.segmentors.base import Masks
from mmtagclip.models.segmentors.sam_refinement import ClassPrompts
from mmtagclip.models.taggers.piaa import PatchBank, gaussian_fit
from mmtagclip.regions.sam import SAMImage
from mmtagclip.registry import MODELS
from tests.models.segmentors.test_direct import BACKGROUND, CLASSES
from tests.models.taggers.test_tagger import HEAD, NAMES
from tests.sam import SIZES, sam_config

aten = torch.ops.aten
PACKAGE = Path(mmtagclip.__file__).parent
FOUND = 3  # rows that a choice of fake values finds


def place() -> str:
    """File and function of the package that runs now."""
    for frame in reversed(traceback.extract_stack()):
        if Path(frame.filename).is_relative_to(PACKAGE):
            return f'{Path(frame.filename).relative_to(PACKAGE).as_posix()}: {frame.name}'
    return 'outside of the package'


class HostWaits(TorchDispatchMode):
    """Counts places where the host waits for fake CUDA tensors, and makes up what it reads."""

    def __init__(self, truth: bool):
        super().__init__()
        self.truth = truth
        self.places = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        first = args[0] if args else None
        cuda = isinstance(first, torch.Tensor) and first.is_cuda
        if func is aten._local_scalar_dense.default:
            self.wait(cuda)
            return {torch.bool: self.truth}.get(first.dtype, 1)
        if func is aten.equal.default:
            self.wait(cuda)
            return True
        if func is aten.nonzero.default:
            self.wait(cuda)
            return first.new_empty(FOUND, first.ndim, dtype=torch.long)
        if func is aten.index.Tensor and args[1][0] is not None and args[1][0].dtype == torch.bool:
            self.wait(cuda)
            return first.new_empty(FOUND, *first.shape[args[1][0].ndim :])
        if func is aten._unique2.default:
            self.wait(cuda)
            return tuple(first.new_empty(FOUND, dtype=torch.long) for _ in range(3))
        if func is aten.bincount.default:
            self.wait(cuda)
            return first.new_empty(args[2] if len(args) > 2 else kwargs['minlength'])
        to = kwargs.get('device')
        if func is aten._to_copy.default and to is not None:
            self.wait(cuda != (torch.device(to).type == 'cuda'))
        return func(*args, **kwargs)

    def wait(self, really: bool) -> None:
        if really:
            self.places[place()] += 1


@pytest.fixture(scope='module')
def fake():
    return FakeTensorMode()


def on_card(module: nn.Module, fake: FakeTensorMode) -> nn.Module:
    """Replace the tensors of a module by fake ones on a CUDA device."""
    module = deepcopy(module)
    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            for key, value in tensors.items():
                if value is not None:
                    with fake:
                        there = torch.empty(value.shape, dtype=value.dtype, device='cuda')
                    is_parameter = isinstance(value, nn.Parameter)
                    tensors[key] = nn.Parameter(there, False) if is_parameter else there
    return module


def waits(fake, function, truth=False) -> dict[str, int]:
    """The places where the host waits in a call of a function."""
    with torch.no_grad(), fake, HostWaits(truth) as found:
        function()
    return dict(found.places)


def waits_of_a_batch(tagger: nn.Module, count: int) -> dict[str, int]:
    """The places where the host waits while a tagger tags a batch of images of one size."""
    fake = FakeTensorMode()
    model = on_card(tagger, fake)
    return waits(fake, lambda: model.predict([cuda(3, 64, 96)] * count))


def cuda(*shape):
    return torch.empty(*shape, device='cuda')


@pytest.fixture(scope='module')
def tagger(encoder_config):
    return {
        'type': 'mmtagclip.TagCLIP',
        'encoder': encoder_config,
        'head': HEAD,
        'classes': NAMES,
        'background': ['sky', 'grass'],
        'templates': ['a photo of a {}.'],
    }


@pytest.mark.parametrize('policy', LAST_BLOCKS)
def test_no_last_block_waits(clip, fake, policy):
    encoder = on_card(DenseEncoder(load_clip(clip), LAST_BLOCKS[policy]()), fake)
    assert waits(fake, lambda: encoder(cuda(2, 3, 64, 96), [(8, 9)], votes=True)) == {}
    assert waits(fake, lambda: encoder.encode_class_token(cuda(2, 3, 64, 96))) == {}


# Once each, whatever the number of images and classes. `tolist` of fake tensors counts each value.
TAGGER = {
    'models/maps.py: region_boxes',  # have all regions been followed to their end?
    'models/taggers/cwr.py: candidates',  # how many are there?
    'models/taggers/heads.py: check_finite',
    'models/taggers/tagger.py: predict',  # the tags
}


def test_a_batch_of_the_tagger_waits_four_times(tagger):
    model = MODELS.build(tagger)
    for batch in (1, 6):
        found = waits_of_a_batch(model, batch)
        assert found.keys() == TAGGER
        assert found.pop('models/taggers/heads.py: check_finite') == 2 * batch
        assert set(found.values()) == {1}


def test_direct_segmentation_waits_for_its_flags(encoder_config, fake):
    config = {
        'type': 'mmtagclip.DirectSegmentor',
        'encoder': encoder_config,
        'head': {
            'type': 'mmtagclip.SegTextHead',
            'classes': CLASSES,
            'background': BACKGROUND,
            'templates': ['a {}.'],
            'background_threshold': 0.16,
            'area_threshold': 0.1,
        },
        'windows': {'type': 'mmtagclip.SlidingWindows', 'size': 64, 'stride': 32},
    }
    model = on_card(MODELS.build(config), fake)
    assert waits(fake, lambda: model.predict([cuda(3, 64, 96)]), truth=True).keys() == {
        'models/segmentors/direct.py: _cosines',  # are they finite?
        'models/segmentors/text_head.py: best_labels',  # which classes cover enough pixels?
    }


def test_affinity_and_boxes_wait_once(fake):
    affinity = AffinityRefinement()
    found = waits(fake, lambda: affinity(cuda(4, 24), cuda(24, 24), (4, 6)))
    assert found == {'models/maps.py: region_boxes': 1}


def test_the_bank_of_piaa_waits_for_each_class_and_its_fit_once(fake):
    def fill():
        bank = PatchBank(cuda(5, 64), 16, 60.0)
        bank.add(cuda(200, 64))
        bank.content()

    assert waits(fake, fill).keys() == {
        'models/taggers/piaa.py: add',
        'models/taggers/piaa.py: content',
    }
    with fake:
        labels = torch.empty(40, dtype=torch.long, device='cuda')
    assert waits(fake, lambda: gaussian_fit(cuda(40, 64), labels, cuda(40), cuda(5, 64))) == {
        'models/taggers/piaa.py: gaussian_fit': 1
    }


def test_a_new_wait_and_mixed_devices_are_seen(fake):
    names = torch.nn.Identity()
    names.forward = lambda x: x * float(x.max())
    assert waits(fake, lambda: names(cuda(3))) == {'outside of the package': 1}
    with pytest.raises(Exception, match='same device'):
        waits(fake, lambda: cuda(3) + torch.ones(3))


def test_masks_on_the_host_are_refined_by_a_sam_on_a_card(fake, tmp_path, monkeypatch):
    """Those of CLS-SEG are on the host. The other devices would be refused here."""
    sam = on_card(MODELS.build(sam_config(tmp_path)), fake)

    def upscaled(self, logits, image, size):  # by a copy of the library's SAM
        yield from F.interpolate(logits[:, None], size)[:, 0]

    monkeypatch.setattr(SAMRefinement, '_upscaled', upscaled)

    def refine():
        masks = Masks(torch.zeros(48, 64, dtype=torch.long), torch.zeros(2, 48, 64), [0, 3])
        image = SAMImage((48, 64), (768, 1024), cuda(1, 64, 64, SIZES['embed_dim']))
        prompt = ClassPrompts(
            3, np.array([[0, 0, 5, 5]]), np.array([[2, 2]]), torch.zeros(256, 256)
        )
        ((label, plane),) = SAMRefinement(sam).scores(masks, [prompt], image)
        assert (label, plane.device.type, plane.shape) == (3, 'cpu', (48, 64))

    waits(fake, refine)
