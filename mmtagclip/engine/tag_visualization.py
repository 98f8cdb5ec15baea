"""Draw tags while a test runs."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.visualization import Visualizer
from mmpretrain.structures import DataSample

from ..images import read_image
from ..registry import HOOKS


@HOOKS.register_module()
class TagVisualizationHook(Hook):
    """Give the tagged images of a test to the visualizer, with a heat map for each tag.

    Images that could not be read are left out. Of several processes only the
    first draws, the images that it tags.

    Args:
        draw: Whether to draw at all; ``tools/test.py --show-dir`` turns it on.
        interval: Draw every so many images.
        show: Whether to open a window for each.
        wait_time: Seconds until it closes; 0 for a key press.

    Raises:
        ValueError: ``interval`` below 1.
    """

    def __init__(
        self, draw: bool = False, interval: int = 1, show: bool = False, wait_time: float = 0
    ) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, not {interval}')
        self.draw = draw
        self.interval = interval
        self.show = show
        self.wait_time = wait_time
        self._index = 0
        self._maps_before: bool | None = None

    def before_test_epoch(self, runner: Any) -> None:
        """Let the model keep its score maps."""
        self._index = 0
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self.draw and hasattr(model, 'with_score_maps'):
            self._maps_before, model.with_score_maps = model.with_score_maps, True

    def after_test_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[DataSample] | None = None,
    ) -> None:
        """Draw the images of a batch."""
        if not self.draw:
            return
        visualizer = Visualizer.get_current_instance()
        for sample in outputs or ():
            index, self._index = self._index, self._index + 1
            if index % self.interval or sample.get('load_error') is not None:
                continue
            image = read_image(sample.img_path)
            visualizer.add_datasample(
                Path(sample.img_path).stem,
                image,
                sample,
                show=self.show,
                wait_time=self.wait_time,
                step=index,
            )

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Leave the model as it was."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if self._maps_before is not None:
            model.with_score_maps, self._maps_before = self._maps_before, None
