"""`kk.check`: an examiner for posteriors, which ships with the library.

Each question is answered by a number beside its bar: is the curvature that of the data, is the centre a mode, does the
evidence add up, do intervals cover, does simulation agree, does Hamiltonian Monte Carlo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kokkiri.curvature import Curvature, Full, ggn
from kokkiri.curvature.ggn import curvature_trace
from kokkiri.data.core import Data
from kokkiri.errors import DataError, Unsupported
from kokkiri.evaluation import evaluate
from kokkiri.numerics import scores
from kokkiri.numerics.operators import Blocks
from kokkiri.numerics.random import generator
from kokkiri.posteriors.evidence import flat_of, hyper_of, prior_precision, replica_params
from kokkiri.posteriors.particles import Particles
from kokkiri.posteriors.updating import Moved, free_names, moved, tangent_of
from kokkiri.training.flat import layout
from kokkiri.training.objective import prior_gradient
from kokkiri.types import LIKELIHOOD_PREFIX
from kokkiri.updates import structure_of
from kokkiri.verbs import predict, rows_for

SMALL = 1000  # parameters up to which Hamiltonian Monte Carlo is a yardstick
MODE = 1.0  # nats that the log joint may still rise from a centre


@dataclass(frozen=True)
class Line:
    """One question. found: the number; bar: what it must be; passed: None where there is no bar, only a measurement."""

    question: str
    found: str
    bar: str
    passed: bool | None
    note: str = ""


@dataclass(frozen=True)
class Examination:
    """What `check` found, a line a question; prints as a table of at most 80 columns."""

    lines: tuple[Line, ...]

    @property
    def passed(self) -> bool:
        """Whether every question with a bar was passed."""
        return all(line.passed is not False for line in self.lines)

    def __str__(self) -> str:
        import textwrap

        out = []
        for line in self.lines:
            mark = {True: "yes", False: "NO ", None: " . "}[line.passed]
            out.append(f"{mark} {line.question:<34}{line.found:<24}{line.bar}")
            out += [f"    {text}" for text in textwrap.wrap(line.note, 74)]
        return "\n".join(out)

    def __repr__(self) -> str:
        return f"Examination({sum(x.passed is True for x in self.lines)} of {len(self.lines)} passed)\n{self}"


def check(
    post: Particles, data: Any, *, test: Any = None, simulations: int = 0, hamiltonian: bool = False, seed: int = 0
) -> Examination:
    """Examines a posterior. data: the rows that it was fitted on; test: rows that it has not seen.

    1. One datum: the trace of its curvature in this structure, against the exact matrix.
    2. Mode: by how many nats the log joint could still rise, ½ gᵀH⁻¹g.
    3. Chain rule: log p(a) + log p(b | a) = log p(a, b) for halves of the rows, in the linearised network.
    4. Coverage: 90 % intervals, or probabilities, on `test`.
    5. simulations > 0: simulation-based calibration of the linearised network (Talts et al. 2018): parameters drawn
       from the prior, data from them, the rank of f among draws of the posterior; a χ² test.
    6. hamiltonian: predictive mean and spread against Hamiltonian Monte Carlo on the same log joint; small networks
       only.

    Raises Unsupported for posteriors without a spread, and where Hamiltonian Monte Carlo would take too long.

    >>> import kokkiri as kk
    >>> data = kk.read("breast-cancer")
    >>> post = kk.fit(data, kk.networks.MLP(data.inputs, [4], 1), kk.Bernoulli(), posterior=kk.Laplace("full"),
    ...     steps=2000, progress=False)
    >>> [line.passed for line in kk.check(post, data).lines][:1]
    [True]
    """
    rows = rows_for(post, data)
    if not post.precision:
        raise Unsupported(
            "there is nothing to examine",
            needs="a posterior with a spread",
            found=repr(post),
            fix="posterior=kk.Laplace()",
        )
    if rows.y is None:
        raise DataError("rows without a target examine nothing", needs="the rows of the fit", found="inputs alone")
    lines = [_one_datum(post, rows), _mode(post, rows)]
    if post.linear:
        lines.append(_chain(post, rows, seed))
    if test is not None:
        lines += _coverage(post, rows_for(post, test))
    if simulations:
        lines.append(_simulated(post, rows, simulations, seed))
    if hamiltonian:
        lines += _hamiltonian(post, rows, rows if test is None else rows_for(post, test), seed)
    return Examination(tuple(lines))


def to_arviz(post: Particles, draws: int = 1000, *, seed: int = 0) -> Any:
    """Draws of the parameters as ArviZ's `InferenceData`, one chain: for its tables and pictures. Needs arviz.

    Raises Unsupported where arviz is not installed.
    """
    try:
        import arviz
    except ImportError as error:
        raise Unsupported(
            "ArviZ is not installed", needs="arviz", found="no such package", fix="pip install arviz"
        ) from error
    herd = post.draw(draws, seed=seed)
    values = {name: t[None].double().numpy() for name, t in herd.params.items()}
    try:
        return arviz.from_dict(posterior=values)
    except TypeError:  # from version 1 on: groups in one mapping, and a DataTree
        return arviz.from_dict({"posterior": values})


def _layers(post: Particles) -> tuple[str, ...]:
    return tuple(free_names(post.herd, post.precision[0]))


def _one_datum(post: Particles, rows: Data) -> Line:
    one = rows.rows(torch.zeros(1, dtype=torch.int64))
    curve = lambda structure: ggn(post.herd, one, post.likelihood, structure, layers=_layers(post))
    own: Curvature = curve(structure_of(post))
    exact, said = curvature_trace(curve(Full())), curvature_trace(own)
    off = abs(said - exact) / max(exact, 1e-300)
    return Line(
        "curvature of one datum is exact", f"trace off by {off:.1e}", "<= 1e-5", off <= 1e-5, "; ".join(own.notes)
    )


def _mode(post: Particles, rows: Data) -> Line:
    if post.record.updates:
        return Line("the centre is a mode", "", "not asked after an update", None)
    rises = []
    where = layout(post.herd.params)
    for r in range(len(post.herd)):
        model = tangent_of(post.herd, r, rows, post.likelihood, _layers(post))
        slope = model.gradient(torch.zeros(where.size, dtype=torch.float64))
        params = replica_params(post.herd, r)
        hyper: Any = {**hyper_of(post.herd, post.prior, r), "freedom": 0.0}
        pull = flat_of(prior_gradient(post.prior, params, hyper), where)
        total = torch.zeros_like(slope)
        free = post.precision[r].free
        total[free] = (slope + pull)[free]
        network = torch.arange(where.size) < where.split
        total = torch.where(network, total, 0.0)  # noise is where evidence wants it, not at its own mode
        rises.append(0.5 * float(total @ post.precision[r].solve(total)))
    worst = max(rises)
    note = "" if worst <= MODE else "train for more steps; networks with kinks (ReLU) may have no smooth mode"
    return Line("the centre is a mode", f"{worst:.2g} nats below", f"<= {MODE:g} nat", worst <= MODE, note)


def _from_prior(post: Particles) -> tuple[Blocks, Tensor]:
    """The prior as a Gaussian over the free network parameters, seen from where the network is linearised."""
    where = layout(post.herd.params)
    own = prior_precision(post.herd, post.prior, 0)
    parts = tuple(
        (index, _zero(block, index, own)) for index, block in post.precision[0].parts if int(index.min()) < where.split
    )
    centre = flat_of(replica_params(post.herd, 0), where)
    free = torch.zeros(where.size, dtype=torch.bool)
    free[torch.cat([index for index, _ in parts])] = True
    return Blocks(where.size, parts), torch.where(free, -centre, 0.0)


def _zero(block: Any, index: Tensor, own: Tensor) -> Any:
    """The block of a structure that holds the prior alone."""
    from kokkiri.numerics.operators import Dense, LowRank, Products, Rotated, diagonal, kronecker_sum

    precision = own[index]
    match block:
        case Products():
            nought = (torch.zeros_like(block.terms[0][0]), torch.zeros_like(block.terms[0][1]))
            return kronecker_sum([nought]).plus(precision)
        case Rotated() if block.left is None and block.right is None:
            return diagonal(precision)
        case Rotated():
            return Rotated(block.left, block.right, precision[0].expand_as(block.values).clone())
        case LowRank() | Dense():
            return Dense(torch.diag(precision))


def _with_known_noise(post: Particles) -> Particles:
    """The same with the likelihood's parameters held: what the linearised network can be asked about exactly."""
    likelihood = post.likelihood.bind({n: t[0] for n, t in post.herd.likelihood_params().items()})
    params = {n: t for n, t in post.herd.params.items() if not n.startswith(LIKELIHOOD_PREFIX)}
    split = layout(post.herd.params).split
    precision = tuple(
        Blocks(split, tuple((index, block) for index, block in own.parts if int(index.min()) < split))
        for own in post.precision
    )
    return replace(post, herd=replace(post.herd, params=params), likelihood=_Held(likelihood), precision=precision)


@dataclass(frozen=True)
class _Held:
    """A likelihood whose own parameters are what they are."""

    inner: Any

    @property
    def location_scale(self) -> bool:
        return self.inner.location_scale

    @property
    def discrete(self) -> bool:
        return self.inner.discrete

    def parameters(self) -> dict[str, Tensor]:
        return {}

    def bind(self, parameters: dict[str, Tensor]) -> _Held:  # ruff: ignore[unused-method-argument]
        return self

    def log_prob(self, output: Tensor, y: Tensor) -> Tensor:
        return self.inner.log_prob(output, y)

    def curvature(self, output: Tensor) -> Tensor:
        return self.inner.curvature(output)

    def predictive(self, outputs: Tensor, weights: Tensor | None = None) -> Any:
        return self.inner.predictive(outputs, weights)


def _learnt(post: Particles, rows: Data, prior: Blocks, offset: Tensor) -> Moved:
    """Rows into a Gaussian over the linearised network, seen from replica 0."""
    return moved(
        post.herd, 0, rows, post.likelihood, prior, offset, structure_of(post), _layers(post), level="local",
        columns=None, seed=0, fold=False,
    )  # fmt: skip


def _chain(post: Particles, rows: Data, seed: int) -> Line:
    held = _with_known_noise(post)
    order = torch.randperm(len(rows), generator=generator(seed, "halves"))
    a, b = rows.rows(order[: len(rows) // 2]), rows.rows(order[len(rows) // 2 :])
    prior, offset = _from_prior(post)
    prior, offset = _cut(prior, offset, held)
    first = _learnt(held, a, prior, offset)
    second = _learnt(held, b, first.precision, first.offset)
    whole = _learnt(held, rows, prior, offset)
    off = first.evidence + second.evidence - whole.evidence
    share = abs(off) / max(len(rows), 1)
    note = "log p(a) + log p(b | a) - log p(a, b), of the linearised network; 0 where its posterior is Gaussian"
    return Line("evidence obeys the chain rule", f"off by {off:+.2g} nats", "<= 0.01 a row", share <= 0.01, note)


def _cut(prior: Blocks, offset: Tensor, held: Particles) -> tuple[Blocks, Tensor]:
    size = layout(held.herd.params).size
    return Blocks(size, prior.parts), offset[:size]


def _coverage(post: Particles, test: Data) -> list[Line]:
    assert test.y is not None
    predictive = predict(post, test)
    if post.form.target.kind == "category":
        found = evaluate(predictive, test.y, post.form.target).classes
        assert found is not None
        c = found.calibration
        said = f"off by {100 * c.error.value:.1f} %"
        return [
            Line(
                "probabilities hold on test rows",
                said,
                f"<= {100 * c.by_chance_high:.1f} % by chance",
                c.as_good_as_right,
            )
        ]
    low, high = predictive.interval(0.9)
    inside = ((test.y >= low) & (test.y <= high)).double()
    share, (below, above) = float(inside.mean()), scores.wilson(inside.sum(), len(inside))
    holds = float(below) <= 0.9 <= float(above)
    found = f"{100 * share:.1f} % [{100 * float(below):.1f}, {100 * float(above):.1f}]"
    return [Line("90 % intervals hold on test rows", found, "90 % in the interval", holds)]


def _simulated(post: Particles, rows: Data, simulations: int, seed: int) -> Line:
    """Ranks of f at some rows among 19 draws: uniform on 0 … 19 where prior, likelihood and posterior fit together."""
    held = _with_known_noise(post)
    prior, offset = _cut(*_from_prior(post), held)
    some = rows.rows(torch.randperm(len(rows), generator=generator(seed, "simulated rows"))[: min(200, len(rows))])
    model = tangent_of(held.herd, 0, some, held.likelihood, _layers(held))
    x = some.batch(torch.arange(len(some))).x
    watched = torch.arange(0, len(some), max(1, len(some) // 4))[:4]
    ranks = []
    from kokkiri.curvature.ggn import tangent

    outputs = lambda step: tangent(model.collect, x, step)[0].double()
    for s in range(simulations):
        rng = generator(seed, "simulation", s)
        truth = offset + prior.sample(1, rng)[0].to(offset)
        y = held.likelihood.predictive(outputs(truth)[None]).sample(1, seed=seed + s)[0]
        found = _learnt(held, replace(some, y=y.to(some.y.dtype) if some.y is not None else y), prior, offset)
        drawn = torch.stack([
            outputs(found.offset + step)[watched, 0] for step in found.precision.sample(19, rng).to(offset)
        ])
        ranks.append((drawn < outputs(truth)[watched, 0]).sum(0))
    counts = torch.bincount(torch.stack(ranks).reshape(-1), minlength=20).double()
    expected = counts.sum() / 20
    square = float(((counts - expected) ** 2 / expected).sum())
    p = float(torch.special.gammaincc(torch.tensor(9.5), torch.tensor(square / 2)))  # χ² with 19 degrees of freedom
    note = f"{simulations} data sets from the prior, {len(watched)} outputs each; rank among 19 draws"
    return Line("simulated truths are covered", f"p = {p:.2g}", "p > 0.001", p > 0.001, note)


def _hamiltonian(post: Particles, rows: Data, test: Data, seed: int) -> list[Line]:
    from kokkiri.numerics.hamiltonian import sample
    from kokkiri.posteriors.density import log_density

    where = layout(post.herd.params)
    if where.size > SMALL:
        raise Unsupported(
            f"Hamiltonian Monte Carlo over {where.size:,} parameters takes too long", needs=f"at most {SMALL:,}",
            found=f"{where.size:,}", fix="hamiltonian=False",
        )  # fmt: skip
    batch = rows.batch(torch.arange(len(rows)))
    hyper = hyper_of(post.herd, post.prior, 0)
    network = post.herd.module().double()
    density = log_density(network, where, post.likelihood, post.prior, batch.x.double(), batch.y, hyper=hyper)
    start = torch.cat([flatten_draws(post.draw(1, seed=seed + k), where) for k in range(8)])
    chains = sample(density, start, draws=250, warm_up=200, seed=seed)
    x = test.batch(torch.arange(min(500, len(test)))).x
    drawn = chains.draws.flatten(0, 1)[:: max(1, chains.draws.flatten(0, 1).shape[0] // 1000)]
    truth = _outputs(post, where, drawn, x)
    said = predict(post, test.rows(torch.arange(len(x))), draws=None) if post.linear else None
    mean, sd = truth.mean(0), truth.std(0)
    if said is not None:
        from kokkiri.posteriors.linearised import output_moments

        centre, covariance = output_moments(post.herd, post.precision, x, post.offset)
        weight = post.log_weight.exp()[:, None]
        own = (weight * centre[..., 0]).sum(0)
        variance = covariance[..., 0, 0] if covariance.ndim == 4 else covariance[..., 0]
        spread = ((weight * (variance + centre[..., 0] ** 2)).sum(0) - own**2).clamp(min=0).sqrt()
    else:
        drawn_own = post.draw(500, seed=seed)(x)[..., 0].double()
        own, spread = drawn_own.mean(0), drawn_own.std(0)
    error = float((((own - mean) / sd) ** 2).mean().sqrt())
    ratio = float((spread / sd).median())
    rhat = "" if chains.acceptance > 0.5 else "its chains did not mix: read with care"
    return [
        Line("mean against Hamiltonian Monte Carlo", f"{error:.2f} posterior sd", "<= 0.3", error <= 0.3, rhat),
        Line("spread against it", f"ratio {ratio:.2f}", "0.8 to 1.25", 0.8 <= ratio <= 1.25),
    ]


def flatten_draws(herd: Any, where: Any) -> Tensor:
    """(S, P) of a herd of draws, float64."""
    from kokkiri.training.flat import flatten

    return flatten({n: t.double() for n, t in herd.params.items()}, where)


def _outputs(post: Particles, where: Any, theta: Tensor, x: Tensor) -> Tensor:
    """(S, B) the first output of the network at some parameters."""
    params = where.views(theta)
    some = next(iter(post.herd.params.values()))
    herd = replace(
        post.herd, params={n: t.to(some.dtype) for n, t in params.items()}, axes={"draw": len(theta)}, hyper={},
        buffers={n: t[:1].expand(len(theta), *t.shape[1:]) for n, t in post.herd.buffers.items()},
    )  # fmt: skip
    return herd(x)[..., 0].double()


__all__: Sequence[str] = ["Examination", "Line", "check", "to_arviz"]
