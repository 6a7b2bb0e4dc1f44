"""How the measures of sensitivity are computed from rows and draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kokkiri.causal.ground import Ground
from kokkiri.causal.sensitivity import Benchmark, Bounds, Measure
from kokkiri.numerics import marginal_sensitivity as marginal
from kokkiri.numerics.matched_pairs import critical_gamma, match, signed_ranks, undoing_gamma
from kokkiri.numerics.one_step import parts
from kokkiri.numerics.random import generator, permutation
from kokkiri.numerics.sensitivity import bias_scale, e_value, risk_ratio_of_difference, robustness

DRAWS = 1000
FACTORS = torch.cat([torch.ones(1), torch.logspace(0.02, 1, 40)]).double()  # Λ from 1 to 10
CALIPER = 0.2  # of a standard deviation of the log-odds (Austin 2011, Pharmaceutical Statistics 10)
LEAST_PAIRS = 20
AT_ONCE = 2**23


def of_e_value(means: Tensor, level: int, versus: int, sd: float, *, event: bool) -> Measure:
    """From draws (S, K) of E[Y(k)]: of their ratio for an event, of their standardised difference for a number."""
    a, v = means[:, level], means[:, versus]
    if event and bool((means[:, [level, versus]] > 0).all()):
        ratio, at, note = a / v, a.mean() / v.mean(), "on the scale of risk ratios"
    else:
        ratio = risk_ratio_of_difference((a - v) / sd)
        at = risk_ratio_of_difference((a.mean() - v.mean()) / sd)
        note = "a difference in standard deviations taken for a risk ratio, e^(0.91 d)"
    same = (ratio > 1) == (at > 1)
    return Measure("e-value", float(e_value(at)), torch.where(same, e_value(ratio), 1.0), note)


def of_regression(draws: Tensor, at: float, scale: float) -> Measure:
    """The robustness value of a coefficient: scale is its standard error times the root of the degrees of freedom."""
    same = draws.sign() == torch.tensor(at).sign()
    value = robustness(draws.abs() / scale)
    return Measure("robustness", float(robustness(torch.tensor(abs(at) / scale, dtype=torch.float64))),
                   torch.where(same, value, 0.0), "by the linear model")  # fmt: skip


def of_scores(ground: Ground, draws: int, seed: int) -> Measure:
    """The robustness value without a linear model: effect, residuals and representer under the same bootstrap."""
    assert ground.outcome is not None
    assert ground.propensity is not None
    t, y, e, mu = ground.t, ground.y, ground.propensity, ground.outcome
    a, v, floor = ground.level, ground.versus, e.clamp(min=ground.least)  # floor: what divides
    row = lambda x: x.unsqueeze(0)
    above = parts(row(t), row(y), row(mu), row(e), a, v, ground.whom, ground.least).above[0]
    had_a, had_v = (t == a).double(), (t == v).double()
    if ground.whom == "treated":
        alpha, of_levels = had_a - had_v * e[a] / floor[v], had_a * (1 + e[a] / floor[v])
    elif ground.whom == "untreated":
        alpha, of_levels = had_a * e[v] / floor[a] - had_v, had_v * (1 + e[v] / floor[a])
    else:
        alpha, of_levels = had_a / floor[a] - had_v / floor[v], 1 / floor[a] + 1 / floor[v]
    seen = mu.gather(0, t.long().unsqueeze(0))[0]

    def value(w: Tensor) -> Tensor:
        return (w @ above) / bias_scale(y - seen, alpha, of_levels, w)  # the share of the treated would cancel

    whole = value(ground.weight.unsqueeze(0) / ground.weight.sum())
    f = torch.cat([value(w) for w in bootstrap_weights(ground.weight, draws, seed)])
    return Measure("robustness", float(robustness(whole.abs())[0]),
                   torch.where(f.sign() == whole.sign(), robustness(f.abs()), 0.0))  # fmt: skip


def of_odds(ground: Ground, draws: int, seed: int) -> tuple[Measure, Bounds]:
    """Λ at which the sharp bound reaches zero, and the bounds by Λ."""
    size = max(1, AT_ONCE // len(ground.y))
    found = [_bounds(ground, factors, draws, seed) for factors in FACTORS.split(size)]
    whole, drawn = (torch.cat(part, -1) for part in zip(*found, strict=True))
    towards = lambda b: b[0] if float(whole[0, 0]) > 0 else -b[1]
    low, high = torch.quantile(drawn[0], 0.025, dim=0), torch.quantile(drawn[1], 0.975, dim=0)
    at, over = (marginal.crossing(towards(b), FACTORS) for b in (whole, drawn))
    note = f"sharp bounds with {ground.how}" if ground.how else ""
    return Measure("marginal", float(at), over, note), Bounds(FACTORS, whole[0], whole[1], low, high)


def _bounds(ground: Ground, factors: Tensor, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Least and greatest effect for some factors: (2, L) for the rows as they are, (2, S, L) of the bootstrap."""
    assert ground.propensity is not None
    e, a, v = ground.propensity, ground.level, ground.versus
    floor = e.clamp(min=ground.least)
    had = [(ground.t == k).double() for k in (a, v)]
    low_a, high_a = _level(ground, a, factors)
    low_v, high_v = _level(ground, v, factors)
    if ground.whom == "average":
        least = marginal.average(low_a, floor[a]) - marginal.average(high_v, floor[v])
        greatest = marginal.average(high_a, floor[a]) - marginal.average(low_v, floor[v])
        below = torch.ones_like(ground.y)
    elif ground.whom == "treated":
        of = lambda part: had[0] * ground.y - marginal.among(part, floor[v], had[0], e[a])
        least, greatest, below = of(high_v), of(low_v), had[0]
    else:
        of = lambda part: marginal.among(part, floor[a], had[1], e[v]) - had[1] * ground.y
        least, greatest, below = of(low_a), of(high_a), had[1]

    def both(w: Tensor) -> Tensor:
        return torch.stack([w @ least.mT, w @ greatest.mT]) / (w @ below).unsqueeze(-1)

    drawn = [both(w) for w in bootstrap_weights(ground.weight, draws, seed)]
    return both(ground.weight.unsqueeze(0))[:, 0], torch.cat(drawn, 1)


def _level(ground: Ground, k: int, factors: Tensor) -> tuple[marginal.Bounded, marginal.Bounded]:
    assert ground.outcome is not None
    mu, had = ground.outcome[k], ground.t == k
    if ground.event:
        inside = mu.clamp(0.0, 1.0)
        above, other = marginal.event_tails(inside, factors), marginal.event_tails(1 - inside, factors)
        below = marginal.Tail(other.quantile - 1, other.expected - 1)
    else:
        rest, w = (ground.y - mu)[had], ground.weight[had]
        above, below = marginal.number_tails(mu, rest, factors, w), marginal.number_tails(-mu, -rest, factors, w)
    return marginal.sharp_scores(ground.y, had.double(), mu, above, below, factors)


def of_pairs(ground: Ground, draws: int, seed: int) -> Measure | str:
    """Γ at which the estimate from matched pairs could be zero; or why there is none."""
    assert ground.outcome is not None
    assert ground.propensity is not None
    a, v = ground.level, ground.versus
    odds = (ground.propensity[a] / ground.propensity[v].clamp(min=1e-12)).clamp(min=1e-12).log()
    dealt = permutation(len(ground.t), seed, "order of pairs")  # rows that are alike may be sorted by their outcome
    treated, control = (dealt[ground.t[dealt] == k] for k in (a, v))
    both = torch.cat([treated, control])
    pairs = match(odds, treated, control, CALIPER * float(odds[both].std()) + 1e-9)
    if len(pairs.treated) < LEAST_PAIRS:
        return f"only {len(pairs.treated)} pairs of rows are alike"
    rest = ground.y - ground.outcome[v]
    difference = rest[pairs.treated] - rest[pairs.control]
    half = float(signed_ranks(difference.abs()).statistic) / 2
    d = difference if float(signed_ranks(difference).statistic) >= half else -difference
    whole = undoing_gamma(d, torch.full((1, len(d)), 1 / len(d), dtype=torch.float64))
    drawn = torch.cat([undoing_gamma(d, w) for w in bootstrap_weights(torch.ones_like(d), draws, seed)])
    note = (f"{len(d):,} matched pairs; their signed-rank test keeps p < 0.025 up to Γ = "
            f"{critical_gamma(signed_ranks(d), 0.025):.2f}")  # fmt: skip
    return Measure("rosenbaum", float(whole[0]), drawn, note)


def strongest(ground: Ground) -> Benchmark | None:
    """The covariate whose weaker partial R², of the two, is greatest, by linear models of treatment and outcome."""
    groups = columns_by_name(ground.names)
    if not groups:
        return None
    x = torch.cat([torch.ones(len(ground.x), 1, dtype=torch.float64), ground.x], 1)
    t = (ground.t == ground.level).double() if ground.propensity is not None else ground.t.double()
    found = []
    gram = torch.cat([x, (t - t.mean()).unsqueeze(1), (ground.y - ground.y.mean()).unsqueeze(1)], 1)
    gram = gram.mT @ (gram * ground.weight.unsqueeze(1))
    last = x.shape[1]
    for name, columns in groups.items():
        rest = [i for i in range(last) if i - 1 not in columns]
        of_t = _explained(gram, rest, [i + 1 for i in columns], last)
        of_y = _explained(gram, [*rest, last], [i + 1 for i in columns], last + 1)
        found.append(Benchmark(name, of_t, of_y))
    return max(found, key=lambda b: min(b.treatment, b.outcome))


def columns_by_name(names: Sequence[str]) -> dict[str, list[int]]:
    """The encoded columns of each column of the table.

    >>> columns_by_name(["age", "city = a", "city = b", "age missing"])
    {'age': [0, 3], 'city': [1, 2]}
    """
    found: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        found.setdefault(name.split(" = ")[0].removesuffix(" missing"), []).append(i)
    return found


def _explained(gram: Tensor, rest: Sequence[int], columns: Sequence[int], target: int) -> float:
    """The share of what `rest` leaves of the target that more columns explain."""
    left = _left(gram, list(rest), target)
    return max(0.0, 1 - _left(gram, [*rest, *columns], target) / left) if left > 0 else 0.0


def _left(gram: Tensor, columns: list[int], target: int) -> float:
    """The sum of squares that least squares leave."""
    size = gram[columns, columns].clamp(min=1e-300).sqrt()
    moment = gram[columns, target] / size
    inverse = torch.linalg.pinv(gram[columns][:, columns] / torch.outer(size, size), rtol=1e-10, hermitian=True)
    return float(gram[target, target] - moment @ inverse @ moment)


def bootstrap_weights(weight: Tensor, draws: int, seed: int) -> Iterator[Tensor]:
    """Rubin's weights times those of the rows, (s, n) at a time, each adding up to one."""
    rng, step = generator(seed, "sensitivity"), max(1, AT_ONCE // len(weight))
    for start in range(0, draws, step):
        uniform = torch.rand(min(step, draws - start), len(weight), generator=rng, dtype=torch.float64)
        drawn = -torch.log1p(-uniform) * weight
        yield drawn / drawn.sum(1, keepdim=True)
