"""Whole models on other towers: what they take from them, and what is refused."""

import pytest
import torch
from safetensors.torch import save_file

from mmtagclip.apis import TagInferencer
from mmtagclip.clip import load_clip
from mmtagclip.models import (
    DMAR,
    CLIPEncoder,
    CLSSeg,
    DirectSegmentor,
    GaussianClassifier,
    PIAAHead,
    SegTextHead,
    TagCLIP,
    TagCLIPHead,
    WholeImage,
)
from tests.golden.towers import published, recipe
from tests.processes import ROOT

HALF = {'mean': (0.5, 0.5, 0.5), 'std': (0.25, 0.25, 0.25)}


@pytest.fixture(scope='module')
def encoder_for():
    """Makes the encoder of a kind, each once."""
    made = {}

    def make(kind, **options):
        if kind not in made:
            clip = (published if kind == 'dinotxt' else recipe).build_clip(kind)
            made[kind] = CLIPEncoder(clip, text_cache=False, **HALF, **options)
        return made[kind]

    return make


def tagger(encoder, **head):
    names = {'classes': ['dog', 'cat', 'bus'], 'background': ['sky'], 'templates': ['a {}']}
    return TagCLIP(encoder, TagCLIPHead(**head), **names)


ONE_OF_EACH = ['siglip', 'pe', 'eva02', 'vitamin', 'clipa', 'convnext', 'rn', 'dinotxt']


@pytest.mark.parametrize('kind', ONE_OF_EACH)
def test_taggers_and_direct_segmentors(encoder_for, kind):
    """Depth, sizes and normalisation come from the tower; text features from its text tower."""
    encoder = encoder_for(kind)
    has_blocks = bool(encoder.num_blocks)
    model = tagger(encoder, dmar=DMAR() if has_blocks else None)
    if has_blocks:
        assert model.head.dmar.layers == ((3,) if kind == 'dinotxt' else (1,))
    torch.testing.assert_close(model.data_preprocessor.mean.flatten(), torch.tensor(HALF['mean']))
    image = torch.randint(0, 255, (3, 3 * encoder.patch_size, 4 * encoder.patch_size))
    data = model.data_preprocessor({'inputs': [image.to(torch.uint8)]})
    (scores,) = model.score(data['inputs'])
    assert scores.score_maps.shape == (1, 3, 3, 4)
    head = SegTextHead(['dog', 'cat'], templates=['a {}'])
    segmentor = DirectSegmentor(encoder, head, WholeImage(cut=True))
    assert segmentor.windows.patch_size == encoder.patch_size
    cosines = segmentor.cosines(data['inputs'][0][None], segmentor.text)
    assert cosines.shape[2:] == (3, 4)


@pytest.mark.parametrize('kind', ONE_OF_EACH)
def test_piaa(encoder_for, kind):
    """Fitted to a few images, it tells the patches of a class from the others."""
    encoder = encoder_for(kind)
    names = {'classes': ['dog', 'cat', 'bus'], 'templates': ['a {}']}
    model = TagCLIP(encoder, PIAAHead(GaussianClassifier(bank_size=16)), **names)
    scorer, text = model.head.scorer, encoder.patch_text(model.text)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(6, 3, 4, 5, generator=generator)
    images = coarse.repeat_interleave(encoder.patch_size, 2)
    images = images.repeat_interleave(encoder.patch_size, 3)
    patches = encoder(images).patches.flatten(0, 1)
    labels = torch.arange(len(patches)) % 3
    # Random weights see no classes: move each patch towards one.
    apart = torch.nn.functional.normalize(text - text.mean(dim=0), dim=-1)
    patches = torch.nn.functional.normalize(patches + apart[labels], dim=-1)
    bank = scorer.bank(text)
    bank.add(patches)
    scorer.fit(bank)
    found = scorer.logits(patches).argmax(dim=-1)
    assert (found == labels).float().mean() > 0.9
    (scores,) = model.score(list(images[:1]))
    assert scores.score_maps.shape == (1, 3, 4, 5)
    torch.testing.assert_close(scores.scores.sum(), torch.tensor(1.0))
    assert scores.scores.std() > 1e-4


def test_a_fitted_classifier_is_of_its_tower(encoder_for):
    first, second = (
        TagCLIP(encoder_for(kind), PIAAHead(GaussianClassifier()), ['dog'], templates=['{}'])
        for kind in ('pe', 'eva02')
    )
    state = {key: value for key, value in first.state_dict().items() if 'scorer' in key}
    with pytest.raises(ValueError, match='fitted for another encoder'):
        second.load_state_dict(state)


def test_an_inferencer_reads_files(encoder_for):
    """The whole way, from a file to tags."""
    model = tagger(encoder_for('siglip'), dmar=DMAR())
    scene = ROOT / 'demo/data/JPEGImages/000040.jpg'
    (result,) = TagInferencer(model, show_progress=False, max_side=96)(scene, score_maps=True)
    assert result.score_maps.shape[0] == 3


def test_dmar_on_a_convolution_is_refused(encoder_for):
    with pytest.raises(ValueError, match=r'DMAR spreads .* is convolutional .* leave out dm'):
        tagger(encoder_for('convnext'), dmar=DMAR())


def test_layers_that_a_tower_does_not_have_are_refused(encoder_for):
    with pytest.raises(ValueError, match=r'needs the attention of layer 3, but .* layers 0 to 2'):
        tagger(encoder_for('siglip'), dmar=DMAR(layers=(3,)))
    with pytest.raises(ValueError, match=r'votes=4, but .* has only 3 layers'):
        tagger(encoder_for('siglip'), dmar=DMAR(votes=4))


def test_a_sigmoid_without_a_bias_is_refused(encoder_for):
    with pytest.raises(ValueError, match='no logit_bias'):
        tagger(encoder_for('siglip'), scoring='sigmoid')
    biased = CLIPEncoder(recipe.build_clip('siglip', sigmoid=True), text_cache=False, **HALF)
    assert biased.logit_bias == -10
    assert tagger(biased, scoring='sigmoid').noise_level() == 0


def test_gradient_cams_need_a_class_token(encoder_for):
    affinity = {'type': 'mmtagclip.AffinityRefinement'}
    with pytest.raises(ValueError, match=r'SoftmaxGradCAM .* pools by attention: set cam to Surg'):
        CLSSeg(tagger(encoder_for('siglip')), affinity, templates=['a {}'])
    surgery = {'type': 'mmtagclip.SurgeryCAM'}
    assert CLSSeg(tagger(encoder_for('siglip')), affinity, templates=['a {}'], cam=surgery)
    model = CLSSeg(tagger(encoder_for('eva02')), affinity, templates=['a {}'])
    assert model.affinity.layers == (1,)


def test_a_normalisation_that_nobody_knows_must_be_given():
    with pytest.raises(ValueError, match=r'normalisation .* is not known: set mean and std'):
        CLIPEncoder(recipe.build_clip('siglip'), text_cache=False)
    clip = recipe.build_clip('siglip')
    clip.visual.preprocess_cfg = HALF
    assert CLIPEncoder(clip, text_cache=False).std == HALF['std']


VISION = {'timm_model_name': 'vit_tiny_patch16_224', 'timm_pool': 'token', 'timm_proj': 'linear'}
SMALL = {
    'embed_dim': 32,
    'vision_cfg': {**VISION, 'image_size': 224},
    'text_cfg': {'context_length': 8, 'vocab_size': 49408, 'width': 32, 'heads': 1, 'layers': 1},
    'custom_text': True,
}


def test_weights_of_another_family_or_text_tower_are_refused(tmp_path):
    import open_clip

    built = {key: value for key, value in SMALL.items() if key != 'custom_text'}
    state = open_clip.CustomTextCLIP(**built).state_dict()
    path = tmp_path / 'weights.safetensors'
    save_file(state, path)
    assert load_clip(SMALL, checkpoint=path).mean is None  # timm's towers have several
    vision = {**SMALL['vision_cfg'], 'timm_model_name': 'eva02_tiny_patch14_224'}
    with pytest.raises(ValueError, match=r'weights of another architecture than CLIP .* lacks'):
        load_clip({**SMALL, 'vision_cfg': vision}, checkpoint=path)
    text = {**SMALL['text_cfg'], 'context_length': 9}
    message = r'text\.positional_embedding is \(8, 32\) instead of \(9,'
    with pytest.raises(ValueError, match=message):
        load_clip({**SMALL, 'text_cfg': text}, checkpoint=path)
