"""Names that are chosen for each image, on the demo's tagger and as a command."""

import json

import numpy as np
import pytest
import torch

from mmtagclip.apis import TagInferencer
from mmtagclip.cli import main
from mmtagclip.clip import Vocabulary
from mmtagclip.models import AutoNames, CLIPEncoder
from mmtagclip.models.taggers import open_names
from tests.apis.conftest import ROOT, SCENES

SCENE = SCENES / '000040.jpg'  # a bell, an octopus and a train
LIST = str(ROOT / 'demo' / 'data' / 'classes.txt')


def only(results):
    (result,) = results
    return result


def test_names_nearest_to_the_class_token(demo_tagger):
    auto = AutoNames(LIST, count=10)
    names = demo_tagger.names_for(auto, [])
    result = only(demo_tagger(SCENE, classes=auto, background=[]))
    assert len(result.classes) == 10
    assert {'bell', 'octopus', 'train'} <= set(result.classes)
    # The same as with these names, given in their order.
    given = only(demo_tagger(SCENE, classes=list(result.classes), background=[]))
    assert np.array_equal(result.scores, given.scores)
    assert result.tags == given.tags
    assert result.rule.min_score == given.rule.min_score == 0.25 / 10
    # The order is that of the cosines with one prompt per name.
    encoder = demo_tagger.model.encoder
    text = encoder.encode_names(Vocabulary.load(LIST), ('a photo of a {}.',))
    token = torch.nn.functional.normalize(torch.randn(text.shape[1]), dim=0)
    assert names.nearest(token) == (-(text @ token)).argsort(stable=True)[:10].tolist()


def test_names_of_captions(demo_tagger, tmp_path, monkeypatch):
    path = tmp_path / 'captions.txt'
    path.write_text('a train and a bell\nbells\ntwo trains\na pizza\nnothing of it\n')
    monkeypatch.setattr(demo_tagger.model.encoder, 'text_cache', tmp_path / 'cache')
    auto = AutoNames(LIST, path)
    result = only(demo_tagger(SCENE, classes=auto))
    # All captions are among the ten nearest; "pizza" occurs once.
    assert set(result.classes) == {'bell', 'train'}
    assert set(result.tags) <= {'bell', 'train'}
    (cached,) = (tmp_path / 'cache' / 'captions').iterdir()
    monkeypatch.setattr(open_names, 'encode_text', None)  # which is not called again
    assert only(demo_tagger(SCENE, classes=auto)).scores.tolist() == result.scores.tolist()
    cached.write_bytes(b'damaged')
    with pytest.raises(TypeError):
        demo_tagger(SCENE, classes=auto)


def test_no_caption_holds_a_name(demo_tagger):
    result = only(demo_tagger(SCENE, classes=AutoNames(LIST, ('nothing of it',))))
    assert result.classes == ()
    assert result.to_dict()['tags'] == []


def test_names_that_the_tokenizer_reads_as_one(demo_tagger):
    names = Vocabulary.load(['Bell', 'train', 'bell', 'TRAIN', 'dog'])
    kept = open_names.distinct_names(names, demo_tagger.model.encoder)
    assert kept.names == ('Bell', 'train', 'dog')


def test_a_background_in_other_capitals_is_left_out(demo_tagger):
    auto = AutoNames(('Bell', 'Train', 'Octopus', 'Sand'), count=4)
    result = only(demo_tagger(SCENE, classes=auto, background=['sand', 'sky']))
    given = only(demo_tagger(SCENE, classes=list(result.classes), background=['sky']))
    assert np.array_equal(result.scores, given.scores)


def test_captions_are_cached_for_their_tokenizer(demo_tagger, tmp_path, monkeypatch):
    encoder, captions = demo_tagger.model.encoder, ('a train', 'two bells', 'sand')
    monkeypatch.setattr(encoder, 'text_cache', tmp_path)
    text = open_names.encode_captions(captions, encoder)
    whole = encoder.tokenizer
    assert whole(['a'], context_length=24).shape == (1, 24)

    def backwards(texts, context_length=77):  # with a length of its own
        return whole([one[::-1] for one in texts], context_length=context_length)

    monkeypatch.setattr(CLIPEncoder, 'tokenizer', property(lambda self: backwards))
    assert not torch.equal(open_names.encode_captions(captions, encoder), text)
    monkeypatch.setattr(encoder, 'text_cache', '/proc/nowhere')
    with pytest.warns(UserWarning, match='text features are not cached in /proc/nowhere'):
        open_names.encode_captions(captions, encoder)
    monkeypatch.setattr(
        open_names, 'encode_text', lambda clip, tokens: torch.full((len(tokens), 128), torch.nan)
    )
    with pytest.raises(ValueError, match='the text feature of a caption is not finite'):
        open_names.encode_captions(captions, encoder)


def test_command(tmp_path, capsys):
    out = tmp_path / 'tags.jsonl'
    command = ['tag', str(SCENE), '--model', 'tagclip_demo', '--quiet', '--out', str(out)]
    assert main([*command, '--classes', f'auto:{LIST}', '--names', '5', '--all-scores']) == 0
    record = json.loads(out.read_text())
    assert set(record['tags']) <= set(record['class_scores'])
    assert len(record['class_scores']) == 5
    empty = tmp_path / 'empty.txt'
    empty.write_text('')
    for options, message in [
        (['--names', '5'], '--names needs --classes auto'),
        (['--captions', 'x'], '--captions needs --classes auto'),
        (['--classes', 'auto', '--names', '0'], 'an image needs at least 1 name, not 0'),
        (['--classes', f'auto:{LIST}', '--captions', str(empty)], 'holds no caption'),
        (['--classes', 'auto:none.txt'], 'none.txt'),
        (['--classes', 'auto:coko'], 'did you mean coco'),
    ]:
        assert main([*command, *options, '--overwrite']) == 2
        assert message in capsys.readouterr().err


def test_what_is_refused(demo_tagger, demo_segmentor):
    auto = AutoNames(LIST)
    with pytest.raises(ValueError, match='by taggers only: name the classes of masks'):
        demo_segmentor(SCENE, classes=auto)
    with pytest.raises(ValueError, match='thresholds of single classes need a list of names'):
        demo_tagger(SCENE, classes=auto, thresholds={'bell': 0.5})
    piaa = TagInferencer('piaa_demo', show_progress=False)
    piaa.model.head.scorer.set(piaa.model.head.scorer.weight, piaa.model.head.scorer.bias)
    with pytest.raises(ValueError, match='this model was fitted for its own names'):
        piaa(SCENE, classes=auto)
