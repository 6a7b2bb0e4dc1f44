"""The incomplete gamma function, and quantiles of beta, gamma and Student's t, which torch lacks.

Roots are sought in coordinates in which the whole range is finite (log-odds, logarithm), on the logarithm of the
smaller tail, so that a quantile of 1e-200 and a tail of 1e-30 keep their digits. float64, elementwise, no gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kokkiri.numerics.gammas import log_gamma_power, log_rising
from kokkiri.numerics.special import incomplete_beta, log_beta_power

_INFINITE = 1e60  # a beta with this for its other parameter is a gamma: I_{x/(s+x)}(a, s) -> P(a, x), error x² / s
_FIRST_TERM = -45.0  # log x below which P(a, x) and I_x(a, b) are the first term of their series to all digits
_WIDEST = 760.0  # log-odds beyond which float64 has neither x nor 1 - x
_STEPS = 200
_TOLERANCE = 1e-10  # of the last step, relative to the spread; Newton's method squares it


def gamma_cdf(x: Tensor, shape: Tensor) -> Tensor:
    """P(a, x) = ∫_0^x t^(a-1) e^(-t) dt / Γ(a) (DLMF 8.2.4), accurate where it is small.

    As the limit of an incomplete beta: torch.special.gammainc is right to nine digits only.

    >>> round(gamma_cdf(torch.tensor(1.0), torch.tensor(1.0)).item(), 12)  # 1 - 1/e
    0.632120558829
    """
    x, shape = (t.double() for t in torch.broadcast_tensors(x, shape))
    inside = x.clamp(min=0.0)
    whole = _INFINITE + inside
    found = incomplete_beta(shape, torch.full_like(shape, _INFINITE), inside / whole, _INFINITE / whole)
    small = (inside > 0) & (inside.log() < _FIRST_TERM)
    found = torch.where(small, (shape * inside.log() - torch.lgamma(shape + 1)).exp(), found)
    return torch.where(torch.isinf(inside), 1.0, found)


def gamma_survival(x: Tensor, shape: Tensor) -> Tensor:
    """Q(a, x) = 1 - P(a, x), accurate where it is small."""
    x, shape = (t.double() for t in torch.broadcast_tensors(x, shape))
    inside = x.clamp(min=0.0)
    whole = _INFINITE + inside
    found = incomplete_beta(torch.full_like(shape, _INFINITE), shape, _INFINITE / whole, inside / whole)
    small = (inside > 0) & (inside.log() < _FIRST_TERM)
    found = torch.where(small, -torch.expm1(shape * inside.log() - torch.lgamma(shape + 1)), found)
    return torch.where(torch.isinf(inside), 0.0, found)


def beta_log_odds(below: Tensor, a: Tensor, b: Tensor, above: Tensor | None = None) -> Tensor:
    """log(x / (1 - x)) of the x with I_x(a, b) = below; ∓∞ for 0 and 1.

    above: 1 - below, where it is known more precisely than subtraction gives.
    """
    p, q, a, b = _tails(below, above, a, b)
    turned = p > q  # the smaller tail is the lower one of the same with a and b changed over
    goal, rest = torch.minimum(p, q).clamp(min=1e-320), torch.maximum(p, q)
    a, b = torch.where(turned, b, a), torch.where(turned, a, b)
    low, high = _first_term(goal, a, b), -_first_term(rest, b, a)
    spread = (torch.polygamma(1, a) + torch.polygamma(1, b)).sqrt()
    start = torch.digamma(a) - torch.digamma(b) + spread * torch.special.ndtri(goal)
    start = torch.where(low.isnan(), torch.where(high.isnan(), start, high), low)
    found = _root(_beta_tail, (goal, a, b), start, spread, low.isnan() & high.isnan())
    found = torch.where(torch.minimum(p, q) == 0, -torch.inf, found)
    return torch.where(turned, -found, found)


def _tails(below: Tensor, above: Tensor | None, *parameters: Tensor) -> tuple[Tensor, ...]:
    """Both tails and the parameters, of one shape."""
    other = 1 - below.double() if above is None else above
    return tuple(t.double() for t in torch.broadcast_tensors(below, other, *parameters))


def _first_term(mass: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Log x with x^a / (a B(a, b)) = mass, where 1 + (1 - b) x a / (a + 1), the next factor, rounds to 1; or NaN."""
    log_x = (mass.log() + torch.lgamma(a + 1) - log_rising(b, a)) / a
    return torch.where(log_x + b.clamp(min=1.0).log() < _FIRST_TERM, log_x, torch.nan)


def _beta_tail(t: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """I_x(a, b) and its derivative in the log-odds t of x."""
    x, y = torch.sigmoid(t), torch.sigmoid(-t)
    return incomplete_beta(a, b, x, y), log_beta_power(a, b, x, y).exp()


def beta_quantile(below: Tensor, a: Tensor, b: Tensor, above: Tensor | None = None) -> Tensor:
    """The x with I_x(a, b) = below, to 1e-10 of itself.

    >>> round(beta_quantile(torch.tensor(0.25), torch.tensor(1.0), torch.tensor(2.0)).item(), 12)  # 1 - √(3/4)
    0.133974596216
    """
    return torch.sigmoid(beta_log_odds(below, a, b, above))


def gamma_log_quantile(below: Tensor, shape: Tensor, above: Tensor | None = None) -> Tensor:
    """Log x of the x with P(a, x) = below; ∓∞ for 0 and 1."""
    p, q, a = _tails(below, above, shape)
    side = torch.where(p > q, -1.0, 1.0)  # -1: the upper tail is the smaller one
    goal = torch.minimum(p, q).clamp(min=1e-320)
    first = (p.log() + torch.lgamma(a + 1)) / a
    first = torch.where(first < _FIRST_TERM, first, torch.nan)
    spread = torch.polygamma(1, a).sqrt()
    start = torch.digamma(a) + side * spread * torch.special.ndtri(goal)
    # a tail that falls is one that rises in -t
    start = side * torch.where(first.isnan(), start, first)
    found = side * _root(_gamma_tail, (goal, a, side), start, spread, first.isnan())
    return torch.where(p == 0, -torch.inf, torch.where(q == 0, torch.inf, found))


def _gamma_tail(u: Tensor, a: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """The tail of a gamma on one side of x = e^(side u), and its derivative in u."""
    x = (side * u).exp()
    return torch.where(side < 0, gamma_survival(x, a), gamma_cdf(x, a)), log_gamma_power(a, x).exp()


def gamma_quantile(below: Tensor, shape: Tensor, above: Tensor | None = None) -> Tensor:
    """The x with P(a, x) = below, to 1e-10 of itself.

    >>> round(gamma_quantile(torch.tensor(0.5), torch.tensor(1.0)).item(), 12)  # log 2
    0.69314718056
    """
    return gamma_log_quantile(below, shape, above).exp()


def student_t_quantile(below: Tensor, df: Tensor, above: Tensor | None = None) -> Tensor:
    """The t with P(T <= t) = below, df > 0 degrees of freedom: df / (df + t²) is a beta(df / 2, ½).

    >>> round(student_t_quantile(torch.tensor(0.25), torch.tensor(1.0)).item(), 12)  # Cauchy
    -1.0
    """
    p, q, df = _tails(below, above, df)
    tail = torch.minimum(p, q)
    inside = (p - q).abs()  # P(|T| < |t|)
    odds = beta_log_odds(2 * tail, df / 2, torch.full_like(df, 0.5), inside)
    size = (0.5 * (df.log() - odds)).exp()
    size = torch.where(inside == 0, 0.0, size)
    return torch.where(p < q, -size, size)


def _root(
    tail: Callable[..., tuple[Tensor, Tensor]], given: tuple[Tensor, ...], start: Tensor, spread: Tensor, open_: Tensor
) -> Tensor:
    """The t with tail(t, …) = goal for a tail that rises, by Newton's method on its logarithm inside a bracket.

    tail: (t, …) -> (mass, its derivative in t); given: the goal, and the tail's other arguments. spread: about how wide
    the density is in t. open_: which roots are to be found; the others are `start`.
    Where a step leaves the bracket, or is not half as long as the one before, the bracket is halved instead.
    """
    shape, out, rows = start.shape, start.reshape(-1).clone(), open_.reshape(-1).nonzero().squeeze(1)
    goal, *others, near = (t.reshape(-1)[rows] for t in (*given, _TOLERANCE * spread.clamp(max=1.0)))
    u = out[rows].clamp(-_WIDEST, _WIDEST)
    down, up = torch.full_like(u, -_WIDEST), torch.full_like(u, _WIDEST)
    move = up - down
    for _ in range(_STEPS):
        mass, slope = tail(u, *others)
        error = (mass / goal).log()
        down, up = torch.where(error <= 0, u, down), torch.where(error >= 0, u, up)
        newton = u - error * mass / slope
        step = (newton - u).abs()
        fast = (newton >= down) & (newton <= up) & ((step <= 0.5 * move.abs()) | (step <= near))
        new = torch.where(fast, newton, 0.5 * (down + up))
        move, u = new - u, new
        out[rows] = u
        left = (move.abs() > torch.maximum(near, 4e-16 * u.abs())).nonzero().squeeze(1)
        if not len(left):
            break
        rows, goal, near, u, down, up, move, *others = (t[left] for t in (rows, goal, near, u, down, up, move, *others))
    return out.reshape(shape)
