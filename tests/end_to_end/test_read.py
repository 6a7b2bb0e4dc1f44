"""From whatever holds data to something that can be fitted, and new rows for it."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch.utils.data import Dataset

from kokkiri.data.columns import Kind
from kokkiri.data.encoders import encoder_config, encoder_from_config
from kokkiri.data.read import read
from kokkiri.data.splits import split
from kokkiri.data.tables import Schema, conform, new_rows

DATA = os.environ.get("KOKKIRI_DATA")
real = pytest.mark.skipif(DATA is None, reason="needs the real data: set KOKKIRI_DATA to their folder")

TRIAL = (
    "id,age,sex,city,visit,site,note,dose,empty,recovered\n"
    + "\n".join(
        f"{i},{20 + i % 40 if i % 9 else ''},{'fm'[i % 2]},{('Oslo', 'Bergen', 'Bodø')[i * 7 % 3]},"
        f"2020-{i % 12 + 1:02}-{i % 28 + 1:02},A,the patient number {i} said so,{i * 0.37 % 5:.3f},,"
        f"{'yes' if i * 31 % 7 > 2 else 'no'}"
        for i in range(1, 61)
    )
    + "\n"
)


@pytest.fixture
def trial(tmp_path):
    path = tmp_path / "trial.csv"
    path.write_text(TRIAL, encoding="utf-8")
    return path


def write(tmp_path, text, name="new.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_data_with_kinds_reasons_and_what_was_left_out(trial):
    data = read(trial, "recovered")
    assert len(data) == 60
    assert data.target.levels == ("no", "yes")
    kinds = {c.name: (c.kind, c.used) for c in data.schema.columns}
    assert kinds == {
        "id": (Kind.IDENTIFIER, False), "age": (Kind.NUMBER, True), "sex": (Kind.CATEGORY, True),
        "city": (Kind.CATEGORY, True), "visit": (Kind.DATE, True), "site": (Kind.CONSTANT, False),
        "note": (Kind.TEXT, False), "dose": (Kind.NUMBER, True), "empty": (Kind.CONSTANT, False),
    }  # fmt: skip
    assert all(c.reason for c in data.schema.columns)
    left = next(n for n in data.notes if n.startswith("left out: "))
    assert "id (the whole numbers from 1 to 60, each once: a row counter)" in left
    assert "empty (no values at all)" in left
    batch = data.batch(torch.arange(4))
    assert batch.x.shape == (4, data.inputs.width)
    assert batch.x.dtype == torch.float32
    assert data[0].x.equal(data.x[0])
    assert data.source.rows == 60
    assert len(data.source.sha256) == 64


def test_every_door_gives_the_same_data(trial, tmp_path):
    frame = pl.read_csv(trial, try_parse_dates=True)
    frame.write_parquet(tmp_path / "trial.parquet")
    with sqlite3.connect(tmp_path / "trial.db") as connection:
        connection.execute("CREATE TABLE trial (" + ", ".join(frame.columns) + ")")
        texts = [tuple(None if v is None else str(v) if hasattr(v, "year") else v for v in r) for r in frame.rows()]
        connection.executemany(f"INSERT INTO trial VALUES ({', '.join('?' * frame.width)})", texts)
    connection.close()
    wanted = read(trial, "recovered")
    doors = [
        frame, frame.to_pandas(), frame.to_arrow(), tmp_path / "trial.parquet", str(tmp_path / "trial.db"),
        f"SELECT * FROM '{trial}'", frame.to_dict(as_series=False), {n: frame[n].to_numpy() for n in frame.columns},
        frame.to_dicts(),
    ]  # fmt: skip
    for door in doors:
        data = read(door, "recovered")
        assert torch.equal(data.x, wanted.x), type(door)
        assert torch.equal(data.y, wanted.y)
        assert data.inputs == wanted.inputs
    assert torch.equal(read(frame.drop("recovered"), y=frame["recovered"].to_list()).x, wanted.x)


def test_declared_kinds_are_obeyed_and_dropped_columns_stay_out(trial):
    data = read(trial, "recovered", kinds={"id": "category", "dose": Kind.NUMBER}, drop=["city"])
    columns = {c.name: c for c in data.schema.columns}
    assert columns["id"].levels[:3] == ("1", "2", "3")  # by size, as numbers are sorted
    assert columns["id"].reason == "declared"
    assert (columns["city"].used, columns["city"].reason) == (False, "left out by you")
    assert not any(g.name == "city" for g in data.inputs.groups)


def test_a_code_that_looks_like_a_number_keeps_its_zeros_when_declared(tmp_path):
    text = "zip,x,y\n" + "".join(f"{i % 4 + 500:05},{i * 0.3},{i * 0.7}\n" for i in range(20))
    data = read(write(tmp_path, text), "y", kinds={"zip": "category"})
    assert next(c for c in data.schema.columns if c.name == "zip").levels == ("00500", "00501", "00502", "00503")
    mixed = "zip,x,y\n" + "".join(f"{i % 4 + 500},{i * 0.3},{i * 0.7}\n" for i in range(20))
    data = read(write(tmp_path, mixed), "y", kinds={"zip": "category"})
    new = new_rows(write(tmp_path, "zip,x\n502,1\nK1A,2\n", "b.csv"), data.schema, data.encoder)
    assert new.raw["category"].flatten().tolist() == [2, -2]


@pytest.mark.parametrize(
    ("values", "kind", "levels"),
    [
        ([0, 1, 1, 0], "category", ("0", "1")),
        ([1, 2, 3, 2], "category", ("1", "2", "3")),
        ([0.0, 1.0, 2.0, 1.0], "category", ("0", "1", "2")),
        ([3, 4, 5, 4], "number", ()),  # begins elsewhere
        ([0, 1, 3, 1], "number", ()),  # has a hole
        (list(range(20)) * 2, "category", tuple(map(str, range(20)))),
        (list(range(21)) * 2, "number", ()),  # too many
        ([0.5, 1.5, 2.5, 1.0], "number", ()),
        ([True, False, True, True], "category", ("false", "true")),
        (["no", "yes", "yes", "no"], "category", ("no", "yes")),
        (["10", "9", "x", "9"], "category", ("10", "9", "x")),
        (["c", "B", "a", "a"], "category", ("a", "B", "c")),
    ],
)
def test_the_target_is_a_class_or_a_number_by_its_values(values, kind, levels):
    y = (values * 10)[: max(20, len(values))]
    target = read({"x": np.arange(len(y)) ** 0.5, "y": y}, "y").target
    assert (target.kind, target.levels) == (kind, levels)
    assert target.reason


def test_a_declared_target_is_what_it_is_declared_to_be():
    table = {"x": np.arange(20) ** 0.5, "y": np.arange(20) % 3}
    number = read(table, "y", kinds={"y": "number"})
    assert number.target.kind == "number"
    assert number.target.count
    assert number.y.dtype == torch.float64
    assert (number.target.shift, number.target.scale) == pytest.approx((
        number.y.mean().item(),
        number.y.std(correction=0).item(),
    ))
    table["y"] = np.arange(20) % 3 + 5
    classes = read(table, "y", kinds={"y": "category"})
    assert classes.target.levels == ("5", "6", "7")
    assert classes.y[:4].tolist() == [0, 1, 2, 0]


def test_missing_values_are_data(trial):
    data = read(trial, "recovered")
    groups = {(g.name, g.kind): g for g in data.inputs.groups}
    missing = data.x[:, groups["age", "missing"].start]
    assert torch.equal(missing.bool(), torch.isnan(data.raw["number"][:, 0]))
    assert data.x[missing.bool(), groups["age", "number"].start].abs().sum() == 0
    assert next(c for c in data.schema.columns if c.name == "age").missing == 6


def test_infinity_among_the_inputs_is_missing_and_told():
    x = np.sqrt(np.arange(20))
    x[6] = np.inf
    data = read({"x": x, "y": np.arange(20) * 0.7}, "y")
    assert "column x: 1 row with infinity, the first row 7; read as missing" in data.notes
    assert data.x[6].tolist() == [0.0, 1.0]


def test_new_rows_are_found_by_name_whatever_their_order(trial, tmp_path):
    data = read(trial, "recovered")
    frame = pl.read_csv(trial)
    shuffled = frame.select(sorted(frame.columns, reverse=True))
    shuffled.write_csv(tmp_path / "new.csv")
    new = new_rows(tmp_path / "new.csv", data.schema, data.encoder)
    assert torch.equal(new.x, data.x)
    assert torch.equal(new.y, data.y)
    bare = new_rows(frame.drop("recovered", "note", "id", "site", "empty"), data.schema, data.encoder)
    assert bare.y is None
    assert torch.equal(bare.x, data.x)
    one = new_rows(frame.to_dicts()[7], data.schema, data.encoder)
    assert torch.equal(one.x[0], data.x[7])


def test_unseen_categories_and_unknown_columns_are_accepted_and_counted(trial):
    data = read(trial, "recovered")
    rows = pl.read_csv(trial).head(4).with_columns(city=pl.Series(["Oslo", "Turku", "Åbo", "Turku"]), extra=pl.lit(1))
    new = new_rows(rows, data.schema, data.encoder)
    assert "column city: 3 rows with 2 unseen values: Turku, Åbo" in new.notes
    assert "1 column that the model does not know was ignored: extra" in new.notes
    group = next(g for g in data.inputs.groups if g.name == "city")
    assert new.x[:, group.start : group.stop].sum(1).tolist() == [1.0, 0.0, 0.0, 0.0]


def test_gaps_that_training_rows_did_not_have_are_filled_and_counted(trial):
    data = read(trial, "recovered")
    rows = pl.read_csv(trial).head(3).with_columns(dose=pl.Series([1.0, None, None]), sex=pl.Series(["f", None, "m"]))
    new = new_rows(rows, data.schema, data.encoder)
    assert "column dose: 2 rows without a value, none in training; the training mean stands in" in new.notes
    assert "column sex: 1 row without a value, none in training; counted as no level at all" in new.notes
    dose = next(g for g in data.inputs.groups if g.name == "dose")
    assert new.x[1:, dose.start].tolist() == [0.0, 0.0]


def test_new_rows_are_written_as_training_rows_were(tmp_path):
    # each new file alone would be read otherwise: 3/4/2020 as March, 1,234 as thousands
    rows = "".join(f"{i % 28 + 1}/{i % 12 + 1}/2020;{i},5;{i * 0.7:.1f}\n".replace(".", ",") for i in range(1, 31))
    data = read(write(tmp_path, "day;dose;y\n" + rows), "y")
    new = new_rows(write(tmp_path, "day;dose\n3/4/2020;1,234\n", "new.csv"), data.schema, data.encoder)
    assert new.raw["number"].item() == pytest.approx(1.234)
    assert new.raw["date"].item() == (np.datetime64("2020-04-03") - np.datetime64("1970-01-01")).astype(int)


def test_words_that_train_as_classes_are_not_read_as_numbers_later(tmp_path):
    text = "size,x,y\n" + "".join(f"{('1.0', '2', 'big')[i % 3]},{i * 0.3},{('1.0', 'x')[i % 2]}\n" for i in range(20))
    data = read(write(tmp_path, text), "y")
    new = new_rows(write(tmp_path, "size,x,y\n1.0,1,1.0\n2,2,1.0\n", "new.csv"), data.schema, data.encoder)
    assert new.raw["category"].flatten().tolist() == [0, 1]
    assert [data.target.levels[i] for i in new.y] == ["1.0", "1.0"]
    assert not any("unseen" in note for note in new.notes)


def test_schema_and_encoder_survive_json(trial):
    data, _ = split(read(trial, "recovered"), seed=1)
    schema = Schema.from_json(json.loads(json.dumps(data.schema.to_json())))
    assert schema == data.schema
    encoder = encoder_from_config(json.loads(json.dumps(encoder_config(data.encoder))), data.encoder.state_dict())
    assert torch.equal(new_rows(trial, schema, encoder).x, new_rows(trial, data.schema, data.encoder).x)


def test_data_that_were_read_by_themselves_are_brought_to_the_terms_of_a_model(trial):
    data = read(trial, "recovered")
    frame = pl.read_csv(trial).with_columns(
        city=pl.col("city").replace({"Oslo": "Åbo"}), recovered=pl.col("recovered").replace({"no": "yes", "yes": "no"})
    )
    own = read(frame, "recovered")
    wrong, right = replace(own, encoder=data.encoder, _cache={}), conform(own, data.schema, data.encoder)
    assert torch.equal(right.x, new_rows(frame, data.schema, data.encoder).x)
    assert not torch.equal(right.x, wrong.x)  # Bergen is 0 in one and 0 in the other, Bodø 1 and 1; Oslo 2, Åbo 2
    assert torch.equal(right.y, 1 - data.y)


@pytest.mark.parametrize(
    ("make", "how"),
    [
        (lambda y, rng: y * 1.0, "is a copy of the target"),
        (lambda y, rng: np.array(["b", "c", "a"])[y.astype(int)].tolist(), "stands, one to one, for the target"),
        (lambda y, rng: np.where(y == 2, rng.integers(2, 4, len(y)), y).tolist(), "each go with one class"),
    ],
)
def test_a_column_that_gives_the_class_away_is_named(make, how):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 90).astype(float)
    data = read({"x": rng.normal(size=90), "code": make(y, rng), "y": y.astype(int)}, "y")
    leak = [note for note in data.notes if note.startswith("LEAK?")]
    assert len(leak) == 1
    assert "column 'code'" in leak[0]
    assert how in leak[0]
    assert leak[0].endswith("leave it out: --drop code")


def test_a_straight_line_of_a_number_target_is_named_and_a_good_predictor_is_not():
    rng = np.random.default_rng(0)
    y = rng.normal(size=90)
    near = y + 0.01 * rng.normal(size=90)
    data = read({"x": rng.normal(size=90), "fahrenheit": 32 + 1.8 * y, "near": near, "y": y}, "y")
    leak = [note for note in data.notes if note.startswith("LEAK?")]
    assert len(leak) == 1
    assert "'fahrenheit' lies on a straight line with the target 'y'" in leak[0]


def test_arrays_keep_every_column():
    x = np.zeros((30, 4))
    x[:, 1] = np.arange(30)  # would be a row counter in a table, as the first would be a constant
    x[:, 2] = np.random.default_rng(0).normal(size=30)
    data = read(x, y=np.arange(30) % 2)
    assert data.inputs.shape == (4,)
    assert data.x[:, 0].tolist() == [0.0] * 30
    assert torch.equal(read(torch.from_numpy(x), y=torch.arange(30) % 2).x, data.x)
    assert torch.equal(read((x, np.arange(30) % 2)).x, data.x)


class Pictures(Dataset):
    def __init__(self, mode):
        self.mode = mode

    def __len__(self):
        return 12

    def __getitem__(self, i):
        from PIL import Image

        pixels = np.full((4, 6, 3), 20 * i, np.uint8)
        pixels[0, 0] = (1, 2, 3)
        match self.mode:
            case "picture":
                return Image.fromarray(pixels), i % 2
            case "tensor":
                return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), i % 2
            case _:
                return torch.from_numpy(pixels.transpose(2, 0, 1) / 255), torch.tensor([i * 0.5, 1.0])


def test_any_map_style_dataset_is_taken_and_pictures_keep_their_shape():
    pictures, tensors = read(Pictures("picture")), read(Pictures("tensor"))
    assert pictures.inputs.shape == (3, 4, 6)
    assert torch.equal(pictures.raw["image"], tensors.raw["image"])
    assert pictures.raw["image"][5, :, 0, 0].tolist() == [1, 2, 3]
    assert pictures.target.levels == ("0", "1")
    numbers = read(Pictures("numbers"))
    assert numbers.inputs.shape == (3, 4, 6)
    assert numbers.y.shape == (12, 2)
    assert torch.isfinite(numbers.x).all()
    assert read(np.zeros((5, 2, 3, 4))).y is None  # new rows have no targets


def test_a_folder_of_images_is_read(tmp_path):
    from PIL import Image

    for i in range(6):
        folder = tmp_path / "pets" / ("cat", "dog")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (40 * i, 0, 0)).save(folder / f"{i}.png")
    data = read(tmp_path / "pets", size=(3, 4))
    assert data.inputs.shape == (3, 3, 4)
    assert data.target.levels == ("cat", "dog")


def test_named_data_sets_are_read_by_name():
    data = read("kidney-stones")
    assert len(data) == 700
    assert data.source.name == "kidney-stones"
    assert read("kidney-stones", "recovered").target == data.target


def test_a_column_whose_first_rows_mislead_is_noted(tmp_path):
    text = "x,y\n" + "".join(f"{i * 0.3 if i != 16 else 'abc'},{i * 0.7}\n" for i in range(60))
    with pytest.raises(Exception, match="no column is left") as caught:
        read(write(tmp_path, text), "y")
    assert "x (60 distinct words in 60 rows" in str(caught.value)
    three = "x,w,y\n" + "".join(f"{i % 30 * 0.3 if i != 16 else 'abc'},{i**0.5},{i * 0.7}\n" for i in range(60))
    notes = read(write(tmp_path, three), "y").notes
    assert any("59 cells hold numbers, 1 does not, the first 'abc' in row 17" in note for note in notes)


@real
@pytest.mark.parametrize(
    ("name", "rows", "width"),
    [
        ("bostonHousing", 506, 13),
        ("concrete", 1030, 8),
        ("energy", 768, 8),
        ("protein-tertiary-structure", 45730, 9),
        ("wine-quality-red", 1599, 11),
    ],
)
def test_uci_regressions_are_numbers_throughout(name, rows, width):
    data = read(Path(DATA) / "uci" / f"{name}.csv.gz", "y", kinds={"y": "number"})
    assert (len(data), data.inputs.shape, data.target.kind) == (rows, (width,), "number")
    assert torch.isfinite(data.x).all()
    text = pl.read_csv(Path(DATA) / "uci" / f"{name}.csv.gz")
    np.testing.assert_allclose(data.raw["number"].numpy(), text.drop("y").to_numpy(), rtol=1e-12)


@real
def test_the_lalonde_experiment_is_read_as_published():
    data = read(Path(DATA) / "lalonde" / "nsw_dw.csv", "re78")
    assert len(data) == 445
    assert [c.name for c in data.schema.columns if not c.used] == ["data_id"]
    treated = data.raw["number"][:, 0] == 1
    difference = data.y[treated].mean() - data.y[~treated].mean()
    assert difference.item() == pytest.approx(1794.34, abs=0.01)  # Dehejia & Wahba 1999, table 1: 1,794


@real
def test_a_real_file_with_repeated_names_is_refused_and_read_by_a_query():
    path = Path(DATA) / "twins" / "twins.csv.gz"
    with pytest.raises(Exception, match="gestatcat1"):
        read(path, "yf")
    data = read(f"SELECT * FROM '{path}'", "yf")
    assert len(data) == 11_984
    assert data.target.levels == ("0", "1")
