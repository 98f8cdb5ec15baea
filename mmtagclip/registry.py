"""Child registries: a config names every part as ``mmtagclip.<Name>``.

Prefixed names resolve in the default scopes ``mmpretrain`` and ``mmseg`` without
``custom_imports``. Write the prefix at every level of a config: nested parts are
looked up in the default scope, not in the registry that builds them.
"""

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

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmtagclip',
    locations=['mmtagclip.models', 'mmtagclip.regions'],
)
MODEL_WRAPPERS = Registry(
    'model wrapper',
    parent=MMENGINE_MODEL_WRAPPERS,
    scope='mmtagclip',
    locations=['mmtagclip.engine'],
)
DATASETS = Registry(
    'dataset', parent=MMENGINE_DATASETS, scope='mmtagclip', locations=['mmtagclip.datasets']
)
DATA_SAMPLERS = Registry(
    'data sampler',
    parent=MMENGINE_DATA_SAMPLERS,
    scope='mmtagclip',
    locations=['mmtagclip.datasets'],
)
TRANSFORMS = Registry(
    'transform', parent=MMENGINE_TRANSFORMS, scope='mmtagclip', locations=['mmtagclip.datasets']
)
METRICS = Registry(
    'metric', parent=MMENGINE_METRICS, scope='mmtagclip', locations=['mmtagclip.evaluation']
)
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmtagclip', locations=['mmtagclip.engine'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmtagclip', locations=['mmtagclip.engine'])
VISUALIZERS = Registry(
    'visualizer',
    parent=MMENGINE_VISUALIZERS,
    scope='mmtagclip',
    locations=['mmtagclip.visualization'],
)
