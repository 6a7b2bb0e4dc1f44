"""What is believed of the variables of a network once some are known: the posterior, exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import DataError, ShapeError, UsageError, nearest
from kokkiri.exact.networks.batches import Batch, batches_of
from kokkiri.exact.networks.evidence import (
    Rows,
    case_of,
    code_of,
    described,
    is_one_case,
    rows_of,
    soft_of,
    with_case,
)
from kokkiri.exact.networks.explain import Explanation, most_probable_case, most_probable_rows
from kokkiri.exact.networks.network import BayesianNetwork
from kokkiri.exact.networks.query import Query, answer_case, answer_rows, compiled
from kokkiri.exact.networks.sampling import draw_given


@dataclass(frozen=True, eq=False)
class Beliefs:
    """The posterior of a network given evidence: of one case, or of N rows.

    evidence: the number of the state for the number of each known variable, or rows of them. marginals: p(variable |
    evidence) of those asked for, float64 (K,) or (N, K). log_evidence: log p(evidence), nats, () or (N,).
    """

    network: BayesianNetwork
    evidence: Mapping[int, int] | Rows
    marginals: Mapping[str, Tensor]
    log_evidence: Tensor
    soft: Mapping[int, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        """p(variable | evidence), in the order of its states; of a known one, certainty."""
        if name not in self.marginals:
            self.network.structure.number(name)
            raise UsageError(
                f"'{name}' was not asked for", needs="a variable among those asked for",
                found=", ".join(list(self.marginals)[:8]) or "none", fix=f'given(…, of="{name}"), or no `of` for all',
            )  # fmt: skip
        return self.marginals[name]

    def probability(self, **states: str) -> Tensor:
        """p(these states | evidence), of one variable or several together: () or (N,).

        >>> from kokkiri.exact.networks.bif import read_network
        >>> round(read_network("asia").given(dysp="yes").probability(lung="yes", smoke="yes").item(), 6)
        0.094043
        """
        what = self.network.structure
        at = [code_of(what, what.number(name), state) for name, state in states.items()]
        if len(at) == 1 and next(iter(states)) in self.marginals:
            return self.marginals[next(iter(states))][..., at[0]]
        return self.joint(*states)[..., *at]

    def joint(self, *names: str) -> Tensor:
        """p(these variables together | evidence): an axis for each, after the rows. None of them may be known."""
        what = self.network.structure
        scope = tuple(what.number(name) for name in names)
        given = set(self.evidence.ever if isinstance(self.evidence, Rows) else self.evidence)
        if not scope or len(set(scope)) < len(scope) or given & set(scope):
            known = [what.variables[i].name for i in scope if i in given]
            raise UsageError(
                f"'{known[0]}' is known" if known else "a joint distribution of what?",
                needs="different variables that are not known", found=", ".join(names) or "no names",
                fix="leave it out: what is known is certain" if known else 'such as joint("lung", "smoke")',
            )  # fmt: skip
        if isinstance(self.evidence, Rows):
            found = _of_rows(self.network, self.evidence, [scope], self.soft)[1][0]
            return torch.from_numpy(np.ascontiguousarray(np.moveaxis(found, -1, 0)))
        query = compiled(what, self.evidence, [scope], soft=self.soft)
        return torch.from_numpy(answer_case(self.network, query, self.evidence, self.soft).joints[0])

    def given(self, evidence: Any = None, **states: str) -> Beliefs:
        """The same with more evidence: Bayes' rule once more. log_evidence is then of all of it together.

        >>> from kokkiri.exact.networks.bif import read_network
        >>> asia = read_network("asia")
        >>> step, once = asia.given(smoke="yes").given(xray="no"), asia.given(smoke="yes", xray="no")
        >>> torch.equal(step["lung"], once["lung"])
        True
        """
        if isinstance(self.evidence, Rows) or not is_one_case(evidence):
            raise UsageError("only one case can be given more evidence", needs="states by name, for one case",
                             found="rows", fix="hand in all columns of the rows at once")  # fmt: skip
        what = self.network.structure
        more = case_of(what, {**(evidence or {}), **states})
        for i, k in more.items():
            if self.evidence.get(i, k) != k:
                raise UsageError(f"'{what.variables[i].name}' is known to be something else", needs="no contradiction",
                                 found=f"{described(what, {i: k})} after {described(what, {i: self.evidence[i]})}",
                                 fix="start again from the network")  # fmt: skip
        return _one_case(self.network, {**self.evidence, **more}, tuple(self.marginals), dict(self.soft))

    def most_probable(self) -> Explanation:
        """The states of all unknown variables that are most probable together, given the evidence."""
        if isinstance(self.evidence, Rows):
            return most_probable_rows(self.network, self.evidence, self.soft, self.log_evidence)
        return most_probable_case(self.network, self.evidence, self.soft, self.log_evidence)

    def draw(self, draws: int, seed: int = 0) -> dict[str, Tensor]:
        """Independent draws of all variables from the posterior, as numbers of states: (draws,), or (draws, N).

        >>> from kokkiri.exact.networks.bif import read_network
        >>> some = read_network("asia").given(lung="yes").draw(3)
        >>> some["lung"].tolist(), some["either"].tolist()
        ([0, 0, 0], [0, 0, 0])
        """
        return draw_given(self.network, self.evidence, self.soft, draws, seed)

    def __repr__(self) -> str:
        return f"Beliefs({self.network.name} given {self.known or 'nothing'})"

    def about(self, *names: str) -> Beliefs:
        """The same evidence, and beliefs about these variables (about all, where none is named)."""
        asked = names or self.network.structure.names
        if isinstance(self.evidence, Rows):
            return beliefs_of_rows(self.network, self.evidence, asked, self.soft)
        return _one_case(self.network, self.evidence, asked, self.soft)

    @property
    def known(self) -> str:
        """The evidence in words."""
        what = self.network.structure
        soft = [f"soft evidence on {what.variables[i].name}" for i in self.soft]
        if isinstance(self.evidence, Rows):
            names = ", ".join(what.variables[i].name for i in self.evidence.columns)
            return ", ".join([f"{len(self.evidence.codes):,} rows of {names}", *soft])
        return ", ".join([described(what, self.evidence), *soft] if self.evidence else soft)

    def __str__(self) -> str:
        """The marginals beside the prior, as a table."""
        from kokkiri.exact.networks.words import beliefs_text

        return beliefs_text(self)

    def picture(self) -> str:
        """The graph with the marginals of every variable before and after the evidence, as the text of an SVG."""
        from kokkiri.exact.networks.picture import draw

        return draw(self)


def given(
    network: BayesianNetwork,
    evidence: Any = None,
    states: Mapping[str, Any] | None = None,
    *,
    of: str | Sequence[str] | None = None,
    soft: Mapping[str, Any] | None = None,
) -> Beliefs:
    """p(each variable | evidence) and p(evidence).

    evidence: {variable: state} for one case, or a table of rows (columns of states by name, a data frame, a file), in
    which missing cells are summed over. states: more evidence, which holds for all rows. of: the variables that are
    asked for, all by default; () for the evidence alone. soft: likelihoods p(what was seen | state), for variables that
    were seen unclearly. Raises UsageError or DataError for evidence that cannot be, and names what contradicts what.

    >>> from kokkiri.exact.networks.bif import read_network
    >>> asia = read_network("asia")
    >>> [round(v, 6) for v in asia.given(smoke="yes", xray="no")["lung"].tolist()]
    [0.002358, 0.997642]
    >>> asia.given({"smoke": ["yes", "no"], "xray": ["no", None]}, of="lung")["lung"].shape
    torch.Size([2, 2])
    """
    what = network.structure
    asked: Sequence[str] | None = (of,) if isinstance(of, str) else of
    for name in asked or ():
        what.number(name)
    if is_one_case(evidence):
        case = case_of(what, {**(evidence or {}), **(states or {})})
        likelihoods = soft_of(what, soft, tuple(case)) if soft else {}
        if all(s.ndim == 1 for s in likelihoods.values()):
            return _one_case(network, case, what.names if asked is None else asked, likelihoods)
        rows = Rows((), np.zeros((max(len(s) for s in likelihoods.values() if s.ndim == 2), 0), np.int64))
        if case:
            codes = np.tile(np.array([case[i] for i in sorted(case)]), (len(rows.codes), 1))
            rows = Rows(tuple(sorted(case)), codes)
    else:
        rows = with_case(what, rows_of(what, evidence), case_of(what, states))
        if rows.others:
            raise DataError(
                f"'{rows.others[0]}' is no variable of the network", needs="columns that are variables",
                found=", ".join(rows.others[:8]), fix=nearest(rows.others[0], what.names),
            )  # fmt: skip
        likelihoods = soft_of(what, soft, rows.columns) if soft else {}
    return beliefs_of_rows(network, rows, what.names if asked is None else asked, likelihoods)


def _one_case(
    network: BayesianNetwork, case: Mapping[int, int], asked: Sequence[str], soft: Mapping[int, np.ndarray]
) -> Beliefs:
    what = network.structure
    numbers = [what.index[name] for name in asked]
    wanted = [(i,) for i in numbers if i not in case]
    answer = answer_case(network, compiled(what, case, wanted, soft=soft), case, soft)
    if answer.log_evidence == -np.inf:
        raise impossible(network, case, soft)
    joints = iter(answer.joints)
    marginals = {
        name: _certain(what.sizes[i], case[i]) if i in case else torch.from_numpy(next(joints))
        for name, i in zip(asked, numbers, strict=True)
    }
    return Beliefs(network, case, marginals, torch.as_tensor(answer.log_evidence, dtype=torch.float64), soft)


def _certain(states: int, state: int) -> Tensor:
    row = torch.zeros(states, dtype=torch.float64)
    row[state] = 1.0
    return row


def beliefs_of_rows(
    network: BayesianNetwork, rows: Rows, asked: Sequence[str], soft: Mapping[int, np.ndarray] | None = None
) -> Beliefs:
    """Beliefs for rows that are numbers of states already."""
    what, soft = network.structure, soft or {}
    for i, likelihood in soft.items():
        if likelihood.ndim == 2 and len(likelihood) != len(rows.codes):
            raise ShapeError(
                f"soft evidence for '{what.variables[i].name}' has {len(likelihood):,} rows", needs="one for each row",
                found=f"{len(rows.codes):,} rows of evidence", fix="one row of likelihoods holds for all",
            )  # fmt: skip
    numbers = [what.index[name] for name in asked]
    log_evidence, found = _of_rows(network, rows, [(i,) for i in numbers], soft)
    marginals = {name: torch.from_numpy(np.ascontiguousarray(f.T)) for name, f in zip(asked, found, strict=True)}
    return Beliefs(network, rows, marginals, torch.from_numpy(log_evidence), soft)


def _of_rows(
    network: BayesianNetwork, rows: Rows, scopes: Sequence[tuple[int, ...]], soft: Mapping[int, np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Log p of each row, and each scope's joint distribution with the rows last. A scope of one may be known."""
    what, n = network.structure, len(rows.codes)
    log_evidence = np.zeros(n)
    found = [np.zeros((*(what.sizes[i] for i in scope), n)) for scope in scopes]
    free = lambda batch: [k for k, scope in enumerate(scopes) if not set(scope) & set(batch.known)]

    def question(batch: Batch) -> Query:
        return compiled(what, batch.known, [scopes[k] for k in free(batch)], soft=batch.soft, many=True)

    for batch in batches_of(rows, what.sizes, soft, question):
        query, index = question(batch), batch.rows
        codes = rows.states(query.known, index)
        answer = answer_rows(network, query, codes, batch.soft)
        wrong = answer.log_evidence == -np.inf
        if wrong.any():
            row = int(index[np.flatnonzero(wrong)[0]])
            case = {i: int(k) for i, k in zip(rows.columns, rows.codes[row], strict=True) if k >= 0}
            raise impossible(network, case, {i: s if s.ndim == 1 else s[row] for i, s in soft.items()}, row=row + 1)
        at = slice(None) if len(index) == n else index
        log_evidence[at] = answer.log_evidence
        for k, joint in zip(free(batch), answer.joints, strict=True):
            found[k][..., at] = joint
        for k in set(range(len(scopes))) - set(free(batch)):
            found[k][codes[query.known.index(scopes[k][0])], index] = 1.0
    return log_evidence, found


def impossible(
    network: BayesianNetwork, case: Mapping[int, int], soft: Mapping[int, np.ndarray], row: int | None = None
) -> UsageError | DataError:
    """The error for evidence of probability zero: a smallest part of it that cannot be."""
    what = network.structure
    possible = lambda hard, seen: (
        answer_case(network, compiled(what, hard, [], soft=seen), hard, seen).log_evidence > -np.inf
    )
    without = lambda part, i: {j: v for j, v in part.items() if j != i}
    hard, seen = dict(case), dict(soft)
    for i in case:
        hard = hard if possible(without(hard, i), seen) else without(hard, i)
    for i in soft:
        seen = seen if possible(hard, without(seen, i)) else without(seen, i)
    names = [described(what, {i: k}) for i, k in hard.items()]
    names += [f"what was seen of {what.variables[i].name}" for i in seen]
    first = f"row {row:,}: " if row is not None else ""
    says = f"{names[-1]} has probability zero" + (f" given {', '.join(names[:-1])}" if names[1:] else "")
    kind = UsageError if row is None else DataError
    return kind(
        first + says, needs="evidence that can be, by the tables of the network",
        found=(described(what, case) or "soft evidence")[:200],
        fix="look at these states, or at the zeros in the tables",
    )  # fmt: skip
