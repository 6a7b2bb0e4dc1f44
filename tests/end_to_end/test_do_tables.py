"""`kokkiri do` on a table as people bring it: words, dates, gaps, names of rows; and what is wrong."""

import csv
import re

import numpy as np
import pytest
from effects_support import refused, said

import kokkiri as kk

N = 400


def trial():
    """A drug, given to the severe and the old, with an effect of 5 points; a dose; a symptom after the drug."""
    rng = np.random.default_rng(7)
    age, severe = rng.integers(20, 80, N), rng.random(N) < 0.4
    drug = rng.random(N) < 1 / (1 + np.exp(0.5 - 0.03 * (age - 50) - 1.2 * severe))
    score = 60 + 5 * drug - 6 * severe - 0.2 * (age - 50) + rng.normal(0, 4, N)
    recovered = np.where(score + rng.normal(0, 4, N) > 57, "yes", "no")
    half = np.arange(N) % 2 == 0
    words = np.where(drug, "True", "False")
    return {
        "patient id": [f"P{i:04d}" for i in range(N)],
        "age": age.tolist(),
        "severity": np.where(severe, "severe", "mild").tolist(),
        "weight kg": [w if i % 10 else "" for i, w in enumerate(rng.normal(75, 9, N).round(1).tolist())],
        "first visit": [f"2021-{1 + i % 12:02d}-{1 + i % 28:02d}" for i in range(N)],
        "drug": words.tolist(),
        "dose mg": (rng.gamma(4, 0.5, N) + severe).round(3).tolist(),
        "symptom": (score + rng.normal(0, 1, N)).round(2).tolist(),
        "score": score.round(2).tolist(),
        "recovered": recovered.tolist(),
        "nothing": [""] * N,
        "length": [f"{k} cm" for k in rng.integers(10, 60, N)],
        "country": ["Norway"] * N,
        "marker": (3.0 * drug + rng.normal(0, 0.1, N)).round(3).tolist(),
        "now": np.where(half, words, "").tolist(),
        "then": np.where(half, "", recovered).tolist(),
    }


def written(path, data, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        paper = csv.writer(file, delimiter=delimiter)
        paper.writerow(data)
        paper.writerows(zip(*data.values(), strict=True))
    return str(path)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return written(tmp_path_factory.mktemp("do") / "trial.csv", trial())


def flat(text):
    return re.sub(r"\s+", " ", text)


ASK = ["--treatment", "drug", "--outcome", "score"]
LINE = [*ASK, "--adjust", "age,severity", "--method", "linear"]


# -- answers ---------------------------------------------------------------------------------------------------------


def test_the_effect_is_found_with_the_name_of_the_treatment_above_its_levels(table, capsys):
    text = said(capsys, table, *LINE)
    low, high = map(float, re.findall(r"\[([\d.]+), ([\d.]+)\]", text)[1])
    assert low < 5 < high
    assert re.search(r"^drug +seen: no effect +done: the effect\nposterior\n +True ", text, re.MULTILINE)


def test_a_european_table_gives_the_same_answer(table, tmp_path, capsys):
    data = {k: [str(v).replace(".", ",") if isinstance(v, float) else v for v in c] for k, c in trial().items()}
    other = written(tmp_path / "trial.csv", data, ";")
    assert said(capsys, other, *LINE) == said(capsys, table, *LINE)


def test_names_with_commas_stand_between_quotes(table, tmp_path, capsys):
    data = {{"severity": "severity, grade"}.get(name, name): column for name, column in trial().items()}
    other = written(tmp_path / "trial.csv", data)
    text = said(capsys, other, *ASK, "--adjust", '"severity, grade",age', "--method", "linear")
    number = lambda t: re.findall(r"True - False +(\S+) +(\S+)", t)
    assert number(text) == number(said(capsys, table, *LINE))


def test_whose_effect_it_is_stands_with_its_column_and_with_the_weights(table, capsys):
    text = flat(said(capsys, table, *LINE, "--estimand", "treated"))
    assert "on the mean of score among those who had drug = True, from" in text
    assert "whose among those who had drug = True: P(age, severity | drug = True) in place of P(age, severity)" in text
    assert "whose" not in said(capsys, table, *LINE)


def test_gaps_and_constants_in_what_is_adjusted_for_are_noted(table, capsys):
    adjust = ["--adjust", "age,severity,weight kg,country", "--method", "linear"]
    text = flat(said(capsys, table, *ASK, *adjust))
    assert "noted 40 rows have no value of weight kg (10.0 %): that it is missing is adjusted for in its place" in text
    assert "noted country has one value: adjusting for it changes nothing" in text


def test_a_category_that_is_a_name_of_each_row_is_warned_of(table, capsys):
    adjust = ["--adjust", "age,patient id", "--kind", "patient id=category", "--method", "linear"]
    assert "! 100.0 % of the rows share their patient id with no other" in flat(said(capsys, table, *ASK, *adjust))


def test_it_is_said_that_overlap_of_a_number_is_not_measured(table, capsys):
    ask = ["--treatment", "dose mg", "--outcome", "score", "--adjust", "severity", "--method", "linear"]
    text = flat(said(capsys, table, *ask, "--set", "3", "--versus", "1"))
    assert "overlap not measured, since dose mg is a number" in text


def test_groups_may_be_of_words_booleans_and_few_numbers(table, tmp_path, capsys):
    """In a linear model: the same groups, whatever they are called."""
    data = trial()
    severe = [s == "severe" for s in data["severity"]]
    data |= {"yes or no": ["yes" if s else "no" for s in severe], "few": [int(s) for s in severe]}
    path, found = written(tmp_path / "groups.csv", data), []
    for name in ("severity", "yes or no", "few"):
        ask = [*ASK, "--adjust", f"age,{name}", "--method", "linear", "--estimand", f"group:{name}"]
        text = said(capsys, path, *ask)
        found.append(re.findall(rf"^{name} = \w+ +(\S+) % +(\S+) ", text, re.MULTILINE))
    assert len(found[0]) == 2
    assert found == [found[0]] * 3


def test_groups_by_what_was_not_declared_are_warned_of(table, capsys):
    by = lambda name: flat(said(capsys, table, *LINE, "--estimand", f"group:{name}"))
    assert "! an effect by recovered is adjusted for it, too: right only if drug does not act on" in by("recovered")
    assert "is adjusted for it, too" not in by("severity")


def test_a_line_through_what_bends_is_warned_of(table, tmp_path, capsys):
    ask = ["--treatment", "dose mg", "--adjust", "severity", "--method", "linear", "--set", "3", "--versus", "1"]
    data = trial()
    data["bent"] = [s + 5 * np.tanh(2 * d - 3) for s, d in zip(data["score"], data["dose mg"], strict=True)]
    bent = flat(said(capsys, written(tmp_path / "bent.csv", data), *ask, "--outcome", "bent"))
    assert re.search(r"! bent is no straight line in dose mg: its square is \d+\.\d standard errors from nothing", bent)
    assert "no straight line" not in said(capsys, table, *ask, "--outcome", "score")


def test_what_is_loud_is_not_said_quietly_as_well(table, capsys):
    text = said(capsys, table, *ASK, "--adjust", "symptom,age", "--method", "linear")
    assert text.count("unbalanced:") + text.count(" balanced:") == 1


def test_a_handful_of_rows_is_an_answer_that_nobody_is_to_trust(tmp_path, capsys):
    """One row without the drug: left out for prediction, no row of its level is left to learn from."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=6).round(3).tolist()
    data = {"drug": ["yes"] * 5 + ["no"], "age": [61, 69, 41, 51, 44, 37], "score": score}
    text = said(capsys, written(tmp_path / "few.csv", data), *ASK, "--adjust", "age", "--method", "linear")
    assert "! bad overlap" in text
    assert "nan" not in text


def test_a_number_that_nobody_should_trust_has_a_headline_that_says_so(tmp_path, table, capsys):
    """The warnings themselves stand last, nearest to the prompt."""
    data = {"drug": ["yes"] * 5 + ["no"], "age": [61, 69, 41, 51, 44, 37], "score": [1.0, 2.0, 4.0, 2.5, 3.0, 1.0]}
    bad = said(capsys, written(tmp_path / "few.csv", data), *ASK, "--adjust", "age", "--method", "linear")
    assert "\nDo not trust this number: see the warnings at the end.\n\ndrug " in bad
    assert re.search(r"\n! bad overlap(.+\n)+$", bad)
    rng = np.random.default_rng(0)
    lot, hidden = rng.normal(size=(2, 200))
    dose = 0.05 * lot + hidden
    weak = {"lot": lot, "dose": dose, "score": dose + hidden + rng.normal(size=200)}
    ask = ["--treatment", "dose", "--outcome", "score", "--set", "1", "--versus", "0", "--instrument", "lot"]
    assert "Do not trust this number" in said(capsys, written(tmp_path / "weak.csv", weak), *ask)
    assert "Do not trust" not in said(capsys, table, *LINE)


def test_a_level_of_one_row_is_no_obstacle_to_others(tmp_path, capsys):
    data = trial()
    diet = ["low", "high"] * (N // 2)
    data["diet"] = ["odd", *diet[1:]]
    ask = ["--treatment", "diet", "--outcome", "score", "--adjust", "age", "--set", "high", "--versus", "low"]
    assert "good overlap" in said(capsys, written(tmp_path / "t.csv", data), *ask, "--method", "linear")


def simulated(kind, seed, n=300):
    """Rows, the setting, what it is compared with, and the effect that is true; `a` and `b` act on both."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.random(n) < 0.4
    if kind == "dose":
        t = 0.7 * a + 0.5 * b + rng.normal(size=n)
        value, pair, truth = 1.5 * t, (2.0, 0.0), 3.0
    else:
        levels = np.array(["low", "high"] if kind == "binary" else ["low", "middle", "high"])
        pull = np.stack([0.0 * a, 0.8 * a + 0.5 * b, 1.2 * a + 0.8 * b], 1)[:, : len(levels)]
        k = (rng.gumbel(size=(n, len(levels))) + pull).argmax(1)
        t, pair, worth = levels[k], ("high", "low"), [0.0, 1.0, 2.5]
        value, truth = np.array(worth)[k], worth[len(levels) - 1]
    y = value + a + b + rng.normal(size=n)
    return {"a": a, "b": np.where(b, "x", "z"), "t": t, "y": y}, pair, truth


@pytest.mark.parametrize("kind", ["binary", "three levels", "dose"])
def test_the_true_effect_lies_within_its_interval_and_not_within_that_of_what_is_seen(kind):
    """20 simulated tables: 95 % intervals miss five times or more with a probability of 0.3 %."""
    missed, seen = 0, 0
    for seed in range(20):
        data, (one, other), truth = simulated(kind, seed)
        effect = kk.do(data, {"t": one}, versus={"t": other}, outcome="y", adjust=["a", "b"], method="linear")
        held = lambda q, truth=truth: q.interval()[0] < truth < q.interval()[1]
        missed, seen = missed + (not held(effect)), seen + (not held(effect.association))
    assert missed < 5
    assert seen > missed + 5


# -- refusals --------------------------------------------------------------------------------------------------------

ADJUST = ["--adjust", "age"]
REFUSED = {
    "a graph in a file that is not there": ([*ASK, "--graph", "nowhere.dot"], "there is no file nowhere.dot"),
    "a graph in a folder that is not there": ([*ASK, "--graph", "no/where.dot"], "found   no folder no\n"),
    "neither graph nor adjustment": (ASK, '--graph "age -> {drug, score}; drug -> score" or --adjust age;'),
    "adjusting for what comes after, off the causal paths": (
        [*ASK, "--graph", "age -> {drug, score}; drug -> {score, symptom}", "--adjust", "age,symptom"],
        "found   drug → symptom"),
    "groups of what comes after": (
        [*ASK, "--graph", "age -> {drug, score}; drug -> symptom -> score", "--estimand", "group:symptom"],
        "'symptom' comes after drug, and makes no groups of its effect"),
    "interactions with what comes after": (
        [*ASK, "--graph", "age -> {drug, score}; drug -> symptom -> score", "--interact", "symptom", "--method",
         "linear"], "'symptom' comes after drug, and is not adjusted for"),
    "interactions with what the graph does not know": (
        [*ASK, "--graph", "age -> {drug, score}; drug -> score", "--interact", "severity", "--method", "linear"],
        "'severity' is no variable of the graph"),
    "groups of a dose by networks": (
        ["--treatment", "dose mg", "--outcome", "score", *ADJUST, "--set", "3", "--versus", "1", "--estimand",
         "group:severity"], "doses have no effects by groups with networks"),
    "adjusting for a column without values": ([*ASK, "--adjust", "nothing"], "'nothing' has no values to adjust for"),
    "adjusting for names of rows": ([*ASK, "--adjust", "patient id"], "'patient id' cannot be adjusted for"),
    "a line over no overlap": ([*ASK, "--adjust", "marker", "--method", "linear"], "no overlap at all"),
    "treatment and outcome never together": (["--treatment", "now", "--outcome", "then", *ADJUST],
                                             "no row has both 'now' and 'then'"),
    "a treatment of names": (["--treatment", "patient id", "--outcome", "score", *ADJUST], "neither a number nor"),
    "a treatment of dates": (["--treatment", "first visit", "--outcome", "score", *ADJUST], "days since a start"),
    "an outcome of dates": (["--treatment", "drug", "--outcome", "first visit", *ADJUST], "has no mean and no classes"),
    "an outcome of numbers with a unit": (["--treatment", "drug", "--outcome", "length", *ADJUST],
                                          "or numbers in place of these words"),
    "one value of a number": (["--treatment", "drug", "--outcome", "age=50", "--adjust", "severity"],
                              "'age' is a number, and no probability"),
    "a dose without settings": (["--treatment", "dose mg", "--outcome", "score", *ADJUST], "--set 'dose mg="),
    "groups of no column": ([*ASK, *ADJUST, "--estimand", "group:"], "there is no estimand"),
    "groups of an unknown column": ([*ASK, *ADJUST, "--estimand", "group:agee"], "did you mean 'age'"),
    "groups of very many": ([*ASK, *ADJUST, "--estimand", "group:age"], "'age' makes no groups"),
    "a curve along words": ([*ASK, *ADJUST, "--estimand", "along:severity"], "there is no curve along 'severity'"),
    "a curve along dates": ([*ASK, *ADJUST, "--estimand", "along:first visit"], "there is no curve along dates"),
    "interactions with networks": ([*ASK, *ADJUST, "--interact", "age"], "interact is for linear models"),
    "counting a number": ([*ASK, *ADJUST, "--method", "discrete"], "cannot be counted"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_four_lines(name, table, capsys):
    arguments, wanted = REFUSED[name]
    assert wanted in refused(capsys, table, *arguments)


@pytest.mark.parametrize(("text", "wanted"), [
    ("", "is empty"),
    ("drug,score,age\n", "column names and no rows"),
    ("drug,score,age,age\nyes,1,2,3\nno,2,3,4\n", "has columns of one name"),
    ("drug,score,age\nyes,,1\nno,,2\n", "'score' has no values"),
    ("drug,score,age\nyes,1,1\nno,,2\nyes,2,3\n", "the treatment 'drug' does not vary"),
    ("drug,score,age\nyes,1,1\nno,1,2\nyes,1,3\n", "the outcome 'score' does not vary"),
    ("drug,score,age\nyes,1,1\nno,3,2\nyes,2,3\nno,5,4\n", "too few rows"),
    ("drug,score,age\nyes,1,1\nno,3,2\nyes,2,3\nno,5,4\nyes,2,4\n", "needs   6 rows, 3 more than the 3 coefficients"),
])  # fmt: skip
def test_tables_that_hold_no_answer_are_refused_in_four_lines(text, wanted, tmp_path, capsys):
    path = tmp_path / "trial.csv"
    path.write_text(text, "utf-8")
    assert wanted in refused(capsys, str(path), *ASK, *ADJUST, *(["--method", "linear"] if "needs" in wanted else []))


def test_a_graph_file_that_is_not_there_is_told_with_the_nearest_name(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "causes.dot").write_text("digraph { age -> drug }", "utf-8")
    text = refused(capsys, table, *ASK, "--graph", "cause.dot")
    assert "found   1 other file in this folder" in text
    assert "fix     did you mean 'causes.dot'?" in text


def test_rows_that_were_left_out_are_the_reason_why_a_treatment_does_not_vary(tmp_path, capsys):
    path = tmp_path / "trial.csv"
    path.write_text("drug,score,age\nyes,1,1\nno,,2\nyes,2,3\n", "utf-8")
    assert "found   one value in the 2 rows that are left" in refused(capsys, str(path), *ASK, *ADJUST)
