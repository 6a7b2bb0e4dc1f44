"""The command does its whole job: a model, predictions and a report, and says what it did."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kokkiri as kk
from kokkiri.cli.main import main

WRITTEN = {"model.json", "model.safetensors", "predictions.csv", "report.html"}
QUICK = ("--steps", "40", "--network", "mlp:8", "--posterior", "point")


def kokkiri(*arguments):
    """(exit code, standard output, standard error) of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as left:  # the parser's way
            code = left.code
    return code, out.getvalue(), err.getvalue()


def process(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "kokkiri.cli.main", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def files(folder):
    return {p.name for p in Path(folder).iterdir()}


def rows(path):
    with Path(path).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trial_text(n=120):
    """Numbers, words, dates, gaps, an identifier and free text; two classes, a number and a count to predict."""
    rng = np.random.default_rng(0)
    lines = ["patient_id,age,city,visit,dose,comment,recovered,visits,cost"]
    for i in range(n):
        age, city, dose = rng.integers(20, 80), ("Oslo", "Bergen", "Turku")[rng.integers(3)], rng.random()
        recovered = "yes" if dose + 0.2 * rng.normal() > 0.5 else "no"
        cell = "" if rng.random() < 0.1 else f"{dose:.3f}"
        lines.append(
            f"P{i:04},{age},{city},2020-{1 + i % 12:02}-{1 + i % 28:02},{cell},patient {i} came in late today,"
            f"{recovered},{rng.poisson(2 + 20 * dose)},{10 * dose + rng.normal():.3f}"
        )
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    path = tmp_path_factory.mktemp("trial") / "trial.csv"
    path.write_text(trial_text(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fitted(trial):
    """(folder, exit code, summary) of a classification."""
    out = trial.parent / "recovered"
    code, text, _ = kokkiri("fit", trial, "--target", "recovered", "--drop", "visits", "cost", "--out", out, *QUICK)
    return out, code, text


def test_fit_writes_a_model_its_predictions_and_its_report_and_nothing_else(fitted):
    out, code, _ = fitted
    assert code == 0
    assert files(out) == WRITTEN
    ET.fromstring(re.search(r"<svg.*?</svg>", (out / "report.html").read_text("utf-8"), re.DOTALL)[0])


def test_the_files_of_a_fit_agree_with_one_another(fitted, trial):
    out, _, text = fitted
    page, said = json.loads((out / "model.json").read_text("utf-8")), rows(out / "predictions.csv")
    assert len(said) == 24
    right = sum(r["recovered"] == r["recovered (predicted)"] for r in said)
    accuracy = page["facts"]["evaluation"]["headline"]["value"]
    assert accuracy == pytest.approx(right / 24, rel=1e-12)
    assert f"{100 * right / 24:.1f} %" in text
    assert f"{100 * right / 24:.1f} %" in (out / "report.html").read_text("utf-8")
    everything = rows(trial)
    assert [everything[int(r["row"]) - 1]["recovered"] for r in said] == [r["recovered"] for r in said]
    again = kk.predict(kk.load(out), trial).mean[[int(r["row"]) - 1 for r in said], 1]
    np.testing.assert_allclose([float(r["p(yes)"]) for r in said], again, rtol=1e-5)


def test_what_was_left_out_and_why_stands_in_the_summary(fitted):
    text = " ".join(fitted[2].split())
    assert "left out: patient_id (identifier:" in text
    assert "comment (text:" in text
    assert "missing values: dose" in text
    assert "network MLP 8 (105 parameters)" in text


def test_the_summary_fits_80_columns_and_has_no_colours_in_a_pipe(fitted):
    assert max(map(len, fitted[2].splitlines())) <= 80
    assert "\x1b" not in fitted[2]


def test_provenance_holds_the_command_the_seed_and_the_hash_of_the_data(fitted, trial):
    page = json.loads((fitted[0] / "model.json").read_text("utf-8"))
    assert page["facts"]["model"]["command"].startswith(f"kokkiri fit {trial} --target recovered")
    assert page["record"]["seed"] == 0
    assert page["record"]["data"]["source rows"] == 120
    assert len(page["record"]["data"]["sha256"]) == 64


def test_a_number_is_predicted_with_intervals(trial, tmp_path):
    code, text, _ = kokkiri(
        "fit", trial, "--target", "cost", "--drop", "visits", "recovered", "--out", tmp_path / "m", "--steps", "400",
        "--network", "linear", "--posterior", "ensemble:3",
    )  # fmt: skip
    assert code == 0
    said = rows(tmp_path / "m" / "predictions.csv")
    assert all(float(r["low 90 %"]) < float(r["cost (mean)"]) < float(r["high 90 %"]) for r in said)
    parts = [(float(r["sd noise"]) ** 2 + float(r["sd ignorance"]) ** 2) ** 0.5 for r in said]
    np.testing.assert_allclose(parts, [float(r["sd"]) for r in said], rtol=1e-4)
    assert len(kk.load(tmp_path / "m").herd) == 3
    assert "R²" in text
    truth = np.array([float(r["cost"]) for r in said])
    error = truth - np.array([float(r["cost (mean)"]) for r in said])
    assert (
        error @ error < 0.5 * ((truth - truth.mean()) ** 2).sum()
    )  # a linear relation, four parts signal to one noise


def test_counts_have_a_likelihood_of_their_own(trial, tmp_path):
    options = ("--target", "visits", "--likelihood", "poisson", "--drop", "cost", "recovered", "--out", tmp_path / "m")
    code, text, _ = kokkiri("fit", trial, *options, *QUICK)
    assert code == 0
    assert "Poisson()" in text
    assert all(float(r["low 90 %"]) >= 0 for r in rows(tmp_path / "m" / "predictions.csv"))


@pytest.mark.parametrize(("loss", "likelihood"), [("mse", "gaussian"), ("mae", "laplace")])
def test_a_loss_is_its_likelihood_bit_for_bit(trial, tmp_path, loss, likelihood):
    common = ("fit", trial, "--target", "cost", "--quiet", *QUICK)
    assert kokkiri(*common, "--loss", loss, "--out", tmp_path / "a")[0] == 0
    assert kokkiri(*common, "--likelihood", likelihood, "--out", tmp_path / "b")[0] == 0
    a, b = ((tmp_path / x / "model.safetensors").read_bytes() for x in "ab")
    assert a == b


def test_quiet_prints_nothing(trial, tmp_path):
    common = ("fit", trial, "--target", "cost", "--quiet", "--out", tmp_path / "m", *QUICK)
    assert kokkiri(*common) == (0, "", "")
    assert kokkiri("predict", tmp_path / "m", trial, "--out", tmp_path / "p.csv", "--quiet") == (0, "", "")


def test_with_a_target_alone_all_is_chosen_and_the_reasons_are_told(trial, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, err = kokkiri("fit", trial, "--target", "recovered", "--drop", "visits", "cost", "--steps", "80")
    assert code == 0
    assert files(tmp_path / "trial-model") == WRITTEN
    assert "the target has two classes" in text
    assert "best held-out log-likelihood of" in " ".join(text.split())
    assert "linear" in err
    page = json.loads((tmp_path / "trial-model" / "model.json").read_text("utf-8"))
    assert sum(c["chosen"] for c in page["record"]["candidates"]) == 1
    assert len(page["record"]["candidates"]) >= 3


def test_a_model_is_not_overwritten_unasked(trial, tmp_path):
    common = ("fit", trial, "--target", "cost", "--quiet", "--out", tmp_path / "m", *QUICK)
    assert kokkiri(*common)[0] == 0
    first = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    code, _, err = kokkiri(*common, "--seed", "1")
    assert code == 2
    assert "holds a model already" in err
    assert "--overwrite" in err
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == first
    assert kokkiri(*common, "--seed", "1", "--overwrite")[0] == 0
    assert (tmp_path / "m" / "model.safetensors").read_bytes() != first["model.safetensors"]
    assert files(tmp_path / "m") == WRITTEN


def test_new_rows_are_predicted_by_name_with_unseen_words_counted(fitted, tmp_path):
    new = tmp_path / "new.csv"
    new.write_text(
        "shoe,dose,city,visit,age\n41,0.9,Oslo,2020-03-01,31\n42,,Turku,2020-03-02,40\n"
        "40,0.1,Reykjavík,2020-03-03,50\n39,0.2,Kyiv,2020-03-03,50\n",
        encoding="utf-8",
    )
    code, out, err = kokkiri("predict", fitted[0], new)
    assert code == 0
    said = list(csv.DictReader(io.StringIO(out)))
    assert [r["row"] for r in said] == ["1", "2", "3", "4"]
    assert all(float(r["p(no)"]) + float(r["p(yes)"]) == pytest.approx(1, abs=1e-5) for r in said)
    assert said[2]["p(no)"] != said[3]["p(no)"]
    assert "column city: 2 rows with 2 unseen values" in err
    assert "1 column that the model does not know was ignored: shoe" in err
    assert "accuracy" not in err


def test_a_known_target_is_scored_at_prediction(fitted, trial, tmp_path):
    code, out, err = kokkiri("predict", fitted[0], trial, "--out", tmp_path / "p.csv")
    assert (code, out) == (0, "")
    said = rows(tmp_path / "p.csv")
    right = sum(r["recovered"] == r["recovered (predicted)"] for r in said)
    assert f"accuracy {100 * right / 120:.1f} %" in err
    assert "120 predictions written to" in err


def test_a_table_of_a_database_and_another_encoding_reach_prediction(tmp_path):
    import sqlite3

    text = "name,x,y\n" + "".join(f"{('Åse', 'Bjørn')[i % 2]},{i * 0.37 % 5:.2f},{i * 1.3:.1f}\n" for i in range(40))
    (tmp_path / "latin.csv").write_bytes(text.encode("latin-1"))
    common = ("--target", "y", "--quiet", "--encoding", "latin-1", "--out", tmp_path / "m", *QUICK)
    assert kokkiri("fit", tmp_path / "latin.csv", *common)[0] == 0
    code, out, err = kokkiri("predict", tmp_path / "m", tmp_path / "latin.csv", "--encoding", "latin-1")
    assert code == 0
    assert "unseen" not in err
    with contextlib.closing(sqlite3.connect(tmp_path / "two.db")) as database:
        database.execute("CREATE TABLE other (z)")
        database.execute("CREATE TABLE people (name, x REAL, y REAL)")
        database.executemany("INSERT INTO people VALUES (?, ?, ?)", [r.split(",") for r in text.split()[1:]])
        database.commit()
    code, from_table, _ = kokkiri("predict", tmp_path / "m", tmp_path / "two.db", "--table", "people")
    assert code == 0
    assert from_table == out


def test_the_level_of_an_interval_can_be_asked_for(trial, tmp_path):
    kokkiri("fit", trial, "--target", "cost", "--quiet", "--out", tmp_path / "m", *QUICK)
    _, narrow, _ = kokkiri("predict", tmp_path / "m", trial, "--level", "0.5")
    _, wide, _ = kokkiri("predict", tmp_path / "m", trial, "--level", "0.95")
    width = lambda text, p: [
        float(r[f"high {p} %"]) - float(r[f"low {p} %"]) for r in csv.DictReader(io.StringIO(text))
    ]
    ratio = np.array(width(wide, 95)) / np.array(width(narrow, 50))
    np.testing.assert_allclose(ratio, 1.959964 / 0.6744898, rtol=1e-3)  # the quantiles of a Gaussian


def test_show_names_layers_data_and_how_good_it_was(fitted):
    code, out, _ = kokkiri("show", fitted[0])
    text = " ".join(out.split())
    assert code == 0
    for part in ("hidden.0 Linear (8,) 96", "105", "recovered: 2 classes, no, yes", "4 of 8 columns", "trial.csv",
                 "weights SHA-256", "Right in"):  # fmt: skip
        assert part in text, part
    assert "\x1b" not in out


def test_the_graph_is_a_picture_with_every_parameter(fitted, tmp_path):
    code, _, err = kokkiri("graph", fitted[0], "--out", tmp_path / "g.svg")
    assert code == 0
    assert "g.svg" in err
    root = ET.parse(tmp_path / "g.svg").getroot()
    assert root.tag.endswith("svg")
    text = " ".join("".join(root.itertext()).split())
    for name in ("hidden.0.weight", "output.bias"):
        assert name in text


def test_embedded_data_need_a_name_alone_and_are_verified(tmp_path):
    code, out, _ = kokkiri("data", "list")
    assert code == 0
    assert all(name in out for name in ("digits", "breast-cancer", "mnist"))
    code, out, _ = kokkiri("data", "verify", "concrete", "digits")
    assert code == 0
    assert out.count("every byte is right") == 2
    code, _, _ = kokkiri("fit", "concrete", "--quiet", "--out", tmp_path / "m", *QUICK)
    assert code == 0
    assert len(rows(tmp_path / "m" / "predictions.csv")) == 103  # the published split sets a tenth apart
    code, out, err = kokkiri("predict", tmp_path / "m", "concrete")
    assert code == 0
    assert len(out.splitlines()) == 1031
    assert "RMSE" in err


def test_pictures_are_named_by_data_set_by_idx_file_and_by_folder(tmp_path):
    home = Path(kk.__file__).parent / "data" / "embedded"
    options = ("--steps", "3", "--network", "convnet:2", "--posterior", "point", "--augment", "shift:1", "--quiet")
    assert kokkiri("fit", "digits", *options, "--out", tmp_path / "a")[0] == 0
    assert kokkiri("fit", home / "digits-images-idx3-ubyte.gz", *options, "--out", tmp_path / "b")[0] == 0
    a, b = ((tmp_path / x / "model.safetensors").read_bytes() for x in "ab")
    assert a == b
    _, by_name, _ = kokkiri("predict", tmp_path / "a", "digits")
    _, by_file, _ = kokkiri("predict", tmp_path / "a", home / "digits-images-idx3-ubyte.gz")
    assert by_file.splitlines()[1:] == by_name.splitlines()[1:]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """12 dark "cat"s, 12 bright "dog"s, 12 grey "owl"s, of 6 x 6 pixels, in folders of their own."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, brightness in {"cat": 40, "dog": 200, "owl": 120}.items():
        (root / name).mkdir()
        for i in range(12):
            pixels = np.clip(brightness + 10 * rng.normal(size=(6, 6, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def test_a_folder_of_pictures_is_fitted_and_new_ones_keep_their_classes(pictures, tmp_path):
    out = tmp_path / "m"
    options = ("--network", "mlp:16", "--steps", "300", "--posterior", "point", "--patience", "0", "--out", out)
    code, text, _ = kokkiri("fit", pictures, *options)
    assert code == 0
    assert "Right in 100.0 %" in text  # the brightness alone tells them apart, by eight standard deviations
    for name in ("dog", "owl"):  # without the first class their numbers are others, their names the same
        (tmp_path / "new" / name).mkdir(parents=True)
        Image.open(pictures / name / "0.png").resize((9, 9)).save(tmp_path / "new" / name / "1.png")
    code, said, err = kokkiri("predict", out, tmp_path / "new")
    assert code == 0
    assert [r["class (predicted)"] for r in csv.DictReader(io.StringIO(said))] == ["dog", "owl"]
    assert "accuracy 100" in err
    (tmp_path / "new" / "emu").mkdir()
    Image.new("RGB", (6, 6)).save(tmp_path / "new" / "emu" / "1.png")
    code, _, err = kokkiri("predict", out, tmp_path / "new")
    assert code == 2
    assert "'emu'" in err


def test_rows_of_one_group_stay_together(trial, tmp_path):
    common = ("fit", trial, "--target", "cost", "--quiet", "--out", tmp_path / "m", *QUICK)
    assert kokkiri(*common, "--split", "group:city")[0] == 0
    everything, said = rows(trial), rows(tmp_path / "m" / "predictions.csv")
    test = {int(r["row"]) - 1 for r in said}
    there = {everything[i]["city"] for i in test}
    assert there.isdisjoint(everything[i]["city"] for i in range(120) if i not in test)
    facts = json.loads((tmp_path / "m" / "model.json").read_text("utf-8"))["facts"]
    assert facts["comparison"]["alternatives"]["grouped"]


def test_a_model_is_shown_beside_its_repairs_and_strange_rows(trial, tmp_path):
    common = ("fit", trial, "--target", "recovered", "--out", tmp_path / "m", *QUICK[:-1], "ensemble:2")
    code, text, _ = kokkiri(*common, "--test", "0.4")
    assert code == 0
    facts = json.loads((tmp_path / "m" / "model.json").read_text("utf-8"))["facts"]
    table = kk.evaluation.Comparison.from_json(facts["comparison"]).alternatives
    assert [line.name for line in table.lines] == [
        "this model", "temperature scaling", "conformal, adaptive", "conformal, simple", "majority class",
        "linear model",
    ]  # fmt: skip
    assert table.halves == (24, 24)
    assert not table.grouped
    assert "Beside the usual repairs" in text
    novelty = kk.evaluation.Evaluation.from_json(facts["evaluation"]).uncertainty.novelty
    assert 0 <= novelty.low < novelty.value < novelty.high <= 1
    assert "Rows that never were" in text
    said = rows(tmp_path / "m" / "predictions.csv")
    assert all(0 <= float(r["ignorance"]) < math.log(2) for r in said)


def test_the_last_rows_in_time_are_set_apart(trial, tmp_path):
    common = ("fit", trial, "--target", "cost", "--quiet", "--out", tmp_path / "m", *QUICK)
    assert kokkiri(*common, "--split", "time:visit")[0] == 0
    everything, said = rows(trial), rows(tmp_path / "m" / "predictions.csv")
    test = {int(r["row"]) - 1 for r in said}
    first = min(everything[i]["visit"] for i in test)
    assert first > max(everything[i]["visit"] for i in range(120) if i not in test)


def test_a_published_split_is_taken_by_its_number(tmp_path):
    tests = []
    for k in (0, 1):
        out = tmp_path / str(k)
        assert kokkiri("fit", "concrete", "--quiet", "--split", f"published:{k}", "--out", out, *QUICK)[0] == 0
        tests.append({int(r["row"]) - 1 for r in rows(out / "predictions.csv")})
        assert tests[k] == set(kk.read("concrete").published[k].tolist())
    assert tests[0] != tests[1]


NETWORK = """
from torch import nn

class Wide(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.inner = nn.Linear(INPUTS, outputs)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.inner(x))

def make():
    return nn.Sequential(nn.Linear(INPUTS, 4), nn.Tanh(), nn.Linear(4, 1))
"""


@pytest.mark.parametrize("name", ["Wide", "make"])
def test_a_network_of_the_users_own_is_named_by_file_and_name(trial, tmp_path, name):
    source, out = tmp_path / "mine.py", tmp_path / "m"
    source.write_text(NETWORK.replace("INPUTS", "11"), encoding="utf-8")
    common = ("--target", "recovered", "--drop", "visits", "cost", "--steps", "40", "--posterior", "point")
    assert kokkiri("fit", trial, *common, "--network", f"{source}:{name}", "--out", out)[0] == 0
    own = ("--network", f"{source}:{name}")
    code, first, _ = kokkiri("predict", out, trial, *own)
    assert code == 0
    assert kokkiri("predict", out, trial, *own)[1] == first  # no dropout, and nothing random
    assert kokkiri("show", out, *own)[0] == 0
    assert kokkiri("graph", out, *own)[0] == 0
    for command in (("predict", out, trial), ("show", out), ("graph", out)):
        code, printed, err = kokkiri(*command)
        assert (code, printed) == (2, "")
        assert "not one of kokkiri's" in err
        assert "--network" in err


def test_a_file_called_like_a_module_does_not_take_its_place(trial, tmp_path):
    import statistics

    source = tmp_path / "statistics.py"
    source.write_text(NETWORK.replace("INPUTS", "13"), encoding="utf-8")
    common = ("--target", "cost", "--steps", "5", "--posterior", "point", "--quiet", "--out", tmp_path / "m")
    assert kokkiri("fit", trial, *common, "--network", f"{source}:Wide")[0] == 0
    assert sys.modules["statistics"] is statistics


def test_another_process_gives_the_same_bits_and_its_exit_codes(trial, tmp_path):
    arguments = ("fit", trial, "--target", "cost", "--out", tmp_path / "a", *QUICK)
    done = process(*arguments)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert kokkiri(*arguments[:-1], "point", "--out", tmp_path / "b")[0] == 0
    a, b = ((tmp_path / x / "model.safetensors").read_bytes() for x in "ab")
    assert a == b
    refused = process("fit", trial, "--target", "costs")
    assert refused.returncode == 2
    assert not refused.stdout
    assert "Traceback" not in refused.stderr
    assert "did you mean 'cost'?" in refused.stderr


def test_ctrl_c_leaves_a_model_and_the_same_command_goes_on_to_the_same_weights(trial, tmp_path):
    fixed = ("fit", trial, "--target", "cost", "--likelihood", "gaussian", "--posterior", "point", "--steps", "2400")
    arguments = (*fixed, "--batch", "16", "--out")
    assert kokkiri(*arguments, tmp_path / "whole")[0] == 0
    cut = subprocess.Popen(
        [sys.executable, "-m", "kokkiri.cli.main", *map(str, arguments), tmp_path / "cut"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    for line in cut.stderr:
        if line.startswith("MLP 64-64"):
            break
    time.sleep(0.05)
    cut.send_signal(signal.SIGINT)
    _, said = cut.communicate(timeout=60)
    assert cut.returncode == 130, said
    assert "Traceback" not in said
    command = next(line.split(maxsplit=3)[3] for line in said.splitlines() if line.startswith("  to go on"))
    assert command.startswith(f"kokkiri fit {trial} --target cost")
    assert files(tmp_path / "cut") == WRITTEN | {".checkpoints"}
    assert kk.load(tmp_path / "cut").record.status is kk.Status.INTERRUPTED
    code, _, err = kokkiri(*command.split()[1:])
    assert code == 0
    assert "resuming from" in err
    assert files(tmp_path / "cut") == WRITTEN
    assert kk.load(tmp_path / "cut").record.status is not kk.Status.INTERRUPTED
    whole, again = ((tmp_path / x / "model.safetensors").read_bytes() for x in ("whole", "cut"))
    assert again == whole


def test_a_run_that_diverges_ends_with_a_report_that_says_so_and_what_to_do(trial, tmp_path):
    common = ("fit", trial, "--target", "cost", "--likelihood", "gaussian", "--lr", "1e30", "--out", tmp_path / "m")
    code, text, _ = kokkiri(*common, *QUICK)
    assert code == 0
    assert "! The loss became infinite or not a number" in " ".join(text.split())
    assert "divide --lr by 10" in " ".join(text.split())
    assert kk.load(tmp_path / "m").record.status is kk.Status.DIVERGED
    assert "nan" not in (tmp_path / "m" / "predictions.csv").read_text("utf-8")


def test_a_reader_who_closes_the_pipe_gets_no_traceback(fitted, trial):
    command = f"{sys.executable} -m kokkiri.cli.main predict {fitted[0]} {trial} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("row,")
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_help_names_every_command_and_debug_shows_the_traceback(trial):
    code, out, _ = kokkiri()
    assert code == 0
    assert all(command in out for command in ("fit", "predict", "show", "graph", "data"))
    with pytest.raises(kk.DataError):
        kokkiri("fit", trial, "--target", "costs", "--debug")
    assert kokkiri("--version")[1].startswith("kokkiri 0.")


@pytest.mark.parametrize("command", [(), ("do",), ("fit",), ("screen",)])
def test_help_is_as_wide_as_the_terminal(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = kokkiri(*command, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    assert "show this help message and exit" in out


def test_a_score_on_the_file_that_was_fitted_is_called_what_it_is(tmp_path, capsys):
    out = str(tmp_path / "model")
    assert (
        main(["fit", "breast-cancer", "--network", "mlp:4", "--posterior", "point", "--steps", "20", "--out", out]) == 0
    )
    capsys.readouterr()
    assert main(["predict", out, "breast-cancer", "--out", str(tmp_path / "p.csv")]) == 0
    assert "fitted on rows of this very file" in capsys.readouterr().err
