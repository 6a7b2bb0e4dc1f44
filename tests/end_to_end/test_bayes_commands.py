"""kokkiri bayes, screen and decide do their job, at eighty columns, and refuse bad input in four lines."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import kokkiri as kk
from kokkiri.cli.main import main
from kokkiri.cli.values import number_of, numbers_by_name
from kokkiri.errors import UsageError

QUICK = ("--steps", "60", "--network", "mlp:4", "--quiet")
COSTS = ("--cost-false-alarm", "1", "--cost-miss", "20")
RATES = ("--prevalence", "0.1", "--sensitivity", "0.99", "--false-positive", "0.01")
COUNTED = ("--true-positives", "95", "--false-negatives", "5", "--false-positives", "10", "--true-negatives", "190")


def kokkiri(*arguments):
    """(exit code, standard output, standard error) of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as left:  # the parser's way
            code = left.code
    return code, out.getvalue(), err.getvalue()


def done(*arguments):
    """The output of a command that succeeds, in eighty columns."""
    code, out, err = kokkiri(*arguments)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    return out


def refused(kind, *arguments):
    before = {p.name for p in Path().iterdir()}
    code, out, err = kokkiri(*arguments)
    assert (code, out) == (2, ""), out + err
    assert {p.name for p in Path().iterdir()} == before
    lines = err.splitlines()
    assert lines[0].startswith(f"kokkiri.{kind}: "), err
    assert [line.split()[0] for line in lines[1:]] == ["needs", "found", "fix"], err
    return err


def is_picture(path):
    return ET.fromstring(Path(path).read_text("utf-8")).tag.endswith("svg")


# -- bayes -----------------------------------------------------------------------------------------------------------


def test_bayes_prints_the_table_and_draws_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ("bayes", "--prior", "ill=0.1,well=0.9", "--likelihood", "ill=0.99,well=0.01", "--out", "bayes.svg")
    out = done(*line)
    assert re.search(r"^ill +0\.1000 +0\.9900 +0\.0990 +0\.9167 +99\.0$", out, re.MULTILINE)
    assert re.search(r"^evidence +0\.1080$", out, re.MULTILINE)
    assert is_picture("bayes.svg")


def test_bayes_takes_observations_in_turn_however_they_are_given():
    prior, seen = ("bayes", "--prior", "ill=1/10,well=90%"), ("ill=0.99,well=0.01", "ill=99%,well=1/100")
    together = done(*prior, "--likelihood", *seen)
    assert together == done(*prior, "--likelihood", seen[0], "--likelihood", seen[1])
    assert "0.999083" in together
    assert re.search(r"^observation 2 +0\.9083 +0\.999083 +0\.000917$", together, re.MULTILINE)


def test_bayes_warns_of_certainty_and_does_the_sum():
    code, out, err = kokkiri("bayes", "--prior", "ill=0,well=1", "--likelihood", "ill=0.99,well=0.01")
    assert code == 0
    assert err == "! the prior of 'ill' is 0: no evidence can change that (Cromwell's rule)\n"
    assert "evidence" in out


PRIOR = ("bayes", "--prior", "ill=0.1,well=0.9")
BAD_BAYES = {
    "not adding up": (("bayes", "--prior", "ill=0.1,well=0.8", "--likelihood", "ill=1,well=1"), "ill=0.1111,well="),
    "above one": (("bayes", "--prior", "ill=1.1,well=-0.1", "--likelihood", "ill=1,well=1"), "from 0 to 1"),
    "no number": (("bayes", "--prior", "ill=x,well=0.9", "--likelihood", "ill=1,well=1"), "cannot read"),
    "no name": (("bayes", "--prior", "0.1,0.9", "--likelihood", "ill=1,well=1"), "NAME=NUMBER"),
    "named twice": (("bayes", "--prior", "ill=0.1,ill=0.9", "--likelihood", "ill=1,well=1"), "twice"),
    "nothing observed": (PRIOR, "nothing was observed"),
    "unknown name": ((*PRIOR, "--likelihood", "ill=1,wel=1"), "did you mean 'well'?"),
    "missing name": ((*PRIOR, "--likelihood", "ill=1"), "add well"),
    "density": ((*PRIOR, "--likelihood", "ill=3,well=1"), "from 0 to 1"),
    "not a picture": ((*PRIOR, "--likelihood", "ill=1,well=1", "--out", "bayes.png"), "bayes.svg"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_BAYES)
def test_bayes_refuses(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, says = BAD_BAYES[what]
    assert says in refused("UsageError", *arguments)


def test_bayes_refuses_evidence_of_probability_zero():
    assert "its evidence is 0" in refused("DataError", *PRIOR, "--likelihood", "ill=0,well=0")


def test_numbers_are_read_as_people_write_them():
    assert [number_of("--p", t) for t in ("0.25", "1/4", "25%", " 25 % ", "2.5e-1")] == pytest.approx([0.25] * 5)
    assert numbers_by_name("--prior", " a = 1/2 , b=0.5,") == {"a": 0.5, "b": 0.5}
    for text in ("", "x", "1/0", "1/2/3", "nan", "inf"):
        with pytest.raises(UsageError):
            number_of("--p", text)


# -- screen ----------------------------------------------------------------------------------------------------------


def test_screen_says_everything_that_follows_from_three_rates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = done("screen", *RATES, "--out", "screen.svg")
    lines = (
        r"^positive +0\.1080 +0\.9167$", r"^negative +0\.8920 +0\.00112$", r"^precision .* 0\.9167$",
        r"^recall .* 0\.9900$", r"^type I error .* 0\.0100$", r"^type II error .* 0\.0100$",
        r"^likelihood ratio \+ .* 99\.0$", r"^likelihood ratio - .* 0\.0101$", r"^Of 1,000 people, 100 are ill",
        r"^positive, positive +0\.0981 +0\.999083$",
    )  # fmt: skip
    for line in lines:
        assert re.search(line, out, re.MULTILINE), line
    assert is_picture("screen.svg")


def test_screen_shows_how_precision_falls_with_false_alarms():
    out = done("screen", "--prevalence", "10%", "--sensitivity", "99%", "--false-positive", "10%")
    assert re.search(r"^precision .* 0\.5238$", out, re.MULTILINE)


def test_screen_takes_a_second_test_with_its_own_rates_and_a_dependence():
    again = done("screen", *RATES, "--dependence", "0.5")
    assert "correlated with the first's by 0.5" in again
    assert re.search(r"^positive, positive .* 0\.9559$", again, re.MULTILINE)
    other = done("screen", *RATES, "--second-sensitivity", "0.9", "--second-false-positive", "0.05")
    expected = 0.099 * 0.9 / (0.099 * 0.9 + 0.009 * 0.05)
    assert f"{expected:.5f}" in other
    pair = " ".join(done("screen", *RATES, "--dependence", "-0.005", "0.2").split())
    assert "-0.005 among the ill, 0.2 among the well" in pair


def test_screen_from_counts_gives_everything_an_interval(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = done("screen", *COUNTED, "--prevalence", "0.1", "--level", "0.9", "--out", "counted.svg")
    test = kk.exact.ScreeningCounts(95, 5, 10, 190, prevalence=0.1, level=0.9)
    for measure in ("precision", "recall", "type I error", "type II error", r"likelihood ratio \+"):
        assert re.search(rf"^{measure} .* \[[\d.]+, [\d.]+\]$", out, re.MULTILINE), measure
    assert f"[{test.recall.low:.4f}, {test.recall.high:.4f}]" in out
    assert out.count("[") == 14  # two results, eight measures, four pairs of results
    assert is_picture("counted.svg")
    assert "as among these people" in done("screen", *COUNTED)
    assert "from 12 ill of 1,000" in done("screen", *COUNTED, "--prevalence", "12/1000")


def test_screen_says_what_the_test_is_worth():
    out = done("screen", *RATES, *COSTS, "--price", "0.1")
    assert "Value of the experiment 0.871; its price 0.100: worth it." in out


BAD_SCREEN = {
    "nothing": ((), "--prevalence, --sensitivity, --false-positive"),
    "one rate": (("--prevalence", "0.1"), "--sensitivity, --false-positive"),
    "prevalence 0": (("--prevalence", "0", *RATES[2:]), "above 0 and below 1"),
    "prevalence 1": (("--prevalence", "1", *RATES[2:]), "above 0 and below 1"),
    "percent": (("--prevalence", "10", *RATES[2:]), "0.1, if that was meant in percent"),
    "a count for a rate": ((*RATES[:4], "--false-positive", "10"), "--false-positives 10"),
    "sensitivity above 1": ((*RATES[:2], "--sensitivity", "1.2", *RATES[4:]), "the sensitivity cannot be 1.2"),
    "no number": ((*RATES[:2], "--sensitivity", "high", *RATES[4:]), "cannot read --sensitivity high"),
    "three counts": (COUNTED[:6], "--true-negatives is missing"),
    "counts and rates": ((*COUNTED, "--sensitivity", "0.9"), "rates or counts"),
    "count below 0": ((*COUNTED[:-1], "-5"), "-5 true negatives"),
    "nobody": (tuple("0" if t.isdigit() else t for t in COUNTED), "nobody was counted"),
    "more ill than people": ((*COUNTED, "--prevalence", "12/10"), "12 of 10"),
    "level": ((*COUNTED, "--level", "95"), "0.95, if that was meant in percent"),
    "half a second test": ((*RATES, "--second-sensitivity", "0.9"), "--second-false-positive"),
    "dependence": ((*RATES, "--dependence", "2"), "between -0.0101 and 1"),
    "three dependences": ((*RATES, "--dependence", "0", "0", "0"), "one, or one for the ill"),
    "one cost": ((*RATES, "--cost-miss", "1"), "--cost-false-alarm"),
    "cost below 0": ((*RATES, "--cost-miss", "-1", "--cost-false-alarm", "1"), "0 or more"),
    "price below 0": ((*RATES, *COSTS, "--price", "-1"), "0 or more"),
    "not a picture": ((*RATES, "--out", "screen"), "screen.svg"),
}


@pytest.mark.parametrize("what", BAD_SCREEN)
def test_screen_refuses(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, says = BAD_SCREEN[what]
    assert says in refused("UsageError", "screen", *arguments)


# -- decide ----------------------------------------------------------------------------------------------------------


def patients(n, share, seed):
    rng = np.random.default_rng(seed)
    ill = rng.random(n) < share
    fever, age = rng.normal(0, 1, n) + 1.5 * ill, rng.integers(20, 80, n)
    kind = np.where(ill, "flu", np.where(rng.random(n) < 0.5, "cold", "none"))
    weight = np.round(50 + 0.4 * age + rng.normal(0, 5, n), 1)
    columns = {"fever": fever.round(3), "age": age, "weight": weight, "kind": kind, "ill": np.where(ill, "yes", "no")}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def write(path, rows, leave=()):
    names = [n for n in rows[0] if n not in leave]
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """Models of a class, of three and of a number, and rows with and without labels."""
    here = tmp_path_factory.mktemp("clinic")
    train, test = patients(400, 0.5, 0), patients(300, 0.5, 1)
    write(here / "train.csv", train)
    write(here / "test.csv", test)
    write(here / "new.csv", patients(200, 0.02, 2), leave=("ill",))
    write(here / "rare.csv", patients(600, 0.02, 3))
    write(here / "well.csv", [row for row in test if row["ill"] == "no"])
    for name, target, drop, posterior in (
        ("ill", "ill", ("kind",), "laplace"), ("kind", "kind", ("ill",), "point"),
        ("weight", "weight", ("ill",), "point"),
    ):  # fmt: skip
        line = ("fit", here / "train.csv", "--target", target, "--drop", *drop, "--out", here / name, *QUICK)
        assert kokkiri(*line, "--posterior", posterior)[0] == 0
    return here


@pytest.fixture
def here(clinic, monkeypatch):
    monkeypatch.chdir(clinic)
    return clinic


def test_decide_corrects_for_prevalence_and_picks_the_threshold_of_the_costs(here, tmp_path):
    out = done(
        "decide", "ill", "test.csv", "--prevalence", "0.02", *COSTS, "--out", tmp_path / "d.csv", "--picture",
        tmp_path / "cost.svg",
    )  # fmt: skip
    assert "from P(yes) = 0.0476 on" in out
    assert re.search(r"2\.0 %, [45]\d\.\d % among the training rows: odds times 0\.0\d+", out)
    assert re.search(r"^chosen +[\d.]+ \[[\d., ]+\] +[\d.]+ \[[\d., ]+\] +[\d.]+ \[[\d., ]+\]$", out, re.MULTILINE)
    assert re.search(r"^always act +100 +0 +0\.980$", out, re.MULTILINE)
    assert re.search(r"^never act +0 +100 +0\.400$", out, re.MULTILINE)
    assert "Type I error: acting on 'no'; type II: leaving 'yes'" in " ".join(out.split())
    assert is_picture(tmp_path / "cost.svg")
    with (tmp_path / "d.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 300
    page = json.loads((here / "ill" / "model.json").read_text("utf-8"))
    counts = page["record"]["data"]["classes"]
    share = counts["yes"] / sum(counts.values())
    for row in rows:
        own, p = float(row["p(yes) of the model"]), float(row["p(yes)"])
        odds = own / (1 - own) * 0.02 / 0.98 * (1 - share) / share
        assert math.isclose(p, odds / (1 + odds), rel_tol=1e-3)
        assert row["decision"] == ("act" if p >= 1 / 21 else "leave")
        assert math.isclose(float(row["expected cost"]), min(1 - p, 20 * p), rel_tol=1e-4, abs_tol=1e-5)


def test_decide_is_the_python_of_the_same_name(here):
    post, rows = kk.load("ill"), kk.read("test.csv", "ill", drop=("kind",))
    share = kk.decisions.training_shares(post)["yes"]
    costs = kk.decisions.Costs(1, 20)
    data = kk.verbs.rows_for(post, "test.csv")
    made = kk.decisions.decide(
        kk.predict(post, data), data.y, costs=costs, prevalence=0.02, trained_at=share, levels=("no", "yes")
    )
    assert str(made) in done("decide", "ill", "test.csv", "--prevalence", "0.02", *COSTS)
    assert len(rows) == len(made)


def test_decide_on_rows_without_labels_says_that_the_errors_are_the_models_own(here):
    out = " ".join(done("decide", "ill", "new.csv", "--prevalence", "0.02", *COSTS).split())
    assert "No row has a label" in out
    assert "[" not in out


def test_decide_judges_in_a_world_where_the_class_is_rare(here):
    out = done("decide", "ill", "rare.csv", "--prevalence", "2%", *COSTS)
    cost = lambda name: float(re.search(rf"^{re.escape(name)} .* ([\d.]+) \[[^\]]*\]$", out, re.MULTILINE)[1])
    assert cost("chosen") < 0.4
    assert cost("chosen") < cost("model's own 0.5") + 0.02


def test_decide_can_reject(here):
    out = done("decide", "ill", "test.csv", *COSTS, "--cost-reject", "0.2")
    assert re.search(r"leave \d+, reject [1-9]\d*\.", out)
    assert "reject between" in out


def test_decide_acts_on_one_class_of_three(here):
    out = done("decide", "kind", "test.csv", *COSTS, "--positive", "flu", "--prevalence", "0.1")
    assert "type II: leaving 'flu'" in out
    assert "acting on 'not flu'" in " ".join(out.split())


def test_decide_warns_where_rows_were_learnt(here):
    _, _, err = kokkiri("decide", "ill", "train.csv", *COSTS)
    assert "fitted on rows of this very file" in err


def test_training_shares_follow_updates(here):
    post = kk.load("ill")
    before = post.record.data["classes"]
    more = kk.update(post, kk.verbs.rows_for(post, "well.csv"), progress=False)
    n = sum(before.values())
    shares = kk.decisions.training_shares(more)
    added = int(more.record.updates[0].rows)
    assert more.record.updates[0].classes == {"no": added, "yes": 0}
    assert math.isclose(shares["yes"], before["yes"] / (n + added), rel_tol=1e-12)
    assert kk.decisions.training_shares(replace(post, record=post.record))["yes"] == before["yes"] / n


def test_a_model_that_does_not_remember_its_classes_is_told_them(here):
    post = kk.load("ill")
    data = {k: v for k, v in post.record.data.items() if k != "classes"}
    kk.save(replace(post, record=replace(post.record, data=data)), "older")
    err = refused("UsageError", "decide", "older", "test.csv", *COSTS)
    assert "--training-prevalence" in err
    out = done("decide", "older", "test.csv", *COSTS, "--training-prevalence", "0.5", "--prevalence", "0.02")
    assert "50.0 % among the training rows" in out


def test_show_names_the_classes_of_the_training_rows(here):
    code, out, _ = kokkiri("show", "ill")
    assert code == 0
    assert re.search(r"data classes +no \d+, yes \d+", out)


def test_the_share_of_every_class_of_three_is_remembered(here):
    shares = kk.decisions.training_shares(kk.load("kind"))
    assert set(shares) == {"cold", "flu", "none"}
    assert math.isclose(sum(shares.values()), 1, rel_tol=1e-12)


BAD_DECIDE = {
    "prevalence 0": ("UsageError", ("ill", "test.csv", *COSTS, "--prevalence", "0"), "above 0 and below 1"),
    "prevalence 1": ("UsageError", ("ill", "test.csv", *COSTS, "--prevalence", "1"), "above 0 and below 1"),
    "percent": ("UsageError", ("ill", "test.csv", *COSTS, "--prevalence", "2"), "0.02, if that was meant in percent"),
    "no number": ("UsageError", ("ill", "test.csv", *COSTS, "--prevalence", "few"), "cannot read --prevalence few"),
    "cost below 0": ("UsageError", ("ill", "test.csv", "--cost-false-alarm", "-1", *COSTS[2:]), "0 or more"),
    "no costs": ("UsageError", ("ill", "test.csv", "--cost-false-alarm", "0", "--cost-miss", "0"), "costs anything"),
    "regression": ("Unsupported", ("weight", "test.csv", *COSTS), "a model that predicts classes"),
    "one class": ("DataError", ("ill", "well.csv", *COSTS), "all 1"),
    "which class": ("UsageError", ("kind", "test.csv", *COSTS), "which one is acted upon?"),
    "unknown class": ("UsageError", ("ill", "test.csv", *COSTS, "--positive", "ye"), "did you mean 'yes'?"),
    "no model": ("ModelError", ("il", "test.csv", *COSTS), "did you mean 'ill'?"),
    "no file": ("DataError", ("ill", "tset.csv", *COSTS), "test.csv"),
    "level": ("UsageError", ("ill", "test.csv", *COSTS, "--level", "95"), "0.95, if that was meant in percent"),
    "not a picture": ("UsageError", ("ill", "test.csv", *COSTS, "--picture", "cost.pdf"), "cost.svg"),
}


@pytest.mark.parametrize("what", BAD_DECIDE)
def test_decide_refuses(what, here):
    kind, arguments, says = BAD_DECIDE[what]
    assert says in refused(kind, "decide", *arguments)


def test_decide_touches_no_global_random_state(here):
    before = torch.get_rng_state()
    done("decide", "ill", "test.csv", *COSTS)
    assert torch.equal(before, torch.get_rng_state())
