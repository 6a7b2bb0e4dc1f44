"""The graph that automatic differentiation built during one forward pass, as a picture.

Operations stand in layers by their longest path from the inputs (`numerics.layout`).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.errors import ModelError
from kokkiri.numerics.layout import Placed, curve, place
from kokkiri.training.checkpoints import write_atomically

# What only shows a tensor in another shape: a parameter, or an input, seen through it is still itself.
VIEWS = {
    "Alias", "Clone", "Expand", "Permute", "ReshapeAlias", "Squeeze", "T", "ToCopy", "Transpose", "UnsafeView",
    "Unsqueeze", "View",
}  # fmt: skip
NAMES = {"addmm": "linear", "mm": "matrix product", "bmm": "matrix products"}  # torch's name beside the textbook's
LETTER, LINE, PAD = 6.9, 17, 10  # pixels at 12 px type


@dataclass(frozen=True)
class Node:
    """A box: its lines of text, and whether it is an "input", "parameter", "operation" or "output"."""

    lines: tuple[str, ...]
    kind: str

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in pixels."""
        return max(map(len, self.lines)) * LETTER + 2 * PAD, len(self.lines) * LINE + PAD


@dataclass(frozen=True)
class Graph:
    """Boxes and arrows (from, to) between them, numbered as in `nodes`."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]


def graph_svg(network: nn.Module, x: Any) -> str:
    """The autograd graph of `network(x)` as the text of an SVG: x a tensor, or a tuple or dict of tensors.

    A copy of the network runs, in the mode the network is in, on random numbers of its own: nothing of it is touched.

    >>> svg = graph_svg(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.zeros(4, 2))
    >>> "0.weight (3, 2)" in svg and "relu" in svg
    True
    """
    return draw(trace(network, x))


def write_graph(path: str | Path, network: nn.Module, x: Any) -> Path:
    """`graph_svg` into a file that is there whole or not at all."""
    path = Path(path)
    write_atomically(path, (graph_svg(network, x) + "\n").encode())
    return path


# -- what was computed -----------------------------------------------------------------------------------------------


def trace(network: nn.Module, x: Any) -> Graph:
    """Run a copy of the network once and read the graph from its outputs back to parameters and inputs."""
    network = copy.deepcopy(network)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.grad = None
    for parameter in network.parameters():
        if parameter.is_floating_point():
            parameter.requires_grad_()
    leaves = {name: _leaf(t) for name, t in _tensors(x, "input").items()}
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        # clones: a network may write into what it is given, which torch forbids for leaves
        outputs = _tensors(network(_rebuild(x, iter([t.clone() for t in leaves.values()]))), "output")
    names = {id(p): (name, "parameter") for name, p in network.named_parameters()}
    names |= {id(t): (name, "input") for name, t in leaves.items()}
    return _read({name: t for name, t in outputs.items() if t.grad_fn is not None}, names, type(network).__name__)


def _read(outputs: Mapping[str, Tensor], names: Mapping[int, tuple[str, str]], network: str) -> Graph:
    if not outputs:
        raise ModelError(
            f"{network} built no graph",
            needs="an output that depends on parameters by differentiable steps",
            found="outputs without a gradient",
            fix="look for detach(), argmax or torch.no_grad() in its forward",
        )
    nodes: list[Node] = []
    edges: dict[tuple[int, int], None] = {}
    number: dict[Any, int] = {}
    waiting: list[Any] = []

    def visit(function: Any) -> int:
        """The number of the box of a function, or of the leaf that it merely views."""
        seen = _through_views(function)
        function = seen if _is_leaf(seen) else function
        if function not in number:
            number[function] = len(nodes)
            nodes.append(_node(function, names))
            if not _is_leaf(function):
                waiting.append(function)
        return number[function]

    for name, tensor in outputs.items():
        end = len(nodes)
        nodes.append(Node((name, _shape(tensor.shape)), "output"))
        edges[visit(tensor.grad_fn), end] = None
    while waiting:
        function = waiting.pop()
        seen = _through_views if _operation(function) in VIEWS else lambda f: f  # several views in a row are one box
        edges.update({(visit(seen(f)), number[function]): None for f, _ in function.next_functions if f is not None})
    return _gather_parameters(nodes, list(edges), [name for name, _ in names.values()])


def _through_views(function: Any) -> Any:
    while _operation(function) in VIEWS and function.next_functions[0][0] is not None:
        function = function.next_functions[0][0]
    return function


def _node(function: Any, names: Mapping[int, tuple[str, str]]) -> Node:
    if _is_leaf(function):
        name, kind = names.get(id(function.variable), ("made in forward", "parameter"))
        return Node((f"{name} {_shape(function.variable.shape)}",), kind)
    if _operation(function) in VIEWS and _operation(function.next_functions[0][0]) in VIEWS:
        words = "rearrange"
    else:
        words = _words(_operation(function))
    shape = _shape(function._input_metadata[0].shape)  # ruff: ignore[private-member-access]  # the only door to the shape of a result
    return Node((f"{NAMES[words]} ({words})" if words in NAMES else words, shape), "operation")


def _words(operation: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", operation).lower()
    return re.sub(r"^native | with indices$|(?<=\d) (?=d\b)", "", words)


def _gather_parameters(nodes: list[Node], edges: list[tuple[int, int]], order: list[str]) -> Graph:
    """One box for the parameters of one module that go into the same operation, in the module's order."""
    rank = {name: k for k, name in enumerate(order)}
    goes_to: dict[int, list[int]] = {}
    for a, b in edges:
        goes_to.setdefault(a, []).append(b)
    groups: dict[Any, list[int]] = {}
    for i, node in enumerate(nodes):
        module = node.lines[0].split(" ")[0].rpartition(".")[0]
        key = (module, *sorted(goes_to[i])) if node.kind == "parameter" else i
        groups.setdefault(key, []).append(i)
    new = {i: k for k, members in enumerate(groups.values()) for i in members}
    merged = []
    for members in groups.values():
        members.sort(key=lambda i: rank.get(nodes[i].lines[0].split(" ")[0], -1))
        merged.append(replace(nodes[members[0]], lines=tuple(line for i in members for line in nodes[i].lines)))
    return Graph(tuple(merged), tuple(dict.fromkeys((new[a], new[b]) for a, b in edges)))


def _operation(function: Any) -> str:
    return re.sub(r"(Backward)\d*$", "", function.name().rpartition("::")[2])


def _is_leaf(function: Any) -> bool:
    return _operation(function) == "AccumulateGrad"


def _shape(shape: Iterable[int]) -> str:
    return "(" + ", ".join(str(int(n)) for n in shape) + ")"


def _leaf(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().clone()
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def _tensors(tree: Any, name: str) -> dict[str, Tensor]:
    """The tensors of nested tuples, lists and dicts by a path: "input", "input 0", "input mask"."""
    if isinstance(tree, Tensor):
        return {name: tree}
    items = tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, (tuple, list)) else ()
    return {path: t for k, v in items for path, t in _tensors(v, f"{name} {k}").items()}


def _rebuild(tree: Any, tensors: Any) -> Any:
    if isinstance(tree, Tensor):
        return next(tensors)
    if isinstance(tree, Mapping):
        return {k: _rebuild(v, tensors) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = [_rebuild(v, tensors) for v in tree]
        return type(tree)(*parts) if isinstance(tree, tuple) and type(tree) is not tuple else type(tree)(parts)
    return tree


# -- how it looks ----------------------------------------------------------------------------------------------------

STYLE = """
.kk-graph{font:12px system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;color:#23272e}
.kk-graph text{fill:currentColor;text-anchor:middle}.kk-graph .shape{opacity:.62}
.kk-graph path{fill:none;stroke:currentColor;stroke-opacity:.45;stroke-width:1.2}
.kk-graph marker path{fill:currentColor;fill-opacity:.6;stroke:none}
.kk-graph rect{stroke-width:1.2;fill-opacity:.16;stroke-opacity:.75}
.kk-graph .operation rect{fill:#7d8590;stroke:#7d8590}.kk-graph .parameter rect{fill:#c98500;stroke:#c98500}
.kk-graph .input rect{fill:#2f7fd1;stroke:#2f7fd1}.kk-graph .output rect{fill:#2d9d63;stroke:#2d9d63}
@media (prefers-color-scheme:dark){.kk-graph{color:#e3e6ea}}
"""

HEAD = """<svg class="kk-graph" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}"
 role="img" aria-label="graph of one forward pass"><style>{style}</style>
<defs><marker id="kk-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L8 4L0 8z"/></marker></defs>"""


def _place(graph: Graph) -> Placed:
    # the way of the data runs straight; parameters make room for it
    weights = [0.02 if node.kind == "parameter" else 1.0 for node in graph.nodes]
    return place([node.size for node in graph.nodes], graph.edges, weights)


def draw(graph: Graph) -> str:
    """The picture of a graph: inputs above, outputs below, parameters beside the operations that use them."""
    centres, chains, (width, height) = _place(graph)
    parts = [HEAD.format(w=f"{width:.0f}", h=f"{height:.0f}", style=STYLE)]
    for (a, b), chain in zip(graph.edges, chains, strict=True):
        path = curve(chain, graph.nodes[a].size[1], graph.nodes[b].size[1])
        parts.append(f'<path d="{path}" marker-end="url(#kk-arrow)"/>')
    for node, (x, y) in zip(graph.nodes, centres, strict=True):
        w, h = node.size
        corner = h / 2 if node.kind in {"input", "output"} else 5
        box = f'x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" width="{w:.1f}" height="{h:.1f}" rx="{corner:.0f}"'
        parts.append(f'<g class="{escape(node.kind)}"><rect {box}/>')
        for k, line in enumerate(node.lines):
            style = ' class="shape"' if node.kind in {"operation", "output"} and k else ""
            at = y - h / 2 + PAD / 2 + (k + 0.5) * LINE + 4
            parts.append(f'<text{style} x="{x:.1f}" y="{at:.1f}">{escape(line)}</text>')
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])
