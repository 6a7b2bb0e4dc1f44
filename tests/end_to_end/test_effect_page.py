"""The page of an effect: all its parts, warnings on top, nothing from elsewhere, nothing of the user's unescaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from kokkiri.causal.effect import Effect
from kokkiri.causal.quantities import Curve
from kokkiri.cli.main import main
from kokkiri.effects import do
from kokkiri.errors import OutputError
from kokkiri.numerics.random import philox
from kokkiri.report.effect import group_rows, html, sentence

GRAPH = "size -> {treatment, recovered}; treatment -> recovered"


@cache
def stones() -> Effect:
    return do("kidney-stones", {"treatment": "A"}, versus={"treatment": "B"}, graph=GRAPH, estimand=("group", "size"))


def numbers(n: int = 400, spread: float = 10.0) -> dict[str, np.ndarray]:
    rng = philox(0, "page")
    age, sex = rng.normal(50, 10, n), rng.integers(0, 2, n)
    t = rng.random(n) < 1 / (1 + np.exp(-(age - 50) / spread))
    y = 0.05 * age + t + 0.3 * sex + rng.normal(size=n)
    return {"age": age, "sex": np.where(sex, "m", "f"), "statin": np.where(t, "yes", "no"), "ldl": y}


@cache
def statin(spread: float = 10.0) -> Effect:
    return do(numbers(spread=spread), {"statin": "yes"}, versus={"statin": "no"}, outcome="ldl", adjust=("age", "sex"),
              method="linear")  # fmt: skip


@cache
def dose() -> Effect:
    data = numbers()
    data["dose"] = data["age"] / 10 + philox(1, "dose").normal(size=400)
    return do(data, {"dose": 6}, versus={"dose": 4}, outcome="ldl", adjust="age", method="linear")


@cache
def instrument() -> Effect:
    rng = philox(2, "instrument")
    z, u = rng.normal(size=400), rng.normal(size=400)
    d = z + u + rng.normal(size=400)
    data = {"z": z, "d": d, "y": d + 2 * u + rng.normal(size=400)}
    return do(data, {"d": 1}, versus={"d": 0}, outcome="y", graph="z -> d; d -> y; d <-> y", method="instrument")


class Page(HTMLParser):
    """Tags that are open, headings, and links to elsewhere."""

    VOID = frozenset(("meta", "br", "path", "rect", "use", "line", "circle"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        for name in ("src", "href", "xlink:href"):
            if name in values and not str(values[name]).startswith("#"):
                self.wrong.append(f"{tag} {name}={values[name]}")
        if tag in {"script", "link", "img", "iframe"}:
            self.wrong.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.wrong.append(f"</{tag}> in {self.open[-3:]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"h1", "h2"}:
            self.headings.append(data.strip())


@pytest.mark.parametrize("make", [stones, statin, dose, instrument])
def test_every_page_stands_alone_and_has_its_parts(make: Callable[[], Effect]):
    effect = make()
    text = html(effect)
    page = Page(text)
    assert not page.wrong
    assert not page.open
    assert len(text) < 400_000
    for heading in ("What was asked", "Seen, and done", "An attempt to break it", "What nobody measured",
                    "What is assumed, and cannot be tested", "Where this comes from"):  # fmt: skip
        assert heading in page.headings
    assert ("Are they alike?" in page.headings) == (make in {stones, statin, dose})
    assert ("Overlap is not measured, since dose is a number" in text) == (make is dose)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_the_page_of_kidney_stones_says_what_was_seen_and_what_doing_does():
    text = html(stones(), command="kokkiri do kidney-stones --out effect.html")
    for part in ("0.7768", "0.8220", "−0.0452", "0.8267", "0.7752", "0.0515", "−0.0141 to 0.1179", "Σ<sub>size</sub>",
                 "P(recovered = yes | do(treatment))", "size = small", "kokkiri do kidney-stones --out effect.html",
                 "Why the formula is the effect", "Balanced: 1 covariate", "placebo treatment"):  # fmt: skip
        assert part in text, part
    assert "whether it does at all is open" in text


def test_an_association_is_never_called_an_effect():
    text = html(stones())
    before = text[: text.index("−0.0452")]
    assert "seen: no effect" in before or "which is no effect" in text[text.index("−0.0452") :][:200]


def test_warnings_stand_above_the_numbers():
    good, bad = html(statin()), html(statin(spread=2.0))
    assert "Mind this" not in good
    assert bad.index("Mind this") < bad.index('class="figures"')
    assert "Bad overlap" in bad[bad.index("Mind this") : bad.index('class="figures"')]


def test_a_convicted_estimate_says_so_first():
    effect = statin()
    narrow = replace(effect, law=None, means=effect.means.mean(0) + (effect.means - effect.means.mean(0)) / 4)
    text = html(narrow)
    assert "Convicted by" in text[: text.index('class="figures"')]
    assert 'class="convicted"' in text


def test_a_number_that_nobody_should_trust_is_not_a_plain_headline():
    """Whoever reads one line only must not miss it."""
    good, bad = (html(statin(spread=spread)) for spread in (10.0, 2.0))
    assert "Do not trust this number" not in good
    assert "Do not trust this number" in bad[: bad.index("</h1>")]


def test_whose_effect_it_is_stands_in_the_sentence_and_beside_the_formula():
    data = numbers(200)
    data["statin"] = (data["statin"] == "yes").astype(int)
    effect = do(data, "statin", outcome="ldl", adjust=("age",), method="linear", estimand="treated")
    text = html(effect)
    assert "among rows that had statin = 1" in text
    assert "among those who had statin = 1: P(age | statin = 1) in place of P(age)" in text


def test_a_curve_along_a_column_is_on_the_page():
    effect = statin()
    values = torch.linspace(40.0, 70.0, 7, dtype=torch.float64)
    noise = torch.randn(200, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    text = html(replace(effect, along=("age", Curve(values, noise + values / 10))))
    assert "<h3>Along age</h3>" in text
    assert "Along age" not in html(effect)


def test_no_group_is_certain():
    groups = tuple(g._replace(means=g.means * 0 + torch.tensor([1.0, 0.0]), law=None) for g in stones().groups)
    assert [row[-1] for row in group_rows(replace(stones(), groups=groups), 0.95)] == ["> 0.9999"] * 2


def test_why_an_effect_has_no_replicates_is_told_with_what_it_needs():
    assert "It needs the rows that it was computed from." in html(replace(statin(), sample=None))


def test_rounding_is_no_finding_of_a_refuter():
    """Noise moves a front door by nothing: a spread of 5e-17 is none."""
    rng = philox(3, "front door")
    u, d = rng.random(500) < 0.5, rng.random((3, 500))
    smoking = d[0] < 0.2 + 0.6 * u
    tar = d[1] < 0.1 + 0.7 * smoking
    people = {"smoking": smoking, "tar": tar, "cancer": d[2] < 0.1 + 0.4 * tar + 0.4 * u}
    effect = do(people, "smoking", outcome="cancer", graph="smoking -> tar -> cancer; smoking <-> cancer")
    table = str(effect.refute(("cause",), simulations=20))
    assert re.search(r"0\.\d+ ± 0\.0+ ", table), table


def test_a_caption_describes_what_is_drawn():
    assert instrument().curve is not None
    assert instrument().curve.seen is None
    assert "Dashed: what was seen" not in html(instrument())


def test_pictures_have_the_intervals_of_the_tables():
    text, usual = html(stones(), level=0.5), html(stones())
    assert "on recovered, 50 % intervals" in text
    shaded = lambda page: page[page.index("The posterior of the effect") :].split("FillBetween")[1][:2000]
    assert shaded(text) != shaded(usual)


def test_the_legend_of_a_posterior_covers_no_curve():
    """It stands above the axes, wherever the curves are."""
    svg = statin().picture()
    top = float(re.findall(r'<clipPath[^>]*>\s*<rect [^>]*y="([\d.]+)"', svg)[0])
    names = re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>(?:goes along: no effect|effect)<', svg)
    assert len(names) == 2
    assert max(map(float, names)) < top


def test_names_of_the_user_are_escaped():
    data = {k.replace("statin", "<b>pill</b>"): v for k, v in numbers(200).items()}
    text = html(
        do(data, {"<b>pill</b>": "yes"}, versus={"<b>pill</b>": "no"}, outcome="ldl", adjust=("age",), method="linear")
    )
    assert "<b>pill" not in text
    assert not Page(text).wrong


def test_effects_that_keep_no_rows_say_so():
    text = html(replace(statin(), sample=None))
    assert "This effect cannot be refuted: the effect does not keep its rows" in text
    assert "no measure of hidden common causes applies" in text.lower()


def test_the_sentence_says_which_way_and_how_far():
    assert sentence(statin()).startswith("Setting statin to yes rather than no raises the mean of ldl by")
    turned = statin().contrast("no", "yes")
    assert sentence(turned).startswith("Setting statin to no rather than yes lowers the mean of ldl by")


def test_an_effect_writes_its_page(tmp_path: Path):
    path = statin().report(tmp_path / "effect.html")
    assert path.read_text("utf-8").startswith("<!doctype html>")
    with pytest.raises(OutputError):
        statin().report(path / "effect.html")


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "effect.html"
    assert main(["do", "kidney-stones", "--graph", GRAPH, "--out", str(path)]) == 0
    assert "0.0515" in path.read_text("utf-8")
    assert str(path) in capsys.readouterr().err
