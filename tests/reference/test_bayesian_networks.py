"""Bayesian networks beside pyAgrum, and planned contractions beside one einsum over everything."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kokkiri.numerics import contraction
from kokkiri.numerics.contraction import ROWS, TooLarge, add, add_logs, forward, plan, take_maximum, walk_back
from kokkiri.numerics.elimination import order
from kokkiri.numerics.random import philox

HERE = Path(__file__).parent / "pyagrum"


def made():
    spec = importlib.util.spec_from_file_location("make_pyagrum_answers", HERE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = made()
ANSWERS = json.loads((HERE / "answers.json").read_text("utf-8"))["networks"]


@pytest.mark.parametrize("name", ANSWERS)
def test_marginals_and_evidence_are_pyagrums(name):
    net = dict(MAKE.networks())[name]
    for answer in ANSWERS[name]:
        found = net.given(answer["evidence"])
        assert float(found.log_evidence) == pytest.approx(answer["log_evidence"], abs=1e-10)
        for variable, p in answer["marginals"].items():
            np.testing.assert_allclose(found[variable], p, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ANSWERS)
def test_the_same_answers_come_from_pyagrum_that_is_here(name):
    pytest.importorskip("pyagrum")
    net = dict(MAKE.networks())[name]
    for found, kept in zip(MAKE.answers(net), ANSWERS[name], strict=True):
        assert found["evidence"] == kept["evidence"]
        for variable, p in kept["marginals"].items():
            np.testing.assert_allclose(found["marginals"][variable], p, rtol=0, atol=1e-12)


# -- contractions ------------------------------------------------------------------------------------------------------


def a_product(seed, rows):
    """Tables over some of eight labels, some of them with rows."""
    rng = philox(seed, "test a product", rows)
    sizes = rng.integers(1, 4, 8).tolist()
    scopes, tables = [], []
    for _ in range(int(rng.integers(1, 9))):
        labels = rng.permutation(8)[: int(rng.integers(0, 4))].tolist()
        rowed = rows > 1 and rng.random() < 0.5
        scopes.append((*labels, *((ROWS,) if rowed else ())))
        tables.append(rng.uniform(0.1, 1.0, [sizes[k] for k in labels] + [rows] * rowed))
    there = sorted({label for scope in scopes for label in scope if label != ROWS})
    keep = rng.permutation(there)[: int(rng.integers(0, min(3, len(there)) + 1))].tolist()
    return sizes, scopes, tables, keep


def whole(scopes, tables, keep, rows):
    """The product over all labels at once, with rows last; labels in `keep` first, in their order."""
    letter = lambda label: "z" if label == ROWS else "abcdefgh"[label]
    tables = [np.broadcast_to(t, t.shape) for t in tables]
    terms = ",".join("".join(map(letter, scope)) for scope in scopes)
    there = sorted({k for s in scopes for k in s if k != ROWS and k not in keep})
    end = "z" if any(ROWS in scope for scope in scopes) else ""
    return np.einsum(f"{terms}->{''.join(map(letter, [*keep, *there]))}{end}", *tables), there


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_a_planned_contraction_is_one_einsum_over_everything(seed, rows, small, monkeypatch):
    monkeypatch.setattr(contraction, "SMALL", 4096 if small else 0)  # all tables of a label at once, or two by two
    sizes, scopes, tables, keep = a_product(seed, rows)
    planned = plan(scopes, sizes, keep, rows=rows)
    everything, there = whole(scopes, tables, keep, rows)
    axes = tuple(range(len(keep), len(keep) + len(there)))
    np.testing.assert_allclose(forward(planned, tables)[-1], everything.sum(axes), rtol=1e-12)
    logs = [np.log(t) for t in tables]
    np.testing.assert_allclose(forward(planned, logs, add_logs)[-1], np.log(everything.sum(axes)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(forward(planned, logs, take_maximum)[-1], np.log(everything.max(axes)), atol=1e-12)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("seed", range(25))
def test_what_is_left_standing_is_the_sum_over_the_rest(seed, rows):
    sizes, scopes, tables, _ = a_product(seed, rows)
    planned = plan(scopes, sizes, rows=rows)
    everything, there = whole(scopes, tables, [], rows)
    wanted = [tuple(k for k in scope if k != ROWS) for scope in scopes]
    back = contraction.backward_plan(planned, wanted)
    for semiring, given in ((add, tables), (add_logs, [np.log(t) for t in tables])):
        made = forward(planned, given, semiring)
        found = contraction.backward(planned, back, made, semiring)
        for scope, one in zip(wanted, found, strict=True):
            over = tuple(k for k, label in enumerate(there) if label not in scope)
            expected = everything.sum(over)
            left = [label for label in there if label in scope]
            turn = [left.index(label) for label in scope]
            expected = expected.transpose([*turn, *range(len(turn), expected.ndim)])
            expected = np.log(expected) if semiring is add_logs else expected
            full = np.broadcast_to(one[..., None], expected.shape) if one.ndim < expected.ndim else one
            np.testing.assert_allclose(full, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("seed", range(25))
def test_walking_back_finds_the_largest_product(seed):
    sizes, scopes, tables, _ = a_product(seed, 5)
    planned = plan(scopes, sizes, rows=5)
    logs = [np.log(t) for t in tables]
    made = forward(planned, logs, take_maximum)
    best = walk_back(planned, made, lambda t: t.argmax(1), np.arange(5), logs=True)
    at = {ROWS: np.arange(5), **best}
    value = sum(t[tuple(at[k] for k in scope)] for t, scope in zip(logs, scopes, strict=True))
    np.testing.assert_allclose(np.broadcast_to(value, 5), np.broadcast_to(made[-1], 5), rtol=1e-12, atol=1e-12)


def test_rare_products_survive_in_logarithms():
    chain = plan([(0,), (0, 1), (1, 2)], [2, 2, 2])
    tables = [np.array([-900.0, -1000.0]), np.array([[-800.0, -np.inf], [-700.0, -700.0]]), np.full((2, 2), -500.0)]
    exact = np.logaddexp.reduce([-900 - 800, -1000 - 700, -1000 - 700]) - 500 + np.log(2)
    assert forward(chain, tables, add_logs)[-1] == pytest.approx(exact, rel=1e-14)
    nothing = [np.full(2, -np.inf), *tables[1:]]
    assert forward(chain, nothing, add_logs)[-1] == -np.inf


def test_what_is_too_large_is_refused_before_anything_is_made():
    with pytest.raises(TooLarge) as error:
        plan([tuple(range(60))], [2] * 60)
    assert error.value.entries >= 2.0**60


def test_the_order_of_a_grid_is_near_the_best():
    """An n x n grid has tree width n: no order makes tables of fewer than 2^(n + 1) entries, and greedy is close."""
    n = 8
    at = lambda i, j: n * i + j
    edges = [(at(i, j), at(i + 1, j)) for i in range(n - 1) for j in range(n)]
    edges += [(at(i, j), at(i, j + 1)) for i in range(n) for j in range(n - 1)]
    found = order(edges, [2] * n * n)
    assert sorted(found.labels) == list(range(n * n))
    assert 2 ** (n + 1) <= found.entries <= n * n * 2 ** (n + 2)
    assert found == order(edges, [2] * n * n)


def test_a_tree_is_summed_from_its_leaves():
    rng = philox(0, "test tree")
    edges = [(int(rng.integers(i)), i) for i in range(1, 300)]
    found = order(edges, [3] * 300)
    assert found.entries == pytest.approx(299 * 9 + 3)


def test_arrays_are_numpys_and_torch_shares_them():
    net = dict(MAKE.networks())["asia"]
    assert all(np.shares_memory(a, net.tables[n].numpy()) for a, n in zip(net.arrays, net.structure.names, strict=True))
    assert net.given()["lung"].dtype == torch.float64
