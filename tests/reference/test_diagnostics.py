"""Diagnostics of draws against ArviZ."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from kokkiri.numerics import diagnostics
from kokkiri.numerics.random import philox

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # ArviZ announces its own future at import
    arviz = pytest.importorskip("arviz")
    from arviz.stats.stats import psislw


def chains(m, n, phi, seed):
    """Autoregressions: plain, skew, with ties, with heavy tails."""
    e = philox(seed, "test arviz").standard_normal((m, n, 4))
    for t in range(1, n):
        e[:, t] += phi * e[:, t - 1]
    e[..., 1] = np.exp(e[..., 1])
    e[..., 2] = np.round(e[..., 2])
    e[..., 3] **= 3
    return e


@pytest.mark.parametrize(("m", "n"), [(4, 1000), (2, 501), (16, 200)])
@pytest.mark.parametrize("phi", [0.0, 0.6, -0.7])
def test_r_hat_and_effective_sizes_are_arvizs(m, n, phi):
    x = chains(m, n, phi, 1)
    data = arviz.convert_to_dataset({"x": x})
    pairs = [
        (diagnostics.r_hat, arviz.rhat(data)),
        (diagnostics.bulk_effective_sample_size, arviz.ess(data, method="bulk")),
        (diagnostics.tail_effective_sample_size, arviz.ess(data, method="tail")),
        (diagnostics.effective_sample_size, arviz.ess(data, method="mean")),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours(torch.from_numpy(x)).numpy(), theirs["x"].to_numpy(), rtol=1e-10)


def test_effective_sizes_of_chains_that_have_not_mixed_are_near_arvizs():
    x = chains(4, 1000, 0.5, 2) + 2 * np.arange(4)[:, None, None]
    theirs = arviz.ess(arviz.convert_to_dataset({"x": x}), method="bulk")["x"].to_numpy()
    ours = diagnostics.bulk_effective_sample_size(torch.from_numpy(x)).numpy()
    assert theirs.max() < 20
    np.testing.assert_allclose(ours, theirs, rtol=0.05)  # the last lag of a sum that never ends is counted or not


@pytest.mark.parametrize(("size", "shape"), [(1000, 0.3), (4000, 0.9), (100, 0.5), (30, 0.2), (30, 1.5)])
def test_smoothed_weights_and_k_hat_are_arvizs(size, shape):
    ratio = np.log(philox(3, "test psis").pareto(1 / shape, size) + 1e-9)
    theirs, k_hat = psislw(ratio.copy())
    ours = diagnostics.pareto_smoothed(torch.from_numpy(ratio))
    np.testing.assert_allclose(ours.log_weight.numpy(), np.asarray(theirs), atol=1e-10)
    np.testing.assert_allclose(ours.k_hat, float(k_hat), rtol=1e-10)
