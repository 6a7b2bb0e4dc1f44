"""NumPyro's NUTS on the density of a `Problem`, as the second opinion and the yardstick of cost."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import jax
import jax.numpy as jnp
import numpy as np
import torch
from numpyro.infer import MCMC, NUTS
from torch import Tensor

from yardstick.problems import Problem

jax.config.update("jax_enable_x64", True)


@dataclass(frozen=True)
class Run:
    """draws (chains, draws, P); gradients of warm-up and sampling together; seconds: CPU, compilation included."""

    draws: Tensor
    gradients: int
    seconds: float


def potential(p: Problem):
    """-log joint of the network's flat parameters, written anew in JAX."""
    x, y = jnp.array(p.x.numpy()), jnp.array(p.y.numpy())
    d, h = x.shape[1], p.network.settings["widths"][0]

    def energy(t):
        weight, bias, out, last, log_sd = (
            t[: h * d].reshape(h, d), t[h * d : h * d + h], t[h * d + h : h * d + 2 * h], t[-2], t[-1],
        )  # fmt: skip
        f = jnp.tanh(x @ weight.T + bias) @ out + last
        z = (y - f) * jnp.exp(-log_sd)
        log_likelihood = jnp.sum(-0.5 * z**2 - log_sd - 0.5 * jnp.log(2 * jnp.pi))
        size = t.size
        log_prior = -0.5 * jnp.sum(t[:-1] ** 2) - log_sd**2 / 18 - 0.5 * size * jnp.log(2 * jnp.pi) - jnp.log(3.0)
        return -(log_likelihood + log_prior)

    return energy


def nuts(p: Problem, *, chains: int = 4, warm_up: int = 1000, draws: int = 1000, seed: int = 0) -> Run:
    """NumPyro's defaults: diagonal masses, acceptance 0.8, trees of at most 10 doublings, starts uniform in (-2, 2)."""
    sampler = MCMC(
        NUTS(potential_fn=potential(p)), num_warmup=warm_up, num_samples=draws, num_chains=chains,
        chain_method="sequential", progress_bar=False,
    )  # fmt: skip
    begin = np.random.default_rng(seed).uniform(-2, 2, (chains, p.size))
    clock = time.process_time()
    sampler.warmup(
        jax.random.PRNGKey(seed), init_params=jnp.array(begin if chains > 1 else begin[0]),
        extra_fields=("num_steps",), collect_warmup=True,
    )  # fmt: skip
    steps = int(np.asarray(sampler.get_extra_fields()["num_steps"]).sum())
    sampler.run(jax.random.PRNGKey(seed + 1), extra_fields=("num_steps",))
    steps += int(np.asarray(sampler.get_extra_fields()["num_steps"]).sum())
    kept = np.array(sampler.get_samples(group_by_chain=True))
    return Run(torch.from_numpy(kept).reshape(chains, draws, p.size), steps, time.process_time() - clock)
