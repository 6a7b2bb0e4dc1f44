"""What a report is told about data and model: plain values, so that it can be written again from files alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kokkiri.data.core import Data, Source, Target
from kokkiri.errors import KokkiriError
from kokkiri.evaluation.plain import from_plain, to_plain
from kokkiri.networks import describe
from kokkiri.report.graph import Graph, trace


@dataclass(frozen=True)
class ColumnFacts:
    """One column of the table: what it was taken for and why, and whether the network sees it."""

    name: str
    kind: str
    reason: str = ""
    used: bool = True
    missing: int = 0
    distinct: int = 0


@dataclass(frozen=True)
class DataFacts:
    """What the data were. shape: of one encoded example. columns: () where the data were not a table."""

    target: Target
    source: Source
    train_rows: int
    test_rows: int
    shape: tuple[int, ...]
    columns: tuple[ColumnFacts, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the source that were used."""
        return self.train_rows + self.test_rows

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `json.dumps` takes them."""
        return to_plain(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> DataFacts:
        """The facts that `to_json` wrote."""
        return from_plain(DataFacts, plain)


@dataclass(frozen=True)
class Layer:
    """One layer of a network; shape: of what it makes of one example."""

    name: str
    type: str
    shape: str
    parameters: int


@dataclass(frozen=True)
class ModelFacts:
    """What the model is. graph: boxes of `report.graph.trace`, not a picture, so that no file brings markup in."""

    parameters: int = 0
    replicas: int = 1
    layers: tuple[Layer, ...] = ()
    graph: Graph | None = field(default=None, repr=False)
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, as `json.dumps` takes them."""
        return to_plain(self)

    @staticmethod
    def from_json(plain: dict[str, Any]) -> ModelFacts:
        """The facts that `to_json` wrote."""
        return from_plain(ModelFacts, plain)


def data_facts(train: Data, test: Data) -> DataFacts:
    """The facts that two parts of one data set hold; `train` includes the rows held out for stopping."""
    assert train.target is not None, "a report is about a target"
    columns = () if train.schema is None else train.schema.columns
    return DataFacts(
        train.target, train.source, len(train), len(test), tuple(train.inputs.shape),
        tuple(ColumnFacts(c.name, c.kind.value, c.reason, c.used, c.missing, c.distinct) for c in columns),
        tuple(dict.fromkeys((*train.notes, *test.notes))),
    )  # fmt: skip


def model_facts(network: nn.Module, x: Tensor, *, replicas: int = 1, command: str = "") -> ModelFacts:
    """The facts of a network that takes x, a batch of one or a few rows. It is not touched."""
    rows = describe(network, x)
    shape = lambda row: "" if row.shape is None else " × ".join(map(str, row.shape))
    layers = tuple(Layer(row.name, row.type, shape(row), row.parameters) for row in rows)
    try:
        graph = trace(network, x)
    except KokkiriError:  # a network without gradients has no graph, but a report
        graph = None
    return ModelFacts(sum(p.numel() for p in network.parameters()), replicas, layers, graph, command)
