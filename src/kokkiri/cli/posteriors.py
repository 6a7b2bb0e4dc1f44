"""Posteriors by their names on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kokkiri.errors import UsageError, nearest

if TYPE_CHECKING:
    from kokkiri.posteriors.recipe import Recipe

KINDS = (
    "point", "ensemble", "laplace", "last-layer", "swag", "dropout", "variational", "hamiltonian", "langevin",
)  # fmt: skip
NEEDS = "NAME, ensemble:5, swag:20 (the rank), laplace:STRUCTURE, with :last or :x5 behind it"


def posterior_named(text: str) -> Recipe:
    """point, ensemble:5, laplace, laplace:ekfac, laplace:full:last, laplace:kronecker:x5 (a mixture around five modes),
    last-layer, swag:20, dropout, variational, hamiltonian, langevin.

    >>> posterior_named("ensemble:3")
    Ensemble(size=3, folds=5)
    >>> posterior_named("laplace:full:last")
    Laplace(structure=Full(), layers=('last',), ...)
    """
    from kokkiri import posteriors

    kind, *parts = text.split(":")
    number = int(parts[0]) if len(parts) == 1 and parts[0].isdigit() else None
    if kind == "laplace":
        return _laplace(text, parts)
    if kind == "ensemble" and (number or not parts):
        return posteriors.Ensemble(number or 5)
    if kind == "swag" and (number or not parts):
        return posteriors.SWAG(rank=number or posteriors.SWAG().rank)
    plain = {
        "point": posteriors.Point, "last-layer": posteriors.LastLayer, "dropout": posteriors.Dropout,
        "variational": posteriors.Variational, "hamiltonian": posteriors.Hamiltonian, "langevin": posteriors.Langevin,
    }  # fmt: skip
    if kind in plain and not parts:
        return plain[kind]()
    raise UsageError(f"there is no posterior {text!r}", needs=NEEDS, found=text, fix=nearest(kind, KINDS))


def _laplace(text: str, parts: list[str]) -> Recipe:
    from kokkiri.curvature.structures import NAMES
    from kokkiri.posteriors import Laplace

    structures = [p for p in parts if p in NAMES]
    sizes = [int(p[1:]) for p in parts if p[:1] == "x" and p[1:].isdigit()]
    if len(structures) > 1 or len(sizes) > 1 or len(structures) + len(sizes) + parts.count("last") < len(parts):
        raise UsageError(
            f"there is no posterior {text!r}", needs="laplace:STRUCTURE, with :last or :x5 behind it", found=text,
            fix=f"STRUCTURE is one of {', '.join(NAMES)}",
        )  # fmt: skip
    layers = "last" if "last" in parts else None
    return Laplace(*(structures or ["kronecker"]), layers=layers, size=sizes[0] if sizes else 1)
