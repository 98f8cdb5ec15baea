"""mmengine's visualizer for tags: one figure per image, for any backend."""

# First: what is imported below imports MMPretrain, too, and has said its lines then.
from ..frameworks import pretrain  # noqa: F401

# isort: split
from typing import Any

import numpy as np
from mmengine.dist import master_only
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from mmpretrain.visualization import UniversalVisualizer

from ..files import write_image
from ..registry import VISUALIZERS
from .tag_figure import draw_tags


class FigureVisualizer(Visualizer):
    """Draw results, and show them, write them or pass them to the backends."""

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: BaseDataElement,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
        draw_gt: bool = True,
        draw_pred: bool = True,
        **kwargs: Any,
    ) -> np.ndarray:
        """Draw the result of one image.

        Args:
            name: Name of the figure.
            image: ``(H, W, 3)`` uint8 RGB.
            data_sample: The result.
            show: Whether to open a window.
            wait_time: Seconds until the window closes; 0 for a key press.
            out_file: File to write the figure to; if None, the backends get it.
            step: Step of the figure, for the backends.
            draw_gt: Whether to draw the ground truth, if it is known and supported.
            draw_pred: Whether to draw the prediction.
            **kwargs: Ignored; options of other visualizers.

        Returns:
            The figure, ``(H', W', 3)`` uint8 RGB.
        """
        drawn = self.draw(image, data_sample, draw_gt, draw_pred)
        self.set_image(drawn)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            write_image(out_file, drawn)
        else:
            self.add_image(name, drawn, step)
        return drawn

    def draw(
        self, image: np.ndarray, data_sample: Any, draw_gt: bool = True, draw_pred: bool = True
    ) -> np.ndarray:
        """The figure of one result."""
        raise NotImplementedError


@VISUALIZERS.register_module()
class TagVisualizer(FigureVisualizer, UniversalVisualizer):
    """The image with its tags: heat maps if there are score maps, and bars for the scores.

    Takes mmengine's arguments (``vis_backends``, ``save_dir``, ``name``).
    """

    def draw(
        self, image: np.ndarray, data_sample: Any, draw_gt: bool = True, draw_pred: bool = True
    ) -> np.ndarray:
        """The figure of a tagger's data sample; see :func:`draw_tags`."""
        labels = data_sample.pred_label.cpu()
        maps = data_sample.get('score_maps')
        return draw_tags(
            image,
            list(data_sample.tags),
            data_sample.pred_score.cpu()[labels].tolist(),
            None if maps is None else maps.cpu()[labels].numpy(),
        )
