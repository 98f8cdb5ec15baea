"""Model and data set must speak of the same classes."""

from types import SimpleNamespace

import pytest

from mmtagclip.clip import Vocabulary
from mmtagclip.engine import ClassCheckHook, PassThroughWrapper


def check(names, classes, wrapped=False):
    import torch

    model = torch.nn.Module()
    model.vocabulary = Vocabulary.load(names)
    dataset = SimpleNamespace(metainfo={} if classes is None else {'classes': classes})
    ClassCheckHook().before_test(
        SimpleNamespace(
            model=PassThroughWrapper(model) if wrapped else model,
            test_loop=SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset)),
        )
    )


@pytest.mark.parametrize('classes', [('dog', 'cat', 'motorcycle'), ('a', 'b', 'c'), None])
def test_other_words_are_accepted(classes):
    check(['dog', 'cat', 'motorbike'], classes)


@pytest.mark.parametrize('wrapped', [False, True])
def test_another_order_or_number_is_refused(wrapped):
    with pytest.raises(
        ValueError,
        match=r"another order: 'dog' is class 0 of the model and class"
        ' 1 of the data set',
    ):
        check(['dog', 'cat', 'motorbike'], ('cat', 'dog', 'motorcycle'), wrapped)
    with pytest.raises(ValueError, match='looks for 3 classes, but the data set has labels of 2'):
        check(['dog', 'cat', 'bus'], ('dog', 'cat'), wrapped)
