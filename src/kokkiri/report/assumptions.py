"""What an effect takes for granted and data cannot test, in plain words, and what was tested in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kokkiri.causal.effect import Effect


def assumptions(effect: Effect) -> list[str]:
    """One sentence each.

    >>> import kokkiri as kk
    >>> effect = kk.do("kidney-stones", {"treatment": "A"}, versus={"treatment": "B"}, adjust="size")
    >>> assumptions(effect)[0]
    'Nothing else acts on both treatment and recovered but through size: you declared it, and no data can show it.'
    """
    t, y = effect.treatment, effect.outcome
    kind = effect.estimand.kind if effect.estimand is not None else "back-door"
    found = []
    if effect.method == "instrument" or kind == "instrument":
        given = None if effect.estimand is None else effect.estimand.instruments
        names = ", ".join(effect.instruments or (() if given is None else given.variables))
        found += [
            f"{names} acts on {y} through {t} alone, and nothing hidden acts on both {names} and {y}.",
            f"The effect of {t} is the same for everybody, and a straight line.",
        ]
    elif effect.estimand is None:
        z = f" but through {', '.join(effect.adjust)}" if effect.adjust else ""
        found.append(f"Nothing else acts on both {t} and {y}{z}: you declared it, and no data can show it.")
        if effect.adjust:
            found.append(f"Nothing that is adjusted for is itself an effect of {t}, or shares a hidden cause with {y} "
                         f"and another with {t}.")  # fmt: skip
    else:
        found.append("The graph is right. Each arrow that it leaves out, and each hidden common cause, is a claim; a "
                     "wrong claim may make the formula wrong, however many rows there are.")  # fmt: skip
        if kind == "front-door":
            m = ", ".join(effect.estimand.mediators)
            found.append(f"{t} acts on {y} through {m} alone, and nothing hidden acts on {m} together with either.")
    found += [
        f"What {t} does to one row does not depend on the treatment of others.",
        f"Setting {t} is the same act as the one that was seen.",
        "The rows stand for those one wants to know about, and those that are missing are missing by chance.",
    ]
    of_method = {
        "linear": "The mean of the outcome is a straight line in what is adjusted for; its noise is normal.",
        "networks": "The product of the networks' errors about outcome and treatment is small: the rest is corrected.",
        "discrete": "Beforehand all joint tables were equally probable, but for what the prior says.",
    }
    return [*found, *([of_method[effect.method]] if effect.method in of_method else [])]
