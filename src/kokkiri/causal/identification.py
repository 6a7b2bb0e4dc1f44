"""The algorithms ID and IDC: every effect that a graph determines, as a formula of what is observed.

Shpitser & Pearl 2006, "Identification of joint interventional distributions in recursive semi-Markovian causal models",
figure 3 (ID, lines 1 to 7), and "Identification of conditional interventional distributions" (IDC). Both are complete:
where they stop, a hedge shows that no formula exists.

Inside the recursion the distribution at hand is P(v | do(fixed)) for the nodes v of a part of the graph. It is kept as
a chain, one factor P(vᵢ | earlier v, do(fixed)) a node in topological order, so that conditionals need not be formed
again: a district keeps its factors (line 7), and only summing out a node in the middle makes a fraction (line 2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from kokkiri.causal.expression import ONE, Expression, probability, product, ratio, total
from kokkiri.causal.graph import Graph
from kokkiri.causal.masks import Masks, bits
from kokkiri.causal.separation import apart


@dataclass(frozen=True)
class Step:
    """One line of a derivation: two formulas that are equal, and why."""

    left: Expression
    right: Expression
    reason: str


@dataclass(frozen=True)
class Derived:
    """A formula and how it came about."""

    expression: Expression
    steps: tuple[Step, ...]


class HedgeFound(Exception):
    """The district `larger`, and the part of it, `smaller`, that is a district still once the treatments are set."""

    def __init__(self, larger: int, smaller: int) -> None:
        super().__init__(larger, smaller)
        self.larger, self.smaller = larger, smaller


@dataclass(frozen=True)
class Chain:
    """P(here | do(fixed)) as a product of one conditional a node; without factors it is the observed distribution."""

    here: int
    fixed: int = 0
    factors: Mapping[int, Expression] | None = None


def identified(graph: Graph, y: int, x: int, z: int = 0) -> Derived:
    """P(y | do(x), z) as a formula of the observed distribution, for a graph without latent nodes.

    Raises `HedgeFound` where there is none.

    >>> from kokkiri.causal.reading import graph_of
    >>> graph = graph_of("x -> m -> y; x <-> y")
    >>> print(identified(graph, graph.mask("y"), graph.mask("x")).expression)
    Σ_m P(m | x) Σ_x′ P(x′) P(y | m, x′)
    """
    search = Search(graph)
    expression = search.conditional(y, x, z) if z else search.solve(y, x, Chain(graph.masks.all))
    query = search.query(y, x, given=z)
    steps = [s for s in search.steps if s.left != s.right]
    if not steps or steps[-1].right != expression or steps[-1].left != query:
        steps.append(Step(query, expression, "putting the parts together"))
    return Derived(expression, tuple(steps))


@dataclass
class Search:
    """One run: the graph, and the steps that were made."""

    graph: Graph
    steps: list[Step] = field(default_factory=list)

    @cached_property
    def masks(self) -> Masks:
        """The graph in bits."""
        return self.graph.masks

    @cached_property
    def order(self) -> list[int]:
        """Nodes, causes first."""
        return self.masks.order()

    @cached_property
    def earlier(self) -> dict[int, int]:
        """What stands before each node in that order."""
        before, found = 0, {}
        for v in self.order:
            found[v] = before
            before |= 1 << v
        return found

    # -- IDC -----------------------------------------------------------------------------------------------------------

    def conditional(self, y: int, x: int, z: int) -> Expression:
        """IDC: what may be set as well as seen is set, then P(y, z | do(x)) / P(z | do(x))."""
        for v in bits(z):
            one, rest = 1 << v, z & ~(1 << v)
            if apart(self.masks.cut(into=x, out_of=one), y, one, x | rest):
                name, given = self.graph.nodes[v], self.words(x | rest)
                reason = (
                    f"seeing {name} is as good as setting it: {self.words(y)} ⊥ {name}{given and ' | ' + given} where"
                )
                reason += f" nothing leaves {name}" + (f" and nothing enters {self.words(x)}" if x else "")
                self.step(self.query(y, x, given=z), self.query(y, x | one, given=rest), f"{reason} (rule 2)")
                return self.conditional(y, x | one, rest)
        chain = Chain(self.masks.all)
        if not z:
            return self.solve(y, x, chain)
        joint = self.query(y | z, x)
        self.step(self.query(y, x, given=z), ratio(joint, self.query(z, x)), "definition of a conditional probability")
        found = self.solve(y | z, x, chain)
        return ratio(found, total(self.graph.names(y), found))

    # -- ID ------------------------------------------------------------------------------------------------------------

    def solve(self, y: int, x: int, chain: Chain) -> Expression:
        """P(y | do(x)) in the part of the model that a chain describes."""
        masks, here = self.masks, chain.here
        left = self.query(y, x | chain.fixed)
        if not x:  # line 1
            if chain.factors is None:
                return self.step(left, probability(self.graph.names(y)), "nothing is set any more")
            return self.step(left, self.collapse(chain.factors, here & ~y), "summed over the rest of its part")
        if (above := masks.ancestors(y, here)) != here:  # line 2
            return self.solve(y, x & above, self.marginal(chain, above))
        if more := here & ~x & ~masks.ancestors(y, here, stop=x):  # line 3
            return self.solve(y, x | more, chain)
        parts = masks.districts(here & ~x)
        if len(parts) > 1:  # line 4
            over, at = self.graph.names(here & ~(y | x)), len(self.steps)
            solved = [self.solve(s, here & ~s, chain) for s in parts]
            split = product(*(self.query(s, here & ~s | chain.fixed) for s in parts))
            words = " and ".join(f"{{{self.words(s)}}}" for s in parts)
            reason = f"once {self.words(x)} is set, {words} share no hidden cause (line 4)"
            self.steps.insert(at, Step(left, total(over, split) if over else split, reason))
            return self.combined(over, solved)
        part = parts[0]
        whole = masks.district(part, here)
        if whole == here:  # line 5
            raise HedgeFound(here, part)
        if whole == part:  # line 6
            return self.within_district(y, part, chain)
        # line 7
        outside = here & ~whole
        factors = self.factors(chain, whole)
        inner = Chain(whole, chain.fixed | outside, factors)
        reason = f"{{{self.words(whole)}}} share hidden causes among themselves only: their part of the model (line 7)"
        self.step(self.query(whole, inner.fixed), product(*factors.values()), reason)
        return self.solve(y, x & whole, inner)

    def within_district(self, y: int, part: int, chain: Chain) -> Expression:
        """Line 6: what is set shares no hidden cause with the district, so that it may be seen as well."""
        left, over = self.query(y, chain.here & ~part | chain.fixed), part & ~y
        found = self.collapse(self.factors(chain, part), over)
        reason = f"{{{self.words(part)}}} shares no hidden cause with the rest: seen is as good as set (line 6)"
        if chain.factors is None:
            return self.step(left, found, reason)
        terms = [self.query(1 << v, chain.fixed, given=self.earlier[v] & chain.here) for v in bits(part)]
        self.step(left, self.combined(self.graph.names(over), terms), reason)
        return self.step(left, found, "each of these from the part of the model above")

    # -- the distribution at hand --------------------------------------------------------------------------------------

    def factors(self, chain: Chain, of: int) -> dict[int, Expression]:
        """The conditionals of some nodes, each given the nodes before it.

        In the observed distribution of a set that holds its ancestors, a node depends on its district among the earlier
        nodes and on the parents of that (Tian & Pearl 2002, "On the identification of causal effects").
        """
        if chain.factors is not None:
            return {v: chain.factors[v] for v in bits(of)}
        found = {}
        for v in bits(of):
            district = self.masks.district(1 << v, self.earlier[v] & chain.here | 1 << v)
            given = (district | self.masks.parents_of(district)) & ~(1 << v)
            found[v] = probability(self.graph.names(1 << v), self.graph.names(given))
        return found

    def marginal(self, chain: Chain, keep: int) -> Chain:
        """The chain of some nodes, the others being summed out."""
        if chain.factors is None:
            return Chain(keep)
        factors: dict[int, Expression] = {}
        so_far: dict[int, Expression] = {}
        for v in self.order:
            if chain.here >> v & 1:
                before = dict(so_far)
                so_far[v] = chain.factors[v]
                if keep >> v & 1:
                    factors[v] = ratio(self.collapse(so_far, ~keep), self.collapse(before, ~keep))
        return Chain(keep, chain.fixed, factors)

    def collapse(self, factors: Mapping[int, Expression], remove: int) -> Expression:
        """The product of the first factors of a chain, summed over some of its nodes.

        A factor adds up to one over its own node, so that one on which no other depends goes without a sum.
        """
        left = {v: factors[v] for v in self.order if v in factors}
        for v in reversed(list(left)):
            name = self.graph.nodes[v]
            if remove >> v & 1 and not any(name in f.free for w, f in left.items() if w != v):
                del left[v]
        over = [self.graph.nodes[v] for v in left if remove >> v & 1]
        return self.combined(over, list(left.values()))

    def combined(self, over: tuple[str, ...] | list[str], factors: list[Expression]) -> Expression:
        """A sum of a product; where there is nothing to sum over, the product."""
        return total(over, product(*factors)) if over else product(*factors)

    # -- words ---------------------------------------------------------------------------------------------------------

    def query(self, y: int, x: int, given: int = 0) -> Expression:
        """P(y | do(x), given), where x is cut down to what has a way to y or to what is given (rule 3)."""
        if not y:
            return ONE
        active = x & self.masks.ancestors(y | given, stop=x)
        return probability(*(self.graph.names(m) for m in (y, given, active)))

    def words(self, mask: int) -> str:
        """Names, with commas."""
        return ", ".join(self.graph.names(mask))

    def step(self, left: Expression, right: Expression, reason: str) -> Expression:
        """Writes a line down, and gives its right side."""
        self.steps.append(Step(left, right, reason))
        return right
