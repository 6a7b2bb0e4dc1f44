"""Sums of products of tensors over many labels, planned once and run often: ∑ over labels of ∏ tables.

A label is a number with so many values; a table has an axis for each label of its scope, in its order, and where it
differs from row to row one more axis, the last, for the rows (label ROWS). The same plan adds, adds logarithms without
underflow, or takes maxima. Two passes give the sum with any few labels left standing (they are its derivatives by its
tables: Darwiche 2003, "A differential approach to inference in Bayesian networks"); a walk back gives the best or a
random assignment of all labels (Dechter 1999, "Bucket elimination").

numpy's einsum takes some 3 µs for tables of a few entries, torch's 11 µs; with the rows last it does one multiplication
in 0.3 ns. Arrays are float64.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kokkiri.numerics.elimination import order

ROWS = -1
SMALL = 4096  # entries up to which all tables of a label are multiplied at once: fewer calls, each for more work

Array = np.ndarray


class TooLarge(ValueError):
    """The best order that was found makes tables of more entries than are allowed; `entries`: how many in all."""

    def __init__(self, entries: float) -> None:
        super().__init__(f"tables of {entries:.3g} entries")
        self.entries = entries


@dataclass(frozen=True, eq=False)
class Product:
    """∏ of operands, summed over all labels that are not in `output`.

    operands: their numbers in the list of tables.
    """

    operands: tuple[int, ...]
    scopes: tuple[tuple[int, ...], ...]
    output: tuple[int, ...]
    summed: tuple[int, ...]
    subscripts: str

    @cached_property
    def views(self) -> tuple[tuple[list[int], tuple[slice | None, ...]], ...]:
        """For each operand the permutation of its axes and the index that makes it broadcast over all labels.

        Those of the output come first.
        """
        axis = {label: k for k, label in enumerate((*self.output, *self.summed))}
        found = []
        for scope in self.scopes:
            along = sorted(range(len(scope)), key=lambda k, scope=scope: axis[scope[k]])
            there = {axis[label] for label in scope}
            found.append((along, tuple(slice(None) if k in there else None for k in range(len(axis)))))
        return tuple(found)

    @property
    def axes(self) -> tuple[int, ...]:
        """Which of the axes of all labels are summed."""
        return tuple(range(len(self.output), len(self.output) + len(self.summed)))


@dataclass(frozen=True, eq=False)
class Plan:
    """How to contract tables of these scopes.

    steps: each makes one table more; the last gives the result. parent: of each step the one that uses its table.
    sizes: of the labels. cliques: entries of the table over all labels of each step, for one row.
    """

    given: int
    scopes: tuple[tuple[int, ...], ...]
    steps: tuple[Product, ...]
    parent: tuple[int, ...]
    sizes: tuple[int, ...]
    cliques: tuple[float, ...]

    @property
    def entries(self) -> float:
        """Entries of all tables that are made, for one row."""
        return sum(self.cliques)


Semiring = Callable[[Product, Sequence[Array]], Array]


def plan(
    scopes: Sequence[Sequence[int]],
    sizes: Sequence[int],
    keep: Sequence[int] = (),
    *,
    rows: int = 1,
    limit: float = 2.0**40,
) -> Plan:
    """A plan for tables of these scopes: all labels summed but those in `keep`, which stay in this order.

    scopes: labels 0 … len(sizes) - 1; ROWS at the end of a table with rows. rows: about how many. limit: entries of all
    tables together, for one row; TooLarge is raised before anything is made.

    >>> chain = plan([(0,), (0, 1), (1, 2)], [2, 2, 2], keep=[2])
    >>> [step.subscripts for step in chain.steps]
    ['a,ab->b', 'a,ab->b']
    """
    made = [tuple(scope) for scope in scopes]
    bare = [[label for label in scope if label != ROWS] for scope in made]
    found = order(bare, sizes, [k for k in keep if any(k in b for b in bare)])
    kept = _entries(keep, sizes)
    if found.entries + kept > limit:
        raise TooLarge(found.entries + kept)
    live = set(range(len(made)))
    steps: list[Product] = []
    cliques: list[float] = []

    def step(operands: Sequence[int], output: Sequence[int]) -> None:
        live.difference_update(operands)
        steps.append(product(operands, [made[i] for i in operands], output))
        cliques.append(_entries(set().union(*(made[i] for i in operands)), sizes))
        live.add(len(made))
        made.append(steps[-1].output)

    def rest(operands: Sequence[int]) -> tuple[int, ...]:
        """What the product of these must keep: labels that stand elsewhere, or are wanted; rows at the end."""
        needed = set(keep).union(*(made[i] for i in live - set(operands))) - {ROWS}
        labels = dict.fromkeys(label for i in operands for label in made[i])
        return (*(k for k in labels if k in needed), *((ROWS,) if ROWS in labels else ()))

    for label in found.labels:
        bucket = sorted((i for i in live if label in made[i]), key=lambda i: (_entries(made[i], sizes), i))
        if not bucket:  # it was summed together with an earlier one
            continue
        while len(bucket) > 2 and _entries(set().union(*(made[i] for i in bucket)), sizes) * rows > SMALL:
            step(bucket[:2], rest(bucket[:2]))
            bucket = [*bucket[2:], len(made) - 1]
        step(bucket, rest(bucket))
    left = sorted(live)
    ends = (*keep, *((ROWS,) if any(ROWS in made[i] for i in left) else ()))
    if len(left) > 1 or not steps or steps[-1].output != ends:
        step(left, ends)
    parent = [-1] * len(steps)
    for number, each in enumerate(steps):
        for i in each.operands:
            if i >= len(scopes):
                parent[i - len(scopes)] = number
    return Plan(len(scopes), tuple(made), tuple(steps), tuple(parent), tuple(sizes), tuple(cliques))


def product(operands: Sequence[int], scopes: Sequence[Sequence[int]], output: Sequence[int]) -> Product:
    """One sum of products, compiled.

    >>> product([0, 1], [(4, 7), (7, ROWS)], (4, ROWS)).subscripts
    'ab,bc->ac'
    """
    labels = dict.fromkeys(label for scope in scopes for label in scope)
    letter = dict(zip(labels, string.ascii_letters, strict=False))
    write = lambda scope: "".join(letter[label] for label in scope)
    summed = tuple(label for label in labels if label not in output)
    subscripts = ",".join(map(write, scopes)) + "->" + write(output)
    return Product(tuple(operands), tuple(map(tuple, scopes)), tuple(output), summed, subscripts)


def add(step: Product, tables: Sequence[Array]) -> Array:
    """∑ ∏ of numbers."""
    return np.einsum(step.subscripts, *[tables[i] for i in step.operands])


def add_logs(step: Product, tables: Sequence[Array]) -> Array:
    """Log ∑ ∏ of logarithms, at most a factor 1 + 1e-14 off whatever their sizes; log 0 = -∞."""
    total = broadcast(step, tables)
    if not step.axes:
        return total
    top = total.max(step.axes, keepdims=True)
    top[top == -np.inf] = 0.0
    with np.errstate(divide="ignore"):
        return np.log(np.exp(total - top).sum(step.axes)) + top.reshape(top.shape[: len(step.output)])


def take_maximum(step: Product, tables: Sequence[Array]) -> Array:
    """The largest ∏, of logarithms."""
    total = broadcast(step, tables)
    return total.max(step.axes) if step.axes else total


def broadcast(step: Product, tables: Sequence[Array]) -> Array:
    """∏ of logarithms over all labels of a step, those of its output first: their sum."""
    parts = [tables[i].transpose(along)[index] for i, (along, index) in zip(step.operands, step.views, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def forward(plan: Plan, tables: Sequence[Array], semiring: Semiring = add) -> list[Array]:
    """All tables, those given and those made; the last is the result.

    >>> coin, seen = np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> forward(plan([(0,), (0, 1)], [2, 2], keep=[1]), [coin, seen])[-1].tolist()
    [0.55, 0.45]
    """
    made = list(tables)
    for step in plan.steps:
        made.append(semiring(step, made))
    return made


@dataclass(frozen=True, eq=False)
class Backward:
    """How to leave some labels standing, after `forward` of a plan that keeps none.

    passes: (number of the step whose derivative it gives, product); places: which product gives each wanted scope.
    In both, operand -1 is the derivative of the step itself, which the first operand stands for.
    """

    passes: tuple[tuple[int, int, Product], ...]
    places: tuple[tuple[int, Product], ...]


def backward_plan(plan: Plan, wanted: Sequence[Sequence[int]]) -> Backward:
    """For each wanted scope the sum over all other labels. It must lie within one step, as each scope of a table does.

    Derivatives are taken only of the steps that lead there.
    """
    clusters = [set().union(*step.scopes) for step in plan.steps]
    cheapest = sorted(range(len(plan.steps)), key=lambda s: plan.cliques[s])
    end = (ROWS,) if plan.steps[-1].output else ()
    places, needed = [], set()
    for scope in wanted:
        s = next(s for s in cheapest if clusters[s].issuperset(scope))
        places.append((s, scope))
        while s != -1 and s not in needed:
            needed.add(s)
            s = plan.parent[s]
    slope: list[tuple[int, ...]] = [()] * len(plan.steps)  # the scope of each step's derivative
    passes = []
    for s in sorted(needed, reverse=True)[1:]:
        above, number = plan.steps[plan.parent[s]], plan.given + s
        others = [k for k, i in enumerate(above.operands) if i != number]
        scopes = [slope[plan.parent[s]], *(above.scopes[k] for k in others)]
        rows = (ROWS,) if any(ROWS in scope for scope in scopes) else ()
        slope[s] = (*(label for label in plan.scopes[number] if label != ROWS), *rows)
        passes.append((s, plan.parent[s], product([-1, *(above.operands[k] for k in others)], scopes, slope[s])))
    finals = []
    for s, scope in places:
        step = plan.steps[s]
        scopes = [slope[s], *step.scopes]
        rows = (ROWS,) if end and any(ROWS in each for each in scopes) else ()
        finals.append((s, product([-1, *step.operands], scopes, (*scope, *rows))))
    return Backward(tuple(passes), tuple(finals))


def backward(plan: Plan, back: Backward, made: list[Array], semiring: Semiring = add) -> list[Array]:
    """∑ ∏ with each wanted scope left standing, from what `forward` made with the same semiring (sums, or logarithms).

    >>> chain = plan([(0,), (0, 1)], [2, 2])
    >>> made = forward(chain, [np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.2, 0.8]])])
    >>> [b.tolist() for b in backward(chain, backward_plan(chain, [(0,), (1,)]), made)]
    [[0.5, 0.5], [0.55, 0.45]]
    """
    one = np.array(1.0 if semiring is add else 0.0)
    slopes: dict[int, Array] = {len(plan.steps) - 1: one}
    for s, above, each in back.passes:
        slopes[s] = semiring(each, [*made, slopes[above]])  # operand -1 is the last
    return [semiring(each, [*made, slopes[s]]) for s, each in back.places]


Choice = Callable[[Array], Array]


def walk_back(plan: Plan, made: Sequence[Array], choose: Choice, rows: Array, *, logs: bool) -> dict[int, Array]:
    """A value for each label that was summed, (R,) each, from what `forward` made with a plan that keeps none.

    From the last step to the first, `choose` takes the products for all values of the labels summed there, those of
    later steps being known: (R, values) -> (R,) their places. rows: (R,) which row of the tables each one belongs to.
    """
    found: dict[int, Array] = {}
    for step in reversed(plan.steps):
        if not step.summed:
            continue
        shape = tuple(plan.sizes[label] for label in step.summed)
        axes = {label: k for k, label in enumerate(step.summed)}
        column = (-1, *(1,) * len(shape))
        total: Array | float = 0.0 if logs else 1.0
        for i, scope in zip(step.operands, step.scopes, strict=True):
            index = tuple(
                np.arange(shape[axes[label]]).reshape(tuple(-1 if k == axes[label] else 1 for k in range(len(shape))))
                if label in axes
                else (rows if label == ROWS else found[label]).reshape(column)
                for label in scope
            )
            part = made[i][index]
            total = total + part if logs else total * part
        total = np.broadcast_to(total, (len(rows), *shape)).reshape(len(rows), -1)
        found |= dict(zip(step.summed, np.unravel_index(choose(total), shape), strict=True))
    return found


def _entries(scope: Sequence[int] | set[int], sizes: Sequence[int]) -> float:
    entries = 1.0
    for label in scope:
        entries *= sizes[label] if label != ROWS else 1
    return entries
