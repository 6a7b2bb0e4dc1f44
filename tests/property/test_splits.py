"""Laws of splits: every row on one side, shares as promised, and nothing learnt from the side that judges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kokkiri.data.core import Source
from kokkiri.data.frames import open_table
from kokkiri.data.images import image_data
from kokkiri.data.read import read
from kokkiri.data.splits import folds, given_split, random_split, split, time_split
from kokkiri.data.tables import table_data
from kokkiri.errors import DataError, UsageError

SEEDS = st.integers(0, 10_000)


def is_partition(keep, out, n):
    return sorted(torch.cat([keep, out]).tolist()) == list(range(n)) and len(keep) > 0 and len(out) > 0


def people(n=120, seed=0):
    rng = np.random.default_rng(seed)
    city = rng.choice(["Oslo", "Bergen", "Bodø"], n).astype(object)
    return open_table({
        "age": rng.normal(40, 10, n),
        "city": city.tolist(),
        "patient": [f"p{i}" for i in rng.integers(0, 30, n)],
        "visit": np.datetime64("2020-01-01") + rng.integers(0, 300, n).astype("timedelta64[D]"),
        "y": rng.normal(0, 1, n),
        "ill": rng.choice(["no", "yes"], n, p=[0.7, 0.3]).tolist(),
    })


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 200), fraction=st.floats(0.01, 0.99), seed=SEEDS)
def test_a_random_split_is_a_partition_of_the_promised_size(n, fraction, seed):
    keep, out = random_split(n, fraction, seed)
    assert is_partition(keep, out, n)
    assert len(out) == min(max(round(n * fraction), 1), n - 1)
    again = random_split(n, fraction, seed)
    assert torch.equal(keep, again[0])


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(1, 60), min_size=2, max_size=6), fraction=st.floats(0.05, 0.6), seed=SEEDS)
def test_a_stratified_split_takes_each_class_by_its_share(counts, fraction, seed):
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    y = y[torch.from_numpy(np.random.default_rng(seed).permutation(len(y)))]
    n = len(y)
    keep, out = random_split(n, fraction, seed, y=y)
    assert is_partition(keep, out, n)
    wanted = min(max(round(n * fraction), 1), n - 1)
    taken = torch.bincount(y[out], minlength=len(counts))
    if max(counts) > 1:
        assert (torch.bincount(y[keep], minlength=len(counts)) >= 1).all()
        share = torch.tensor(counts) * wanted / n
        assert (taken <= share.floor() + 1).all()
        assert ((taken >= share.floor()) | (taken == torch.tensor(counts) - 1)).all()
        assert len(out) <= wanted


@settings(max_examples=60, deadline=None)
@given(n=st.integers(4, 150), groups=st.integers(2, 30), fraction=st.floats(0.05, 0.6), seed=SEEDS)
def test_no_group_is_on_both_sides(n, groups, fraction, seed):
    g = torch.from_numpy(np.random.default_rng(seed).integers(0, groups, n))
    g[:2] = torch.tensor([0, 1])
    keep, out = random_split(n, fraction, seed, groups=g)
    assert is_partition(keep, out, n)
    assert not set(g[keep].tolist()) & set(g[out].tolist())
    largest = int(torch.bincount(g).max())
    assert abs(len(out) - n * fraction) <= largest + 1


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.integers(0, 20), min_size=2, max_size=80), fraction=st.floats(0.05, 0.9))
def test_what_judges_is_later_than_what_is_learnt_from(times, fraction):
    t = torch.tensor(times, dtype=torch.float64)
    if len(set(times)) == 1:
        with pytest.raises(DataError, match="the time is the same in all rows"):
            time_split(t, fraction)
        return
    keep, out = time_split(t, fraction)
    assert is_partition(keep, out, len(times))
    assert t[keep].max() < t[out].min()


@settings(max_examples=60, deadline=None)
@given(n=st.integers(2, 120), k=st.integers(2, 8), seed=SEEDS, classes=st.integers(1, 5))
def test_folds_are_even_in_all_and_in_each_class(n, k, seed, classes):
    if k > n:
        with pytest.raises(UsageError, match="folds cannot be made"):
            folds(n, k, seed)
        return
    y = torch.from_numpy(np.random.default_rng(seed).integers(0, classes, n))
    for number in (folds(n, k, seed), folds(n, k, seed, y=y)):
        sizes = torch.bincount(number, minlength=k)
        assert sizes.max() - sizes.min() <= 1
    for c in range(classes):
        sizes = torch.bincount(number[y == c], minlength=k)
        assert sizes.max() - sizes.min() <= 1


@settings(max_examples=40, deadline=None)
@given(n=st.integers(10, 120), k=st.integers(2, 5), groups=st.integers(6, 40), seed=SEEDS)
def test_no_group_is_in_two_folds(n, k, groups, seed):
    g = torch.from_numpy(np.random.default_rng(seed).integers(0, groups, n))
    if len(set(g.tolist())) < k:
        return
    number = folds(n, k, seed, groups=g)
    assert all(len(set(number[g == value].tolist())) == 1 for value in g.unique())
    assert set(number.tolist()) == set(range(k))


def test_the_random_split_is_uniform():
    # 2,000 splits of 10 rows, 3 apart: each row's count is binomial(2000, 0.3); a z-score beyond 5.2 has p < 1e-6
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[random_split(10, 0.3, seed)[1]] += 1
    z = (counts - 600) / (2000 * 0.3 * 0.7) ** 0.5
    assert z.abs().max() < 5.2


def test_statistics_come_from_training_rows_alone():
    data = table_data(people(), "y", drop=["patient"])
    train, test = split(data, 0.3, seed=3)
    number = data.raw["number"][train.row_index, 0]
    assert test.encoder is train.encoder
    torch.testing.assert_close(train.encoder.mean[0], number.mean(), rtol=1e-12, atol=0)
    assert train.encoder.mean[0] != data.encoder.mean[0]
    y = data.y[train.row_index]
    assert train.target.shift == pytest.approx(y.mean().item(), rel=1e-12)
    assert train.target.scale == pytest.approx(y.std(correction=0).item(), rel=1e-12)
    assert train.target == test.target == train.schema.target
    assert torch.equal(data.raw["number"][test.row_index], test.raw["number"])


def test_what_judges_cannot_change_what_is_learnt():
    table = people()
    data = table_data(table, "y", drop=["patient"])
    train, test = split(data, 0.3, seed=3)
    other = data.raw | {"number": data.raw["number"].clone(), "category": data.raw["category"].clone()}
    other["number"][test.row_index] = 1e9
    other["category"][test.row_index] = -1
    from dataclasses import replace

    again, _ = split(replace(data, raw=other, _cache={}), 0.3, seed=3)
    assert torch.equal(again.x, train.x)


def test_a_level_that_only_test_rows_have_is_encoded_as_nothing():
    city = ["Oslo", "Bergen"] * 10 + ["Turku"] * 4
    data = table_data(open_table({"city": city, "x": np.arange(24) * 0.5, "y": [0.5, 1.5, 3.0] * 8}), "y")
    train, test = split(data, rows=torch.arange(20, 24))
    assert [g.stop - g.start for g in train.inputs.groups if g.name == "city"] == [2]
    city_columns = next(g for g in test.inputs.groups if g.name == "city")
    assert test.x[:, city_columns.start : city_columns.stop].abs().sum() == 0


def test_groups_and_times_may_be_columns_that_are_used_or_left_out():
    table = people()
    for drop in ((), ("patient", "visit", "city")):
        data = table_data(table, "y", drop=drop)
        train, test = data.split(0.25, group="patient")
        names = np.array(table.values["patient"].data)
        assert not set(names[train.row_index]) & set(names[test.row_index])
        train, test = split(data, 0.25, time="visit")
        when = table.values["visit"].data
        assert when[train.row_index].max() < when[test.row_index].min()
        split(data, 0.25, group="city")


def test_classes_are_stratified_unless_told_otherwise():
    data = table_data(people(200), "ill", drop=["patient"])
    share = lambda part: part.y.double().mean().item()
    parts = [split(data, 0.2, seed=s) for s in range(8)]
    assert all(abs(share(train) - share(test)) < 0.02 for train, test in parts)
    loose = [split(data, 0.2, seed=s, stratify=False) for s in range(8)]
    assert any(abs(share(train) - share(test)) > 0.02 for train, test in loose)


def test_a_published_split_is_used_unless_another_is_asked_for():
    rows = (torch.tensor([3, 5, 8]), torch.tensor([1]))
    data = table_data(people(), "y", drop=["patient"], published=rows)
    assert split(data)[1].row_index.tolist() == [3, 5, 8]
    assert split(data, published=1)[1].row_index.tolist() == [1]
    assert len(split(data, 0.25, published=None)[1]) == 30
    assert len(split(data, 0.25, time="visit")[1]) >= 30
    with pytest.raises(UsageError, match="no published split 2"):
        split(data, published=2)


def test_published_rows_are_those_of_the_file_where_rows_were_left_out():
    table = open_table({"x": np.arange(20) * 0.3, "y": [None, *np.linspace(0, 1, 19)]})
    data = table_data(table, "y", drop_missing_target=True, published=[torch.tensor([0, 4])])
    test = split(data)[1]
    assert test.row_index.tolist() == [4]
    assert test.raw["number"][0, 0] == pytest.approx(1.2)


def test_images_are_standardised_by_training_rows():
    pixels = torch.randint(256, (20, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = image_data(pixels, torch.arange(20) % 2, ["a", "b"], Source("noise"))
    train, test = split(data, rows=range(10, 20))
    assert train.encoder.mean.item() == pytest.approx(pixels[:10].double().mean().item() / 255, rel=1e-6)
    assert test.encoder is train.encoder
    assert train.inputs.shape == (1, 4, 4)


def test_tensors_are_standardised_by_training_rows():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 3, 5)))
    train, _ = split(read(x, y=torch.arange(20) % 2), rows=range(10, 20))
    torch.testing.assert_close(train.encoder.mean.flatten()[0], x[:10].mean(), rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ({"test": 0.0}, UsageError, "a share of 0 of the rows"),
        ({"test": 1.0}, UsageError, "a share of 1 of the rows"),
        ({"group": "patint"}, DataError, "did you mean 'patient'"),
        ({"group": "patient", "time": "visit"}, UsageError, "group and time"),
        ({"rows": []}, UsageError, "at least one"),
        ({"rows": [500]}, UsageError, "row numbers from 0 to 119"),
        ({"rows": range(120)}, UsageError, "one part of the split is empty"),
        ({"stratify": True}, UsageError, "only classes can be stratified"),
        ({"time": "city"}, DataError, "words have no order in time"),
    ],
)
def test_a_split_that_cannot_be_says_why(rule, error, message):
    with pytest.raises(error, match=message):
        split(table_data(people(), "y"), **rule)


def test_rows_without_a_time_are_named():
    table = open_table({"x": np.arange(20) * 0.3, "t": [1.5, None, *range(18)], "y": np.arange(20) * 0.7})
    with pytest.raises(DataError, match="none in row 2"):
        split(table_data(table, "y"), time="t")


def test_truth_values_choose_rows():
    keep, out = given_split(4, torch.tensor([False, True, True, False]))
    assert (keep.tolist(), out.tolist()) == ([0, 3], [1, 2])
