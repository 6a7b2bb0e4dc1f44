"""Probabilities of classes for a world in which the classes are otherwise frequent than among the training rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kokkiri.errors import ShapeError, Unsupported, UsageError
from kokkiri.exact.probabilities import distribution, numbers, probability
from kokkiri.numerics import log_space, mixture
from kokkiri.posteriors import Particles
from kokkiri.predictive import Classes


def corrected(predictive: Any, old: Any, new: Any) -> Tensor:
    """(..., C): p(y | x) ∝ p_model(y | x) new_y / old_y, where only the frequencies of the classes have changed.

    predictive: of a classifier, or a tensor (..., C). old: the shares of the classes among the training rows, none of
    them 0; new: those among the rows that come. What the rows of each class look like, p(x | y), must have stayed the
    same. It is the mean over draws of the parameters that is corrected: with p(x) as it was, a draw counts the more the
    more probable it makes x among the new classes, and that weight is what normalises its own correction.

    Source: Saerens, Latinne & Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori
    probabilities", eq. 2.4.

    >>> [round(v, 12) for v in corrected(torch.tensor([0.5, 0.5]), [0.5, 0.5], [0.9, 0.1]).tolist()]
    [0.9, 0.1]
    """
    log_p = log_probabilities(predictive)
    classes = log_p.shape[-1]
    shares = []
    for what, given in (("the old prevalence", old), ("the new prevalence", new)):
        share = numbers(what, given)
        if share.shape != (classes,):
            raise ShapeError(
                f"{what} has shape {tuple(share.shape)}", needs=f"a share for each of {classes} classes",
                found=str(given)[:60], fix=f"{classes} numbers that add up to 1",
            )  # fmt: skip
        share = probability(what, share, inside=what == "the old prevalence")
        shares.append(distribution(what, share, [str(k) for k in range(classes)]).log())
    found = log_space.bayes(log_p, shares[1] - shares[0])
    if bool((found.log_evidence == -torch.inf).any()):
        raise UsageError(
            "the new prevalence excludes what the model is certain of", needs="a share above 0 of what occurs",
            found=f"a share of 0, and rows that can be of no other class, such as row "
            f"{int((found.log_evidence == -torch.inf).flatten().nonzero()[0]) + 1}", fix="a small share in place of 0",
        )  # fmt: skip
    return found.log_posterior.exp()


def training_shares(post: Particles) -> dict[str, float]:
    """The share of each class among the rows that a model has learnt, its updates included."""
    classes, levels = post.record.data.get("classes"), post.form.target.levels
    if not levels:
        raise Unsupported(
            f"the target '{post.form.target.name}' has no classes", needs="a model that predicts classes",
            found="a model of numbers", fix="kk.decisions.best(kk.predict(post, rows), utility, actions)",
        )  # fmt: skip
    if not classes:
        raise UsageError(
            "the model does not say how frequent its classes were", needs="the share of positives among its rows",
            found="a model of an older version", fix="name it: --training-prevalence (trained_at)",
        )  # fmt: skip
    counts = {level: float(classes.get(level, 0)) for level in levels}
    for update in post.record.updates:
        for level, n in update.classes.items():
            counts[level] += -n if update.removed else n
    total = sum(counts.values())
    return {level: n / total for level, n in counts.items()}


def log_probabilities(predictive: Any) -> Tensor:
    """(..., C) logs of the class probabilities of a prediction, averaged over draws of the parameters."""
    if isinstance(predictive, Classes):
        return mixture.log_average(predictive.log_probabilities, predictive.log_weights)
    if isinstance(predictive, Tensor):
        names = [str(k) for k in range(predictive.shape[-1] if predictive.ndim else 0)]
        if len(names) < 2:
            raise ShapeError(
                f"probabilities of shape {tuple(predictive.shape)}", needs="(..., C) for two classes or more",
                found=f"{len(names)} along the last axis", fix="torch.stack((1 - p, p), -1) for two classes",
            )  # fmt: skip
        return distribution("a row", probability("a probability", predictive.double()), names).log()
    raise Unsupported(
        f"{type(predictive).__name__} has no classes", needs="the prediction of a classifier",
        found=repr(predictive)[:80],
        fix="kk.decisions.best(predictive, utility, actions): decisions about numbers",
    )  # fmt: skip
