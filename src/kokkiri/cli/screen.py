"""kokkiri screen: what a screening test says, from rates or from counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from kokkiri.cli.values import number_of, picture_at, say, write_picture
from kokkiri.errors import UsageError

if TYPE_CHECKING:
    from kokkiri.exact import Screening, ScreeningCounts

COUNTS = ("true_positives", "false_negatives", "false_positives", "true_negatives")


@dataclass(frozen=True)
class Screen:
    """What a positive and a negative result of a screening test mean, and why a good test is often wrong.

    From rates: --prevalence 0.1 --sensitivity 0.99 --false-positive 0.01. From counts of people whose illness is known:
    --true-positives 95 --false-negatives 5 --false-positives 10 --true-negatives 190; then everything carries its
    posterior interval. Rates are numbers, fractions or percentages: 0.1, 1/10, 10%.
    """

    prevalence: Annotated[str | None, arg(metavar="P")] = None
    """How many of those who are screened are ill. With counts: K/N where K of N others were; left out, the share of
    those who were counted."""
    sensitivity: Annotated[str | None, arg(metavar="P")] = None
    """How many of the ill test positive: the recall."""
    false_positive: Annotated[str | None, arg(metavar="P")] = None
    """How many of the well test positive: the type I error."""
    true_positives: Annotated[int | None, arg(metavar="N")] = None
    """So many of the ill tested positive."""
    false_negatives: Annotated[int | None, arg(metavar="N")] = None
    """So many of the ill tested negative."""
    false_positives: Annotated[int | None, arg(metavar="N")] = None
    """So many of the well tested positive."""
    true_negatives: Annotated[int | None, arg(metavar="N")] = None
    """So many of the well tested negative."""
    second_sensitivity: Annotated[str | None, arg(metavar="P")] = None
    """Of a second test, where it is another one."""
    second_false_positive: Annotated[str | None, arg(metavar="P")] = None
    """Of a second test, where it is another one."""
    dependence: Annotated[tuple[str, ...], arg(metavar="R")] = ()
    """Correlation of the results of both tests, given the illness: one number, or one for the ill and one for the
    well (default: 0, independent)."""
    cost_false_alarm: Annotated[float | None, arg(metavar="COST")] = None
    """Cost of acting on somebody who is well; with --cost-miss: what the test is worth."""
    cost_miss: Annotated[float | None, arg(metavar="COST")] = None
    """Cost of leaving somebody who is ill."""
    price: Annotated[float, arg(metavar="COST")] = 0.0
    """Of the test, in the same unit."""
    level: Annotated[float, arg(metavar="P")] = 0.95
    """Probability of the intervals."""
    out: Annotated[str | None, arg(metavar="FILE.svg")] = None
    """Where to draw precision against prevalence and against the false-positive rate."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        from kokkiri.exact.screening_words import counted_second_text, dependence_text

        path = picture_at(self.out)
        if any(getattr(self, name) is not None for name in COUNTS):
            test = self._counted()
            two = test.rates.second(self._second(test.rates), self._dependence())
            found = test.second(self._second(test.rates), self._dependence())
            say([str(test), counted_second_text(dependence_text(two), found), *self._worth(test.rates)])
        else:
            test = self._rates()
            say([str(test), str(test.second(self._second(test), self._dependence())), *self._worth(test)])
        if path is not None:
            write_picture(path, test.picture())
        return 0

    def _rates(self) -> Screening:
        from kokkiri.exact import Screening

        given = {"prevalence": self.prevalence, "sensitivity": self.sensitivity, "false-positive": self.false_positive}
        values: list[float] = []
        for name, text in given.items():
            if text is None:
                missing = [f"--{n}" for n, t in given.items() if t is None]
                raise UsageError(
                    f"a screening test needs {', '.join(missing)}",
                    needs="prevalence, sensitivity and false-positive rate, or the four counts",
                    found=", ".join(f"--{n} {t}" for n, t in given.items() if t is not None) or "none of them",
                    fix="--prevalence 0.1 --sensitivity 0.99 --false-positive 0.01",
                )  # fmt: skip
            values.append(number_of(f"--{name}", text))
            if name == "false-positive" and values[-1] > 1:
                raise UsageError(
                    f"a false-positive rate cannot be {values[-1]:g}", needs="a probability, from 0 to 1",
                    found=f"--false-positive {text}", fix=f"--false-positives {text}, if that was a count",
                )  # fmt: skip
        return Screening(*values)

    def _counted(self) -> ScreeningCounts:
        from kokkiri.exact import ScreeningCounts

        flag = lambda name: "--" + name.replace("_", "-")
        if missing := [flag(n) for n in COUNTS if getattr(self, n) is None]:
            raise UsageError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing", needs="all four counts",
                found=", ".join(f"{flag(n)} {getattr(self, n)}" for n in COUNTS if getattr(self, n) is not None),
                fix=f"{missing[0]} N",
            )  # fmt: skip
        if self.sensitivity is not None or self.false_positive is not None:
            name = "--sensitivity" if self.sensitivity is not None else "--false-positive"
            raise UsageError(
                f"{name} beside counts", needs="rates or counts", found="both", fix=f"leave {name} out: it is counted"
            )
        prevalence: float | tuple[int, int] | None = None
        if self.prevalence is not None:
            ill, slash, people = (part.strip() for part in self.prevalence.partition("/"))
            whole = slash and ill.isdigit() and people.isdigit()
            prevalence = (int(ill), int(people)) if whole else number_of("--prevalence", self.prevalence)
        return ScreeningCounts(*(getattr(self, n) for n in COUNTS), prevalence=prevalence, level=self.level)

    def _worth(self, test: Screening) -> list[str]:
        """What the test is worth, where costs are named."""
        from kokkiri.decisions import Costs, value_of_test

        if self.cost_false_alarm is None and self.cost_miss is None:
            return []
        if self.cost_false_alarm is None or self.cost_miss is None:
            lacks = "--cost-miss" if self.cost_miss is None else "--cost-false-alarm"
            raise UsageError(
                f"the test's worth needs {lacks}, too", needs="the costs of both errors", found="one of them",
                fix=f"{lacks} 1",
            )  # fmt: skip
        found = value_of_test(test, Costs(self.cost_false_alarm, self.cost_miss), price=self.price)
        return ["What the test is worth before one acts or leaves", str(found)]

    def _second(self, first: Screening) -> Screening | None:
        from kokkiri.exact import Screening

        given = (self.second_sensitivity, self.second_false_positive)
        if given == (None, None):
            return None
        if None in given:
            lacks = "sensitivity" if given[0] is None else "false-positive"
            raise UsageError(
                f"a second test needs --second-{lacks}, too", needs="both of its rates", found="one of them",
                fix=f"--second-{lacks} 0.{'9' if given[0] is None else '1'}, or leave out both: the same test again",
            )  # fmt: skip
        flags = ("--second-sensitivity", "--second-false-positive")
        rates = [number_of(flag, text) for flag, text in zip(flags, given, strict=True) if text is not None]
        return Screening(float(first.prevalence), *rates)

    def _dependence(self) -> list[float] | float:
        values = [number_of("--dependence", text) for text in self.dependence]
        if len(values) > 2:
            raise UsageError(
                f"--dependence got {len(values)} numbers", needs="one, or one for the ill and one for the well",
                found=" ".join(self.dependence), fix="--dependence 0.3 0.1",
            )  # fmt: skip
        return (values[0] if len(values) == 1 else values) if values else 0.0
