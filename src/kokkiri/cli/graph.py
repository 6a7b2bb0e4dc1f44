"""kokkiri graph: the graph that a forward pass built, as a picture."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Graph:
    """Draw the graph that one forward pass of a model built: operations, parameters, and what depends on what."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """The folder that `kokkiri fit` wrote."""
    out: Annotated[str | None, arg(metavar="FILE")] = None
    """Where to write the SVG (default: MODEL/graph.svg)."""
    network: Annotated[str | None, arg(metavar="FILE.PY:NAME")] = None
    """The network, where it is one of your own."""
    debug: bool = False
    """Show the whole traceback of an error."""

    def run(self) -> int:
        """Gives the exit code."""
        import torch

        from kokkiri.cli.networks import own_network
        from kokkiri.report.graph import write_graph
        from kokkiri.verbs import load

        post = load(self.model, None if self.network is None else own_network(self.network))
        path = Path(self.out) if self.out else Path(self.model) / "graph.svg"
        write_graph(path, post.herd.module(), torch.zeros(1, *post.form.inputs.shape))
        sys.stderr.write(f"{path}\n")
        return 0
