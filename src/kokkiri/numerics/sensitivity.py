"""How strong a hidden common cause must be to undo an effect: E-values, and robustness values by partial R².

All functions are elementwise, so that they take a posterior's draws as they take one number.

Sources: VanderWeele & Ding 2017, "Sensitivity analysis in observational research: introducing the E-value", Annals of
Internal Medicine 167; Cinelli & Hazlett 2020, "Making sense of sensitivity: extending omitted variable bias", JRSS-B
82; Chernozhukov, Cinelli, Newey, Sharma & Syrgkanis 2022, "Long story short: omitted variable bias in causal machine
learning".
"""

from __future__ import annotations

import torch
from torch import Tensor

from kokkiri.numerics.quantiles import student_t_quantile

PER_DEVIATION = 0.91  # log risk ratio of a standardised difference of one (VanderWeele & Ding 2017, table 2)


def e_value(ratio: Tensor, null: float = 1.0) -> Tensor:
    """The risk ratio that a hidden cause must have with treatment and with outcome, both, to move `ratio` to `null`.

    RR + √(RR (RR - 1)) with RR = ratio / null, or its inverse where it is below 1 (eq. 1 of VanderWeele & Ding 2017).
    1: nothing is needed.

    >>> e_value(torch.tensor([3.9, 1.8, 0.8, 1.0])).tolist()  # breast feeding and infant death; leukaemia
    [7.26303..., 3.0, 1.80901..., 1.0]
    """
    distance = torch.maximum(ratio / null, null / ratio)
    return distance + (distance * (distance - 1.0)).clamp(min=0.0).sqrt()


def risk_ratio_of_odds(odds_ratio: Tensor) -> Tensor:
    """The risk ratio that an odds ratio of a common outcome stands for: its root (VanderWeele & Ding 2017, table 2)."""
    return odds_ratio.sqrt()


def risk_ratio_of_difference(difference: Tensor) -> Tensor:
    """The risk ratio that a difference, in standard deviations of the outcome, stands for: e^(0.91 d).

    >>> risk_ratio_of_difference(torch.tensor([0.0, 0.5])).tolist()
    [1.0, 1.57617...]
    """
    return (PER_DEVIATION * difference).exp()


def partial_r2(t: Tensor, df: Tensor | float) -> Tensor:
    """The share of what is left of the outcome that the treatment explains: t² / (t² + df) (Cinelli & Hazlett, eq. 11).

    >>> round(partial_r2(torch.tensor(4.18445), 783).item(), 4)  # Darfur
    0.0219
    """
    return t.square() / (t.square() + df)


def robustness(f: Tensor) -> Tensor:
    """The partial R², with treatment and with outcome alike, of the weakest hidden cause whose bias reaches `f` scales.

    (√(f⁴ + 4 f²) - f²) / 2, the root of f² = R⁴ / (1 - R²) (Cinelli & Hazlett 2020, eq. 17). In a linear model the
    scale of the effect is its standard error times √df, so that f = |t| / √df; with networks it is `bias_scale`.
    """
    square = f.square()
    # f² (√(1 + 4 / f²) - 1) / 2 without a difference of like numbers
    return 2.0 * square / (square + (square * (square + 4.0)).sqrt()).clamp(min=torch.finfo(f.dtype).tiny)


def robustness_value(t: Tensor, df: Tensor | float, share: float = 1.0, alpha: float | None = None) -> Tensor:
    """The robustness value of a coefficient with statistic t: the partial R² that takes away `share` of it.

    alpha: that takes away its significance at that level instead (Cinelli & Hazlett 2020, eq. 18 and 19): the critical
    value is taken off first. A cause that explains much of the outcome also lowers the standard error: where f exceeds
    the inverse of the critical value, one with less of the outcome than of the treatment does more harm.

    >>> t = torch.tensor(0.09731582 / 0.02325654, dtype=torch.float64)  # Darfur
    >>> [round(robustness_value(t, 783, alpha=alpha).item(), 4) for alpha in (None, 0.05)]
    [0.1388, 0.0763]
    """
    df = torch.as_tensor(df, dtype=t.dtype)
    f = share * t.abs() / df.sqrt()
    if alpha is None:
        return robustness(f)
    tail = torch.as_tensor(1 - alpha / 2, dtype=t.dtype)
    critical = student_t_quantile(tail, df - 1) / (df - 1).sqrt()
    equal = robustness((f - critical).clamp(min=0.0))
    extreme = (f.square() - critical.square()) / (1 + f.square())
    return torch.where(f > 1 / critical, extreme, equal)


def bias(scale: Tensor, r2_outcome: Tensor | float, r2_treatment: Tensor | float) -> Tensor:
    """The largest bias of a hidden cause with these partial R²: scale √(R²_y R²_t / (1 - R²_t)) (eq. 13)."""
    r2_outcome, r2_treatment = (torch.as_tensor(r, dtype=scale.dtype) for r in (r2_outcome, r2_treatment))
    return scale * (r2_outcome * r2_treatment / (1.0 - r2_treatment)).sqrt()


def adjusted(
    estimate: Tensor, se: Tensor, df: float, r2_outcome: Tensor | float, r2_treatment: Tensor | float
) -> tuple[Tensor, Tensor]:
    """A coefficient and its standard error had the hidden cause been in the model (Cinelli & Hazlett 2020, eq. 8, 12).

    >>> number = lambda x: torch.tensor(x, dtype=torch.float64)
    >>> found = adjusted(number(0.09731582), number(0.02325654), 783, 0.37405047, 0.02749286)  # three times female
    >>> [round(v.item(), 4) for v in found]
    [0.0304, 0.0187]
    """
    r2_outcome, r2_treatment = (torch.as_tensor(r, dtype=se.dtype) for r in (r2_outcome, r2_treatment))
    moved = estimate.abs() - bias(se * df**0.5, r2_outcome, r2_treatment)
    return estimate.sign() * moved, se * ((1 - r2_outcome) / (1 - r2_treatment) * df / (df - 1)).sqrt()


def bias_scale(residual: Tensor, representer: Tensor, of_levels: Tensor, weight: Tensor) -> Tensor:
    """The scale of the bias without a linear model: √(E[(y - g)²] E[α²]) (Chernozhukov et al. 2022, theorem 2).

    residual: (n,) y less its prediction. representer: (n,) α, whose mean with any function of treatment and rows is the
    effect of it: 1{t=1} / e₁ - 1{t=0} / e₀ for an average effect. of_levels: (n,) the effect of α itself,
    α(1, x) - α(0, x), by which E[α²] = E[2 m(α) - α²] to second order. weight: (S, n), rows adding up to one.

    >>> e, t = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])
    >>> alpha = t / e - (1 - t) / (1 - e)
    >>> bias_scale(torch.tensor([1.0, -1.0]), alpha, 1 / e + 1 / (1 - e), torch.tensor([[0.5, 0.5]]))
    tensor([2.])
    """
    spread = weight @ residual.square()
    size = weight @ (2.0 * of_levels - representer.square())
    return (spread * torch.where(size > 0, size, weight @ representer.square())).sqrt()
