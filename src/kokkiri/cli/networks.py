"""Networks by their names on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kokkiri.errors import UsageError, nearest
from kokkiri.numerics.random import key

if TYPE_CHECKING:
    from torch import nn

    from kokkiri.data.core import Data


def network_named(text: str, data: Data, *, dropout: float = 0.0) -> nn.Module | Callable[..., nn.Module]:
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
    if kind == "linear" and rest:
        raise UsageError("a linear network has no widths", needs="linear", found=text, fix=f"--network mlp:{rest}")
    widths = widths or ([16, 32] if kind == "convnet" else [] if kind == "linear" else [64, 64])

    def make(outputs: int) -> nn.Module:
        if kind == "convnet":
            return ConvNet(data.inputs, outputs, channels=tuple(widths), dropout=dropout)
        return MLP(data.inputs, widths, outputs, dropout=dropout if widths else 0.0)

    title = {"linear": "linear", "mlp": "MLP ", "convnet": "ConvNet "}[kind]
    make.__name__ = title + "-".join(map(str, widths))  # as the report names it
    return make


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
    stem = path.stem  # a file called random.py must not take the place of the module that others import
    if stem in sys.modules and vars(sys.modules[stem]).get("__file__") != str(path.resolve()):
        stem = f"{stem}_{key(0, str(path.resolve())):x}"
    spec = importlib.util.spec_from_file_location(stem, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    kept, sys.modules[stem] = sys.modules.get(stem), module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(stem)
        if kept is not None:
            sys.modules[stem] = kept
        raise UsageError(
            f"{path} cannot be run", needs="Python that makes a network",
            found=f"{type(error).__name__}: {error}", fix=f"python {path} shows the whole error",
        ) from error  # fmt: skip
    known = {n: v for n, v in vars(module).items() if callable(v) and not n.startswith("_")}
    if name not in known:
        raise UsageError(
            f"{path} has no {name!r}", needs="a module, or a function that makes one", found=name or "no name",
            fix=nearest(name, known),
        )  # fmt: skip
    return known[name]
