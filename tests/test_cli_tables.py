"""Networks trained on tables, and their predictions for new rows."""

import json
import os
import re

import pytest

from jaxnets import runs
from jaxnets.cli import main
from jaxnets.data import TableColumn, load
from jaxnets.training import predict

FRUIT = ",weight,colour,kind\n" + "".join(
    f"{k},{40 + k},{('red', 'blue', 'green')[k % 3]},{('apple', 'plum')[k % 2]}\n"
    for k in range(30)
)
SALES = "day,shop,sold\n" + "".join(f"2024-01-{30 - k},{'xy'[k % 2]},{k * k}\n" for k in range(20))
MLP = ["--model", "mlp", "--model-option", "features=(None,8,None)"]


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tables, and a run on each: of classes, and of a series."""
    top = tmp_path_factory.mktemp("tables")
    (top / "fruit.csv").write_text(FRUIT)
    (top / "sales.csv").write_text(SALES)
    before = os.getcwd()
    os.chdir(top)
    options = ["--epochs", "1", "--quiet", "--data-option", "standardize=True"]
    fruit = ["--data", "fruit.csv", "--loss", "cross-entropy", *MLP, *options]
    sales = ["--data", "./sales.csv", "--data-option", "window=3", *options]
    assert main(["train", "linear-regression", *fruit, "--out", "fruit"]) == 0
    assert main(["train", "elnino-lstm", *sales, "--out", "sales"]) == 0
    os.chdir(before)
    return top


@pytest.mark.slow
def test_a_path_is_trained_on_and_recorded_whole(folder):
    record = json.loads((folder / "fruit" / "run.json").read_text())
    assert record["settings"]["data"] == str(folder / "fruit.csv")
    assert record["class_names"] == ["apple", "plum"]
    assert record["table"] == [
        {"name": "weight", "categories": None},
        {"name": "colour", "categories": ["blue", "green", "red"]},
    ]
    saved = runs.read(folder / "fruit")
    assert saved.table.columns[1] == TableColumn("colour", ("blue", "green", "red"))
    assert saved.inputs_scaler == load(folder / "fruit.csv", standardize=True).inputs_scaler
    assert saved.model.features == (4, 8, 2)


@pytest.mark.slow
def test_a_new_row_is_answered_as_the_same_row_of_the_data(capsys, folder, tmp_path):
    data = load(folder / "fruit.csv", standardize=True)
    saved = runs.read(folder / "fruit")
    row = data.inputs_scaler.inverse(data.test.inputs[:1])[0]
    weight, colour = round(float(row[0])), ("blue", "green", "red")[int(row[1:].argmax())]
    _, index, _ = run(capsys, "predict", folder / "fruit", "--index", "0")
    expected = index.split("): ")[1]
    outputs = predict(saved.model, data.test.inputs[:1])[0]
    best = ("apple", "plum")[int(outputs.argmax())]
    assert expected.startswith(f"{best} ")

    texts = [f"weight={weight},colour={colour}", f"colour={colour}, weight={weight}.0",
             f"{weight},{colour}", f'"colour={colour}",weight=+{weight}']  # fmt: skip
    for text in texts:
        code, out, _ = run(capsys, "predict", folder / "fruit", "--row", text)
        assert (code, out) == (0, f"{text}: {expected}")

    tables = [
        f"colour;kind;weight\n{colour};;{weight}\n",
        f"{weight},{colour}\n",
        f",weight,colour,kind\n7,{weight},{colour},plum\n",
        f"# from here\nweight\tcolour\n{weight}\t{colour}\n",
    ]
    for text in tables:
        (tmp_path / "new.csv").write_text(text)
        code, out, _ = run(capsys, "predict", folder / "fruit", tmp_path / "new.csv")
        assert code == 0
        assert re.fullmatch(rf".*new\.csv, row \d: {re.escape(expected)}", out, re.DOTALL)

    reading, writing = os.pipe()
    os.write(writing, tables[0].encode())
    os.close(writing)
    own = os.dup(0)
    os.dup2(reading, 0)
    try:
        code, out, _ = run(capsys, "predict", folder / "fruit", "-", "--row", texts[0])
    finally:
        os.dup2(own, 0)
        os.close(own)
        os.close(reading)
    assert (code, out) == (0, f"standard input, row 2: {expected}{texts[0]}: {expected}")


@pytest.mark.slow
def test_a_series_is_forecast_from_its_last_rows(capsys, folder, tmp_path):
    data = load(folder / "sales.csv", window=3, standardize=True)
    saved = runs.read(folder / "sales")
    code, out, _ = run(capsys, "predict", folder / "sales", folder / "sales.csv")
    assert code == 0
    rows = saved.table([["x", 4], ["y", 1], ["x", 0]])  # the newest three days, the oldest first
    forecast = predict(saved.model, saved.inputs_scaler(rows)[None])
    expected = data.labels_scaler.inverse(forecast)[0, 0]
    name, value = out.rstrip().split(": ")
    assert name == f"after {folder / 'sales.csv'}, row 2"
    assert float(value) == pytest.approx(expected, rel=1e-4)
    steps = [part for row in ("x,4", "y,1", "x,0") for part in ("--row", row)]
    assert run(capsys, "predict", folder / "sales", *steps)[1] == f"after x,0: {value}\n"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "fruit",
            ["--row", "weight=1,colour=black"],
            "row 0, column 'colour': expected a category",
        ),
        (
            "fruit",
            ["--row", "weight=heavy,colour=red"],
            "row 0, column 'weight': expected a number",
        ),
        ("fruit", ["--row", "weight=1"], "row 0: expected the columns weight, colour, got no 'col"),
        ("fruit", ["--row", "weight=1,weight=2"], "row: expected NAME=VALUE once for each of weig"),
        ("fruit", ["--row", "size=1"], "row: expected NAME=VALUE once for each of weight, colour"),
        ("fruit", ["--row", "1,red,2"], "row 0: expected 2 values: weight, colour, got 3"),
        ("fruit", ["--row", ""], "row 0: expected the columns weight, colour, got no 'weight'"),
        ("fruit", ["none.csv"], "none.csv: expected a readable table, got No such file"),
        ("fruit", ["pyproject.toml"], "pyproject.toml"),
        ("fruit", ["sales.csv"], "sales.csv: expected the columns weight, colour, got day, shop,"),
        ("sales", ["--row", "x,1"], "x,1: expected at least 3 rows, from which the run forecasts,"),
        ("fruit", ["sales.csv", "--invert"], "invert: expected none, as no image file is given"),
    ],
)
def test_a_row_that_does_not_fit_is_one_sentence(capsys, folder, name, arguments, message):
    arguments = [str(folder / a) if a == "sales.csv" else a for a in arguments]
    code, out, err = run(capsys, "predict", folder / name, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (3, "columns: expected the columns of a table"),
        ([], "columns: expected at least one column, got none"),
        ([{"name": "a"}], "columns: expected the columns of a table, got 'categories'"),
        ([{"name": 1, "categories": None}], "name: expected a string, got 1"),
        ([{"name": "a", "categories": [1]}], "categories: expected a tuple of different strings"),
    ],
)
def test_a_record_with_damaged_columns_is_refused(folder, tmp_path, table, message):
    record = json.loads((folder / "fruit" / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "table": table}))
    with pytest.raises(ValueError, match="run: expected a run.json written by jaxnets") as fault:
        runs.read(tmp_path)
    assert message in str(fault.value)


def test_rows_are_for_runs_on_tables(capsys, tmp_path):
    flags = ["--epochs", "1", "--out", tmp_path / "line", "--quiet"]
    assert run(capsys, "train", "linear-regression", *flags)[0] == 0
    code, _, err = run(capsys, "predict", tmp_path / "line", "--row", "x=1")
    assert (code, err) == (
        2,
        "jaxnets: row: expected none, as the run was not trained on a table, got x=1\n",
    )


def test_info_and_head_take_a_path(capsys, folder):
    code, out, _ = run(capsys, "data", "info", folder / "fruit.csv")
    assert code == 0
    assert out.startswith(f"fruit: the table {folder / 'fruit.csv'}, without its column ''\n")
    code, out, _ = run(capsys, "data", "head", folder / "fruit.csv", "-n", "1")
    assert re.fullmatch(r"0: \d+ [01] [01] [01] → (apple|plum)\n", out)


def test_a_table_is_described_as_it_is_to_be_read(capsys, tmp_path):
    (tmp_path / "t.csv").write_text("400,410,kind\n1,2,a\n3,1,b\n3,2,a\n1,1,b\n")
    code, _, err = run(capsys, "data", "info", tmp_path / "t.csv")
    assert code == 2
    assert "expected header=True or header=False" in err
    options = ["--data-option", "header=True", "--data-option", "drop=400"]
    code, out, _ = run(capsys, "data", "info", tmp_path / "t.csv", *options)
    assert code == 0
    assert "inputs float32[1], labels int32[]\ntrain 3, test 1\n" in out
    code, _, err = run(capsys, "data", "head", tmp_path / "t.csv", "--data-option", "colour=1")
    assert code == 2
    assert "data option: expected one of source, data_dir, " in err
