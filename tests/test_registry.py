import subprocess
import sys

import pytest

# Without importing mmtagclip, as a config without custom_imports is run.
CODE = """
import sys
from mmengine import registry as root
from mmengine.registry import DefaultScope

scope = sys.argv[1]
DefaultScope.get_instance('test', scope_name=scope)
from importlib import import_module
child = import_module(scope + '.registry')
assert 'mmtagclip' not in sys.modules

names = {
    'MODELS': ['TagCLIP', 'TagCLIPHead', 'ClassTokenHead', 'DMAR', 'CWR', 'CLIPEncoder',
               'CLIPDataPreprocessor', 'OrdinaryLastBlock', 'SelfOnlyLastBlock', 'CLSSeg',
               'SCLIPLastBlock', 'ClearCLIPLastBlock', 'NACLIPLastBlock', 'ITACLIPLastBlock',
               'SCCLIPLastBlock', 'GaussianClassifier', 'PIAAHead',
               'ProxyLastBlock', 'TimmFeatures', 'DirectSegmentor', 'SegTextHead',
               'SlidingWindows', 'WholeImage', 'ImageViews', 'LabelClosing', 'MaskCLIPRefinement',
               'CLSSegTTA', 'SoftmaxGradCAM', 'AffinityRefinement', 'DenseCRF', 'PAMR'],
    'MODEL_WRAPPERS': ['PassThroughWrapper'],
    'DATASETS': ['CocoMultiLabel', 'VOCMultiLabel', 'VocabularySegDataset',
                 'PseudoLabelDataset'],
    'TRANSFORMS': ['LoadImage', 'ResizeToPatchGrid', 'KeepImage', 'LoadTags'],
    'METRICS': ['RelativeThresholdMetric', 'VOCRelativeThresholdMetric'],
    'HOOKS': ['TagWriterHook', 'ClassCheckHook'],
    'LOOPS': ['GenerateLoop', 'FitLoop'],
    'DATA_SAMPLERS': ['SameGridBatchSampler'],
}
for kind, parts in names.items():
    for registry in (getattr(root, kind), getattr(child, kind)):
        for name in parts:
            part = registry.get('mmtagclip.' + name)
            assert part is not None, f'{kind}: {name} from {registry.scope}'
            assert part.__name__ == name and part.__module__.startswith('mmtagclip.'), part
            assert registry.get(name) is None or not registry.get(name).__module__.startswith(
                'mmtagclip.'), f'the bare name {name} took a place in {registry.scope}'

loader = root.TRANSFORMS.build({'type': 'mmtagclip.LoadImage', 'max_side': 5})
assert loader.max_side == 5
assert DefaultScope.get_current_instance().scope_name == scope
"""


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg'])
def test_prefixed_names_resolve_under_the_default_scope(scope):
    run = subprocess.run(
        [sys.executable, '-c', CODE, scope], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
