"""The laws of Bayesian networks, for random small ones, against the whole joint distribution."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks_by_hand import a_network, at_evidence, joint_of, marginals_of, named, over, some_evidence

import kokkiri as kk
from kokkiri.exact.networks import batches
from kokkiri.exact.networks.query import answer_case, answer_rows, compiled

EXACT = {"rtol": 1e-11, "atol": 1e-13}
SEEDS = st.integers(0, 2**32 - 1)


@given(SEEDS)
@settings(max_examples=200, deadline=None)
def test_marginals_and_evidence_are_sums_of_the_joint(seed):
    net, rng = a_network(seed)
    case, words = some_evidence(net, rng)
    joint = at_evidence(joint_of(net), case)
    found = net.given(words)
    assert float(found.log_evidence) == pytest.approx(math.log(joint.sum()), rel=1e-12, abs=1e-12)
    for name, p in zip(net.structure.names, marginals_of(joint), strict=True):
        torch.testing.assert_close(found[name], p, **EXACT)
        torch.testing.assert_close(net.given(words, of=name)[name], p, **EXACT)  # one alone goes another way


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_joint_distributions_are_sums_of_the_joint(seed):
    net, rng = a_network(seed)
    case, words = some_evidence(net, rng, most=3)
    free = [i for i in range(len(net.structure.names)) if i not in case]
    if not free:
        return
    some = rng.permutation(free)[: int(rng.integers(1, len(free) + 1))].tolist()
    joint = at_evidence(joint_of(net), case)
    p = over(joint, some).permute(np.argsort(np.argsort(some)).tolist()) / joint.sum()
    names = [net.structure.names[i] for i in some]
    torch.testing.assert_close(net.given(words).joint(*names), p, **EXACT)
    at = {name: net.structure.variables[i].states[-1] for name, i in zip(names, some, strict=True)}
    torch.testing.assert_close(net.given(words, of=()).probability(**at), p[(-1,) * len(some)], **EXACT)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_the_most_probable_explanation_is_the_largest_entry_of_the_joint(seed):
    net, rng = a_network(seed)
    case, words = some_evidence(net, rng)
    joint = at_evidence(joint_of(net), case)
    found = net.given(words).most_probable()
    at = tuple(int(found.codes[name]) for name in net.structure.names)
    assert float(joint[at]) == pytest.approx(float(joint.max()), rel=1e-12)
    assert float(found.log_prob) == pytest.approx(math.log(joint.max() / joint.sum()), abs=1e-11)
    assert all(at[i] == k for i, k in case.items())


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_rows_of_evidence_are_the_cases_one_by_one(seed):
    for setup in (0.0, 1e12):  # by what is known in them, and all at once
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "SETUP", setup)
            rows_are_cases(seed)


def rows_are_cases(seed):
    net, rng = a_network(seed)
    n, rows = len(net.structure.names), int(rng.integers(1, 40))
    drawn = net.draw(rows, seed=seed)
    gone = {name: torch.from_numpy(rng.random(rows) < 0.3) for name in net.structure.names}
    columns = {name: torch.where(gone[name], -1, codes) for name, codes in drawn.items() if rng.random() < 0.8}
    columns = columns or {"x0": drawn["x0"]}
    found = net.given(columns)
    best = found.most_probable()
    for row in range(rows):
        case = {net.structure.index[m]: int(c[row]) for m, c in columns.items() if c[row] >= 0}
        one = net.given(named(net, case))
        torch.testing.assert_close(found.log_evidence[row], one.log_evidence, **EXACT)
        for name in net.structure.names:
            torch.testing.assert_close(found[name][row], one[name], **EXACT)
        alone = one.most_probable()
        assert float(best.log_prob[row]) == pytest.approx(float(alone.log_prob), abs=1e-11)
        assert [int(best.codes[m][row]) for m in net.structure.names] == [int(c) for c in alone.codes.values()]
    assert found.log_evidence.shape == (rows,)
    assert n == len(found.marginals)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_many_rows_in_chunks_and_equal_rows_once_change_nothing(seed):
    net, rng = a_network(seed, most=5)
    names = net.structure.names
    drawn = net.draw(300, seed=seed)
    known = sorted(rng.choice(len(names), int(rng.integers(0, len(names) + 1)), replace=False).tolist())
    wanted = [(i,) for i in range(len(names)) if i not in known]
    query = compiled(net.structure, known, wanted, many=True)
    codes = np.stack([drawn[names[i]].numpy() for i in known]) if known else np.zeros((0, 300), np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kokkiri.exact.networks.query.CHUNK", 7 * query.plan.entries)
        patch.setattr("kokkiri.exact.networks.query.FEW", int(rng.choice([16, 1000])))  # or no equal rows
        assert query.rows_at_once == 7
        found = answer_rows(net, query, codes)
    for row in (0, 17, 299):
        case = {i: int(codes[k, row]) for k, i in enumerate(known)}
        one = answer_case(net, compiled(net.structure, known, wanted), case)
        np.testing.assert_allclose(found.log_evidence[row], one.log_evidence, atol=1e-12)
        for many, single in zip(found.joints, one.joints, strict=True):
            np.testing.assert_allclose(many[..., row], single, atol=1e-13)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_variables_does_not_matter(seed):
    net, rng = a_network(seed)
    _, words = some_evidence(net, rng)
    order = rng.permutation(len(net.structure.names)).tolist()
    other = kk.exact.BayesianNetwork(kk.exact.Structure(tuple(net.structure.variables[i] for i in order)), net.tables)
    a, b = net.given(words), other.given(dict(reversed(words.items())))
    torch.testing.assert_close(a.log_evidence, b.log_evidence, **EXACT)
    for name in net.structure.names:
        torch.testing.assert_close(a[name], b[name], **EXACT)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_evidence_that_comes_in_parts_is_the_evidence_at_once(seed):
    net, rng = a_network(seed)
    _, words = some_evidence(net, rng)
    cut = int(rng.integers(0, len(words) + 1))
    first, second = dict(list(words.items())[:cut]), dict(list(words.items())[cut:])
    before = net.given(first)
    after, once = before.given(second), net.given(words)
    torch.testing.assert_close(after.log_evidence, once.log_evidence, **EXACT)
    if len(second) == 1:  # the chain rule: log p(a, b) = log p(a) + log p(b | a)
        ((name, state),) = second.items()
        step = before.probability(**{name: state}).log()
        torch.testing.assert_close(before.log_evidence + step, once.log_evidence, **EXACT)
    for name in net.structure.names:
        torch.testing.assert_close(after[name], once[name], **EXACT)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_soft_evidence_is_a_child_that_was_seen(seed):
    net, rng = a_network(seed, most=5)
    _, words = some_evidence(net, rng, most=2)
    free = [v for v in net.structure.variables if v.name not in words]
    if not free:
        return
    v = free[int(rng.integers(len(free)))]
    likelihood = rng.uniform(0.1, 0.9, len(v.states))
    seen = kk.exact.Variable("seen", ("yes", "no"), (v.name,))
    child = torch.from_numpy(np.stack([likelihood, 1 - likelihood], -1))
    more = kk.exact.BayesianNetwork(kk.exact.Structure((*net.structure.variables, seen)), {**net.tables, "seen": child})
    hard = more.given({**words, "seen": "yes"})
    soft = net.given(words, soft={v.name: likelihood})
    torch.testing.assert_close(soft.log_evidence, hard.log_evidence, **EXACT)
    rows = net.given({k: [s] for k, s in words.items()}, soft={v.name: likelihood[None]}) if words else None
    for name in net.structure.names:
        torch.testing.assert_close(soft[name], hard[name], **EXACT)
        if rows is not None:
            torch.testing.assert_close(rows[name][0], hard[name], **EXACT)
    a, b = soft.most_probable(), hard.most_probable()
    assert float(a.log_prob) == pytest.approx(float(b.log_prob), abs=1e-11)
    times = net.given(words, soft={v.name: likelihood * 1e200})  # only ratios count
    torch.testing.assert_close(times[v.name], soft[v.name], **EXACT)
    assert float(times.log_evidence) == pytest.approx(float(soft.log_evidence) + 200 * math.log(10), abs=1e-10)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_logarithms_give_what_probabilities_give(seed):
    net, rng = a_network(seed)
    case, _ = some_evidence(net, rng)
    wanted = [(i,) for i in range(len(net.structure.names)) if i not in case]
    from kokkiri.exact.networks.query import contracted, tables_of_case

    query = compiled(net.structure, case, wanted)
    with np.errstate(divide="ignore"):
        plain, logs = (contracted(query, tables_of_case(net, query, case, {}, logs=logs)) for logs in (False, True))
    np.testing.assert_allclose(logs.log_evidence, plain.log_evidence, atol=1e-12)
    for a, b in zip(plain.joints, logs.joints, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_what_is_written_as_bif_is_read_to_the_last_bit(seed):
    net, rng = a_network(seed)
    signs = ["a b", "x.1", "{y}", "10%", "-5", "é", "a|b", "(1,2)", "//", "t", "f;", "/*"]
    rename = {name: f"{signs[int(rng.integers(len(signs)))]}{k}" for k, name in enumerate(net.structure.names)}
    variables = tuple(
        kk.exact.Variable(
            rename[v.name], tuple(f"{s} {rename[v.name]}" for s in v.states), tuple(map(rename.get, v.parents))
        )
        for v in net.structure.variables
    )
    tables = {rename[name]: table for name, table in net.tables.items()}
    other = kk.exact.BayesianNetwork(kk.exact.Structure(variables), tables, "it's a test")
    again = kk.exact.from_bif(kk.exact.to_bif(other))
    assert again.structure == other.structure
    assert again.name == other.name
    assert all(torch.equal(again.tables[name], other.tables[name]) for name in other.tables)
    arrows = kk.exact.structure(str(other.structure), {v.name: v.states for v in variables})
    assert {v.name: v.parents for v in arrows.variables} == {v.name: v.parents for v in variables}


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_rows_learnt_in_parts_are_the_rows_learnt_at_once(seed):
    net, rng = a_network(seed)
    rows = net.draw(30, seed=seed)
    cut = int(rng.integers(0, 31))
    first, second = ({n: c[part] for n, c in rows.items()} for part in (slice(None, cut), slice(cut, None)))
    prior = kk.exact.bdeu(net, float(rng.uniform(0.1, 20)))
    step, once = prior.update(first), prior.update(rows)
    after = step.update(second)
    for name in net.structure.names:
        torch.testing.assert_close(after.counts[name], once.counts[name], rtol=1e-13, atol=0)
    whole = prior.log_evidence(rows)
    assert prior.log_evidence(first) + step.log_evidence(second) == pytest.approx(whole, abs=1e-9)
    # p(next row | rows) is the mean network's: the evidence one row at a time
    one = {n: c[:1] for n, c in rows.items()}
    assert prior.log_evidence(one) == pytest.approx(float(prior.network.log_prob(one)), abs=1e-11)


def test_a_structure_forgets_the_oldest_plans(monkeypatch):
    monkeypatch.setattr("kokkiri.exact.networks.query.KEPT", 3)
    net = kk.exact.read_network("asia")
    first = net.given(smoke="yes")["lung"]
    for name in net.structure.names:
        net.given({name: "no"})
        assert len(net.structure.plans) <= 3
    torch.testing.assert_close(net.given(smoke="yes")["lung"], first, **EXACT)
