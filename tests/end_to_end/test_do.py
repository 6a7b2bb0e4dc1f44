"""`kk.do` and `kokkiri do` as a user meets them: what is printed, what is refused and how."""

import csv
import re

import numpy as np
import pytest
from effects_support import STONES, categories, hidden, refused, said, straight

import kokkiri as kk
from kokkiri.errors import DataError, GraphError, NotIdentified, Unsupported, UsageError


def written(path, data):
    with path.open("w", newline="") as file:
        paper = csv.writer(file)
        paper.writerow(data)
        paper.writerows(zip(*data.values(), strict=True))
    return str(path)


@pytest.fixture
def people(tmp_path):
    """A file: sex and stage act on a dose and on recovery; the dose brings a fever."""
    data = categories(300, doses=2)
    rng = np.random.default_rng(1)
    data["fever"] = ["yes" if rng.random() < 0.3 + 0.4 * (d == "d1") else "no" for d in data["dose"]]
    data["same"] = ["x"] * 300
    data["stray"] = [""] * 5 + data["recovered"][5:]
    return written(tmp_path / "people.csv", data)


# -- answers ---------------------------------------------------------------------------------------------------------


def test_kidney_stones_in_one_command(capsys):
    """0.780 against 0.826 as seen, 0.8325 against 0.7789 under do; the difference and its posterior."""
    text = said(capsys, "kidney-stones")
    row = lambda name, k=0: re.findall(rf"^ *{re.escape(name)}  +(.+?)  +(.+)$", text, re.MULTILINE)[k]
    assert [row("A"), row("B")] == [("0.7800", "0.8325"), ("0.8257", "0.7789")]
    assert row("A - B", 1) == ("-0.0452", "0.0515")
    low, high = map(float, re.findall(r"-?\d\.\d+", row("95 % interval")[1]))
    assert (round(low, 3), round(high, 3)) == (-0.014, 0.118)
    assert abs(float(row("P(difference > 0)")[1]) - 0.938) < 5e-4
    assert "P(recovered | do(treatment)) = Σ_size P(recovered | size, treatment) P(size)" in text
    assert "equal to the truth in 3 random discrete models" in text
    assert "putting the parts together" in text  # the derivation
    assert "seen: no effect" in text


def test_what_goes_along_is_never_printed_without_saying_that_it_is_no_effect(capsys):
    text = said(capsys, "kidney-stones")
    association = f"{kk.do('kidney-stones').association.mean:.4f}"
    for line in text.splitlines():
        if association in line:
            assert line.split().index(association) == 3  # the first column of two, headed "seen: no effect"


def test_height_has_nothing_to_do_with_a_score_once_age_is_known(capsys, tmp_path):
    """Older children are taller and score higher: the association is large, the true effect 0."""
    rng = np.random.default_rng(0)
    age = rng.uniform(6, 16, 400)
    height = 80 + 6 * age + rng.normal(0, 7, 400)
    score = 20 + 4 * age + rng.normal(0, 10, 400)
    data = {"age": age, "height": height, "score": score}
    effect = kk.do(data, {"height": 150}, versus={"height": 140}, outcome="score", method="linear",
                   graph="age -> {height, score}; height -> score")  # fmt: skip
    assert effect.association.mean > 4
    assert effect.association.probability() > 0.9999
    low, high = effect.interval()
    assert low < 0 < high
    assert abs(effect.mean) < 0.2 * effect.association.mean
    text = said(capsys, written(tmp_path / "children.csv", data), "--treatment", "height", "--outcome", "score",
                "--adjust", "age", "--set", "150", "--versus", "140", "--method", "linear")  # fmt: skip
    assert "150 - 140" in text


def test_a_file_with_a_graph_or_with_an_adjustment(people, capsys, tmp_path):
    graph = "{sex, stage} -> {dose, recovered}; dose -> recovered"
    by_graph = said(capsys, people, "--treatment", "dose", "--outcome", "recovered", "--graph", graph)
    adjusted = said(capsys, people, "--treatment", "dose", "--outcome", "recovered=yes", "--adjust", "sex,stage")
    assert by_graph.split("\n\n")[1] == adjusted.split("\n\n")[1]
    (tmp_path / "causes.dot").write_text(f"digraph {{ {graph} }}".replace(";", "\n"))
    again = said(
        capsys, people, "--treatment", "dose", "--outcome", "recovered", "--graph", str(tmp_path / "causes.dot")
    )
    assert again == by_graph


def test_the_other_forms_of_the_question(people, capsys):
    about = [people, "--treatment", "dose", "--outcome", "recovered", "--adjust", "sex,stage"]
    assert "d1 - d0" in said(capsys, *about, "--set", "dose=d1", "--versus", "dose=d0")
    assert "d1 - d0" in said(capsys, *about, "--set", "d1")
    assert "among those who had d1" in said(capsys, *about, "--set", "d1", "--estimand", "treated")
    assert "among those who had d0" in said(capsys, *about, "--set", "d1", "--estimand", "untreated")
    assert "stage = late" in said(capsys, *about, "--set", "d1", "--estimand", "group:stage")
    assert "90 % interval" in said(capsys, *about, "--level", "0.9")
    both = said(capsys, people, "--outcome", "recovered", "--adjust", "stage",
                "--set", "dose=d1,sex=m", "--versus", "dose=d0,sex=f")  # fmt: skip
    assert "dose=d1, sex=m" in both


def test_instruments_are_found_by_the_graph_or_declared(capsys, tmp_path):
    path = written(tmp_path / "iv.csv", hidden())
    declared = said(capsys, path, "--treatment", "t", "--outcome", "y", "--instrument", "z", "--adjust", "w",
                    "--set", "1", "--versus", "0")  # fmt: skip
    found = said(capsys, path, "--treatment", "t", "--outcome", "y", "--set", "1", "--versus", "0", "--method",
                 "instrument", "--graph", "w -> {z, t, y}; z -> t -> y; t <-> y")  # fmt: skip
    assert declared.split("\n\n")[1] == found.split("\n\n")[1]
    assert "Anderson and Rubin's 95 % interval" in found
    assert "that it reaches y through t alone" in re.sub(r"\s+", " ", declared)
    weak = written(tmp_path / "weak.csv", hidden(strength=0.05))
    text = said(capsys, weak, "--treatment", "t", "--outcome", "y", "--instrument", "z", "--adjust", "w",
                "--set", "1", "--versus", "0")  # fmt: skip
    assert "! a weak instrument" in text


def test_the_picture(capsys, tmp_path):
    said(capsys, "kidney-stones", "--out", str(tmp_path / "effect.svg"))
    svg = (tmp_path / "effect.svg").read_text("utf-8")
    assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "goes along: no effect" in svg


def test_data_that_were_read_before_will_do():
    data = kk.read("kidney-stones")
    one, two = kk.do(data, "treatment", adjust="size"), kk.do("kidney-stones", "treatment", adjust="size")
    assert one.interval() == two.interval()
    assert repr(one).startswith("Effect(do(treatment) on recovered, A against B: 0.0515 [")


# -- loud warnings ---------------------------------------------------------------------------------------------------


def test_rows_without_an_outcome_are_left_out_and_it_is_said(people, capsys):
    text = said(capsys, people, "--treatment", "dose", "--outcome", "stray", "--adjust", "sex")
    assert "5 rows without a value of 'stray' left out" in re.sub(r"\s+", " ", text)
    assert "from 295 rows" in text


def test_where_part_of_the_rows_have_no_like_the_share_is_told():
    data = categories(300, doses=2)
    data["dose"] = ["d1" if s == "late" else d for s, d in zip(data["stage"], data["dose"], strict=True)]
    effect = kk.do(data, {"dose": "d1"}, outcome="recovered", adjust="stage")
    share = sum(s == "late" for s in data["stage"]) / 300
    assert effect.warnings[0].startswith(f"no overlap for {100 * share:.1f} % of the rows")
    assert "! no overlap for" in str(effect)


def test_a_prior_that_weighs_much_is_mentioned():
    data = categories(40, doses=2)
    effect = kk.do(data, {"dose": "d1"}, outcome="recovered", adjust=["sex", "stage"], method="discrete")
    assert any("the prior counts as" in w for w in effect.warnings)


# -- refusals --------------------------------------------------------------------------------------------------------

ASK = ["--treatment", "dose", "--outcome", "recovered"]
REFUSED = {
    "neither graph nor adjustment": (ASK, "these data alone cannot say what dose does to recovered"),
    "a cycle": ([*ASK, "--graph", "dose -> recovered; recovered -> sex; sex -> dose"], "the graph has a cycle"),
    "an unknown treatment": (["--treatment", "dosis", "--outcome", "recovered", "--adjust", "sex"],
                             "has no column 'dosis'"),
    "an unknown outcome": (["--treatment", "dose", "--outcome", "recoverd", "--adjust", "sex"],
                           "did you mean 'recovered'"),
    "an unknown adjustment": ([*ASK, "--adjust", "sexe"], "did you mean 'sex'"),
    "a graph of something else": ([*ASK, "--graph", "age -> {dose, recovered}; dose -> recovered"],
                                  "'age' is in the graph, and no column"),
    "no treatment": (["--outcome", "recovered", "--adjust", "sex"], "do got no treatment"),
    "no outcome": (["--treatment", "dose", "--adjust", "sex"], "do got no outcome"),
    "one column for both": (["--treatment", "dose", "--outcome", "dose", "--adjust", "sex"],
                            "is treatment and outcome"),
    "a treatment that does not vary": (["--treatment", "same", "--outcome", "recovered", "--adjust", "sex"],
                                       "the treatment 'same' does not vary"),
    "an outcome that does not vary": (["--treatment", "dose", "--outcome", "same", "--adjust", "sex"],
                                      "the outcome 'same' does not vary"),
    "an outcome that acts on the treatment": ([*ASK, "--graph", "recovered -> sex -> dose"],
                                              "'recovered' acts on 'dose', and cannot be an effect of it"),
    "no path to the outcome": ([*ASK, "--graph", "sex -> {dose, recovered}"], "dose does not act on recovered"),
    "an adjustment for what the treatment brings about": (
        [*ASK, "--graph", "sex -> {dose, recovered}; dose -> fever -> recovered", "--adjust", "sex,fever"],
        "found   dose → fever"),
    "an adjustment that leaves a path open": (
        [*ASK, "--graph", "{sex, stage} -> {dose, recovered}; dose -> recovered", "--adjust", "sex"], "is open"),
    "a hidden common cause": ([*ASK, "--graph", "dose -> recovered; dose <-> recovered"], "is not identified"),
    "a level that never occurs": ([*ASK, "--adjust", "sex", "--set", "d7", "--versus", "d0"], "'dose' is never d7"),
    "two settings that are one": ([*ASK, "--adjust", "sex", "--set", "d1", "--versus", "d1"], "two that differ"),
    "too many levels": (["--treatment", "stage", "--outcome", "recovered", "--adjust", "sex"],
                        "which two settings are compared?"),
    "an outcome of many words": (["--treatment", "dose", "--outcome", "stage", "--adjust", "sex"],
                                 "the probability of which is meant?"),
    "a value that the outcome never has": (["--treatment", "dose", "--outcome", "recovered=maybe", "--adjust", "sex"],
                                           "'recovered' is never 'maybe'"),
    "adjusting for the treatment": ([*ASK, "--adjust", "dose,sex"], "'dose' cannot be adjusted for"),
    "a method that there is not": ([*ASK, "--adjust", "sex", "--method", "magic"], "there is no method 'magic'"),
    "an estimand that there is not": ([*ASK, "--adjust", "sex", "--estimand", "everybody"], "there is no estimand"),
    "a level of no interval": ([*ASK, "--adjust", "sex", "--level", "95"], "no interval holds a probability of 95"),
    "a file that is no report": ([*ASK, "--adjust", "sex", "--out", "effect.doc"], "names no report and no picture"),
    "a prior that is none": ([*ASK, "--adjust", "sex", "--prior", "-1"], "is no weight of a cell"),
    "versus alone": ([*ASK, "--adjust", "sex", "--versus", "d0"], "what is the treatment set to?"),
    "a setting of another column": ([*ASK, "--adjust", "sex", "--set", "sex=m"], "does not set the treatment"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_four_lines(name, people, capsys):
    arguments, wanted = REFUSED[name]
    text = refused(capsys, people, *arguments)
    assert wanted in text, text
    assert "Traceback" not in text


def test_a_refusal_says_what_would_help(people, capsys):
    text = refused(capsys, people, *ASK)
    assert '--graph "sex -> {dose, recovered}; dose -> recovered" or --adjust sex' in text
    hedge = refused(capsys, people, *ASK, "--graph", "sex -> dose -> recovered; dose <-> recovered")
    assert "use the instrument sex (--method instrument)" in hedge
    assert "bound it" in hedge


def test_no_overlap_at_all_is_refused():
    n = 200
    sex = ["f", "m"] * (n // 2)
    dose = ["d1" if s == "f" else "d0" for s in sex]
    recovered = np.random.default_rng(0).random(n) < 0.5
    with pytest.raises(DataError, match="no overlap at all"):
        kk.do({"sex": sex, "dose": dose, "recovered": recovered}, {"dose": "d1"}, outcome="recovered", adjust="sex")
    data = straight()
    data["copy"] = 3 * data["t"] - 1.0
    with pytest.raises(DataError, match="no overlap at all"):
        kk.do(data, {"t": 1}, outcome="y", adjust="copy", method="linear")


def test_a_missing_column_of_values_is_refused():
    data = {"t": [0, 1] * 20, "y": [None] * 40, "z": [0, 0, 1, 1] * 10}
    with pytest.raises(DataError, match="'y' has no values"):
        kk.do(data, {"t": 1}, outcome="y", adjust="z")


def test_what_python_alone_can_ask_wrongly():
    data = straight()
    with pytest.raises(UsageError, match="which two settings"):
        kk.do(data, "dose", outcome="y", adjust="age", method="linear")
    with pytest.raises(UsageError, match="is a number, and cannot be"):
        kk.do(data, {"dose": "much"}, versus={"dose": 0}, outcome="y", adjust="age", method="linear")
    with pytest.raises(UsageError, match="different columns"):
        kk.do(data, {"t": 1}, versus={"dose": 0}, outcome="y", adjust="age")
    with pytest.raises(UsageError, match="do got no treatment"):
        kk.do(data, {}, outcome="y", adjust="age")
    with pytest.raises(Unsupported, match="cannot be counted"):
        kk.do(data, {"t": 1}, outcome="y", adjust="age", method="discrete")
    with pytest.raises(Unsupported, match="there are no treated here"):
        kk.do(data, {"dose": 1}, versus={"dose": 0}, outcome="y", adjust="age", method="linear", estimand="treated")
    with pytest.raises(UsageError, match="no instrument is needed"):
        kk.do(data, {"t": 1}, outcome="y", adjust="age", method="instrument")
    with pytest.raises(GraphError):
        kk.do(data, {"t": 1}, outcome="y", graph="t => => y")
    with pytest.raises(DataError, match="was learnt already"):
        kk.do("kidney-stones").update("kidney-stones")
    with pytest.raises(UsageError, match="is no level"):
        kk.do("kidney-stones").contrast("C", "A")
    few = {name: list(values)[:6] for name, values in straight(seed=2).items()}
    with pytest.raises(DataError, match="too few rows"):
        kk.do(few, {"t": 1}, outcome="y", adjust=["age", "dose", "city"], method="linear")


def test_a_graph_and_an_adjustment_together_are_the_graphs_judgement():
    with pytest.raises(UsageError, match="is open"):
        kk.do("kidney-stones", graph=STONES, adjust=())
    with pytest.raises(NotIdentified):
        kk.do("kidney-stones", graph=f"{STONES}; size [latent]")
