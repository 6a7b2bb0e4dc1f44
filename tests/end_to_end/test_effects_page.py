"""What docs/effects.md says is printed is printed, and its pictures are those that its commands draw."""

import re
from pathlib import Path

import pytest
from printed_pages import run_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/effects.md"


def without_rounding(text):
    """The last digits of a check depend on the machine."""
    return re.sub(r", to \de-\d+", ", to ...", text).strip()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder in which each block of the page wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("page")
    return folder, run_page(PAGE, folder)


def test_every_output_on_the_page_is_what_its_code_prints(page):
    _, blocks = page
    shown = [(code, text, printed) for code, text, printed in blocks if text]
    assert len(shown) >= 6
    for code, text, printed in shown:
        assert without_rounding(printed) == without_rounding(text), code


def test_the_pictures_on_the_page_are_those_that_its_commands_draw(page):
    folder, _ = page
    for name in ("kidney-stones.svg", "height.svg"):
        drawn, kept = ((place / "pictures" / name).read_text("utf-8") for place in (folder, ROOT / "docs"))
        shape = lambda svg: (re.findall(r"<text[^>]*>([^<]*)<", svg), svg.count("<path"))
        assert shape(drawn) == shape(kept)
