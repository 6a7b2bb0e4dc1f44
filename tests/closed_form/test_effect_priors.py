"""What the prior of a table of counts does to numbers: when a table is chosen by itself, and what is said of it."""

import re
from dataclasses import replace

import numpy as np
import pytest

import kokkiri as kk
from kokkiri.causal.asked import Asked
from kokkiri.causal.discrete import enough
from kokkiri.causal.variables import Columns


def families(n=400, seed=1):
    """A number of children from 0 to 6 or more, half a child more with t; z acts on both."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    t = (rng.random(n) < 0.3 + 0.4 * z).astype(int)
    return {"z": z, "t": t, "children": np.minimum(rng.poisson(1.0 + 0.5 * t + 0.5 * z), 9)}


def counted(n, prior=1.0):
    asked = {"versus": {"t": 0}, "outcome": "children", "adjust": "z", "method": "discrete", "prior": prior}
    return kk.do(families(n), {"t": 1}, **asked)


def difference(effect, means):
    return float(means[effect.level] - means[effect.versus])


def test_a_table_of_numbers_is_chosen_by_itself_with_a_hundred_rows_a_cell():
    asked = Asked(("t",), (1,), (0,), "children", "", adjust=("z",))
    rows = Columns(families()).rows(["z", "t", "children"])
    assert enough(asked, rows) == 4
    assert enough(replace(asked, event="0"), rows) == 40  # a probability is one of a category
    assert enough(replace(asked, prior=4.0), rows) == 1
    assert enough(replace(asked, outcome="z", adjust=()), rows) == 40
    about = {"versus": {"t": 0}, "outcome": "children", "adjust": ()}
    assert kk.do(families(), {"t": 1}, **about).method == "means"
    assert kk.do(families(4000), {"t": 1}, **about).method == "discrete"


def test_a_prior_that_moves_the_effect_is_warned_of():
    small = counted(400)
    shift = small.mean - difference(small, small.plugin)
    assert abs(shift) > 0.1 * small.sd
    said = re.match(
        r"the prior moves the effect by (-?[\d.]+), ([\d.]+) posterior standard deviations", small.warnings[0]
    )
    assert float(said[1]) == pytest.approx(shift, rel=0.01)
    assert float(said[2]) == pytest.approx(abs(shift) / small.sd, abs=0.06)
    assert counted(4000, prior=0.05).warnings == ()
    assert kk.do("kidney-stones", {"treatment": "A"}, versus={"treatment": "B"}, adjust="size").warnings == ()


def test_a_prior_that_moves_the_means_alone_is_warned_of():
    """Both arms have the same outcomes, so that their difference does not move, and each mean goes to the middle."""
    data = {"t": [0, 1] * 300, "y": np.repeat([0, 0, 0, 1, 1, 9], 100)}
    effect = kk.do(data, {"t": 1}, versus={"t": 0}, outcome="y", adjust=(), method="discrete", prior=20.0)
    assert effect.mean == pytest.approx(0.0, abs=1e-12)
    assert any(w.startswith("the prior moves the mean of y with") for w in effect.warnings)
