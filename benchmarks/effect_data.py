"""Data whose effects are known: two simulated designs, IHDP, Twins, and the National Supported Work programme.

numpy alone, so that peers in other environments read the same rows. Real data lie under KOKKIRI_DATA.
"""

import csv
import gzip
import os
from pathlib import Path

import numpy as np

DATA = Path(os.environ.get("KOKKIRI_DATA", "data"))
FIRST = {("easy", 500): 1_000_000, ("easy", 2000): 2_000_000, ("hard", 500): 3_000_000, ("hard", 2000): 4_000_000}
TRUTH = {"easy": 1.0, "hard": 0.5}


def sigmoid(u):
    return 1 / (1 + np.exp(-u))


def easy(n, rng):
    """Ten inputs, smooth: a sine, a square, a product; the effect is 1 + x₂ / 2."""
    x = rng.standard_normal((n, 10))
    e = sigmoid(0.8 * np.sin(x[:, 0]) - 0.5 * x[:, 1])
    m = np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.5 * (x[:, 1] ** 2 - 1) + 0.5 * x[:, 2] * x[:, 3]
    return x, e, m, m + 1 + 0.5 * x[:, 2]


def hard(n, rng):
    """Twenty inputs, targeted selection: a jump on a diagonal, and those are treated who would do well anyway."""
    x = rng.standard_normal((n, 20))
    m = 1.5 * np.sign(x[:, 0] - x[:, 1]) + 0.5 * x[:, 2] + 0.5 * np.abs(x[:, 3])
    mean, sd = 0.5 * np.sqrt(2 / np.pi), np.sqrt(2.25 + 0.25 + 0.25 * (1 - 2 / np.pi))
    return x, sigmoid(1.2 * (m - mean) / sd), m, m + 0.5


def simulated(design, n, number):
    """x, t, y, the true propensity, and both true means."""
    rng = np.random.default_rng(FIRST[design, n] + number)
    x, e, m0, m1 = {"easy": easy, "hard": hard}[design](n, rng)
    t = (rng.random(n) < e).astype(np.int64)
    return x, t, np.where(t == 1, m1, m0) + rng.standard_normal(n), e, np.stack([m0, m1])


def wide(n, inputs=20):
    """x, t, y: the easy design with more inputs, for timings."""
    rng = np.random.default_rng(5)
    x = rng.standard_normal((n, inputs))
    e = sigmoid(0.8 * np.sin(x[:, 0]) - 0.5 * x[:, 1])
    t = (rng.random(n) < e).astype(np.int64)
    m = np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.5 * (x[:, 1] ** 2 - 1) + 0.5 * x[:, 2] * x[:, 3]
    return x, t, m + t * (1 + 0.5 * x[:, 2]) + rng.standard_normal(n)


def ihdp(realisation):
    """x, t, y, and both true means of the 747 children."""
    with (DATA / "ihdp" / f"ihdp_npci_{realisation}.csv").open() as file:
        rows = np.array([[float(v) for v in row] for row in csv.reader(file)])
    return rows[:, 5:], rows[:, 0].astype(np.int64), rows[:, 1], rows[:, 3:5].T


def twins(told=False):
    """x, t, y, and both outcomes of 11,984 pairs; the lighter twin is shown where t is 0.

    Treatment goes by the weeks of gestation, of which the columns are noisy copies: adjusting for them is not enough.
    told: the log-odds of the file's own propensity are one more column.
    """
    with gzip.open(DATA / "twins" / "twins.csv.gz", "rt") as file:
        lines = list(csv.reader(file))
    names, rows = lines[0], np.array([[float(v) for v in row] for row in lines[1:]])
    at = {name: i for i, name in enumerate(names)}
    left = {"", "T", "y0", "y1", "yf", "y_cf", "Propensity"}
    keep = [i for i, name in enumerate(names) if name not in left]
    x, p = rows[:, keep], rows[:, at["Propensity"]]
    x = np.column_stack([x, np.log(p / (1 - p))]) if told else x
    return x, rows[:, at["T"]].astype(np.int64), rows[:, at["yf"]], rows[:, [at["y0"], at["y1"]]].T


def programme(controls="cps"):
    """x, t, earnings in 1978: the treated of the experiment, and a survey's people (or the experiment's controls)."""
    columns = ["age", "education", "black", "hispanic", "married", "nodegree", "re74", "re75"]

    def some(file, treated):
        with (DATA / "lalonde" / file).open() as lines:
            rows = [r for r in csv.DictReader(lines) if int(float(r["treat"])) == treated]
        return np.array([[float(r[c]) for c in columns] for r in rows]), np.array([float(r["re78"]) for r in rows])

    x1, y1 = some("nsw_dw.csv", 1)
    x0, y0 = some("nsw_dw.csv" if controls == "experiment" else f"{controls}_controls.csv", 0)
    t = np.concatenate([np.ones(len(x1)), np.zeros(len(x0))]).astype(np.int64)
    return np.concatenate([x1, x0]), t, np.concatenate([y1, y0])
