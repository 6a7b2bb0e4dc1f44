"""Activations by name, and the initial weights that suit them."""

from __future__ import annotations

import math

import torch
from torch import nn

from kokkiri.errors import UsageError, nearest

OUTPUT_SCALE = 0.1  # so that an untrained network says nearly nothing: equal odds, or the mean of the training rows

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "identity": nn.Identity,
}


def activation(owner: str, name: str) -> nn.Module:
    """An activation, elementwise and without parameters."""
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        raise UsageError(
            f"{owner} knows no activation {name!r}",
            needs="the name of an activation",
            found=repr(name),
            fix=nearest(str(name), _ACTIVATIONS),
        )
    return _ACTIVATIONS[name]()


def initialise(layer: nn.Linear | nn.Conv2d, name: str, *, first: bool) -> None:
    """Weights drawn so that neither the signal nor its gradient grows or fades with depth.

    relu, gelu, silu: N(0, 2 / fan_in) (He et al. 2015, "Delving deep into rectifiers", eq. 10). tanh, identity:
    U(−a, a) with a = √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010, "Understanding the difficulty of training deep
    feedforward neural networks", eq. 16). sigmoid: as tanh, since σ(z) = (1 + tanh(z/2)) / 2: four times those weights
    (twice in the first layer), and biases that take off the mean 1/2 of what comes in.
    Biases: U(±1 / √fan_in), as in torch; were they 0, all kinks of relu units on one input would stand at one point.
    """
    if name in {"relu", "gelu", "silu"}:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight, gain=1.0 if name != "sigmoid" else 2.0 if first else 4.0)
    if layer.bias is not None:
        each = layer.weight.detach().flatten(1)
        bound = 1 / math.sqrt(each.shape[1])
        nn.init.uniform_(layer.bias, -bound, bound)
        if name == "sigmoid" and not first:
            with torch.no_grad():
                layer.bias.sub_(each.sum(1) / 2)


def initialise_output(layer: nn.Linear) -> None:
    """Weights N(0, OUTPUT_SCALE² / fan_in), no bias."""
    nn.init.normal_(layer.weight, std=OUTPUT_SCALE / math.sqrt(layer.in_features))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
