"""Models on disk: a folder of model.json and model.safetensors. No pickle; loading runs no code from the files.

model.json holds the configuration and the provenance, and the SHA-256 of model.safetensors and of itself. A network of
kokkiri's is made again from its settings; any other is named by import path, and is imported only when the caller hands
it over, or says that it may be (`trust=True`).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import importlib
import inspect
import json
import platform
import shutil
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri import likelihoods, networks, priors
from kokkiri.data.core import Group, Inputs, Target
from kokkiri.data.encoders import encoder_config, encoder_from_config
from kokkiri.data.tables import Schema
from kokkiri.errors import ChecksumError, ModelError, OutputError, Unsupported, nearest
from kokkiri.herd import Herd
from kokkiri.numerics.operators import packed, unpacked
from kokkiri.posteriors.particles import Form, Particles
from kokkiri.records import Candidate, Curve, Evidence, Record, Status, Update
from kokkiri.training.checkpoints import write_atomically

FORMAT = 2
JSON, TENSORS = "model.json", "model.safetensors"
OLD = "model.safetensors.old"  # there while a new model takes the place of another


def versions() -> dict[str, str]:
    """What a run was made with."""
    from importlib.metadata import version

    import numpy as np

    return {
        "kokkiri": version("kokkiri"), "torch": torch.__version__, "numpy": np.__version__,
        "python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip


def source_hash(network: nn.Module) -> str:
    """SHA-256 of the source text of a network's class; "" where there is none (a notebook cell, C)."""
    try:
        return hashlib.sha256(inspect.getsource(type(network)).encode()).hexdigest()
    except (OSError, TypeError):
        return ""


def save_model(post: Particles, path: str | Path) -> Path:
    """Writes a model's folder: first the tensors, then, atomically, the page that vouches for them.

    A model that stands there can be read until the new one can.
    """
    from safetensors.torch import save

    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            f"cannot write the model to {folder}",
            needs="a folder, or a name that is free",
            found="a file",
            fix="another name",
        )
    tensors: dict[str, Tensor] = {"log_weight": post.log_weight}
    tensors |= {f"params/{n}": t for n, t in post.herd.params.items()}
    tensors |= {f"buffers/{n}": t for n, t in post.herd.buffers.items()}
    tensors |= {f"hyper/{n}": t for n, t in post.herd.hyper.items()}
    tensors |= {n: t for n, t in (("offset", post.offset), ("noise", post.noise)) if t is not None}
    tensors |= {f"encoder/{n}": t for n, t in post.form.encoder.state_dict().items()}
    blocks = []
    for r, precision in enumerate(post.precision):
        page, own = packed(precision)
        blocks.append(page)
        tensors |= {f"precision/{r}/{n}": t for n, t in own.items()}
    content = save({n: t.detach().cpu().contiguous() for n, t in tensors.items()})
    page = {
        "format": FORMAT,
        "network": {**_network_page(post.herd.network), "outputs": _outputs(post)},
        "axes": dict(post.herd.axes),
        "likelihood": _written(post.likelihood),
        "prior": _written(post.prior),
        "form": _form_page(post.form),
        "record": record_page(post.record),
        "facts": post.facts,
        "precision": {"blocks": blocks, "linear": post.linear, "draws": post.draws},
        "evidence": dataclasses.asdict(post.evidence) if post.evidence is not None else None,
        "tensors": {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
    }
    with _readable(folder):
        write_atomically(folder / TENSORS, content)
        write_atomically(folder / JSON, sealed(page))
    return folder


def moved_in(draft: Path, folder: Path) -> None:
    """Moves the files of a draft to a folder, the page that vouches for the others last.

    A model that stands there can be read until the new one can, whenever the process is killed.
    """
    with _readable(folder):
        for file in sorted(draft.iterdir(), key=lambda file: file.name == JSON):
            file.replace(folder / file.name)


@contextlib.contextmanager
def _readable(folder: Path) -> Generator[None, None, None]:
    """Keeps the tensors of a model under a second name, where its page finds them until another page has come."""
    old = folder / OLD
    if _vouched(folder):  # else a killed process has left the right ones under that name, or there is no model
        old.unlink(missing_ok=True)
        try:
            old.hardlink_to(folder / TENSORS)
        except OSError:  # a file system without links
            with contextlib.suppress(OSError):
                shutil.copyfile(folder / TENSORS, old)
    try:
        yield
    finally:
        if old.exists() and _vouched(folder):
            old.unlink(missing_ok=True)


def _vouched(folder: Path) -> bool:
    """Whether the page of a folder is whole, and its tensors are the ones that it names."""
    try:
        promised = json.loads((folder / JSON).read_bytes())["tensors"]["sha256"]
        return hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest() == promised
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load_model(
    path: str | Path, network: nn.Module | Callable[[], nn.Module] | None = None, *, trust: bool = False
) -> Particles:
    """A model from its folder. network: the skeleton, where it is not one of kokkiri's; trust: import it by its path.

    Raises ModelError where a file is missing or does not fit, ChecksumError where one was altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    folder = Path(path)
    page = read_page(folder)
    content = _bytes(folder, TENSORS)
    if hashlib.sha256(content).hexdigest() != page["tensors"]["sha256"] and (folder / OLD).is_file():
        content = _bytes(folder, OLD)  # a process was killed while a new model took this one's place
    if hashlib.sha256(content).hexdigest() != page["tensors"]["sha256"]:
        raise ChecksumError(
            f"{folder / TENSORS} was altered",
            needs=f"SHA-256 {page['tensors']['sha256'][:16]}… ({page['tensors']['bytes']:,} bytes)",
            found=f"SHA-256 {hashlib.sha256(content).hexdigest()[:16]}… ({len(content):,} bytes)",
            fix="take the folder from its backup, or fit the model again",
        )
    try:
        return _unpacked(page, load(content), network, trust=trust, folder=folder)
    except (KeyError, TypeError, SafetensorError) as error:
        raise ModelError(
            f"{folder} is not a model that this version can read",
            needs=f"format {FORMAT}, as kokkiri {versions()['kokkiri']} writes it",
            found=f"{type(error).__name__}: {error}",
            fix="fit the model again, or load it with the version named in model.json",
        ) from error


def _unpacked(
    page: dict[str, Any], tensors: Mapping[str, Tensor], network: Any, *, trust: bool, folder: Path
) -> Particles:
    part = lambda prefix: {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    skeleton = _network(page["network"], network, trust=trust, folder=folder)
    params, order = part("params/"), {n: i for i, (n, _) in enumerate(skeleton.named_parameters())}
    params = {n: params[n] for n in sorted(params, key=lambda n: (order.get(n, len(order)), n))}  # files sort by name
    herd = Herd(skeleton, params, part("buffers/"), page["axes"], hyper=part("hyper/"))
    _check_fits(skeleton, herd, folder)
    spread, evidence = page["precision"], page["evidence"]
    precision = tuple(unpacked(b, part(f"precision/{r}/")) for r, b in enumerate(spread["blocks"]))
    return Particles(
        herd,
        tensors["log_weight"],
        likelihoods.from_config(page["likelihood"]),
        priors.from_config(page["prior"]),
        _form(page["form"], part("encoder/")),
        record_from_page(page["record"]),
        page["facts"],
        precision,
        bool(spread["linear"]),
        Evidence(**{**evidence, "each": tuple(evidence["each"])}) if evidence is not None else None,
        str(spread["draws"]),
        tensors.get("offset"),
        tensors.get("noise"),
    )


def read_page(folder: Path) -> dict[str, Any]:
    """model.json, whole and unaltered."""
    if not folder.is_dir():
        near = [p.name for p in folder.parent.iterdir() if (p / JSON).is_file()] if folder.parent.is_dir() else []
        raise ModelError(
            f"there is no model at {folder}", needs=f"a folder with {JSON} and {TENSORS}",
            found="a file" if folder.exists() else "nothing",
            fix=nearest(folder.name, near) if near else f"kokkiri fit … --out {folder.name}",
        )  # fmt: skip
    content = _bytes(folder, JSON)
    body = content[: -len(_seal(b""))]
    if content != body + _seal(body):
        raise ChecksumError(
            f"{folder / JSON} was altered",
            needs="the text that kokkiri wrote, whose SHA-256 it carries",
            found=f"another text ({len(content):,} bytes)",
            fix="take the folder from its backup, or fit the model again",
        )
    page = json.loads(content)
    if page["format"] != FORMAT:
        raise ModelError(
            f"{folder} has format {page['format']}",
            needs=f"format {FORMAT}",
            found=f"format {page['format']}",
            fix="the version of kokkiri that wrote it",
        )
    return page


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ModelError(
            f"{folder} lacks {name}" if isinstance(error, FileNotFoundError) else f"cannot read {folder / name}",
            needs=f"{JSON} and {TENSORS}, both of one model",
            found=", ".join(sorted(p.name for p in folder.iterdir())) or "an empty folder",
            fix="copy the whole folder, or fit the model again",
        ) from None


def sealed(page: Mapping[str, Any]) -> bytes:
    """A page as JSON text that ends with the SHA-256 of all bytes before it, so that not one can change unnoticed."""
    body = json.dumps(page, indent=1, ensure_ascii=False).encode().removesuffix(b"\n}")
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    return b',\n "sha256": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def _network_page(network: nn.Module) -> dict[str, Any]:
    own = networks.config(network)
    kind = type(network)
    return {
        "kokkiri": own,
        "import": f"{kind.__module__}:{kind.__qualname__}",
        "source": source_hash(network),
        "text": repr(network),
    }


def _network(page: dict[str, Any], given: Any, *, trust: bool, folder: Path) -> nn.Module:
    if given is not None:
        return copy.deepcopy(given) if isinstance(given, nn.Module) else _made(given, page["outputs"])
    if page["kokkiri"] is not None:
        with torch.random.fork_rng(devices=[]):
            return networks.from_config(page["kokkiri"])
    if not trust:
        raise ModelError(
            f"the network of {folder} is {page['import']}, not one of kokkiri's",
            needs="the network, since no code is run from a model's files",
            found="none given",
            fix=f"--network FILE.py:NAME; kk.load(…, network=…); trust=True imports {page['import'].split(':')[0]}",
        )
    module, _, name = page["import"].partition(":")
    try:
        made: Any = importlib.import_module(module)
        for part in name.split("."):
            made = getattr(made, part)
        return _made(made, page["outputs"])
    except (ImportError, AttributeError, TypeError) as error:
        raise ModelError(
            f"{page['import']} cannot be made", needs="a class that needs no arguments",
            found=f"{type(error).__name__}: {error}", fix=f"kk.load({str(folder)!r}, network=…)",
        ) from error  # fmt: skip


def _outputs(post: Particles) -> int:
    """How many numbers the network gives: a function that makes it may ask."""
    some = next(iter(post.herd.params.values()))
    return post.herd(torch.zeros(1, *post.form.inputs.shape, dtype=some.dtype)).shape[-1]


def _made(make: Callable[..., nn.Module], outputs: int) -> nn.Module:
    """A network from a function of nothing, or of the number of outputs; no global random state is touched."""
    needed = [p for p in inspect.signature(make).parameters.values() if p.default is p.empty and p.kind not in {2, 4}]
    with torch.random.fork_rng(devices=[]):
        return make(outputs) if needed else make()


def _check_fits(skeleton: nn.Module, herd: Herd, folder: Path) -> None:
    from kokkiri.types import LIKELIHOOD_PREFIX

    own = {n: tuple(t.shape) for n, t in [*skeleton.named_parameters(), *skeleton.named_buffers()]}
    kept = herd.params | herd.buffers
    saved = {n: tuple(t.shape[1:]) for n, t in kept.items() if not n.startswith(LIKELIHOOD_PREFIX)}
    if own != saved:
        odd = min(set(own.items()) ^ set(saved.items()))[0]
        raise ModelError(
            f"the network does not fit the weights of {folder}",
            needs=f"{odd} of shape {saved.get(odd, 'none: it must not be there')}",
            found=f"{odd} of shape {own.get(odd, 'none: it is not there')}",
            fix="the network that was fitted",
        )


def _written(value: object) -> dict[str, Any]:
    config = getattr(value, "config", None)
    if config is None or not type(value).__module__.startswith("kokkiri."):
        raise Unsupported(
            f"{type(value).__name__} cannot be saved",
            needs="a likelihood and a prior of kokkiri's, which can be made again from plain values",
            found=f"{type(value).__module__}.{type(value).__qualname__}",
            fix="keep the posterior in the process, or use one of kk.likelihoods",
        )
    return config()


def _form_page(form: Form) -> dict[str, Any]:
    return {
        "encoder": encoder_config(form.encoder),
        "inputs": dataclasses.asdict(form.inputs),
        "target": dataclasses.asdict(form.target),
        "schema": form.schema.to_json() if form.schema is not None else None,
    }


def _form(page: dict[str, Any], state: dict[str, Tensor]) -> Form:
    encoder = encoder_from_config(page["encoder"], state)
    inputs = Inputs(tuple(page["inputs"]["shape"]), tuple(Group(**g) for g in page["inputs"]["groups"]))
    target = Target(**{**page["target"], "levels": tuple(page["target"]["levels"])})
    schema = Schema.from_json(page["schema"]) if page["schema"] is not None else None
    return Form(encoder, inputs, target, schema)


def record_page(record: Record) -> dict[str, Any]:
    """A record as JSON values."""
    return {**dataclasses.asdict(record), "status": record.status.name}


def record_from_page(page: Mapping[str, Any]) -> Record:
    """The record that `record_page` wrote down."""
    curve = page["curve"]
    rows = lambda name: tuple(tuple(r) for r in curve[name])
    return Record(**{
        **page,
        "status": Status[page["status"]],
        "config": {name: tuple(pair) for name, pair in page["config"].items()},
        "curve": Curve(tuple(curve["steps"]), rows("train"), rows("held_out"), tuple(curve["best"])),
        "candidates": tuple(Candidate(**c) for c in page["candidates"]),
        "notes": tuple(page["notes"]),
        "updates": tuple(Update(**u) for u in page["updates"]),
    })
