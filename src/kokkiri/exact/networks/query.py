"""From a question to a planned contraction, and its answer: which tables matter, which labels are fixed, what is left.

Variables that are neither asked for, nor known, nor above such a one are left out (barren: they sum to one); what the
evidence cuts off from the rest becomes a factor of its own. Known variables are no labels: their tables are read at the
known states, one per row, so that rows of evidence are one more axis of the same contraction. Plans are remembered by
the structure: a second question of the same form costs arithmetic only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kokkiri.errors import Unsupported
from kokkiri.exact.networks.evidence import distinct_rows
from kokkiri.exact.networks.network import BayesianNetwork
from kokkiri.exact.networks.structure import Structure
from kokkiri.numerics.contraction import (
    ROWS,
    Backward,
    Plan,
    TooLarge,
    add,
    add_logs,
    backward,
    backward_plan,
    forward,
    plan,
)

SAFE = -600.0  # products of probabilities above e^SAFE = 1e-260 cannot underflow; below, logarithms are added
LIMIT = 2.0**29  # entries of all tables together, for one row: 4 GB
CHUNK = 2.0**22  # entries of all tables together, for the rows that are done at once: 32 MB
FEW, MANY = 16, 4096  # rows below which equal ones are not looked for; rows that are done at once, at most
KEPT = 1024  # plans that a structure remembers


class Leaf(NamedTuple):
    """A table as an operand: its variable, its free labels, and where the known ones are.

    held: for one case, the axes that are read at a state (numbers of variables) or kept (-1). axes: the free ones
    first. known, strides: the known ones, and how far apart their states lie once they are one axis.
    """

    variable: int
    free: tuple[int, ...]
    held: tuple[int, ...]
    axes: tuple[int, ...]
    known: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Query:
    """A compiled question. constants: tables of which all is known: factors of the evidence, no operands."""

    known: tuple[int, ...]
    soft: tuple[int, ...]
    wanted: tuple[tuple[int, ...], ...]
    operands: tuple[Leaf, ...]
    constants: tuple[Leaf, ...]
    plan: Plan
    back: Backward | None
    relevant: tuple[int, ...]

    @property
    def rows_at_once(self) -> int:
        """How many rows are done at once, so that all tables together stay small."""
        return int(min(max(CHUNK / self.plan.entries, 1), MANY))


class Answer(NamedTuple):
    """log p(evidence), and for each wanted scope its joint distribution given the evidence, with rows last."""

    log_evidence: np.ndarray
    joints: list[np.ndarray]


def compiled(
    what: Structure,
    known: Iterable[int],
    wanted: Sequence[tuple[int, ...]],
    *,
    soft: Iterable[int] = (),
    many: bool = False,
    everything: bool = False,
) -> Query:
    """The plan for evidence on these variables and the joint distributions of these scopes.

    One scope may be any variables that are not known; several must each lie within one table. many: rows of evidence.
    everything: no variable is left out, though it be barren.
    """
    key = (tuple(sorted(known)), tuple(wanted), tuple(soft), many, everything)
    found = what.plans.get(key)
    if found is None:
        while len(what.plans) >= KEPT:
            del what.plans[next(iter(what.plans))]
        found = what.plans[key] = _compile(what, *key)
    return found


def _compile(
    what: Structure,
    known: tuple[int, ...],
    wanted: tuple[tuple[int, ...], ...],
    soft: tuple[int, ...],
    many: bool,
    everything: bool,
) -> Query:
    fixed = set(known)
    asked = (i for scope in wanted for i in scope)
    relevant = set(range(len(what.sizes))) if everything else what.ancestors([*known, *soft, *asked])
    operands, constants = [], []
    for i in sorted(relevant):
        (operands if set(what.families[i]) - fixed else constants).append(_leaf(what, i, fixed))
    row = lambda is_rowed: (ROWS,) if is_rowed and many else ()
    scopes = [(*leaf.free, *row(leaf.known)) for leaf in operands] + [(i, *row(True)) for i in soft]
    keep = wanted[0] if len(wanted) == 1 else ()
    try:
        planned = plan(scopes or [()], what.sizes, keep, rows=MANY if many else 1, limit=LIMIT)
    except TooLarge as error:
        raise Unsupported(
            f"the tables on the way to the answer would take {error.entries * 8 / 1e9:,.3g} GB",
            needs=f"at most {LIMIT * 8 / 1e9:.2g} GB: evidence that cuts the network, or fewer parents and states",
            found=f"{len(operands)} tables over {len(relevant) - len(fixed & relevant)} unknown variables, "
            "in the best order that was found",
            fix="ask for fewer variables at once, or know more of them",
        ) from None  # fmt: skip
    back = backward_plan(planned, wanted) if len(wanted) > 1 else None
    ordered = tuple(i for i in what.order if i in relevant)
    return Query(known, soft, wanted, tuple(operands), tuple(constants), planned, back, ordered)


def _leaf(what: Structure, variable: int, fixed: set[int]) -> Leaf:
    family = what.families[variable]
    free = [k for k, i in enumerate(family) if i not in fixed]
    held = [k for k, i in enumerate(family) if i in fixed]
    strides, far = [], 1
    for k in reversed(held):
        strides.append(far)
        far *= what.sizes[family[k]]
    return Leaf(
        variable, tuple(family[k] for k in free), tuple(i if i in fixed else -1 for i in family),
        (*free, *held), tuple(family[k] for k in held), tuple(reversed(strides)),
    )  # fmt: skip


ALL = slice(None)


def at_case(leaf: Leaf, table: np.ndarray, case: Mapping[int, int]) -> np.ndarray:
    """A table at the known states of one case."""
    return table[tuple([case[i] if i >= 0 else ALL for i in leaf.held])] if leaf.known else table


def at_rows(leaf: Leaf, table: np.ndarray, place: Mapping[int, int], codes: np.ndarray) -> np.ndarray:
    """A table at the known states of many rows: its free axes, then the rows. place: of variables in `codes`."""
    if not leaf.known:
        return table
    line = sum(codes[place[i]] * stride for i, stride in zip(leaf.known, leaf.strides, strict=True))
    turned = table.transpose(leaf.axes)
    return turned.reshape(*turned.shape[: len(leaf.free)], -1).take(line, axis=-1)


class Tables(NamedTuple):
    """The operands of a query, and what the evidence is to be multiplied by; probabilities, or their logarithms."""

    operands: list[np.ndarray]
    constant: np.ndarray | float
    logs: bool


def tables_of_case(
    net: BayesianNetwork, query: Query, case: Mapping[int, int], soft: Mapping[int, np.ndarray], *, logs: bool = False
) -> Tables:
    """Operands for one case; logarithms where products may underflow."""
    logs = logs or _leaves_range(net, query, soft)
    source = net.log_arrays if logs else net.arrays
    operands = [at_case(leaf, source[leaf.variable], case) for leaf in query.operands]
    operands += [_seen(soft[i], logs) for i in query.soft]
    constant = 0.0 if logs else 1.0
    operands = operands or [np.array(constant)]  # where all that matters is known
    for leaf in query.constants:
        value = source[leaf.variable][tuple([case[i] for i in leaf.held])]
        constant = constant + value if logs else constant * value
    return Tables(operands, constant, logs)


def tables_of_rows(
    net: BayesianNetwork, query: Query, codes: np.ndarray, soft: Mapping[int, np.ndarray], *, logs: bool = False
) -> Tables:
    """Operands for rows. codes: (K, n) states of the known variables, in the order of `query.known`; soft: (n, K)."""
    logs = logs or _leaves_range(net, query, soft)
    source = net.log_arrays if logs else net.arrays
    place = {i: k for k, i in enumerate(query.known)}
    operands = [at_rows(leaf, source[leaf.variable], place, codes) for leaf in query.operands]
    operands += [_seen(np.ascontiguousarray(soft[i].T), logs) for i in query.soft]
    constant: np.ndarray | float = 0.0 if logs else 1.0
    operands = operands or [np.array(constant)]
    for leaf in query.constants:
        value = at_rows(leaf, source[leaf.variable], place, codes)
        constant = constant + value if logs else constant * value
    return Tables(operands, constant, logs)


def _leaves_range(net: BayesianNetwork, query: Query, soft: Mapping[int, np.ndarray]) -> bool:
    """Whether a product of entries may be too small, or too large, for a float64."""
    floors = net.log_floors
    least, most = sum(floors[i] for i in query.relevant), 0.0
    for i in query.soft:
        least += math.log(soft[i][soft[i] > 0].min())
        most += max(0.0, math.log(soft[i].max()))
    return least < SAFE or most > -SAFE


def _seen(likelihood: np.ndarray, logs: bool) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(likelihood) if logs else likelihood


def contracted(query: Query, tables: Tables) -> Answer:
    """Both passes. log p(evidence) is -∞ where the evidence is impossible, and its joints are then not numbers."""
    semiring = add_logs if tables.logs else add
    made = forward(query.plan, tables.operands, semiring)
    total = made[-1]
    if len(query.wanted) == 1:
        axes = tuple(range(len(query.wanted[0])))
        joints = [total]
        if tables.logs:
            top = total.max(axes)
            top = np.where(top == -np.inf, 0.0, top)
            total = np.log(np.exp(total - top).sum(axes)) + top
        else:
            total = total.sum(axes)
    else:
        joints = backward(query.plan, query.back, made, semiring) if query.back is not None else []
    if tables.logs:
        return Answer(total + tables.constant, [np.exp(j - total) for j in joints])
    return Answer(np.log(total) + np.log(tables.constant), [j / total for j in joints])


def answer_case(
    net: BayesianNetwork, query: Query, case: Mapping[int, int], soft: Mapping[int, np.ndarray] | None = None
) -> Answer:
    """The answer for one case of evidence."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return contracted(query, tables_of_case(net, query, case, soft or {}))


def answer_rows(
    net: BayesianNetwork, query: Query, codes: np.ndarray, soft: Mapping[int, np.ndarray] | None = None
) -> Answer:
    """The answers for rows of evidence on the same variables, equal rows once.

    codes: (K, n) states, in the order of `query.known`. soft: likelihoods, (n, states) each.
    """
    soft = soft or {}
    n, back = codes.shape[1], None
    if not soft and n > FEW:
        codes, back = distinct_rows(codes, [net.structure.sizes[i] for i in query.known])
    chunk, parts = query.rows_at_once, []
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, max(codes.shape[1], 1), chunk):
            some = codes[:, start : start + chunk]
            likelihoods = {i: s[start : start + chunk] for i, s in soft.items()}
            found = contracted(query, tables_of_rows(net, query, some, likelihoods))
            parts.append(_full(found, some.shape[1], query.wanted))
    joined = [np.concatenate(p, -1) for p in zip(*([p.log_evidence, *p.joints] for p in parts), strict=True)]
    if back is not None:
        joined = [p.take(back, axis=-1) for p in joined]
    return Answer(joined[0], joined[1:])


def _full(answer: Answer, rows: int, wanted: Sequence[tuple[int, ...]]) -> Answer:
    """An axis for the rows also where no table that matters depends on them."""
    joints = [
        j if j.ndim > len(scope) else np.broadcast_to(j[..., None], (*j.shape, rows))
        for j, scope in zip(answer.joints, wanted, strict=True)
    ]
    return Answer(np.broadcast_to(answer.log_evidence, (rows,)), joints)
