"""Label Studio's ML backend: pre-annotates images with the names of a project's label config.

See docs/tools/label_studio.md. Settings are environment variables: ``MMTAGCLIP_MODEL`` (a name of
``mmtagclip models`` or a config) and ``MMTAGCLIP_DEVICE``.
"""

import inspect
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from label_studio_ml.model import LabelStudioMLBase

from mmtagclip.label_studio import VERSION, Annotator

MODEL = 'cls-seg_vit-base-p16_openai_coco-object'


@cache
def annotator() -> Annotator:
    """The model, built at the first request."""
    model = os.environ.get('MMTAGCLIP_MODEL', MODEL)
    return Annotator(model, device=os.environ.get('MMTAGCLIP_DEVICE'))


class MMTagCLIP(LabelStudioMLBase):
    """What Label Studio's SDK serves."""

    def setup(self) -> None:
        """Name the version that predictions carry."""
        self.set('model_version', VERSION)

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], context: Any = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Predictions of tasks; see :meth:`mmtagclip.label_studio.Annotator.predict`."""
        return annotator().predict(tasks, self.label_config, self.path_of)

    def path_of(self, address: str, task: Mapping[str, Any]) -> str:
        """Path of a task's image, which the SDK fetches where it has to."""
        known = inspect.signature(self.get_local_path).parameters
        options = {'task_id': task.get('id')} if 'task_id' in known else {}
        return self.get_local_path(address, **options)
