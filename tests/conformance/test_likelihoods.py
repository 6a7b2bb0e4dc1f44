"""Every likelihood passes the public checks, the checks catch what is broken, and the doors refuse bad input well."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from kokkiri import likelihoods, priors, types
from kokkiri.errors import DataError, KokkiriError, ModelError, ShapeError, Unsupported, UsageError
from kokkiri.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    HeteroscedasticStudentT,
    Laplace,
    NegativeBinomial,
    Poisson,
    Rescaled,
    StudentT,
)
from kokkiri.testing import check_likelihood, check_predictive

ALL = [
    (Gaussian(), 0),
    (Gaussian(0.3, learn=False), 0),
    (Laplace(2.0), 0),
    (StudentT(), 0),
    (StudentT(0.5, 1.5, learn=False), 0),
    (HeteroscedasticGaussian(), 0),
    (HeteroscedasticStudentT(), 0),
    (Bernoulli(), 2),
    (Categorical(), 2),
    (Categorical(), 5),
    (Poisson(), 0),
    (NegativeBinomial(), 0),
    (NegativeBinomial(0.05, learn=False), 0),
    (Rescaled(Gaussian(), 50.0, 3.0), 0),
]


@pytest.mark.parametrize(("likelihood", "classes"), ALL, ids=repr)
def test_every_likelihood_passes_the_public_checks(likelihood, classes):
    assert isinstance(likelihood, types.Likelihood)
    check_likelihood(likelihood, classes=classes)


def test_every_prior_keeps_the_protocol():
    assert isinstance(priors.Normal(), types.Prior)
    assert isinstance(priors.Flat(), types.Prior)


def altered(whole, **methods):
    """The same value with some of its methods replaced."""
    names = [name for name in dir(whole) if not name.startswith("_")]
    return SimpleNamespace(**{name: getattr(whole, name) for name in names} | methods)


good, counts = Gaussian(), Poisson()
BROKEN = {
    "integrates to one": altered(good, log_prob=lambda f, y: good.log_prob(f, y) + 0.5),
    "Fisher information": altered(good, curvature=lambda f: 2 * good.curvature(f)),
    "mixture over draws": altered(good, predictive=lambda f, w=None: good.predictive(f)),
    "changes nothing": altered(good, bind=lambda own: Gaussian(0.5, learn=False)),
    "own parameters": altered(
        good, bind=lambda own: good.bind({k: v.mean() for k, v in own.items()} if own["log_scale"].ndim else own)
    ),
    "sums or integrates": altered(counts, log_prob=lambda f, y: counts.log_prob(f, y).clamp(min=-3)),
}


@pytest.mark.parametrize("promise", BROKEN)
def test_the_checks_name_the_promise_that_a_broken_likelihood_breaks(promise):
    with pytest.raises(AssertionError, match=promise):
        check_likelihood(BROKEN[promise])


values = Gaussian().predictive(torch.zeros(2, 3, 1))
classes = Categorical().predictive(torch.zeros(2, 3, 3))
MISFITS = {
    "aleatoric": (altered(values, variance=values.variance + 1), False),
    "samples follow quantile": (altered(values, sample=lambda n, *, seed: 1.2 * values.sample(n, seed=seed)), False),
    "function of its seed": (altered(values, sample=lambda n, *, seed: torch.rand(n, 3)), False),
    "another seed": (altered(values, sample=lambda n, *, seed: values.sample(n, seed=0)), False),
    "leaves 5 % below": (altered(values, interval=lambda level: (values.quantile(0.01), values.quantile(0.95))), False),
    "density integrates": (altered(values, log_prob=lambda y: values.log_prob(y) + 0.1), False),
    "follow log_prob": (altered(classes, sample=lambda n, *, seed: classes.sample(n, seed=seed).clamp(max=1)), True),
}


@pytest.mark.parametrize("promise", MISFITS)
def test_the_checks_name_the_promise_that_a_broken_prediction_breaks(promise):
    misfit, discrete = MISFITS[promise]
    with torch.random.fork_rng(), pytest.raises(AssertionError, match=promise):
        check_predictive(misfit, discrete=discrete)


def test_the_checks_take_several_targets():
    check_predictive(
        Gaussian().predictive(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))), discrete=False
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gaussian", Gaussian),
        ("mse", Gaussian),
        ("laplace", Laplace),
        ("MAE", Laplace),
        ("student-t", StudentT),
        ("student_t", StudentT),
        ("heteroscedastic", HeteroscedasticGaussian),
        ("heteroscedastic-t", HeteroscedasticStudentT),
        ("bernoulli", Bernoulli),
        ("categorical", Categorical),
        ("cross-entropy", Categorical),
        ("poisson", Poisson),
        ("negative-binomial", NegativeBinomial),
    ],
)
def test_a_likelihood_goes_by_its_name_or_by_that_of_its_loss(name, kind):
    assert likelihoods.named(name) == kind()


def test_a_misspelt_name_gets_the_nearest_one():
    with pytest.raises(UsageError, match="did you mean 'poisson'"):
        likelihoods.named("poison")


CONFIGURED = [likelihood for likelihood, _ in ALL] + [Rescaled(Laplace(0.25), (1.0, 2.0), (3.0, 4.0))]


@pytest.mark.parametrize("likelihood", CONFIGURED, ids=repr)
def test_a_likelihood_survives_json_and_its_own_repr(likelihood):
    assert likelihoods.from_config(json.loads(json.dumps(likelihood.config()))) == likelihood
    names = {name: getattr(likelihoods, name) for name in likelihoods.__all__}
    assert eval(repr(likelihood), names) == likelihood


@pytest.mark.parametrize("prior", [priors.Normal(0.3), priors.Flat()], ids=repr)
def test_a_prior_survives_json(prior):
    assert priors.from_config(json.loads(json.dumps(prior.config()))) == prior


@pytest.mark.parametrize(
    "call",
    [
        lambda: likelihoods.from_config({"name": "Cauchy"}),
        lambda: likelihoods.from_config({"name": "Gaussian", "log_scale": 1.0}),
        lambda: priors.from_config({"name": "Horseshoe"}),
        lambda: priors.from_config({"name": "Flat", "precision": 1.0}),
    ],
)
def test_a_configuration_of_another_version_is_refused(call):
    with pytest.raises(ModelError) as refusal:
        call()
    assert refusal.value.fix


def test_parameters_bound_in_a_value_do_not_leak_into_what_is_saved():
    bound = Gaussian().bind({"log_scale": torch.tensor(3.0)})
    assert bound.config() == Gaussian().config()
    assert bound == Gaussian()


@pytest.mark.parametrize(("likelihood", "classes"), ALL, ids=repr)
def test_parameters_that_are_missing_or_unknown_are_refused(likelihood, classes):
    with pytest.raises(UsageError):
        likelihood.bind({"temperature": torch.zeros(())} | likelihood.parameters())
    if likelihood.parameters():
        with pytest.raises(UsageError):
            likelihood.bind({})


SHAPES = [
    (Gaussian(), (4, 2), (4,)),
    (Gaussian(), (4, 1), (3,)),
    (Gaussian(), (4,), (4,)),
    (Laplace(), (4, 1), (4, 2)),
    (StudentT(), (4, 3), (4, 2)),
    (StudentT(), (4, 3), (4, 3, 1)),
    (HeteroscedasticGaussian(), (4, 1), (4,)),
    (Bernoulli(), (4, 2), (4,)),
    (Bernoulli(), (4, 1), (4, 1)),
    (Categorical(), (4, 1), (4,)),
    (Categorical(), (4, 3), (4, 3)),
    (Poisson(), (4, 1), ()),
    (NegativeBinomial(), (4, 2), (4, 3)),
    (Rescaled(Gaussian(), (1.0, 2.0), (1.0, 1.0)), (4, 1), (4,)),
]


@pytest.mark.parametrize(("likelihood", "output", "y"), SHAPES, ids=repr)
def test_shapes_that_do_not_fit_are_refused_in_four_lines_also_under_vmap(likelihood, output, y):
    for call in (
        lambda: likelihood.log_prob(torch.zeros(output), torch.zeros(y)),
        lambda: torch.func.vmap(lambda f: likelihood.log_prob(f, torch.zeros(y)))(torch.zeros(2, *output)),
    ):
        with pytest.raises(ShapeError) as refusal:
            call()
        assert len(str(refusal.value).splitlines()) == 4


def test_the_shape_error_reads_as_the_house_style_has_it():
    with pytest.raises(ShapeError) as refusal:
        Categorical().log_prob(torch.zeros(128, 1), torch.zeros(128))
    assert str(refusal.value).splitlines() == [
        "Categorical.log_prob got output (128, 1), y (128,)",
        "  needs   output (B, C) with C >= 2, and y (B,)",
        "  found   the last layer has one output",
        "  fix     kk.networks.MLP(…, outputs=2), or use kk.Bernoulli()",
    ]


def test_parameters_of_draws_that_do_not_match_the_outputs_are_refused():
    bound = Gaussian().bind({"log_scale": torch.zeros(3)})
    for call in (
        lambda: bound.log_prob(torch.zeros(4, 1), torch.zeros(4)),
        lambda: bound.predictive(torch.zeros(2, 4, 1)),
        lambda: HeteroscedasticGaussian().predictive(torch.zeros(2, 4, 3)),
        lambda: Bernoulli().predictive(torch.zeros(2, 4, 2)),
    ):
        with pytest.raises(ShapeError):
            call()


@pytest.mark.parametrize(
    ("likelihood", "y", "row"),
    [
        (Gaussian(), [0.0, 1.0, float("nan")], 2),
        (Laplace(), [0.0, float("inf")], 1),
        (StudentT(), [[0.0, 1.0], [0.0, float("nan")]], 1),
        (HeteroscedasticGaussian(), [float("nan")], 0),
        (Rescaled(Gaussian(), 1.0, 2.0), [0.0, float("nan")], 1),
        (Bernoulli(), [0, 1, 2], 2),
        (Bernoulli(), [0.0, 0.5], 1),
        (Categorical(), [0, 3, 1], 1),
        (Categorical(), [0, 1, -1], 2),
        (Categorical(), [0.0, 1.5], 1),
        (Poisson(), [0, 5, -2], 2),
        (Poisson(), [0.0, 2.5], 1),
        (NegativeBinomial(), [float("inf"), 1.0], 0),
    ],
    ids=repr,
)
def test_a_target_outside_the_support_is_refused_by_its_row(likelihood, y, row):
    y = torch.tensor(y)
    with pytest.raises(DataError, match=f"row {row} "):
        likelihood.check(y, 3)
    likelihood.check(torch.tensor([0, 1, 1]), 3)


@pytest.mark.parametrize("call", [
    lambda: Bernoulli().outputs(3),
    lambda: Categorical().outputs(1),
    lambda: Rescaled(Poisson(), 1.0, 2.0),
    lambda: Rescaled(Categorical(), 1.0, 2.0),
])  # fmt: skip
def test_what_has_no_meaning_is_refused(call):
    with pytest.raises(Unsupported) as refusal:
        call()
    assert isinstance(refusal.value, KokkiriError)
    assert refusal.value.fix


def test_the_number_of_outputs_follows_the_targets():
    assert [Gaussian().outputs(3), HeteroscedasticGaussian().outputs(3), Rescaled(StudentT()).outputs(2)] == [3, 6, 2]
    assert [Bernoulli().outputs(2), Bernoulli().outputs(1), Categorical().outputs(4), Poisson().outputs(1)] == [
        1,
        1,
        4,
        1,
    ]
