"""Networks by their names on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kokkiri.errors import UsageError, nearest

if TYPE_CHECKING:
    from torch import nn

    from kokkiri.data.core import Data


def network_named(text: str, data: Data) -> nn.Module | Callable[..., nn.Module]:
    """A network from its name on the command line: a function of the number of outputs, or a module of the user's."""
    from kokkiri.networks import MLP, ConvNet

    kind, _, rest = text.partition(":")
    if kind.endswith(".py"):
        return own_network(text)
    if kind not in {"linear", "mlp", "convnet"}:
        raise UsageError(
            f"there is no network {kind!r}", needs="linear, mlp:64,64, convnet:16,32, or file.py:name", found=text,
            fix=nearest(kind, ["linear", "mlp", "convnet"]),
        )  # fmt: skip
    try:
        widths = [int(w) for w in rest.split(",") if w]
    except ValueError:
        raise UsageError(
            f"the widths of {text!r} are not numbers", needs=f"{kind}:64,64", found=rest, fix=f"--network {kind}:64,64"
        ) from None
    if kind == "convnet":
        return lambda outputs: ConvNet(data.inputs, outputs, channels=tuple(widths) or (16, 32))
    return lambda outputs: MLP(data.inputs, [] if kind == "linear" else widths or [64, 64], outputs)


def own_network(text: str) -> Any:
    """The module, or the function that makes one, in a file of the user's: the one place that runs code by its name."""
    import importlib.util

    file, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    path = Path(file)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UsageError(
            f"there is no file {path}", needs="file.py:name", found="nothing", fix=nearest(path.name, near)
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    known = {n: v for n, v in vars(module).items() if callable(v) and not n.startswith("_")}
    if name not in known:
        raise UsageError(
            f"{path} has no {name!r}", needs="a module, or a function that makes one", found=name or "no name",
            fix=nearest(name, known),
        )  # fmt: skip
    return known[name]
