"""What bad input gets from the command: four lines that name it and the mend, exit code 2, and nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import json
import os
import shutil
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kokkiri.cli.main import main
from kokkiri.data import named

QUICK = ("--steps", "5", "--network", "mlp:4", "--posterior", "point", "--quiet")
HEAD = "id,age,city,dose,y,ill\n"
LINES = [
    f"A{i},{20 + i * 7 % 50},{('Oslo', 'Bergen')[i % 2]},{i * 0.37 % 3:.2f},{i * 0.7:.1f},{'yn'[i % 3 > 0]}\n"
    for i in range(40)
]
GOOD = HEAD + "".join(LINES)


def kokkiri(*arguments):
    """(exit code, standard output, standard error) of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as left:  # the parser's way
            code = left.code
    return code, out.getvalue(), err.getvalue()


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in Path(folder).rglob("*")}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with a good table in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOKKIRI_CACHE", str(tmp_path.parent / f"{tmp_path.name}-cache"))
    (tmp_path / "good.csv").write_text(GOOD)
    return tmp_path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "good.csv").write_text(GOOD)
    assert kokkiri("fit", folder / "good.csv", "--target", "ill", "--out", folder / "model", *QUICK)[0] == 0
    return folder / "model"


@pytest.fixture
def model(fitted, here):
    return shutil.copytree(fitted, here / "model")


def refused(kind, *arguments):
    """The message of a refusal: one screen with all four lines; no file is there that was not there before."""
    before = snapshot(".")
    code, out, err = kokkiri(*arguments)
    assert (code, out) == (2, ""), err
    assert snapshot(".") == before
    lines = err.splitlines()
    assert len(lines) == 4, err
    assert all(len(line) < 250 for line in lines)
    assert lines[0].startswith(f"kokkiri.{kind}: ")
    assert [line.split()[0] for line in lines[1:]] == ["needs", "found", "fix"]
    return err


def refused_fit(kind, data, *arguments, target="y"):
    named_ = ("--target", target) if target else ()
    return refused(kind, "fit", data, *named_, "--out", "deep/er/out", *arguments)


def says(message, *parts):
    for part in parts:
        assert part in message, message


def changed(column, cells, name="bad.csv"):
    """The good table with some cells of a column replaced: {row counted from 1: text}."""
    at = HEAD.strip().split(",").index(column)
    lines = [line.strip().split(",") for line in LINES]
    for row, text in cells.items():
        lines[row - 1][at] = text
    Path(name).write_text(HEAD + "\n".join(map(",".join, lines)) + "\n")
    return name


def every_row(text):
    return dict.fromkeys(range(1, 41), text)


# ---------------------------------------------------------------- files


def test_a_missing_file_suggests_the_nearest(here):
    says(refused_fit("DataError", "godo.csv"), "godo.csv", "did you mean 'good.csv'?")


def test_a_folder_without_pictures_is_refused(here):
    (here / "sub").mkdir()
    says(refused_fit("DataError", "sub", target=None), "sub", "picture")


def test_an_empty_file_is_named(here):
    (here / "bad.csv").write_text("")
    says(refused_fit("FormatError", "bad.csv"), "bad.csv is empty", "0 bytes")


def test_a_header_without_rows_is_named(here):
    (here / "bad.csv").write_text(HEAD)
    says(refused_fit("DataError", "bad.csv"), "bad.csv has column names and no rows")


@pytest.mark.parametrize("rows", [1, 3])
def test_a_few_rows_are_too_few(here, rows):
    (here / "bad.csv").write_text(HEAD + "".join(LINES[:rows]))
    says(refused_fit("DataError", "bad.csv"), f"bad.csv has {rows} row", "at least 10 rows")


def test_repeated_column_names_are_named(here):
    (here / "bad.csv").write_text(GOOD.replace("dose", "age", 1))
    says(refused_fit("DataError", "bad.csv"), "bad.csv", "more than once: age", "rename")


def test_bytes_that_are_not_utf8_are_named_by_their_line(here):
    (here / "bad.csv").write_bytes(GOOD.replace("Oslo", "Tromsø").encode("latin-1"))
    says(refused_fit("DataError", "bad.csv"), "bad.csv: line 2 is not utf-8", "--encoding latin-1")


def test_a_damaged_gzip_file_is_named(here):
    packed = gzip.compress((GOOD * 50).encode())
    (here / "bad.csv.gz").write_bytes(packed[: len(packed) // 2])
    says(refused_fit("FormatError", "bad.csv.gz"), "bad.csv.gz is a damaged gzip file")


@pytest.fixture
def digits(here):
    """20 images and their labels as IDX."""
    rng = np.random.default_rng(0)
    idx = lambda x: bytes([0, 0, 8, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape) + x.tobytes()
    images, labels = here / "a-images-idx3-ubyte", here / "a-labels-idx1-ubyte"
    images.write_bytes(idx(rng.integers(0, 256, (20, 4, 4)).astype(np.uint8)))
    labels.write_bytes(idx((np.arange(20) % 2).astype(np.uint8)))
    return images, labels


def test_a_truncated_idx_file_is_named_with_its_bytes(digits):
    images, labels = digits
    whole = images.read_bytes()
    for cut in (whole[:-5], whole[:9]):
        images.write_bytes(cut)
        says(refused_fit("FormatError", images.name, target=None), images.name, "bytes")
    images.write_bytes(whole)
    labels.write_bytes(labels.read_bytes()[:-3])
    says(refused_fit("FormatError", images.name, target=None), labels.name)
    labels.unlink()
    says(refused_fit("DataError", images.name, target=None), "has no target")
    says(refused_fit("UsageError", images.name, target="digit"), "read as it is")


def test_a_damaged_gzip_of_idx_is_named(digits):
    packed = gzip.compress(digits[0].read_bytes())
    Path("b-images-idx3-ubyte.gz").write_bytes(packed[:-30])
    says(refused_fit("FormatError", "b-images-idx3-ubyte.gz", target=None), "b-images-idx3-ubyte.gz")


def test_a_damaged_picture_is_named(here):
    for name in ("cat", "dog"):
        (here / "zoo" / name).mkdir(parents=True)
        for i in range(6):
            Image.effect_noise((8, 8), 50).save(here / "zoo" / name / f"{i}.png")
    broken = here / "zoo" / "dog" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    says(refused_fit("FormatError", "zoo", target=None), "3.png")


def test_a_file_that_is_not_the_promised_one_is_named_with_both_digests(here, monkeypatch):
    (here / "mine" / "uci").mkdir(parents=True)
    monkeypatch.setenv("KOKKIRI_DATA", str(here / "mine"))
    for file in named.find("energy").layouts[0].files:
        (here / "mine" / "uci" / file.name).write_bytes(b"another")
    says(
        refused_fit("ChecksumError", "energy", target=None),
        "energy",
        "SHA-256",
        named.find("energy").layouts[0].files[0].sha256,
    )


def test_without_a_network_a_named_data_set_says_where_its_files_go(here, monkeypatch):
    def unreachable(*_, **__):
        raise OSError(errno.ENETUNREACH, "Network is unreachable")

    monkeypatch.delenv("KOKKIRI_DATA", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(socket, "create_connection", unreachable)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    before = snapshot(here)
    code, _, err = kokkiri("fit", "energy", "--out", "out")
    assert code == 2
    assert snapshot(here) == before
    says(err, "kokkiri.DataError", "energy", "unreachable", "$KOKKIRI_DATA")
    assert "Traceback" not in err


# ---------------------------------------------------------------- columns


def test_a_target_that_is_not_there_suggests_the_nearest(here):
    says(refused_fit("DataError", "good.csv", target="agee"), "no column 'agee'", "did you mean 'age'?")


def test_no_target_lists_the_columns(here):
    says(refused_fit("DataError", "good.csv", target=None), "which column", "id, age, city, dose, y, ill", "--target")


def test_a_target_of_one_class_is_refused(here):
    says(refused_fit("DataError", changed("ill", every_row("y")), target="ill"), "'ill' has one value", "all 40 rows")


def test_a_constant_target_is_refused(here):
    says(refused_fit("DataError", changed("y", every_row("3.5"))), "'y' has one value", "3.5 in all 40 rows")


def test_a_target_without_values_is_refused(here):
    says(refused_fit("DataError", changed("y", every_row(""))), "the target 'y' has no values")


@pytest.mark.parametrize("cell", ["", "NaN", "nan"])
def test_a_gap_in_the_target_is_named_by_its_row(here, cell):
    bad = changed("y", {7: cell})
    says(refused_fit("DataError", bad), "'y' is missing in 1 row", "row 7", "--drop-missing-target")
    assert kokkiri("fit", bad, "--target", "y", "--drop-missing-target", "--out", "m", *QUICK)[0] == 0


@pytest.mark.parametrize("cell", ["inf", "-inf", "Infinity"])
def test_infinity_in_the_target_is_named_by_its_row(here, cell):
    says(refused_fit("DataError", changed("y", {7: cell})), "'y' is infinite in row 7")


def test_a_target_too_large_to_be_squared_is_refused_and_such_inputs_are_not(here):
    says(refused_fit("DataError", changed("y", {7: "1e200"})), "'y' has numbers too large", "1e+200")
    assert kokkiri("fit", changed("dose", {7: "1e200"}), "--target", "y", "--out", "m", *QUICK)[0] == 0


def test_a_column_without_values_is_left_out_and_told(here):
    bad = changed("dose", every_row(""))
    code, text, _ = kokkiri("fit", bad, "--target", "y", "--out", "m", *QUICK[:-1])
    assert code == 0
    assert "dose (constant: no values at all)" in " ".join(text.split())


def test_a_word_in_a_declared_number_is_named_by_its_row(here):
    bad = changed("age", {17: "old", 20: "older"})
    says(refused_fit("DataError", bad, "--kind", "age=number"), "'age' is a number", "row 17: 'old'", "1 more")


def test_a_word_among_numbers_nobody_declared_is_told_with_its_row(here):
    code, text, _ = kokkiri("fit", changed("age", {17: "old"}), "--target", "y", "--out", "m", *QUICK[:-1])
    assert code == 0
    assert "the first 'old' in row 17" in " ".join(text.split())


@pytest.mark.parametrize("kind", ["copy", "line", "rename"])
def test_a_column_that_gives_the_target_away_is_warned_of_loudly(here, kind):
    cells = {"copy": lambda y: y, "line": lambda y: f"{2 * float(y) - 3:.3f}", "rename": lambda y: f"group {y}"}[kind]
    target = "ill" if kind == "rename" else "y"
    at = HEAD.strip().split(",").index(target)
    lines = [line.strip() + "," + cells(line.strip().split(",")[at]) for line in LINES]
    Path("bad.csv").write_text(HEAD.strip() + ",spy\n" + "\n".join(lines) + "\n")
    code, text, _ = kokkiri("fit", "bad.csv", "--target", target, "--out", "m", *QUICK[:-1])
    assert code == 0
    warning = next(line for line in text.splitlines() if "LEAK?" in line)
    assert warning.startswith("!")
    says(" ".join(text.split()), "column 'spy'", "--drop spy")
    says((here / "m" / "report.html").read_text("utf-8"), "LEAK?", "--drop spy")


# ---------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (("--likelihood", "gausian"), ("'gausian'", "did you mean 'gaussian'?")),
        (("--loss", "cross-entropie"), ("did you mean 'cross-entropy'?",)),
        (("--network", "mpl:4"), ("'mpl'", "did you mean 'mlp'?")),
        (("--network", "mlp:a"), ("mlp:a", "mlp:64,64")),
        (("--network", "mlp:0"), ("0",)),
        (("--network", "linear:4"), ("linear",)),
        (("--network", "nowhere.py:net"), ("nowhere.py",)),
        (("--network", "convnet:4"), ("ConvNet", "(C, H, W)")),
        (("--optimizer", "adm"), ("did you mean 'adam'?",)),
        (("--schedule", "cosin"), ("did you mean 'cosine'?",)),
        (("--posterior", "ensembl:3"), ("did you mean 'ensemble'?",)),
        (("--posterior", "ensemble:1"), ("at least 2",)),
        (("--split", "grup:city"), ("did you mean 'group:COLUMN'?",)),
        (("--split", "group:cyti"), ("did you mean 'city'?",)),
        (("--split", "time:city"), ("words have no order in time",)),
        (("--split", "published:0"), ("good.csv came without a split",)),
        (("--kind", "age=numbr"), ("did you mean 'number'?",)),
        (("--kind", "agee=number"), ("did you mean 'age'?",)),
        (("--kind", "age"), ("COLUMN=KIND",)),
        (("--drop", "agee"), ("did you mean 'age'?",)),
        (("--test", "0"), ("share of 0",)),
        (("--test", "1.5"), ("share of 1.5",)),
        (("--lr", "-1"), ("lr cannot be -1",)),
        (("--lr", "0"), ("lr cannot be 0",)),
        (("--steps", "0"), ("steps cannot be 0",)),
        (("--epochs", "-2"), ("epochs cannot be -2",)),
        (("--batch", "0"), ("batch cannot be 0",)),
        (("--patience", "-1"), ("patience cannot be -1",)),
        (("--threads", "0"), ("threads cannot be 0",)),
        (("--clip", "nan"), ("clip cannot be nan",)),
        (("--precision", "-1"), ("precision", "-1")),
        (("--device", "tpu"), ("no device 'tpu'", "cpu")),
        (("--device", "cuda:99"), ("no device 'cuda:99'", "cpu")),
        (("--augment", "shift:2"), ("only pictures can be augmented",)),
        (("--augment", "rotate"), ("shift:2,flip",)),
        (("--encoding", "latin-l"), ("'latin-l'",)),
        (("--table", "people"), ("has no tables",)),
    ],
    ids=" ".join,
)
def test_a_flag_that_makes_no_sense_says_what_would(here, flags, parts):
    before = snapshot(here)
    code, out, err = kokkiri("fit", "good.csv", "--target", "y", "--out", "deep/er/out", "--quiet", *flags)
    assert (code, out) == (2, ""), err
    assert snapshot(here) == before
    assert [line.split()[0] for line in err.splitlines()[1:]] == ["needs", "found", "fix"], err
    says(err, *parts)


@pytest.mark.parametrize(
    ("target", "likelihood", "parts"),
    [
        ("ill", "gaussian", ("Gaussian does not fit the target 'ill'", "2 classes: n, y", "--likelihood bernoulli")),
        ("ill", "poisson", ("Poisson does not fit",)),
        ("y", "categorical", ("Categorical does not fit the target 'y'", "numbers", "--likelihood gaussian")),
        ("y", "bernoulli", ("Bernoulli does not fit",)),
        ("y", "poisson", ("Poisson cannot give the target 'y' of good.csv in row 2", "whole numbers >= 0", "0.7")),
        ("y", "negative-binomial", ("in row 2",)),
    ],
)
def test_a_likelihood_that_does_not_fit_the_target_is_refused_before_training(here, target, likelihood, parts):
    kind = "DataError" if "in row 2" in parts[0] else "UsageError"
    says(refused_fit(kind, "good.csv", "--likelihood", likelihood, target=target), *parts)


def test_a_negative_count_among_the_test_rows_is_found_before_training(here):
    cells = {i: str(i % 30) for i in range(1, 41)}
    for row in (3, 39):  # wherever the split puts it
        says(refused_fit("DataError", changed("y", cells | {row: "-1"}), "--loss", "poisson"), f"in row {row}", "-1")


def test_whole_numbers_read_as_classes_may_be_declared_numbers(here):
    bad = changed("y", {i: str(i % 4) for i in range(1, 41)})
    says(refused_fit("UsageError", bad, "--likelihood", "poisson"), "4 classes", "--kind y=number")
    assert kokkiri("fit", bad, "--target", "y", "--likelihood", "poisson", "--kind", "y=number", *QUICK)[0] == 0


def test_a_network_file_that_fails_is_named_with_its_error(here):
    Path("mine.py").write_text("import torch\nnet = torch.nn.Linear(oops)\n")
    says(
        refused_fit("UsageError", "good.csv", "--network", "mine.py:net"), "mine.py cannot be run", "NameError", "oops"
    )
    Path("mine.py").write_text("from torch import nn\ndef build(): return nn.Linear(4, 1)\n")
    says(refused_fit("UsageError", "good.csv", "--network", "mine.py:biuld"), "did you mean 'build'?")
    says(refused_fit("UsageError", "good.csv", "--network", "mine.py"), "no name")


@pytest.mark.parametrize("arguments", [("frobnicate",), ("fit",), ("fit", "good.csv", "--targt", "y"),
                                       ("fit", "good.csv", "--steps", "many")], ids=" ".join)  # fmt: skip
def test_what_cannot_be_parsed_ends_with_two_and_no_traceback(here, arguments):
    before = snapshot(here)
    code, out, err = kokkiri(*arguments)
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert "--help" in err
    assert snapshot(here) == before


# ---------------------------------------------------------------- writing


def test_a_file_in_the_way_of_the_model_is_named(here):
    says(refused("OutputError", "fit", "good.csv", "--target", "y", "--out", "good.csv"), "good.csv", "a file")
    says(refused("OutputError", "fit", "good.csv", "--target", "y", "--out", "good.csv/a/b"), "good.csv is a file")


def test_a_file_in_the_way_of_predictions_or_a_picture_is_named(model):
    says(
        refused("OutputError", "predict", "model", "good.csv", "--out", "good.csv/p.csv"), "cannot write good.csv/p.csv"
    )
    says(refused("OutputError", "graph", "model", "--out", "good.csv/g.svg"), "cannot write good.csv/g.svg")


def test_a_disk_that_is_full_leaves_nothing(here, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    says(refused_fit("OutputError", "good.csv", *QUICK), "No space left", "free some space")


def test_a_disk_that_fills_after_training_keeps_checkpoints_and_the_same_command_goes_on(here, monkeypatch):
    sync, arguments = os.fsync, ("fit", "good.csv", "--target", "y", "--out", "m", *QUICK)
    written = []

    def fills(file):
        written.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        if "model.safetensors" in written[-1]:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills)
        code, out, err = kokkiri(*arguments)
    assert (code, out) == (2, "")
    says(err, "OutputError", "No space left")
    assert any("report.html" in path for path in written)
    assert {p.name for p in (here / "m").iterdir()} == {".checkpoints"}
    assert kokkiri(*arguments)[0] == 0
    assert {p.name for p in (here / "m").iterdir()} == {
        "model.json",
        "model.safetensors",
        "predictions.csv",
        "report.html",
    }


def test_a_disk_that_is_full_leaves_the_former_model_as_it_was(model, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    refused("OutputError", "fit", "good.csv", "--target", "y", "--out", "model", "--overwrite", *QUICK)
    refused("OutputError", "predict", "model", "good.csv", "--out", "p.csv")


# ---------------------------------------------------------------- models and new rows


def test_a_model_that_is_not_there_suggests_the_nearest(model):
    for command in (("predict", "modle", "good.csv"), ("show", "modle"), ("graph", "modle")):
        says(refused("ModelError", *command), "there is no model at modle", "did you mean 'model'?")
    says(refused("ModelError", "show", "good.csv"), "a file")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_of_a_model_is_named(model, name):
    (model / name).unlink()
    says(refused("ModelError", "predict", "model", "good.csv"), f"model lacks {name}")


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_any_altered_byte_of_a_model_is_noticed(model, name):
    whole = (model / name).read_bytes()
    rng = np.random.default_rng(0)
    tried = [0, 1, len(whole) - 1, *rng.integers(0, len(whole), 25).tolist()]
    for at in tried:
        altered = bytearray(whole)
        altered[at] ^= 1 << int(rng.integers(0, 8))
        (model / name).write_bytes(altered)
        says(refused("ChecksumError", "show", "model"), f"{name} was altered")
    (model / name).write_bytes(whole[:-10])
    says(refused("ChecksumError", "show", "model"), f"{name} was altered")


def test_a_model_of_another_format_says_so(model):
    from kokkiri.store import sealed

    page = json.loads((model / "model.json").read_text("utf-8"))
    page.pop("sha256")
    (model / "model.json").write_bytes(sealed(page | {"format": 99}))
    says(refused("ModelError", "show", "model"), "format 99", "format 2")


def test_missing_columns_at_prediction_are_listed(model):
    Path("new.csv").write_text("Age,city\n31,Oslo\n")
    says(
        refused("DataError", "predict", "model", "new.csv"), "new.csv lacks 3 columns", "missing: age, dose, y", "'Age'"
    )


def test_a_word_in_a_number_at_prediction_is_named_by_its_row(model):
    says(refused("DataError", "predict", "model", changed("age", {17: "old"})), "'age' is a number", "row 17: 'old'")


def test_an_unknown_class_at_prediction_is_named_by_its_row(model):
    says(refused("DataError", "predict", "model", changed("ill", {9: "x"})), "'ill'", "row 9", "'x'")


def test_unseen_words_gaps_and_extra_columns_at_prediction_are_accepted_and_counted(model):
    Path("new.csv").write_text("y,shoe,dose,city,age\n1.0,41,,Turku,30\n2.0,42,0.5,Oslo,\n3.0,43,0.5,Turku,30\n")
    code, out, err = kokkiri("predict", "model", "new.csv")
    assert code == 0
    assert len(out.splitlines()) == 4
    assert "nan" not in out
    says(err, "city: 2 rows with 1 unseen value: Turku", "ignored: shoe", "dose: 1 row without", "age: 1 row without")


def test_rows_that_are_no_pictures_do_not_fit_a_model_of_pictures(here):
    options = ("--network", "mlp:4", "--posterior", "point", "--steps", "2", "--quiet")
    assert kokkiri("fit", "digits", *options, "--out", "m")[0] == 0
    says(refused("DataError", "predict", "m", "good.csv"), "good.csv")
    says(refused("DataError", "predict", "m", "concrete"), "do not fit the model", "(1, 8, 8)")


def test_a_data_set_of_pictures_does_not_fit_a_model_of_a_table(model):
    says(refused("DataError", "predict", "model", "digits"), "no table")


@pytest.mark.parametrize("level", ["0", "1", "1.5", "-0.1", "nan"])
def test_a_level_outside_of_zero_and_one_is_refused(model, level):
    says(refused("UsageError", "predict", "model", "good.csv", "--level", level), "between 0 and 1")
