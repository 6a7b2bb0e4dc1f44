"""kokkiri estimate: what rows say of the parameters of a simple model, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from kokkiri.cli import families, outcomes
from kokkiri.cli.values import picture_at, say, write_picture
from kokkiri.errors import DataError, UsageError


@dataclass(frozen=True)
class Estimate:
    """Estimate the parameters of a simple model: maximum likelihood, maximum a posteriori and posterior side by side.

    A proportion, a rate, a mean and a variance, the weights of a regression: families whose posterior, prediction and
    evidence are exact. With --update, batch after batch: what was the posterior is the prior of the next file.
    """

    data: Annotated[Positional[str], arg(metavar="DATA")]
    """The first rows: a file, SQL, or a named data set."""
    column: Annotated[tuple[str, ...], arg(metavar="COLUMN")]
    """What was observed; several columns for multivariate-normal."""
    update: Annotated[tuple[str, ...], arg(metavar="DATA")] = ()
    """More rows, one batch after the other."""
    family: Annotated[str | None, arg(metavar="NAME")] = None
    """bernoulli, categorical, poisson, exponential, normal, normal-known-variance, linear, multivariate-normal
    (default: read off the column)."""
    prior: Annotated[str | None, arg(metavar="NUMBERS")] = None
    """The prior's numbers, in their order or by name, such as shape=3,rate=5 (default: flat for proportions, else worth
    one row of DATA)."""
    inputs: Annotated[tuple[str, ...], arg(metavar="COLUMN")] = ()
    """Inputs of a linear regression; the intercept comes by itself."""
    exposure: Annotated[str | None, arg(metavar="COLUMN")] = None
    """How long, or how much, each count was looked at (poisson)."""
    noise: Annotated[float | None, arg(metavar="VARIANCE")] = None
    """The known variance (normal-known-variance)."""
    success: Annotated[str | None, arg(metavar="VALUE")] = None
    """Which value counts as a one (bernoulli; default: yes, true, 1, or the second of two)."""
    level: Annotated[float, arg(metavar="P")] = 0.95
    """Probability of the intervals."""
    out: Annotated[str | None, arg(metavar="FILE.svg")] = None
    """Where to draw the belief before any row and after each batch."""
    table: Annotated[str | None, arg(metavar="NAME")] = None
    """Which table of a SQLite file."""
    encoding: Annotated[str, arg(metavar="NAME")] = "utf-8"
    """Encoding of a text file."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        from kokkiri.exact import estimate
        from kokkiri.exact.conjugate.words import wrapped

        path, family = picture_at(self.out), self._family()
        sources = [self.data, *self.update]
        tables = [outcomes.opened(source, self.table, self.encoding) for source in sources]
        wanted = outcomes.Wanted(self.column, family, self.inputs, self.exposure, self.success)
        found = outcomes.read(tables, wanted)
        prior, why = self._prior(found)
        outcome = self.column[0] if len(self.column) == 1 else "row"
        names = [_short(source) for source in sources]
        told = estimate(prior, *found.batches, names=names, outcome=outcome, level=self.level)
        what = families.FAMILIES[found.family].says
        heading = [f"{', '.join(self.column)}: {what}{f' ({found.reason})' if found.reason else ''}"]
        if found.family == "bernoulli":
            heading.append(f"success: {found.names[0] or 'never seen'}")
        say(["\n".join(wrapped(line) for line in [*heading, f"prior: {prior!r}, {why}"]), str(told)])
        if path is not None:
            write_picture(path, told.picture())
        return 0

    def _prior(self, found: outcomes.Outcome) -> tuple[Any, str]:
        """The family before its rows, and where its prior is from."""
        if self.prior is not None:
            return families.with_prior(found.family, self.prior, found.names, self.noise), f"as given: {self.prior}"
        try:
            prior = families.unit_prior(found.family, found.batches[0], found.names, self.noise)
        except DataError as error:
            numbers = ",".join(families.FAMILIES[found.family].prior).upper()
            raise DataError(
                f"{_short(self.data)}: {error.what}", needs=error.needs, found=error.found,
                fix=f"a prior of your own: --prior {numbers}",
            ) from None  # fmt: skip
        if found.family in {"bernoulli", "categorical"}:
            return prior, "flat"
        return prior, f"worth one row, its centre that of {_short(self.data)}; a prior of your own: --prior"

    def _family(self) -> str | None:
        """The family that was named, or that a flag belongs to; flags of other families are refused."""
        family = None if self.family is None else families.family_named(self.family)
        if not 0 < self.level < 1:
            raise UsageError(
                f"--level cannot be {self.level:g}", needs="a probability above 0 and below 1", found=f"{self.level:g}",
                fix=f"--level {self.level / 100:g}, if percent was meant" if 1 < self.level < 100 else "--level 0.95",
            )  # fmt: skip
        flags = {
            "linear": ("--inputs", bool(self.inputs)), "poisson": ("--exposure", self.exposure is not None),
            "normal-known-variance": ("--noise", self.noise is not None),
            "bernoulli": ("--success", self.success is not None),
            "multivariate-normal": ("several columns", len(self.column) > 1),
        }  # fmt: skip
        named = {name: flag for name, (flag, given) in flags.items() if given}
        if not self.column:
            raise UsageError("--column names nothing", needs="the column that was observed", found="no name",
                             fix="--column NAME")  # fmt: skip
        if family is None and len(named) > 1:
            first, second, *_ = named.values()
            raise UsageError(
                f"{first} and {second} do not belong together", needs="flags of one family",
                found=" and ".join(f"{flag} of {name}" for name, flag in named.items()), fix=f"leave {second} out",
            )  # fmt: skip
        family = family or next(iter(named), None)
        for name, flag in named.items():
            if name != family:
                raise UsageError(
                    f"{flag} does not belong to {family}", needs=f"{flag} with --family {name}",
                    found=f"--family {family}", fix=f"leave {flag} out, or --family {name}",
                )  # fmt: skip
        lacks = {"linear": "--inputs COLUMN", "normal-known-variance": "--noise VARIANCE"}
        if family in lacks and family not in named:
            raise UsageError(
                f"{family} needs {lacks[family].split()[0]}", needs=lacks[family], found=f"--family {family} alone",
                fix=f"{lacks[family]}, or --family normal",
            )  # fmt: skip
        return family


def _short(source: str) -> str:
    """What a batch is called: the file's name."""
    return Path(source).name if len(source) < 80 and not source.lower().startswith("select") else "SQL"
