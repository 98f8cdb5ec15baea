"""mmengine's visualizer for masks."""

# First: what is imported below imports MMSegmentation, too, and has said its lines then.
from ..frameworks import segmentation  # noqa: F401

# isort: split
from typing import Any

import numpy as np
from mmseg.visualization import SegLocalVisualizer

from ..exports.instances import instances_of
from ..labels import labels_metainfo
from ..registry import VISUALIZERS
from .mask_figure import draw_instances, draw_masks
from .visualizer import FigureVisualizer


@VISUALIZERS.register_module()
class MaskVisualizer(FigureVisualizer, SegLocalVisualizer):
    """Named masks over the image with a legend; the true mask, if known, is above or left of it.

    Instances, if there are any, are drawn beside them.

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
        if draw_pred and 'pred_instances' in data_sample:
            found = instances_of(data_sample, classes[int(background is not None) :])
            rows = [(one.tag, one.score, one.mask) for one in found or ()]
            drawn.append(draw_instances(image, rows, title='instances'))
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
