"""kokkiri query: a Bayesian network asked on the command line."""

import contextlib
import csv
import io
import math
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import kokkiri as kk
from kokkiri.cli.main import main
from kokkiri.drawing import file_of


def kokkiri(*arguments):
    """(exit code, standard output, standard error) of a command, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as left:  # the parser's way
            code = left.code
    return code, out.getvalue(), err.getvalue()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kk.exact.write_network(kk.exact.read_network("asia"), "asia.bif")
    (tmp_path / "rows.csv").write_text("id,smoke,xray\n7,yes,no\n8,,yes\n9,no,\n")
    return tmp_path


def test_one_case_is_a_table_of_what_was_believed_before_and_after(here):
    code, out, err = kokkiri("query", "asia.bif", "--given", "smoke=yes,xray=no", "--of", "lung")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "asia given smoke=yes, xray=no: log p(evidence) = -0.86 nats, p = 0.4241"
    assert [line.split()[:4] for line in out.splitlines()[3:]] == [
        ["lung", "yes", "0.0550", "0.00236"], ["no", "0.9450", "0.99764", "█" * 20],
    ]  # fmt: skip
    twice = kokkiri("query", "asia.bif", "--given", "smoke=yes", "--given", "xray=no", "--of", "lung")
    assert twice == (code, out, err)


def test_everything_fits_in_eighty_columns_and_nothing_known_is_asked_about(here):
    for name in ("asia.bif", "alarm"):
        _, out, _ = kokkiri("query", name)
        assert max(map(len, out.splitlines())) <= 80
        assert "nothing is known yet" in out
    _, out, _ = kokkiri("query", "alarm", "--given", "HRBP=HIGH,BP=LOW", "--explain")
    assert max(map(len, out.splitlines())) <= 80
    before, after = out.split("the most probable states")
    assert "\nHRBP" not in before
    assert "HRBP" in after
    assert "known" in after


def test_rows_are_answered_one_a_line(here):
    code, out, err = kokkiri("query", "asia.bif", "rows.csv", "--of", "lung,smoke", "--out", "found.csv")
    assert (code, out) == (0, "")
    assert err == "! columns that are no variables are left aside: id\n3 rows written to found.csv\n"
    with (here / "found.csv").open() as file:
        rows = list(csv.DictReader(file))
    asia = kk.exact.read_network("asia")
    for row, known in zip(rows, ({"smoke": "yes", "xray": "no"}, {"xray": "yes"}, {"smoke": "no"}), strict=True):
        found = asia.given(known)
        assert float(row["p(lung=yes)"]) == pytest.approx(float(found["lung"][0]), rel=1e-5)
        assert float(row["log p(evidence)"]) == pytest.approx(float(found.log_evidence), abs=1e-6)
        assert row["lung"] == ("yes" if found["lung"][0] > 0.5 else "no")
    assert [row["smoke"] for row in rows] == ["yes", "yes", "no"]
    assert [row["row"] for row in rows] == ["1", "2", "3"]


def test_rows_without_a_place_to_go_are_printed_and_share_what_is_given(here):
    _, out, _ = kokkiri("query", "asia.bif", "rows.csv", "--given", "dysp=yes", "--of", "bronc")
    rows = list(csv.DictReader(io.StringIO(out)))
    found = kk.exact.read_network("asia").given(smoke="no", dysp="yes")
    assert float(rows[2]["p(bronc=yes)"]) == pytest.approx(float(found["bronc"][0]), rel=1e-5)


def test_rows_are_explained(here):
    _, out, _ = kokkiri("query", "asia.bif", "rows.csv", "--explain")
    rows = list(csv.DictReader(io.StringIO(out)))
    best = kk.exact.read_network("asia").given(xray="yes").most_probable()
    assert {n: rows[1][n] for n in ("asia", "tub", "lung", "bronc", "either", "dysp")} == {
        n: best.states[n] for n in ("asia", "tub", "lung", "bronc", "either", "dysp")
    }
    assert float(rows[1]["log p(explanation)"]) == pytest.approx(float(best.log_prob), abs=1e-6)
    assert "smoke" not in rows[1]


def test_the_picture_is_a_file_that_stands_alone(here):
    code, out, err = kokkiri("query", "asia.bif", "--given", "xray=yes", "--picture", "asia.svg", "--of", "lung")
    assert (code, err) == (0, "asia.svg\n")
    assert "bronc" not in out
    root = ET.fromstring((here / "asia.svg").read_text("utf-8"))
    texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"asia", "bronc", "either"} <= set(texts)  # all of them, whatever was asked about
    assert "100.0 %" in texts
    p = kk.exact.read_network("asia").given(xray="yes")["lung"][0]
    assert f"{100 * float(p):.1f} %" in texts


def test_names_with_signs_are_drawn_and_told_as_they_are(here):
    odd = kk.exact.bayesian_network(
        '"<a & b>" -> "c,d"', {"<a & b>": {"1 < 2": 1e-9, "x=y": 1 - 1e-9}, "c,d": [[0.2, 0.8], [0.5, 0.5]]}
    )
    root = ET.fromstring(file_of(odd.picture()))
    texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"<a & b>", "c,d", "1 < 2", "< 0.1 %", "> 99.9 %"} <= set(texts)
    kk.exact.write_network(odd, "odd.bif")
    code, out, _ = kokkiri("query", "odd.bif", "--given", "<a & b>=x=y")
    assert code == 0
    assert out.startswith("network given <a & b>=x=y")


def test_a_state_may_hold_a_comma(here):
    net = kk.exact.bayesian_network("range -> seen", {"range": {"1,5": 0.25, "5,9": 0.75}, "seen": [[0.9, 0.1]] * 2})
    kk.exact.write_network(net, "range.bif")
    code, out, _ = kokkiri("query", "range.bif", "--given", "range=1,5,seen=0")
    assert code == 0
    assert f"log p(evidence) = {math.log(0.25 * 0.9):.2f} nats" in out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("asia.bif", "--given", "smok=yes"), ["did you mean 'smoke'?"]),
        (("asia.bif", "--given", "smoke"), ["cannot read --given smoke", "NAME=STATE"]),
        (("asia.bif", "--given", "smoke=yes,smoke=no"), ["two things of 'smoke'"]),
        (("asia.bif", "--given", "either=no,lung=yes"), ["lung=yes has probability zero given either=no"]),
        (("asia.bif", "--of", "lugn"), ["did you mean 'lung'?"]),
        (("asai",), ["there is no network 'asai'", "asia.bif"]),
        (("rows.csv",), ["rows.csv, line 1: 'id' begins nothing"]),
        (("asia.bif", "row.csv"), ["there is no file row.csv", "did you mean 'rows.csv'?"]),
        (("asia.bif", "rows.csv", "--given", "smoke=yes"), ["'smoke' is a column"]),
        (("asia.bif", "rows.csv", "--of", "lugn"), ["did you mean 'lung'?"]),
        (("asia.bif", "rows.csv", "--picture", "a.svg"), ["rows of evidence are no picture"]),
        (("asia.bif", "--out", "a.csv"), ["--out a.csv is for rows"]),
        (("asia.bif", "--picture", "a.png"), ["names no picture", ".svg"]),
    ],
)
def test_bad_input_gets_four_lines_and_writes_nothing(arguments, parts, here):
    before = sorted(p.name for p in here.iterdir())
    code, out, err = kokkiri("query", *arguments)
    assert (code, out) == (2, "")
    text = [line for line in err.splitlines() if not line.startswith("!")]
    assert len(text) == 4, err
    assert all(part in err for part in parts), err
    assert sorted(p.name for p in here.iterdir()) == before


def test_the_picture_of_the_page_is_what_the_command_draws(here):
    page = Path(__file__).parents[2] / "docs"
    assert kokkiri("query", "asia", "--given", "xray=yes,dysp=yes", "--picture", "now.svg")[0] == 0
    assert (here / "now.svg").read_text("utf-8") == (page / "pictures/asia.svg").read_text("utf-8")


def test_long_arrows_pass_beside_the_boxes_of_the_rows_between():
    from kokkiri.exact.networks.picture import _size
    from kokkiri.numerics.layout import place

    what = kk.exact.read_network("alarm").structure
    sizes = [_size(v.name, v.states) for v in what.variables]
    found = place(sizes, [(what.index[a], what.index[b]) for a, b in what.arrows], upright=True)
    bends = [point for chain in found.chains for point in chain[1:-1]]
    assert len(bends) > 40
    for x, y in bends:
        for (cx, cy), (w, h) in zip(found.centres, sizes, strict=True):
            assert abs(x - cx) > w / 2 or abs(y - cy) > h / 2 + 1
