"""Outcome and propensity solved again and again on features that stay: many replicates of an effect in a few products.

A replicate has its own weights of rows, its own treatments, its own outcomes or one more feature. The outcome under
each level is a ridge regression, the propensity a (multinomial) logistic one with a Gaussian prior, both cross-fitted:
rows of a fold are predicted by heads that have not seen them. All Gram matrices Σ w φ φᵀ of R replicates are one
product, (R, n) times (n, D (D + 1) / 2), and their solutions one batched Cholesky factor.

The precisions of the priors are found once, by evidence, on the rows as they are (`precisions`); heads without a prior
learn noise by heart, and replicates then scatter more than the effect does.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kokkiri.numerics.random import permutation

_ROWS = 1024  # at once, so that the products of features stay in cache
_FEW = 16  # Gram matrices up to which each is a product of its own
_STEPS, _CLOSE, _LONGEST = 30, 1e-8, 4.0  # of Newton's method: how many, when to stop (nats), change of a log-odds
_TREATMENT_GRID, _ENOUGH = 9, 4000  # precisions that are tried, on so many rows at the most


class Frozen(NamedTuple):
    """features: (F, n, D), those of each fold's network, or (1, n, D) for all folds; the first is 1. fold: (n,)."""

    features: Tensor
    fold: Tensor


class Precisions(NamedTuple):
    """Of the weights but the intercept. outcome: (F, K), in units of the noise's precision; treatment: (F,)."""

    outcome: Tensor
    treatment: Tensor


class Replicates(NamedTuple):
    """R replicates, (R, n) each, or (1, n) where all have the same. extra: one more feature of each row, or None."""

    treatment: Tensor
    outcome: Tensor
    weight: Tensor
    extra: Tensor | None = None


class Heads(NamedTuple):
    """Out of fold: E[Y | level, x] and P(level | x), (R, K, n) each."""

    outcome: Tensor
    propensity: Tensor


def freeze(features: Tensor, fold: Tensor) -> Frozen:
    """Features (F, n, D) or (n, D) made ready: float64, mean 0 and standard deviation 1, constant ones left out.

    >>> freeze(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([0, 1])).features
    tensor([[[ 1., -1.],
             [ 1.,  1.]]], dtype=torch.float64)
    """
    phi = (features if features.ndim == 3 else features.unsqueeze(0)).double()
    mean, sd = phi.mean(1, keepdim=True), phi.std(1, correction=0, keepdim=True)
    alive = sd > 1e-9 * (1e-30 + mean.abs() + sd.amax(-1, keepdim=True))
    phi = torch.where(alive, (phi - mean) / torch.where(alive, sd, 1.0), 0.0)[..., alive.any(0).squeeze(0)]
    return Frozen(torch.cat([torch.ones_like(phi[..., :1]), phi], -1), fold)


def solve(frozen: Frozen, levels: int, given: Replicates, prior: Precisions) -> Heads:
    """All heads of all replicates, and what they predict for the rows that they have not seen."""
    given = Replicates(given.treatment, given.outcome.double(), given.weight.double(), given.extra)
    return Heads(_outcomes(frozen, levels, given, prior.outcome), _propensities(frozen, levels, given, prior.treatment))


def precisions(frozen: Frozen, levels: int, treatment: Tensor, outcome: Tensor, weight: Tensor) -> Precisions:
    """The precisions of greatest evidence, for each fold and level: (n,) each, rows as they are.

    The noise of the outcome is at its best value, too (see linear_evidence); the evidence of the logistic regression is
    Laplace's approximation, on a grid.
    """
    row = lambda v: v.unsqueeze(0)
    given = Replicates(row(treatment), row(outcome.double()), row(weight.double()))
    held = given.weight.unsqueeze(1) * _had(given.treatment, levels)
    gram, moment, square = (a.squeeze(1) for a in _left_out(frozen, held, given.outcome))
    few = permutation(len(treatment), 0, "rows for evidence")[:_ENOUGH]  # a prior's precision is not per row
    less = Replicates(given.treatment[:, few], given.outcome[:, few], given.weight[:, few])
    fewer = Frozen(frozen.features[:, few], frozen.fold[few])
    return Precisions(ridge_precision(gram, moment, square), _logistic_evidence(fewer, levels, less))


# -- outcomes ----------------------------------------------------------------------------------------------------------


def ridges(frozen: Frozen, levels: int, treatment: Tensor, outcome: Tensor, weight: Tensor) -> Tensor:
    """(F, K, D) coefficients of the outcome under each level, from the rows that are not in each fold; (n,) each.

    Precisions and noise are those of greatest evidence, for each level and fold their own.
    """
    held = weight.double() * _had(treatment[None], levels)
    gram, moment, square = (a.squeeze(1) for a in _left_out(frozen, held, outcome.double()[None]))
    ridge = _ridge(ridge_precision(gram, moment, square), gram.shape[-1])
    return _solved(gram + torch.diag_embed(ridge), moment)


def _outcomes(frozen: Frozen, levels: int, given: Replicates, precision: Tensor) -> Tensor:
    held = given.weight.unsqueeze(1) * _had(given.treatment, levels)  # (R, K, n)
    gram, moment, _ = _left_out(frozen, held, given.outcome, given.extra)
    ridge = _ridge(precision.unsqueeze(1), gram.shape[-1])
    coefficients = _solved(gram + torch.diag_embed(ridge), moment)  # (F, R, K, D)
    found = torch.empty(*torch.broadcast_shapes(coefficients.shape[1:3]), held.shape[-1], dtype=held.dtype)
    for f, rows, phi in _folds(frozen):
        found[..., rows] = _linear(phi[rows], coefficients[f], given.extra, rows)
    return found


def _had(treatment: Tensor, levels: int) -> Tensor:
    """(R, n) numbers of levels -> (R, K, n) whether a row has the level."""
    return one_hot(treatment.long(), levels).movedim(-1, -2).double()


def ridge_precision(gram: Tensor, moment: Tensor, square: Tensor) -> Tensor:
    """(...) precisions, in units of the noise's, where the evidence of a ridge regression is greatest.

    gram: (..., D, D), moment: (..., D), square: (...), weighted sums of φ φᵀ, φ y and y², φ₀ = 1, whose weight is flat.
    """
    n = gram[..., 0, 0].clamp(min=1e-6)  # a level whose only rows are left out has none
    mean, total = gram[..., 1:, 0] / n.unsqueeze(-1), moment[..., 0]
    centred = gram[..., 1:, 1:] - n[..., None, None] * mean.unsqueeze(-1) * mean.unsqueeze(-2)
    values, vectors = torch.linalg.eigh((centred + centred.mT) / 2)
    values = values.clamp(min=0.0)
    c = (vectors.mT @ (moment[..., 1:] - mean * total.unsqueeze(-1)).unsqueeze(-1)).squeeze(-1)
    grid = torch.logspace(-6, 6, 121, dtype=gram.dtype) * n.unsqueeze(-1)  # (F, K, G)
    ratio, values, c = grid.unsqueeze(-1), values.unsqueeze(-2), c.unsqueeze(-2)
    spread = (square - total.square() / n).unsqueeze(-1)
    rest = (spread - (c.square() / (ratio + values)).sum(-1)).clamp(min=1e-12 * spread)
    evidence = -0.5 * torch.log1p(values / ratio).sum(-1) - 0.5 * (n - 1).unsqueeze(-1) * rest.log()
    return grid.gather(-1, evidence.argmax(-1, keepdim=True)).squeeze(-1)


# -- propensities ------------------------------------------------------------------------------------------------------


def _propensities(frozen: Frozen, levels: int, given: Replicates, precision: Tensor) -> Tensor:
    replicates = max(len(given.treatment), len(given.weight), 1 if given.extra is None else len(given.extra))
    found = torch.empty(replicates, levels, len(frozen.fold), dtype=torch.float64)
    for f, rows, phi in _folds(frozen):
        beta = _logistic(phi, frozen.fold != f, levels, given, precision[f].expand(replicates))[0]
        found[..., rows] = _softmax(_linear(phi[rows], beta, given.extra, rows))
    return found


def _logistic(phi: Tensor, learn: Tensor, levels: int, given: Replicates, precision: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (R, K - 1, D) against level 0 by Newton's method, and Laplace's log evidence (R,)."""
    phi, weight = phi[learn], given.weight[:, learn]
    had = _had(given.treatment[:, learn], levels)[:, 1:]
    extra = None if given.extra is None else given.extra[:, learn]
    R, K, D = len(precision), levels - 1, phi.shape[-1] + (extra is not None)
    ridge = _ridge(precision, D)
    share = (weight.unsqueeze(1) * _had(given.treatment[:, learn], levels)).sum(-1) + 0.5
    beta = torch.zeros(R, K, D, dtype=phi.dtype)
    beta[..., 0] = (share[:, 1:] / share[:, :1]).log()
    pairs = [(i, j) for i in range(K) for j in range(i, K)]
    hessian = torch.empty(R, K, D, K, D, dtype=phi.dtype)
    for _ in range(_STEPS):
        p = _softmax(_linear(phi, beta, extra))[:, 1:]
        slope = _moments(phi, weight.unsqueeze(1) * (had - p), extra) - ridge.unsqueeze(1) * beta
        curve = torch.stack([weight * p[:, i] * ((i == j) * 1.0 - p[:, j]) for i, j in pairs], 1)
        for (i, j), block in zip(pairs, _grams(phi, curve, extra).unbind(1), strict=True):
            hessian[:, i, :, j] = block + (torch.diag_embed(ridge) if i == j else 0.0)
            hessian[:, j, :, i] = hessian[:, i, :, j]
        step = _solved(hessian.reshape(R, K * D, K * D), slope.reshape(R, K * D)).reshape(R, K, D)
        longest = _linear(phi, step, extra).abs().amax((-1, -2))
        beta = beta + (_LONGEST / longest.clamp(min=_LONGEST))[:, None, None] * step
        if float((step * slope).sum((-1, -2)).max()) < _CLOSE:
            break  # the step just taken squares what was left
    log_p = torch.log_softmax(torch.nn.functional.pad(_linear(phi, beta, extra), (0, 0, 1, 0)), 1)
    full = torch.cat([1 - had.sum(1, keepdim=True), had], 1)
    fit = (weight * (full * log_p).sum(1)).sum(-1) - 0.5 * (ridge.unsqueeze(1) * beta.square()).sum((-1, -2))
    size = torch.linalg.slogdet(hessian.reshape(R, K * D, K * D))[1]
    return beta, fit + 0.5 * K * (D - 1) * precision.log() - 0.5 * size


def _logistic_evidence(frozen: Frozen, levels: int, given: Replicates) -> Tensor:
    """(F,) precisions of greatest evidence on a grid, whose members are the replicates."""
    n, D = float(given.weight.sum()), frozen.features.shape[-1]
    grid = torch.logspace(-2, 1, _TREATMENT_GRID, dtype=torch.float64) * n**0.5
    grid = torch.cat([grid, torch.tensor([n * D], dtype=torch.float64)])  # the treatment may depend on nothing
    best = [_logistic(phi, frozen.fold != f, levels, given, grid)[1].argmax() for f, _, phi in _folds(frozen)]
    return grid[torch.stack(best)]


def _softmax(logits: Tensor) -> Tensor:
    """(R, K - 1, n) log-odds against level 0 -> (R, K, n) probabilities."""
    return torch.softmax(torch.nn.functional.pad(logits, (0, 0, 1, 0)), 1)


# -- sums over rows ----------------------------------------------------------------------------------------------------


def _folds(frozen: Frozen) -> list[tuple[int, Tensor, Tensor]]:
    """(number, its rows, features of all rows) of each fold."""
    many = int(frozen.fold.max()) + 1
    shared = len(frozen.features) == 1
    return [(f, (frozen.fold == f).nonzero().squeeze(1), frozen.features[0 if shared else f]) for f in range(many)]


def _left_out(frozen: Frozen, held: Tensor, y: Tensor, extra: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Σ w φ φᵀ (F, R, K, D, D), Σ w φ y (F, R, K, D) and Σ w y² (F, R, K) over the rows that are not in each fold.

    held: (R, K, n) weights, y: (R or 1, n). Where all folds share their features, the sum over all less those of the
    fold: a quarter of the work for five folds.
    """
    shared, y = len(frozen.features) == 1, y.unsqueeze(1)
    parts = []
    for f, rows, phi in _folds(frozen):
        at = rows if shared else (frozen.fold != f).nonzero().squeeze(1)
        w, u = held[..., at], None if extra is None else extra[:, at]
        wy = w * y[..., at]
        parts.append((_grams(phi[at], w, u), _moments(phi[at], wy, u), (wy * y[..., at]).sum(-1)))
    gram, moment, square = (torch.stack(part) for part in zip(*parts, strict=True))
    if shared:
        gram, moment, square = (total.sum(0, keepdim=True) - total for total in (gram, moment, square))
    return gram, moment, square


def _grams(phi: Tensor, weight: Tensor, extra: Tensor | None = None) -> Tensor:
    """Σ w φ φᵀ: (n, D), (R, K, n) -> (R, K, D, D); with one more feature (R, n), (R, K, D + 1, D + 1)."""
    D = phi.shape[-1]
    gram = torch.zeros(*weight.shape[:-1], D, D, dtype=phi.dtype)
    if weight.shape[:-1].numel() <= _FEW:  # the products of features would cost more than they save
        for start in range(0, len(phi), _ROWS):
            rows = phi[start : start + _ROWS]
            gram += (weight[..., start : start + _ROWS].unsqueeze(-2) * rows.mT) @ rows
    else:
        i, j = torch.triu_indices(D, D)
        packed = torch.zeros(*weight.shape[:-1], len(i), dtype=phi.dtype)
        for start in range(0, len(phi), _ROWS):
            columns = phi[start : start + _ROWS].mT.contiguous()  # whole columns are taken, which lie together
            packed += weight[..., start : start + _ROWS] @ (columns[i] * columns[j]).mT
        gram[..., i, j] = packed
        gram[..., j, i] = packed
    if extra is None:
        return gram
    wu = weight * extra.unsqueeze(1)
    border, corner = (wu @ phi).unsqueeze(-1), (wu * extra.unsqueeze(1)).sum(-1)[..., None, None]
    border, gram = border.expand(*wu.shape[:-1], D, 1), gram.expand(*wu.shape[:-1], D, D)
    return torch.cat([torch.cat([gram, border], -1), torch.cat([border.mT, corner], -1)], -2)


def _moments(phi: Tensor, weighted: Tensor, extra: Tensor | None = None) -> Tensor:
    """Σ w y φ: (n, D), (R, K, n) -> (R, K, D)."""
    found = weighted @ phi
    if extra is None:
        return found
    last = (weighted * extra.unsqueeze(1)).sum(-1, keepdim=True)
    return torch.cat([found.expand(*last.shape[:-1], -1), last], -1)


def _linear(phi: Tensor, beta: Tensor, extra: Tensor | None, rows: Tensor | None = None) -> Tensor:
    """(n, D), (R, K, D) -> (R, K, n)."""
    if extra is None:
        return beta @ phi.mT
    extra = extra if rows is None else extra[:, rows]
    return beta[..., :-1] @ phi.mT + beta[..., -1:] * extra.unsqueeze(1)


def _ridge(precision: Tensor, D: int) -> Tensor:
    """(..., D): nothing for the intercept."""
    return precision.unsqueeze(-1) * (torch.arange(D) > 0)


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """Solution of positive definite systems; a fold without rows of a level gets a matrix that has one all the same."""
    tiny = 1e-13 * matrix.diagonal(dim1=-2, dim2=-1).mean(-1) + torch.finfo(matrix.dtype).tiny
    lifted = matrix + tiny[..., None, None] * torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    return torch.cholesky_solve(right.unsqueeze(-1), torch.linalg.cholesky(lifted)).squeeze(-1)
