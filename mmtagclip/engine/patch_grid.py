"""Tell the pipelines the patch size of the model."""

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..datasets import ResizeToPatchGrid
from ..registry import HOOKS


@HOOKS.register_module()
class PatchGridHook(Hook):
    """Give each ``ResizeToPatchGrid`` without a patch size that of the model's encoder.

    So a config names the patch size nowhere: it follows from the model.
    """

    def before_run(self, runner: Any) -> None:
        """Go through the pipelines of all loops that are built."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model = getattr(model, 'module', model)  # of test-time augmentation
        encoder = getattr(model, 'encoder', None)
        if encoder is None:
            return
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):
            dataset = getattr(getattr(loop, 'dataloader', None), 'dataset', None)
            for step in steps(getattr(dataset, 'pipeline', None)):
                if isinstance(step, ResizeToPatchGrid) and step.patch_size is None:
                    step.patch_size = encoder.patch_size


def steps(pipeline: Any) -> Iterator[Any]:
    """All transforms of a pipeline, those inside others too."""
    if isinstance(pipeline, list | tuple):
        for one in pipeline:
            yield from steps(one)
    elif pipeline is not None:
        yield pipeline
        for name in ('transforms', 'subroutines'):  # of Compose, TestTimeAug
            yield from steps(getattr(pipeline, name, None))
