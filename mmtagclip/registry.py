"""Child registries: a config names every part as ``mmtagclip.<Name>``.

Prefixed names resolve in the default scopes ``mmpretrain`` and ``mmseg`` without
``custom_imports``. Write the prefix at every level of a config: nested parts are
looked up in the default scope, not in the registry that builds them. Modules are imported when a
registry is first asked for a name; those that bring MMSegmentation, only if no other has the name.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry


class ChildRegistry(Registry):
    """A registry of this package, with modules that are imported late.

    Args:
        name: What it holds.
        parent: The registry of MMEngine.
        locations: Modules that are imported when the registry is first asked for a name.
        late: Modules that are imported if no other has the name.
    """

    def __init__(
        self, name: str, parent: Registry, locations: Sequence[str], late: Sequence[str] = ()
    ) -> None:
        super().__init__(
            name,
            parent=parent,
            scope='mmtagclip',
            locations=[f'mmtagclip.{one}' for one in locations],
        )
        self._late = [f'mmtagclip.{one}' for one in late]

    def get(self, key: str) -> Any:
        """The class of a name; None if there is none."""
        if isinstance(key, str) and self._late:
            scope, name = self.split_scope_key(key)
            self.import_from_location()
            if scope in (None, self.scope) and name not in self.module_dict:
                self.import_all()
        return super().get(key)

    def import_all(self) -> None:
        """Import every module that registers something here."""
        self.import_from_location()
        for module in self._late:
            import_module(module)
        self._late = []


MODELS = ChildRegistry(
    'model',
    MMENGINE_MODELS,
    [
        'models.clip_encoder',
        'models.data_preprocessor',
        'models.pooling_trainer',
        'models.taggers.heads',
        'models.taggers.piaa',
        'models.taggers.tagger',
        'regions.corrclip',
        'regions.features',
        'regions.proxy',
    ],
    ['models.segmentors', 'regions.automatic'],
)
MODEL_WRAPPERS = ChildRegistry('model wrapper', MMENGINE_MODEL_WRAPPERS, ['engine.distributed'])
DATASETS = ChildRegistry(
    'dataset',
    MMENGINE_DATASETS,
    ['datasets.multi_label'],
    ['datasets.segmentation', 'datasets.pseudo_label'],
)
DATA_SAMPLERS = ChildRegistry('data sampler', MMENGINE_DATA_SAMPLERS, ['datasets.samplers'])
TRANSFORMS = ChildRegistry(
    'transform', MMENGINE_TRANSFORMS, ['datasets.loading', 'datasets.regions', 'datasets.tag_file']
)
METRICS = ChildRegistry('metric', MMENGINE_METRICS, ['evaluation'])
HOOKS = ChildRegistry(
    'hook',
    MMENGINE_HOOKS,
    [
        'engine.class_check',
        'engine.patch_grid',
        'engine.tag_visualization',
        'engine.tag_writer',
    ],
)
LOOPS = ChildRegistry('loop', MMENGINE_LOOPS, ['engine.fit_loop', 'engine.generate_loop'])
VISUALIZERS = ChildRegistry(
    'visualizer',
    MMENGINE_VISUALIZERS,
    ['visualization.visualizer'],
    ['visualization.mask_visualizer'],
)
