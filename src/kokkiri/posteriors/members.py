"""Seeds of the members of an ensemble."""

from __future__ import annotations

from kokkiri.numerics.random import key


def member_seeds(seed: int, size: int) -> list[int]:
    """One seed a member, a function of (seed, member): a larger ensemble begins with the smaller one's members.

    >>> member_seeds(0, 3)[:2] == member_seeds(0, 2)
    True
    """
    return [key(seed, "member", i) >> 2 for i in range(size)]
