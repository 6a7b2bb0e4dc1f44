"""Doses by networks: what is refused, how far rows overlap, and what is said of it on the terminal and the page."""

import numpy as np
import pytest

import kokkiri as kk
from kokkiri.causal import Networks
from kokkiri.errors import DataError, Unsupported
from kokkiri.report.effect import html

FAST = Networks(folds=3, repetitions=1, replicates=0, steps=150)


def doses(spread, n=300, seed=0):
    """Doses around x, as far from it as `spread`; both raise y."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    dose = x + rng.normal(0, spread, n)
    return {"x": x, "dose": dose, "y": dose + x + rng.normal(size=n)}


def asked(spread, high=1.0, low=-1.0):
    return kk.do(doses(spread), {"dose": high}, versus=low, outcome="y", adjust="x", method=FAST)


def test_a_dose_beyond_all_rows_is_refused_and_one_at_their_edge_warned_of():
    most, least = max(doses(2.0)["dose"]), min(doses(2.0)["dose"])
    with pytest.raises(DataError, match="no row is near dose = 9") as error:
        asked(2.0, 9.0)
    assert error.value.needs == "a value among the rows'"
    assert error.value.found == f"rows from {least:.2f} to {most:.2f}"
    with pytest.raises(DataError, match="no row is near dose = -20"):
        asked(2.0, 1.0, -20.0)
    edge = asked(2.0, float(most))
    assert any("lies in the outer 2.5 % of the rows: hardly any row stands for it" in w for w in edge.warnings)


def test_overlap_of_doses_is_good_where_they_are_drawn_and_bad_where_they_follow_the_covariates():
    good, bad = asked(3.0), asked(0.5)
    assert good.overlap.grade == "good"
    assert "of the rows, and" in good.overlap.verdict
    assert "rows with dose near" in good.overlap.verdict
    assert bad.overlap.grade == "bad"
    assert bad.overlap.beyond > 0.4
    assert min(a.effective / a.rows for a in (bad.overlap.level, bad.overlap.versus)) < 0.5
    assert good.contrast("-1", "1").overlap.level.name == "dose near -1"
    with pytest.raises(DataError, match="no overlap at all"):
        asked(0.1)


def test_terminal_and_page_say_how_alike_rows_are_and_that_nothing_was_refuted():
    good, bad = asked(3.0), asked(0.5)
    text = str(bad)
    assert max(map(len, text.splitlines())) <= 80
    assert "\nDo not trust this number" in text
    assert "\n! bad overlap" in text
    assert "overlap  good overlap" in str(good)
    assert "refuted  not tried: refuters are not made for doses by networks" in str(good)
    page = html(bad)
    assert "Do not trust this number" in page[: page.index("</h1>")]
    assert "Refuters are not made for doses by networks. It needs a treatment with levels" in page
    assert "where the density of the treatment is right" in page
    with pytest.raises(Unsupported, match="refuters are not made for doses by networks"):
        good.refute()


def test_doses_that_the_covariates_tell_are_refused():
    data = doses(1.0)
    with pytest.raises(DataError, match="no overlap at all"):
        kk.do({**data, "dose": data["x"]}, {"dose": 1}, versus=-1, outcome="y", adjust="x", method=FAST)


def test_a_dose_that_nearly_all_rows_have_is_no_curve():
    data = doses(1.0, 1000)
    data["dose"] = np.where(np.arange(1000) < 980, 0.0, data["dose"])
    high = float(data["dose"].max())
    with pytest.raises(DataError, match="nearly all rows have dose = 0") as error:
        kk.do(data, {"dose": high}, versus=0, outcome="y", adjust="x", method=FAST)
    assert error.value.found == "980 rows of 1,000 with this one"
