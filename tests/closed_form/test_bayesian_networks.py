"""Bayesian networks whose answers can be written down: fractions, hidden Markov models, Pólya's urn, tiny numbers."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from networks_by_hand import forward_algorithm, hidden_markov, viterbi
from scipy.special import betaln, gammaln

import kokkiri as kk

EXACT = {"rtol": 1e-12, "atol": 1e-13}
YES_NO = ("yes", "no")


def chest_clinic():
    """p(all of Asia) in fractions, from table 1 of Lauritzen & Spiegelhalter 1988."""
    percent = lambda p, happens: Fraction(p if happens else 100 - p, 100)
    joint = {}
    for k in range(256):
        asia, tub, smoke, lung, bronc, either, xray, dysp = state = tuple(bool(k >> i & 1) for i in range(8))
        breath = {(True, True): 90, (True, False): 80, (False, True): 70, (False, False): 10}[bronc, either]
        joint[state] = (
            percent(1, asia) * percent(5 if asia else 1, tub) * percent(50, smoke) * percent(10 if smoke else 1, lung)
            * percent(60 if smoke else 30, bronc) * (either == (tub or lung)) * percent(98 if either else 5, xray)
            * percent(breath, dysp)
        )  # fmt: skip
    return joint


def test_the_chest_clinic_in_fractions():
    joint, net = chest_clinic(), kk.exact.read_network("asia")
    names = net.structure.names
    for evidence in (
        {},
        {"xray": "yes"},
        {"asia": "yes", "smoke": "no", "dysp": "yes"},
        {"either": "no", "bronc": "yes"},
    ):
        fits = {s: p for s, p in joint.items() if all(s[names.index(n)] == (w == "yes") for n, w in evidence.items())}
        total, found = sum(fits.values()), net.given(evidence)
        assert float(found.log_evidence.exp()) == pytest.approx(float(total), rel=1e-13)
        for i, name in enumerate(names):
            exact = sum(p for s, p in fits.items() if s[i]) / total
            assert float(found[name][0]) == pytest.approx(float(exact), rel=1e-13, abs=1e-15)
        best = max(fits, key=fits.get)
        assert found.most_probable().states == {n: YES_NO[not s] for n, s in zip(names, best, strict=True)}
        assert float(found.most_probable().log_prob.exp()) == pytest.approx(float(fits[best] / total), rel=1e-12)


def test_one_cause_explains_the_other_away():
    net = kk.exact.bayesian_network(
        "{rain, sprinkler} -> wet",
        {
            "rain": {"yes": 0.25, "no": 0.75}, "sprinkler": {"yes": 0.5, "no": 0.5},
            "wet": {"yes": {"yes": {"yes": 1.0, "no": 0.0}, "no": {"yes": 1.0, "no": 0.0}},
                    "no": {"yes": {"yes": 1.0, "no": 0.0}, "no": {"yes": 0.0, "no": 1.0}}},
        },
    )  # fmt: skip
    assert float(net.given(wet="yes")["rain"][0]) == pytest.approx(0.25 / 0.625, rel=1e-14)
    assert float(net.given(wet="yes", sprinkler="yes")["rain"][0]) == pytest.approx(0.25, rel=1e-14)
    assert float(net.given(sprinkler="yes")["rain"][0]) == pytest.approx(0.25, rel=1e-14)  # until it is wet, unrelated
    assert float(net.given(wet="yes").probability(rain="yes", sprinkler="yes")) == pytest.approx(0.2, rel=1e-14)


@pytest.mark.parametrize("steps", [1, 2, 30, 400])
def test_a_hidden_markov_model_is_filtered_and_decoded(steps):
    net, start, move, show, seen = hidden_markov(steps, seed=steps)
    evidence = {f"y{t}": str(y) for t, y in enumerate(seen)}
    log_evidence, last = forward_algorithm(start, move, show, seen)
    found = net.given(evidence)
    assert float(found.log_evidence) == pytest.approx(log_evidence, rel=1e-12)
    np.testing.assert_allclose(found[f"z{steps - 1}"], last, atol=1e-12)
    best = found.most_probable()
    path, log_joint = viterbi(start, move, show, seen)
    assert [int(best.codes[f"z{t}"]) for t in range(steps)] == path
    assert float(best.log_prob) == pytest.approx(log_joint - log_evidence, abs=1e-9)


def test_probabilities_of_1e_300_keep_their_digits():
    tiny = 1e-300
    arrows = "; ".join(f"cause -> sign{k}" for k in range(4))
    signs = {f"sign{k}": [[3 * tiny, 1 - 3 * tiny], [tiny, 1 - tiny]] for k in range(4)}
    net = kk.exact.bayesian_network(arrows, {"cause": [tiny, 1 - tiny], **signs})
    found = net.given({f"sign{k}": "0" for k in range(4)})
    log_tiny = math.log(tiny)
    assert float(found.log_evidence) == pytest.approx(4 * log_tiny, rel=1e-14)  # the cause is as rare as a sign is
    assert float(found["cause"][0]) == pytest.approx(81e-300, rel=1e-10)
    assert float(found.most_probable().log_prob) == pytest.approx(0.0, abs=1e-12)
    rare = net.given(cause="0", sign0="0", sign1="0")
    assert float(rare.log_evidence) == pytest.approx(3 * log_tiny + 2 * math.log(3), rel=1e-14)
    rows = net.given({"sign0": ["0", "1"], "sign1": ["0", "0"], "sign2": ["0", None], "sign3": ["0", "0"]})
    torch.testing.assert_close(rows.log_evidence[0], found.log_evidence, **EXACT)
    torch.testing.assert_close(rows["cause"][0], found["cause"], rtol=1e-10, atol=0)
    assert float(rows.log_evidence[1]) == pytest.approx(2 * log_tiny, rel=1e-14)


def test_certainty_passes_through():
    net = kk.exact.bayesian_network(
        "a -> b -> c", {"a": [1.0, 0.0], "b": [[0.0, 1.0], [1.0, 0.0]], "c": [[1.0, 0], [0, 1]]}
    )
    found = net.given(c="1")
    assert found.log_evidence.tolist() == pytest.approx(0, abs=1e-300)
    assert found["a"].tolist() == [1.0, 0.0]
    assert found.most_probable().states == {"a": "0", "b": "1", "c": "1"}


def test_equally_probable_explanations_are_decided_alike():
    net = kk.exact.bayesian_network("a -> b -> c", {"a": [0.5, 0.5], "b": [[0.5, 0.5]] * 2, "c": [[0.3, 0.7]] * 2})
    assert net.given().most_probable().states == {"a": "0", "b": "0", "c": "1"}
    third = kk.exact.bayesian_network("a -> b", {"a": [1 / 3] * 3, "b": [[0.1 + 0.2, 0.7], [0.3, 0.7], [0.7, 0.3]]})
    assert third.given(b="1").most_probable().states["a"] == "0"  # 0.7 twice, one of them after rounding


# -- learning ----------------------------------------------------------------------------------------------------------


def coin():
    return kk.exact.structure("coin", {"coin": ("heads", "tails")})


def test_the_evidence_of_a_coin_is_polyas_urn():
    prior = kk.exact.DirichletTables(coin(), {"coin": torch.tensor([2.0, 3.0])})
    rows = {"coin": ["heads"] * 4 + ["tails"] * 2}
    assert prior.log_evidence(rows) == pytest.approx(betaln(2 + 4, 3 + 2) - betaln(2, 3), abs=1e-12)
    assert prior.update(rows).counts["coin"].tolist() == [6.0, 5.0]
    assert prior.update(rows).network.tables["coin"].tolist() == [6 / 11, 5 / 11]


def test_the_score_of_a_structure_is_the_formula():
    """Heckerman, Geiger & Chickering 1995, eq. 28, written out."""
    net = kk.exact.read_network("asia")
    rows, prior = net.draw(200, seed=1), kk.exact.bdeu(net, 5.0)
    score = 0.0
    for v in net.structure.variables:
        shape = net.structure.shape(v.name)
        alpha, n = np.full(shape, 5.0 / np.prod(shape)), np.zeros(shape)
        for row in zip(*(rows[m].tolist() for m in (*v.parents, v.name)), strict=True):
            n[row] += 1
        score += (gammaln(alpha.sum(-1)) - gammaln((alpha + n).sum(-1))).sum() + (
            gammaln(alpha + n) - gammaln(alpha)
        ).sum()
        np.testing.assert_allclose(prior.update(rows).counts[v.name], alpha + n, rtol=1e-14)
    assert prior.log_evidence(rows) == pytest.approx(score, abs=1e-10)


def test_arrows_turned_within_a_class_have_the_same_bdeu_score():
    rows = kk.exact.read_network("asia").draw(100, seed=3)
    states = dict.fromkeys(("smoke", "lung", "bronc"), YES_NO)
    some = {name: rows[name] for name in states}
    chains = ("lung -> smoke -> bronc", "lung <- smoke -> bronc", "lung <- smoke <- bronc")
    scores = [kk.exact.bdeu(kk.exact.structure(arrows, states), 3.0).log_evidence(some) for arrows in chains]
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-10)
    collider = kk.exact.bdeu(kk.exact.structure("lung -> smoke <- bronc", states), 3.0).log_evidence(some)
    assert abs(collider - scores[0]) > 0.1


def test_the_mean_network_predicts_the_next_row_exactly():
    """Averaged over draws of the tables, p(next | rows) is what the means give: independent rows are linear in each."""
    net = kk.exact.bayesian_network("a -> b", {"a": [0.3, 0.7], "b": [[0.9, 0.1], [0.2, 0.8]]})
    learnt = kk.exact.equal_counts(net, 0.5).update(net.draw(20, seed=0))
    drawn = torch.stack([n.given(a="0", b="1").log_evidence.exp() for n in learnt.draw(4000, seed=0)])
    error = (drawn.mean() - learnt.network.given(a="0", b="1").log_evidence.exp()) / (drawn.std() / 4000**0.5)
    assert abs(float(error)) < 5


def test_rows_without_a_cell_teach_a_coin_nothing():
    prior = kk.exact.equal_counts(coin(), 2.0)
    rows = {"coin": ["heads", None, "heads", "tails", None]}
    mode = kk.exact.most_probable_tables(prior, rows, tolerance=1e-14)
    torch.testing.assert_close(mode.network.tables["coin"], torch.tensor([4 / 7, 3 / 7]).double(), rtol=0, atol=1e-7)
    assert mode.converged
    inside = kk.exact.most_probable_tables(prior, rows, simplex=True, tolerance=1e-14).network.tables["coin"]
    torch.testing.assert_close(inside, torch.tensor([3 / 5, 2 / 5]).double(), rtol=0, atol=1e-7)


def test_complete_rows_make_the_mode_the_posterior_mean():
    net = kk.exact.read_network("asia")
    rows, prior = net.draw(50, seed=2), kk.exact.bdeu(net, 4.0)
    mode, learnt = kk.exact.most_probable_tables(prior, rows), prior.update(rows).network
    for name in net.structure.names:
        torch.testing.assert_close(mode.network.tables[name], learnt.tables[name], **EXACT)


def test_a_hidden_class_of_two_signs_reaches_the_summit_of_its_likelihood():
    """Two states, one hidden: every p(a) x p(sign | a) with the right p(sign) is a summit, and EM must end on one."""
    what = kk.exact.structure("hidden -> sign", {"hidden": ("0", "1"), "sign": ("0", "1")})
    prior = kk.exact.equal_counts(what, 1.0)
    rows = {"sign": ["0"] * 30 + ["1"] * 70}
    found = kk.exact.most_probable_tables(prior, rows, hidden=["hidden"], simplex=True, starts=3, seed=1)
    assert float(found.network.prior["sign"][0]) == pytest.approx(0.3, abs=1e-6)
    assert found.log_likelihood == pytest.approx(30 * math.log(0.3) + 70 * math.log(0.7), abs=1e-8)
    assert len(found.starts) == 3


def test_a_class_that_was_never_seen_is_told_from_its_signs():
    """From the prior's mean all classes would stay alike, and three signs that go together independent."""
    arrows, states = "kind -> {a, b, c}", dict.fromkeys(("kind", "a", "b", "c"), ("0", "1"))
    signs = {name: ["0"] * 50 + ["1"] * 50 for name in "abc"}
    prior = kk.exact.equal_counts(kk.exact.structure(arrows, states), 0.5)
    found = kk.exact.most_probable_tables(prior, signs, hidden=["kind"])
    assert found.log_likelihood > -100 * math.log(2) - 10  # one bit a row, not three
    assert float(found.network.given(a="0", b="0")["c"][0]) > 0.9
