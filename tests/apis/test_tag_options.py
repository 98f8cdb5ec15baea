"""min_score, top and all_scores of a call, and the floor that a call has by default."""

import numpy as np
import pytest

from mmtagclip.apis import Analysis, list_images
from mmtagclip.apis.folder_run import FolderRun
from tests.apis.conftest import SCENES

BLACK = np.zeros((96, 128, 3), np.uint8)
SCENE = SCENES / '000040.jpg'


def only(results):
    (result,) = results
    return result


def test_a_black_image_has_no_tag_unless_the_floor_is_taken_away(demo_tagger):
    result = only(demo_tagger(BLACK))
    assert result.tags == {}
    assert result.to_dict() == {'image': 'image-0', 'tags': [], 'scores': [], 'size': [96, 128]}
    assert result.rule.min_score == demo_tagger.model.noise_level() == 0.25 / 60
    anything = only(demo_tagger(BLACK, min_score=0))
    assert len(anything.tags) >= 1
    assert max(anything.tags.values()) < 0.25 / 60
    assert np.array_equal(anything.scores, result.scores)
    # The model itself, as tools/test.py runs it, has no floor.
    assert demo_tagger.model.rule.min_score == 0
    few = only(demo_tagger(BLACK, classes=['bell', 'train'], background=['wall', 'sky']))
    assert few.rule.min_score == 0.25 / 4
    steps = Analysis(demo_tagger, BLACK).stages()
    assert steps['DMAR'].tags == steps['CWR'].tags == {}


def test_min_score_and_top(demo_tagger):
    scores = only(demo_tagger(SCENE)).tags
    names, values = list(scores), list(scores.values())
    assert len(names) == 3
    assert only(demo_tagger(SCENE, min_score=values[1])).tags == dict(list(scores.items())[:2])
    assert only(demo_tagger(SCENE, top=1)).tags == {names[0]: values[0]}
    assert only(demo_tagger(SCENE, min_score=0.99)).tags == {}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'min_score': 2}, r'min_score must be in \[0, 1\], not 2'),
        ({'top': 0}, 'top must be at least 1, not 0'),
    ],
)
def test_bad_options(demo_tagger, demo_segmentor, options, message):
    for inferencer in (demo_tagger, demo_segmentor):
        with pytest.raises(ValueError, match=message):
            inferencer(SCENE, **options)


def test_a_head_s_own_floor_counts(demo_tagger, monkeypatch):
    monkeypatch.setattr(demo_tagger.model.head, 'min_score', 0.0)
    assert only(demo_tagger(BLACK)).tags != {}
    monkeypatch.setattr(demo_tagger.model.head, 'min_score', 0.7)
    monkeypatch.setattr(demo_tagger.model.head, 'top', 1)
    assert list(only(demo_tagger(SCENE)).tags) == ['bell']
    assert len(only(demo_tagger(SCENE, min_score=0.0, top=9)).tags) == 3


def test_all_scores(demo_tagger, demo_segmentor, tmp_path):
    tags = only(demo_tagger(SCENE, all_scores=True, out_dir=tmp_path))
    assert tags.to_dict()['class_scores'] == dict(
        zip(tags.classes, tags.scores.tolist(), strict=True)
    )
    assert '"class_scores"' in (tmp_path / 'pred' / '000040.json').read_text()
    masks = only(demo_segmentor(SCENE, all_scores=True))
    assert masks.class_scores == pytest.approx(tags.record.class_scores, abs=1e-5)
    assert masks.to_dict()['class_scores'] == masks.class_scores
    for inferencer in (demo_tagger, demo_segmentor):
        assert only(inferencer(SCENE)).record.class_scores is None


def test_masks_of_a_black_image_are_background(demo_segmentor):
    result = only(demo_segmentor(BLACK))
    assert result.tags == {}
    assert result.shares == {'background': 1.0}
    assert len(only(demo_segmentor(BLACK, min_score=0)).tags) >= 1
    assert len(only(demo_segmentor(SCENE, top=1)).tags) == 1


def test_thresholds_of_single_classes(demo_tagger, demo_segmentor, tmp_path, monkeypatch):
    path = tmp_path / 'thresholds.csv'
    path.write_text('tag,absolute,relative\nbell,1,\npizza,0,\n')
    for inferencer in (demo_tagger, demo_segmentor):
        assert set(only(inferencer(SCENE, thresholds=path)).tags) == {'octopus', 'train', 'pizza'}
        with pytest.raises(ValueError, match=r"thresholds\.csv: a threshold for 'pizza', which"):
            inferencer(SCENE, classes=['bell', 'train'], thresholds=path)
    result = only(demo_tagger(SCENE)).with_rule(thresholds={'bell': 1})
    assert set(result.tags) == {'octopus', 'train'}
    assert set(result.with_rule(top=1).tags) == {'octopus'}
    # An option of the config, for tests and pseudo labels; other names of a call are refused.
    monkeypatch.setattr(demo_tagger.model, 'thresholds', {'bell': {'absolute': 1.0}})
    assert set(only(demo_tagger(SCENE)).tags) == {'octopus', 'train'}
    with pytest.raises(ValueError, match="a threshold for 'bell', which is none of the 1 classes"):
        demo_tagger(SCENE, classes=['train'])


def test_a_run_over_a_folder_counts_thresholds_by_their_content(demo_tagger, tmp_path):
    path = tmp_path / 'thresholds.csv'
    path.write_text('tag,absolute\nbell,1\n')
    options = {'classes': ['bell', 'octopus', 'zebra'], 'thresholds': path}
    run = FolderRun(demo_tagger, list_images(SCENE), tmp_path / 'run', 1, options)
    run.run()
    assert run.records()[0]['tags'] == ['octopus']
    path.write_text('tag,absolute\nbell,0\n')
    with pytest.raises(ValueError, match=r'thresholds\.bell\.absolute was 1\.0, now it is 0'):
        FolderRun(demo_tagger, list_images(SCENE), tmp_path / 'run', 1, options)
