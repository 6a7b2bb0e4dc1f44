"""Does the model know when it does not know: a score of strangeness, and how well it tells strange rows from known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kokkiri.data.core import Inputs
from kokkiri.errors import DataError
from kokkiri.evaluation.values import Measure
from kokkiri.numerics import scores
from kokkiri.numerics.random import philox
from kokkiri.predictive import Mixture
from kokkiri.types import Predictive


def out_of_distribution(predictive: Predictive) -> Tensor:
    """(B,) how much the posterior's draws disagree about each row; 0 for a single network, which cannot know.

    Classes: the mutual information of class and draw, nats. Numbers: epistemic over aleatoric standard deviation, of
    several targets the root of the summed squares. What is noisy but known scores low: that is what sets it apart from
    the total uncertainty. Where noise has no variance (Student-t, df <= 2), the square of its scale stands for it.
    Source: Houlsby et al. 2011, eq. 2; Depeweg et al. 2018, "Decomposition of uncertainty in Bayesian deep learning".

    >>> from kokkiri.likelihoods import Gaussian
    >>> p = Gaussian(2.0).predictive(torch.tensor([[[1.0], [0.0]], [[1.0], [8.0]]]))  # two draws: agreed, and 0 or 8
    >>> out_of_distribution(p)
    tensor([0., 2.], dtype=torch.float64)
    """
    information = getattr(predictive, "mutual_information", None)
    if information is not None:
        return information
    noise, ignorance = predictive.aleatoric.double(), predictive.epistemic.double()
    if not noise.isfinite().all() and isinstance(predictive, Mixture) and not predictive.components.discrete:
        weight = predictive.log_weights.exp().reshape(-1, 1, 1)
        square = (weight * predictive.components.scale**2).sum(0) * predictive.scale**2  # pyright: ignore[reportAttributeAccessIssue]
        noise = torch.where(noise.isfinite(), noise, square.reshape(noise.shape))
    return (ignorance / noise).reshape(len(noise), -1).sum(1).sqrt()


def separation(inside: Tensor, outside: Tensor) -> Measure:
    """AUROC, the chance that a row from outside scores above one from inside, with its 95 % interval.

    inside, outside: scores (N,), (M,), such as `out_of_distribution` gives; 0.5 is guessing. The interval is DeLong's;
    where every pair agrees, which leaves it no width, that of min(N, M) disjoint pairs without a failure (Clopper &
    Pearson 1934).

    >>> separation(torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.4])).value
    0.75
    """
    if not len(inside) or not len(outside):
        raise DataError(
            "separation needs rows of both kinds", needs="scores from inside and from outside",
            found=f"{len(inside)} and {len(outside)}", fix="predict both, and score each with out_of_distribution",
        )  # fmt: skip
    both = torch.cat([inside.double().flatten(), outside.double().flatten()])
    strange = torch.arange(len(both)) >= inside.numel()
    value, error = (float(t) for t in scores.auroc(both, strange))
    if value in {0.0, 1.0}:
        reach = 1 - 0.025 ** (1 / min(len(inside), len(outside)))
        low, high = (0.0, reach) if value == 0 else (1 - reach, 1.0)
        return Measure("AUROC", value, low=low, high=high)
    half = 1.959964 * error
    if not half > 0:  # all tied, or one row alone
        return Measure("AUROC", value)
    return Measure("AUROC", value, low=max(0.0, value - half), high=min(1.0, value + half))


def shuffled(x: Tensor, inputs: Inputs, *, seed: int = 0) -> Tensor:
    """Encoded rows (B, ...) that never were: the values of each column dealt out anew, without the other columns.

    Each value is familiar, their combination is not (unless columns are independent). What a column was encoded to
    stays together; where there are no columns, as in pictures, every number is dealt out by itself.
    """
    flat = x.reshape(len(x), -1)
    columns = torch.arange(flat.shape[1])
    names = {g.name: flat.shape[1] + i for i, g in enumerate(inputs.groups)}
    for g in inputs.groups:
        columns[g.start : g.stop] = names[g.name]
    _, which = columns.unique(return_inverse=True)
    rows = np.tile(np.arange(len(x)), (int(which.max()) + 1, 1))
    dealt = torch.from_numpy(philox(seed, "shuffled").permuted(rows, axis=1))
    return flat.gather(0, dealt[which].T.to(x.device)).reshape(x.shape)
