"""Every door gives the same table; each format is compared with the library it comes from."""

# ruff: file-ignore[pandas-use-of-dot-values]  the values are those of a RawTable
from __future__ import annotations

import datetime as dt
import gzip
import json
import sqlite3

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch.utils.data import TensorDataset

from kokkiri.data.cells import number_form
from kokkiri.data.columns import Kind, infer
from kokkiri.data.frames import open_table, read_columns, read_frame
from kokkiri.data.sources import read_file, read_sql

AGE = [31, 45, None, 18]
DOSE = [0.5, None, 2.25, 1.0]
CITY = ["Oslo", None, "Bergen, vest", 'the "old" town']
WELL = [True, False, None, True]
SEEN = [dt.datetime.fromisoformat(t) if t else None for t in ("2020-01-31", "2020-02-29 12:30", None, "1969-12-31")]
CSV = (
    "age,dose,city,well,seen\n"
    "31,0.5,Oslo,true,2020-01-31\n"
    "45,,,false,2020-02-29 12:30:00\n"
    ',2.25,"Bergen, vest",,\n'
    '18,1.0,"the ""old"" town",true,1969-12-31\n'
)


def cells(values):
    return [None if gone else v for v, gone in zip(values.data.tolist(), values.mask.tolist(), strict=True)]


def read_as_kinds(table):
    """Each column as its kind has it, so that words in a CSV file and values in a frame can be compared."""
    return {name: infer(name, table.values[name], decimal=table.decimal).data.tolist() for name in table.names}


def agree(a, b):
    return all(np.array_equal(a[n], b[n], equal_nan=np.asarray(a[n]).dtype.kind == "f") for n in [*a, *b])


@pytest.fixture
def polars_frame():
    return pl.DataFrame({"age": AGE, "dose": DOSE, "city": CITY, "well": WELL, "seen": SEEN})


@pytest.fixture
def csv_file(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_a_polars_frame_keeps_values_types_and_gaps(polars_frame):
    table = read_frame(polars_frame)
    assert [cells(v) for v in table.values.values()] == [AGE, DOSE, CITY, WELL, SEEN]
    assert [v.dtype.kind for v in table.values.values()] == ["i", "f", "O", "b", "M"]


@pytest.mark.parametrize("library", ["pandas", "pandas-arrow", "pyarrow", "polars-lazy"])
def test_frames_of_all_libraries_give_one_table(polars_frame, library):
    frame = {
        "pandas": polars_frame.to_pandas,
        "pandas-arrow": lambda: polars_frame.to_pandas(use_pyarrow_extension_array=True),
        "pyarrow": polars_frame.to_arrow,
        "polars-lazy": polars_frame.lazy,
    }[library]()
    assert agree(read_as_kinds(read_frame(frame)), read_as_kinds(read_frame(polars_frame)))


def test_narwhals_frames_with_categories_time_zones_and_decimals_are_understood():
    frame = pd.DataFrame({
        "size": pd.Categorical(["s", "l", None], categories=["s", "l"]),
        "at": pd.to_datetime(["2020-01-01 02:00", "2020-01-02 02:00", None]).tz_localize("Europe/Oslo"),
        "n": pd.array([1, None, 3], dtype="UInt8"),
    })
    table = read_frame(frame)
    assert cells(table.values["size"]) == ["s", "l", None]
    assert cells(table.values["at"])[:2] == [
        dt.datetime.fromisoformat(t) for t in ("2020-01-01 01:00", "2020-01-02 01:00")
    ]
    assert cells(table.values["n"]) == [1, None, 3]
    price = pa.table({"price": pa.array([1, 2]).cast(pa.decimal128(21, 2))})
    assert read_frame(price).values["price"].tolist() == [1.0, 2.0]


def test_a_csv_file_is_what_polars_reads(csv_file, polars_frame):
    assert agree(read_as_kinds(read_file(csv_file)), read_as_kinds(read_frame(polars_frame)))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json", ".csv.gz", ".csv", ".tsv"])
def test_files_of_all_formats_give_one_table(tmp_path, csv_file, polars_frame, suffix):
    path = tmp_path / f"same{suffix}"
    rows = [
        {k: v.isoformat(" ") if isinstance(v, dt.datetime) else v for k, v in row.items()}
        for row in polars_frame.to_dicts()
    ]
    match suffix:
        case ".parquet":
            polars_frame.write_parquet(path)
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        case ".json":
            path.write_text(json.dumps(rows), encoding="utf-8")
        case ".csv.gz" | ".csv":  # gzip is known by its first bytes, whatever the name says
            path.write_bytes(gzip.compress(CSV.encode()))
        case ".tsv":
            polars_frame.write_csv(path, separator="\t", datetime_format="%Y-%m-%d %H:%M:%S")
    assert agree(read_as_kinds(read_file(path)), read_as_kinds(read_file(csv_file)))


def test_sql_over_files_gives_what_polars_filters(csv_file, polars_frame):
    table = read_sql(f"SELECT age, dose FROM '{csv_file}' WHERE age > 20 ORDER BY age")
    wanted = polars_frame.filter(pl.col("age") > 20).sort("age").select("age", "dose")
    assert [cells(table.values[n]) for n in ("age", "dose")] == [wanted["age"].to_list(), wanted["dose"].to_list()]


def test_the_one_table_of_a_sqlite_file_is_taken_and_one_of_several_is_named(tmp_path):
    path = tmp_path / "trial.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE visits (age INTEGER, dose REAL, city TEXT)")
        connection.executemany("INSERT INTO visits VALUES (?, ?, ?)", zip(AGE, DOSE, CITY, strict=True))
    connection.close()
    assert [cells(v) for v in read_file(path).values.values()] == [AGE, DOSE, CITY]
    with sqlite3.connect(path) as connection:
        connection.execute('CREATE TABLE "other ""one""" (a INTEGER)')
        connection.execute('INSERT INTO "other ""one""" VALUES (7)')
    connection.close()
    before = path.read_bytes()
    assert read_file(path, table='other "one"').values["a"].tolist() == [7]
    assert path.read_bytes() == before


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(tmp_path, delimiter):
    path = tmp_path / "a.csv"
    path.write_text(CSV.replace(",", delimiter) if delimiter != "," else CSV, encoding="utf-8")
    assert read_file(path).names == ("age", "dose", "city", "well", "seen")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a;b\n1,5;x\n2,25;y\n", [1.5, 2.25]),  # a comma that can only be the decimal sign
        ("a;b\n1,234;x\n2,345;y\n", [1234.0, 2345.0]),  # one that can only be guessed: thousands
        ("a;b;c\n1,234;x;7,5\n2,345;y;1,5\n", [1.234, 2.345]),  # the file shows its decimal sign in another column
        ("a;b\n1.234,5;x\n2;y\n", [1234.5, 2.0]),
        ('a,b\n"1,234",x\n"1,234,567.5",y\n', [1234.0, 1234567.5]),
        ("a;b\n1.5;x\n2;y\n", [1.5, 2.0]),
        ("a,b\n 7 ,x\n8 %,y\n", [7.0, 8.0]),
        ("a,b\n1e3,x\n-.5,y\n", [1000.0, -0.5]),
    ],
)
def test_numbers_are_read_as_they_are_written(tmp_path, text, values):
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    table = read_file(path)
    assert infer("a", table.values["a"], decimal=table.decimal).data.tolist() == values


@pytest.mark.parametrize("marker", ["", "NA", "N/A", "?", "null", "NULL", "NaN", "-", ".", "none"])
def test_signs_for_no_value_are_missing_in_a_column_of_numbers_and_told(tmp_path, marker):
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n1.5,x\n{marker},y\n2.5,z\n", encoding="utf-8")
    reading = infer("a", read_file(path).values["a"])
    assert reading.column.kind is Kind.NUMBER
    assert reading.column.missing == 1
    assert np.isnan(reading.data[1])
    told = marker not in {"", "NaN"}  # DuckDB reads NaN for a number itself
    assert any(f"1 '{marker}' read as missing" in note for note in reading.notes) == told


def test_a_type_that_the_first_rows_suggest_is_given_up_where_a_later_row_belies_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,2\n" * 30_000 + "0.5,x\n", encoding="utf-8")
    table = read_file(path)
    assert table.values["a"].data[-1].item() == pytest.approx(0.5)
    assert table.values["b"].data[-1] == "x"


def test_a_file_without_header_gets_numbered_columns_and_says_so(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2.5,x\n3,4.5,y\n", encoding="utf-8")
    table = read_file(path)
    assert table.names == ("column0", "column1", "column2")
    assert table.rows == 2
    assert "no header" in table.notes[0]


def test_comments_blank_lines_mixed_ends_of_line_and_odd_names_do_no_harm(tmp_path):
    path = tmp_path / "a[1]'*.csv"
    path.write_bytes(b"# made by hand\n\na,b\r\n1,x\n3,y\r\n")
    table = read_file(path)
    assert table.names == ("a", "b")
    assert table.values["a"].tolist() == [1, 3]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_other_encodings_give_the_same_words(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes("city,n\nTromsø,1\nBodø,2\n".encode(encoding))
    assert read_file(path, encoding=encoding).values["city"].tolist() == ["Tromsø", "Bodø"]


def test_the_digest_of_a_file_is_its_sha256_and_that_of_arrays_follows_their_values(csv_file):
    import hashlib

    assert read_file(csv_file).source.sha256 == hashlib.sha256(csv_file.read_bytes()).hexdigest()
    one, same, other = (read_columns({"a": v}).source.sha256 for v in ([1.0, 2.0], np.array([1.0, 2.0]), [1.0, 3.0]))
    assert one == same != other


def test_arrays_tensors_lists_and_rows_give_one_table():
    x = np.array([[1.0, 2.0], [3.0, np.nan]])
    doors = [
        open_table(x),
        open_table(torch.from_numpy(x)),
        open_table({"x0": [1.0, 3.0], "x1": [2.0, None]}),
        open_table([{"x0": 1.0, "x1": 2.0}, {"x0": 3.0}]),
        open_table({"x0": torch.tensor([1.0, 3.0]), "x1": torch.tensor([2.0, torch.nan], dtype=torch.float64)}),
    ]
    assert all(agree(read_as_kinds(door), read_as_kinds(doors[0])) for door in doors)
    half = open_table(torch.ones(2, 1, dtype=torch.bfloat16))
    assert half.values["x0"].tolist() == [1.0, 1.0]


def test_a_dataset_of_pairs_gives_what_its_tensors_give():
    from kokkiri.data.read import read

    x, y = torch.arange(40.0).reshape(20, 2) ** 0.5, torch.arange(20) % 3
    data, same = read(TensorDataset(x, y)), read(x, y=y)
    assert torch.equal(data.raw["number"], same.raw["number"])
    assert torch.equal(data.raw["number"], x.double())
    assert data.target.levels == ("0", "1", "2")
    assert torch.equal(data.y, y)


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        (["a", "b", "a", "b"], Kind.CATEGORY, "2 distinct words in 4 rows"),
        (["yes", "no", "yes", "no"], Kind.BOOLEAN, "only 'no' and 'yes'"),
        (["TRUE", "False", "true", "FALSE"], Kind.BOOLEAN, "only 'FALSE' and 'False'"),
        (["1", "2", "3.5", "-1e3"], Kind.NUMBER, "numbers written as text: 4 distinct numbers from -1000 to 3.5"),
        (["00501", "02139", "00501", "02139"], Kind.CATEGORY, "2 distinct codes with zeros in front in 4 rows"),
        (["2020-01-31", "2020-02-01", "2020-02-01", "2021-01-01"], Kind.DATE, "dates written year-month-day"),
        (["31.1.2020", "1.2.2020", "1.2.2020", "1.1.2021"], Kind.DATE, "dates written day.month.year"),
        (["1/31/2020", "2/1/2020", "2/1/2020", "1/1/2021"], Kind.DATE, "dates written month/day/year"),
        (["31/1/2020", "1/2/2020", "1/2/2020", "1/1/2021"], Kind.DATE, "dates written day/month/year"),
        (["31 Jan 2020", "1 February 2020", "1 Feb 2020", "1-Jan-2021"], Kind.DATE, "dates written day month year"),
        (["Jan 31, 2020", "February 1, 2020", "Feb 1 2020", "Jan 1, 2021"], Kind.DATE, "dates written month day, year"),
        (["x", "x", "x", "x"], Kind.CONSTANT, "'x' in every row"),
        (["", "NA", "?", "null"], Kind.CONSTANT, "no values at all"),
        (["x", "", "x", ""], Kind.CATEGORY, "1 distinct word in 2 rows"),
        (["Ada L", "Alan T", "Emmy N", "Kurt G"], Kind.IDENTIFIER, "4 distinct words in 4 rows: a name for"),
        (["it was cold", "we all slept", "nobody came today", "then it rained"], Kind.TEXT, "free text"),
    ],
)  # fmt: skip
def test_words_are_given_a_kind_and_a_reason(words, kind, reason):
    column = infer("c", np.ma.array(words, mask=False, dtype=object)).column
    assert column.kind is kind
    assert reason in column.reason
    assert column.used == (kind in {Kind.NUMBER, Kind.BOOLEAN, Kind.CATEGORY, Kind.DATE})


def test_all_forms_of_one_date_are_one_day():
    forms = ["2020-01-31", "31.1.2020", "1/31/2020", "31/1/2020", "31 Jan 2020", "Jan 31, 2020", "2020-01-31T00:00Z"]
    days = {float(infer("d", np.ma.array([f, ""], mask=False, dtype=object)).data[0]) for f in forms}
    assert days == {float((dt.date(2020, 1, 31) - dt.date(1970, 1, 1)).days)}


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("n", np.arange(20), Kind.IDENTIFIER),
        ("n", np.arange(1, 21)[::-1], Kind.IDENTIFIER),
        ("year", np.arange(1990, 2010), Kind.NUMBER),
        ("patient_id", np.arange(20) * 7 + 100, Kind.IDENTIFIER),
        ("patientId", np.arange(20) * 7 + 100, Kind.IDENTIFIER),
        ("humid", np.arange(20) * 7 + 100, Kind.NUMBER),
        ("patient_id", np.arange(20) // 2 + 100, Kind.NUMBER),
        ("id", np.arange(20) * 0.37, Kind.NUMBER),
        ("n", np.arange(20) % 2, Kind.NUMBER),
        ("n", np.full(20, 3.5), Kind.CONSTANT),
        ("n", np.array([3.5, np.nan] * 10), Kind.NUMBER),
        ("n", np.full(20, np.nan), Kind.CONSTANT),
    ],
)
def test_numbers_that_count_or_name_rows_are_told_from_others(name, values, kind):
    reading = infer(name, np.ma.array(values, mask=np.isnan(values.astype(float))))
    assert reading.column.kind is kind
    repeats = kind is Kind.NUMBER and name == "patient_id"
    assert any("--split group:patient_id" in note for note in reading.notes) == repeats


def test_times_with_a_zone_are_brought_to_utc():
    words = ["2020-01-31T02:30+02:30", "2020-01-30 19:00:00 -05:00", "2020-01-31 00:00:00.000Z"]
    days = infer("d", np.ma.array(words, mask=False, dtype=object)).data
    assert days.tolist() == [float((dt.date(2020, 1, 31) - dt.date(1970, 1, 1)).days)] * 3


def test_universally_unique_identifiers_are_known():
    import uuid

    ids = [str(uuid.UUID(int=i)) for i in range(12)] * 2
    assert infer("u", np.ma.array(ids, mask=False, dtype=object)).column.kind is Kind.IDENTIFIER


def test_number_forms_refuse_words():
    assert number_form(["1", "two"]) is None
    assert number_form(["-", "none"]) is None
    assert number_form(["1,2,3"]) is None
