"""Encoders: a table's raw cells to the numbers a network takes. Every statistic is a buffer, fitted on training rows.

    raw                                  encoded
    "number"    (B, P) float64, NaN      (x - mean) / sd, 0 where missing; a column of 0 and 1 for each that had gaps
    "category"  (B, Q) int64 codes       one column a level, one for "other", one for missing; nothing where unseen
    "date"      (B, D) float64 days      standardised days; sine and cosine of the season, weekday, time of day

A row's encoding depends on that row alone, to the bit: sines are looked up, never computed in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kokkiri.data import images
from kokkiri.data.columns import Column, Kind
from kokkiri.data.core import Group, Inputs
from kokkiri.data.images import ImageEncoder
from kokkiri.errors import ModelError, ShapeError, Unsupported

LEVELS = 64  # a category with more training levels has columns for the 63 most frequent, and one for all others
_PARTS = 7  # of a date: days, then sine and cosine of season, weekday, time of day


@dataclass(frozen=True)
class NumberLayout:
    """A column of numbers, or of truth values. gaps: whether training rows lacked it."""

    name: str
    kind: str  # "number" or "boolean"
    gaps: bool


@dataclass(frozen=True)
class CategoryLayout:
    """A column of codes. slots: for each code its column among this category's own, -1 where training rows had none."""

    name: str
    slots: tuple[int, ...]
    other: bool  # whether the last slot is shared by the rare levels, and takes the unseen ones
    gaps: bool

    @property
    def width(self) -> int:
        """How many encoded columns it has."""
        return max(self.slots, default=-1) + 1 + self.gaps


@dataclass(frozen=True)
class DateLayout:
    """A column of days since 1970. hours: whether the time of day varied in training rows."""

    name: str
    hours: bool
    gaps: bool


@dataclass(frozen=True)
class Layout:
    """What the columns of the raw tensors are, in their order."""

    numbers: tuple[NumberLayout, ...] = ()
    categories: tuple[CategoryLayout, ...] = ()
    dates: tuple[DateLayout, ...] = ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """Which columns of an encoded row come from which column of the table."""
        parts = [(n.name, n.kind, 1) for n in self.numbers]
        parts += [(n.name, "missing", 1) for n in self.numbers if n.gaps]
        parts += [(c.name, "category", c.width) for c in self.categories]
        parts += [(d.name, "date", _PARTS if d.hours else _PARTS - 2) for d in self.dates]
        parts += [(d.name, "missing", 1) for d in self.dates if d.gaps]
        groups: list[Group] = []
        for name, kind, width in parts:
            start = groups[-1].stop if groups else 0
            groups.append(Group(name, start, start + width, kind))
        return tuple(g for g in groups if g.stop > g.start)


class TableEncoder(nn.Module):
    """Raw cells to (B, width) float32: pure tensor operations, which `torch.export` takes as they are.

    >>> raw = {"number": torch.tensor([[1.0], [3.0], [torch.nan]]), "category": torch.tensor([[0], [1], [1]])}
    >>> columns = [Column("age", Kind.NUMBER, ""), Column("city", Kind.CATEGORY, "", levels=("Bergen", "Oslo"))]
    >>> encoder = fit_encoder(raw, columns)
    >>> encoder(raw).tolist()
    [[-1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0]]
    >>> [(g.name, g.kind, g.start, g.stop) for g in inputs(encoder).groups]
    [('age', 'number', 0, 1), ('age', 'missing', 1, 2), ('city', 'category', 2, 4)]
    """

    mean: Tensor
    sd: Tensor
    date_mean: Tensor
    date_sd: Tensor
    number_gaps: Tensor
    date_gaps: Tensor
    lookup: Tensor
    offset: Tensor
    date_parts: Tensor
    season: Tensor
    weekday: Tensor
    minute: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.width = sum(g.stop - g.start for g in layout.groups)
        for name, columns in (("", layout.numbers), ("date_", layout.dates)):
            self.register_buffer(f"{name}mean", torch.zeros(len(columns), dtype=torch.float64))
            self.register_buffer(f"{name}sd", torch.ones(len(columns), dtype=torch.float64))
        # what follows is made from the layout again whenever it is needed
        fixed = {
            "number_gaps": torch.tensor([i for i, n in enumerate(layout.numbers) if n.gaps], dtype=torch.int64),
            "date_gaps": torch.tensor([i for i, d in enumerate(layout.dates) if d.gaps], dtype=torch.int64),
            "date_parts": torch.tensor(
                [
                    i * _PARTS + p
                    for i, d in enumerate(layout.dates)
                    for p in range(_PARTS)
                    if p < _PARTS - 2 or d.hours
                ],
                dtype=torch.int64,
            ),
            "season": _circle(366, 365.2425),
            "weekday": _circle(7, 7),
            "minute": _circle(1440, 1440),
        }
        fixed["lookup"], fixed["offset"] = _lookup(layout.categories)
        for name, tensor in fixed.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, raw: Mapping[str, Tensor]) -> Tensor:
        """(B, width) float32."""
        return self.encode(raw).to(torch.float32)

    def encode(self, raw: Mapping[str, Tensor]) -> Tensor:
        """(B, width) float64."""
        parts: list[Tensor] = []
        if self.layout.numbers:
            x, there = _standardised(raw["number"], self.mean, self.sd)
            parts += [x, (~there).to(x.dtype).index_select(1, self.number_gaps)]
        if self.layout.categories:
            parts.append(self._one_hot(raw["category"]))
        if self.layout.dates:
            x, there = _standardised(raw["date"], self.date_mean, self.date_sd)
            circles = self._circles(torch.where(there, raw["date"], 0.0)) * there[:, :, None]
            every = torch.cat([x[:, :, None], circles], 2).flatten(1)  # (B, D * 7)
            parts += [every.index_select(1, self.date_parts), (~there).to(x.dtype).index_select(1, self.date_gaps)]
        return torch.cat(parts, 1)

    def refit(self, raw: Mapping[str, Tensor]) -> TableEncoder:
        """An encoder of the same columns, with layout and statistics of these rows."""
        return _fit(
            raw,
            [(n.name, n.kind) for n in self.layout.numbers],
            [(c.name, len(c.slots)) for c in self.layout.categories],
            [d.name for d in self.layout.dates],
        )

    def config(self) -> dict[str, Any]:
        """Plain values that, with the state_dict, make the encoder again."""
        return {"encoder": "table", **asdict(self.layout)}

    def _one_hot(self, codes: Tensor) -> Tensor:
        """(B, Q) codes -> (B, W): a last column takes what has none of its own, and is cut off."""
        width = sum(c.width for c in self.layout.categories)
        slots = self.lookup[codes + 2 + self.offset]
        zeros = torch.zeros(codes.shape[0], width + 1, dtype=torch.float64, device=codes.device)
        return zeros.scatter(1, slots, 1.0)[:, :width]

    def _circles(self, days: Tensor) -> Tensor:
        """(B, D) days -> (B, D, 6): sine and cosine of season, weekday, time of day."""
        whole = torch.floor(days)
        day = whole.to(torch.int64)
        # the Gregorian calendar in whole numbers, years beginning on 1 March so that the leap day comes last:
        # Hinnant, "chrono-compatible low-level date algorithms", civil_from_days
        of_era = torch.remainder(day + 719_468, 146_097)
        year = torch.div(
            of_era - _floor(of_era, 1460) + _floor(of_era, 36_524) - _floor(of_era, 146_096), 365, rounding_mode="floor"
        )
        of_year = of_era - (365 * year + _floor(year, 4) - _floor(year, 100))
        minute = torch.remainder(torch.floor((days - whole) * 1440 + 0.5).to(torch.int64), 1440)
        weekday = torch.remainder(day + 3, 7)  # 1970-01-01 was a Thursday; Monday is 0
        return torch.cat([self.season[of_year], self.weekday[weekday], self.minute[minute]], 2)


class TensorEncoder(nn.Module):
    """(x - mean) / sd of raw["x"] (B, ...), as float32: for arrays that are no table. NaN and infinity become 0.

    mean, sd: of each channel, (C, 1, …), where x has at least three axes after the rows; else of all of x.

    >>> encoder = fit_tensor(torch.tensor([[[0.0, 2.0]], [[4.0, 6.0]]]))
    >>> encoder({"x": torch.tensor([[[3.0, 3.0]]])}).tolist()
    [[[0.0, 0.0]]]
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(int(n) for n in shape)
        per = (self.shape[0], *(1,) * (len(self.shape) - 1)) if len(self.shape) >= 3 else (1,) * len(self.shape)
        self.register_buffer("mean", torch.zeros(per, dtype=torch.float64))
        self.register_buffer("sd", torch.ones(per, dtype=torch.float64))

    def forward(self, raw: Mapping[str, Tensor]) -> Tensor:
        """(B, *shape) float32."""
        if tuple(raw["x"].shape[1:]) != self.shape:
            raise ShapeError(
                "x has another shape than the training rows",
                needs=f"(B, {', '.join(map(str, self.shape))})",
                found=str(tuple(raw["x"].shape)),
                fix="bring x to that shape",
            )
        return _standardised(raw["x"].to(torch.float64), self.mean, self.sd)[0].to(torch.float32)

    def refit(self, raw: Mapping[str, Tensor]) -> TensorEncoder:
        """The same encoder with the statistics of these rows."""
        return fit_tensor(raw["x"])

    def config(self) -> dict[str, Any]:
        """Plain values that, with the state_dict, make the encoder again."""
        return {"encoder": "tensor", "shape": list(self.shape)}


def fit_encoder(raw: Mapping[str, Tensor], columns: Iterable[Column]) -> TableEncoder:
    """The encoder of these rows; `columns` that are used stand in the order of the raw tensors' columns."""
    used = [c for c in columns if c.used]
    return _fit(
        raw,
        [(c.name, c.kind.value) for c in used if c.kind in {Kind.NUMBER, Kind.BOOLEAN}],
        [(c.name, len(c.levels)) for c in used if c.kind is Kind.CATEGORY],
        [c.name for c in used if c.kind is Kind.DATE],
    )


def fit_tensor(x: Tensor) -> TensorEncoder:
    """The encoder of (N, ...) numbers."""
    encoder = TensorEncoder(x.shape[1:])
    flat = x.transpose(0, 1).flatten(1).T if x.ndim >= 4 else x.reshape(-1, 1)  # (rows, channels)
    encoder.mean, encoder.sd = (s.reshape(encoder.mean.shape) for s in _statistics(flat.to(torch.float64)))
    return encoder


def encoder_config(encoder: nn.Module) -> dict[str, Any]:
    """Plain values that, with the state_dict, make an encoder of kokkiri's again."""
    if isinstance(encoder, TableEncoder | TensorEncoder | ImageEncoder):
        return encoder.config()
    raise Unsupported(
        f"the encoder {type(encoder).__name__} cannot be saved",
        needs="an encoder of kokkiri's, which can be made again from plain values",
        found=f"{type(encoder).__module__}.{type(encoder).__qualname__}",
        fix="put what it does into the network",
    )


def encoder_from_config(
    config: Mapping[str, Any], state: Mapping[str, Tensor] | None = None
) -> TableEncoder | TensorEncoder | ImageEncoder:
    """The inverse of `encoder_config`; `state` is what `state_dict` gave.

    >>> encoder_from_config(encoder_config(TensorEncoder((1, 8, 8)))).shape
    (1, 8, 8)
    """
    match config.get("encoder"):
        case "table":
            encoder = TableEncoder(
                Layout(
                    tuple(NumberLayout(**n) for n in config["numbers"]),
                    tuple(CategoryLayout(**{**c, "slots": tuple(c["slots"])}) for c in config["categories"]),
                    tuple(DateLayout(**d) for d in config["dates"]),
                )
            )
        case "tensor":
            encoder = TensorEncoder(config["shape"])
        case "image":
            encoder = images.from_config(config)
        case other:
            raise ModelError(
                f"'{other}' is no encoder",
                needs="'table', 'tensor' or 'image'",
                found=repr(other),
                fix="read the model with the version of kokkiri that wrote it",
            )
    if state is not None:
        try:
            encoder.load_state_dict(dict(state))
        except RuntimeError as error:
            raise ModelError(
                "the encoder's numbers do not fit its description",
                needs=", ".join(encoder.state_dict()),
                found=str(error).splitlines()[-1].strip(),
                fix="take the model's folder from its backup",
            ) from None
    return encoder


def inputs(encoder: TableEncoder | TensorEncoder) -> Inputs:
    """What a network behind this encoder is given."""
    if isinstance(encoder, TensorEncoder):
        return Inputs(encoder.shape)
    return Inputs((encoder.width,), encoder.layout.groups)


def _fit(
    raw: Mapping[str, Tensor],
    numbers: list[tuple[str, str]],
    categories: list[tuple[str, int]],
    dates: list[str],
) -> TableEncoder:
    absent = {key: ~torch.isfinite(raw[key]) for key in ("number", "date") if key in raw}
    gaps = {key: mask.any(0).tolist() for key, mask in absent.items()}
    layout = Layout(
        tuple(NumberLayout(name, kind, gaps["number"][i]) for i, (name, kind) in enumerate(numbers)),
        tuple(_category(name, raw["category"][:, i], levels) for i, (name, levels) in enumerate(categories)),
        tuple(DateLayout(name, _hours(raw["date"][:, i]), gaps["date"][i]) for i, name in enumerate(dates)),
    )
    encoder = TableEncoder(layout)
    if numbers:
        encoder.mean, encoder.sd = _statistics(raw["number"])
    if dates:
        encoder.date_mean, encoder.date_sd = _statistics(raw["date"])
    return encoder


def _category(name: str, codes: Tensor, levels: int) -> CategoryLayout:
    counts = torch.bincount(codes[codes >= 0], minlength=levels)
    seen = [i for i in range(levels) if counts[i]] if levels <= LEVELS else counts.nonzero()[:, 0].tolist()
    gaps = bool((codes == -1).any())
    slots = [-1] * levels
    other = len(seen) > LEVELS
    if other:
        frequent = torch.sort(counts, descending=True, stable=True).indices[: LEVELS - 1].sort().values.tolist()
        for level in seen:
            slots[level] = LEVELS - 1
        seen = frequent
    for slot, level in enumerate(seen):
        slots[level] = slot
    return CategoryLayout(name, tuple(slots), other, gaps)


def _lookup(categories: tuple[CategoryLayout, ...]) -> tuple[Tensor, Tensor]:
    """For codes -2, -1, 0, … of each category its encoded column, one after the other; and where each begins."""
    width = sum(c.width for c in categories)
    table: list[int] = []
    offset: list[int] = []
    start = 0
    for c in categories:
        offset.append(len(table))
        unseen = start + max(c.slots) if c.other else width
        missing = start + c.width - 1 if c.gaps else width
        table += [unseen, missing, *(unseen if slot < 0 else start + slot for slot in c.slots)]
        start += c.width
    return torch.tensor(table, dtype=torch.int64), torch.tensor(offset, dtype=torch.int64)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the finite values of each column of (N, P); sd 1 where they do not vary."""
    there = torch.isfinite(x)
    n = there.sum(0).clamp(min=1)
    low, high = torch.where(there, x, torch.inf).amin(0), torch.where(there, x, -torch.inf).amax(0)
    varies = high > low
    # scaled by a power of two, which is exact, no square overflows
    largest = torch.where(varies, torch.maximum(low.abs(), high.abs()), 1.0)
    size = torch.exp2(torch.frexp(largest).exponent.to(x.dtype) - 1)
    small = torch.where(there, x, 0.0) / size
    mean = small.sum(0) / n
    sd = (torch.where(there, small - mean, 0.0).square().sum(0) / n).sqrt() * size
    constant = torch.where(there.any(0), torch.where(varies, 0.0, low), 0.0)
    return torch.where(varies, mean * size, constant), torch.where(varies & (sd > 0), sd, 1.0)


def _standardised(x: Tensor, mean: Tensor, sd: Tensor) -> tuple[Tensor, Tensor]:
    there = torch.isfinite(x)
    return torch.where(there, (x - mean) / sd, 0.0), there


def _hours(days: Tensor) -> bool:
    """Whether the time of day varies."""
    times = days[torch.isfinite(days)]
    times = ((times - times.floor()) * 1440).round()
    return bool(len(times)) and bool((times != times[0]).any())


def _circle(n: int, period: float) -> Tensor:
    """(n, 2): sine and cosine of 2π i / period."""
    turns = [2 * math.pi * i / period for i in range(n)]
    return torch.tensor([[math.sin(t), math.cos(t)] for t in turns], dtype=torch.float64)


def _floor(x: Tensor, by: int) -> Tensor:
    return torch.div(x, by, rounding_mode="floor")
