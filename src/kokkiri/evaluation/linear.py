"""Linear models of classes and of numbers, each with a ridge that rows left out have chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kokkiri.numerics.random import permutation

PRECISIONS = (1000.0, 100.0, 10.0, 1.0, 0.1)  # of the prior of a softmax regression, from stiff to free
FOLD_ENTRIES = 1_000_000  # more numbers than this: one fold of the five judges, which costs a fifth


class Linear(NamedTuple):
    """x (B, D) -> x @ weight (D, C) + bias (C,)."""

    weight: Tensor
    bias: Tensor


class Ridge(NamedTuple):
    """A linear function of x and the standard deviation of y about it, as seen from rows left out."""

    weight: Tensor  # (D, 1)
    bias: Tensor  # (1,)
    noise: Tensor  # ()
    precision: float


def softmax_regression(x: Tensor, y: Tensor, classes: int, *, seed: int = 0) -> Linear:
    """The maximum of Σ_i log softmax(x_i W + b)[y_i] - precision/2 |W|², in float64; the bias is free.

    x (N, D), y (N,) class numbers. The precision is the one of `PRECISIONS` with the highest log-likelihood on rows
    left out, five folds (one of them for large x), tried from stiff to free until it falls.
    """
    mean, n = x.mean(0), len(y)
    z, rotation = x - mean, None
    power = z.square().sum(0)
    if x.shape[1] <= 1000:  # along principal axes the Hessian is nearly diagonal, which spares most of the steps
        power, rotation = torch.linalg.eigh(z.T @ z)
        z @= rotation
    z = torch.cat([z, z.new_ones(n, 1)], 1)
    power = torch.cat([power.clamp(min=0), power.new_tensor([n])]) / n
    y_hot = torch.nn.functional.one_hot(y, classes).double()
    fold = permutation(n, seed, "baseline folds") % min(5, n)
    judges = range(1 if x.numel() > FOLD_ENTRIES else min(5, n))
    start = {k: torch.zeros(len(power), classes, dtype=torch.float64) for k in (*judges, -1)}
    for k, theta in start.items():
        theta[-1] = log_frequencies(y[fold != k], classes)
    best, chosen = -torch.inf, PRECISIONS[0]
    for precision in PRECISIONS:
        held_out = 0.0
        for k in judges:
            start[k] = _newton(z[fold != k], y_hot[fold != k], power, precision, start[k], tolerance=1e-4)
            held_out += float(((z[fold == k] @ start[k]).log_softmax(1) * y_hot[fold == k]).sum())
        if held_out < best:
            break
        best, chosen = held_out, precision
    theta = _newton(z, y_hot, power, chosen, start[-1], tolerance=1e-6)
    weight = theta[:-1] if rotation is None else rotation @ theta[:-1]
    return Linear(weight, theta[-1] - mean @ weight)


def _newton(z: Tensor, y_hot: Tensor, power: Tensor, precision: float, theta: Tensor, tolerance: float) -> Tensor:
    """The maximum over theta (D + 1, C), bias last, by Newton steps, the last of which gains <= `tolerance` nats a row.

    The steps are solved for by conjugate gradients (Nocedal & Wright 2006, algorithm 7.1). Not torch.optim.LBFGS:
    making one loads the compiler of torch, which costs more time than all the fits.
    """
    penalty = torch.full((len(theta), 1), precision, dtype=z.dtype)
    penalty[-1] = 0.0
    value = lambda log_p, theta: float((log_p * y_hot).sum() - (penalty * theta.square()).sum() / 2)
    log_p = (z @ theta).log_softmax(1)
    for _ in range(50):
        p = log_p.exp()
        gradient = z.T @ (y_hot - p) - penalty * theta
        diagonal = power[:, None] * (p * (1 - p)).sum(0) + penalty

        def times(v: Tensor, p: Tensor = p) -> Tensor:
            u = p * (z @ v)
            return z.T @ (u - p * u.sum(1, keepdim=True)) + penalty * v

        step = _conjugate_gradients(times, gradient, diagonal)
        gain = float((step * gradient).sum()) / 2
        now, size = value(log_p, theta), 1.0
        while size > 1e-6:
            log_p = (z @ (theta + size * step)).log_softmax(1)
            if value(log_p, theta + size * step) >= now:
                break
            size /= 2
        theta = torch.add(theta, step, alpha=size)
        if not gain > tolerance * len(z):
            break
    return theta


def _conjugate_gradients(times: Callable[[Tensor], Tensor], target: Tensor, diagonal: Tensor) -> Tensor:
    """About the solution of times(v) = target, preconditioned by a diagonal; the nearer, the smaller the target."""
    solution, residual = torch.zeros_like(target), target
    direction = scaled = residual / diagonal
    size = first = (residual * scaled).sum()
    goal = first * min(0.25, float(first)) if first > 0 else first  # |r| <= |g| min(1/2, √|g|), in the scaled norm
    for _ in range(100):
        if size <= goal:
            break
        image = times(direction)
        length = size / (direction * image).sum()
        solution, residual = solution + length * direction, residual - length * image
        scaled = residual / diagonal
        size, before = (residual * scaled).sum(), size
        direction = scaled + size / before * direction
    return solution


def ridge_regression(x: Tensor, y: Tensor) -> Ridge:
    """The minimum of Σ_i (y_i - x_i w - b)² + precision |w|², x (N, D), y (N,); the precision by leaving one out.

    In closed form: the residual of row i when it is left out is e_i / (1 - h_i), h the diagonal of the hat matrix; the
    noise is the root mean square of these. Source: Allen 1974, "The relationship between variable selection and data
    augmentation and a method for prediction" (PRESS).
    """
    x_mean, y_mean, n = x.mean(0), y.mean(), len(y)
    u, s, vt = torch.linalg.svd(x - x_mean, full_matrices=False)
    along = u.T @ (y - y_mean)
    best: tuple[float, float] | None = None
    for precision in torch.logspace(-3, 6, 19, dtype=x.dtype).tolist():
        shrink = s.square() / (s.square() + precision)
        left_out = (y - y_mean - u @ (shrink * along)) / (1 - 1 / n - u.square() @ shrink)
        score = float(left_out.square().mean())
        best = min(best or (score, precision), (score, precision))
    assert best is not None
    weight = (vt.T @ (s / (s.square() + best[1]) * along))[:, None]
    return Ridge(weight, y_mean - x_mean @ weight, torch.tensor(best[0], dtype=x.dtype).sqrt(), best[1])


def log_frequencies(y: Tensor, classes: int) -> Tensor:
    """Log (n_c + 1) / (n + C): Laplace's rule of succession, so that a class never seen is still possible."""
    counts = torch.bincount(y, minlength=classes).double() + 1
    return (counts / counts.sum()).log()
