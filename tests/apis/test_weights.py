"""A fitted classifier's checkpoint, given to inferencers and to the command line."""

import json
import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from mmtagclip import cli
from mmtagclip.apis import SegInferencer, TagInferencer
from mmtagclip.apis.model_zoo import find_config, load_config
from mmtagclip.registry import MODELS
from tests.apis.conftest import ROOT, SCENES
from tests.framework_way import framework_way
from tests.processes import run_fresh, run_script

SCENE = SCENES / '000040.jpg'


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """The demo's classifier, as tools/train.py fits it."""
    folder = tmp_path_factory.mktemp('fitted')
    process = run_script(
        ROOT / 'tools/train.py',
        ROOT / 'configs/demo/piaa_demo.py',
        '--work-dir',
        folder,
        '--cfg-options',
        'train_dataloader.num_workers=0',
        'train_dataloader.dataset.indices=60',
    )
    assert process.returncode == 0, process.stderr
    return folder / 'piaa.pth'


@pytest.fixture(scope='module')
def refitted(weights, tmp_path_factory):
    """Another one for the same names and encoder."""
    content = torch.load(weights, weights_only=True)
    content['state_dict']['head.scorer.bias'] += (
        torch.arange(len(content['state_dict']['head.scorer.bias'])) % 7
    )
    path = tmp_path_factory.mktemp('refitted') / 'piaa.pth'
    torch.save(content, path)
    return path


@pytest.mark.parametrize('name', ['piaa_demo', 'piaa-dmar-cwr_demo'])
def test_scores_are_those_of_the_framework_s_way(weights, name):
    (result,) = TagInferencer(name, weights, show_progress=False)(SCENE)
    config = Config.fromfile(find_config(name))
    model = MODELS.build(config.model)
    load_checkpoint(model, str(weights))
    sample = framework_way(config, model, SCENE)
    assert np.array_equal(result.scores, sample.pred_score.numpy())
    assert sorted(result.tags) == sorted(sample.tags)


def test_a_built_model_and_a_segmentor_s_tagger(weights):
    head = load_config('piaa_demo').model.head
    for name in ('cls-seg_demo', 'tag-guided_demo'):
        config = load_config(name)
        config.model.tagger.head = head  # whose templates are the same
        segmentor = SegInferencer(config, weights=str(weights), show_progress=False)
        tagger = TagInferencer(segmentor.model.tagger, show_progress=False)
        expected = TagInferencer('piaa_demo', weights, show_progress=False)(SCENE)[0]
        assert np.array_equal(tagger(SCENE)[0].scores, expected.scores)
        assert set(segmentor(SCENE)[0].tags) == set(expected.tags)
    built = MODELS.build(load_config('piaa_demo').model)
    built = TagInferencer(built, weights, show_progress=False)
    assert np.array_equal(built(SCENE)[0].scores, expected.scores)


def test_names_at_the_call_are_those_of_the_checkpoint(weights):
    inferencer = TagInferencer('piaa_demo', weights, show_progress=False)
    own = str(ROOT / 'demo/data/classes.txt')
    assert inferencer(SCENE, classes=own)[0].to_dict() == inferencer(SCENE)[0].to_dict()
    with pytest.raises(
        ValueError,
        match=r'fitted for other class names: it has .* names\), asked '
        r"for are 'zebra' \(\d+ names\); fit one for these",
    ):
        inferencer.stream(SCENE, classes=['bell', 'zebra'])
    other = load_config('piaa_demo', {'model.classes': ['bell', 'zebra']})
    with pytest.raises(
        ValueError,
        match=r'piaa\.pth: the checkpoint was fitted for other class '
        r"names: it has .*, the model has 'zebra' ",
    ):
        TagInferencer(other, weights)


def test_what_is_refused(weights, tmp_path):
    other = load_config('piaa_demo', {'model.encoder.positions': 'bicubic'})
    with pytest.raises(
        ValueError,
        match=r'piaa\.pth: the checkpoint was fitted for another '
        'encoder: .*bilinear positions.*bicubic positions',
    ):
        TagInferencer(other, weights)
    with pytest.raises(
        ValueError,
        match=r'piaa\.pth: it holds no calibration of mmtagclip calibrate, and this model takes '
        'no other fitted part',
    ):
        TagInferencer('tagclip_demo', weights)
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*none\.pth'):
        TagInferencer('piaa_demo', tmp_path / 'none.pth')
    unfitted = TagInferencer('piaa_demo', show_progress=False)
    with pytest.raises(
        ValueError,
        match=r'not fitted: .* weights= of an inferencer, or with '
        '--weights',
    ):
        unfitted.stream(SCENE)


def test_as_a_process(weights, tmp_path, capsys):
    words = ['tag', str(SCENE), '--model', 'piaa_demo', '--quiet', '--weights', str(weights)]
    out = tmp_path / 'tags.jsonl'
    (tmp_path / 'start.py').write_text(
        'from mmtagclip.cli import main\n\nraise SystemExit(main())\n'
    )
    process = run_fresh(tmp_path / 'start.py', *words, '--out', out)
    assert process.returncode == 0, process.stderr
    (expected,) = TagInferencer('piaa_demo', weights, show_progress=False)(SCENE)
    record = json.loads(out.read_text())
    # The last digits depend on the number of threads.
    assert record.pop('scores') == pytest.approx(expected.to_dict()['scores'], abs=1e-6)
    assert record == {key: value for key, value in expected.to_dict().items() if key != 'scores'}
    assert cli.main([*words, '--classes', 'bell,zebra']) == 2
    assert "asked for are 'zebra' (12 names)" in capsys.readouterr().err


def test_a_run_goes_on_with_the_same_weights_only(
    weights, refitted, photos, tmp_path, capsys, monkeypatch
):
    out, unfinished = tmp_path / 'tags.jsonl', tmp_path / 'tags.jsonl.unfinished'
    moved = tmp_path / 'moved.pth'
    shutil.copy(weights, moved)

    def tag(*more):
        return cli.main(
            [
                str(word)
                for word in (
                    'tag',
                    photos,
                    '--model',
                    'piaa_demo',
                    '--quiet',
                    '--on-error',
                    'raise',
                    '--out',
                    out,
                    *more,
                )
            ]
        )

    assert tag() == 2  # refused before anything is written
    assert 'the classifier is not fitted' in capsys.readouterr().err
    assert not unfinished.exists()
    picture = (photos / 'more/c.jpg').read_bytes()
    (photos / 'more/c.jpg').write_bytes(b'')
    assert tag('--weights', weights) == 2
    assert unfinished.is_dir()
    (photos / 'more/c.jpg').write_bytes(picture)
    capsys.readouterr()
    assert tag('--weights', refitted) == 2
    assert 'was begun by another job' in capsys.readouterr().err
    assert tag('--weights', moved) == 0  # the same content
    results = TagInferencer('piaa_demo', weights, show_progress=False)(photos)
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        result.to_dict() for result in results
    ]
    assert tag('--weights', refitted, '--overwrite') == 0
    others = [json.loads(line) for line in out.read_text().splitlines()]
    assert others != [result.to_dict() for result in results]
