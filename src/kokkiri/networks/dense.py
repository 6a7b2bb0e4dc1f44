"""Reading a network of affine maps and nonlinearities as a program, so that an engine may step it by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from torch import nn

from kokkiri.networks.mlp import MLP


class Operation(NamedTuple):
    """One step of the program.

    kind: affine, relu, tanh, sigmoid, gelu, silu, dropout, norm, hold, "add held", "add input". name: the prefix of its
    parameters. value: the dropout rate, or the epsilon of a normalisation.
    """

    kind: str
    name: str = ""
    value: float = 0.0


def program(network: nn.Module) -> tuple[Operation, ...] | None:
    """The program of a network; None where it holds anything else, is tied, frozen in part, or is not made in order.

    >>> [op.kind for op in program(nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))]
    ['affine', 'tanh', 'affine']
    """
    whole = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    if len(whole) != len(list(network.parameters())) or not all(p.requires_grad for p in network.parameters()):
        return None
    if type(network) is nn.Sequential:
        return _sequence(network, "")
    if type(network) is MLP and not any(hooked(m) for m in network.modules()):
        return _mlp(network)
    return None


def _mlp(network: MLP) -> tuple[Operation, ...] | None:
    if network.embed is not None:
        return None
    settings, kind = network.settings, network.settings["activation"]
    sizes = [network.inputs.width, *settings["widths"]]
    out: list[Operation] = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        adds = settings["residual"] and before == after
        out += [Operation("hold")] if adds else []
        out += [Operation("affine", f"hidden.{i}.")]
        out += [Operation("norm", f"norms.{i}.", nn.LayerNorm(1).eps)] if settings["norm"] else []
        out += [Operation(kind)] if kind != "identity" else []
        out += [Operation("dropout", value=settings["dropout"])] if settings["dropout"] else []
        out += [Operation("add held")] if adds else []
    out += [Operation("affine", "output.")]
    out += [Operation("add input", "skip.")] if network.skip is not None else []
    return tuple(out)


def _sequence(parts: nn.Sequential, prefix: str) -> tuple[Operation, ...] | None:
    out: list[Operation] = []
    for name, part in parts.named_children():
        if type(part) is nn.Flatten and not out:
            continue  # the engine hands over flat rows
        op = operation(part, f"{prefix}{name}.")
        if op is None:
            return None
        out += op
    return tuple(out) if any(op.kind == "affine" for op in out) else None


def hooked(part: nn.Module) -> bool:
    """Whether a user's hook watches or changes what a module does: then it must be called."""
    return bool(part._forward_hooks or part._forward_pre_hooks)  # ruff: ignore[private-member-access] - torch has no public question for it


def operation(part: nn.Module, name: str) -> list[Operation] | None:
    """The operation of one plain module, in a list; empty where it does nothing, None where it is not known."""
    if hooked(part):
        return None
    kind = type(part)  # the exact type: a subclass may do anything
    made: Any = part
    if kind is nn.Linear:
        return [Operation("affine", name)]
    if kind is nn.Dropout:
        return [Operation("dropout", value=float(made.p))] if made.p else []
    if kind is nn.LayerNorm and len(made.normalized_shape) == 1 and made.elementwise_affine and made.bias is not None:
        return [Operation("norm", name, made.eps)]
    if kind is nn.GELU and made.approximate == "none":
        return [Operation("gelu")]
    plain = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SiLU: "silu"}
    if kind in plain:
        return [Operation(plain[kind])]
    return [] if kind is nn.Identity else None
