"""Evidence that moves precisions while networks are trained: when it looks, and that a cut changes no bit."""

import pytest
import torch
from tests_support import some_numbers

import kokkiri as kk
from kokkiri.errors import ModelError
from kokkiri.posteriors.laplace import Laplace
from kokkiri.posteriors.recipe import Run
from kokkiri.priors.grouped import PREFIX
from kokkiri.training.engines import Loop, Stack

STEPS = 45


def run_of(recipe, *, patience=None):
    data = some_numbers()
    herd = recipe.herd(lambda: kk.networks.MLP(3, [4], 1), seed=0)
    plan = kk.Plan(steps=STEPS, batch=16, every=7, patience=patience)
    return recipe.prepare(Run(herd, data, kk.Gaussian(), kk.Adam(1e-2), kk.Normal(), plan))


def moments(run, tuner=None, folder=None, **more):
    return kk.train(
        run.herd, run.data, run.likelihood, run.optimizer, run.prior, run.plan, tuner=tuner or run.tuner,
        checkpoints=folder, checkpoint_seconds=0, **more,
    )  # fmt: skip


def bits(herd):
    tensors = {**herd.params, **herd.hyper}
    return {n: tensors[n].numpy().tobytes() for n in sorted(tensors)}


RECIPES = {
    "full": Laplace("full"), "random columns": Laplace("kronecker", columns=1, sample=20, size=2),
    "last": Laplace("ekfac", layers="last", size=2),
}  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("cut", [3, 4, 17])
def test_a_run_that_is_cut_goes_on_to_the_same_bits(name, cut, tmp_path):
    """Before the first look at the evidence, at one, between two; cut again later."""
    run = run_of(RECIPES[name])
    assert run.tuner.start == 4
    *_, whole = moments(run)
    for stop in (cut, cut + 13):
        for moment in moments(run, folder=tmp_path):
            if moment.step >= stop:  # the last checkpoint may be a step or several behind: as where it is killed
                break
    *_, last = moments(run, folder=tmp_path)
    assert last.resumed > 0
    assert bits(last.herd) == bits(whole.herd)
    assert last.curve() == whole.curve()


def test_a_cut_changes_no_bit_where_held_out_rows_decide(tmp_path):
    run = run_of(Laplace("full", size=2), patience=3)
    held = some_numbers(20, seed=1)
    *_, whole = moments(run, held_out=held)
    for moment in moments(run, folder=tmp_path, held_out=held):
        if moment.step >= 25:
            break
    *_, last = moments(run, folder=tmp_path, held_out=held)
    assert bits(last.herd) == bits(whole.herd)


def test_checkpoints_of_a_run_that_was_tuned_otherwise_are_refused(tmp_path):
    *_, _last = moments(run_of(Laplace("full")), folder=tmp_path)
    for other in (Laplace("full", layers="last"), Laplace("diagonal"), Laplace("full", sample=10)):
        with pytest.raises(ModelError, match="another run"):
            next(moments(run_of(other), folder=tmp_path))


class Counter:
    """A tuner that writes down when it was asked, and of what."""

    start, every = 10, 15

    def __init__(self):
        self.seen = []

    def __repr__(self):
        return "Counter()"

    def __call__(self, herd):
        self.seen.append({n: t.clone() for n, t in herd.hyper.items()})
        new = {n: t * 2 for n, t in herd.hyper.items() if n.startswith(PREFIX)}
        return {**new, "freedom": torch.full((len(herd),), float(len(self.seen)), dtype=torch.float64)}


@pytest.mark.parametrize("engine", [None, Loop(), Stack()])
def test_it_is_asked_at_its_steps_and_sees_what_it_said_last(engine):
    run, counter = run_of(Laplace("full", size=2)), Counter()
    steps = [m.step for m in moments(run, counter, engine=engine)]
    assert {10, 25, 40} <= set(steps)  # where a segment ends, so that a new one begins with new values
    assert len(counter.seen) == 3
    before = run.herd.hyper[PREFIX + "output"]
    for k, hyper in enumerate(counter.seen):
        assert torch.equal(hyper[PREFIX + "output"], before * 2**k)
        assert hyper["freedom"].tolist() == [float(k)] * 2
    *_, last = moments(run, Counter(), engine=engine)
    assert torch.equal(last.herd.hyper[PREFIX + "output"], before * 8)


def test_what_it_says_is_what_the_run_goes_on_with():
    """A precision that becomes enormous at step 10 leaves no weights at the end."""

    class Crush(Counter):
        def __call__(self, herd):
            return {n: torch.full_like(t, 1e6) for n, t in herd.hyper.items() if n.startswith(PREFIX)}

    run = run_of(Laplace("full"))
    *_, crushed = moments(run, Crush())
    *_, free = moments(run)
    size = lambda m: float(m.herd.params["output.weight"].abs().amax())
    assert size(crushed) < 0.5 * size(free)


def test_without_a_tuner_no_hyperparameter_is_added():
    run = run_of(Laplace("full", tune="never"))
    assert run.tuner is None
    *_, last = moments(run)
    assert last.herd.hyper == {}
