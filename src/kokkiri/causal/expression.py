"""Formulas of probabilities as trees: terms P(a | b), sums, products, fractions.

A sum binds its variables, like an integral: outside of it the same name is another thing, a value that is asked about.
Terms may hold do(...), in derivations; what an effect is computed from holds none.

>>> z_sum = total({"z"}, product(probability("y", given=["x", "z"]), probability("z")))
>>> print(z_sum)
Σ_z P(y | x, z) P(z)
>>> sorted(z_sum.free)
['x', 'y']
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from kokkiri.causal.formulas import unicode


@dataclass(frozen=True)
class Probability:
    """P(of | given) under do(do)."""

    of: frozenset[str]
    given: frozenset[str] = frozenset()
    do: frozenset[str] = frozenset()

    @cached_property
    def free(self) -> frozenset[str]:
        """The variables whose values the number depends on."""
        return self.of | self.given | self.do

    @cached_property
    def key(self) -> str:
        """A text that puts equal things in the same place."""
        return f"P{sorted(self.of)}{sorted(self.given)}{sorted(self.do)}"

    def __str__(self) -> str:
        return unicode(self)


@dataclass(frozen=True)
class Sum:
    """The sum of a formula over all values of some variables."""

    over: frozenset[str]
    of: Expression

    @cached_property
    def free(self) -> frozenset[str]:
        """The variables whose values the number depends on."""
        return self.of.free - self.over

    @cached_property
    def key(self) -> str:
        """A text that puts equal things in the same place."""
        return f"S{sorted(self.over)}{self.of.key}"

    def __str__(self) -> str:
        return unicode(self)


@dataclass(frozen=True)
class Product:
    """Factors, in an order that depends on nothing but themselves; none is the number one."""

    factors: tuple[Expression, ...]

    @cached_property
    def free(self) -> frozenset[str]:
        """The variables whose values the number depends on."""
        return frozenset[str]().union(*(f.free for f in self.factors))

    @cached_property
    def key(self) -> str:
        """A text that puts equal things in the same place."""
        return "*".join(f.key for f in self.factors)

    def __str__(self) -> str:
        return unicode(self)


@dataclass(frozen=True)
class Fraction:
    """One formula over another."""

    numerator: Expression
    denominator: Expression

    @cached_property
    def free(self) -> frozenset[str]:
        """The variables whose values the number depends on."""
        return self.numerator.free | self.denominator.free

    @cached_property
    def key(self) -> str:
        """A text that puts equal things in the same place."""
        return f"({self.numerator.key})/({self.denominator.key})"

    def __str__(self) -> str:
        return unicode(self)


@dataclass(frozen=True)
class Covariances:
    """The matrix Cov(rows, columns | given): for linear models only."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    given: tuple[str, ...] = ()

    @property
    def free(self) -> frozenset[str]:
        """None: a covariance is a number of the model."""
        return frozenset()

    @property
    def key(self) -> str:
        """A text that puts equal things in the same place."""
        return f"C{self.rows}{self.columns}{self.given}"

    def __str__(self) -> str:
        return unicode(self)


Expression: TypeAlias = Probability | Sum | Product | Fraction | Covariances
ONE = Product(())


def product(*factors: Expression) -> Expression:
    """The product, flat; factors of it that are fractions become one fraction, and what is above and below goes.

    >>> print(product(Fraction(probability("ab"), probability("a")), probability("a")))
    P(a, b)
    """
    above: list[Expression] = []
    below: list[Expression] = []
    for factor in factors:
        f = factor
        if isinstance(f, Fraction):
            below += factors_of(f.denominator)
            f = f.numerator
        above += factors_of(f)
    return ratio(_flat(above), _flat(below)) if below else _flat(above)


def ratio(numerator: Expression, denominator: Expression) -> Expression:
    """The fraction, without what stands above and below; P(a, b | c) / P(b | c) is P(a | b, c).

    >>> print(ratio(probability("ab", given="c"), probability("b", given="c")))
    P(a | b, c)
    """
    if isinstance(numerator, Fraction) or isinstance(denominator, Fraction):
        up, down = (e if isinstance(e, Fraction) else Fraction(e, ONE) for e in (numerator, denominator))
        return ratio(product(up.numerator, down.denominator), product(up.denominator, down.numerator))
    above, below = Counter(factors_of(numerator)), Counter(factors_of(denominator))
    above, below = above - below, below - above
    for low in list(below):
        for high in list(above):
            if (term := _quotient(high, low)) is not None:
                above = above - Counter([high]) + Counter([term])
                below -= Counter([low])
                break
    top, bottom = _flat(above.elements()), _flat(below.elements())
    return top if bottom == ONE else Fraction(top, bottom)


def total(over: Iterable[str], of: Expression) -> Expression:
    """The sum over some variables, simplified by what holds for all probabilities.

    Factors without the variables go in front, and Σ_a P(a, b | c) is P(b | c). Every variable must occur: a sum of what
    does not depend on it would count its values.

    >>> print(total("bd", product(probability("a", given="b"), probability("b"), probability("d", given="ab"))))
    P(a)
    """
    left = set(over)
    if missing := left - of.free:
        raise ValueError(f"nothing depends on {sorted(missing)}")
    if isinstance(of, Fraction) and not of.denominator.free & left:
        return ratio(total(left, of.numerator), of.denominator)
    if isinstance(of, Sum):
        left |= of.over
        of = of.of
    factors = factors_of(of)
    while left:
        for name in sorted(left):
            fewer = _summed_out(name, factors)
            # a variable that would occur no more has to be counted: Σ_{a, b} P(a | b) is the number of values of b
            if fewer is not None and left - {name} <= frozenset().union(*(f.free for f in fewer)):
                factors = fewer
                left.discard(name)
                break
        else:
            break
    outside = [f for f in factors if not f.free & left]
    inside = [f for f in factors if f.free & left]
    if not left:
        return product(*outside)
    return product(*outside, Sum(frozenset(left), product(*inside)))


def case_by_case(over: Iterable[str], *factors: Expression) -> Expression:
    """A sum of a product as it stands, for derivations that begin with it.

    >>> print(case_by_case("z", probability("y", given="z"), probability("z")))
    Σ_z P(y | z) P(z)
    """
    return Sum(frozenset(over), Product(tuple(sorted(factors, key=lambda e: e.key))))


def variables(expression: Expression) -> frozenset[str]:
    """Every name in a formula, those that sums bind included."""
    if isinstance(expression, Sum):
        return expression.over | variables(expression.of)
    if isinstance(expression, Fraction):
        return variables(expression.numerator) | variables(expression.denominator)
    if isinstance(expression, Product):
        return frozenset[str]().union(*(variables(f) for f in expression.factors))
    if isinstance(expression, Covariances):
        return frozenset((*expression.rows, *expression.columns, *expression.given))
    return expression.free


def factors_of(expression: Expression) -> list[Expression]:
    """The factors of a product, or the expression alone."""
    return list(expression.factors) if isinstance(expression, Product) else [expression]


def probability(of: Iterable[str], given: Iterable[str] = (), do: Iterable[str] = ()) -> Expression:
    """P(of | given), which is one for an empty set."""
    of = frozenset(of)
    return Probability(of, frozenset(given), frozenset(do)) if of else ONE


def _flat(factors: Iterable[Expression]) -> Expression:
    """A product of what is no fraction, with P(a | b, c) P(b | c) as P(a, b | c)."""
    inner = [g for f in factors for g in factors_of(f)]
    while True:
        terms = [f for f in inner if isinstance(f, Probability)]
        about = {(f.of | f.given, f.do): f for f in terms}
        pair = next(((a, b) for a in terms if (b := about.get((a.given, a.do))) and not a.of & b.given), None)
        if pair is None:
            break
        for f in pair:
            inner.remove(f)
        inner.append(Probability(pair[0].of | pair[1].of, pair[1].given, pair[1].do))
    return inner[0] if len(inner) == 1 else Product(tuple(sorted(inner, key=lambda e: e.key)))


def _quotient(high: Expression, low: Expression) -> Expression | None:
    """P(a, b | c) over P(b | c), or over P(a | b, c), as one term."""
    if (
        not (isinstance(high, Probability) and isinstance(low, Probability))
        or high.do != low.do
        or not low.of < high.of
    ):
        return None
    rest = high.of - low.of
    if low.given == high.given:
        return Probability(rest, high.given | low.of, high.do)
    return Probability(rest, high.given, high.do) if low.given == high.given | rest else None


def _summed_out(name: str, factors: list[Expression]) -> list[Expression] | None:
    """The factors after a sum over one variable, where a single term depends on it and has it before the bar."""
    about = [f for f in factors if name in f.free]
    if len(about) > 1 or not isinstance(about[0], Probability) or name not in about[0].of:
        return None
    term = about[0]
    rest = [f for f in factors if name not in f.free]
    return [*rest, *factors_of(probability(term.of - {name}, term.given, term.do))]
