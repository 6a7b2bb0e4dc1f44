"""kokkiri update and kk.update: the whole job, what is refused, what is noticed, and what a kill leaves behind."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from tests_support import data_of

import kokkiri as kk
from kokkiri.cli.main import main
from kokkiri.data.digest import days_of, digest_of
from kokkiri.errors import DataError, ModelError, Unsupported, UsageError
from kokkiri.store import record_from_page, record_page
from kokkiri.verbs import rows_for

QUICK = ("--network", "mlp:8", "--likelihood", "gaussian", "--posterior", "laplace:full", "--epochs", "20")


def kokkiri(*arguments):
    """(exit code, standard output, standard error) of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    return code, out.getvalue(), err.getvalue()


def world(n, seed, shift=0.0, start=0):
    """Days, numbers and words, and a number that follows from them."""
    rng = np.random.default_rng(seed)
    x, city = rng.normal(size=n), rng.integers(0, 3, n)
    y = 5 + 2 * x + city + shift + rng.normal(size=n)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(start + np.arange(n), "D")
    return pd.DataFrame({"day": days, "x": x, "city": np.array(["Oslo", "Bergen", "Turku"])[city], "y": y})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with old.csv, a model of it, and new.csv."""
    folder = tmp_path_factory.mktemp("update")
    world(200, 0).to_csv(folder / "old.csv", index=False)
    world(100, 1, start=200).to_csv(folder / "new.csv", index=False)
    with contextlib.chdir(folder):
        code, _, err = kokkiri("fit", "old.csv", "--target", "y", "--out", "model", *QUICK, "--quiet")
    assert (code, err) == (0, "")
    return folder


@pytest.fixture
def made(folder, monkeypatch):
    """The same, entered."""
    monkeypatch.chdir(folder)
    return Path()


def content(folder):
    return {p.name: p.read_bytes() for p in Path(folder).iterdir()}


def refused(folder, *arguments, kind="DataError"):
    """What a command that must refuse says: four lines, exit code 2, and nothing is written."""
    before = {p: content(p) for p in folder.iterdir() if p.is_dir()}
    code, out, err = kokkiri("update", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"kokkiri.{kind}: ")
    assert [line.split()[0] for line in err.splitlines()[1:]] == ["needs", "found", "fix"]
    assert {p: content(p) for p in folder.iterdir() if p.is_dir()} == before
    return err


# the whole job


def test_a_table_in_two_parts_goes_from_fit_to_update_to_predict_to_show(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    embedded = Path(kk.__file__).with_name("data") / "embedded" / "concrete.csv"
    rows = list(csv.reader(embedded.read_text("utf-8").splitlines()))
    order = np.random.default_rng(0).permutation(len(rows) - 1) + 1
    for name, some in (("old.csv", order[:700]), ("new.csv", order[700:900]), ("test.csv", order[900:])):
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([rows[0], *(rows[i] for i in some)])
    arguments = "--network", "mlp:50", "--likelihood", "gaussian", "--posterior", "laplace:full", "--epochs", "40"
    model, updated = Path("m"), Path("m-updated")
    code, out, _ = kokkiri("fit", "old.csv", "--target", "strength", "--out", model, *arguments)
    assert code == 0
    assert "log p(data), laplace, full" in out
    before = content(model)
    code, out, _ = kokkiri("update", model, "new.csv")
    assert code == 0
    assert content(model) == before
    assert set(content(updated)) == {"model.json", "model.safetensors"}
    for said in (
        "200 rows of new.csv; 760 in all",
        "local, approximate",
        "log p(new | old)",
        "log p(all)",
    ):
        assert said in out
    old, new = kk.load(model), kk.load(updated)
    entry = new.record.updates[0]
    assert entry.rows == 200
    assert entry.expected == old.facts["evaluation"]["log_likelihood"]["value"]
    assert new.evidence.nats == old.evidence.nats + entry.nats
    assert new.evidence.rows == 760
    test = kk.read(tmp_path / "test.csv", "strength")
    worse, better = (kk.predict(p, test).log_prob(test.y).mean() for p in (old, new))
    assert better > worse
    code, _, err = kokkiri("predict", updated, tmp_path / "test.csv", "--out", tmp_path / "said.csv")
    assert code == 0
    assert f"{better:.3f}" in err
    code, out, _ = kokkiri("show", updated)
    assert code == 0
    for said in (
        "exactness approximate: a Gaussian around the mode", "evidence log p(data) = ", "760 rows",
        "approximately chained; approximate", "update 1 200 rows of new.csv learnt; local, approximate",
        "Before its updates: ",
    ):  # fmt: skip
        assert said in " ".join(out.split())


def test_what_is_printed_fits_80_columns(made, tmp_path):
    _, out, _ = kokkiri("update", made / "model", made / "new.csv", "--out", tmp_path / "out")
    assert max(map(len, out.splitlines())) <= 80


def test_an_exact_model_says_so_from_fit_to_update(made, tmp_path):
    data = kk.read(made / "old.csv", "y")
    recipe = kk.Laplace("full", tune="never")
    linear = kk.networks.MLP(data.inputs, [], 1)
    post = kk.fit(
        data, linear, kk.Gaussian(0.5, learn=False), posterior=recipe, patience=None, steps=50, progress=False
    )
    kk.save(post, tmp_path / "model")
    code, out, _ = kokkiri("update", tmp_path / "model", made / "new.csv", "--level", "exact")
    assert code == 0
    assert "exact: Bayes' rule itself" in out
    _, out, _ = kokkiri("show", tmp_path / "model-updated")
    said = " ".join(out.split())
    assert "exactness exact: outputs are linear in what is free" in said
    assert "laplace, full, chained; exact" in said
    assert "update 1 100 rows of new.csv learnt; exact; log p(new | old)" in said
    code, out, _ = kokkiri(
        "update", tmp_path / "model-updated", made / "new.csv", "--remove", "--out", tmp_path / "less"
    )
    assert code == 0
    less = kk.load(tmp_path / "less")
    assert less.evidence.nats == pytest.approx(post.evidence.nats, abs=1e-4)  # weights are float32
    _, out, _ = kokkiri("show", tmp_path / "less")
    assert "update 2 100 rows of new.csv taken out; exact" in " ".join(out.split())


def test_a_model_may_take_the_place_of_the_one_that_it_comes_from(made, tmp_path):
    for name, some in content(made / "model").items():
        (tmp_path / name).write_bytes(some)
    code, _, _ = kokkiri("update", tmp_path, made / "new.csv", "--out", tmp_path, "--overwrite", "--quiet")
    assert code == 0
    assert set(content(tmp_path)) == {
        "model.json", "model.safetensors", "before-update-report.html", "before-update-predictions.csv",
    }  # fmt: skip
    assert len(kk.load(tmp_path).record.updates) == 1


def test_the_same_update_gives_the_same_bits(made, tmp_path):
    for out in ("one", "two"):
        kokkiri("update", made / "model", made / "new.csv", "--out", tmp_path / out, "--steps", "20", "--quiet")
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one["model.safetensors"] == two["model.safetensors"]


# what is refused


def test_the_file_of_the_fit_is_refused(made, tmp_path):
    said = refused(made, made / "model", made / "old.csv", "--out", tmp_path / "x")
    assert "has learnt rows of old.csv already" in said
    assert "the file of the fit" in said
    assert not (tmp_path / "x").exists()


def test_a_file_that_was_learnt_is_refused_the_second_time_and_may_be_forced(made, tmp_path):
    kokkiri("update", made / "model", made / "new.csv", "--out", tmp_path / "one", "--quiet")
    said = refused(tmp_path, tmp_path / "one", made / "new.csv", "--out", tmp_path / "two")
    assert "the very rows of update 1" in said
    code, out, _ = kokkiri("update", tmp_path / "one", made / "new.csv", "--out", tmp_path / "two", "--force")
    assert code == 0
    assert "! forced: the posterior has learnt rows of new.csv already" in out
    assert (
        kk
        .load(tmp_path / "two")
        .record.notes[-1]
        .startswith("forced: the posterior has learnt rows of new.csv already")
    )
    _, out, _ = kokkiri("show", tmp_path / "two")
    assert "forced" in out


def test_rows_are_known_whatever_their_order_and_the_file_they_stand_in(made):
    data = kk.read(made / "old.csv", "y")
    some = data.rows(torch.arange(100))
    post = kk.fit(some, *simple(some), posterior=kk.Laplace("full"), steps=20, progress=False)
    with pytest.raises(DataError, match="the very rows of the fit"):
        kk.update(post, data.rows(torch.arange(100).flip(0)), progress=False)
    world(200, 0).head(100).sample(frac=1, random_state=0).to_csv(made / "again.csv", index=False)
    with pytest.raises(DataError, match="the very rows of the fit"):
        kk.update(post, made / "again.csv", progress=False)
    with pytest.raises(DataError, match="the file of the fit"):
        kk.update(post, data, progress=False)
    assert len(kk.update(post, data.rows(torch.arange(100, 200)), progress=False).record.updates) == 1


def simple(data):
    return kk.networks.MLP(data.inputs, [4], 1), kk.Gaussian()


def test_pictures_and_classes_are_known_again_too():
    data = kk.read("digits")
    old, new = data.rows(torch.arange(300)), data.rows(torch.arange(300, 400))
    net = kk.networks.MLP(data.inputs, [8], 10)
    post = kk.fit(old, net, kk.Categorical(), posterior=kk.Laplace("kronecker"), steps=50, progress=False)
    learnt = kk.update(post, new, progress=False)
    assert learnt.record.updates[0].level == "local"
    for rows in (old, new):
        with pytest.raises(DataError, match="already"):
            kk.update(learnt, rows, progress=False)


def test_rows_out_of_the_order_of_time_are_refused(made, tmp_path):
    for k, start in enumerate((300, 250)):
        world(50, 2 + k, start=start).to_csv(tmp_path / f"{start}.csv", index=False)
    kokkiri("update", made / "model", tmp_path / "300.csv", "--out", tmp_path / "one", "--quiet")
    said = refused(tmp_path, tmp_path / "one", tmp_path / "250.csv", "--out", tmp_path / "two")
    assert "250.csv is older than rows that the posterior has learnt" in said
    assert "rows whose 'day' does not end before 2024-10-27" in said
    assert "it ends 2024-10-26" in said
    arguments = tmp_path / "one", tmp_path / "250.csv", "--out", tmp_path / "two", "--force", "--quiet"
    assert kokkiri("update", *arguments)[0] == 0


def test_days_that_overlap_are_in_order(made, tmp_path):
    world(50, 9, start=100).to_csv(tmp_path / "between.csv", index=False)  # a date of birth, say
    assert kokkiri("update", made / "model", tmp_path / "between.csv", "--out", tmp_path / "one", "--quiet")[0] == 0


def test_days_are_those_of_the_rows(made):
    first, last = days_of(kk.read(made / "new.csv", "y"))
    day = (pd.Timestamp("2024-01-01") - pd.Timestamp("1970-01-01")).days + 200
    assert (first, last) == ({"day": day}, {"day": day + 99})
    assert days_of(kk.read("concrete")) == ({}, {})


def test_points_have_nothing_to_update(made, tmp_path):
    arguments = "--target", "y", "--network", "linear", "--likelihood", "gaussian", "--steps", "20", "--quiet"
    kokkiri("fit", made / "old.csv", *arguments, "--posterior", "point", "--out", tmp_path / "point")
    said = refused(tmp_path, tmp_path / "point", made / "new.csv", "--out", tmp_path / "x", kind="Unsupported")
    assert "found   points or draws" in said
    assert "--posterior laplace" in said


def test_a_covariance_of_low_rank_is_no_prior_to_add_to_and_is_refused_before_any_descent():
    data = kk.read(world(60, 0), "y")
    post = kk.fit(data, *simple(data), posterior=kk.posteriors.SWAG(rank=4), steps=40, progress=False)
    with pytest.raises(Unsupported, match="cannot be updated") as error:
        kk.update(post, kk.read(world(20, 1), "y"), steps=10**9, progress=False)
    assert "a covariance of low rank" in str(error.value)


@pytest.mark.parametrize("level", ["local", "full"])
def test_a_diagonal_gaussian_of_another_recipe_learns_too(level):
    data, new = kk.read(world(100, 0), "y"), kk.read(world(60, 1, shift=3), "y")
    likelihood, recipe = kk.StudentT(), kk.posteriors.Variational()  # two parameters of the likelihood's own
    net = kk.networks.MLP(data.inputs, [4], 1)
    post = kk.fit(data, net, likelihood, posterior=recipe, steps=300, progress=False)
    learnt = kk.update(post, new, level=level, progress=False)
    before, after = (kk.predict(p, new).log_prob(new.y).mean() for p in (post, learnt))
    assert after > before + 0.1
    assert (learnt.precision[0].diagonal() >= post.precision[0].diagonal() * (1 - 1e-9)).all()


def test_a_mixture_around_features_of_its_own_has_no_density():
    data = kk.read(world(60, 0), "y")
    net = kk.networks.MLP(data.inputs, [3], 1)
    post = kk.fit(
        data, net, kk.Gaussian(), posterior=kk.Laplace("full", layers="last", size=2), steps=40, progress=False
    )
    with pytest.raises(Unsupported, match="this mixture has no density"):
        post.log_prob({name: t[0] for name, t in post.herd.params.items()})


def test_a_level_that_there_is_not_and_one_that_would_not_be_exact_are_refused(made, tmp_path):
    where = made / "model", made / "new.csv", "--out", tmp_path / "x"
    assert "exact or local or full" in refused(made, *where, "--level", "best", kind="UsageError")
    assert "no exact update" in refused(made, *where, "--level", "exact", kind="Unsupported")
    assert "fit again without the rows" in refused(made, *where, "--remove", kind="Unsupported")
    assert not (tmp_path / "x").exists()


def test_rows_without_their_target_are_refused(made, tmp_path):
    world(20, 3, start=200).drop(columns="y").to_csv(tmp_path / "blind.csv", index=False)
    assert "no column 'y'" in refused(made, made / "model", tmp_path / "blind.csv", "--out", tmp_path / "x")
    holes = world(20, 3, start=200)
    holes.loc[4, "y"] = None
    holes.to_csv(tmp_path / "holes.csv", index=False)
    assert "'y' is missing in 1 row" in refused(made, made / "model", tmp_path / "holes.csv", "--out", tmp_path / "x")


def test_a_column_or_a_file_that_is_not_there_is_refused(made, tmp_path):
    world(20, 3, start=200).drop(columns="x").to_csv(tmp_path / "less.csv", index=False)
    assert "lacks 1 column" in refused(made, made / "model", tmp_path / "less.csv", "--out", tmp_path / "x")
    assert "there is no file" in refused(made, made / "model", tmp_path / "none.csv", "--out", tmp_path / "x")
    said = refused(made, made / "nomodel", made / "new.csv", "--out", tmp_path / "x", kind="ModelError")
    assert "there is no model" in said


def test_a_place_that_is_taken_is_refused_before_anything_is_done(made, tmp_path):
    said = refused(made, made / "model", made / "new.csv", "--out", made / "model", kind="OutputError")
    assert "--overwrite, or another --out" in said
    (tmp_path / "file").write_text("")
    said = refused(made, made / "model", made / "new.csv", "--out", tmp_path / "file" / "x", kind="OutputError")
    assert "is a file" in said


def test_a_class_that_the_model_does_not_know_is_refused(tmp_path):
    frame = pd.DataFrame({"x": np.arange(60.0) % 7, "c": np.array(["a", "b", "c"])[np.arange(60) % 3]})
    frame.to_csv(tmp_path / "old.csv", index=False)
    pd.DataFrame({"x": [1.0, 2.0], "c": ["a", "z"]}).to_csv(tmp_path / "new.csv", index=False)
    arguments = "--target", "c", "--network", "linear", "--posterior", "laplace", "--steps", "20", "--quiet"
    kokkiri("fit", tmp_path / "old.csv", *arguments, "--out", tmp_path / "m")
    said = refused(tmp_path, tmp_path / "m", tmp_path / "new.csv", "--out", tmp_path / "x")
    assert "one of a, b, c" in said
    assert "'z'" in said


def test_levels_are_checked_before_the_rows_are_read():
    post = small()
    with pytest.raises(UsageError, match="there is no level 'quick'"):
        kk.update(post, "no such file.csv", level="quick")


def small(n=60):
    recipe, likelihood = kk.Laplace("full", tune="never"), kk.Gaussian(0.5, learn=False)
    data = line(n, 0)
    return kk.fit(data, torch.nn.Linear(2, 1), likelihood, posterior=recipe, steps=200, progress=False, patience=None)


def line(n, seed, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, generator=g)
    y = x[:, 0] - x[:, 1] + shift + 0.5 * torch.randn(n, generator=g)
    return data_of(x, y.double())


# what is noticed


def test_rows_of_the_same_world_raise_no_alarm():
    """z of 60 batches, each against one before it: N(0, 1), and none below -3 but by chance."""
    post, z = small(4000), []
    for k in range(60):
        first = kk.update(post, line(300, 100 + 2 * k), progress=False)
        z.append(kk.update(first, line(300, 101 + 2 * k), progress=False).record.updates[-1].drift)
    assert stats.kstest(z, "norm").pvalue > 1e-3
    alarms = sum(value < -3 for value in z)
    assert stats.binom.sf(alarms - 1, 60, 0.005) > 1e-3  # a log-likelihood has the longer tail below


def test_rows_of_another_world_are_noticed_and_the_note_is_kept():
    post = kk.update(small(), line(300, 1), progress=False)
    learnt = kk.update(post, line(300, 2, shift=0.5), progress=False)
    entry = learnt.record.updates[-1]
    assert entry.drift < -3
    assert entry.expected == post.record.updates[-1].per_row
    assert any("predicted worse than expected" in note for note in learnt.record.notes)
    again = kk.update(learnt, line(300, 3, shift=0.5), progress=False)
    assert again.record.updates[-1].drift > entry.drift  # it has learnt of the new world


def test_the_command_says_that_the_world_has_changed(made, tmp_path):
    world(100, 4, shift=6, start=200).to_csv("changed.csv", index=False)
    code, out, _ = kokkiri("update", made / "model", "changed.csv", "--out", tmp_path / "x")
    assert code == 0
    assert "standard errors short of it" in out
    assert "! changed.csv: its rows are predicted worse than expected" in out


def test_one_row_is_learnt_without_a_verdict():
    entry = kk.update(kk.update(small(), line(50, 1), progress=False), line(1, 2), progress=False).record.updates[-1]
    assert entry.drift is None
    assert np.isnan(entry.se)


def test_rows_that_are_impossible_are_refused():
    far = line(5, 1)
    far = replace(far, y=far.y + 1e200)
    with pytest.raises(DataError, match="no finite evidence"):
        kk.update(small(), far, progress=False)


def test_a_descent_that_diverges_says_so():
    post = kk.update(small(), line(50, 1), level="full", optimizer=kk.SGD(lr=1e6), steps=50, progress=False)
    assert post.record.status is kk.Status.DIVERGED
    assert any("divide --lr by 10" in note for note in post.record.notes)


# on disk


@pytest.mark.parametrize("structure", ["full", "kronecker", "ekfac", "diagonal", "low-rank"])
def test_an_updated_model_survives_the_disk(structure, tmp_path):
    data = kk.read(world(90, 0), "y")
    old, new = data.rows(torch.arange(60)), data.rows(torch.arange(60, 90))
    net = kk.networks.MLP(data.inputs, [4], 1, activation="tanh")
    post = kk.fit(old, net, kk.Gaussian(), posterior=kk.Laplace(structure, size=2), steps=100, progress=False)
    learnt = kk.update(post, replace(new, y=new.y + 6), progress=False)
    assert learnt.offset is not None
    kk.save(learnt, tmp_path / "m")
    again = kk.load(tmp_path / "m")
    assert json.dumps(record_page(again.record)) == json.dumps(record_page(learnt.record))
    assert again.evidence == learnt.evidence
    assert torch.equal(again.offset, learnt.offset)
    one, two = (kk.predict(p, new) for p in (learnt, again))
    assert torch.equal(one.mean, two.mean)
    assert torch.equal(one.log_prob(new.y), two.log_prob(new.y))
    for name, t in learnt.draw(5, seed=0).params.items():
        assert torch.equal(t, again.draw(5, seed=0).params[name])


def test_a_record_of_updates_survives_json(made, tmp_path):
    kokkiri("update", made / "model", made / "new.csv", "--out", tmp_path / "m", "--quiet")
    record = kk.load(tmp_path / "m").record
    assert record.updates[0].since == days_of(rows_for(kk.load(made / "model"), made / "new.csv"))[0]
    assert record.updates[0].sha256 == digest_of(rows_for(kk.load(made / "model"), made / "new.csv"))
    assert record_from_page(json.loads(json.dumps(record_page(record)))) == record


def test_models_of_an_older_format_are_refused_in_four_lines(made, tmp_path):
    from kokkiri.store import JSON, TENSORS, read_page, sealed

    page = {**read_page(made / "model"), "format": 1}
    del page["sha256"]
    (tmp_path / TENSORS).write_bytes((made / "model" / TENSORS).read_bytes())
    (tmp_path / JSON).write_bytes(sealed(page))
    with pytest.raises(ModelError, match="has format 1") as error:
        kk.load(tmp_path)
    assert str(error.value).count("\n") == 3


# what a kill leaves behind


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_between_any_two_writes_an_update_in_place_leaves_a_whole_model(made, tmp_path):
    """Every rename, link, removal and flush is tried as the last thing that the process does."""
    start = content(made / "model")
    old, ends = kk.load(made / "model"), set()
    for k in range(1, 100):
        place = tmp_path / str(k)
        place.mkdir()
        for name, some in start.items():
            (place / name).write_bytes(some)
        if died := killed_at(k, "update", place, made / "new.csv", "--out", place, "--overwrite", "--quiet"):
            again = kk.load(place)
            many = len(again.record.updates)
            ends.add(many)
            whole = old if many == 0 else None
            if whole is not None:
                for name, t in again.herd.params.items():
                    assert torch.equal(t, old.herd.params[name])
            assert (
                kokkiri("update", place, made / "new.csv", "--out", place, "--overwrite", "--force", "--quiet")[0] == 0
            )
            assert len(kk.load(place).record.updates) == many + 1
            assert not [n for n in content_names(place) if "part" in n or n.endswith(".old")]
        else:
            break
    assert not died
    assert k > 5
    assert ends == {0, 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_between_any_two_writes_a_new_place_holds_a_whole_model_or_none(made, tmp_path):
    ends = set()
    for k in range(1, 100):
        place = tmp_path / str(k)
        if not killed_at(k, "update", made / "model", made / "new.csv", "--out", place, "--quiet"):
            break
        there = (place / "model.json").exists()
        ends.add(there)
        if there:
            assert len(kk.load(place).record.updates) == 1
    assert k > 3
    assert False in ends


def content_names(folder):
    return [p.name for p in Path(folder).rglob("*")]


def killed_at(k, *arguments):
    """Whether the command, in a process of its own, got as far as the k-th write of any kind, and died there."""
    child = os.fork()
    if not child:
        left = [k]

        def counted(call):
            def run(*given, **more):
                left[0] -= 1
                if not left[0]:
                    os._exit(9)
                return call(*given, **more)

            return run

        for name in ("replace", "rename", "link", "unlink", "fsync", "mkdir", "rmdir"):
            setattr(os, name, counted(getattr(os, name)))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = main([str(a) for a in arguments])
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 9}
    return status == 9


@pytest.mark.slow
def test_killed_at_any_instant_the_old_model_is_whole(made, tmp_path):
    command = [sys.executable, "-m", "kokkiri.cli.main", "update", made / "model", made / "new.csv"]
    for k in range(12):
        out = tmp_path / str(k)
        process = subprocess.Popen([*command, "--out", out, "--quiet"])
        time.sleep(0.5 + 0.4 * k)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(kk.load(made / "model").record.updates) == 0
        if (out / "model.json").exists():
            assert len(kk.load(out).record.updates) == 1


def test_interrupted_an_update_writes_nothing(made, tmp_path):
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    before = content(made / "model")
    code, out, err = kokkiri(
        "update",
        made / "model",
        made / "new.csv",
        "--level",
        "full",
        "--steps",
        "10000000",
        "--out",
        tmp_path / "x",
        "--quiet",
    )
    timer.join()
    assert (code, out) == (130, "")
    assert err == "interrupted\n"
    assert not (tmp_path / "x").exists()
    assert content(made / "model") == before


def test_the_old_posterior_is_not_changed():
    post, state = small(), torch.get_rng_state()
    before = {n: t.clone() for n, t in post.herd.params.items()}
    dense = post.precision[0].dense()
    for more in ({}, {"level": "local"}, {"steps": 20}):
        kk.update(post, line(30, 5), progress=False, **more)
    assert all(torch.equal(t, before[n]) for n, t in post.herd.params.items())
    assert torch.equal(post.precision[0].dense(), dense)
    assert post.record.updates == ()
    assert torch.equal(torch.get_rng_state(), state)


def test_an_update_without_rows_is_refused():
    with pytest.raises((DataError, Unsupported)):
        kk.update(small(), line(30, 5).rows(torch.arange(0)), progress=False)
