"""Derivatives in closed form equal automatic differentiation's."""

import pytest
import torch

from kokkiri.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    HeteroscedasticGaussian,
    HeteroscedasticStudentT,
    Laplace,
    Rescaled,
    StudentT,
)

VALUES = [
    Gaussian(),
    Gaussian(learn=False),
    Laplace(),
    StudentT(),
    StudentT(learn=False),
    HeteroscedasticGaussian(),
    HeteroscedasticStudentT(),
    HeteroscedasticStudentT(learn=False),
]


def by_autograd(likelihood, output, y, phi):
    output = output.clone().requires_grad_()
    phi = {n: t.clone().requires_grad_() for n, t in phi.items()}
    log_prob = likelihood.bind(phi).log_prob(output, y)
    slope = torch.autograd.grad(log_prob.sum(), output, retain_graph=True)[0]
    own = {n: torch.stack([torch.autograd.grad(v, t, retain_graph=True)[0] for v in log_prob]) for n, t in phi.items()}
    return log_prob.detach(), slope, own


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("likelihood", [*VALUES, Rescaled(StudentT(), 3.0, 0.5), Bernoulli(), Categorical()], ids=repr)
def test_the_score_of_a_stack_is_the_derivative_of_each(likelihood, targets):
    g = torch.Generator().manual_seed(0)
    classes = isinstance(likelihood, Bernoulli | Categorical)
    if classes and targets == 2:
        pytest.skip("classes are one a row")
    width = 4 if isinstance(likelihood, Categorical) else likelihood.outputs(targets)
    outputs = 2 * torch.randn(3, 7, width, generator=g, dtype=torch.float64)
    y = (
        torch.randint(2, (7,), generator=g)
        if classes
        else 2 * torch.randn(7, targets, generator=g, dtype=torch.float64)
    )
    y = y[:, 0] if not classes and targets == 1 else y
    phi = {n: torch.randn(3, generator=g, dtype=torch.float64) for n in likelihood.parameters()}
    score = likelihood.bind(phi).score(outputs, y)
    for r in range(3):
        log_prob, slope, own = by_autograd(likelihood, outputs[r], y, {n: t[r] for n, t in phi.items()})
        torch.testing.assert_close(score.log_prob[r], log_prob, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(score.output[r], slope, rtol=1e-10, atol=1e-12)
        assert score.parameters.keys() == own.keys()
        for name in own:
            torch.testing.assert_close(score.parameters[name][r], own[name], rtol=1e-9, atol=1e-11)


def test_the_slope_at_many_degrees_of_freedom_keeps_its_digits_in_float32():
    phi = {"log_scale": torch.zeros(()), "log_excess_df": torch.tensor(8.0)}
    output, y = torch.zeros(3, 1), torch.tensor([0.1, 1.0, 2.0])
    exact = StudentT().bind({n: t.double() for n, t in phi.items()}).score(output.double(), y)
    found = StudentT().bind(phi).score(output, y)
    torch.testing.assert_close(
        found.parameters["log_excess_df"].double(), exact.parameters["log_excess_df"], rtol=0.05, atol=2e-4
    )
