"""Which functions a network hands its parameters to, seen by running it once.

A `TorchFunctionMode` watches the forward pass. Calls of linear maps, convolutions, normalisations and embeddings are
written down with their input and output; any other function that a parameter goes through marks that parameter, and its
curvature is then found by differentiating, datum by datum. So what is known of a parameter is known from what was
done with it, not from the type of the module that holds it: tied weights, a module called twice, attention that calls
the linear function on its packed projection, all are what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CellType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_LINEAR = torch.nn.functional.linear
_CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}
_GUARDS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@dataclass(frozen=True)
class Use:
    """One call of a known function. weight, bias: names of parameters, or "". settings: strides and the like."""

    kind: str  # linear, convolution, scale (an elementwise gain and shift after a normalisation), lookup
    weight: str
    bias: str
    input: Tensor  # of the linear map; of a scale, normalised
    output: Tensor
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0  # of the output when it was written down; a change in place counts it up


class Tape(TorchFunctionMode):
    """Watches one forward pass. uses: the calls in order. opaque: parameters that went through anything else.

    copies: outputs are copied before the network goes on, for networks that overwrite them in place.
    """

    def __init__(self, module: nn.Module, *, copies: bool = False) -> None:
        super().__init__()
        self.names = {id(p): name for name, p in module.named_parameters()}  # tied parameters under their first name
        self.uses: list[Use] = []
        self.opaque: set[str] = set()
        self.copies = copies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # ruff: ignore[bad-dunder-method-name] - torch's
        kwargs = kwargs or {}
        if isinstance(func, FunctionType) and func.__module__ == "torch.nn.functional":  # made of others: watch those
            with self:
                return _unguarded(func)(*args, **kwargs)
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        named = {self.names[id(t)] for t in _tensors((args, kwargs)) if id(t) in self.names}
        out = func(*args, **kwargs)
        if not named or not any(t.requires_grad for t in _tensors(out)):
            return out
        use = self._known(func, args, kwargs, out)
        known = {use.weight, use.bias} if use is not None else set()
        self.opaque |= named - known
        if use is None or not known - {""}:
            return out
        self.uses.append(use)
        return out.clone() if self.copies else out

    @property
    def overwritten(self) -> bool:
        """Whether some output was changed in place after it was written down."""
        return any(use.output._version != use.version for use in self.uses)  # ruff: ignore[private-member-access] - torch has no public name for it

    def _name(self, t: Any) -> str:
        return self.names.get(id(t), "") if isinstance(t, Tensor) else ""

    def _known(self, func: Any, args: Any, kwargs: Any, out: Any) -> Use | None:
        given = lambda position, name, default=None: (
            args[position] if len(args) > position else kwargs.get(name, default)
        )
        if func is _LINEAR:
            x, weight, bias = given(0, "input"), given(1, "weight"), given(2, "bias")
            return self._use("linear", weight, bias, x, out)
        if func in _CONVOLUTIONS and out.ndim == _CONVOLUTIONS[func] + 2:
            n = _CONVOLUTIONS[func]
            x, weight, bias = given(0, "input"), given(1, "weight"), given(2, "bias")
            wide = lambda v: (v,) * n if isinstance(v, int) else tuple(v)
            stride, padding, dilation = given(3, "stride", 1), given(4, "padding", 0), given(5, "dilation", 1)
            if isinstance(padding, str) and padding == "same":
                return self._same(weight, bias, x, out, wide(dilation), given(6, "groups", 1))
            settings = {
                "kernel": tuple(weight.shape[2:]), "stride": wide(stride), "dilation": wide(dilation),
                "padding": wide(0) if isinstance(padding, str) else wide(padding), "groups": given(6, "groups", 1),
            }  # fmt: skip
            return self._use("convolution", weight, bias, x, out, settings)
        if func is torch.embedding:
            weight, tokens, ignored = args[0], args[1], given(2, "padding_idx", -1)
            if given(3, "scale_grad_by_freq", False):
                return None
            return self._use("lookup", weight, None, tokens, out, {"ignored": ignored, "rows": len(weight)})
        if func in {torch.layer_norm, torch.group_norm, torch.batch_norm, torch.rms_norm}:
            return self._normalisation(func, args, kwargs, out)
        return None

    def _same(self, weight: Any, bias: Any, x: Tensor, out: Tensor, dilation: Any, groups: int) -> Use | None:
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        if any(t % 2 for t in total):
            return None  # torch pads such ones by one more on one side
        settings = {
            "kernel": tuple(weight.shape[2:]), "stride": (1,) * len(dilation), "dilation": tuple(dilation),
            "padding": tuple(t // 2 for t in total), "groups": groups,
        }  # fmt: skip
        return self._use("convolution", weight, bias, x, out, settings)

    def _normalisation(self, func: Any, args: Any, kwargs: Any, out: Tensor) -> Use | None:
        """What is normalised is computed again without gain and shift; channels go last."""
        given = lambda position, name, default=None: (
            args[position] if len(args) > position else kwargs.get(name, default)
        )
        x = given(0, "input").detach()
        with torch.no_grad():
            if func is torch.layer_norm:
                shape = given(1, "normalized_shape")
                weight, bias = given(2, "weight"), given(3, "bias")
                flat, z = torch.layer_norm(x, shape, None, None, given(4, "eps", 1e-5)), out
                tail = -len(shape)
                return self._use("scale", weight, bias, flat.flatten(tail), z, {"last": len(shape)})
            if func is torch.rms_norm:
                shape = given(1, "normalized_shape")
                flat = torch.rms_norm(x, shape, None, given(3, "eps"))
                return self._use(
                    "scale", given(2, "weight"), None, flat.flatten(-len(shape)), out, {"last": len(shape)}
                )
            if func is torch.group_norm:
                flat = torch.group_norm(x, given(1, "num_groups"), None, None, given(4, "eps", 1e-5))
                weight, bias = given(2, "weight"), given(3, "bias")
            else:
                if given(5, "training"):
                    return None  # data feel one another
                flat = torch.batch_norm(
                    x, None, None, args[3], args[4], training=False, momentum=0.0, eps=given(7, "eps"),
                    cudnn_enabled=False,
                )  # fmt: skip
                weight, bias = given(1, "weight"), given(2, "bias")
        return self._use("scale", weight, bias, flat.movedim(1, -1), out, {"last": 0})

    def _use(
        self, kind: str, weight: Any, bias: Any, x: Tensor, out: Tensor, settings: Mapping[str, Any] | None = None
    ) -> Use:
        version = out._version  # ruff: ignore[private-member-access] - torch has no public name for it
        return Use(kind, self._name(weight), self._name(bias), x.detach(), out, settings or {}, version)


def _unguarded(func: FunctionType) -> Callable[..., Any]:
    """The same function, for which nobody watches: torch's own in Python would hand themselves over again for ever."""
    names = {**func.__globals__, **{guard: _nobody for guard in _GUARDS if guard in func.__globals__}}
    held = None if func.__closure__ is None else tuple(map(_unguarded_cell, func.__closure__))
    copy = FunctionType(func.__code__, names, func.__name__, func.__defaults__, held)
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _unguarded_cell(cell: CellType) -> CellType:
    inner = cell.cell_contents  # max_pool2d holds the two functions that it chooses from
    return CellType(_unguarded(inner)) if isinstance(inner, FunctionType) else cell


def _nobody(*_: Any) -> bool:
    return False


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from _tensors(part)
    elif isinstance(tree, dict):
        yield from _tensors(tuple(tree.values()))
