"""Reports say what they were given, stand alone, cannot be broken by names, and are written whole or not at all."""

from __future__ import annotations

import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from kokkiri.data.core import Source, Target
from kokkiri.errors import ModelError, OutputError
from kokkiri.evaluation import Measure, alternatives, comparison, evaluate
from kokkiri.numerics.distributions import Normal
from kokkiri.numerics.layout import layers
from kokkiri.numerics.random import philox
from kokkiri.predictive import Classes, Mixture
from kokkiri.progress import Progress
from kokkiri.records import Candidate, Curve, Record, Status
from kokkiri.report import graph, page, words
from kokkiri.report.facts import ColumnFacts, DataFacts, ModelFacts, model_facts
from kokkiri.report.terminal import summary

EVIL = '--></text><script>alert("$x$")</script>[bold]&amp;'


def run(**changes):
    steps = tuple(range(10, 410, 10))
    train = tuple(tuple(-1 / s - 0.1 * r for s in steps) for r in range(1, 4))
    best = Candidate("MLP 64", -0.3125, 0.0217, 2.0, 4321, chosen=True)
    made = Record(
        steps=400, seconds=7.25, wall=8.5, seed=1234,
        config={"likelihood": ("Categorical()", "two words in the target"), "lr": (0.003, "best of three")},
        versions={"torch": "2.13.0"}, source="beef" * 16, candidates=(replace(best, name="linear", chosen=False), best),
        curve=Curve(steps, train, train, (30, 400, 200)), notes=("replica 2 diverged and was left out",),
    )  # fmt: skip
    return replace(made, **changes)


def facts(target: Target, **changes) -> DataFacts:
    columns = (
        ColumnFacts("age", "number", "80 distinct numbers", missing=7, distinct=80),
        ColumnFacts("patient", "identifier", "counts the rows", used=False, distinct=570),
    )
    made = DataFacts(target, Source("clinic.csv", "cafe" * 16, 570), 420, 150, (2,), columns, ("age has 7 gaps",))
    return replace(made, **changes)


def beside(rows, y, target):
    """The comparison with its table of repairs."""
    return replace(comparison(rows, y, target), alternatives=alternatives(rows, y, target))


def novel(found):
    measure = Measure("AUROC", 0.8125, low=0.7625, high=0.8625)
    return replace(found, uncertainty=replace(found.uncertainty, novelty=measure))


def classes(levels: tuple[str, ...], n: int = 150):
    rng, c = philox(0, "test classes"), len(levels)
    p = torch.from_numpy(rng.dirichlet(np.full(c, 0.3), (3, n))) + 1e-4
    p /= p.sum(2, keepdim=True)
    y = (torch.from_numpy(rng.random((n, 1))) > p.mean(0).cumsum(1)).sum(1).clamp(max=c - 1)
    said = Classes(p.log(), torch.full((3,), 1 / 3).log())
    flat = Classes(torch.full((1, n, c), -math.log(c)), torch.zeros(1))
    target = Target("outcome", "category", levels, reason="words")
    return run(), novel(evaluate(said, y, target)), beside([("model", said), ("flat", flat)], y, target), facts(target)


def numbers(n: int = 150, mean: float = 40.0, **changes):
    rng = philox(1, "test numbers")
    centre, log_scale = torch.from_numpy(mean + rng.normal(size=(3, n, 1))), torch.zeros(3, n, 1)
    y = torch.from_numpy(mean + 1.2 * rng.normal(size=n))
    said = Mixture(Normal(centre, log_scale), torch.full((3,), 1 / 3).log())
    target = Target("outcome", "number", shift=40.0, scale=1.5)
    return run(**changes), novel(evaluate(said, y, target)), beside([("model", said)], y, target), facts(target)


TWO, FOUR = ("no", "yes"), ("ant", "bee", "cat", "dog")
ALL = {"two classes": lambda: classes(TWO), "four classes": lambda: classes(FOUR), "numbers": numbers}


@cache
def parts_of(name: str):
    return ALL[name]()


@cache
def page_of(name: str) -> str:
    return page.html(*parts_of(name))


@pytest.fixture(params=ALL)
def made(request):
    return parts_of(request.param), page_of(request.param)


class Reader(HTMLParser):
    """Collects text and attributes, and insists that every element is closed where it should be."""

    VOID = frozenset({"meta", "br", "img", "input", "hr", "link"})

    def __init__(self):
        super().__init__()
        self.open, self.text, self.attributes = [], [], []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *a) for a in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *a) for a in attrs]

    def handle_data(self, data):
        self.text.append(data)


def read(html: str) -> tuple[str, list[tuple[str, str, str]]]:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return re.sub(r"\s+", " ", " ".join(reader.text)), reader.attributes


@pytest.mark.parametrize("held_out", [True, False])
def test_page_and_terminal_show_evidence_beside_held_out_rows(held_out):
    narrow = Candidate("MLP 8", -1.2, 0.02, 1.0, 33, evidence=-130.0)
    wide = Candidate("MLP 64", -0.9, 0.02, 2.0, 4321, chosen=True, evidence=-150.0)
    found = (narrow, wide)
    if not held_out:
        looks = (replace(c, name=f"{c.name} (quick)", chosen=False, evidence=None) for c in found)
        found = (*looks, *(replace(c, held_out=math.nan, se=math.nan) for c in found))
    record, *rest = numbers(candidates=found)
    text, _ = read(page.html(record, *rest))
    paper = io.StringIO()
    summary(record, *rest, file=paper)
    for said in (text, " ".join(paper.getvalue().split())):
        assert "evidence nats" in said
        assert "130.0" in said.replace("\u2212", "-")
        assert "by 20.0 nats in all" in said
        assert "nan" not in said
        assert "unknown" not in said


def test_without_evidence_there_is_no_column_for_it():
    record, *rest = numbers()
    text, _ = read(page.html(record, *rest))
    paper = io.StringIO()
    summary(record, *rest, file=paper)
    assert "evidence" not in text
    assert "Candidates" not in paper.getvalue()


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_html_and_says_what_it_was_given(made):
    (_, evaluation, compared, data), html = made
    text, _ = read(html)
    say = lambda s: s.replace("-", "−")
    assert text.count(words.sentence(evaluation, compared, data.target)) == 1
    for measure in (evaluation.headline, evaluation.log_likelihood, *evaluation.metrics):
        assert say(words.full(measure)) in text
        assert measure.name in text
    for wanted in ("clinic.csv", "cafe" * 16, "beef" * 16, "570", "420", "1234", "torch 2.13.0", "age", "identifier"):
        assert wanted in text
    for wanted in (
        "counts the rows",
        "two words in the target",
        "best of three",
        "0.003",
        "MLP 64",
        "−0.312 ± 0.022",
        "4,321",
    ):
        assert wanted in text
    assert text.index("Replica 2 diverged and was left out") < text.index("Results")
    assert Status.DONE.value in text


def test_type_one_and_type_two_errors_are_named_with_their_classes():
    text, two = read(page_of("two classes"))[0], parts_of("two classes")[1].classes.two
    one, miss = words.full(two.type_one), words.full(two.type_two)
    assert two.false_alarms != two.misses
    assert (
        f"Type I errors (false alarms: “yes” was said and “no” true): {two.false_alarms} of {two.negatives}, {one}."
        in text
    )
    assert f"Type II errors (misses: “no” was said and “yes” true): {two.misses} of {two.positives}, {miss}." in text


def test_the_page_needs_no_network_and_no_script(made):
    _, attributes = read(made[1])
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", made[1], re.IGNORECASE)
    assert not re.search(r"url\(\s*[\"']?(?!#)", made[1])
    assert "@import" not in made[1]
    assert not any(tag in {"script", "link", "iframe", "img", "object"} for tag, *_ in attributes)
    assert not any(name.startswith("on") for _, name, _ in attributes)
    assert all(value.startswith("#") for _, name, value in attributes if name == "href")


def test_identifiers_are_unique_and_each_reference_finds_one(made):
    _, attributes = read(made[1])
    identifiers = [value for _, name, value in attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))
    used = re.findall(r"url\(#([^)]+)\)", made[1]) + [v[1:] for _, name, v in attributes if name == "href"]
    assert used
    assert set(used) <= set(identifiers)


def test_pictures_follow_light_and_dark(made):
    svgs = re.findall(r"<svg.*?</svg>", made[1], re.DOTALL)
    assert len(svgs) >= 4
    for svg in svgs:
        assert "var(--ink)" in svg
        assert not re.search(r"(fill|stroke): ?#", svg)
        assert " width=" not in svg.split(">")[0]  # the style sheet makes it as wide as its column


def test_names_that_are_markup_show_as_text():
    record, *_ = parts_of("two classes")
    _, evaluation, compared, data = classes((EVIL, EVIL + "2"))
    column = ColumnFacts(EVIL, EVIL, EVIL, used=False, missing=1)
    data = replace(data, source=Source(EVIL, EVIL, 3, EVIL, EVIL), columns=(column,), notes=(EVIL,))
    data = replace(data, target=replace(data.target, name=EVIL, reason=EVIL))
    evaluation = replace(evaluation, target=EVIL)
    compared = replace(compared, lines=tuple(replace(line, name=EVIL) for line in compared.lines))
    record = replace(record, config={EVIL: (EVIL, EVIL)}, notes=(EVIL,), versions={EVIL: EVIL}, source=EVIL)
    model = ModelFacts(
        1, 2, (), graph.Graph((graph.Node((EVIL,), EVIL), graph.Node(("a",), "output")), ((0, 1),)), EVIL
    )
    html = page.html(record, evaluation, compared, data, model)
    text, attributes = read(html)
    assert "<script" not in html
    assert "<script>alert" in text
    assert not any(tag == "script" for tag, *_ in attributes)
    _, evaluation, compared, data = parts_of("numbers")
    assert "<script" not in page.html(record, replace(evaluation, target=EVIL), compared, data, model)


def test_what_is_unknown_is_said_to_be(recwarn):
    target = Target("outcome", "number", shift=1.0, scale=1.0)
    said = Mixture(Normal(torch.full((1, 40, 1), math.nan), torch.zeros(1, 40, 1)), torch.zeros(1))
    y = torch.linspace(0, 1, 40, dtype=torch.float64)
    html = page.html(
        run(status=Status.DIVERGED), evaluate(said, y, target), comparison([("model", said)], y, target), facts(target)
    )
    text, _ = read(html)
    assert "unknown" in text
    assert "The loss became infinite" in text
    assert not recwarn.list


def test_a_run_of_little_still_has_a_page():
    _, evaluation, compared, data = classes(tuple(f"class {i}" for i in range(40)), n=30)
    html = page.html(Record(), evaluation, compared, replace(data, columns=(), notes=(), shape=(1, 28, 28)))
    text, _ = read(html)
    assert "1 × 28 × 28" in text
    assert "Mind this" not in text
    assert "Which classes are taken for which" not in text  # forty classes are a list, not a picture
    assert "class 39" in text


def test_the_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = page.write(tmp_path / "new" / "report.html", *parts_of("numbers"))
    before = path.read_text("utf-8")
    assert before == page_of("numbers")  # the same run gives the same bytes

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        page.write(path, *parts_of("numbers"))
    assert path.read_text("utf-8") == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_page_that_cannot_be_written_is_an_error_with_a_mend(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError, match="fix"):
        page.write(tmp_path / "report.html", *parts_of("numbers"))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_facts_survive_json():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    model = model_facts(net, torch.zeros(2, 2), replicas=2, command="kokkiri fit")
    assert ModelFacts.from_json(json.loads(json.dumps(model.to_json()))) == model
    assert model.parameters == sum(layer.parameters for layer in model.layers) == 13
    data = parts_of("numbers")[-1]
    assert DataFacts.from_json(json.loads(json.dumps(data.to_json()))) == data
    text, _ = read(page.html(*parts_of("numbers"), model))
    assert "13 parameters, 2 times" in text
    assert "0.weight (3, 2)" in text


def test_the_page_has_the_repairs_beside_the_model(made):
    (_, evaluation, compared, _), html = made
    text, _ = read(html)
    say = lambda s: s.replace("-", "−")
    table = compared.alternatives
    assert len(table.lines) == 4 + len(compared.lines) - 1
    for line in table.lines:
        row = text[text.index(line.name, text.index("Beside the usual repairs")) :]
        for m in (line.log_likelihood, line.score, line.calibration, line.coverage, line.size):
            assert m is None or say(words.value(m)).split(".")[0] in row
        assert say(words.full(line.coverage)) in row
    for sentence in words.alternatives(table):
        assert re.sub(r"(?<![\w-])-(?=\d)", "−", sentence) in text
    assert words.novelty(evaluation) in text
    for e in () if evaluation.classes is None else evaluation.classes.published:
        assert f"{e.name} {words.full(e.error)} {100 * e.by_chance:.1f} % {100 * e.by_chance_high:.1f} %" in text


def test_the_table_says_that_conformal_sets_have_no_density_and_which_rows_taught():
    (_, _, two, _), (_, _, number, _) = parts_of("two classes"), parts_of("numbers")
    for compared, what in ((two, "Conformal sets hold"), (number, "Conformal intervals hold")):
        said = " ".join(words.alternatives(compared.alternatives))
        assert f"{what} what they promise whatever the model" in said
        assert "no density, so that their scores are blank" in said
        assert "75 and 75 rows, cut at random" in said


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        (((1.5, 1.2, 1.9), (1.4, 1.1, 1.8)), "both above 1, it was too sure"),
        (((0.5, 0.3, 0.9), (0.6, 0.4, 0.8)), "both below 1, it was too unsure"),
        (((1.5, 1.2, 1.9), (1.1, 0.8, 1.4)), "1, which changes nothing, is not ruled out"),
        (((1.5, 1.2, 1.9), (0.5, 0.3, 0.9)), "the halves do not agree"),
        (((0.001, None, None), (1.1, 0.8, 1.4)), "1, which changes nothing, is not ruled out"),
    ],
)
def test_factors_are_put_in_words(factors, said):
    table = replace(
        parts_of("numbers")[2].alternatives, factors=tuple(Measure("factor", v, low=a, high=b) for v, a, b in factors)
    )
    assert any(said in line for line in words.alternatives(table))


def test_few_rows_have_a_page_and_a_summary_that_say_what_was_left_out():
    parts = numbers(30)
    for text in (read(page.html(*parts))[0], re.sub(r"\s+", " ", printed(io.StringIO(), *parts))):
        assert "left out: 30 test rows do not give two halves of 20." in text
        assert "conformal, scaled" not in text


# -- the terminal ----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self):
        return True


def printed(file, *parts, **named) -> str:
    summary(*parts, file=file, **named)
    return file.getvalue()


@pytest.mark.parametrize("name", ALL)
def test_the_summary_is_plain_text_of_at_most_80_columns_and_has_the_numbers(name):
    parts = parts_of(name)
    text = printed(io.StringIO(), *parts, files=[("report", "model/report.html")])
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    flat = re.sub(r"\s+", " ", text)
    for wanted in (words.sentence(parts[1], parts[2], parts[3].target), words.calibration(parts[1])):
        assert wanted in flat
    for line in (*parts[2].lines, *parts[2].alternatives.lines):
        assert line.name in flat
    for sentence in (*words.alternatives(parts[2].alternatives), words.novelty(parts[1])):
        assert sentence in flat
    for line in parts[2].alternatives.lines:
        assert f"{words.full(line.coverage).replace(' %', '')}" in text
    for wanted in (
        "570 rows, 1 of 2 columns used; 420 to learn from, 150 to test",
        "patient (identifier: counts the rows)",
        "age 7",
        "Categorical() - two words in the target",
        "! Replica 2 diverged",
        "report model/report.html",
    ):
        assert wanted in flat


def test_the_summary_names_both_kinds_of_error():
    parts = parts_of("two classes")
    flat, two = re.sub(r"\s+", " ", printed(io.StringIO(), *parts)), parts[1].classes.two
    assert f"type I, false alarm (yes said, no true): {two.false_alarms} of {two.negatives}" in flat
    assert f"type II, miss (no said, yes true): {two.misses} of {two.positives}" in flat


def test_the_summary_on_a_terminal_keeps_to_80_columns_and_has_colours(monkeypatch):
    for name, value in (("COLUMNS", "200"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    text = printed(Terminal(), *parts_of("two classes"))
    assert "\x1b[1" in text
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert "\x1b" not in bare
    assert max(map(len, bare.splitlines())) <= 80


def test_names_are_not_markup_of_the_terminal_and_a_poor_encoding_does_not_stop_it():
    record, evaluation, compared, data = classes(("[bold]no[/bold]", "né:smile:"))
    target = replace(data.target, name="[red]outcome")
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    summary(record, evaluation, compared, replace(data, target=target), file=file)
    file.flush()
    text = raw.getvalue().decode("ascii")
    assert "[red]outcome" in text
    assert "[bold]no[/bold]" in text
    assert "n?:smile:" in text


# -- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (Measure("a", 0.98321, "proportion", 0.9805, 0.9855), "98.32 % [98.05, 98.55]"),
        (Measure("a", 1.0, "proportion", 0.9, 1.0), "100.0 % [90.0, 100.0]"),
        (Measure("a", 12345.678, "target", se=123.4), "12,346 ± 123"),
        (Measure("a", -math.inf, "nats per row"), "-infinity"),
        (Measure("a", math.nan, "proportion", 0.0, 1.0), "unknown"),
        (Measure("a", 5.0, "target"), "5.00"),
        (Measure("a", 0.5, "", 0.41, 0.61), "0.50 [0.41, 0.61]"),
    ],
)
def test_numbers_have_the_digits_that_their_uncertainty_leaves(measure, text):
    assert words.full(measure) == text


def test_the_sentence_names_what_the_baselines_did():
    _, evaluation, compared, data = parts_of("two classes")
    assert re.fullmatch(
        r"Right in [\d.]+ % of 150 test rows it had never seen \(flat [\d.]+ %\)\.",
        words.sentence(evaluation, compared, data.target),
    )


# -- progress --------------------------------------------------------------------------------------------------------


class Clock:
    """Time that passes when told to, and while a file of its own is written to."""

    def __init__(self, cost: float):
        self.now, self.cost, self.spent, self.draws = 0.0, cost, 0.0, 0

    def __call__(self):
        return self.now

    def write(self, _):
        self.now += self.cost
        self.spent += self.cost
        self.draws += 1

    def flush(self): ...

    def isatty(self):
        return False


@pytest.mark.parametrize("cost", [1e-4, 0.02, 0.5])
def test_progress_costs_less_than_one_percent_of_the_time_however_slow_a_refresh_is(cost):
    clock = Clock(cost)
    with Progress(10**6, "training", file=clock, clock=clock, cpu=clock) as progress:
        for step in range(60_000):
            clock.now += 0.01
            progress.update(step, train=-1.0)
    assert clock.draws >= 3
    assert clock.spent - 2 * cost <= 0.01 * clock.now  # the first and the last line are always there
    assert clock.draws <= clock.now / 10 + 2  # and no more than one in ten seconds


def test_progress_counts_time_of_the_processor_as_well_as_of_the_clock():
    clock, busy = Clock(0.001), Clock(0.0)

    def processor():
        busy.now += 1.0  # a second a look: rendering threads, say
        return busy.now

    with Progress(10**6, "training", file=clock, clock=clock, cpu=processor) as progress:
        for step in range(30_000):
            clock.now += 0.01
            progress.update(step)
    assert clock.draws <= 300 / 200 + 2


def test_progress_looks_at_values_only_when_it_draws():
    looked = []

    class Value:
        def __float__(self):
            looked.append(1)
            return -0.25

    clock = Clock(0.0)
    with Progress(1000, "training", file=clock, clock=clock, cpu=clock) as progress:
        for step in range(1000):
            clock.now += 0.001
            progress.update(step, train=Value())
    assert len(looked) == clock.draws == 2


def test_progress_has_a_first_and_a_last_line_notes_at_once_and_the_time_left():
    clock, lines = Clock(0.0), io.StringIO()
    with Progress(4000, "fold 1", start=1000, file=lines, clock=clock, cpu=clock) as progress:
        for step in range(1001, 3001):
            clock.now += 1 / 128
            progress.update(step, train=torch.tensor(-0.5), held_out=-0.25 if step == 1500 else None)
            if step == 1700:
                progress.update(step, note="replica 3 diverged")
    first, note, middle, last = lines.getvalue().splitlines()
    assert first == "fold 1 1,001/4,000 · train -0.500 nats per row"
    assert note == "replica 3 diverged"
    assert middle == "fold 1 2,281/4,000 · train -0.500 · held out -0.250 nats per row · 13 s left"
    assert last == "fold 1 3,000/4,000 · train -0.500 · held out -0.250 nats per row · 7.8 s left"


def test_progress_on_a_terminal_redraws_one_line_of_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    screen, clock = Terminal(), Clock(0.0)
    with Progress(12_000, "training", file=screen, clock=clock, cpu=clock) as progress:
        for step in range(12_001):
            clock.now += 0.001
            progress.update(step, train=-0.41237, held_out=-0.4312, note="[odd] note" if step == 6000 else None)
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, frames)) <= 80
    assert "[odd] note" in [frame.strip() for frame in frames]
    assert 20 < sum("12000" in frame for frame in frames) < 300
    assert "12000/12000 train -0.412 · held out -0.431 nats/row done in 12 s" in frames[-1]


# -- the graph -------------------------------------------------------------------------------------------------------


class Loop(nn.Module):
    """A layer used as often as its input says, a skip, and a parameter nothing uses."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.skip = nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 1)
        self.idle = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        h = torch.relu_(self.first(x))
        for _ in range(3 if h.sum() >= 0 else 1):
            h = torch.tanh(self.again(h))
        return h.sum(1, keepdim=True) + self.skip(x)


def labels(made: graph.Graph, kind: str) -> list[str]:
    return sorted(line for node in made.nodes if node.kind == kind for line in node.lines)


def test_the_graph_has_the_parameters_by_name_and_shape_and_a_shared_one_once():
    made = graph.trace(Loop(), torch.ones(2, 4))
    assert labels(made, "parameter") == [
        "again.weight (4, 4)", "first.bias (4)", "first.weight (4, 4)", "skip.bias (1)", "skip.weight (1, 4)",
    ]  # fmt: skip
    assert labels(made, "input") == ["input (2, 4)"]
    assert labels(made, "output") == ["(2, 1)", "output"]
    shared = next(i for i, node in enumerate(made.nodes) if node.lines == ("again.weight (4, 4)",))
    assert sum(a == shared for a, _ in made.edges) == 3
    operations = [node.lines[0] for node in made.nodes if node.kind == "operation"]
    assert operations.count("tanh") == 3
    assert not {"t", "accumulate grad"} & set(operations)


def test_edges_run_downwards_from_every_parameter_to_the_output():
    made = graph.trace(Loop(), torch.ones(2, 4))
    layer = layers(len(made.nodes), made.edges)
    assert all(layer[a] < layer[b] for a, b in made.edges)
    reached = {next(i for i, node in enumerate(made.nodes) if node.kind == "output")}
    for a, b in sorted(made.edges, key=lambda e: -layer[e[1]]):
        if b in reached:
            reached.add(a)
    assert reached == set(range(len(made.nodes)))


class Block(nn.Module):
    """A residual block with everything that remembers: a running mean and dropout."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(0.5)

    def forward(self, h):
        return torch.relu(h + self.drop(self.norm(self.conv(h))))


def test_the_network_and_the_random_state_are_not_touched():
    net = nn.Sequential(Block(2), Block(2).eval(), nn.Flatten(), nn.Linear(32, 2)).train()
    net[3].weight.requires_grad_(False)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    modes, needs = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    state, x = torch.get_rng_state(), torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    made = graph.trace(net, x)
    assert "3.weight (2, 32)" in labels(made, "parameter")  # frozen, and in the graph all the same
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == needs
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert not x.requires_grad


def test_boxes_do_not_overlap_and_a_few_hundred_are_drawn():
    made = graph.trace(nn.Sequential(*(Block(2) for _ in range(40))), torch.zeros(2, 2, 4, 4))
    assert len(made.nodes) > 200
    centres, chains, (width, height) = graph._place(made)
    boxes = [(x, y, *node.size) for (x, y), node in zip(centres, made.nodes, strict=True)]
    for i, (x, y, w, h) in enumerate(boxes):
        assert 0 <= x - w / 2 <= x + w / 2 <= width
        assert 0 <= y - h / 2 <= y + h / 2 <= height
        assert all(abs(x - u) >= (w + v) / 2 - 1e-6 or abs(y - z) >= (h + t) / 2 - 1e-6 for u, z, v, t in boxes[:i])
    assert all(b[1] > a[1] for chain in chains for a, b in pairwise(chain))


def test_the_picture_is_well_formed_and_written_whole(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 2)

        def forward(self, x):
            h = self.embed(x["word"]).mean(1) * x["scale"]
            return {"<mean>": self.head(h), "norm": h.norm()}

    x = {"word": torch.tensor([[0, 1], [2, 3]]), "scale": torch.ones(2, 1)}
    path = graph.write_graph(tmp_path / "graph.svg", Two(), x)
    root = ET.fromstring(path.read_text("utf-8"))
    texts = {t.text for t in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"output <mean>", "output norm", "input scale (2, 1)", "embed.weight (5, 3)", "head.weight (2, 3)"} <= texts
    assert [p.name for p in tmp_path.iterdir()] == ["graph.svg"]


def test_a_forward_without_a_gradient_is_refused_with_the_reason():
    class Hard(nn.Linear):
        def forward(self, x):
            return super().forward(x).argmax(1)

    with pytest.raises(ModelError, match="argmax"):
        graph.trace(Hard(2, 2), torch.zeros(1, 2))
