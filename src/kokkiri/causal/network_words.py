"""What networks learnt, in words: who foretells outcome and treatment, and how well."""

from __future__ import annotations

from collections.abc import Mapping

from kokkiri.phrases import percent, plain

WORDS = {"constant": "its shares alone", "outcome": "the outcome that is expected", "linear": "a line",
         "linear and outcome": "a line with the outcome that is expected", "network": "networks"}  # fmt: skip
SHOWN = 0.005  # share below which a candidate is not worth a word
FAR = 2.0  # posterior standard deviations between plug-in and correction, from which on neither is to be trusted
NOTHING = 5e-4  # nats a row that are none


def foretold_by(what: str, weights: Mapping[str, float]) -> str:
    """Whose mixture foretells something; variants of one candidate, named in parentheses, count together.

    >>> foretold_by("the treatment", {"linear (weak)": 0.5, "linear (strong)": 0.2, "network": 0.3, "constant": 0.0})
    'the treatment is foretold by a line (70 %) and networks (30 %)'
    """
    together: dict[str, float] = {}
    for name, weight in weights.items():
        family = name.partition(" (")[0]
        together[family] = together.get(family, 0.0) + weight
    shown = sorted(((w, name) for name, w in together.items() if w > SHOWN), reverse=True)
    parts = [f"{WORDS.get(name, name)} ({percent(w, 0)})" for w, name in shown]
    return f"{what} is foretold by {' and '.join(filter(None, [', '.join(parts[:-1]), parts[-1]]))}"


def how_well(ours: float, shares: float) -> str:
    """How much better a treatment is foretold than by its levels' shares: mean log-likelihoods out of fold, in nats.

    >>> print(how_well(-0.0307, -0.0625))
    how well the treatment is foretold: 0.0318 nats a row better than by its shares alone
    >>> print(how_well(-0.6931, -0.6930))
    how well the treatment is foretold: no better than by its shares alone
    """
    gain = ours - shares
    size = f"{plain(abs(gain))} nats a row {'better' if gain > 0 else 'worse'}" if abs(gain) > NOTHING else "no better"
    return f"how well the treatment is foretold: {size} than by its shares alone"


def far_apart(gap: float, spread: float) -> list[str]:
    """A warning where the correction moves an effect by more than its posterior allows."""
    if abs(gap) <= FAR * spread:
        return []
    moved = f"the correction moves the effect by {abs(gap) / spread:.1f} posterior standard deviations"
    return [f"{moved}: one of the two models is wrong; do not trust the number alone"]
