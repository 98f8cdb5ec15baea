"""Drawings through mmengine's visualizers and the tools."""

import io

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from PIL import Image

from mmtagclip.registry import VISUALIZERS
from mmtagclip.visualization import MaskVisualizer, TagVisualizer, draw_masks, draw_tags
from tests.conftest import picture
from tests.processes import ROOT, run_script


def tagged():
    sample = DataSample().set_pred_score(torch.tensor([0.1, 0.8, 0.4]))
    sample.set_pred_label(torch.tensor([1, 2]))
    sample.set_field(['dog', 'cat'], 'tags')
    sample.set_field(torch.rand(3, 4, 6), 'score_maps')
    return sample


def test_tags_are_drawn_and_given_to_the_backends(tmp_path):
    visualizer = VISUALIZERS.build(
        {
            'type': 'mmtagclip.TagVisualizer',
            'name': 'tags-of-a-test',
            'save_dir': str(tmp_path),
            'vis_backends': [{'type': 'LocalVisBackend'}],
        }
    )
    assert isinstance(visualizer, TagVisualizer)
    image, sample = picture(64, 96, 1), tagged()
    drawn = visualizer.add_datasample('scene', image, sample, step=7)
    expected = draw_tags(
        image, sample.tags, sample.pred_score[[1, 2]].tolist(), sample.score_maps[[1, 2]].numpy()
    )
    assert np.array_equal(drawn, expected)
    (written,) = tmp_path.rglob('scene_7.png')
    with Image.open(written) as file:
        assert np.array_equal(np.asarray(file), expected)
    visualizer.add_datasample('scene', image, sample, out_file=str(tmp_path / 'alone.png'))
    assert (tmp_path / 'alone.png').is_file()


def test_tensorboard_gets_the_figure(tmp_path):
    accumulator = pytest.importorskip(
        'tensorboard.backend.event_processing.event_accumulator',
        reason='tensorboard is not installed',
    )
    visualizer = VISUALIZERS.build(
        {
            'type': 'mmtagclip.TagVisualizer',
            'name': 'tags-for-tensorboard',
            'save_dir': str(tmp_path),
            'vis_backends': [{'type': 'TensorboardVisBackend'}],
        }
    )
    drawn = visualizer.add_datasample('scene', picture(64, 96, 1), tagged(), step=7)
    visualizer.close()
    events = accumulator.EventAccumulator(str(next(tmp_path.rglob('events.*')).parent))
    events.Reload()
    assert events.Tags()['images'] == ['scene']
    (written,) = events.Images('scene')
    assert written.step == 7
    with Image.open(io.BytesIO(written.encoded_image_string)) as file:
        assert np.array_equal(np.asarray(file), drawn)


def test_masks_are_drawn_below_the_truth():
    visualizer = MaskVisualizer(name='masks')
    visualizer.dataset_meta = {'classes': ('background', 'dog'), 'palette': [[0] * 3, [255, 0, 0]]}
    image, mask = picture(30, 60, 1), torch.zeros(1, 30, 60, dtype=torch.long)
    mask[:, 10:20, 10:20] = 1
    sample = SegDataSample()
    sample.pred_sem_seg = PixelData(data=mask)
    drawn = visualizer.add_datasample('a', image, sample)
    expected = draw_masks(
        image, mask[0].numpy(), ['background', 'dog'], [[0] * 3, [255, 0, 0]], background=0
    )
    assert np.array_equal(drawn, expected)
    sample.gt_sem_seg = PixelData(data=torch.zeros_like(mask))
    both = visualizer.add_datasample('a', image, sample)
    below = draw_masks(
        image,
        mask[0].numpy(),
        visualizer.dataset_meta['classes'],
        visualizer.dataset_meta['palette'],
        background=0,
        title='prediction',
    )
    assert np.array_equal(both[-below.shape[0] :], below)
    mask = mask.transpose(1, 2)
    sample = SegDataSample()
    sample.pred_sem_seg, sample.gt_sem_seg = PixelData(data=mask), PixelData(data=mask)
    tall = visualizer.add_datasample('a', picture(60, 30, 1), sample)
    assert tall.shape[1] > 1000 > tall.shape[0] - 100  # beside each other


def test_show_dir_of_the_tagger(tmp_path):
    scenes = tmp_path / 'scenes.txt'
    scenes.write_text('000001\n000040\n')
    process = run_script(
        ROOT / 'tools' / 'test.py',
        ROOT / 'configs/demo/tagclip_demo.py',
        '--work-dir',
        tmp_path / 'work',
        '--show-dir',
        tmp_path / 'drawn',
        '--cfg-options',
        f'test_dataloader.dataset.image_set_path={scenes}',
        'test_dataloader.num_workers=0',
    )
    assert process.returncode == 0, process.stderr
    drawn = sorted((tmp_path / 'drawn').rglob('*.png'))
    assert [path.name for path in drawn] == ['000001_0.png', '000040_1.png']
    with Image.open(drawn[1]) as file:
        assert file.width == 1200  # with heat maps
