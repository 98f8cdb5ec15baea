"""mmengine's visualizers for tags and masks: one figure per image, for any backend."""

from typing import Any

import numpy as np
from mmengine.dist import master_only
from mmengine.structures import BaseDataElement
from mmengine.visualization import Visualizer
from mmpretrain.visualization import UniversalVisualizer
from mmseg.visualization import SegLocalVisualizer

from ..files import write_image
from ..labels import labels_metainfo
from ..registry import VISUALIZERS
from .mask_figure import draw_masks
from .tag_figure import draw_tags


class _FigureVisualizer(Visualizer):
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
class TagVisualizer(_FigureVisualizer, UniversalVisualizer):
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


@VISUALIZERS.register_module()
class MaskVisualizer(_FigureVisualizer, SegLocalVisualizer):
    """Named masks over the image with a legend; the true mask, if known, is above or left of it.

    Takes mmengine's arguments (``vis_backends``, ``save_dir``, ``name``). Class
    names and colours are those of ``dataset_meta``, which the runner sets; a
    class called ``background`` with label 0 is not coloured.
    """

    def draw(
        self, image: np.ndarray, data_sample: Any, draw_gt: bool = True, draw_pred: bool = True
    ) -> np.ndarray:
        """The figure of a segmentor's data sample; see :func:`draw_masks`."""
        meta = self.dataset_meta or {}
        classes = list(meta.get('classes', ()))
        background = 0 if classes[:1] == ['background'] else None
        palette = (
            meta.get('palette')
            or labels_metainfo(classes[int(background is not None) :], background is not None)[
                'palette'
            ]
        )
        known = [
            (key, title)
            for key, title, wanted in (
                ('gt_sem_seg', 'ground truth', draw_gt),
                ('pred_sem_seg', 'prediction', draw_pred),
            )
            if wanted and key in data_sample
        ]
        if not known:
            return image
        drawn = [
            draw_masks(
                image,
                data_sample.get(key).data[0].cpu().numpy(),
                classes,
                palette,
                background,
                title=title if len(known) > 1 else '',
            )
            for key, title in known
        ]
        # Beside each other where that is the less elongated.
        axis = int(image.shape[1] < 1.2 * image.shape[0])
        across = max(figure.shape[1 - axis] for figure in drawn)
        missing = [[(0, 0)] * 3 for _ in drawn]
        for sides, figure in zip(missing, drawn, strict=True):
            sides[1 - axis] = (0, across - figure.shape[1 - axis])
        padded = [
            np.pad(figure, sides, constant_values=255)
            for figure, sides in zip(drawn, missing, strict=True)
        ]
        return np.concatenate(padded, axis=axis)
