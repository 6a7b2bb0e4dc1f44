"""What bad structures, tables, files and evidence get: four lines that name the place and the mend."""

import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

import kokkiri as kk
from kokkiri.errors import (
    DataError,
    FormatError,
    GraphError,
    KokkiriError,
    OutputError,
    ShapeError,
    Unsupported,
    UsageError,
)
from kokkiri.exact.networks.random_networks import random_network

TWO = ("yes", "no")


def refused(function, kind, *parts):
    """The error, which has four lines that hold these parts."""
    with pytest.raises(KokkiriError) as error:
        function()
    text = str(error.value)
    assert type(error.value) is kind, text
    assert len(text.splitlines()) == 4, text
    assert re.search(r"\n  needs   \S.*\n  found   \S.*\n  fix     \S", text), text
    for part in parts:
        assert part in text, text
    return text


# -- structures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrows", "parts"),
    [
        ("a -> b -> c -> a; z -> a", ["the graph has a cycle", "a -> b -> c -> a"]),
        ("a -> a", ["a -> a"]),
        ("a -> b -> ", ["the arrows end in the middle", "found   a -> b ->"]),
        ("a -> b\nb c {d}", ["'{' is out of place", "line 2", "b c {d}"]),
        ("a <-> b", ["'<->'", "a <- hidden -> b"]),
        ("{a, b -> c", ["out of place"]),
        ("a } b", ["'}' is out of place"]),
        ("-> a", ["'->' is out of place"]),
    ],
)
def test_arrows_that_are_no_graph(arrows, parts):
    refused(lambda: kk.exact.bayesian_network(arrows, {}), GraphError, *parts)


def test_an_arrow_string_may_have_remarks_lines_and_quotation_marks():
    text = """# who acts on whom
    "a -> b" -> {c, d};  # two of them
    c <- e"""
    states = dict.fromkeys(["a -> b", "c", "d", "e"], TWO)
    found = kk.exact.structure(text, states)
    assert found.arrows == (("a -> b", "c"), ("e", "c"), ("a -> b", "d"))
    assert kk.exact.structure({"c": ["a -> b", "e"], "d": ["a -> b"]}, states).arrows == found.arrows


def test_structures_of_variables():
    v = kk.exact.Variable
    make = lambda *variables: lambda: kk.exact.Structure(variables)
    refused(make(v("a", TWO), v("a", TWO)), GraphError, "'a' is there twice")
    refused(make(v("a", TWO), v("bee", TWO, ("c",)), v("cat", TWO)), GraphError, "depends on 'c'", "cat")
    refused(make(v("a", TWO), v("b", TWO, ("a", "a"))), GraphError, "names a parent twice")
    refused(make(v("a", ("x", "x"))), GraphError, "cannot be told apart", "'x'")
    refused(make(v("a", ())), GraphError, "no states")
    refused(make(v("  ", TWO)), GraphError, "no name of a variable")
    refused(make(), GraphError, "no variables")
    refused(make(v("a", TWO, ("b",)), v("b", TWO, ("a",))), GraphError, "a -> b -> a")
    refused(lambda: kk.exact.structure("a -> b", {"a": TWO}), UsageError, "states of 'b' are not known")
    refused(lambda: kk.exact.structure("a -> b", {"a": TWO, "b": TWO, "aa": TWO}), UsageError, "did you mean 'a'?")
    refused(lambda: kk.exact.structure({"a": "b"}, {"a": TWO, "b": TWO}), UsageError, '["b"]')


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "kind", "parts"),
    [
        (
            {"yes": {"yes": 0.9, "no": 0.2}, "no": {"yes": 0.5, "no": 0.5}},
            UsageError,
            ["'b' given a=yes add up to 1.1"],
        ),
        ({"yes": {"yes": 1.2, "no": -0.2}, "no": [0.5, 0.5]}, UsageError, ["b=yes given a=yes cannot be 1.2"]),
        ({"yes": {"yes": math.nan, "no": 0.5}, "no": [0.5, 0.5]}, UsageError, ["cannot be nan"]),
        ({"yes": [0.0, 0.0], "no": [0.5, 0.5]}, UsageError, ["add up to 0"]),
        ([[0.5, 0.5]], ShapeError, ["wrong shape", "2 a x 2 b", "1 x 2"]),
        ([0.5, 0.5], ShapeError, ["2 a x 2 b"]),
        (torch.zeros(2, 3), ShapeError, ["2 x 3"]),
        ([[0.5, 0.5], [1.0]], UsageError, ["not made of numbers"]),
        ("half", UsageError, ["not made of numbers", "half"]),
        ({"yes": [0.5, 0.5]}, UsageError, ["no row for a=no"]),
        ({"yes": [0.5, 0.5], "no": [0.2, 0.3, 0.5]}, ShapeError, ["differ in length"]),
        ({"yes": {"yes": 1.0}, "no": {"yes": 0.5, "no": 0.5}}, UsageError, ["leaves out 'no'"]),
        ({"yes": {"yes": 1.0, "nein": 0.0}, "no": [0.5, 0.5]}, UsageError, ["no state 'nein'"]),
    ],
)
def test_tables_that_are_none(table, kind, parts):
    states = {"a": TWO, "b": TWO}
    refused(lambda: kk.exact.bayesian_network("a -> b", {"a": [0.5, 0.5], "b": table}, states), kind, *parts)


def test_tables_for_nobody_and_nobodys_tables():
    refused(lambda: kk.exact.bayesian_network("a -> b", {"a": [1.0], "bb": [1.0]}), UsageError, "did you mean 'b'?")
    refused(lambda: kk.exact.bayesian_network("a -> b", {"a": [0.5, 0.5]}, {"b": TWO}), UsageError, "p(b given a)")


def test_sixths_that_are_rounded_are_sixths():
    net = kk.exact.bayesian_network("die", {"die": [0.1666667] * 6})
    assert net.tables["die"].sum().item() == pytest.approx(1.0, abs=1e-15)
    refused(lambda: kk.exact.bayesian_network("die", {"die": [0.1667] * 6}), UsageError, "1.0002")


# -- files -------------------------------------------------------------------------------------------------------------

GOOD = """network test {
}
variable a {
  type discrete [ 2 ] { yes, no };
}
variable b {
  type discrete [ 2 ] { yes, no };
}
probability ( a ) {
  table 0.1, 0.9;
}
probability ( b | a ) {
  (yes) 0.2, 0.8;
  (no) 0.4, 0.6;
}
"""


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("table 0.1, 0.9;", "table 0.1, 0.8;", ["line 10", "'a' adds up to 0.9"]),
        ("table 0.1, 0.9;", "table 1.1, -0.1;", ["line 10", "cannot be 1.1"]),
        ("table 0.1, 0.9;", "table 0.1, nan;", ["line 10", "cannot be nan"]),
        ("table 0.1, 0.9;", "table 0.1, x;", ["line 10", "'x' is no number"]),
        ("table 0.1, 0.9;", "table 0.1, 0.2, 0.7;", ["line 10", "3 numbers for 'a', not 2"]),
        ("table 0.1, 0.9;", "table 0.1, 0.9", ["line 11", "'}' is out of place"]),
        ("table 0.1, 0.9;", "", ["line 9", "'a' has no numbers"]),
        ("table 0.1, 0.9;", "tabel 0.1, 0.9;", ["line 10", "'tabel' is out of place"]),
        ("(no) 0.4, 0.6;", "", ["line 12", "no numbers for (no)"]),
        ("(no) 0.4", "(yes) 0.4", ["line 14", "two rows for one setting", "line 13"]),
        ("(no) 0.4", "(non) 0.4", ["line 14", "no state 'non'", "did you mean 'no'?"]),
        ("(no) 0.4", "(no, no) 0.4", ["line 14", "no setting of the parents"]),
        ("b | a", "b | aa", ["line 12", "no variable 'aa'", "did you mean 'a'?"]),
        ("( a )", "( a | b )", ["cycle", "a -> b -> a"]),
        ("probability ( b | a )", "probability ( a | b )", ["line 12", "'a' has two tables", "line 9"]),
        ("variable b", "variable a", ["line 6", "'a' is there twice"]),
        ("[ 2 ] { yes, no };\n}\nvariable b", "[ 3 ] { yes, no };\n}\nvariable b", ["line 4", "should have 3 states"]),
        ("[ 2 ] { yes, no };\n}\nvariable b", "[ 2 ] { yes, yes };\n}\nvariable b", ["'a' cannot be told apart"]),
        ("type discrete [ 2 ] { yes, no };\n}\nvariable b", "type real;\n}\nvariable b", ["line 4", "is real"]),
        ("variable a", "varible a", ["line 3", "'varible' begins nothing", "did you mean 'variable'?"]),
        ("network test {", "network {", []),
        ("network test {\n}\n", "", []),
        ("network test {", 'network "a test" {', []),
        ("(no) 0.4", '("no) 0.4', ["line 14", "never closed"]),
        ("network test {", "/* network test {", ["line 1", "never closed"]),
        ("probability ( b | a ) {\n  (yes) 0.2, 0.8;\n  (no) 0.4, 0.6;\n}\n", "", ["line 6", "'b' has no table"]),
        ("  (no) 0.4, 0.6;\n}\n", "  (no) 0.4, 0.6;\n", ["line 15", "the file ends in the middle"]),
    ],
)  # fmt: skip
def test_files_that_are_not_quite_bif(old, new, parts):
    assert old in GOOD
    text = GOOD.replace(old, new, 1)
    if not parts:
        kk.exact.from_bif(text, "test.bif")
        return
    kind = GraphError if any("cycle" in p or "told apart" in p for p in parts) else FormatError
    said = refused(lambda: kk.exact.from_bif(text, "test.bif"), kind, *parts)
    assert said.startswith("test.bif")


def test_what_is_no_bif_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.bif").write_text("")
    (tmp_path / "picture.bif").write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    refused(lambda: kk.exact.read_network("empty.bif"), FormatError, "no variables")
    refused(lambda: kk.exact.read_network("picture.bif"), FormatError, "not text in UTF-8", "0x89")
    refused(lambda: kk.exact.read_network("emty.bif"), DataError, "did you mean 'empty.bif'?")
    refused(lambda: kk.exact.read_network("."), DataError, "a folder")
    net = kk.exact.read_network("asia")
    refused(lambda: kk.exact.write_network(net, tmp_path / "no" / "where.bif"), OutputError, "where.bif")
    odd = kk.exact.bayesian_network("a", {"a": {'"': 0.5, "b": 0.5}})
    refused(lambda: kk.exact.to_bif(odd), Unsupported, "'\"'")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.bif", "picture.bif"]


def test_files_of_older_and_other_writers():
    text = """// made elsewhere
    network "Old style" { property "credal no"; property version 1.0 ; }
    variable  "light on" { //2 values
        type discrete[2] {  "true"  "false" };
        property "position = (218, 195)" ;
    }
    variable "out" { type discrete[2] { "true" "false" }; }
    variable x { type discrete [ 3 ] { <5, 5-10, >10 }; }
    probability (  "light on"  "out" ) { table 0.6 0.05 0.4 0.95 ; }
    probability ( "out" ) { table 0.15 0.85 ; } /* a remark
    of two lines */
    probability ( x | out, "light on" ) { default 1 0 0; (true, false) .2, .3, 5e-1; }
    """
    net = kk.exact.from_bif(text)
    assert net.name == "Old style"
    assert net.tables["light on"].tolist() == [
        [0.6, 0.4],
        [0.05, 0.95],
    ]  # the first state for all settings, then the next
    assert net.tables["x"].tolist() == [[[1, 0, 0], [0.2, 0.3, 0.5]], [[1, 0, 0], [1, 0, 0]]]
    assert net.structure.variables[2].states == ("<5", "5-10", ">10")


def test_rounded_rows_of_a_file_are_mended_and_said():
    text = GOOD.replace("table 0.1, 0.9", "table 0.3333, 0.6663")
    net = kk.exact.from_bif(text, "test.bif")
    assert float(net.tables["a"].sum()) == pytest.approx(1.0, abs=1e-15)
    assert "'a'" in net.notes[0]
    assert kk.exact.from_bif(GOOD).notes == ()


# -- evidence ----------------------------------------------------------------------------------------------------------


def test_evidence_that_cannot_be():
    asia = kk.exact.read_network("asia")
    said = refused(lambda: asia.given(smoke="yes", either="no", xray="yes", lung="yes"), UsageError, "probability zero")
    assert said.splitlines()[0] == "lung=yes has probability zero given either=no"  # and of smoke and xray no word
    net = kk.exact.bayesian_network("a -> b", {"a": [1.0, 0.0], "b": [[0.5, 0.5], [0.1, 0.9]]})
    assert refused(lambda: net.given(a="1"), UsageError).startswith("a=1 has probability zero\n")
    refused(lambda: net.given(soft={"a": [0.0, 1.0]}), UsageError, "what was seen of a has probability zero")
    refused(lambda: asia.given({"tub": ["no", "yes"], "either": ["no", "no"]}), DataError, "row 2: either=no")
    refused(lambda: asia.given(lung="yes").given(either="no"), UsageError, "either=no has probability zero given lung")
    rows = {"lung": ["yes", None], "either": ["no", "no"]}
    refused(lambda: kk.exact.most_probable_tables(kk.exact.counts_from(asia, 9.0), rows), UsageError, "cannot be 0")


def test_evidence_that_names_nothing():
    asia = kk.exact.read_network("asia")
    refused(lambda: asia.given(smok="yes"), UsageError, "did you mean 'smoke'?")
    refused(lambda: asia.given(smoke="yess"), UsageError, "'smoke' has no state 'yess'", "did you mean 'yes'?")
    refused(lambda: asia.given(smoke=3), UsageError, "no state '3'")
    refused(lambda: asia.given(of="lugn"), UsageError, "did you mean 'lung'?")
    refused(lambda: asia.given(smoke="yes", of="lung")["bronc"], UsageError, "'bronc' was not asked for")
    refused(lambda: asia.given(smoke="yes").joint("smoke", "lung"), UsageError, "'smoke' is known")
    refused(lambda: asia.given().joint(), UsageError, "of what?")
    refused(lambda: asia.given(smoke="yes").given(smoke="no"), UsageError, "smoke=no after smoke=yes")
    refused(lambda: asia.given({"smoke": ["yes"], "age": ["old"]}), DataError, "'age' is no variable")
    refused(lambda: asia.given({"smoke": ["yes", "maybe"]}), DataError, "row 2", "'maybe'")
    refused(lambda: asia.given({"smoke": ["yes", "no"], "lung": torch.tensor([0])}), ShapeError, "lung 1, smoke 2")
    refused(lambda: asia.given({"smoke": torch.tensor([0, 2])}), UsageError, "states 0 to 1", "0 to 2")
    refused(lambda: asia.given(pd.DataFrame({"age": [1]})), DataError, "no column is a variable")
    refused(lambda: asia.given(smoke="yes", soft={"smoke": [1, 1]}), UsageError, "soft evidence is given for it, too")
    refused(lambda: asia.given(soft={"xray": [1, 1, 1]}), ShapeError, "(2,) or (rows, 2)")
    refused(lambda: asia.given(soft={"xray": [-1, 1]}), UsageError, "no likelihood")
    refused(lambda: asia.given(soft={"xray": {"yes": 1}}), UsageError, "no likelihood")
    refused(lambda: asia.given({"smoke": ["yes"]}, soft={"xray": [[1, 1]] * 2}), ShapeError, "2 rows", "1 rows")
    refused(lambda: asia.given({"smoke": ["yes"]}).given(lung="no"), UsageError, "only one case")
    refused(lambda: asia.given({"smoke": ["yes", "no"]}).picture(), Unsupported, "no picture")


def test_truth_values_and_numbers_are_names_too():
    asia = kk.exact.read_network("asia")
    yes = asia.given(smoke="yes", of="lung")["lung"]
    assert torch.equal(asia.given(smoke=True, of="lung")["lung"], yes)
    assert torch.equal(asia.given(pd.DataFrame({"smoke": [True, False]}), of="lung")["lung"][0], yes)
    assert torch.equal(asia.given({"smoke": np.array([0, 1])}, of="lung")["lung"][0], yes)  # numbers of states
    dice = kk.exact.bayesian_network("die", {"die": {"1": 0.5, "2": 0.5}})
    assert dice.given(die=2)["die"].tolist() == [0.0, 1.0]
    assert dice.given(pd.DataFrame({"die": [2.0, math.nan]})).log_evidence.tolist() == pytest.approx([math.log(0.5), 0])


def test_a_network_that_is_too_wide_is_refused_before_it_is_tried():
    """Everything depends on everything: the tables themselves are small, the one on the way is not."""
    wide = random_network(60, 3, arrows=20.0, parents=6, states=4)
    refused(lambda: wide.given(of="x59"), Unsupported, "GB", "at most 4.3 GB")
    evidence = {f"x{i}": "s0" for i in range(52)}
    assert wide.given(evidence, of="x59")["x59"].sum().item() == pytest.approx(1.0)


# -- learning ----------------------------------------------------------------------------------------------------------


def test_learning_from_what_cannot_teach():
    pair = kk.exact.structure("a -> b", {"a": TWO, "b": TWO})
    prior = kk.exact.equal_counts(pair)
    refused(
        lambda: prior.update({"a": ["yes", "no"], "b": ["yes", None]}), DataError, "row 2 has no 'b'", "sample_tables"
    )
    refused(lambda: prior.update({"a": ["yes"]}), DataError, "no column 'b'", 'hidden=["b"]')
    refused(lambda: prior.update({"a": ["yes"], "bb": ["yes"]}), DataError, "did you mean 'bb'?")
    refused(lambda: prior.update({"a": ["yes"], "b": ["maybe"]}), DataError, "row 1", "'maybe'")
    refused(lambda: kk.exact.equal_counts(pair, 0.0), UsageError, "cannot be 0")
    refused(lambda: kk.exact.bdeu(pair, -1.0), UsageError, "cannot be -1")
    refused(lambda: kk.exact.DirichletTables(pair, {"a": [1, 1]}), UsageError, "'b' has no counts")
    refused(lambda: kk.exact.DirichletTables(pair, {"a": [1, 1], "b": [1, 1]}), ShapeError, "(2, 2)")
    refused(lambda: kk.exact.DirichletTables(pair, {"a": [1, -1], "b": [[1, 1]] * 2}), UsageError, "cannot be -1")
    rows = {"a": ["yes", None], "b": ["no", "no"]}
    low = kk.exact.equal_counts(pair, 0.5)
    refused(lambda: kk.exact.most_probable_tables(low, rows, simplex=True), UsageError, "no mode in probabilities")
    refused(lambda: kk.exact.most_probable_tables(prior, {"a": ["yes"]}, hidden=["c"]), UsageError, "no variable 'c'")
    refused(lambda: prior["c"], UsageError, "no variable 'c'")
    refused(lambda: kk.exact.most_probable_tables(prior, rows, starts=0), UsageError, "starts cannot be 0")
    refused(lambda: kk.exact.sample_tables(prior, rows, draws=0), UsageError, "draws cannot be 0")
    refused(lambda: kk.exact.sample_tables(prior, rows, warm_up=-1), UsageError, "warm_up cannot be -1")
    assert repr(kk.exact.sample_tables(prior, rows, draws=2, chains=1)) == "TableDraws(1 chain of 2 draws)"
