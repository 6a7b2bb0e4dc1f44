"""Draws of Bayesian networks and of their tables: from the right distribution, judged by p-values; calibrated."""

import numpy as np
import pytest
import torch
from networks_by_hand import a_network, at_evidence, joint_of, some_evidence
from scipy import stats

import kokkiri as kk
from kokkiri.numerics.random import philox

LEAST = 1e-6  # p-values below this are taken for a mistake
TWO = ("0", "1")


@pytest.mark.parametrize("seed", range(12))
def test_draws_are_of_the_joint_given_the_evidence(seed):
    net, rng = a_network(seed, most=5)
    case, words = some_evidence(net, rng, most=3)
    p = at_evidence(joint_of(net), case)
    p = (p / p.sum()).flatten().numpy()
    drawn = net.given(words).draw(20_000, seed=seed)
    line = np.ravel_multi_index([drawn[name].numpy() for name in net.structure.names], net.structure.sizes)
    seen = np.bincount(line, minlength=p.size)
    assert seen[p == 0].sum() == 0
    likely = p * 20_000 >= 5
    expected = np.append(p[likely], p[~likely].sum()) * 20_000
    counts = np.append(seen[likely], seen[~likely].sum())
    if expected[-1] < 1e-9:
        expected, counts = expected[:-1], counts[:-1]
    if len(expected) > 1:
        assert stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > LEAST


def test_draws_for_rows_have_each_rows_distribution():
    net = kk.exact.read_network("asia")
    rows = {"xray": ["yes", "no", None], "smoke": ["no", None, "yes"]}
    found = net.given(rows)
    drawn = found.draw(20_000, seed=3)
    for name in net.structure.names:
        p = found[name][:, 0].numpy()
        hits = (drawn[name] == 0).sum(0).numpy()
        for k, row in zip(hits, p, strict=True):
            assert k == 20_000 * row if row in {0.0, 1.0} else stats.binomtest(int(k), 20_000, row).pvalue > LEAST


def test_draws_with_soft_evidence_and_in_logarithms():
    tables = {"cause": [1e-200, 1.0], "sign": [[0.5, 0.5], [1e-200, 1.0]], "other": [[0.9, 0.1], [1e-150, 1.0]]}
    net = kk.exact.bayesian_network("cause -> sign; cause -> other", tables)
    found = net.given({"sign": "0"}, soft={"other": [0.2, 0.4]})
    drawn = found.draw(20_000, seed=0)
    for name in net.structure.names:
        p, hits = float(found[name][0]), int((drawn[name] == 0).sum())
        assert hits == 20_000 * p if p in {0.0, 1.0} else stats.binomtest(hits, 20_000, p).pvalue > LEAST
    assert float(found["cause"][0]) == pytest.approx(0.5 * (0.9 * 0.2 + 0.1 * 0.4) / (0.5 * 0.22 + 0.4), rel=1e-12)


def test_draws_are_a_function_of_the_seed():
    net = kk.exact.read_network("asia")
    once, again, other = net.draw(50, seed=1), net.draw(50, seed=1), net.draw(50, seed=2)
    assert all(torch.equal(once[n], again[n]) for n in once)
    assert not all(torch.equal(once[n], other[n]) for n in once)


def uniform(ranks, draws):
    """The p-value of ranks 0 … draws being uniform, in eight bins."""
    seen = np.bincount(np.asarray(ranks) * 8 // (draws + 1), minlength=8)
    return stats.chisquare(seen).pvalue


def entries(tables):
    """A few numbers that ranks are taken of: each table's first entry, and p(last = 0)."""
    return [float(t.flatten()[0]) for t in tables.values()]


def test_ranks_are_uniform_for_tables_learnt_from_complete_rows():
    """Simulation-based calibration (Talts et al. 2018): the rank of the truth, drawn from the prior, among draws."""
    what = kk.exact.structure("a -> b -> c <- a", {"a": TWO, "b": ("0", "1", "2"), "c": TWO})
    draws, ranks = 63, []
    for k in range(400):
        rng = philox(k, "calibration of complete rows")
        prior = kk.exact.DirichletTables(what, {n: rng.uniform(0.3, 2.0, what.shape(n)) for n in what.names})
        truth = prior.draw(1, seed=k)[0]
        learnt = prior.update(truth.draw(12, seed=k))
        values = [entries(net.tables) for net in learnt.draw(draws, seed=k)]
        ranks.append([sum(v[i] < t for v in values) for i, t in enumerate(entries(truth.tables))])
    assert min(uniform(column, draws) for column in zip(*ranks, strict=True)) > LEAST


@pytest.mark.slow
def test_ranks_are_uniform_for_tables_learnt_from_rows_with_missing_cells():
    what = kk.exact.structure("a -> b; a -> c", {"a": TWO, "b": TWO, "c": TWO})
    draws, every, ranks = 31, 5, []
    for k in range(300):
        rng = philox(k, "calibration of rows with missing cells")
        prior = kk.exact.equal_counts(what, float(rng.uniform(0.7, 2.0)))
        truth = prior.draw(1, seed=k)[0]
        rows = truth.draw(15, seed=k)
        gone = {n: torch.from_numpy(rng.random(15) < 0.35) for n in what.names}
        rows = {n: torch.where(gone[n], -1, codes) for n, codes in rows.items()}
        found = kk.exact.sample_tables(prior, rows, draws=draws * every, chains=1, warm_up=50, seed=k)
        values = [entries({n: t[0, i * every] for n, t in found.tables.items()}) for i in range(draws)]
        ranks.append([sum(v[i] < t for v in values) for i, t in enumerate(entries(truth.tables))])
    assert min(uniform(column, draws) for column in zip(*ranks, strict=True)) > LEAST


def test_ranks_that_are_not_uniform_are_noticed():
    """The same test with tables learnt from every row twice: it must fail."""
    what = kk.exact.structure("a -> b", {"a": TWO, "b": TWO})
    draws, ranks = 63, []
    for k in range(400):
        prior = kk.exact.equal_counts(what)
        truth = prior.draw(1, seed=k)[0]
        rows = truth.draw(12, seed=k)
        learnt = prior.update(rows).update(rows)
        values = [entries(net.tables) for net in learnt.draw(draws, seed=k)]
        ranks.append([sum(v[i] < t for v in values) for i, t in enumerate(entries(truth.tables))])
    assert min(uniform(column, draws) for column in zip(*ranks, strict=True)) < LEAST


def test_augmented_draws_are_the_posterior_of_a_coin():
    """Rows without a cell say nothing, so the posterior is Beta, though the chain goes through them."""
    prior = kk.exact.equal_counts(kk.exact.structure("coin", {"coin": ("heads", "tails")}), 1.0)
    rows = {"coin": ["heads"] * 3 + ["tails"] * 6 + [None] * 4}
    found = kk.exact.sample_tables(prior, rows, draws=2000, chains=2, warm_up=50, seed=0)
    assert found.r_hat < 1.02
    p = found.tables["coin"][..., 0][:, ::10].flatten().numpy()  # every tenth: next to independent
    assert stats.kstest(p, stats.beta(4, 7).cdf).pvalue > LEAST
    error = (float(found.mean.tables["coin"][0]) - 4 / 11) / (stats.beta(4, 7).std() / found.effective_draws**0.5)
    assert abs(error) < 5


def test_augmented_draws_agree_with_every_completion_weighted():
    """Four missing cells: the posterior is a mixture over their 16 completions, each with its evidence."""
    what = kk.exact.structure("a -> b", {"a": TWO, "b": TWO})
    prior = kk.exact.equal_counts(what, 0.8)
    a, b = [0, 0, 1, 1, 0, -1, -1, 1], [0, 1, 1, 1, 0, 1, 0, -1]
    rows = {"a": torch.tensor([*a, -1]), "b": torch.tensor([*b, 1])}
    total, mean, log_evidence = [], [], []
    for k in range(16):
        bits = [k >> i & 1 for i in range(4)]
        full = {"a": torch.tensor([*a[:5], bits[0], bits[1], 1, bits[2]]), "b": torch.tensor([*b[:7], bits[3], 1])}
        log_evidence.append(prior.log_evidence(full))
        mean.append(prior.update(full).network.tables["b"])
        total.append(prior.update(full).network.log_prob({"b": ["0"]}).exp())
    weight = torch.tensor(log_evidence, dtype=torch.float64).softmax(0)
    exact = (weight[:, None, None] * torch.stack(mean)).sum(0)
    found = kk.exact.sample_tables(prior, rows, draws=1000, chains=4, seed=1)
    draws = found.tables["b"].flatten(0, 1)
    error = (draws.mean(0) - exact) / (draws.std(0) / found.effective_draws**0.5)
    assert float(error.abs().max()) < 5
    predicted = found.predict(of="b")["b"][0]
    exact_b = (weight * torch.cat(total)).sum()
    assert abs(float(predicted - exact_b)) < 0.015
    assert found.mean.tables["b"].shape == (2, 2)


def test_expectations_never_lower_the_posterior_and_find_its_summit():
    net = kk.exact.read_network("asia")
    rng = philox(0, "test EM")
    rows = {n: torch.where(torch.from_numpy(rng.random(200) < 0.2), -1, c) for n, c in net.draw(200, seed=4).items()}
    prior = kk.exact.bdeu(net, 6.0)
    found = kk.exact.most_probable_tables(prior, rows, tolerance=1e-12)
    steps = np.diff(found.log_posteriors)
    assert steps.min() > -1e-9
    assert found.log_likelihood == pytest.approx(float(found.network.log_prob(rows).sum()), abs=1e-8)
    constant = found.log_posteriors[-1] - found.log_likelihood

    def log_posterior(tables):
        other = kk.exact.BayesianNetwork(net.structure, tables)
        pull = sum(float((prior.counts[n] * (tables[n].log() - found.network.tables[n].log())).sum()) for n in tables)
        return float(other.log_prob(rows).sum()) + constant + pull

    for k in range(8):  # no step in any direction leads higher
        g = torch.Generator().manual_seed(k)
        noise = {n: torch.randn(t.shape, generator=g, dtype=torch.float64) for n, t in found.network.tables.items()}
        near = {n: (t.log() + 0.02 * noise[n]).softmax(-1) for n, t in found.network.tables.items()}
        assert log_posterior(near) < found.log_posteriors[-1]


@pytest.mark.parametrize("many", [True, False])
def test_rows_by_pattern_and_rows_with_soft_cells_give_the_same_expectations(many, monkeypatch):
    from kokkiri.exact.networks import batches

    net = kk.exact.read_network("asia")
    rng = philox(1, "test patterns")
    rows = {n: torch.where(torch.from_numpy(rng.random(60) < 0.3), -1, c) for n, c in net.draw(60, seed=5).items()}
    monkeypatch.setattr(batches, "SETUP", 1e12 if many else 0.0)
    found = kk.exact.most_probable_tables(kk.exact.equal_counts(net), rows, steps=3)
    monkeypatch.undo()
    usual = kk.exact.most_probable_tables(kk.exact.equal_counts(net), rows, steps=3)
    for name in net.structure.names:
        torch.testing.assert_close(found.network.tables[name], usual.network.tables[name], rtol=1e-12, atol=1e-13)
    assert found.log_posteriors == pytest.approx(usual.log_posteriors, abs=1e-9)
