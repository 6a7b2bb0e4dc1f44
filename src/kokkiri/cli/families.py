"""Conjugate families by the names that the command line knows, and their priors as people type them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from kokkiri.cli.values import number_of
from kokkiri.errors import UsageError, nearest

Batch = dict[str, Any]  # the arguments of a family's `update`


class Known(NamedTuple):
    """What is known of a family before its rows: what a row is, in words, and the names of the prior's numbers."""

    says: str
    prior: tuple[str, ...]


FAMILIES = {
    "bernoulli": Known("yes or no, y ~ Bernoulli(p)", ("a", "b")),
    "categorical": Known("one of several classes, y ~ Categorical(p)", ("concentration",)),
    "poisson": Known("counts, y ~ Poisson(rate)", ("shape", "rate")),
    "exponential": Known("waiting times, y ~ Exponential(rate)", ("shape", "rate")),
    "normal": Known("numbers, y ~ Normal(mean, variance)", ("location", "strength", "shape", "rate")),
    "normal-known-variance": Known("numbers, y ~ Normal(mean, known variance)", ("mean", "variance")),
    "linear": Known("numbers, y ~ Normal(weights · inputs, noise variance)", ("precision", "shape", "rate")),
    "multivariate-normal": Known(
        "rows of numbers, y ~ Normal(means, covariance)", ("location", "strength", "degrees", "scale")
    ),
}


def family_named(name: str) -> str:
    """The name, if it is one."""
    if name not in FAMILIES:
        raise UsageError(
            f"there is no family '{name}'", needs="a conjugate family", found=f"'{name}'", fix=nearest(name, FAMILIES)
        )
    return name


def with_prior(family: str, text: str, names: Sequence[str], noise: float | None) -> Any:
    """A family with the prior that was typed; names: of classes, inputs or coordinates; noise: a known variance."""
    from kokkiri import exact

    given = numbers_of(family, text, names)
    match family:
        case "bernoulli":
            return exact.BetaBernoulli(**given)
        case "categorical":
            return exact.DirichletCategorical(given["concentration"], names)
        case "poisson":
            return exact.GammaPoisson(**given)
        case "exponential":
            return exact.GammaExponential(**given)
        case "normal":
            return exact.NormalInverseGamma(**given)
        case "normal-known-variance":
            assert noise is not None
            return exact.NormalKnownVariance(**given, noise=noise)
        case "linear":
            return exact.LinearRegression.ridge(names, **given)
        case _:
            d = len(names)
            location, scale = torch.full((d,), given["location"]), torch.eye(d) * given["scale"]
            return exact.NormalInverseWishart(location, given["strength"], given["degrees"], scale, names)


def unit_prior(family: str, rows: Batch, names: Sequence[str], noise: float | None) -> Any:
    """A family with a prior worth one row; a flat one of proportions, which needs no rows."""
    from kokkiri import exact
    from kokkiri.exact import unit_information as one

    match family:
        case "bernoulli":
            return exact.BetaBernoulli(1, 1)
        case "categorical":
            return exact.DirichletCategorical(torch.ones(len(names)), names)
        case "poisson":
            return one.poisson(**rows)
        case "exponential":
            return one.exponential(**rows)
        case "normal":
            return one.normal(**rows)
        case "normal-known-variance":
            assert noise is not None
            return one.known_variance(rows["y"], noise)
        case "linear":
            return one.linear(rows["x"], rows["y"], names)
        case _:
            return one.vectors(rows["y"], names)


def numbers_of(family: str, text: str, names: Sequence[str]) -> Mapping[str, Any]:
    """A prior's numbers, in their order or by name.

    >>> numbers_of("poisson", "3,5", ()) == numbers_of("poisson", "rate=5, shape=3", ())
    True
    """
    wanted = FAMILIES[family].prior
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if family == "categorical":
        return {"concentration": _of_classes(parts, text, names)}
    fix = f"--prior {','.join(f'{name}={k}' for k, name in enumerate(wanted, start=1))}"
    if any("=" in part for part in parts):
        found: dict[str, float] = {}
        for part in parts:
            name, _, value = (p.strip() for p in part.partition("="))
            if name not in wanted or name in found:
                raise UsageError(
                    f"--prior names '{name}'", needs=f"{' and '.join(wanted)}, each once", found=text,
                    fix=nearest(name, wanted) if name not in wanted else fix,
                )  # fmt: skip
            found[name] = number_of(f"--prior {name}=", value)
    else:
        found = {name: number_of(f"--prior {name}=", part) for name, part in zip(wanted, parts, strict=False)}
    if len(found) != len(wanted) or len(parts) != len(wanted):
        raise UsageError(
            f"a prior of {family} has {len(wanted)} numbers", needs=", ".join(wanted), found=f"--prior {text}", fix=fix
        )
    return found


def _of_classes(parts: Sequence[str], text: str, names: Sequence[str]) -> list[float]:
    """One number for all classes, one for each, or each by its name."""
    if parts and all("=" in part for part in parts):
        given = {name.strip(): value.strip() for name, _, value in (part.rpartition("=") for part in parts)}
        for name in given:
            if name not in names:
                raise UsageError(
                    f"--prior names '{name}'", needs="names of classes", found=text, fix=nearest(name, names)
                )
        parts = [given[name] for name in names if name in given]
    if len(parts) not in {1, len(names)}:
        raise UsageError(
            f"a prior of {len(names)} classes has {len(names)} numbers, or one for all",
            needs=", ".join(names[:8]), found=f"--prior {text}", fix="--prior 1",
        )  # fmt: skip
    values = [number_of("--prior", part) for part in parts]
    return values * len(names) if len(values) == 1 else values
