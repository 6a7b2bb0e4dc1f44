"""What docs/causal-graphs.md says is printed is printed, and its picture is the one that its code draws."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/causal-graphs.md"
FENCE = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def without_rounding(text):
    """The last digits of a check depend on the machine."""
    return re.sub(r", to \de-\d+", ", to ...", text).strip()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What each block of the page printed, and the folder in which it wrote."""
    folder, names, blocks = tmp_path_factory.mktemp("page"), {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for code, text in FENCE.findall(PAGE.read_text("utf-8")):
            with redirect_stdout(io.StringIO()) as printed:
                exec(compile(code, str(PAGE), "exec"), names)
            blocks.append((code, text, printed.getvalue()))
    return folder, blocks


def test_every_output_on_the_page_is_what_its_code_prints(page):
    _, blocks = page
    assert len(blocks) >= 10
    for code, text, printed in blocks:
        assert without_rounding(printed) == without_rounding(text), code


def test_the_picture_on_the_page_is_the_one_that_its_code_writes(page):
    folder, _ = page
    written = (folder / "causal-graphs.svg").read_text("utf-8")
    assert written == (ROOT / "docs/pictures/causal-graphs.svg").read_text("utf-8")
