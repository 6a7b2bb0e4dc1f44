"""Copies the lines that pages quote from benchmarks/results into them.  python benchmarks/quote.py

A page says `<!-- from benchmarks/results/NAME.md -->` above a table or a text block. Rows are taken anew from the
table of that file with the same head and the most of these rows, the last of equals, by their first cell, or where
several begin alike by their first two; a line of text by its first word.
"""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUOTE = re.compile(r"<!-- from (benchmarks/results/\S+) -->\n((?:.+\n)+)")


def cells(line, n):
    return tuple(c.strip() for c in line.split("|")[1 : 1 + n]) if line.startswith("|") else line.split(" ")[0]


def lines_like(quoted, text):
    """Those of the table with this head and most of these rows; of a text, all."""
    tables = [t.splitlines() for t in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)]
    alike = [t for t in tables if cells(t[0], 99) == cells(quoted[0], 99)]
    shared = lambda table: len({cells(line, 1) for line in table} & {cells(line, 1) for line in quoted})
    best = max(alike[::-1], key=shared, default=None)
    return best or [line for line in text.splitlines() if line.strip()]


def fresh(found):
    quoted = found[2].splitlines()
    lines = lines_like(quoted, (ROOT / found[1]).read_text("utf-8"))
    often = Counter(cells(line, 1) for line in lines)
    key = lambda line: cells(line, 2 if often[cells(line, 1)] > 1 else 1)
    now = {key(line): line for line in lines}
    kept = [line if re.match(r"```|\| ?---", line) else now.get(key(line), line) for line in quoted]
    return f"<!-- from {found[1]} -->\n" + "\n".join(kept) + "\n"


if __name__ == "__main__":
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text("utf-8")
        page.write_text(QUOTE.sub(fresh, text), "utf-8")
