"""From cosines to scores: a softmax over all names, a sigmoid name by name, or the cosine."""

import torch
from torch import Tensor

from ...clip import DenseEncoder

SCORINGS = ('softmax', 'sigmoid', 'cosine')


def coarse_scores(patches: Tensor, text: Tensor, logit_scale: float | Tensor) -> Tensor:
    """Softmax over all names for every patch (TagCLIP, sec. 3.2).

    Args:
        patches: ``(B, N, D)`` unit length.
        text: ``(C, D)`` unit length, foreground first.
        logit_scale: Factor of the cosines.

    Returns:
        ``(B, N, C)`` probabilities.
    """
    return (logit_scale * patches @ text.T).softmax(dim=-1)


def name_scores(
    features: Tensor,
    text: Tensor,
    encoder: DenseEncoder,
    scoring: str = 'softmax',
    owners: Tensor | None = None,
) -> Tensor:
    """Scores of all names for features of an encoder.

    Args:
        features: ``(..., D)`` unit length.
        text: ``(C, D)``, or ``(B, C, D)`` for features ``(B, N, D)``.
        encoder: The encoder of both.
        scoring: ``'softmax'`` over all names, as published; ``'sigmoid'``, name by name, as
            SigLIP was trained; or ``'cosine'``.
        owners: The name of each row of ``text`` ``(R, D)``, whose best row counts; None if each
            name has one.

    Returns:
        ``(..., C)``, in [0, 1], but cosines in [-1, 1].

    Raises:
        ValueError: ``scoring`` is sigmoid, and the model has no bias for it.
    """
    scale = 1.0 if scoring == 'cosine' else encoder.scale
    logits = scale * features @ text.mT
    if owners is not None:
        count = int(owners[-1]) + 1
        logits = logits.new_full((*logits.shape[:-1], count), -torch.inf).scatter_reduce(
            -1, owners.expand_as(logits), logits, 'amax'
        )
    if scoring == 'cosine':
        return logits
    if scoring == 'softmax':
        return logits.softmax(dim=-1)
    check_scoring(scoring, encoder)
    return (logits + encoder.clip.logit_bias).sigmoid()


def check_scoring(scoring: str, encoder: DenseEncoder) -> None:
    """Refuse a sigmoid for a model without a bias.

    Raises:
        ValueError: The model has none.
    """
    if scoring == 'sigmoid' and getattr(encoder.clip, 'logit_bias', None) is None:
        raise ValueError(
            f'{encoder.name} was not trained with a sigmoid and has no logit_bias: use '
            "scoring='softmax'"
        )
