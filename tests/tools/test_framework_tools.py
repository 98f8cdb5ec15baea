"""The framework's own tools, TTA, visualisers and inferencers on data sets of pseudo labels."""

import json
from pathlib import Path

import mmpretrain
import mmseg
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope, init_default_scope
from PIL import Image

from mmtagclip.compat import installed_versions
from tests.conftest import picture
from tests.processes import ROOT, run_fresh, run_script


def tool(package, path, *arguments):
    """In a process of its own, which has not imported this package before it reads the config."""
    process = run_fresh(
        Path(package.__file__).parent / '.mim/tools' / path,
        *arguments,
        quiet=False,  # it imports the frameworks before it reads a config of ours
    )
    assert process.returncode == 0, process.stderr


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(
    'mmsegmentation' in installed_versions(),
    reason=(
        "the official MMSegmentation's browse_dataset.py hands OpenCV an array that it refuses"
    ),
)
def test_browse_masks(segmentor, tmp_path):
    tool(
        mmseg,
        'analysis_tools/browse_dataset.py',
        segmentor,
        '--output-dir',
        tmp_path / 'drawn',
        '--not-show',
    )
    assert names(tmp_path / 'drawn') == [f'{i}.png' for i in range(6)]
    # Mask 1 is the first class throughout: a wash of its colour lies over picture 1.
    drawn = np.array(Image.open(tmp_path / 'drawn/1.png')).astype(int)
    assert np.abs(drawn - picture(64, 64, 1)).mean() > 5


def test_browse_tags(classifier, tmp_path):
    tool(
        mmpretrain,
        'visualization/browse_dataset.py',
        classifier,
        '--output-dir',
        tmp_path / 'drawn',
        '--not-show',
        '--mode',
        'original',
    )
    assert len(names(tmp_path / 'drawn')) == 4  # two of the six have no tags


def test_tta_and_drawings_while_testing(segmentor, tmp_path):
    process = run_script(
        ROOT / 'tools/test.py',
        segmentor,
        '--tta',
        '--work-dir',
        tmp_path / 'work',
        '--out',
        tmp_path / 'metrics.json',
    )
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / 'metrics.json').read_text())['mIoU'] >= 0
    process = run_script(
        ROOT / 'tools/test.py',
        segmentor,
        '--work-dir',
        tmp_path / 'work',
        '--show-dir',
        tmp_path / 'drawn',
        '--cfg-options',
        'default_hooks.visualization.type=SegVisualizationHook',
    )
    assert process.returncode == 0, process.stderr
    assert len(list((tmp_path / 'drawn').rglob('*.png'))) == 6


@pytest.fixture
def scope():
    """Leave the default scope as it was: inferencers change it."""
    before = DefaultScope.get_current_instance()
    yield
    init_default_scope(before.scope_name if before else 'mmengine')


def test_inferencer_of_a_segmentor(segmentor, scope):
    from mmseg.apis import MMSegInferencer

    inferencer = MMSegInferencer(
        Config.fromfile(segmentor),
        classes=['background', 'dog', 'cat'],
        palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0]],
        device='cpu',
    )
    result = inferencer(picture(64, 96, 0))['predictions']
    assert result.shape == (64, 96)


def test_inferencer_of_a_classifier(classifier, scope):
    from mmpretrain import ImageClassificationInferencer

    init_default_scope('mmpretrain')
    config = Config.fromfile(classifier)
    config.test_dataloader = config.train_dataloader
    inferencer = ImageClassificationInferencer(config, classes=['dog', 'cat'], device='cpu')
    (result,) = inferencer(picture(64, 96, 0))
    assert result['pred_class'] in {'dog', 'cat'}
