"""Pages whose blocks are run, and what they print beside what they say is printed."""

import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from kokkiri.cli.main import main

FENCE = re.compile(
    r"^(<!-- not run[^\n]*\n)?```(python|console)\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


def run_page(page: Path, folder: Path) -> list[tuple[str, str, str]]:
    """Code, what the page says it prints, and what it printed in this folder; of each block in its turn."""
    names, blocks = {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for skipped, language, code, text in FENCE.findall(page.read_text("utf-8")):
            if skipped:
                continue
            with redirect_stdout(io.StringIO()) as printed:
                if language == "python":
                    exec(compile(code, str(page), "exec"), names)
                else:
                    assert [main(shlex.split(line[2:])[1:]) for line in code.splitlines()] == [0] * code.count("\n")
            blocks.append((code, text, printed.getvalue()))
    return blocks
