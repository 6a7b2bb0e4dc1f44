"""Likelihoods by name: the doors from the command line and from saved models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from kokkiri.errors import ModelError, UsageError, nearest
from kokkiri.likelihoods.bernoulli import Bernoulli
from kokkiri.likelihoods.categorical import Categorical
from kokkiri.likelihoods.gaussian import Gaussian
from kokkiri.likelihoods.heteroscedastic import HeteroscedasticGaussian
from kokkiri.likelihoods.heteroscedastic_t import HeteroscedasticStudentT
from kokkiri.likelihoods.laplace import Laplace
from kokkiri.likelihoods.negative_binomial import NegativeBinomial
from kokkiri.likelihoods.poisson import Poisson
from kokkiri.likelihoods.rescaled import Rescaled
from kokkiri.likelihoods.student_t import StudentT
from kokkiri.types import Likelihood

_OURS = (
    Gaussian,
    Laplace,
    StudentT,
    HeteroscedasticGaussian,
    HeteroscedasticStudentT,
    Bernoulli,
    Categorical,
    Poisson,
    NegativeBinomial,
    Rescaled,
)


def named(name: str) -> Likelihood:
    """A likelihood by its name on the command line, or by the name of the loss it normalises.

    >>> named("mse"), named("cross-entropy")
    (Gaussian(scale=1.0, learn=True), Categorical())
    """
    doors = {
        "gaussian": Gaussian,
        "mse": Gaussian,
        "laplace": Laplace,
        "mae": Laplace,
        "student-t": StudentT,
        "heteroscedastic": HeteroscedasticGaussian,
        "heteroscedastic-t": HeteroscedasticStudentT,
        "bernoulli": Bernoulli,
        "categorical": Categorical,
        "cross-entropy": Categorical,
        "poisson": Poisson,
        "negative-binomial": NegativeBinomial,
    }
    kind = doors.get(name.casefold().replace("_", "-"))
    if kind is None:
        raise UsageError(
            f"there is no likelihood '{name}'",
            needs="the name of a likelihood or of a loss",
            found=repr(name),
            fix=nearest(name, doors),
        )
    return kind()


def from_config(values: Mapping[str, Any]) -> Likelihood:
    """The likelihood that its `config()` wrote down.

    >>> from_config(Rescaled(Laplace(scale=0.5), 3.0, 2.0).config())
    Rescaled(inner=Laplace(scale=0.5, learn=True), shift=3.0, scale=2.0)
    """
    name = values.get("name")
    kinds = [kind for kind in _OURS if kind.__name__ == name]
    if not kinds:
        raise ModelError(
            f"the model's likelihood {name!r} is not known",
            needs="one of " + ", ".join(kind.__name__ for kind in _OURS),
            found=repr(name),
            fix="load it with the version of kokkiri that saved it",
        )
    known = {f.name for f in fields(kinds[0]) if f.repr}
    given = {field: value for field, value in values.items() if field != "name"}
    if unknown := sorted(given.keys() - known):
        raise ModelError(
            f"the model's {name} has settings that are not known",
            needs="some of " + (", ".join(sorted(known)) or "none"),
            found=", ".join(unknown),
            fix="load it with the version of kokkiri that saved it",
        )
    given |= {field: tuple(value) for field, value in given.items() if isinstance(value, list)}
    if "inner" in given:
        given["inner"] = from_config(given["inner"])
    return kinds[0](**given)
