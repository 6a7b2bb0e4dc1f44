"""What the report says of candidates that evidence and held-out rows judge."""

import math
from dataclasses import replace

from kokkiri.records import Candidate
from kokkiri.report import candidates

NARROW = Candidate("MLP 8", -1.2, 0.02, 1.0, 33, evidence=-130.0)
WIDE = Candidate("MLP 64", -0.9, 0.02, 2.0, 4321, evidence=-150.0)
LINEAR = Candidate("linear", -1.5, 0.02, 0.5, 9, evidence=-200.0)
FINAL = Candidate("MLP 8", math.nan, math.nan, 4.0, 33, chosen=True, evidence=-130.0)
OTHER = Candidate("MLP 64", math.nan, math.nan, 8.0, 4321, evidence=-150.0)
LOOKS = (
    replace(NARROW, name="MLP 8 (quick)", evidence=None), replace(WIDE, name="MLP 64 (quick)", evidence=None),
    replace(LINEAR, name="linear (quick)", evidence=None),
)  # fmt: skip


def test_the_order_is_that_of_whoever_judged():
    assert [c.name for c in candidates.ordered([LINEAR, NARROW, WIDE])] == ["MLP 64", "MLP 8", "linear"]
    found = candidates.ordered([*LOOKS, OTHER, FINAL])
    assert [c.name for c in found] == ["MLP 8", "MLP 64", "MLP 64 (quick)", "MLP 8 (quick)", "linear (quick)"]
    assert "by their evidence" in candidates.judge(found)
    assert "evidence" not in candidates.judge([replace(WIDE, chosen=True), NARROW])


def test_a_final_is_compared_through_its_quick_look():
    assert candidates.paired([*LOOKS, OTHER, FINAL]) == [
        replace(OTHER, held_out=-0.9, se=0.02), replace(FINAL, held_out=-1.2, se=0.02)
    ]  # fmt: skip
    assert candidates.paired([FINAL, OTHER]) == []


def test_disagreement_is_said_and_agreement_too():
    best = "Evidence prefers MLP 8, by 20.0 nats in all; held-out rows prefer MLP 64, by 0.300 nats per row"
    assert candidates.disagreement([LINEAR, NARROW, WIDE]) == f"{best}."
    assert candidates.disagreement([NARROW, replace(WIDE, se=0.4)]) == f"{best}, less than one standard error."
    assert candidates.disagreement([*LOOKS, OTHER, FINAL]) == f"{best}."
    same = [LINEAR, replace(NARROW, evidence=-150.0), replace(WIDE, evidence=-130.0)]
    assert candidates.disagreement(same) == "Evidence and held-out rows put the 3 that have both in the same order."
    swapped = [replace(LINEAR, evidence=-140.0), *same[1:]]
    text = "Evidence and held-out rows agree on the best, not on the order of linear and MLP 8."
    assert candidates.disagreement(swapped) == text
    third = replace(NARROW, name="MLP 9", held_out=-1.3, evidence=-145.0)
    assert candidates.disagreement([*swapped, third]).endswith("of linear and MLP 8, and of 2 more pairs.")
    third = replace(third, evidence=-139.0)
    assert candidates.disagreement([*swapped, third]).endswith("of linear and MLP 8, and of one more pair.")
    near = candidates.disagreement([replace(NARROW, evidence=-149.5), WIDE])
    assert near.startswith("Evidence does not tell MLP 8 from MLP 64 (less than a nat in all); held-out rows prefer")
    assert not candidates.disagreement([WIDE])
    assert not candidates.disagreement([replace(WIDE, evidence=None), LINEAR])
