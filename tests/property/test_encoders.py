"""Laws of the encoders: a row's encoding is its own, and the statistics are those of the rows they were fitted on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kokkiri.data.columns import Column, Kind
from kokkiri.data.dates import days_of
from kokkiri.data.encoders import (
    LEVELS,
    TensorEncoder,
    encoder_config,
    encoder_from_config,
    fit_encoder,
    fit_tensor,
    inputs,
)
from kokkiri.data.images import ImageEncoder
from kokkiri.errors import ModelError, Unsupported

COLUMNS = (
    Column("age", Kind.NUMBER, ""),
    Column("smokes", Kind.BOOLEAN, ""),
    Column("city", Kind.CATEGORY, "", levels=tuple("abcde")),
    Column("left", Kind.TEXT, "", used=False),
    Column("size", Kind.CATEGORY, "", levels=("s", "l")),
    Column("seen", Kind.DATE, ""),
    Column("born", Kind.DATE, ""),
)


def table(n, seed):
    rng = np.random.default_rng(seed)
    number = np.stack([rng.normal(40, 12, n), rng.integers(0, 2, n)], 1)
    number[rng.random((n, 2)) < 0.2] = np.nan
    category = np.stack([rng.integers(-1, 4, n), rng.integers(0, 2, n)], 1)  # level "e" never comes, size has no gaps
    date = np.stack([rng.uniform(-3e4, 3e4, n), np.floor(rng.uniform(-3e4, 3e4, n))], 1)
    date[rng.random((n, 2)) < 0.2] = np.nan
    return {k: torch.from_numpy(v) for k, v in {"number": number, "category": category, "date": date}.items()}


def rows(raw, index):
    return {name: t[index] for name, t in raw.items()}


def twin(fitted_on, raw):
    """The same encoding, slowly and row by row, in plain numpy and the standard library."""
    import datetime as dt

    def standardised(column, values):
        seen = column[np.isfinite(column)]
        sd = seen.std() or 1.0
        return [0.0 if not np.isfinite(v) else (v - seen.mean()) / sd for v in values]

    parts = []
    old, new = ({k: v.numpy() for k, v in t.items()} for t in (fitted_on, raw))
    parts += [standardised(old["number"][:, j], new["number"][:, j]) for j in range(2)]
    parts += [
        [float(not np.isfinite(v)) for v in new["number"][:, j]]
        for j in range(2)
        if np.isnan(old["number"][:, j]).any()
    ]
    for j in range(2):
        levels = sorted(set(old["category"][:, j].tolist()) - {-1})
        parts += [[float(code == level) for code in new["category"][:, j]] for level in levels]
        if (old["category"][:, j] == -1).any():
            parts.append([float(code == -1) for code in new["category"][:, j]])
    for j in range(2):
        days, there = new["date"][:, j], np.isfinite(new["date"][:, j])
        parts.append(standardised(old["date"][:, j], days))
        epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        moments = [epoch + dt.timedelta(days=d) if ok else None for d, ok in zip(days, there, strict=True)]
        turns = []
        for m in moments:
            if m is None:
                turns.append(None)
                continue
            march = m.replace(year=m.year if m.month > 2 else m.year - 1, month=3, day=1, hour=0, minute=0, second=0)
            march = march.replace(microsecond=0)
            midnight = m.replace(hour=0, minute=0, second=0, microsecond=0)
            minute = round((m - midnight) / dt.timedelta(minutes=1)) % 1440
            turns.append(((m - march).days / 365.2425, m.weekday() / 7, minute / 1440))
        times = old["date"][:, j][np.isfinite(old["date"][:, j])] % 1
        for part in range(3 if len(set(np.round(times * 1440))) > 1 else 2):
            for wave in (np.sin, np.cos):
                parts.append([0.0 if t is None else wave(2 * np.pi * t[part]) for t in turns])
    for j in range(2):
        if np.isnan(old["date"][:, j]).any():
            parts.append([float(not np.isfinite(v)) for v in new["date"][:, j]])
    return np.array(parts).T


@pytest.mark.parametrize("seed", range(5))
def test_the_encoding_is_that_of_a_plain_twin(seed):
    old, new = table(200, seed), table(60, seed + 100)
    new["category"][:, 0][:5] = 4  # a level of the table that no training row had
    new["category"][:, 1][:5] = -2
    new["number"][5:9] = torch.inf
    got = fit_encoder(old, COLUMNS).encode(new)
    torch.testing.assert_close(got, torch.from_numpy(twin(old, new)), rtol=1e-10, atol=1e-11)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 70))
def test_a_row_is_encoded_alike_in_any_company(seed, n):
    encoder, raw = fit_encoder(table(50, seed), COLUMNS), table(n, seed + 1)
    whole = encoder(raw)
    alone = torch.cat([encoder(rows(raw, slice(i, i + 1))) for i in range(n)])
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    assert torch.equal(whole, alone)
    assert torch.equal(encoder(rows(raw, order)), whole[order])
    assert torch.isfinite(whole).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_training_rows_does_not_matter(seed):
    raw = table(50, seed)
    shuffled = fit_encoder(rows(raw, torch.from_numpy(np.random.default_rng(seed).permutation(50))), COLUMNS)
    encoder = fit_encoder(raw, COLUMNS)
    assert shuffled.layout == encoder.layout
    torch.testing.assert_close(shuffled.encode(raw), encoder.encode(raw), rtol=1e-10, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_configuration_and_state_make_the_encoder_again(seed):
    encoder, raw = fit_encoder(table(40, seed), COLUMNS), table(20, seed + 1)
    again = encoder_from_config(json.loads(json.dumps(encoder_config(encoder))), encoder.state_dict())
    assert torch.equal(again(raw), encoder(raw))
    assert inputs(again) == inputs(encoder)
    assert not list(encoder.parameters())


def test_refitting_is_fitting():
    old, new = table(80, 0), table(30, 1)
    refitted, fitted = fit_encoder(old, COLUMNS).refit(new), fit_encoder(new, COLUMNS)
    assert refitted.layout == fitted.layout
    assert torch.equal(refitted(old), fitted(old))


def test_training_rows_have_mean_zero_and_deviation_one():
    raw = {"number": torch.from_numpy(np.random.default_rng(0).normal(1e6, 3.0, (500, 3)))}
    encoder = fit_encoder(raw, [Column(f"x{i}", Kind.NUMBER, "") for i in range(3)])
    x = encoder.encode(raw)
    torch.testing.assert_close(x.mean(0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(3, dtype=torch.float64), rtol=1e-10, atol=0)


def test_columns_that_do_not_vary_and_huge_ones_stay_finite():
    number = torch.tensor([
        [0.1, 1e300, torch.nan, 5e-324],
        [0.1, -1e300, torch.nan, 0.0],
        [0.1, 3e299, torch.nan, 0.0],
    ])
    raw = {"number": number.double()}
    raw["number"][:, 1] = torch.tensor([1e300, -1e300, 3e299], dtype=torch.float64)
    raw["number"][0, 3] = 5e-324
    encoder = fit_encoder(raw, [Column(f"x{i}", Kind.NUMBER, "") for i in range(4)])
    x = encoder(raw)
    assert torch.isfinite(x).all()
    assert torch.equal(x[:, 0], torch.zeros(3))
    assert 0.5 < x[:, 1].std(correction=0) < 1.5
    assert encoder({"number": raw["number"] + 1})[0, 0].item() == pytest.approx(1.0)


def test_groups_cover_the_row_and_name_the_columns():
    raw = table(100, 3)
    encoder = fit_encoder(raw, COLUMNS)
    groups = inputs(encoder).groups
    assert [g.start for g in groups] == [0, *(g.stop for g in groups[:-1])]
    assert groups[-1].stop == inputs(encoder).width == encoder(raw).shape[1]
    kinds = {(g.name, g.kind): g.stop - g.start for g in groups}
    assert kinds == {
        ("age", "number"): 1, ("smokes", "boolean"): 1, ("age", "missing"): 1, ("smokes", "missing"): 1,
        ("city", "category"): 5, ("size", "category"): 2, ("seen", "date"): 7, ("born", "date"): 5,
        ("seen", "missing"): 1, ("born", "missing"): 1,
    }  # fmt: skip


def test_of_many_levels_the_frequent_have_columns_and_the_rare_share_one():
    n_levels = 100
    codes = torch.cat([torch.arange(n_levels), torch.arange(70).repeat(3)])[:, None]
    columns = [Column("city", Kind.CATEGORY, "", levels=tuple(f"{i:03}" for i in range(n_levels)))]
    encoder = fit_encoder({"category": codes}, columns)
    x = encoder({"category": torch.tensor([[0], [62], [63], [99], [-2], [-1]])})
    assert x.shape[1] == LEVELS
    assert x.sum(1).tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]  # the unseen are among the others, the missing nowhere
    assert x.argmax(1)[:5].tolist() == [0, 62, 63, 63, 63]


def test_exactly_as_many_levels_as_columns_need_no_other():
    codes = torch.arange(LEVELS)[:, None]
    encoder = fit_encoder({"category": codes}, [Column("c", Kind.CATEGORY, "", levels=tuple(map(str, range(LEVELS))))])
    assert torch.equal(encoder({"category": codes}), torch.eye(LEVELS))
    assert encoder({"category": torch.tensor([[-2]])}).sum() == 0


def test_the_encoder_is_exported_with_any_number_of_rows():
    raw = table(50, 0)
    encoder = fit_encoder(raw, COLUMNS)
    batch = torch.export.Dim("batch", min=1, max=10_000)
    shapes = ({name: {0: batch} for name in raw},)
    program = torch.export.export(encoder, (raw,), dynamic_shapes=shapes)
    new = table(7, 1)
    assert torch.equal(program.module()(new), encoder(new))


def test_weekdays_seasons_and_hours_are_the_calendars():
    words = ["2024-02-29 06:00", "2023-03-01 18:00", "2024-03-04 00:00", "1960-03-01 00:00", "2024-03-01 00:00"]
    raw = {"date": torch.from_numpy(days_of(words, "year-month-day"))[:, None]}
    x = fit_encoder(raw, [Column("d", Kind.DATE, "")]).encode(raw)
    season, weekday, hour = x[:, 1:3], x[:, 3:5], x[:, 5:7]
    start = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert torch.equal(season[1], start)  # 1 March, in any year
    assert torch.equal(season[3], start)
    assert torch.equal(season[4], start)
    assert torch.equal(weekday[2], start)  # 2024-03-04 was a Monday
    torch.testing.assert_close(hour[0], torch.tensor([1.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(hour[1], torch.tensor([-1.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-15)


@settings(max_examples=20, deadline=None)
@given(shape=st.sampled_from([(4,), (3, 5), (2, 3, 4), (2, 2, 3, 2)]), seed=st.integers(0, 1000))
def test_a_tensor_encoder_standardises_channels_and_keeps_the_shape(shape, seed):
    x = torch.from_numpy(np.random.default_rng(seed).normal(7, 3, (20, *shape)))
    encoder = fit_tensor(x)
    got = encoder({"x": x})
    assert got.shape == x.shape
    axes = tuple(i for i in range(x.ndim) if i != 1) if len(shape) >= 3 else tuple(range(x.ndim))
    mean, sd = x.mean(axes, keepdim=True), x.std(axes, keepdim=True, correction=0)
    torch.testing.assert_close(got, ((x - mean) / sd).float(), rtol=1e-5, atol=1e-6)
    again = encoder_from_config(json.loads(json.dumps(encoder_config(encoder))), encoder.state_dict())
    assert torch.equal(again({"x": x}), got)


def test_encoders_that_cannot_be_made_again_are_refused():
    image = ImageEncoder(torch.tensor([0.5]), torch.tensor([0.25]))
    again = encoder_from_config(encoder_config(image), image.state_dict())
    assert torch.equal(again.mean, image.mean)
    with pytest.raises(Unsupported, match="Identity cannot be saved"):
        encoder_config(torch.nn.Identity())
    with pytest.raises(ModelError, match="'other' is no encoder"):
        encoder_from_config({"encoder": "other"})
    with pytest.raises(ModelError, match="do not fit"):
        encoder_from_config(encoder_config(TensorEncoder((2,))), {"mean": torch.zeros(3)})
