"""Notice when model and data set speak of different classes."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..registry import HOOKS


@HOOKS.register_module()
class ClassCheckHook(Hook):
    """Refuse to test a tagger on a data set whose labels mean other classes.

    The names may differ (``motorbike`` for ``motorcycle``: that is how prompts
    are worded), their number may not, nor the order of the same names.
    """

    def before_test(self, runner: Any) -> None:
        """Compare the names.

        Raises:
            ValueError: They differ in number or order.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        vocabulary = getattr(model, 'vocabulary', None)
        classes = runner.test_loop.dataloader.dataset.metainfo.get('classes')
        if vocabulary is None or classes is None:
            return
        names = vocabulary.names
        if len(names) != len(classes):
            raise ValueError(
                f'the model looks for {len(names)} classes, but the data set has '
                f'labels of {len(classes)}'
            )
        common = set(names) & set(classes)
        here = [name for name in names if name in common]
        there = [name for name in classes if name in common]
        for one, other in zip(here, there, strict=True):
            if one != other:
                raise ValueError(
                    'the model and the data set have the same classes in another '
                    f'order: {one!r} is class {names.index(one)} of the model and '
                    f'class {list(classes).index(one)} of the data set'
                )
