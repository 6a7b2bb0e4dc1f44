"""kokkiri estimate: three estimates side by side, batch after batch, and what it refuses."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import kokkiri as kk
from kokkiri.cli.main import main
from kokkiri.exact import estimate, unit_information


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two days of a bakery's sales, and some tables that are not what they should be."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, rows in (("monday", 30), ("tuesday", 40)):
        hours, height = rng.choice([1, 2, 8], rows), rng.normal(170, 10, rows).round(1)
        weight = (0.5 * height - 15 + rng.normal(0, 5, rows)).round(1)
        columns = {
            "sold": rng.poisson(2.5 * hours), "hours": hours, "came_back": rng.choice(["yes", "no"], rows),
            "size": rng.choice(["small", "medium", "large"], rows), "height": height, "weight": weight,
            "wait": rng.exponential(4, rows).round(3), "paid": rng.integers(0, 2, rows),
        }  # fmt: skip
        write(tmp_path / f"{name}.csv", columns)
    write(tmp_path / "more.csv", {"size": ["huge", "small"]})
    write(tmp_path / "holes.csv", {"sold": ["3", "", "5"], "hours": ["1", "1", ""]})
    days = ["2024-01-01", "2024-01-02", "2024-01-03"]
    write(tmp_path / "bad.csv", {"sold": [3, -1, 4], "half": [0.5, 1, 1], "when": days, "typed": ["3", "4", "five"]})
    write(tmp_path / "line.csv", {"a": [1, 2, 3, 4], "b": [2, 4, 6, 8], "same": [7, 7, 7, 7]})
    (tmp_path / "empty.csv").write_text("sold\n")
    return tmp_path


def write(path, columns):
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")


def run(capsys, line):
    code = main(["estimate", *line.split()])
    printed = capsys.readouterr()
    assert max(map(len, printed.out.splitlines()), default=0) <= 80
    return code, printed.out, printed.err


def column(folder, name, *days):
    found = []
    for day in days:
        header, *rows = (folder / f"{day}.csv").read_text().splitlines()
        found += [row.split(",")[header.split(",").index(name)] for row in rows]
    return found


def numbers(folder, name, *days):
    return np.array(column(folder, name, *days), float)


def cells(out, label):
    """The numbers of the line that begins with a label."""
    (line,) = [line for line in out.splitlines() if line.startswith(label + "  ")]
    return [float(v) for v in line.removeprefix(label).replace(",", "").split()]


def test_a_rate_with_exposure_batch_after_batch(folder, capsys):
    code, out, err = run(
        capsys, "monday.csv --column sold --exposure hours --update tuesday.csv --prior 3,1 --out p.svg"
    )
    assert code == 0
    sold, hours = numbers(folder, "sold", "monday", "tuesday"), numbers(folder, "hours", "monday", "tuesday")
    post = kk.exact.GammaPoisson(3, 1).update(sold, hours)
    likeliest, most_probable, mean, sd, low, high = cells(out, "rate")
    assert likeliest == pytest.approx(sold.sum() / hours.sum(), abs=1e-3)
    assert most_probable == pytest.approx(post.mode.item(), abs=1e-3)
    assert [mean, sd] == pytest.approx([post.mean.item(), post.variance.sqrt().item()], rel=1e-2)
    assert [low, high] == pytest.approx([t.item() for t in post.interval(0.95)], abs=1e-3)
    assert f"log p(70 rows) = {post.history.log_evidence.item():,.2f} nats" in out
    assert cells(out, "all at once")[2:] == cells(out, "tuesday.csv")[2:]
    both = cells(out, "monday.csv")[1] + cells(out, "tuesday.csv")[1]
    assert both == pytest.approx(cells(out, "all at once")[1], abs=0.02)
    assert "batch after batch came to the same as all at once, to rounding" in out
    svg = (folder / "p.svg").read_text()
    assert svg.startswith("<svg xmlns")
    for label in ("before any row", "after monday.csv, 30 rows", "after tuesday.csv, 70 rows", "rate"):
        assert label in svg
    assert err == "p.svg\n"


CHOICES = {
    "came_back": ("yes or no, y ~ Bernoulli(p)", "success: yes"),
    "paid": ("yes or no, y ~ Bernoulli(p) (zeros and ones)", "success: 1"),
    "size": ("one of several classes", "DirichletCategorical([1, 1, 1]), flat"),
    "sold": ("counts, y ~ Poisson(rate) (whole numbers from 0 on)", "worth one row"),
    "wait": ("numbers, y ~ Normal(mean, variance)", "worth one row"),
    "sold --exposure hours": ("counts, y ~ Poisson(rate)", "worth one row"),
    "weight --inputs height": ("y ~ Normal(weights · inputs, noise variance)", "weight of height"),
    "weight height": ("rows of numbers, y ~ Normal(means, covariance)", "variance of height"),
    "wait --noise 4": ("y ~ Normal(mean, known variance)", "noise=4"),
    "wait --family exponential": ("waiting times, y ~ Exponential(rate)", "GammaExponential(shape=1,"),
    "size --success small": ("yes or no", "success: small"),
    "hours --family categorical": ("one of several classes", "probability of 8"),
    "size --prior small=2,medium=3,large=1": ("one of several", "DirichletCategorical([1, 3, 2]), as given"),
    "wait --prior rate=2,shape=3,strength=1,location=4": ("numbers", "(location=4, strength=1, shape=3, rate=2)"),
    "weight --inputs height --prior 0.01,1,1": ("weights · inputs", "as given"),
    "weight height --prior 0,1,4,1": ("rows of numbers", "as given"),
    "wait --family normal --level 0.8": ("numbers", "90 %"),
}


@pytest.mark.parametrize("flags", CHOICES)
def test_the_family_is_read_off_the_column_or_named(flags, folder, capsys):
    code, out, _ = run(capsys, f"monday.csv --column {flags} --update tuesday.csv")
    assert code == 0
    flat = " ".join(out.split())
    for said in CHOICES[flags]:
        assert said in flat
    assert "to rounding" in flat


def test_the_classes_are_those_of_all_batches(folder, capsys):
    code, out, _ = run(capsys, "monday.csv --column size --update more.csv")
    assert code == 0
    assert "probability of huge" in out
    assert "DirichletCategorical([1, 1, 1, 1]), flat" in out


def test_rows_without_a_value_are_left_out_and_counted(folder, capsys):
    code, out, err = run(capsys, "holes.csv --column sold --exposure hours --prior 1,1")
    assert code == 0
    assert err == "! holes.csv: 2 rows without a value of sold or hours left out\n"
    assert cells(out, "holes.csv")[0] == 1


def test_named_data_sets_and_sql_are_read(folder, capsys):
    code, out, _ = run(capsys, "kidney-stones --column recovered")
    assert code == 0
    assert cells(out, "probability")[0] == pytest.approx(562 / 700, abs=1e-3)
    assert main(["estimate", "SELECT sold FROM 'monday.csv' WHERE hours = 8", "--column", "sold"]) == 0
    assert "SQL" in capsys.readouterr().out


def test_estimates_that_do_not_exist_are_said_to_be_none(folder, capsys):
    code, out, _ = run(capsys, "line.csv --column a --inputs b")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("noise variance")]
    assert line.split()[2] == "none"  # the rows are met perfectly: no maximum of the likelihood
    write(folder / "zeros.csv", {"n": [0, 0, 0]})
    _, out, _ = run(capsys, "zeros.csv --column n --family poisson --prior 0.5,1")
    assert "most probable: none where the density grows without bound towards 0" in " ".join(out.split())


BAD = {
    "monday.csv --column solt": "did you mean 'sold'?",
    "monday.csv --column": "--column names nothing",
    "monday.csv --column size --family poisson": "holds words",
    "bad.csv --column sold --family poisson": "-1 in row 2",
    "bad.csv --column half --family poisson": "0.5 in row 1",
    "bad.csv --column sold --family exponential": "finite numbers >= 0",
    "bad.csv --column when": "is no outcome that a family is known for",
    "bad.csv --column when --family normal": "holds dates",
    "bad.csv --column typed --family normal": "found   'five'",
    "bad.csv --column sold --exposure sold": "cannot be learnt",
    "monday.csv --column sold --family poison": "did you mean 'poisson'?",
    "monday.csv --column sold --prior 1": "a prior of poisson has 2 numbers",
    "monday.csv --column sold --prior 1,2,3": "a prior of poisson has 2 numbers",
    "monday.csv --column sold --prior shap=1,rate=2": "did you mean 'shape'?",
    "monday.csv --column sold --prior 0,1": "GammaPoisson got shape = 0",
    "monday.csv --column sold --prior a,b": "cannot read --prior shape= a",
    "monday.csv --column size --prior small=1,tiny=2": "--prior names 'tiny'",
    "monday.csv --column size --prior 1,2": "a prior of 3 classes has 3 numbers",
    "monday.csv --column size --success tiny": "never is 'tiny'",
    "monday.csv --column size --family bernoulli": "has 3 values",
    "monday.csv --column sold --update monday.csv": "monday.csv is named twice",
    "monday.csv --column sold weight --inputs height": "do not belong together",
    "monday.csv --column sold --family normal --exposure hours": "--exposure does not belong to normal",
    "monday.csv --column sold --family linear": "linear needs --inputs",
    "monday.csv --column wait --family normal-known-variance": "needs --noise",
    "monday.csv --column wait --noise -4": "variance = -4",
    "monday.csv --column sold --level 95": "--level 0.95",
    "monday.csv --column sold --out p.png": "a file whose name ends in .svg",
    "nowhere.csv --column sold": "there is no file nowhere.csv",
    "empty.csv --column sold": "no rows",
    "line.csv --column same --family normal": "--prior LOCATION,STRENGTH,SHAPE,RATE",
    "line.csv --column a b": "a covariance that is singular",
    "line.csv --column a --inputs b same": "collinear",
    "digits --column y": "is no table with columns",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_input_gets_four_lines_and_exit_code_two(flags, folder, capsys):
    code, out, err = run(capsys, flags)
    assert code == 2
    assert not out
    assert BAD[flags] in err
    assert len([line for line in err.splitlines() if not line.startswith("!")]) == 4
    assert not list(folder.glob("*.svg"))


def test_estimates_in_python_are_the_command():
    found = estimate(kk.exact.GammaPoisson(3, 1), [3, 5], {"y": [2, 4, 6]}, names=["monday"])
    assert found.posterior.shape == 23
    assert found.gap < 1e-14
    assert found.likeliest == 4
    assert found.names == ("monday", "batch 2")
    assert "log p(5 rows)" in str(found)
    assert repr(found) == "Estimates(GammaPoisson(shape=23, rate=6), 2 batches)"
    assert "after monday, 2 rows" in found.picture()
    with pytest.raises(kk.UsageError, match="has no parameter"):
        found.picture(parameter="mean")
    with pytest.raises(kk.ShapeError, match="update the batch itself"):
        estimate(kk.exact.GammaPoisson([1, 2], 1), [1])
    for batches, names in (([[1], {"y": [1], "exposure": [1.0]}], ()), ([[1]], ("a", "b"))):
        with pytest.raises(kk.UsageError, match="do not belong together"):
            estimate(kk.exact.GammaPoisson(1, 1), *batches, names=names)
    with pytest.raises(kk.UsageError, match="no rows"):
        estimate(kk.exact.GammaPoisson(1, 1))
    named = estimate(kk.exact.DirichletCategorical([1, 1], names=["a", "b"]), ["a", "b"], ["b"], "b")
    assert named.posterior.concentration.tolist() == [2, 4]


def test_a_prior_worth_one_row_is_worth_one_row():
    """One more row like the average leaves the centre where it is, and doubles what is known."""
    rng = np.random.default_rng(0)
    y, x = rng.normal(5, 2, 50), np.stack([np.ones(50), rng.normal(3, 1, 50)], -1)
    normal = unit_information.normal(y)
    assert normal.update([y.mean()]).location == pytest.approx(y.mean())
    assert (normal.strength, 2 * normal.shape) == (1, 1)
    assert normal.rate / normal.shape == pytest.approx(y.var())
    counts = unit_information.poisson([3, 5, 10], [1.0, 2.0, 3.0])
    assert (counts.shape, counts.rate) == (6, 2)
    assert 2 * unit_information.poisson([0, 0]).shape == 1
    assert unit_information.exponential([1.0, 3.0]).rate == 2
    known = unit_information.known_variance(y, 4.0)
    assert (known.mean, known.variance) == (pytest.approx(y.mean()), 4)
    line = unit_information.linear(x, y, ["intercept", "x"])
    np.testing.assert_allclose(line.precision, x.T @ x / 50)
    np.testing.assert_allclose(x @ line.location.numpy(), np.full(50, y.mean()))
    rows = unit_information.vectors(np.stack([x[:, 1], y], -1))
    assert (rows.strength, rows.degrees) == (1, 2)
    np.testing.assert_allclose(rows.scale, np.cov(x[:, 1], y, ddof=0))
    for refused in (lambda: unit_information.normal([3.0]), lambda: unit_information.normal([3.0, 3.0]),
                    lambda: unit_information.exponential([0.0]), lambda: unit_information.poisson([]),
                    lambda: unit_information.linear(np.ones((5, 2)), y[:5]),
                    lambda: unit_information.vectors([[1.0, 2.0], [2.0, 3.0]])):  # fmt: skip
        with pytest.raises(kk.DataError, match="prior worth one row"):
            refused()


def test_the_page_shows_the_belief_that_its_code_comes_to():
    page = (Path(__file__).parents[2] / "docs/conjugate.md").read_text("utf-8")
    order = torch.randperm(700, generator=torch.Generator().manual_seed(1))
    recovered = kk.read("kidney-stones").y[order]
    assert str(kk.exact.BetaBernoulli(1, 1).update(recovered[:125])) in page


def test_evidence_and_intervals_of_the_command_are_numbers_that_a_reader_can_check(folder, capsys):
    """The proportion that came back, from the file by hand."""
    words = column(folder, "came_back", "monday")
    ones, zeros = words.count("yes"), words.count("no")
    _, out, _ = run(capsys, "monday.csv --column came_back")
    wanted = math.lgamma(ones + 1) + math.lgamma(zeros + 1) - math.lgamma(ones + zeros + 2)
    (found,) = re.findall(r"= (-[\d.]+) nats", out)
    assert float(found) == pytest.approx(wanted, abs=0.006)
    assert cells(out, "probability")[2] == pytest.approx((ones + 1) / (ones + zeros + 2), abs=1e-3)
    assert torch.is_tensor(kk.exact.BetaBernoulli(1, 1).update([w == "yes" for w in words]).a)
