"""What can go wrong, as one tree.

KokkiriError (a ValueError)
├── DataError              a file, a column or a row is not what it must be
│   ├── FormatError            a file is truncated, corrupt, or of another format
│   └── ChecksumError          a download, or a file of a model, is not the one that was promised
├── GraphError             a causal graph cannot be read, or has a cycle
├── NotIdentified          a graph leaves an effect open: the hedge, and what would help
├── ShapeError             tensors do not fit together
├── ModelError             a model folder or a network cannot be used
├── CannotLift             torch.func.vmap cannot run this network; the loop engine can
├── NotPositiveDefinite    a matrix that must have a Cholesky factor has none
├── OutputError            a result cannot be written
├── Unsupported            a combination that has no meaning, or none yet
└── UsageError             arguments that contradict one another or are misspelt

Every message has four lines: what happened, what was needed, what was found, and the mend.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any


class KokkiriError(ValueError):
    """An error that says how to mend it.

    >>> print(KokkiriError("column 'age' is empty", needs="a number in a row", found="0 of 12", fix="leave it out"))
    column 'age' is empty
      needs   a number in a row
      found   0 of 12
      fix     leave it out
    """

    def __init__(self, what: str, *, needs: str = "", found: str = "", fix: str = "") -> None:
        self.what, self.needs, self.found, self.fix = what, needs, found, fix
        lines = [what]
        lines += [f"  {name:<7} {text}" for name, text in (("needs", needs), ("found", found), ("fix", fix)) if text]
        super().__init__("\n".join(lines))


class DataError(KokkiriError):
    """A file, a column or a row is not what it must be."""


class FormatError(DataError):
    """A file is truncated, corrupt, or of another format than its name says."""


class ChecksumError(DataError):
    """Bytes differ from the ones whose SHA-256 was promised."""


class GraphError(KokkiriError):
    """A causal graph cannot be read, or has a cycle."""


class NotIdentified(KokkiriError):
    """A causal graph leaves an effect open: two models agree on all that is observed, and disagree about it.

    `hedge` is a pair of sets of variables: the larger hangs together by hidden causes, and so does the smaller, which
    is what remains of it once the treatments are set. `remedies` say what would help, `bounds` what is known all the
    same, `witness()` gives two such models. They are values of `kokkiri.causal`.
    """

    def __init__(
        self,
        what: str,
        *,
        needs: str = "",
        found: str = "",
        fix: str = "",
        hedge: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
        remedies: tuple[Any, ...] = (),
        bounds: Any = None,
        witness: Callable[[], Any] | None = None,
    ) -> None:
        super().__init__(what, needs=needs, found=found, fix=fix)
        self.hedge, self.remedies, self.bounds = hedge, remedies, bounds
        self.witness = witness


class ShapeError(KokkiriError):
    """Tensors do not fit together."""


class ModelError(KokkiriError):
    """A model folder or a network cannot be used."""


class CannotLift(KokkiriError):
    """torch.func.vmap cannot run this network over a stack of replicas."""


class NotPositiveDefinite(KokkiriError):
    """A matrix that must have a Cholesky factor has none."""


class OutputError(KokkiriError):
    """A result cannot be written where it was wanted."""


class Unsupported(KokkiriError):
    """A combination that has no meaning, or none yet."""


class UsageError(KokkiriError):
    """Arguments that contradict one another, are out of range, or are misspelt."""


def nearest(name: str, names: Iterable[str]) -> str:
    """The fix line for a name that is not there: the nearest one, then the first few.

    >>> nearest("recoverd", ["age", "recovered"])
    "did you mean 'recovered'? there are: age, recovered"
    """
    known = list(names)
    if not known:
        return "there are none"
    folded = {k.casefold(): k for k in reversed(known)}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    shown = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
    return f"did you mean '{folded[close[0]]}'? there are: {shown}" if close else f"there are: {shown}"
