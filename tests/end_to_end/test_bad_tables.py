"""What bad tables get: four lines that name the file, the column or the row, and the mend."""

from __future__ import annotations

import gzip
import sqlite3

import numpy as np
import polars as pl
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from kokkiri.data.read import read
from kokkiri.data.tables import conform, new_rows
from kokkiri.errors import DataError, FormatError, KokkiriError, UsageError

GOOD = "age,city,y\n" + "".join(f"{20 + i % 13},{('Oslo', 'Bergen')[i % 2]},{i * 0.7:.1f}\n" for i in range(20))
LINES = GOOD.splitlines(keepends=True)


@pytest.fixture
def write(tmp_path):
    def write(content, name="trial.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refused(*args, kind=DataError, **options):
    """The message of the error, which has all four lines."""
    with pytest.raises(kind) as caught:
        read(*args, **options)
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["needs", "found", "fix"], lines
    return str(caught.value)


def says(message, *parts):
    for part in parts:
        assert part in message, message


def replaced(row, line):
    """The good file with its data row `row` replaced."""
    return "".join([*LINES[:row], line + "\n", *LINES[row + 1 :]])


def test_a_missing_file_suggests_the_nearest(write, tmp_path):
    write(GOOD)
    says(refused(tmp_path / "trail.csv", "y"), "no file", "trail.csv", "did you mean 'trial.csv'?")


def test_a_missing_folder_is_named(tmp_path):
    says(refused(tmp_path / "nowhere" / "a.csv", "y"), "no folder", "nowhere")


def test_a_name_that_is_neither_file_nor_data_set_suggests_both(monkeypatch, write, tmp_path):
    monkeypatch.chdir(tmp_path)
    write(GOOD, "minst.csv")
    says(refused("mnits"), "no data set and no file 'mnits'", "did you mean 'mnist'?")
    says(refused("minst"), "minst.csv")


def test_a_folder_that_holds_no_images_is_refused(write, tmp_path):
    write(GOOD)
    says(refused(tmp_path), str(tmp_path))


@pytest.mark.parametrize("name", ["trial.csv", "trial.parquet", "trial.db", "trial.json"])
def test_an_empty_file_is_named(write, name):
    says(refused(write("", name), "y", kind=FormatError), f"{name} is empty", "0 bytes")


def test_a_file_of_blank_lines_is_named(write):
    says(refused(write("\n\n\n"), "y", kind=FormatError), "trial.csv has no rows")


def test_a_header_alone_has_no_rows(write):
    says(refused(write(LINES[0]), "y"), "trial.csv has column names and no rows", "age, city, y")


def test_a_damaged_gzip_file_is_named(write):
    packed = gzip.compress(GOOD.encode() * 500)
    for damaged in (packed[: len(packed) // 2], packed[:100] + b"\xff\xff\xff" + packed[103:]):
        says(
            refused(write(damaged, "trial.csv.gz"), "y", kind=FormatError),
            "trial.csv.gz is a damaged gzip file",
            "again",
        )


def test_a_file_that_only_calls_itself_gzip_is_named(write):
    says(refused(write(GOOD, "trial.csv.gz"), "y", kind=FormatError), "trial.csv.gz is not gzip", "61 67 65")


def test_a_file_of_another_format_than_its_name_is_named(write, tmp_path):
    pl.read_csv(write(GOOD)).write_parquet(tmp_path / "p.parquet")
    parquet = (tmp_path / "p.parquet").read_bytes()
    says(
        refused(write(parquet), "y", kind=FormatError), "trial.csv is not a CSV file", "like a Parquet", "trial.parquet"
    )
    says(refused(write(GOOD, "a.parquet"), "y", kind=FormatError), "a.parquet is not a Parquet file", "b'age,city'")
    says(refused(write(parquet[:-200], "b.parquet"), "y", kind=FormatError), "b.parquet cannot be read as Parquet")
    says(refused(write(b"PK\x03\x04..", "a.xlsx"), "y", kind=FormatError), "a.xlsx", "zip or Excel", "CSV")
    says(refused(write(b"\0\1\2\3", "a.bin"), "y", kind=FormatError), "a.bin is no table")


def test_broken_json_is_named_with_its_line(write):
    broken = '{"a": 1, "y": 2}\n{"a": 1, "y": \n'
    says(refused(write(broken, "a.jsonl"), "y", kind=FormatError), "a.jsonl cannot be read as JSON", "line")


def test_repeated_column_names_are_named(write):
    says(refused(write(GOOD.replace("city", "age", 1)), "y"), "trial.csv", "more than once: age", "rename them")
    says(refused("SELECT 1 AS a, 2 AS a", "a"), "more than once: a")


def test_bytes_that_are_no_utf8_are_named_with_line_and_mend(write):
    bad = replaced(7, "31,Tromsø,2.0").encode("latin-1")
    path = write(bad)
    says(refused(path, "y"), "trial.csv: line 8 is not utf-8", "byte 0xf8", "--encoding latin-1")
    assert len(read(path, "y", encoding="latin-1")) == 20
    says(refused(write(GOOD.encode("utf-16")), "y"), "--encoding utf-16")
    says(refused(path, "y", encoding="latin-l", kind=UsageError), "'latin-l' is no encoding")


def test_a_bad_byte_at_the_very_end_is_found(write):
    where = f"{len(GOOD) + 6:,} bytes into the file"
    says(refused(write(GOOD.encode() + b"31,x,1\xc3"), "y"), "line 22 is not utf-8", "byte 0xc3", where)


@pytest.mark.parametrize(("line", "count"), [("31,Oslo", "2 cells"), ("31,Oslo,2.0,extra", "4 cells")])
def test_a_ragged_row_is_named_by_its_line(write, line, count):
    says(
        refused(write(replaced(5, line)), "y"), f"trial.csv: line 6 has {count}, the first has 3", line, "double quotes"
    )


def test_a_ragged_row_far_down_is_named_by_its_line(write):
    text = "a,y\n" + "1,2.5\n" * 30_000 + "1\n" + "1,2.5\n"
    says(refused(write(text), "y"), "line 30,002 has 1 cell, the first has 2")
    says(refused(write(text.replace("1\n1,2.5", "x,2.5\n1\n1")), "y"), "line 30,003 has 1 cell, the first has 2")


def test_a_quote_that_is_never_closed_is_named_by_its_line(write):
    says(refused(write(replaced(3, '31,"Oslo,2.0')), "y", kind=FormatError), "line 4 cannot be read", "quotes")


def test_a_target_that_is_not_there_suggests_the_nearest(write):
    says(refused(write(GOOD), "Y1"), "trial.csv has no column 'Y1'", "did you mean 'y'?", "age, city, y")


def test_no_target_lists_the_columns(write):
    says(refused(write(GOOD)), "which column is to be predicted?", "age, city, y", "--target y")


def test_a_missing_target_is_counted_and_its_first_row_named(write):
    path = write(replaced(7, "31,Oslo,"))
    says(refused(path, "y"), "the target 'y' is missing in 1 row", "none in row 7", "--drop-missing-target")
    data = read(path, "y", drop_missing_target=True)
    assert len(data) == 19
    assert 6 not in data.row_index.tolist()
    assert "1 row without a value of 'y' left out" in data.notes
    says(refused({"x": [0.5] * 20, "y": [1.5, np.nan] * 10}, "y"), "missing in 10 rows", "row 2 and others")


def test_rows_are_named_as_in_the_file_after_others_were_left_out(write):
    text = replaced(3, "31,Oslo,")
    text = text.replace(text.splitlines()[9], "soon,Oslo,1.0")
    options = {"kinds": {"age": "number"}, "drop_missing_target": True}
    says(refused(write(text), "y", **options), "column 'age' is a number", "row 9: 'soon'")


def test_a_target_without_any_value_is_refused():
    says(refused({"x": np.arange(20) ** 0.5, "y": [None] * 20}, "y"), "the target 'y' has no values")


def test_infinity_in_the_target_is_named_by_its_row():
    y = np.arange(20) * 0.7
    y[11] = -np.inf
    says(refused({"x": np.arange(20) ** 0.5, "y": y}, "y"), "the target 'y' is infinite in row 12")


@pytest.mark.parametrize("value", ["ill", 3.5, True])
def test_a_target_of_one_value_is_refused(value):
    message = refused({"x": np.arange(20) ** 0.5, "y": [value] * 20}, "y")
    says(message, "the target 'y' has one value", "in all 20 rows", str(value).lower() if value is True else str(value))


def test_a_declared_target_of_one_class_is_refused():
    says(refused({"x": np.arange(20) ** 0.5, "y": [1] * 20}, "y", kinds={"y": "category"}), "one value", "1 in all")
    says(refused({"x": np.arange(20) ** 0.5, "y": [1] * 20}, "y", kinds={"y": "number"}), "one value")


@pytest.mark.parametrize(
    ("y", "why"),
    [
        ([f"p{i}" for i in range(20)], "names its rows"),
        (np.arange(20), "names its rows"),
        ([f"patient {i} went home" for i in range(20)], "is free text"),
        ([f"2020-01-{i + 1:02}" for i in range(20)], "is a date"),
    ],
)
def test_a_target_that_cannot_be_predicted_says_why(y, why):
    says(refused({"x": np.arange(20) ** 0.5, "y": y}, "y"), f"the target 'y' {why}", "--kind y=")


def test_a_row_counter_may_be_declared_a_target():
    assert read({"x": np.arange(20) ** 0.5, "y": np.arange(20)}, "y", kinds={"y": "number"}).target.kind == "number"


def test_a_table_without_usable_inputs_says_what_was_left_out(write):
    text = "id,site,y\n" + "".join(f"{i},A,{i * 0.7}\n" for i in range(20))
    says(refused(write(text), "y"), "no column is left", "id (the whole numbers", "site ('A' in every row)", "--kind")
    says(refused(write(GOOD), "y", drop=["age", "city"]), "age (left out by you)")


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_too_few_rows_are_refused(write, rows):
    says(refused(write("".join(LINES[: rows + 1])), "y"), f"has {rows} row", "at least 10 rows")


def test_too_few_rows_with_a_target_are_refused():
    table = {"x": np.arange(20) ** 0.5, "y": [0.5, 1.5, 3.0] + [None] * 17}
    says(refused(table, "y", drop_missing_target=True), "without rows that lack 'y', has 3 rows")


def test_a_kind_that_does_not_exist_suggests_the_nearest(write):
    says(refused(write(GOOD), "y", kinds={"age": "numbre"}, kind=UsageError), "'age'", "did you mean 'number'?")


@pytest.mark.parametrize("options", [{"kinds": {"agee": "number"}}, {"drop": ["agee"]}])
def test_a_column_that_does_not_exist_suggests_the_nearest(write, options):
    says(refused(write(GOOD), "y", kind=UsageError, **options), "no column 'agee'", "did you mean 'age'?")


def test_the_target_cannot_be_dropped(write):
    says(refused(write(GOOD), "y", drop=["y"], kind=UsageError), "'y' is the target")


@pytest.mark.parametrize(
    ("kind", "cell", "needs"),
    [("number", "abc", "a number"), ("date", "2020-02-31", "a date"), ("boolean", "perhaps", "true or false")],
)
def test_a_declared_kind_that_does_not_fit_names_the_first_row(write, kind, cell, needs):
    good = {"number": "1.5", "date": "2020-02-03", "boolean": "yes"}[kind]
    cells = [good] * 16 + [cell, good, cell, good]
    text = "a,x,y\n" + "".join(f"{c},{i**0.5},{i * 0.7}\n" for i, c in enumerate(cells))
    message = refused(write(text), "y", kinds={"a": kind})
    says(message, f"column 'a' is a {kind}", f"row 17: '{cell}', and 1 more such cell", needs, "--kind a=category")


def test_a_table_is_named_where_a_database_has_several(tmp_path):
    path = tmp_path / "trial.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE visits (a)")
        connection.execute("CREATE TABLE people (a)")
    connection.close()
    says(refused(path, "a"), "trial.db: which table?", "--table NAME", "visits, people")
    says(refused(path, "a", table="visit"), "trial.db has no table 'visit'", "did you mean 'visits'?")
    says(refused(path, "a", table="visits"), "no rows")
    path.write_bytes(path.read_bytes()[:1500])
    says(refused(path, "a", table="visits", kind=FormatError), "trial.db cannot be read as SQLite")


def test_a_table_in_a_file_that_has_none_is_refused(write):
    says(refused(write(GOOD), "y", table="visits", kind=UsageError), "trial.csv has no tables")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT * FROM 'nowhere.csv'", "nowhere.csv"),
        ("SELECT * FRM x", "syntax error"),
        ("SELECT 1 AS a; DROP TABLE x", "other statements"),
    ],
)
def test_a_query_that_cannot_be_answered_says_why(query, found):
    says(refused(query, "a"), "the SQL query cannot be answered", found)


def test_a_query_cannot_write(tmp_path):
    says(
        refused(f"WITH a AS (SELECT 1) SELECT * FROM a; COPY (SELECT 1) TO '{tmp_path / 'x'}'", "a"), "other statements"
    )
    assert not list(tmp_path.iterdir())


def test_what_is_no_data_lists_what_is():
    says(refused(object(), "y"), "cannot read a object", "a data frame", "a dict of arrays always works")


def test_columns_of_different_lengths_are_named():
    says(refused({"a": [1, 2], "y": [1]}, "y"), "a: 2, y: 1")
    says(refused({"a": np.zeros((20, 2)), "y": np.arange(20)}, "y"), "column 'a' is not a column", "(20, 2)")
    says(refused({"a": np.zeros(20, complex), "y": np.arange(20)}, "y"), "complex128")


def test_x_and_y_that_do_not_belong_together_are_refused():
    says(refused(np.zeros((20, 2)), y=np.zeros(19)), "20 targets", "19 targets")
    says(refused(np.zeros((20, 2)), y=np.zeros((20, 2))), "y of shape (20, 2)", "y[:, 0]")
    says(refused(np.zeros((20, 2, 2)), y=np.zeros(19)), "19 targets")
    says(refused(np.zeros((20, 2, 2)), y=np.full((20, 2), np.nan)), "y is not finite")
    says(refused({"x": [1], "y": [2]}, y=[1], kind=UsageError), "a column 'y' already")


class Bad(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), 0


def test_datasets_that_cannot_be_stacked_are_refused():
    says(refused(Bad([torch.zeros(2)] * 12)), "Bad does not give pairs", "Tensor")
    says(refused(Bad([(torch.zeros(2), 0), (torch.zeros(3), 1)])), "different shapes", "(2,), (3,)")
    says(refused(Bad([])), "no items")
    says(refused(Endless()), "Endless is an iterable Dataset", "map-style")


def test_columns_of_a_named_data_set_cannot_be_chosen():
    says(refused("kidney-stones", "age", kind=UsageError), "'kidney-stones' has a target of its own", "'recovered'")
    says(refused("kidney-stones", drop=["size"], kind=UsageError), "'kidney-stones' is read as it is", "drop")


@pytest.fixture
def model(write):
    data = read(write(GOOD, "train.csv"), "y")
    return data.schema, data.encoder


def refused_new(what, model):
    with pytest.raises(KokkiriError) as caught:
        new_rows(what, *model)
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == ["needs", "found", "fix"]
    return str(caught.value)


def test_missing_columns_at_prediction_are_listed_with_the_nearest(write, model):
    says(refused_new(write("Age,x\n31,1\n"), model), "lacks 2 columns", "missing: age, city", "did you mean 'Age'?")


def test_a_word_in_a_column_of_numbers_at_prediction_is_named(write, model):
    text = "city,age\n" + "Oslo,31\n" * 16 + "Oslo,abc\n"
    says(refused_new(write(text), model), "column 'age' is a number", "row 17: 'abc'")
    says(refused_new({"city": ["Oslo"], "age": [np.datetime64("2020-01-01")]}, model), "row 1: '2020-01-01'")


def test_no_rows_at_prediction_are_refused(write, model):
    says(refused_new(write("city,age\n"), model), "no rows")
    says(refused_new(pl.DataFrame({"age": [], "city": []}), model), "has no rows")


def test_data_without_columns_cannot_stand_in_for_a_table(model):
    with pytest.raises(DataError, match="these data are no table"):
        conform(read(np.zeros((5, 2, 3))), *model)


def test_a_column_that_was_left_out_on_reading_cannot_be_conformed(write, model):
    other = read(write(GOOD.replace("Oslo", "Bergen"), "other.csv"), "y")
    with pytest.raises(DataError, match="have no column 'city' any more"):
        conform(other, *model)


def test_a_class_that_the_model_does_not_know_cannot_be_scored(write):
    text = "x,y\n" + "".join(f"{i**0.5},{'ab'[i % 2]}\n" for i in range(20))
    data = read(write(text), "y")
    message = refused_new({"x": [1.0, 2.0], "y": ["a", "c"]}, (data.schema, data.encoder))
    says(message, "the target 'y' has a value in row 2", "one of a, b", "'c' in row 2")
    gap = new_rows({"x": [1.0, 2.0], "y": ["a", None]}, data.schema, data.encoder)
    assert gap.y is None
    assert "the target 'y' is missing in 1 row: nothing to score by" in gap.notes


def test_no_message_speaks_of_python_objects(write):
    for message in (refused(write(GOOD), "z"), refused(write(LINES[0]), "y"), refused({"x": [1], "y": [None]}, "y")):
        assert "Traceback" not in message
        assert "<" not in message
