"""Refute an estimate: five ways in which a right one must not change, as replicates of one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from kokkiri.causal.refutation import Refutation, judged, larger_than_placebos
from kokkiri.causal.replicates import NAMES, SHARE, Table, as_they_are, replicates
from kokkiri.causal.solvers import AT_ONCE, Solver, how_many, some
from kokkiri.errors import DataError, UsageError, nearest
from kokkiri.numerics.heads import Replicates
from kokkiri.numerics.one_step import Estimates

SIMULATIONS = 100


def refuted(
    solver: Solver,
    rows: Table,
    *,
    estimate: float,
    sd: float,
    method: str,
    refuters: Sequence[str] = tuple(NAMES),
    simulations: int = SIMULATIONS,
    seed: int = 0,
    share: float = SHARE,
    moments: bool = True,
    skipped: Mapping[str, str] | None = None,
    full: Callable[[Replicates], Estimates] | None = None,
    full_simulations: int = 0,
    notes: Sequence[str] = (),
    ease: float = 1.0,
) -> Refutation:
    """What the refuters say of an estimate with this posterior mean and standard deviation.

    solver: answers replicates. full: answers them with everything fitted anew, for the first `full_simulations` of each
    refuter. skipped: refuters that do not apply, and why. moments: whether estimates have a mean; if not, medians and
    quartiles stand for means and standard deviations. ease: how many times wider the limits are, for few rows.
    """
    must_be_asked(refuters, simulations, share)
    left_out = {} if skipped is None else dict(skipped)
    asked = [name for name in NAMES if name in refuters and name not in left_out]
    base = float(solver(as_they_are(rows)).estimate[0])
    lines = []
    for name in asked:
        made = _in_portions(solver, name, rows, simulations, seed, share)
        line = judged(name, made[1], base, sd, len(asked), share=share, moments=moments, ease=ease)
        if full is not None and full_simulations:
            line = line.beside(full(some(made[0], 0, min(full_simulations, how_many(made[0])))).estimate)
        lines.append(line)
    placebo = [line for line in lines if line.refuter == "placebo"]
    return Refutation(
        estimate, sd, base, tuple(lines), method, larger_than_placebos(estimate, placebo),
        tuple((name, why) for name, why in left_out.items() if name in refuters), share, tuple(notes),
    )  # fmt: skip


def _in_portions(
    solver: Solver, name: str, rows: Table, simulations: int, seed: int, share: float
) -> tuple[Replicates, Estimates]:
    """The first replicates, and the answers to all, so many at a time as lie in memory."""
    step = max(1, min(simulations, AT_ONCE // max(1, len(rows.treatment))))
    first, found = None, []
    for k, start in enumerate(range(0, simulations, step)):
        some_of_them = replicates(name, rows, min(step, simulations - start), seed, share, k)
        first = first or some_of_them
        found.append(solver(some_of_them))
    assert first is not None
    return first, Estimates(*(torch.cat(part) for part in zip(*found, strict=True)))


def must_be_asked(refuters: Sequence[str], simulations: int, share: float) -> None:
    """Errors for refuters that are not there, and for numbers out of range."""
    for name in refuters:
        if name not in NAMES:
            raise UsageError(f"there is no refuter '{name}'", needs="some of the five", found=repr(name),
                             fix=nearest(str(name), NAMES))  # fmt: skip
    if not refuters:
        raise UsageError("no refuter was named", needs="one at least", found="none", fix=f"some of {', '.join(NAMES)}")
    if not isinstance(simulations, int) or simulations < 20:
        raise UsageError(f"simulations={simulations} says too little", needs="20 replicates at least, to know a spread",
                         found=str(simulations), fix="simulations=100")  # fmt: skip
    if not 0.1 <= share <= 0.95:
        raise UsageError(f"share={share:g} is no subset", needs="a share of the rows from 0.1 to 0.95",
                         found=f"{share:g}", fix="share=0.8")  # fmt: skip


def must_have_rows(rows: Table, level: float, versus: float, least: int = 10) -> None:
    """An error where replicates could not have both settings."""
    for value in (level, versus):
        if (many := int((rows.treatment == value).sum())) < least:
            raise DataError("there are too few rows to refute anything", needs=f"{least} rows of each setting at least",
                            found=f"{many} of one of them", fix="more rows, or other settings")  # fmt: skip
