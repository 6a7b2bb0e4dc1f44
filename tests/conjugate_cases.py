"""Every conjugate family with random priors, rows simulated by numpy, and its likelihood written out by scipy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import torch

import kokkiri as kk


class Case(NamedTuple):
    """prior(rng, batch); parameters(prior, rng): a draw of each, by numpy; rows(parameters, n, rng): a tuple of
    arguments for `update`, rows along axis -1 (axis -2 of x and of vectors); likelihood(parameters, *rows): log p of
    each row, (..., N)."""

    prior: Callable[..., Any]
    parameters: Callable[..., tuple[np.ndarray, ...]]
    rows: Callable[..., tuple[np.ndarray, ...]]
    likelihood: Callable[..., np.ndarray]
    axes: tuple[int, ...] = (-1,)  # of the rows in each argument


def log_uniform(rng, low, high, size):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def covariances(rng, batch, d):
    root = rng.standard_normal((*batch, d, d))
    return root @ root.mT + np.eye(d)


def normal_log(y, mean, variance):
    return -0.5 * ((y - mean) ** 2 / variance + np.log(2 * np.pi * variance))


def bernoulli_prior(rng, batch=()):
    return kk.exact.BetaBernoulli(log_uniform(rng, 0.5, 20, batch), log_uniform(rng, 0.5, 20, batch))


def categorical_prior(rng, batch=(), classes=4):
    return kk.exact.DirichletCategorical(log_uniform(rng, 0.5, 8, (*batch, classes)))


def dirichlet_draw(prior, rng):
    gammas = rng.gamma(prior.concentration.numpy())
    return (gammas / gammas.sum(-1, keepdims=True),)


def categorical_rows(theta, n, rng):
    (p,) = theta
    below = p.cumsum(-1)[..., None, :-1]
    return ((rng.random((*p.shape[:-1], n, 1)) > below).sum(-1),)


def poisson_prior(rng, batch=()):
    return kk.exact.GammaPoisson(log_uniform(rng, 0.5, 20, batch), log_uniform(rng, 0.2, 5, batch))


def poisson_rows(theta, n, rng):
    exposure = log_uniform(rng, 0.1, 10, (*theta[0].shape, n))
    return rng.poisson(theta[0][..., None] * exposure).astype(float), exposure


def poisson_log(theta, y, exposure):
    mean = theta[0][..., None] * exposure
    return y * np.log(mean) - mean - scipy.special.gammaln(y + 1)


def exponential_prior(rng, batch=()):
    return kk.exact.GammaExponential(log_uniform(rng, 0.5, 20, batch), log_uniform(rng, 0.2, 50, batch))


def mean_prior(rng, batch=()):
    variance, noise = log_uniform(rng, 0.1, 10, batch), log_uniform(rng, 0.1, 10, batch)
    return kk.exact.NormalKnownVariance(rng.normal(0, 5, batch), variance, noise)


def normal_prior(rng, batch=()):
    shape, rate = log_uniform(rng, 1, 10, batch), log_uniform(rng, 0.5, 10, batch)
    return kk.exact.NormalInverseGamma(rng.normal(0, 5, batch), log_uniform(rng, 0.1, 10, batch), shape, rate)


def normal_draw(prior, rng):
    variance = prior.rate.numpy() / rng.gamma(prior.shape.numpy())
    return rng.normal(prior.location.numpy(), np.sqrt(variance / prior.strength.numpy())), variance


def linear_prior(rng, batch=(), d=3):
    shape, rate = log_uniform(rng, 1, 10, batch), log_uniform(rng, 0.5, 10, batch)
    return kk.exact.LinearRegression(rng.standard_normal((*batch, d)), covariances(rng, batch, d), shape, rate)


def linear_draw(prior, rng):
    variance = prior.rate.numpy() / rng.gamma(prior.shape.numpy())
    root = np.linalg.cholesky(np.linalg.inv(prior.precision.numpy()))
    normal = (root @ rng.standard_normal((*prior.location.shape, 1)))[..., 0]
    return prior.location.numpy() + np.sqrt(variance)[..., None] * normal, variance


def linear_rows(theta, n, rng):
    weights, variance = theta
    x = rng.standard_normal((*variance.shape, n, weights.shape[-1]))
    mean = (x @ weights[..., None])[..., 0]
    return x, rng.normal(mean, np.sqrt(variance)[..., None])


def linear_log(theta, x, y):
    weights, variance = theta
    return normal_log(y, (x @ weights[..., None])[..., 0], variance[..., None])


def vector_prior(rng, batch=(), d=3):
    degrees = d + 1 + log_uniform(rng, 0.5, 10, batch)
    location, scale = rng.normal(0, 3, (*batch, d)), covariances(rng, batch, d)
    return kk.exact.NormalInverseWishart(location, log_uniform(rng, 0.1, 10, batch), degrees, scale)


def vector_draw(prior, rng):
    """By Bartlett's decomposition of the precision, from the inverse of the scale."""
    d, batch = prior.location.shape[-1], tuple(prior.batch)
    root = np.linalg.cholesky(np.linalg.inv(prior.scale.numpy()))
    lower = np.tril(rng.standard_normal((*batch, d, d)), -1)
    lower[..., range(d), range(d)] = np.sqrt(rng.chisquare(prior.degrees.numpy()[..., None] - np.arange(d)))
    half = root @ lower
    covariance = np.linalg.inv(half @ half.mT)
    away = (np.linalg.cholesky(covariance) @ rng.standard_normal((*batch, d, 1)))[..., 0]
    return prior.location.numpy() + away / np.sqrt(prior.strength.numpy())[..., None], covariance


def vector_rows(theta, n, rng):
    mean, covariance = theta
    root = np.linalg.cholesky(covariance)
    normal = rng.standard_normal((*mean.shape[:-1], n, mean.shape[-1]))
    return (mean[..., None, :] + normal @ root.mT,)


def vector_log(theta, y):
    mean, covariance = theta
    away = y - mean[..., None, :]
    square = np.einsum("...nd,...de,...ne->...n", away, np.linalg.inv(covariance), away)
    _, volume = np.linalg.slogdet(2 * np.pi * covariance)
    return -0.5 * (square + volume[..., None])


FAMILIES = {
    "BetaBernoulli": Case(
        bernoulli_prior,
        lambda prior, rng: (rng.beta(prior.a.numpy(), prior.b.numpy()),),
        lambda theta, n, rng: ((rng.random((*theta[0].shape, n)) < theta[0][..., None]).astype(float),),
        lambda theta, y: np.where(y == 1, np.log(theta[0])[..., None], np.log1p(-theta[0])[..., None]),
    ),
    "DirichletCategorical": Case(
        categorical_prior,
        dirichlet_draw,
        categorical_rows,
        lambda theta, y: np.log(np.take_along_axis(theta[0], y, -1)),
    ),
    "GammaPoisson": Case(
        poisson_prior,
        lambda prior, rng: (rng.gamma(prior.shape.numpy()) / prior.rate.numpy(),),
        poisson_rows,
        poisson_log,
        (-1, -1),
    ),
    "GammaExponential": Case(
        exponential_prior,
        lambda prior, rng: (rng.gamma(prior.shape.numpy()) / prior.rate.numpy(),),
        lambda theta, n, rng: (rng.exponential(1 / theta[0][..., None], (*theta[0].shape, n)),),
        lambda theta, y: np.log(theta[0])[..., None] - theta[0][..., None] * y,
    ),
    "NormalKnownVariance": Case(
        mean_prior,
        lambda prior, rng: (rng.normal(prior.mean.numpy(), prior.variance.sqrt().numpy()), prior.noise.numpy()),
        lambda theta, n, rng: (rng.normal(theta[0][..., None], np.sqrt(theta[1])[..., None], (*theta[0].shape, n)),),
        lambda theta, y: normal_log(y, theta[0][..., None], theta[1][..., None]),
    ),
    "NormalInverseGamma": Case(
        normal_prior,
        normal_draw,
        lambda theta, n, rng: (rng.normal(theta[0][..., None], np.sqrt(theta[1])[..., None], (*theta[0].shape, n)),),
        lambda theta, y: normal_log(y, theta[0][..., None], theta[1][..., None]),
    ),
    "LinearRegression": Case(linear_prior, linear_draw, linear_rows, linear_log, (-2, -1)),
    "NormalInverseWishart": Case(vector_prior, vector_draw, vector_rows, vector_log, (-2,)),
}


def log_prob(family, theta):
    """Of what the family has a density of: a known noise is none."""
    theta = theta[:1] if isinstance(family, kk.exact.NormalKnownVariance) else theta
    return family.log_prob(*theta)


def numbers(family):
    """Every parameter of a family, as one dictionary."""
    return {name: value for name, value in vars(family).items() if isinstance(value, torch.Tensor)}
