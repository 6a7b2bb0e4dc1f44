"""`identify` and its neighbours as a user meets them: what is printed, what is refused and how, and how fast."""

import time

import networkx as nx
import numpy as np
import pytest
import torch
from causal_support import Truth, derived, queries, random_graph

import kokkiri as kk
from kokkiri.causal import (
    adjustment_sets,
    check_adjustment,
    graph_of,
    open_path,
    optimal_adjustment_set,
    separated,
)
from kokkiri.causal import identify as module
from kokkiri.causal.expression import probability
from kokkiri.causal.identification import Derived
from kokkiri.causal.linear import linear_value, random_linear
from kokkiri.causal.verify import LIMIT, check_formula
from kokkiri.drawing import file_of

KINDS = {
    "back-door": ("age -> {dose, outcome}; dose -> outcome", "Σ_age P(outcome | age, dose) P(age)"),
    "no effect": ("age -> {dose, outcome}", "P(outcome)"),
    "front-door": ("dose -> tar -> outcome; dose <-> outcome",
                   "Σ_tar P(tar | dose) Σ_dose′ P(outcome | dose′, tar) P(dose′)"),
    "general": ("w -> z -> dose -> outcome; w <-> dose; w <-> outcome",
                "[Σ_w P(dose, outcome | w, z) P(w)] / [Σ_w P(dose | w, z) P(w)]"),
}  # fmt: skip


def refusal(error, *arguments, **more):
    """The message of a refusal, which has four lines of one form."""
    with pytest.raises(error) as caught:
        kk.identify(*arguments, **more)
    lines = str(caught.value).split("\n")
    assert [line[:10].strip() for line in lines[1:]] == ["needs", "found", "fix"], lines
    return caught.value


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_simplest_formula_that_is_right_is_chosen(kind):
    text, formula = KINDS[kind]
    found = kk.identify(text, "dose", "outcome")
    assert (found.kind, found.formula) == (kind, formula)
    assert found.check.models == 3
    assert found.check.error < 1e-12
    assert repr(found) == f"Estimand(P(outcome | do(dose)) = {formula})"
    assert max(map(len, str(found).splitlines())) <= 80
    assert found.derivation.split(". ")[-1].replace("\n      ", " ").split("\n")[0] == f"{found.query} = {formula}"
    assert str(found).endswith(found.derivation)


def test_every_estimand_is_right_and_so_is_every_line_of_its_derivation():
    rng = np.random.default_rng(0)
    kinds = set()
    for seed in range(120):
        graph = random_graph(rng, 5, arrow=0.45, both=0.15)
        truth = Truth(graph, models=1, seed=seed)
        asked = list(queries(graph))
        for i in rng.permutation(len(asked))[:6]:
            x, y, z = asked[i]
            try:
                found = kk.identify(graph, *(graph.names(m) for m in (x, y, z)))
            except kk.NotIdentified:
                assert not isinstance(derived(graph, x, y, z), Derived)
                continue
            except kk.UsageError:
                assert y & graph.masks.ancestors(x) & ~graph.masks.descendants(x)
                continue
            kinds.add(found.kind)
            effect = truth.effect(x, y, z)
            assert truth.difference(effect, found.expression) < 1e-10
            assert found.steps[0].left == effect or found.kind == "general"
            assert found.steps[-1].right == found.expression
            for step in found.steps:
                assert truth.difference(step.left, step.right) < 1e-10, (str(graph), str(effect), step)
            value = found.evaluate(truth.joint(), graph.nodes)
            assert float((value - truth.value(effect)).abs().max()) < 1e-10
            axes = [1 + i for i in range(5) if y >> i & 1]
            assert float((value.sum(axes) - 1).abs().max()) < 1e-10
    assert kinds >= {"back-door", "no effect", "general"}


def test_a_wrong_formula_never_leaves_the_check():
    graph = graph_of("age -> {dose, outcome}; dose -> outcome")
    wrong = probability(["outcome"], ["dose"])
    with pytest.raises(AssertionError, match="a defect of kokkiri"):
        check_formula(graph, wrong, *(graph.mask(v) for v in ("dose", "outcome", [])))


def test_covariates_are_given_and_others_adjusted_for():
    found = kk.identify("{sex, age} -> dose -> outcome <- {sex, age}", "dose", "outcome", given="sex")
    assert found.query == "P(outcome | do(dose), sex)"
    assert found.formula == "Σ_age P(outcome | sex, age, dose) P(age | sex)"
    assert found.adjustment == ("age",)


def test_the_user_may_say_what_to_adjust_for():
    text = "dose <- a -> b -> outcome <- dose"
    assert kk.identify(text, "dose", "outcome").adjustment == ("b",)
    assert kk.identify(text, "dose", "outcome", adjust="a").adjustment == ("a",)
    assert kk.identify(text, "dose", "outcome", adjust=["a", "b"]).formula == "Σ_{a, b} P(outcome | a, dose, b) P(a, b)"


def test_latent_nodes_are_neither_adjusted_for_nor_forgotten():
    text = "genes -> {smoking, cancer}; smoking -> cancer; genes [latent]"
    refused = refusal(kk.NotIdentified, text, "smoking", "cancer")
    assert refused.remedies[0].kind == "measure"
    assert refused.remedies[0].variables == ("genes",)
    seen = kk.identify(graph_of(text).observe("genes"), "smoking", "cancer")
    assert seen.adjustment == ("genes",)


def test_an_instrument_is_used_only_when_linearity_is_assumed():
    text = "z -> x -> y; x <-> y"
    assert [r.kind for r in refusal(kk.NotIdentified, text, "x", "y").remedies] == [
        "hidden cause", "mediator", "instrument", "bounds",
    ]  # fmt: skip
    found = kk.identify(text, "x", "y", linear=True)
    assert (found.kind, found.formula, found.instruments.variables) == ("instrument", "Cov(z, y) / Cov(z, x)", ("z",))
    assert "linear" in str(found)
    graph = graph_of(text)
    model = random_linear(graph, seed=5)
    value = linear_value(found.expression, model.covariance, graph.nodes)
    assert float(value) == pytest.approx(float(model.effects[2, 1]), abs=1e-12)
    # what needs no assumption is preferred
    assert kk.identify("z -> x -> y", "x", "y", linear=True).kind == "back-door"


def test_what_does_not_matter_is_averaged_over():
    found = kk.identify(KINDS["general"][0], "dose", "outcome")
    assert found.free == ("z",)
    assert "any value z" in str(found)
    joint = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(16), size=5).reshape(5, 2, 2, 2, 2))
    value = found.evaluate(joint, ("w", "z", "dose", "outcome"))  # not a distribution of the model: z matters a little
    assert value.shape == (5, 1, 1, 2, 2)
    torch.testing.assert_close(value.sum(-1), torch.ones(5, 1, 1, 2, dtype=torch.float64))


def test_many_variables_are_checked_in_linear_models():
    names = [f"v{i}" for i in range(LIMIT + 3)]
    text = "; ".join(f"{name} -> dose; {name} -> outcome" for name in names) + "; dose -> outcome"
    found = kk.identify(text, "dose", "outcome")
    assert set(found.adjustment) == set(names)
    assert "linear" in str(found.check)
    long = "; ".join(f"m{i} -> m{i + 1}" for i in range(LIMIT + 3))
    chain = f"dose -> m0; {long}; m{LIMIT + 3} -> outcome; dose <-> outcome"
    assert kk.identify(chain, "dose", "outcome").check.models == 3  # one mediator is enough


# -- refusals --------------------------------------------------------------------------------------------------------


def test_a_refusal_shows_the_hedge_and_what_would_help():
    refused = refusal(kk.NotIdentified, "dose -> outcome; dose <-> outcome; age -> dose", "dose", "outcome")
    assert refused.hedge == (("dose", "outcome"), ("outcome",))
    assert "dose <-> outcome" in str(refused)
    for remedy in refused.remedies:
        assert str(remedy) in str(refused)
    assert str(refused.bounds) in str(refused)
    models = refused.witness()
    assert models.observed() == models.observed(second=True)
    assert models.effect() != models.effect(second=True)
    assert "two models with the same P(dose, outcome, age)" in str(models)


def test_what_would_help_does_help_and_less_would_not():
    rng = np.random.default_rng(1)
    tried = {"measure": 0, "hidden cause": 0, "mediator": 0}
    for _ in range(150):
        graph = random_graph(rng, 6, arrow=0.45, both=0.2, latent=0.2)
        seen = graph.projected()
        x, y = (seen.order[0], seen.order[-1]) if len(seen.nodes) > 1 else (None, None)
        if x is None or y not in seen.descendants(x):
            continue
        try:
            kk.identify(graph, x, y)
        except kk.NotIdentified as refused:
            for remedy in refused.remedies:
                tried[remedy.kind] = tried.get(remedy.kind, 0) + 1
                if remedy.kind in {"measure", "hidden cause"}:
                    kk.identify(without(graph, remedy.variables, remedy.edges), x, y)
                    for left_out in (*remedy.variables, *remedy.edges):
                        fewer = without(
                            graph,
                            [v for v in remedy.variables if v != left_out],
                            [e for e in remedy.edges if e != left_out],
                        )
                        with pytest.raises(kk.NotIdentified):
                            kk.identify(fewer, x, y)
                if remedy.kind == "instrument":
                    assert kk.identify(graph, x, y, linear=True).kind == "instrument"
    assert min(tried.values()) > 5, tried


def without(graph, measured, edges):
    """The graph when some latent nodes and the causes behind some bidirected edges are measured."""
    both = tuple(e for e in graph.bidirected if e not in edges)
    return kk.Graph(graph.nodes, graph.directed, both, tuple(v for v in graph.latent if v not in measured))


def test_the_cause_behind_a_bidirected_edge_may_be_measured_or_the_edge_left_out():
    # both ways to say it are the same: this is why a measured cause counts as a missing edge
    graph = graph_of("x -> m -> y; x -> y; x <-> m; m <-> y; x <-> y")
    for edge in graph.bidirected:
        fewer = without(graph, (), [edge])
        named = kk.Graph(
            (*graph.nodes, "u"), (*graph.directed, *(("u", end) for end in edge)), fewer.bidirected
        )  # fmt: skip
        answers = [isinstance(derived(g, g.mask("x"), g.mask("y")), Derived) for g in (fewer, named)]
        assert answers[0] == answers[1]


def test_an_outcome_that_acts_on_the_treatment_is_refused_with_the_path():
    refused = refusal(kk.UsageError, "outcome -> mood -> dose", "dose", "outcome")
    assert refused.what == "'outcome' acts on 'dose', and cannot be an effect of it"
    assert refused.found == "outcome → mood → dose"
    # one that lies between two treatments is an effect of the first
    assert kk.identify("a -> y -> b", ["a", "b"], "y").formula == "P(y | a)"


def test_adjusting_for_what_the_treatment_acts_on_is_refused_with_the_path():
    refused = refusal(kk.UsageError, "dose -> fever -> outcome", "dose", "outcome", adjust="fever")
    assert refused.found == "dose → fever"
    assert "leave it out" in refused.fix
    behind = refusal(kk.UsageError, "dose -> outcome -> death", "dose", "outcome", adjust="death")
    assert behind.found == "dose → outcome → death"
    # a descendant that is not behind a causal path does no harm
    assert kk.identify("dose -> outcome; dose -> smell", "dose", "outcome", adjust="smell").adjustment == ("smell",)


def test_adjustment_that_leaves_a_path_open_is_refused_with_the_path():
    text = "dose <- age -> outcome; dose -> outcome; dose <- a -> m <- b -> outcome"
    refused = refusal(kk.UsageError, text, "dose", "outcome", adjust=["age", "m"])
    assert refused.found == "dose ← a → m ← b → outcome is open"
    assert refused.fix == "adjust for age"
    assert refusal(kk.UsageError, text, "dose", "outcome", adjust=()).found == "dose ← age → outcome is open"
    hidden = refusal(kk.UsageError, "dose -> outcome; dose <-> outcome", "dose", "outcome", adjust=())
    assert hidden.found == "dose ↔ outcome is open"
    assert "see what identify says" in hidden.fix


@pytest.mark.parametrize(
    ("graph", "treatment", "outcome", "what", "fix"),
    [
        ("age -> dose", "doze", "age", "'doze' is no variable of the graph", "did you mean 'dose'?"),
        ("age -> dose", "dose", "dose", "'dose' has two roles", "leave it out"),
        ("age -> dose", (), "dose", "no treatment, or no outcome", "name them"),
        ("age -> dose; age [latent]", "age", "dose", "'age' is latent", "observe('age')"),
    ],
)
def test_questions_that_make_no_sense_are_refused(graph, treatment, outcome, what, fix):
    refused = refusal(kk.UsageError, graph, treatment, outcome)
    assert refused.what == what
    assert fix in refused.fix


def test_checks_of_sets_refuse_their_own_variables():
    with pytest.raises(kk.UsageError, match="'dose' cannot be adjusted for"):
        check_adjustment("dose -> outcome", "dose", "outcome", "dose")
    with pytest.raises(kk.UsageError, match="'a' stands on two sides"):
        separated("a -> b", "a", "b", "a")
    with pytest.raises(kk.UsageError, match="nothing to separate"):
        open_path("a -> b", "a", ())


# -- graphs as text --------------------------------------------------------------------------------------------------

BAD = [
    ("a -> b -> c -> a", "the graph has a cycle", "a -> b -> c -> a"),
    ("b <- a; a <- b", "the graph has a cycle", "b -> a -> b"),
    ("a -- b", "an edge has no direction", "--"),
    ("a --> b", "'-->' is no arrow", "a --> b"),
    ("a => b", "'=>' is no arrow", "a => b"),
    ("a -> b, c", "',' is out of place in: a -> b, c", "a -> b, c"),
    ("a ->", "'the end' is out of place in: a ->", "a ->"),
    ("a -> ; b", "'the end' is out of place in: a ->", "a ->"),
    ("{a, b -> c", "'{' is not closed in: {a, b -> c", "{a, b -> c"),
    ("{} -> c", "braces hold no list of names: {} -> c", "{} -> c"),
    ('"a -> b', "'\"' is out of place", '"a -> b'),
    ("a -> a", "'a' has an edge to itself", "a -> a"),
    ("", "the graph is empty", "''"),
    ("missing.dot", "there is no file missing.dot", "in this folder"),
    ("digraph { a -> b", "the graph ends early", "a -> b"),
    ("digraph { a -> b } c", "something stands after the graph", "c"),
    ("digraph { a -> b [dir=none] }", "an edge has no direction", "a -> b"),
    ("graph { a -- b }", "an edge has no direction", "a -- b"),
    ("digraph { a -> ; b }", "';' is out of place", ";"),
    ("dag { a @-> b }", "an edge has no direction", "a @-> b"),
    ("pag { a -> b }", "a pag stands for several causal graphs", "pag"),
    ("graph [ node [ id 1 ] ]", "an edge has no direction", "directed 1"),
    ("graph [ directed 1 node [ id 1 ] edge [ source 1 target 2 ] ]", "an edge ends at no node", "1 -> 2"),
    ('graph [ directed 1 node [ id 1 label "a" ] node [ id 2 label "a" ] ]', "the node 'a' is there twice", ""),
    ("graph [ directed 1 node [ id 1 ]", "this is no whole graph in GML", "not closed"),
]


@pytest.mark.parametrize(("text", "what", "found"), BAD)
def test_graphs_that_cannot_be_read_are_refused_in_words(text, what, found):
    with pytest.raises(kk.GraphError) as caught:
        graph_of(text)
    assert caught.value.what == what
    assert found in caught.value.found
    assert caught.value.fix


def test_other_things_than_graphs_are_refused():
    with pytest.raises(kk.GraphError, match="int is no graph"):
        graph_of(3)
    with pytest.raises(kk.GraphError, match="no direction"):
        graph_of(nx.Graph([("a", "b")]))
    with pytest.raises(kk.GraphError, match="two nodes are called '1'"):
        graph_of(nx.DiGraph([(1, "1")]))
    with pytest.raises(kk.GraphError, match="an edge ends at 'c'"):
        kk.Graph(("a", "b"), (("a", "c"),))
    with pytest.raises(kk.GraphError, match="is there twice"):
        kk.Graph(("a", "a"))
    with pytest.raises(kk.GraphError, match="no name of a node"):
        kk.Graph(("a", " "))


def test_arrow_strings_read_lines_groups_remarks_and_odd_names():
    text = """
    # a study
    {age, sex} -> dose      # who gets what
    // and what comes of it
    dose -> "fever; cough" ->
        blood pressure
    age ↔ sex; U [unobserved]
    lone
    """
    graph = graph_of(text)
    assert graph.nodes == ("age", "sex", "dose", "fever; cough", "blood pressure", "U", "lone")
    assert graph.directed[-1] == ("fever; cough", "blood pressure")
    assert (graph.bidirected, graph.latent) == ((("age", "sex"),), ("U",))
    assert graph_of("x-ray -> a.b; a.b <- 2nd dose").nodes == ("x-ray", "a.b", "2nd dose")


def test_dot_and_dagitty_read_what_their_programs_write():
    dot = """/* made elsewhere */ strict digraph "a study" {
      rankdir=LR; node [shape=box]; edge [color=gray];
      U [label="Unobserved Confounders", observed="no"];
      subgraph cluster_1 { label=x; age -> dose:n [label="acts on", penwidth=2] }
      U -> {dose outcome}; dose -> outcome -> death; sex -> age [dir=back] // turned
    }"""
    graph = graph_of(dot)
    assert graph.latent == ("U",)
    assert set(graph.directed) == {
        ("age", "dose"), ("U", "dose"), ("U", "outcome"), ("dose", "outcome"), ("outcome", "death"), ("age", "sex"),
    }  # fmt: skip
    dagitty = """dag {
      bb="0,0,1,1"
      "blood type" [pos="0.1,0.2"]
      D [exposure,pos="-1.2,0.4"] O [outcome,pos="1.1,0.3"]
      U [latent,pos="0,0"]
      D -> O D <- U -> O "blood type" -> D <-> M
      O <- {A B}
    }"""
    graph = graph_of(dagitty)
    assert graph.latent == ("U",)
    assert graph.bidirected == (("D", "M"),)
    assert {("A", "O"), ("B", "O"), ("blood type", "D"), ("U", "D")} <= set(graph.directed)


def test_files_are_read_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    graph = graph_of("a -> b; b <-> c")
    for name, text in (
        ("g.txt", str(graph)), ("g.dot", "digraph { a -> b; b -> c [dir=both] }"), ("g.dag", "dag { a -> b b <-> c }"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text, "utf-8")
        assert graph_of(name) == graph_of(tmp_path / name) == graph
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(kk.GraphError, match="cannot be read"):
        graph_of("bytes.txt")


# -- pictures and size -----------------------------------------------------------------------------------------------


def test_pictures_show_every_node_and_follow_the_page():
    found = kk.identify("U -> age; age -> {dose, outcome}; dose -> outcome <-> diet; U [latent]", "dose", "outcome")
    svg = found.picture()
    for name in found.graph.nodes:
        assert f">{name}</text>" in svg
    assert svg.count("<rect") == len(found.graph.nodes)
    assert svg.count("marker-start") == len(found.graph.bidirected) == 1
    assert svg.count("stroke-dasharray") == 2  # a hidden cause and a latent node
    assert svg.count('stroke="var(--first)"') == svg.count('stroke="var(--second)"') == 1
    assert "#" not in svg.replace("url(#arrow", "")  # colours are the page's
    assert file_of(svg).startswith('<svg xmlns="http://www.w3.org/2000/svg" viewBox=')
    with pytest.raises(kk.UsageError, match="'doze' is no variable"):
        found.graph.picture("doze")
    assert "&lt;b&gt;" in graph_of('"<b>" -> c').picture()


def large(arrows, both):
    rng = np.random.default_rng(0)
    lines = [
        f"v{p} -> v{i}"
        for i in range(1, 1600)
        for p in rng.choice(np.arange(max(0, i - 200), i), min(i, int(rng.integers(1, arrows + 1))), replace=False)
    ]
    return "\n".join(lines + [f"v{a} <-> v{b}" for a, b in rng.integers(0, 1600, (both, 2)) if a != b])


@pytest.mark.parametrize(("arrows", "both"), [(4, 0), (4, 100)])
def test_graphs_of_1600_nodes_answer_within_a_second(arrows, both):
    text = large(arrows, both)
    start = time.process_time()
    graph = graph_of(text)
    assert len(graph.nodes) == 1600
    given = [f"v{i}" for i in range(0, 1600, 3) if i not in {800, 1599}]
    assert separated(graph, "v800", "v1599", given) is (open_path(graph, "v800", "v1599", given) is None)
    best = optimal_adjustment_set(graph, "v800", "v1599")
    assert best is not None
    assert len(adjustment_sets(graph, "v800", "v1599", limit=5)) == 5
    assert time.process_time() - start < 1.0


def test_the_function_is_the_one_of_the_module():
    assert kk.identify is module
