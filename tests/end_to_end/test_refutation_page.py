"""What docs/refutation.md says is printed is printed, and its pictures are those that its code draws."""

import re
from pathlib import Path

import pytest
from printed_pages import run_page

DOCS = Path(__file__).parents[2] / "docs"


def rounded(text):
    """Numbers to two digits: the last ones depend on the machine."""
    return re.sub(r"\d[\d,]*\.?\d*", lambda m: f"{float(m[0].replace(',', '')):.2g}", text).strip()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder in which each block of the page wrote, and what it printed."""
    folder = tmp_path_factory.mktemp("page")
    return folder, run_page(DOCS / "refutation.md", folder)


def test_every_output_on_the_page_is_what_its_code_prints(page):
    _, blocks = page
    assert len(blocks) >= 7
    for code, text, printed in blocks:
        assert rounded(printed) == rounded(text), code
        assert all(len(line) <= 80 for line in printed.splitlines())


def test_the_pictures_on_the_page_are_those_that_its_code_writes(page):
    folder, _ = page
    names = re.findall(r"\]\(pictures/(\w+\.svg)\)", (DOCS / "refutation.md").read_text("utf-8"))
    assert len(names) == 4
    words = lambda svg: re.findall(r"<text[^>]*>([^<]+)<", svg)
    for name in names:
        drawn, kept = ((at / name).read_text("utf-8") for at in (folder / "pictures", DOCS / "pictures"))
        assert words(drawn) == words(kept)
        assert drawn.count("<use") == kept.count("<use")
