"""Models survive the disk bit for bit, run no code from it, and the verbs leave what they were given alone."""

from __future__ import annotations

import copy
import random
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from tests_support import some_numbers
from torch import nn
from torch.utils.data import TensorDataset

import kokkiri as kk
from kokkiri.numerics.random import philox
from kokkiri.store import record_from_page, record_page


def columns(n=60):
    """Columns of numbers with gaps, of words and of dates; a class, a number and a count that follow from them."""
    rng = philox(0, "columns")
    x, city = rng.normal(size=n), rng.integers(0, 3, n)
    gaps = np.where(rng.random(n) < 0.2, np.nan, x)
    return {
        "x": x,
        "gaps": gaps,
        "city": np.array(["Oslo", "Bergen", "Turku"])[city],
        "day": np.datetime64("2020-01-01") + np.arange(n),
        "two": np.where(x + 0.3 * rng.normal(size=n) > 0, "yes", "no"),
        "three": np.array(["a", "b", "c"])[np.clip(np.round(x + 1), 0, 2).astype(int)],
        "number": 100 + 5 * x + rng.normal(size=n),
        "count": rng.poisson(np.exp(x + 2)),
    }


INPUTS = ("x", "gaps", "city", "day")
TARGETS = {
    "two": (kk.Bernoulli(), kk.Categorical()),
    "three": (kk.Categorical(),),
    "number": (
        kk.Gaussian(),
        kk.likelihoods.Laplace(),
        kk.StudentT(),
        kk.HeteroscedasticGaussian(),
        kk.HeteroscedasticStudentT(),
    ),
    "count": (kk.Poisson(), kk.NegativeBinomial(), kk.Gaussian()),
}
EVERY = [(target, likelihood) for target, all_of_it in TARGETS.items() for likelihood in all_of_it]


def table(target, make=dict):
    chosen = {name: values for name, values in columns().items() if name in {*INPUTS, target}}
    return kk.read(make(chosen), target, kinds={"count": "number"} if target == "count" else None)


def quick(data, *blocks, **options):
    return kk.fit(data, *blocks, **{"steps": 20, "posterior": kk.Point(), "progress": False} | options)


def mlp(data):
    return lambda outputs: kk.networks.MLP(data.inputs, [5], outputs, dropout=0.1)


def same_bits(a, b, x):
    assert type(a.likelihood) is type(b.likelihood)
    assert repr(a.likelihood) == repr(b.likelihood)
    p, q = kk.predict(a, x), kk.predict(b, x)
    assert torch.equal(p.mean, q.mean)
    assert torch.equal(p.variance, q.variance)
    assert torch.equal(p.epistemic, q.epistemic)
    assert torch.equal(p.sample(3, seed=1), q.sample(3, seed=1))


@pytest.mark.parametrize("posterior", [kk.Point(), kk.Ensemble(3)], ids=repr)
@pytest.mark.parametrize(("target", "likelihood"), EVERY, ids=str)
def test_a_saved_model_of_a_table_predicts_the_same_bits(tmp_path, posterior, target, likelihood):
    data = table(target)
    post = quick(data, kk.networks.MLP(data.inputs, [5], likelihood.outputs(data.target.classes or 1)), likelihood,
                 posterior=posterior)  # fmt: skip
    again = kk.load(kk.save(post, tmp_path / "m"))
    same_bits(post, again, data)
    new = {name: values[:7] for name, values in columns().items() if name in INPUTS}
    same_bits(post, again, new)
    assert torch.equal(kk.predict(post, data).log_prob(data.y), kk.predict(again, data).log_prob(data.y))


@pytest.mark.parametrize("posterior", [kk.Point(), kk.Ensemble(2)], ids=repr)
def test_a_saved_model_of_pictures_predicts_the_same_bits(tmp_path, posterior):
    data = kk.read("digits").rows(torch.arange(200))
    network = lambda: kk.networks.ConvNet(data.inputs, 10, channels=(2,), dense=8)
    post = quick(data, network, kk.Categorical(), posterior=posterior)
    again = kk.load(kk.save(post, tmp_path / "m"))
    same_bits(post, again, data)
    same_bits(post, again, data.x[:5])
    assert again.form.target.name == "digit"


def test_a_saved_model_of_tensors_predicts_the_same_bits(tmp_path):
    x = torch.from_numpy(philox(1, "x").normal(size=(50, 2, 3))).float()
    y = x.sum((1, 2)) + 1
    post = quick(kk.read(x, y=y), kk.networks.MLP(6, [4], 1), kk.Gaussian())
    again = kk.load(kk.save(post, tmp_path / "m"))
    same_bits(post, again, kk.read(x))
    same_bits(post, again, x.numpy())


def test_a_record_survives_the_disk_as_it_is(tmp_path):
    data = table("number")
    post = kk.fit(data, steps=20, posterior=kk.Point(), progress=False)
    again = kk.load(kk.save(post, tmp_path / "m"))
    assert len(post.record.candidates) > 1
    assert post.record.curve.held_out
    assert again.record == post.record
    assert record_from_page(record_page(post.record)) == post.record
    assert again.form.inputs == post.form.inputs
    assert again.form.target == post.form.target
    assert again.form.schema == post.form.schema


def test_predictions_can_be_asked_of_anything_that_holds_the_rows(tmp_path):
    data = table("two")
    post = quick(data, kk.networks.MLP(data.inputs, [5], 1), kk.Bernoulli())
    plain = {name: columns()[name] for name in INPUTS}
    pl.DataFrame(plain).write_csv(tmp_path / "new.csv")
    pl.DataFrame(plain).write_parquet(tmp_path / "new.parquet")
    expected = kk.predict(post, data).mean
    holders = [data.x, plain, pd.DataFrame(plain), pl.DataFrame(plain), tmp_path / "new.parquet"]
    for holder in holders:
        assert torch.equal(kk.predict(post, holder).mean, expected), type(holder)
    # a CSV holds 17 digits of a number, which is all of it
    assert torch.equal(kk.predict(post, tmp_path / "new.csv").mean, expected)
    again = table("two")  # read anew: another encoder, the same columns
    assert torch.equal(kk.predict(post, again).mean, expected)


@pytest.mark.parametrize("holder", ["dataset", "arrays", "pandas", "polars", "path", "sql"])
def test_fit_takes_whatever_holds_data(tmp_path, holder):
    rng = philox(2, "holders")
    x = rng.normal(size=(40, 2))
    y = x @ [1.0, -2.0] + 0.1 * rng.normal(size=40)
    named = {"a": x[:, 0], "b": x[:, 1], "y": y}
    pl.DataFrame(named).write_csv(tmp_path / "t.csv")
    what = {
        "dataset": TensorDataset(torch.from_numpy(x), torch.from_numpy(y)),
        "arrays": (x, y),
        "pandas": pd.DataFrame(named),
        "polars": pl.DataFrame(named),
        "path": tmp_path / "t.csv",
        "sql": f"SELECT * FROM '{tmp_path / 't.csv'}'",
    }[holder]
    target = None if holder in {"dataset", "arrays"} else "y"
    network = lambda: kk.networks.MLP(2, [], 1)
    post = quick(what, network, kk.Gaussian(), kk.Adam(lr=0.05), target=target, steps=400, patience=None)
    new = x[:5] if target is None else {"a": x[:5, 0], "b": x[:5, 1]}
    np.testing.assert_allclose(kk.predict(post, new).mean, y[:5], atol=0.5)  # five standard deviations of the noise


def test_with_everything_fixed_by_hand_nothing_is_chosen():
    data, schedule = some_numbers(), kk.StepDecay()
    post = kk.fit(
        data, kk.networks.MLP(3, [4], 1), kk.likelihoods.Laplace(), kk.SGD(lr=0.01),
        prior=kk.Normal(2.0), posterior=kk.Point(), steps=30, batch=8, schedule=schedule, clip=1.0, patience=None,
        seed=7, threads=1, progress=False,
    )  # fmt: skip
    config = {name: value for name, (value, _) in post.record.config.items()}
    assert config["optimizer"] == repr(kk.SGD(lr=0.01))
    assert config["prior"] == repr(kk.Normal(2.0))
    assert config["schedule"] == repr(schedule)
    assert (config["steps"], config["batch"], config["clip"], post.record.seed) == (30, 8, 1.0, 7)
    assert post.record.steps == 30
    assert post.record.status is kk.Status.DONE
    assert len(post.record.candidates) == 1


def test_the_seed_alone_decides_the_bits():
    data = table("number")
    fitted = lambda seed: quick(data, mlp(data), kk.Gaussian(), seed=seed).herd.params.values()
    weights = lambda seed: torch.cat([t.flatten() for t in fitted(seed)])
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def state():
    return torch.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate(), torch.get_num_threads()


class Own(nn.Module):
    """A network with everything that can be disturbed: weights, buffers, dropout, a mode."""

    def __init__(self, inputs=7, outputs=1):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(inputs, 4), nn.BatchNorm1d(4), nn.Dropout(0.2)
        self.last = nn.Linear(4, outputs)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


@pytest.mark.parametrize("posterior", [kk.Point(), kk.Ensemble(2)], ids=repr)
def test_verbs_leave_global_randomness_and_the_users_network_and_data_alone(tmp_path, posterior):
    data = table("number")
    torch.manual_seed(5)
    network = Own(data.inputs.width)
    weights, mode, x, y = copy.deepcopy(network.state_dict()), network.training, data.x.clone(), data.y.clone()
    before = state()
    post = quick(data, network, kk.Gaussian(), posterior=posterior)
    kk.predict(post, data).sample(2, seed=0)
    kk.load(kk.save(post, tmp_path / "m"), network)
    kk.load(tmp_path / "m", lambda: Own(data.inputs.width))
    quick(data, mlp(data))
    assert state() == before
    assert network.training is mode
    assert all(torch.equal(t, weights[name]) for name, t in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(data.x, x)
    assert torch.equal(data.y, y)


def test_a_network_of_the_users_own_is_needed_again_or_trusted(tmp_path, monkeypatch):
    data = table("number")
    monkeypatch.setattr(Own, "__module__", "own_networks")  # as if in a file of the user's, on the path
    post = quick(data, Own(data.inputs.width), kk.Gaussian())
    kk.save(post, tmp_path / "m")
    with pytest.raises(kk.ModelError, match=r"own_networks:Own, not one of kokkiri's"):
        kk.load(tmp_path / "m")
    same_bits(post, kk.load(tmp_path / "m", Own(data.inputs.width)), data)
    same_bits(post, kk.load(tmp_path / "m", lambda: Own(data.inputs.width)), data)
    same_bits(post, kk.load(tmp_path / "m", lambda outputs: Own(data.inputs.width, outputs)), data)
    with pytest.raises(kk.ModelError, match="does not fit the weights"):
        kk.load(tmp_path / "m", Own(data.inputs.width + 1))
    with pytest.raises(kk.ModelError, match="cannot be made"):
        kk.load(tmp_path / "m", trust=True)
    (tmp_path / "own_networks.py").write_text(
        f"import sys\nOwn = lambda: sys.modules[{__name__!r}].Own({data.inputs.width})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    same_bits(post, kk.load(tmp_path / "m", trust=True), data)
    sys.modules.pop("own_networks")


def test_loading_imports_nothing_that_the_files_name(tmp_path):
    data = table("number")
    post = quick(data, nn.Sequential(nn.Linear(data.inputs.width, 1)), kk.Gaussian())
    kk.save(post, tmp_path / "m")
    with pytest.raises(kk.ModelError, match="needs   the network"):
        kk.load(tmp_path / "m")


def test_a_model_is_saved_and_loaded_without_pickle(tmp_path):
    data = table("two")
    post = quick(data, kk.networks.MLP(data.inputs, [5], 1), kk.Bernoulli())
    folder = kk.save(post, tmp_path / "m")
    assert {p.name for p in folder.iterdir()} == {"model.json", "model.safetensors"}
    assert not any(p.read_bytes().startswith((b"\x80", b"PK")) for p in folder.iterdir())
    script = (
        "import pickle, sys, torch, kokkiri as kk\n"
        "def refuse(*_, **__): raise SystemExit('pickle was used')\n"
        "pickle.load = pickle.loads = pickle.dump = pickle.dumps = torch.load = torch.save = refuse\n"
        "pickle.Unpickler = pickle.Pickler = refuse\n"
        "post = kk.load(sys.argv[1])\n"
        "kk.save(post, sys.argv[1] + '2')\n"
        "print(len(post.herd))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
    assert (tmp_path / "m2" / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert (tmp_path / "m2" / "model.json").read_bytes() == (folder / "model.json").read_bytes()


def test_saving_over_a_file_or_without_room_is_refused(tmp_path, monkeypatch):
    data = table("number")
    post = quick(data, kk.networks.MLP(data.inputs, [], 1), kk.Gaussian())
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(kk.OutputError, match="found   a file"):
        kk.save(post, tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"
    kk.save(post, tmp_path / "m")
    before = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(kk.OutputError, match="No space left"):
        kk.save(post, tmp_path / "m")
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == before


def test_no_rows_and_rows_of_another_shape_are_refused():
    data = table("number")
    post = quick(data, kk.networks.MLP(data.inputs, [], 1), kk.Gaussian())
    with pytest.raises(kk.DataError, match="no rows"):
        kk.predict(post, torch.zeros(0, data.inputs.width))
    with pytest.raises(kk.KokkiriError, match="needs"):
        kk.predict(post, torch.zeros(4, data.inputs.width + 1))


SENSELESS = [
    {"lr": 0}, {"steps": 0}, {"batch": -1}, {"patience": 0}, {"device": "tpu"}, {"augment": kk.Augment(shift=1)},
    {"likelihood": kk.Bernoulli()},
]  # fmt: skip


@pytest.mark.parametrize("wish", SENSELESS, ids=str)
def test_a_wish_that_makes_no_sense_is_refused_by_the_verb_too(wish):
    with pytest.raises(kk.UsageError) as caught:
        kk.fit(table("number"), progress=False, **wish)
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == ["needs", "found", "fix"]


def test_a_model_without_a_target_cannot_be_fitted():
    with pytest.raises(kk.DataError, match="has no target"):
        kk.fit(np.zeros((20, 2, 2)), progress=False)
