"""The hook that draws tags during a test."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.visualization import Visualizer
from mmpretrain.structures import DataSample

from mmtagclip.engine import TagVisualizationHook


@pytest.fixture
def drawn(monkeypatch):
    """What the visualizer is given: its arguments."""
    calls = []
    visualizer = SimpleNamespace(
        add_datasample=lambda *args, **kwargs: calls.append((args, kwargs))
    )
    monkeypatch.setattr(Visualizer, 'get_current_instance', lambda: visualizer)
    monkeypatch.setattr(
        'mmtagclip.engine.tag_visualization.read_image', lambda path: np.array(path)
    )
    return calls


def run(hook, model):
    """A test of two batches of three images; the fourth could not be read."""
    runner = SimpleNamespace(model=model)
    hook.before_test_epoch(runner)
    during = getattr(model, 'with_score_maps', None)
    for start in (0, 3):
        samples = [
            DataSample(metainfo={'img_path': f'images/{number}.jpg'})
            for number in range(start, start + 3)
        ]
        if start:
            samples[0].set_metainfo({'load_error': 'damaged'})
        hook.after_test_iter(runner, start // 3, outputs=samples)
    hook.after_test_epoch(runner)
    return during


def test_every_so_many_images_of_all_batches_are_drawn(drawn):
    model = SimpleNamespace(with_score_maps=False)
    hook = TagVisualizationHook(draw=True, interval=2, show=True, wait_time=0.5)
    for _ in range(2):  # a second test counts from 0 again
        assert run(hook, model) is True
        assert model.with_score_maps is False
        assert [(args[0], str(args[1]), kwargs['step']) for args, kwargs in drawn] == [
            (f'{number}', f'images/{number}.jpg', number) for number in (0, 2, 4)
        ]
        assert all(kwargs['show'] and kwargs['wait_time'] == 0.5 for _, kwargs in drawn)
        drawn.clear()


def test_by_default_all_are_drawn_that_could_be_read(drawn):
    run(TagVisualizationHook(draw=True), SimpleNamespace())
    assert [kwargs['step'] for _, kwargs in drawn] == [0, 1, 2, 4, 5]
    assert not any(kwargs['show'] or kwargs['wait_time'] for _, kwargs in drawn)


def test_nothing_is_drawn_unless_asked(drawn):
    model = SimpleNamespace(with_score_maps=False)
    assert run(TagVisualizationHook(), model) is False
    assert not drawn


def test_an_interval_below_1_is_refused():
    with pytest.raises(ValueError, match='interval must be at least 1, not 0'):
        TagVisualizationHook(interval=0)
