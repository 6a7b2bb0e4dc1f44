"""Kokkiri's own networks as plain values: what model.json holds in place of code."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from kokkiri.errors import ModelError, UsageError, nearest
from kokkiri.networks.convnet import ConvNet
from kokkiri.networks.embeddings import Embeddings
from kokkiri.networks.mlp import MLP

_KINDS: dict[str, type[MLP | ConvNet | Embeddings]] = {"MLP": MLP, "ConvNet": ConvNet, "Embeddings": Embeddings}


def config(network: nn.Module) -> dict[str, Any] | None:
    """A network's name and the arguments it was made with, as JSON values; None if it is not one of kokkiri's.

    >>> config(MLP(2, [4], 1))["widths"], config(nn.Linear(2, 1))
    ([4], None)
    """
    for name, kind in _KINDS.items():
        if type(network) is kind:  # a subclass may do anything in its forward
            return {"name": name, **copy.deepcopy(network.settings)}
    return None


def from_config(values: Mapping[str, Any]) -> MLP | ConvNet | Embeddings:
    """The network that `config` wrote down, with fresh weights.

    >>> from_config(config(MLP(2, [4], 1))).settings["widths"]
    [4]
    """
    name = str(values.get("name"))
    if name not in _KINDS:
        raise ModelError(
            f"kokkiri has no network {name!r}", needs="a network's name", found=repr(name), fix=nearest(name, _KINDS)
        )
    try:
        return _KINDS[name](**{k: v for k, v in values.items() if k != "name"})
    except (TypeError, UsageError) as error:
        raise ModelError(
            f"the configuration of this {name} cannot be used",
            needs="the values that kokkiri.networks.config wrote",
            found=str(error).partition("\n")[0],
            fix="save the model again",
        ) from error
