"""Copies the lines that pages quote from benchmarks/results into them.  python benchmarks/quote.py

A page says `<!-- from benchmarks/results/NAME.md -->` above a table or a text block; a table's rows are taken anew by
their first cell, a line of text by its first word.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUOTE = re.compile(r"<!-- from (benchmarks/results/\S+) -->\n((?:.+\n)+)")


def head(line):
    return line.split("|")[1].strip() if line.startswith("|") else line.split(" ")[0]


def fresh(found):
    now = {head(line): line for line in (ROOT / found[1]).read_text("utf-8").splitlines() if line.strip()}
    lines = [line if line.startswith(("```", "|---")) else now.get(head(line), line) for line in found[2].splitlines()]
    return f"<!-- from {found[1]} -->\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text("utf-8")
        page.write_text(QUOTE.sub(fresh, text), "utf-8")
