"""Beliefs about a network as text of at most 80 columns."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from kokkiri.exact.networks.evidence import Rows
from kokkiri.phrases import plain, probability, table

if TYPE_CHECKING:
    from kokkiri.exact.networks.beliefs import Beliefs

WIDTH = 80
BAR, SHORT = 20, 8  # characters that a probability of one is drawn with, at most and at least
NAME = 28  # characters of a name that are printed


def of_log(log_p: float) -> str:
    """A probability from its logarithm, however small.

    >>> of_log(math.log(0.25)), of_log(-2000.0)
    ('0.2500', '10^-868.6')
    """
    return probability(math.exp(log_p)) if log_p > -700 else f"10^{log_p / math.log(10):.1f}"


def evidence_line(beliefs: Beliefs) -> str:
    """What is known, and how probable that was.

    >>> from kokkiri.exact.networks.bif import read_network
    >>> evidence_line(read_network("asia").given(xray="yes"))
    'given xray=yes: log p(evidence) = -2.20 nats, p = 0.1103'
    """
    if not beliefs.evidence and not beliefs.soft:
        return "nothing is known yet"
    nats = float(beliefs.log_evidence)
    return f"given {beliefs.known}: log p(evidence) = {plain(nats, 2)} nats, p = {of_log(nats)}"


def beliefs_text(beliefs: Beliefs) -> str:
    """A line a state: before the evidence, after it, and a bar."""
    network = beliefs.network
    if isinstance(beliefs.evidence, Rows):
        nats = beliefs.log_evidence
        return (
            f"{network.name} given {beliefs.known}\nlog p(row): mean {plain(float(nats.mean()), 3)}, from "
            f"{plain(float(nats.min()), 3)} to {plain(float(nats.max()), 3)} nats; marginals of "
            f"{len(beliefs.marginals):,} variables"
        )
    told = bool(beliefs.evidence or beliefs.soft)
    known = {network.structure.variables[i].name for i in beliefs.evidence}
    prior = network.prior.marginals if told else {}
    lines, values = [], []
    for name, p in beliefs.marginals.items():
        if name in known:
            continue
        states = network.structure.variables[network.structure.index[name]].states
        for k, (state, value) in enumerate(zip(states, p.tolist(), strict=True)):
            before = [probability(float(prior[name][k]))] if told else []
            lines.append([_cut(name) if k == 0 else "", _cut(state), *before, probability(value)])
            values.append(value)
    head = f"{network.name} {evidence_line(beliefs)}" if told else f"{network.name}: {evidence_line(beliefs)}"
    head = textwrap.fill(head, WIDTH)
    if not lines:
        return head
    titles = ["variable", "state", *(["before", "after"] if told else ["p"])]
    taken = sum(max(map(len, column)) + 2 for column in zip(titles, *lines, strict=True))
    bar = min(BAR, WIDTH - taken)
    if bar >= SHORT:
        titles.append("")
        lines = [[*line, ("█" * round(bar * value)).ljust(bar)] for line, value in zip(lines, values, strict=True)]
    return f"{head}\n\n{table(titles, lines, left=2)}"


def _cut(name: str) -> str:
    return name if len(name) <= NAME else name[: NAME - 1] + "…"
