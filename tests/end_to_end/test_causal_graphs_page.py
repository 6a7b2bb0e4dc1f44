"""What docs/causal-graphs.md says is printed is printed, and its picture is the one that its code draws."""

import re
from pathlib import Path

import pytest
from printed_pages import run_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/causal-graphs.md"


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
    assert len(blocks) >= 10
    for code, text, printed in blocks:
        assert without_rounding(printed) == without_rounding(text), code


def test_the_picture_on_the_page_is_the_one_that_its_code_writes(page):
    folder, _ = page
    written = (folder / "causal-graphs.svg").read_text("utf-8")
    assert written == (ROOT / "docs/pictures/causal-graphs.svg").read_text("utf-8")
