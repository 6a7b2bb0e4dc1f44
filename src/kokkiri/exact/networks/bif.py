"""Bayesian networks from .bif files and into them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kokkiri.errors import DataError, FormatError, GraphError, OutputError, Unsupported, nearest
from kokkiri.exact.networks.bif_text import Declared, Head, Row, error, parse, twice
from kokkiri.exact.networks.network import BayesianNetwork
from kokkiri.exact.networks.structure import Structure, Variable
from kokkiri.exact.networks.tables import SUM
from kokkiri.phrases import count

EMBEDDED = ("alarm", "asia")
ROUNDED = 2e-3  # what a file gives as 0.333 three times is a third


def read_network(what: str | Path) -> BayesianNetwork:
    """A network from a .bif file, or one that comes along: "asia" or "alarm".

    >>> read_network("asia")
    BayesianNetwork(asia: 8 variables, 8 arrows, 36 probabilities)
    """
    path = Path(what)
    if str(what) in EMBEDDED and not path.is_file():
        text = (resources.files("kokkiri.exact.networks") / f"{what}.bif").read_text(encoding="utf-8")
        return from_bif(text, str(what))
    if not path.is_file():
        here = sorted(p.name for p in Path().iterdir() if p.suffix == ".bif")
        raise DataError(
            f"{path} is no file" if path.exists() else f"there is no network '{what}'",
            needs=f"a .bif file, or one of {', '.join(EMBEDDED)}",
            found="a folder" if path.is_dir() else "no file of that name", fix=nearest(str(what), [*here, *EMBEDDED]),
        )  # fmt: skip
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise FormatError(
            f"{path} is not text in UTF-8", needs="a .bif file",
            found=f"byte {content[wrong.start]:#x} at {wrong.start:,}", fix="save it as UTF-8",
        ) from None  # fmt: skip
    return from_bif(text, str(path))


def write_network(network: BayesianNetwork, path: str | Path) -> Path:
    """Writes a .bif file, whole or not at all: read again, it is the same network to the last bit."""
    path, text = Path(path), to_bif(network)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as wrong:
        raise OutputError(f"cannot write {path}", needs="a folder that may be written",
                          found=wrong.strerror or str(wrong), fix="choose another place") from None  # fmt: skip
    return path


def to_bif(network: BayesianNetwork) -> str:
    """A network as text: as many digits as are needed, up to 17.

    >>> print(to_bif(from_bif("variable a { type discrete [ 2 ] { yes, no }; } probability ( a ) { table 0.1 0.9; }")))
    network unknown {
    }
    variable a {
      type discrete [ 2 ] { yes, no };
    }
    probability ( a ) {
      table 0.1, 0.9;
    }
    <BLANKLINE>
    """
    lines = [f"network {_word(network.name)} {{", "}"]
    for v in network.structure.variables:
        states = ", ".join(map(_word, v.states))
        lines += [f"variable {_word(v.name)} {{", f"  type discrete [ {len(v.states)} ] {{ {states} }};", "}"]
    by_name = {v.name: v for v in network.structure.variables}
    for v in network.structure.variables:
        given = f" | {', '.join(map(_word, v.parents))}" if v.parents else ""
        lines.append(f"probability ( {_word(v.name)}{given} ) {{")
        settings = product(*(by_name[p].states for p in v.parents))
        for setting, row in zip(settings, network.tables[v.name].reshape(-1, len(v.states)).tolist(), strict=True):
            head = f"({', '.join(map(_word, setting))})" if v.parents else "table"
            lines.append(f"  {head} {', '.join(map(repr, row))};")
        lines.append("}")
    return "\n".join(lines) + "\n"


def from_bif(text: str, source: str = "the text") -> BayesianNetwork:
    """A network out of the text of a .bif file; `source`: what errors call it.

    Rows that add up to one but for rounding in the third decimal are divided by their sum, and a note says so. Raises
    FormatError with the number of the line, GraphError with the cycle.
    """
    found = parse(text, source)
    variables = {v.name.text: v for v in reversed(found.variables)}  # the first of two
    variables = {v.name.text: variables[v.name.text] for v in found.variables}
    if again := twice(v.name for v in found.variables):
        raise error(source, again.line, f"the variable '{again.text}' is there twice", "names that differ",
                    f"the first in line {variables[again.text].name.line}", "take one of them out")  # fmt: skip
    heads = {h.child.text: h for h in reversed(found.heads)}
    if again := twice(h.child for h in found.heads):
        raise error(source, again.line, f"'{again.text}' has two tables", "one for each variable",
                    f"the first in line {heads[again.text].child.line}", "take one of them out")  # fmt: skip
    for head in found.heads:
        for token in (head.child, *head.parents):
            if token.text not in variables:
                raise error(source, token.line, f"there is no variable '{token.text}'", "variables that are declared",
                            f"'{token.text}' in probability ( … )", nearest(token.text, variables))  # fmt: skip
    for v in found.variables:
        if v.name.text not in heads:
            raise error(source, v.name.line, f"'{v.name.text}' has no table", f"probability ( {v.name.text} ) {{ … }}",
                        f"{count(len(heads), 'table')} for {count(len(variables), 'variable')}", "add it")  # fmt: skip
    try:
        structure = Structure(tuple(
            Variable(n, tuple(t.text for t in v.states), tuple(t.text for t in heads[n].parents))
            for n, v in variables.items()
        ))  # fmt: skip
    except GraphError as wrong:
        raise type(wrong)(f"{source}: {wrong.what}", needs=wrong.needs, found=wrong.found, fix=wrong.fix) from None
    tables: dict[str, Tensor] = {}
    worst, where = 0.0, ""
    for name, head in heads.items():
        table, off = _table(head, variables, source)
        tables[name] = table
        if off > worst:
            worst, where = off, name
    notes = ()
    if worst > SUM:
        notes = (f"{source}: rows that add up to one but for {worst:.1g} ('{where}') are divided by their sum",)
    name = (
        found.name if found.name.lower() not in {"", "unknown"} else Path(source).stem if source != "the text" else ""
    )
    return BayesianNetwork(structure, tables, name or "unknown", notes)


def _table(head: Head, variables: Mapping[str, Declared], source: str) -> tuple[Tensor, float]:
    """The table of one variable, and how far from one the worst sum of a row was."""
    name, own = head.child.text, variables[head.child.text].states
    above = [variables[p.text] for p in head.parents]
    shape = tuple(len(p.states) for p in above)
    codes = [{s.text: k for k, s in enumerate(p.states)} for p in above]
    table = np.full((*shape, len(own)), math.nan)
    line = np.full(shape, head.child.line)
    filled: dict[tuple[int, ...], Row] = {}
    default: Row | None = None
    for row in head.rows:
        expect = table.size if row.kind == "table" else len(own)
        if len(row.numbers) != expect:
            raise error(
                source, row.line, f"{count(len(row.numbers), 'number')} for '{name}', not {expect}",
                f"one for each of {', '.join(s.text for s in own)}" + (
                    f", for {count(table.size // len(own), 'setting')} of the parents" if row.kind == "table" else ""),
                " ".join(f"{v:g}" for v in row.numbers)[:70] or "none", "numbers stand before the semicolon",
            )  # fmt: skip
        if row.kind == "table":
            table[...] = np.moveaxis(np.array(row.numbers).reshape(len(own), *shape), 0, -1)
            line[...] = row.line
        elif row.kind == "default":
            default = row
        else:
            at = _setting(row, head, codes, source)
            if at in filled:
                raise error(source, row.line, f"'{name}' has two rows for one setting", "one row for each setting",
                            f"the first in line {filled[at].line}", "take one of them out")  # fmt: skip
            filled[at], table[at], line[at] = row, row.numbers, row.line
    missing = np.isnan(table).all(-1)
    if default is not None:
        table[missing], line[missing] = default.numbers, default.line
    elif missing.any():
        at = tuple(np.argwhere(missing)[0])
        setting = ", ".join(p.states[k].text for p, k in zip(above, at, strict=True))
        raise error(
            source, head.child.line, f"'{name}' has no numbers" + (f" for ({setting})" if above else ""),
            f"a row for each of {count(missing.size, 'setting')} of the parents" if above else "table p1, p2, …;",
            f"{int((~missing).sum())} of them", f"({setting}) p1, p2, …;" if above else "add them",
        )  # fmt: skip
    return _adding_up(name, table, line, source)


def _setting(row: Row, head: Head, codes: list[dict[str, int]], source: str) -> tuple[int, ...]:
    if len(row.setting) != len(head.parents):
        raise error(source, row.line, f"({', '.join(t.text for t in row.setting)}) is no setting of the parents",
                    f"a state of each of {', '.join(p.text for p in head.parents) or 'no parents'}",
                    count(len(row.setting), "name"), "in the order of the head")  # fmt: skip
    at = []
    for token, parent, known in zip(row.setting, head.parents, codes, strict=True):
        if token.text not in known:
            raise error(source, token.line, f"'{parent.text}' has no state '{token.text}'", "states that are declared",
                        f"({', '.join(t.text for t in row.setting)})", nearest(token.text, known))  # fmt: skip
        at.append(known[token.text])
    return tuple(at)


def _adding_up(name: str, table: np.ndarray, line: np.ndarray, source: str) -> tuple[Tensor, float]:
    outside = ~((table >= 0) & (table <= 1 + ROUNDED))
    if outside.any():
        at = tuple(np.argwhere(outside)[0])
        raise error(source, int(line[at[:-1]]), f"a probability of '{name}' cannot be {table[at]:g}",
                    "a probability, from 0 to 1", f"{table[at]:g}", "look for a sign or a decimal point")  # fmt: skip
    total = table.sum(-1, keepdims=True)
    off = np.abs(total - 1)
    if off.max() > ROUNDED:
        at = tuple(np.argwhere(off[..., 0] > ROUNDED)[0])
        raise error(source, int(line[at]), f"a row of '{name}' adds up to {total[at][0]:.6g}",
                    "probabilities that add up to 1", ", ".join(f"{v:g}" for v in table[at])[:70],
                    ", ".join(f"{v:.4g}" for v in table[at] / total[at])[:70] if total[at][0] > 0
                    else "one of them must be possible")  # fmt: skip
    worst = float(off.max())
    return torch.from_numpy(table / total if worst > SUM else table), worst


def _word(name: str) -> str:
    """A name as a .bif file can hold it: in quotation marks where it has signs that mean something."""
    if '"' in name or "\n" in name or name != name.strip():
        raise Unsupported(
            f"a .bif file cannot hold the name {name!r}", needs="no quotation marks, line ends, outer spaces",
            found=repr(name), fix="rename it",
        )  # fmt: skip
    plain = name and not set(name) & set('{}()[];,|"') and not any(c.isspace() for c in name)
    return name if plain and not name.startswith(("//", "/*")) else f'"{name}"'
