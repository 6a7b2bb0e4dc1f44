"""Every optimizer keeps the protocol's promises; schedules and names."""

from __future__ import annotations

import json
from itertools import starmap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, vmap

from kokkiri.errors import UsageError
from kokkiri.numerics.random import generator
from kokkiri.optimizers import (
    IVON,
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    GradientDescent,
    Momentum,
    Nesterov,
    RMSprop,
    StepDecay,
    WarmUp,
    clip_by_norm,
    config,
    from_config,
    named,
    schedules,
)
from kokkiri.types import Optimizer, Schedule

RATES = (  # that go down on both surfaces below
    GradientDescent(1e-3),
    SGD(1e-3),
    Momentum(2e-4),
    Nesterov(2e-4),
    Adagrad(0.1),
    RMSprop(1e-3),
    Adam(0.01),
    AdamW(0.01, decay=1e-3),
    IVON(0.08),  # alone, without `look`: momentum
)
every = pytest.mark.parametrize("optimizer", RATES, ids=[type(o).__name__ for o in RATES])


def exact(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def parabola(params):
    return ((params["x"] - 1) ** 2).sum() + 10 * params["y"] ** 2


def rosenbrock(params):
    return ((1 - params["x"]) ** 2).sum() + 100 * (params["y"] - (params["x"] ** 2).sum()) ** 2


def start(dtype=torch.float64):
    return {"x": torch.tensor([-1.2], dtype=dtype), "y": torch.tensor(1.0, dtype=dtype)}


def descend(optimizer, surface, params, steps, hyper):
    state = optimizer.init(params)
    for _ in range(steps):
        params, state = optimizer.step(params, grad(surface)(params), state, hyper)
    return params, state


def leaves(state):
    return [leaf for v in state.values() for leaf in (v.values() if isinstance(v, dict) else [v])]


@every
def test_an_optimizer_keeps_the_protocol(optimizer):
    assert isinstance(optimizer, Optimizer)
    assert optimizer.elementwise
    assert optimizer.full_batch == isinstance(optimizer, GradientDescent)
    hyper = optimizer.hyperparameters()
    assert hyper["lr"].item() == optimizer.lr
    assert all(h.ndim == 0 and h.dtype == torch.float64 for h in hyper.values())


@every
@pytest.mark.parametrize("surface", [parabola, rosenbrock])
def test_a_surface_is_descended(optimizer, surface):
    params, _ = descend(optimizer, surface, start(), 400, {})
    assert surface(params) < 0.9 * surface(start())


@every
def test_a_step_writes_into_nothing_it_was_given(optimizer):
    params = start()
    state = optimizer.init(params)
    params, state = optimizer.step(params, grad(parabola)(params), state, {})
    grads = grad(parabola)(params)
    before = [t.clone() for t in (*params.values(), *grads.values(), *leaves(state))]
    optimizer.step(params, grads, state, optimizer.hyperparameters())
    after = (*params.values(), *grads.values(), *leaves(state))
    assert list(starmap(torch.equal, zip(before, after, strict=True))) == [True] * len(before)


@every
@pytest.mark.parametrize("hyper", [False, True], ids=["fields", "tensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_type_of_numbers_stays(optimizer, hyper, dtype):
    params, state = descend(optimizer, parabola, start(dtype), 3, optimizer.hyperparameters() if hyper else {})
    assert {p.dtype for p in params.values()} == {dtype}
    assert {leaf.dtype for leaf in leaves(state) if leaf is not state.get("step")} <= {dtype}


@every
def test_hyperparameters_are_fields_or_numbers_or_tensors(optimizer):
    tensors = optimizer.hyperparameters()
    numbers = {k: h.item() for k, h in tensors.items()}
    answers = [descend(optimizer, rosenbrock, start(), 20, hyper)[0] for hyper in ({}, numbers, tensors)]
    for other in answers[1:]:
        exact(answers[0], other)


@every
def test_a_count_may_be_a_plain_number(optimizer):
    params = numbered = start()
    state, plain = optimizer.init(params), {k: 0 if k == "step" else v for k, v in optimizer.init(params).items()}
    for _ in range(20):
        params, state = optimizer.step(params, grad(rosenbrock)(params), state, {})
        numbered, plain = optimizer.step(numbered, grad(rosenbrock)(numbered), plain, {})
    exact(params, numbered)


@every
def test_one_flat_tensor_is_stepped_as_its_parts(optimizer):
    flat = lambda params: rosenbrock({"x": params[""][:1], "y": params[""][1]})
    whole = {"": torch.cat([p.reshape(-1) for p in start().values()])}
    parts, _ = descend(optimizer, rosenbrock, start(), 20, {})
    together, _ = descend(optimizer, flat, whole, 20, {})
    exact(together[""], torch.cat([p.reshape(-1) for p in parts.values()]))


def replicas(optimizer, r=4):
    """R starting points, and hyperparameters that all differ between them."""
    random = generator(0, "replicas")
    params = {k: torch.randn(r, *p.shape, generator=random, dtype=p.dtype) for k, p in start().items()}
    shrink = torch.linspace(0.2, 0.9, r, dtype=torch.float64)
    return params, {k: h * shrink for k, h in optimizer.hyperparameters().items()}


@every
@pytest.mark.parametrize("varied", ["all", "lr", "none"])
def test_lifted_over_replicas_is_one_by_one(optimizer, varied):
    params, hyper = replicas(optimizer)
    hyper = {k: h for k, h in hyper.items() if varied in {"all", k}}
    lone = [
        descend(optimizer, rosenbrock, {k: p[r] for k, p in params.items()}, 10, {k: h[r] for k, h in hyper.items()})
        for r in range(4)
    ]
    state = vmap(optimizer.init)(params)
    for _ in range(10):
        params, state = vmap(optimizer.step)(params, vmap(grad(rosenbrock))(params), state, hyper)
    for r, (own, memory) in enumerate(lone):
        exact({k: p[r] for k, p in params.items()}, own)
        for together, alone in zip(leaves(state), leaves(memory), strict=True):
            exact(together[r], alone)


@every
def test_hyperparameters_may_vary_where_parameters_do_not(optimizer):
    _, hyper = replicas(optimizer)
    params, state = start(), optimizer.init(start())
    swept, _ = vmap(lambda h: optimizer.step(params, grad(rosenbrock)(params), state, h))(hyper)
    for r in range(4):
        own, _ = optimizer.step(params, grad(rosenbrock)(params), state, {k: h[r] for k, h in hyper.items()})
        exact({k: p[r] for k, p in swept.items()}, own)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_column_of_hyperparameters_steps_a_stack_without_vmap(optimizer, dtype):
    random = generator(1, "stack")
    params = {"": torch.randn(4, 7, generator=random, dtype=dtype)}
    _, hyper = replicas(optimizer)
    gradient = lambda params: {"": 2 * params[""] - 1}
    stacked, lifted = (params, optimizer.init(params)), (params, vmap(optimizer.init)(params))
    for _ in range(5):
        columns = {k: h[:, None] for k, h in hyper.items()}
        stacked = optimizer.step(stacked[0], gradient(stacked[0]), stacked[1], columns)
        lifted = vmap(optimizer.step)(lifted[0], gradient(lifted[0]), lifted[1], hyper)
    assert stacked[0][""].dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(stacked[0][""], lifted[0][""], rtol=tolerance, atol=tolerance)


@every
def test_a_learning_rate_of_zero_moves_nothing(optimizer):
    params, _ = descend(optimizer, parabola, start() | {"x": torch.ones(1, dtype=torch.float64)}, 3, {"lr": 0.0})
    assert torch.equal(params["x"], torch.ones(1, dtype=torch.float64))  # where the gradient is 0 as well
    assert params["y"] == 1


@every
def test_a_configuration_survives_json(optimizer):
    assert from_config(json.loads(json.dumps(config(optimizer)))) == optimizer


@pytest.mark.parametrize(
    "name", ["gd", "gradient-descent", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "ivon"]
)
def test_a_name_makes_its_optimizer(name):
    made = named(name, lr=0.5)
    assert config(made)["lr"] == pytest.approx(0.5)
    assert type(made).__name__.lower() == {"gd": "gradientdescent"}.get(name, name.replace("-", ""))


def test_anothers_optimizer_has_no_configuration():
    class Own(Adam):
        pass

    assert config(Own()) is None


def four_lines(error):
    lines = str(error.value).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["needs", "found", "fix"]
    return lines


WRONG = [
    *[(kind, {"lr": lr}) for kind in (GradientDescent, SGD, Adam) for lr in (0, -1.0, float("nan"), float("inf"))],
    (SGD, {"lr": "0.1"}),
    (SGD, {"lr": True}),
    (Momentum, {"lr": 0.1, "momentum": 1.0}),
    (Nesterov, {"lr": 0.1, "momentum": -0.1}),
    (Adagrad, {"eps": 0.0}),
    (RMSprop, {"alpha": 1.0}),
    (RMSprop, {"lr": -1}),
    (Adam, {"beta1": 1.0}),
    (Adam, {"beta2": -0.5}),
    (AdamW, {"decay": -0.1}),
    (AdamW, {"eps": -1e-8}),
    (IVON, {"spread": 0.0}),
    (IVON, {"reach": -1.0}),
    (StepDecay, {"factor": 0.0}),
    (StepDecay, {"at": (0.5, 1.5)}),
    (StepDecay, {"at": 0.5}),
    (Cosine, {"end": -0.1}),
    (WarmUp, {"fraction": 1.0}),
]


@pytest.mark.parametrize(("kind", "values"), WRONG)
def test_a_value_out_of_range_is_refused_in_four_lines(kind, values):
    with pytest.raises(UsageError) as error:
        kind(**values)
    what, _, found, fix = four_lines(error)
    bad = list(values)[-1]
    assert kind.__name__ in what
    assert bad in what
    assert repr(values[bad]) in found
    kind(**values | eval(f"dict({fix.split('fix')[1]})"))  # the mend mends


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: named("adamm", lr=0.1), "did you mean 'adam'"),
        (lambda: named("adam", learning_rate=0.1), "there are: lr, beta1"),
        (lambda: named("adam", beta_1=0.1), "did you mean 'beta1'"),
        (lambda: named("sgd"), "SGD(lr=0.1)"),
        (lambda: from_config({}), "there are: gd"),
        (lambda: schedules.named("cosin"), "did you mean 'cosine'"),
        (lambda: schedules.named("constant", end=1), "there are none"),
        (lambda: clip_by_norm({"": torch.ones(1)}, 0.0), "1.0"),
    ],
)
def test_what_is_misspelt_or_missing_is_told_in_four_lines(make, hint):
    with pytest.raises(UsageError) as error:
        make()
    assert hint in four_lines(error)[-1]


SCHEDULES = [Constant(), StepDecay(), StepDecay(0.5, (0.2,)), Cosine(), Cosine(0.1), WarmUp(), WarmUp(0.2, StepDecay())]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_a_schedule_survives_json(schedule):
    assert isinstance(schedule, Schedule)
    assert schedules.from_config(json.loads(json.dumps(schedules.config(schedule)))) == schedule


def test_schedules_by_name_are_the_defaults():
    made = [schedules.named(n) for n in ("constant", "step", "cosine", "warm-up")]
    assert made == [Constant(), StepDecay(), Cosine(), WarmUp()]
    assert schedules.config(lambda _step, _steps: 1.0) is None


@given(st.sampled_from(SCHEDULES), st.integers(1, 500), st.data())
def test_a_factor_lies_in_zero_to_one_and_falls_after_the_warm_up(schedule, steps, data):
    step = data.draw(st.integers(0, steps - 1))
    factor = schedule(step, steps)
    assert 0 < factor <= 1  # the last step is still a step
    warm = min(round(schedule.fraction * steps), steps - 1) if isinstance(schedule, WarmUp) else 0
    if step + 1 < steps and step >= warm:
        assert schedule(step + 1, steps) <= factor


def test_schedules_hold_at_their_ends():
    assert [WarmUp()(t, 100) for t in (0, 4, 5)] == [0.2, 1.0, 1.0]
    assert [WarmUp()(t, 1) for t in (0, 1)] == [1.0, 0.0]  # too few steps to warm up
    assert [StepDecay()(t, 4) for t in (1, 2, 3, 4)] == pytest.approx([1, 0.1, 0.01, 0.01])
    assert [StepDecay(0.1, (0.1,))(t, 30) for t in (2, 3)] == [1.0, 0.1]
    assert [Cosine(0.25)(t, 10) for t in (0, 10, 15)] == [1.0, 0.25, 0.25]  # and stays there
    assert [s(0, 0) for s in (Constant(), StepDecay(), Cosine(0.25))] == [1.0, 1.0, 0.25]


@settings(deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), st.floats(1e-3, 1e4))
def test_clipped_gradients_keep_their_direction_and_the_limit(values, limit):
    g = torch.tensor(values, dtype=torch.float64)
    clipped = torch.cat(list(clip_by_norm({"a": g[:1], "b": g[1:]}, limit).values()))
    assert clipped.norm() <= limit * (1 + 1e-12)
    exact(clipped * g.norm(), g * clipped.norm())
    if g.norm() + 1e-6 <= limit:
        assert torch.equal(clipped, g)


def test_no_limit_leaves_gradients_alone():
    grads = {"a": torch.full((3,), 1e9)}
    assert clip_by_norm(grads, None) is grads
    assert clip_by_norm({}, 1.0) == {}


def test_clipping_is_lifted_over_replicas():
    grads = {k: torch.randn(3, 5, generator=generator(0, k), dtype=torch.float64) for k in ("a", "b")}
    limits = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    together = vmap(clip_by_norm)(grads, limits)
    for r in range(3):
        exact(
            {k: g[r] for k, g in together.items()}, clip_by_norm({k: g[r] for k, g in grads.items()}, limits[r].item())
        )
