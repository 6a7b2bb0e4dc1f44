"""What docs/effects.md says is printed is printed, and its pictures are those that its commands draw."""

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from kokkiri.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/effects.md"
FENCE = re.compile(
    r"^(<!-- not run[^\n]*\n)?```(python|console)\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


def without_rounding(text):
    """The last digits of a check depend on the machine."""
    return re.sub(r", to \de-\d+", ", to ...", text).strip()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """What each block of the page printed, and the folder in which it wrote."""
    folder, names, blocks = tmp_path_factory.mktemp("page"), {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for skipped, language, code, text in FENCE.findall(PAGE.read_text("utf-8")):
            if skipped:
                continue
            with redirect_stdout(io.StringIO()) as printed:
                if language == "python":
                    exec(compile(code, str(PAGE), "exec"), names)
                else:
                    assert [main(shlex.split(line[2:])[1:]) for line in code.splitlines()] == [0] * code.count("\n")
            blocks.append((code, text, printed.getvalue()))
    return folder, blocks


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
