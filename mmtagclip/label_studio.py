"""Predictions for Label Studio's tasks, of the names that a project's label config has.

``tools/label_studio`` serves them with Label Studio's own ML backend.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .exports.label_studio import predictions
from .label_config import read_label_config
from .version import __version__

VERSION = f'mmtagclip {__version__}'


class Annotator:
    """A model that pre-annotates images; the class names are those that a project asks for.

    Args:
        model: Name of a model or config; see :class:`~mmtagclip.apis.SegInferencer`.
        min_area: Smaller regions are left out of polygons and boxes, in pixels.
        tolerance: How far a polygon may be from the outline, in pixels.
        **options: Of the inferencer, such as ``device``.

    Raises:
        FileNotFoundError: There is no such model.
    """

    def __init__(
        self, model: str, min_area: int = 16, tolerance: float = 1.0, **options: Any
    ) -> None:
        from .apis import inferencer_class
        from .apis.model_zoo import load_config

        config = load_config(model)
        self.inferencer: Any = inferencer_class(config)(config, show_progress=False, **options)
        self.min_area = min_area
        self.tolerance = tolerance

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        label_config: str,
        path_of: Callable[[str, Mapping[str, Any]], str],
    ) -> list[dict[str, Any]]:
        """Predictions of tasks.

        Args:
            tasks: Label Studio's.
            label_config: Of their project, XML. Its first control of an image is filled: brushes,
                polygons or boxes from masks, choices from tags.
            path_of: Gives the path of a file from its address and task.

        Returns:
            One per task: ``model_version``, ``result`` and ``score``. An image that can't be read
            has no result; the log says why.

        Raises:
            ValueError: The label config has no such control, or the model makes no masks and the
                control needs them.
        """
        config = read_label_config(label_config)
        paths = [path_of(str(task['data'][config.key]), task) for task in tasks]
        found = []
        for result in self.inferencer(paths, classes=list(config.names), on_error='skip'):
            if result.error is not None:
                logging.getLogger(__name__).warning(result.error)
                found.append({'model_version': VERSION, 'score': 0.0, 'result': []})
                continue
            mask = getattr(result, 'mask', None)
            if config.shapes is not None and mask is None:
                raise ValueError(
                    f'{config.control} needs masks, and this model makes tags: serve a model that '
                    '`mmtagclip models` lists as "segment"'
                )
            regions = predictions(
                result.classes,
                result.size,
                result.tags,
                mask,
                config.shapes,
                background=getattr(result, 'background', None),
                min_area=self.min_area,
                tolerance=self.tolerance,
                from_name=config.control,
                to_name=config.image,
            )
            score = max((score for score in result.tags.values() if score is not None), default=0.0)
            found.append({'model_version': VERSION, 'score': score, 'result': regions})
        return found
