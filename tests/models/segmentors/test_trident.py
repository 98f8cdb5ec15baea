"""Trident: what its released code returned, properties of the sane options, and what is refused."""

from copy import deepcopy

import cv2
import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F

from mmtagclip.models import DirectSegmentor, EncodedImage, Masks, SAMGatherer, SAMRefinement
from mmtagclip.models.segmentors import sam_gatherer
from mmtagclip.models.segmentors.sam_gatherer import (
    fitted,
    last_block_outputs,
    mean_similarity,
    project,
    splice,
    whole_patches,
)
from mmtagclip.models.segmentors.windows import SlidingWindows
from mmtagclip.regions import Affinity, ProxyLastBlock
from mmtagclip.registry import MODELS
from tests import twins
from tests.conftest import TINY
from tests.golden import GOLDEN
from tests.golden.regions.stand_ins import soft_planes
from tests.golden.weights import smooth_image
from tests.models.segmentors.test_direct import batch
from tests.regions.test_corrclip import Fixed
from tests.sam import last_block_config, sam_config

TRIDENT = np.load(GOLDEN / 'regions' / 'trident.npz')
REFINED = np.load(GOLDEN / 'regions' / 'sam_refine.npz')
MEAN, STD = np.array([122.771, 116.746, 104.094]), np.array([68.501, 66.632, 70.323])
PICTURES = {
    '97x203': ((97, 203), {}),
    '64x250_city': ((64, 250), {'factor': 3.0, 'negative': 0.6, 'halves': 'published'}),
}
PLANES = {
    '118x203': ((5, 118, 203, 71), {'coarse': 0.2, 'min_area': 60}),
    '128x192': ((6, 128, 192, 73), {'coarse': 0.15, 'min_area': 40}),
}


@pytest.fixture(scope='module')
def sam(tmp_path_factory):
    return MODELS.build(sam_config(tmp_path_factory.mktemp('sam')))


@pytest.fixture(scope='module')
def segmentor(encoder_config, sam, tmp_path_factory):
    """Trident with small models, for five classes and the background."""
    last_block = last_block_config(tmp_path_factory.mktemp('dino'))
    return DirectSegmentor(
        encoder={**encoder_config, 'positions': 'bicubic_scale', 'last_block': last_block},
        head={
            'type': 'mmtagclip.SegTextHead',
            'classes': ['dog', 'cat', 'car', 'tree', 'boat'],
            'background': ['sky', 'wall', 'grass'],
            'templates': ['a photo of a {}.'],
            'background_threshold': 0.15,
        },
        windows={'type': 'mmtagclip.SlidingWindows', 'size': 336, 'stride': 224, 'max_windows': 2},
        gatherer=SAMGatherer(sam),
    )


def golden(name, file=TRIDENT):
    return torch.from_numpy(file[name])


def network_input(image, side=336):
    height, width = (int(one * side / min(image.shape[:2]) + 0.5) for one in image.shape[:2])
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy((resized - MEAN) / STD).float().permute(2, 0, 1)


def features_before_norm(gatherer, encoded, encoder, spliced):
    image = whole_patches(encoded.original, 16)
    if gatherer.halves is None:
        return project(encoder, gatherer.gather(spliced, gatherer.sam.encode(image)))
    return project(encoder, gatherer.gather_halves(spliced, image))


@torch.no_grad()
@pytest.mark.parametrize('name', PICTURES)
def test_published_features(segmentor, sam, name, monkeypatch):
    (height, width), options = PICTURES[name]
    image = smooth_image(height, width, 5)
    encoder, windows = segmentor.encoder, segmentor.windows
    gatherer = SAMGatherer(sam, **options)
    x = network_input(image)
    # Two places of the wide image have a cosine that is 2.7e-7 above the threshold, which is less
    # than float32 resolves; the next one is 9e-7 below. A lower mean puts the threshold between
    # them. It adds the same to all logits, so the softmax of what is kept does not change.
    mean = sam_gatherer.mean_similarity
    monkeypatch.setattr(sam_gatherer, 'mean_similarity', lambda batches: mean(batches) - 2.7e-7)
    encoded = EncodedImage((height, width), image[:, :, ::-1], None, x, None, None)
    spliced = splice(encoder, windows, x)
    city = 'city' in name
    part = spliced[:, :, spliced.shape[2] // 2 :] if city else spliced
    torch.testing.assert_close(part[:, ::3, ::3], golden(f'{name}/spliced'), atol=2e-6, rtol=0)
    features = gatherer(encoded, encoder, windows)
    expected = F.normalize(golden(f'{name}/features'), dim=-1)
    torch.testing.assert_close(features.patches[0, ::8], expected, atol=1e-5, rtol=0)
    raw = features_before_norm(gatherer, encoded, encoder, spliced)
    torch.testing.assert_close(raw[::8], golden(f'{name}/features'), atol=1e-4, rtol=0)

    segmentor.gatherer, own = gatherer, segmentor.gatherer
    names = segmentor.names
    names = type(names)(**{**vars(names), 'text': golden('text')})
    cosines = segmentor._cosines(encoded, names.text)
    # One place (29, 34) of SAM's right half has a cosine 5e-8 from its threshold of 0.9.
    bound = 1e-4 if 'city' in name else 1e-5
    full = F.interpolate(cosines[None], size=(height, width), mode='bilinear')[0]
    torch.testing.assert_close(full[:, ::4, ::4], golden(f'{name}/cosines'), atol=bound, rtol=0)
    masks = segmentor.segment(encoded, names, None, None, False)
    segmentor.gatherer = own
    assert np.array_equal(masks.labels.numpy(), TRIDENT[f'{name}/labels'])


@torch.no_grad()
def test_splice_agrees_with_the_loop_over_cells(segmentor):
    windows = SlidingWindows(64, 32, max_windows=3)
    x = network_input(smooth_image(90, 150, 1), 90)
    image = fitted(x, 16, 64)
    assert image.shape == (3, 96, 160)
    places = [(y, x) for y in (0, 32) for x in (0, 32, 64, 96)]
    crops = torch.stack([image[:, y : y + 64, x : x + 64] for y, x in places])
    (outputs,) = last_block_outputs(segmentor.encoder, [crops])
    expected = twins.splice(outputs, [(y // 16, x // 16) for y, x in places], (6, 10))
    found = splice(segmentor.encoder, windows, x)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@pytest.fixture(scope='module')
def patch_14(sam):
    """Builds Trident with a CLIP of ViT-H/14's patches, on windows of 8x8 of them."""
    torch.manual_seed(0)
    tiny = deepcopy(TINY)
    tiny['vision_cfg'].update(layers=2, patch_size=14)
    model = open_clip.CLIP(**tiny)

    def build(last_block, **options):
        encoder = {
            'type': 'mmtagclip.CLIPEncoder',
            'model': model,
            'mean': open_clip.OPENAI_DATASET_MEAN,
            'std': open_clip.OPENAI_DATASET_STD,
            'text_cache': False,
            'positions': 'bicubic_scale',
            'last_block': last_block,
        }
        head = {'type': 'mmtagclip.SegTextHead', 'classes': ['dog', 'cat'], 'templates': ['{}']}
        windows = SlidingWindows(112, 56, max_windows=2)
        return DirectSegmentor(encoder, head, windows, gatherer=SAMGatherer(sam), **options)

    return build


@torch.no_grad()
@pytest.mark.parametrize('grid, cells', [(7, 1), (14, 2)])
def test_patches_of_14_pixels_are_spliced_on_a_multiple_of_their_grid(patch_14, grid, cells):
    """DINO's grid of a window, of patches of 16 or 8 pixels, is no multiple of CLIP's 8x8."""
    generator = torch.Generator().manual_seed(grid)
    source = Fixed(torch.randn(1, 5, grid, grid, generator=generator))
    encoder = patch_14(ProxyLastBlock(source, keep_grid=True)).encoder
    image = fitted(network_input(smooth_image(90, 150, 1), 90), 14, 112)
    assert image.shape == (3, 112, 154)
    (outputs,) = last_block_outputs(encoder, [torch.stack([image[..., :112], image[..., 42:]])])
    assert outputs.shape[2:] == (grid, grid)
    outputs = F.interpolate(outputs, size=(8 * cells, 8 * cells), mode='bilinear')
    expected = twins.splice(outputs, [(0, 0), (0, 3 * cells)], (8 * cells, 11 * cells))
    found = splice(encoder, SlidingWindows(112, 56, max_windows=1), image)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


@torch.no_grad()
def test_images_together_are_as_each_alone(patch_14, segmentor, sam, monkeypatch):
    kept, encode = {}, sam.encode

    def encode_once(image):
        if image.tobytes() not in kept:
            kept[image.tobytes()] = encode(image)
        return kept[image.tobytes()]

    monkeypatch.setattr(sam, 'encode', encode_once)
    refinement = {'type': 'mmtagclip.SAMRefinement', 'min_area': 50, 'min_quality': -1e9}
    whole = patch_14(
        segmentor.encoder.last_block, label_processor=refinement, with_probabilities=True
    )
    sizes = (64, 96, 1), (98, 70, 2)
    together = whole.test_step(batch(*sizes))
    for size, one in zip(sizes, together, strict=True):
        (alone,) = whole.test_step(batch(size))
        assert torch.isfinite(one.probabilities.data).all()
        assert len(one.pred_sem_seg.data.unique()) == 2
        for key in ('pred_sem_seg', 'probabilities'):
            assert torch.equal(one.get(key).data, alone.get(key).data)


def test_the_mean_is_that_of_all_windows():
    batches = [torch.rand(n, 5, 3, 4, generator=torch.Generator().manual_seed(n)) for n in (2, 1)]
    found = mean_similarity([Affinity(one) for one in batches])
    unit = F.normalize(torch.cat(batches).flatten(2), dim=1)
    torch.testing.assert_close(found, (unit.transpose(1, 2) @ unit).mean())
    assert mean_similarity([Affinity(regions=torch.zeros(1, 4, 4))]) is None


@pytest.mark.parametrize(
    'size, expected',
    [
        ((336, 704), (336, 704)),
        ((336, 703), (336, 704)),
        ((336, 1313), (352, 1328)),
        ((100, 100), (336, 336)),
        ((320, 640), (336, 640)),  # of whole patches, but smaller than a window
    ],
)
def test_images_are_enlarged_to_whole_patches_and_a_window(size, expected):
    assert fitted(torch.zeros(3, *size), 16, 336).shape == (3, *expected)


@torch.no_grad()
def test_a_flat_image_has_finite_masks(segmentor):
    flat = np.full((60, 90, 3), 128, np.uint8)
    encoded = EncodedImage((60, 90), flat, None, network_input(flat), None, None)
    features = segmentor.gatherer(encoded, segmentor.encoder, segmentor.windows)
    assert torch.isfinite(features.patches).all()


@torch.no_grad()
def test_a_mirrored_image_is_gathered_where_it_belongs(segmentor):
    """The map is turned back before SAM, which sees the original as it is."""
    image = smooth_image(97, 203, 5)
    x = network_input(image)
    kinds = {}
    for flip, pixels in ((None, x), ('horizontal', x.flip(2))):
        encoded = EncodedImage((97, 203), image[:, :, ::-1], flip, pixels, None, None)
        kinds[flip] = segmentor._cosines(encoded, golden('text'))
    assert kinds[None].shape == kinds['horizontal'].shape
    same = F.cosine_similarity(kinds[None].flatten(), kinds['horizontal'].flatten(), dim=0)
    turned = F.cosine_similarity(
        kinds[None].flatten(), kinds['horizontal'].flip(2).flatten(), dim=0
    )
    assert same > turned


def test_kept_features_give_the_same_masks(segmentor):
    image = smooth_image(64, 96, 2)
    x = network_input(image)
    encoded = segmentor.encode(x, image[:, :, ::-1])
    calls = []
    handle = segmentor.gatherer.register_forward_hook(lambda *_: calls.append(1))
    first = segmentor.masks(encoded)
    again = segmentor.masks(encoded, tags=None, background_level=0.5)
    handle.remove()
    assert not calls
    assert first.pred_sem_seg.shape == again.pred_sem_seg.shape == (64, 96)


def test_equal_halves_of_an_even_map_are_the_published_ones(sam, monkeypatch):
    parts = []

    def gather(self, spliced, image):
        parts.append((spliced.shape[2], image.shape[1]))
        return spliced

    monkeypatch.setattr(SAMGatherer, 'gather', gather)
    monkeypatch.setattr(sam, 'encode', lambda image: image)
    image, spliced = np.zeros((64, 128, 3), np.uint8), torch.rand(8, 4, 12)
    for halves in ('equal', 'published'):
        assert torch.equal(SAMGatherer(sam, halves=halves).gather_halves(spliced, image), spliced)
        SAMGatherer(sam, halves=halves).gather_halves(spliced[:, :, :11], image)
    assert parts[:6] == [(6, 64)] * 6
    assert parts[6:] == [(5, 64), (6, 64)]


def test_what_can_not_be_spliced_is_refused(segmentor, sam):
    with pytest.raises(ValueError, match="halves must be None, 'equal' or 'published'"):
        SAMGatherer(sam, halves='half')
    with pytest.raises(ValueError, match='both must be multiples of the patch size 16'):
        splice(segmentor.encoder, SlidingWindows(336, 100), torch.zeros(3, 336, 336))
    for change in (
        {'windows': None},
        {'windows': SlidingWindows(336, 224, pad_to=56)},
        {'views': {'type': 'mmtagclip.ImageViews'}},
    ):
        options = {'windows': segmentor.windows, **change}
        with pytest.raises(ValueError, match='a gatherer splices sliding windows'):
            DirectSegmentor(segmentor.encoder, segmentor.head, gatherer=SAMGatherer(sam), **options)
    with pytest.raises(ValueError, match='a SAMRefinement without a gatherer needs a SAM'):
        DirectSegmentor(
            segmentor.encoder, segmentor.head, label_processor={'type': 'mmtagclip.SAMRefinement'}
        )


def masks_of(name):
    arguments, options = PLANES[name]
    planes = torch.from_numpy(soft_planes(*arguments))
    masks = Masks(planes.argmax(dim=0), planes, list(range(len(planes))))
    image = smooth_image(*arguments[1:3], 5)[:, :, ::-1]
    return masks, EncodedImage(arguments[1:3], image, None, None, None, None), options


@torch.no_grad()
@pytest.mark.parametrize('name', PLANES)
def test_published_refinement(sam, name):
    masks, encoded, options = masks_of(name)
    refinement = SAMRefinement(
        sam, **options, min_quality=0.37, patch_size=16, published_prompt=True
    )
    prompts = list(refinement.prompts(masks))
    for key in ('boxes', 'points'):
        found = [[one.label, *row] for one in prompts for row in getattr(one, key).tolist()]
        assert np.array_equal(found, REFINED[f'{name}/{key}'])
    found = torch.stack([one.mask[::8, ::8] for one in prompts])
    torch.testing.assert_close(found, golden(f'{name}/prompt_masks', REFINED), atol=1e-6, rtol=0)

    seen = sam.encode(whole_patches(encoded.original, 16))
    features = sam.features(seen)
    expected = golden(f'{name}/image_features', REFINED)
    torch.testing.assert_close(features[0, :, ::9, ::9], expected, atol=1e-5, rtol=0)
    half = masks.labels.shape[0] // 2, masks.labels.shape[1] // 2
    asked = []
    hook = sam.prompt_encoder.register_forward_pre_hook(
        lambda module, args, given: asked.append((given['boxes'], given['points'][0][:, 0])),
        with_kwargs=True,
    )
    answers = [one for ask in prompts for one in refinement.answers(ask, half, features)]
    hook.remove()
    for key, found in zip(('boxes', 'points'), zip(*asked, strict=True), strict=True):
        expected = golden(f'{name}/prompt_{key}', REFINED)
        assert torch.equal(torch.cat(found).flatten(), expected.flatten())
    logits, quality = (torch.cat(one) for one in zip(*answers, strict=True))
    expected = golden(f'{name}/low_res', REFINED)
    # Rounding alone, of another order of the sums, makes 7e-6 to 1.5e-5.
    torch.testing.assert_close(logits[:, ::16, ::16], expected, atol=3e-5, rtol=0)
    torch.testing.assert_close(quality, golden(f'{name}/scores', REFINED), atol=2e-6, rtol=0)

    sane = SAMRefinement(sam, **options)
    ((logits, _), *_) = sane.answers(prompts[0], half, features)
    expected = golden(f'{name}/low_res_batched0', REFINED)
    torch.testing.assert_close(logits[:, ::16, ::16], expected, atol=3e-5, rtol=0)

    expected = golden(f'{name}/planes', REFINED)
    scores = dict(refinement.scores(masks, prompts, seen))
    for label, plane in enumerate(masks.planes):
        found = scores.get(label, torch.zeros_like(plane))[::5, ::5]
        # The step of the released code that brings dropped components back changes no label.
        ours = (found - expected[label]).abs() < 3e-5
        back = (plane[::5, ::5] - expected[label]).abs() < 3e-5
        assert (ours | back).all()
        assert ours[found > 0].float().mean() > 0.5 or not (found > 0).any()
    assert np.array_equal(refinement(masks, encoded).numpy(), REFINED[f'{name}/labels'])


@torch.no_grad()
def test_where_sam_draws_nothing_labels_stay(sam):
    masks, encoded, options = masks_of('118x203')
    before = masks.labels.clone()
    for quiet in (
        SAMRefinement(sam, **options, min_quality=1e9),
        SAMRefinement(sam, coarse=1.0),
        SAMRefinement(sam, min_area=10**9),
    ):
        assert torch.equal(quiet(masks, encoded), before)
    nothing = Masks(torch.full((1, 9), 255), torch.zeros(0, 1, 9), [])
    assert torch.equal(SAMRefinement(sam)(nothing, encoded), nothing.labels)
    assert torch.equal(masks.labels, before)


def test_components_of_a_label_are_told_apart(sam):
    planes = torch.zeros(2, 40, 80)
    planes[0] = 0.4
    planes[1, 4:20, 4:24] = 0.9
    planes[1, 8, 12] = 0.95  # resized away in part, and still the highest
    planes[1, 20:30, 24:40] = 0.8  # touches the other at a corner
    planes[1, 4:20, 60:80] = 0.7
    masks = Masks(planes.argmax(dim=0), planes, [3, 8])
    refinement = SAMRefinement(sam, coarse=0.5, min_area=4)
    masks.labels = torch.where(masks.labels == 1, 8, 255)
    (one,) = refinement.prompts(masks)
    assert one.label == 8
    assert one.boxes.tolist() == [[2, 2, 19, 14], [30, 2, 39, 9]]
    assert one.points.tolist() == [[6, 4], [30, 2]]
    assert one.mask.shape == (256, 256)
    assert one.mask[128:].abs().max() == 0
    assert one.mask.max() <= 0.005 * 0.95


def test_refinement_refuses_nonsense(sam):
    for bad in ({'coarse': 1.5}, {'min_area': -1}, {'patch_size': 0}):
        with pytest.raises(ValueError, match='SAMRefinement needs coarse in'):
            SAMRefinement(sam, **bad)
    masks, encoded, options = masks_of('118x203')
    with pytest.raises(ValueError, match='this SAMRefinement has no SAM'):
        SAMRefinement(**options)(masks, encoded)


def test_the_whole_segmentor_encodes_for_sam_once(segmentor, monkeypatch):
    whole = DirectSegmentor(
        segmentor.encoder,
        segmentor.head,
        windows=segmentor.windows,
        gatherer=segmentor.gatherer,
        label_processor={'type': 'mmtagclip.SAMRefinement', 'coarse': 0.0, 'min_area': 1},
    )
    assert whole.label_processor.sam is segmentor.gatherer.sam
    assert whole.label_processor.patch_size == 16
    assert whole.needs_original
    calls = []
    real = whole.gatherer.sam.encode
    monkeypatch.setattr(whole.gatherer.sam, 'encode', lambda one: calls.append(1) or real(one))
    image = smooth_image(64, 96, 2)
    encoded = whole.encode(network_input(image), image[:, :, ::-1])
    sample = whole.masks(encoded)
    assert calls == [1]
    assert sample.pred_sem_seg.shape == (64, 96)
    sample = whole.masks(encoded)
    assert calls == [1]
