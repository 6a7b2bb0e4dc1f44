"""What README.md and docs/ say is so: their code runs, their flags, layers and figures are the real ones."""

import dataclasses
import datetime as dt
import re
import shlex
import sqlite3
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from kokkiri.cli.bayes import Bayes
from kokkiri.cli.decide import Decide
from kokkiri.cli.do import Do
from kokkiri.cli.estimate import Estimate
from kokkiri.cli.fit import Fit
from kokkiri.cli.main import main
from kokkiri.cli.predict import Predict
from kokkiri.cli.query import Query
from kokkiri.cli.screen import Screen
from kokkiri.cli.update import Update

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FENCE = re.compile(
    r"(?:<!-- (?P<remark>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    language: str
    body: str
    remark: str  # of the comment in the line above
    line: int


def blocks(page):
    text = page.read_text("utf-8")
    line = lambda at: text.count("\n", 0, at) + 1
    return [Block(m["language"], m["body"], m["remark"] or "", line(m.start("body"))) for m in FENCE.finditer(text)]


def trial(seed=0, since=dt.date(2024, 1, 1)):
    """The table that the pages speak of: three visits each of forty patients."""
    rng = np.random.default_rng(seed)
    age, dose = rng.integers(20, 80, 120), rng.integers(0, 3, 120)
    visited = [since + dt.timedelta(int(d)) for d in rng.integers(0, 700, 120)]
    weight = np.round(60 + 0.2 * age + rng.normal(0, 8, 120), 1)
    recovered = rng.random(120) < 1 / (1 + np.exp(age / 30 - dose))
    columns = {"patient": np.repeat(np.arange(40), 3), "visited": visited, "age": age, "dose": dose, "weight": weight}
    return pd.DataFrame({**columns, "recovered": np.where(recovered, "yes", "no")})


@pytest.fixture
def names(tmp_path, monkeypatch):
    """The files and the Python names that the pages take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KOKKIRI_DATA", raising=False)
    monkeypatch.setenv("KOKKIRI_CACHE", str(tmp_path / "cache"))
    frame = trial()
    frame.to_csv("trial.csv", index=False)
    frame.drop(columns="recovered").head(6).to_csv("new.csv", index=False)
    trial(seed=1, since=dt.date(2026, 1, 1)).to_csv("later.csv", index=False)
    connection = sqlite3.connect("trial.db")
    frame.astype({"visited": str}).to_sql("visits", connection, index=False)
    connection.close()
    rng = np.random.default_rng(1)
    for i in range(8):
        path = Path("photos", "cats" if i % 2 else "dogs", f"{i}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    x, y = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2
    pictures, pairs = x[:, None, None].expand(12, 1, 3, 3), TensorDataset(x, y)
    return {"frame": frame, "ages": frame["age"].to_numpy()[:12], "x": x, "y": y, "images": pictures, "dataset": pairs}


def kokkiri(line):
    return main(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_code_of_every_page_runs(page, names):
    for block in blocks(page):
        assert block.language in {"python", "console", "text", "layers"}, f"{page.name}:{block.line}"
        if block.remark.startswith("not run: "):
            continue
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.body, str(page), "exec"), names)
        if block.language == "console":
            for line in block.body.splitlines():
                assert line.startswith("$ kokkiri "), f"{page.name}:{block.line}: {line}"
                assert kokkiri(line[2:]) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_what_a_page_says_is_printed_is_printed(page, names, capsys):
    for block in blocks(page):
        if block.remark.startswith("printed by: "):
            kokkiri(block.remark.removeprefix("printed by: "))
            printed = capsys.readouterr()
            assert block.body in {printed.err, printed.out}


@pytest.mark.parametrize("command", [Estimate, Fit, Predict, Update, Bayes, Screen, Decide, Query, Do])
def test_the_tables_of_flags_are_those_of_the_command(command):
    text = (ROOT / "docs/command.md").read_text("utf-8")
    section = text.split(f"\n## kokkiri {command.__name__.lower()}")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`--.*?) \|", section, re.MULTILINE)
    written = [flag for row in rows for flag in re.findall(r"--[a-z-]+", row)]
    flags = {"--" + f.name.replace("_", "-") for f in dataclasses.fields(command)} - {"--data", "--model"}
    assert sorted(written) == sorted(flags | ({"--loss"} if command is Fit else set()))


def test_figures_are_those_of_the_benchmarks():
    quoted = 0
    for page in PAGES:
        for name, lines in re.findall(r"<!-- from (benchmarks/results/\S+) -->\n((?:.+\n)+)", page.read_text("utf-8")):
            measured = (ROOT / name).read_text("utf-8").splitlines()
            for line in lines.splitlines():
                assert line.startswith("```") or line in measured, f"{page.name} quotes {name} wrongly: {line}"
                quoted += 1
    assert quoted


def test_links_between_pages_lead_somewhere():
    links = [
        (page, link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
        if not link.startswith("https://")
    ]
    assert len(links) > len(PAGES)
    broken = [f"{page.name}: {link}" for page, link in links if not (page.parent / link.partition("#")[0]).exists()]
    assert not broken
    listed = {link for page, link in links if page.name == "index.md"}
    assert listed == {page.name for page in PAGES} - {"README.md", "index.md"}


def test_the_layers_drawn_are_the_ones_that_hold():
    (drawing,) = (b for b in blocks(ROOT / "docs/design.md") if b.language == "layers")
    (contract,) = (c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert [re.split(r" {2,}", line)[0] for line in drawing.body.splitlines()] == contract["layers"]


def test_every_dependency_is_accounted_for():
    text = (ROOT / "docs/dependencies.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z].*?) \|", text, re.MULTILINE)
    named = {name.split()[0] for row in rows for name in row.split(", ")} - {"package"}
    project = PROJECT["project"]
    needed = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    assert named == {re.split(r"[<>=\[ ]", d)[0] for d in needed}
