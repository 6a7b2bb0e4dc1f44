"""A Gaussian prior with a precision for each group of parameters, which evidence may move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kokkiri.errors import UsageError
from kokkiri.priors.normal import LIKELIHOOD_SD
from kokkiri.types import LIKELIHOOD_PREFIX, Params

PREFIX = "precision of "


@dataclass(frozen=True)
class GroupedNormal:
    """log p(θ) = sum_g [½ P_g log λ_g - ½ P_g log 2π - ½ λ_g |θ_g|²], a precision λ_g for each group of parameters.

    precisions: pairs of a group and its precision; a group is a parameter's name, or what it begins with up to a dot.
    What the likelihood learns has N(0, 3²), as under `Normal`.

    While evidence is maximised during training, `gradient` adds γ, the number of parameters that the data determine, to
    the slope of log σ: so σ² becomes the residual sum of squares over N - γ, not over N, where the evidence is highest
    (MacKay 1992, eq. 4.7). γ is a hyperparameter, "freedom", and no part of log p(θ).

    >>> prior = GroupedNormal((("hidden.0", 1.0), ("output", 4.0)))
    >>> prior.log_prob({"output.bias": torch.zeros(2)}, prior.hyperparameters())
    tensor(-0.4516, dtype=torch.float64)
    """

    elementwise: ClassVar[bool] = False

    precisions: tuple[tuple[str, float], ...]

    def __post_init__(self) -> None:
        """Refuses precisions that are none."""
        wrong = [(g, p) for g, p in self.precisions if not 0 < p < math.inf]
        if wrong or not self.precisions:
            raise UsageError(
                "GroupedNormal got " + (f"precision {wrong[0][1]!r} for {wrong[0][0]!r}" if wrong else "no groups"),
                needs="a finite precision > 0 for each group",
                fix="GroupedNormal((('hidden.0', 1.0), ('output', 1.0)))",
            )  # fmt: skip

    def hyperparameters(self) -> dict[str, Tensor]:
        """A precision for each group, and γ."""
        each = {PREFIX + g: torch.tensor(float(p), dtype=torch.float64) for g, p in self.precisions}
        return {**each, "freedom": torch.zeros((), dtype=torch.float64)}

    def group(self, name: str) -> str:
        """Which group a parameter belongs to: the longest name that fits.

        Raises UsageError where none does.
        """
        fits = [g for g, _ in self.precisions if name == g or name.startswith(g + ".") or not g]
        if not fits:
            raise UsageError(
                f"no group of the prior holds {name}", needs="a precision for every parameter",
                found=", ".join(g for g, _ in self.precisions), fix="kk.Normal(1.0): one precision for all",
            )  # fmt: skip
        return max(fits, key=len)

    def log_prob(self, params: Params, hyper: dict[str, Any]) -> Tensor:
        """() nats."""
        total: Tensor | float = 0.0
        for name, t in params.items():
            own = self._precision(name, hyper)
            log_precision = own.log() if isinstance(own, Tensor) else math.log(own)
            total = total + 0.5 * (t.numel() * (log_precision - math.log(2 * math.pi)) - own * (t * t).sum())
        return total if isinstance(total, Tensor) else torch.tensor(total)

    def gradient(self, params: Params, hyper: dict[str, Any]) -> Params:
        """-λθ of each group, and γ more for log σ; precisions are numbers, or one a replica."""
        out = {}
        for name, t in params.items():
            out[name] = -_along(self._precision(name, hyper), t) * t
            if name == LIKELIHOOD_PREFIX + "log_scale":
                out[name] = out[name] + _along(hyper.get("freedom", 0.0), t)
        return out

    def precision_at(self, params: Params, hyper: dict[str, Any]) -> Params:
        """-d² log p / dθ², entry by entry."""
        return {name: torch.ones_like(t) * _along(self._precision(name, hyper), t) for name, t in params.items()}

    def config(self) -> dict[str, Any]:
        """Plain values for `from_config`."""
        return {"name": "GroupedNormal", "precisions": [[g, float(p)] for g, p in self.precisions]}

    def _precision(self, name: str, hyper: Mapping[str, Any]) -> Any:
        return LIKELIHOOD_SD**-2 if name.startswith(LIKELIHOOD_PREFIX) else hyper[PREFIX + self.group(name)]


def groups_of(names: list[str], by: str) -> dict[str, str]:
    """The group of each parameter. by: "layer" (what owns it), "tensor" (itself), "one".

    >>> groups_of(["hidden.0.weight", "hidden.0.bias"], "layer")
    {'hidden.0.weight': 'hidden.0', 'hidden.0.bias': 'hidden.0'}
    """
    match by:
        case "layer":
            return {n: n.rpartition(".")[0] or n for n in names}
        case "tensor":
            return {n: n for n in names}
        case _:
            return dict.fromkeys(names, "")


def _along(value: Any, t: Tensor) -> Any:
    """A number for each replica, (R,) or (R, 1), as it multiplies (R, ...)."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value.reshape(len(value), *[1] * (t.ndim - 1)).to(t.dtype)
