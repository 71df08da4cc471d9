import hashlib
from pathlib import Path

import numpy as np
import pytest

from jaxnets import data
from jaxnets.data import Dataset, Split, StandardizedDataset, Standardizer, load, windows
from jaxnets.data.splitting import hold_out_last

FOLDER = Path(data.__file__).parent
SALES = """date,price,sold
2024-01-01,10,100
2024-01-02,12,90
2024-01-03,11,95
2024-01-04,9,110
2024-01-05,8,120
2024-01-06,8,118
2024-01-07,9,111
2024-01-08,10,99
2024-01-09,10,101
2024-01-10,12,91
"""


@pytest.fixture
def sales(tmp_path):
    def write(text=SALES):
        (tmp_path / "sales.csv").write_text(text)
        return {"name": "sales", "data_dir": tmp_path}

    return write


def test_windows_are_every_stretch_and_what_follows_it():
    found = windows(np.arange(6), 3, horizon=2)
    assert found.inputs.tolist() == [[[0], [1], [2]], [[1], [2], [3]]]
    assert found.labels.tolist() == [[3, 4], [4, 5]]
    assert found.inputs.dtype == found.labels.dtype == np.float32


@pytest.mark.parametrize(
    ("target", "labels"),
    [
        (None, [[[30, 31], [40, 41]]]),
        (1, [[31, 41]]),
        (-2, [[30, 40]]),
        ([1], [[[31], [41]]]),
        ((1, 0), [[[31, 30], [41, 40]]]),
    ],
)
def test_what_is_forecast_is_the_target(target, labels):
    series = np.array([[10 * step, 10 * step + 1] for step in range(5)])
    found = windows(series, 3, 2, target)
    assert found.inputs.tolist() == [[[0, 1], [10, 11], [20, 21]]]
    assert found.labels.tolist() == labels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 2, 2)), 1), r"series: expected numbers \[T\] or \[T, features\], got float"),
        ((np.array(["a"]), 1), r"series: expected numbers \[T\] or \[T, features\], got <U1\[1\]"),
        (([1.0, np.nan, 2.0], 1), r"series: expected finite numbers, got nan in row 1 \(counted"),
        (([[1.0, 2.0], [3.0, np.inf]], 1), "got inf in row 1, column 1"),
        ((np.arange(9), 0), "length: expected a positive integer, got 0"),
        ((np.arange(9), 2, 0), "horizon: expected a positive integer, got 0"),
        (
            (np.arange(9), 8, 2),
            "length: expected at most 7, as the series has 9 steps and forecasts 2, got 8",
        ),
        ((np.arange(9), 1, 9), "horizon: expected less than the 9 steps of the series, got 9"),
        ((np.zeros((9, 2)), 2, 1, 2), "target: expected a feature from 0 to 1, got 2"),
        ((np.zeros((9, 2)), 2, 1, "a"), "target: expected a feature from 0 to 1, got a"),
    ],
)
def test_windows_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        windows(*arguments)


def test_the_end_of_a_series_is_held_out():
    steps = Split(np.arange(10.0)[:, None], np.arange(10.0))
    kept, held = hold_out_last(steps, 0.25)
    assert (kept.labels.tolist(), held.labels.tolist()) == ([*range(7)], [7, 8, 9])
    for fraction, message in [(0.01, "a fraction of 10 steps that leaves"), (1, "between 0 and 1")]:
        with pytest.raises(ValueError, match=f"fraction: expected .*{message}"):
            hold_out_last(steps, fraction)


def test_a_table_with_a_window_is_a_series_cut_in_time(sales):
    found = load(**sales(), window=2, test_fraction=0.4)
    assert found.train.inputs[:2].tolist() == [[[10, 100], [12, 90]], [[12, 90], [11, 95]]]
    assert found.train.labels.tolist() == [[95], [110], [120], [118]]
    assert found.test.inputs[0].tolist() == [[9, 111], [10, 99]]
    assert found.test.labels.tolist() == [[101], [91]]
    assert found.class_names is None
    assert found.origin.startswith("the series ")


def test_no_step_of_the_test_part_is_learnt_from(tmp_path):
    (tmp_path / "count.csv").write_text("n\n" + "\n".join(map(str, range(20))) + "\n")
    found = load("count", data_dir=tmp_path, window=3, horizon=2, test_fraction=0.5)
    learnt, judged = (
        {*part.inputs.ravel().tolist(), *part.labels.ravel().tolist()}
        for part in (found.train, found.test)
    )
    assert learnt == set(range(10))
    assert judged == set(range(10, 20))


def test_the_target_is_the_labels_column_and_stays_an_input(sales):
    found = load(**sales(), window=2, horizon=2, label="price", test_fraction=0.4)
    assert found.train.inputs[0].tolist() == [[10, 100], [12, 90]]
    assert found.train.labels[0].tolist() == [11, 9]
    whole = load(**sales(), window=2, label=1, train="train[:50%]", test="train[50%:]")
    assert whole.test.inputs[0].tolist() == [[8, 118], [9, 111]]


def test_a_series_is_standardized_by_its_training_part_before_it_is_cut(sales):
    plain = load(**sales(), window=2, test_fraction=0.4)
    found = load(**sales(), window=2, test_fraction=0.4, standardize=True)
    steps = np.array([[10, 100], [12, 90], [11, 95], [9, 110], [8, 120], [8, 118]])
    assert found.inputs_scaler.mean == pytest.approx(steps.mean(0))
    assert found.labels_scaler.std == pytest.approx([steps[:, 1].std()])
    for part in ("train", "test"):
        ours, units = getattr(found, part), getattr(plain, part)
        np.testing.assert_allclose(found.inputs_scaler.inverse(ours.inputs), units.inputs, 1e-6)
        np.testing.assert_allclose(found.labels_scaler.inverse(ours.labels), units.labels, 1e-6)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (SALES, {"window": 8}, r"window: expected at most 7, as the train part of sales \(the ser"),
        (SALES, {"window": 2}, r"test part of sales \(the series .*\) has 2 steps and forec"),
        (SALES, {"window": 0}, "window: expected a positive integer, got 0"),
        (SALES, {"standardize": "no"}, "standardize: expected True or False, got no"),
        (SALES, {"regression": 1}, "regression: expected True or False, got 1"),
        (SALES, {"window": 2, "horizon": 0}, "horizon: expected a positive integer, got 0"),
        (
            "a,b\n1,2\n",
            {"horizon": 2},
            r"horizon: expected None, as sales \(the table .* is not a series",
        ),
        (
            SALES.replace("110", ""),
            {"window": 2},
            "row 5, column 'sold': expected a number, got an",
        ),
        (SALES.replace("110", "few"), {"window": 2}, "row 5, column 'sold': .*, got 'few'"),
        (SALES.replace("110", "nan"), {"window": 2}, "row 5, column 'sold': .*, got 'nan'"),
        (SALES.replace("110", "inf"), {"window": 2}, "row 5, column 'sold': .*, got 'inf'"),
        ("n\n", {"window": 2}, r"sales.csv: expected rows, got 0 rows of 1 columns"),
        (
            "n\n" + "3\n" * 20,
            {"window": 2, "standardize": True},
            r"sales \(the series .*\), labels: expected values that differ .*, got 3 only",
        ),
    ],
)
def test_series_that_cannot_be_used(sales, text, options, message):
    with pytest.raises(ValueError, match=message):
        load(**sales(text), **options)


# Dates


def dated(dates, name="date"):
    return f"{name},sold\n" + "".join(f'"{date}",{k}\n' for k, date in enumerate(dates))


@pytest.mark.parametrize(
    "dates",
    [
        ["2024-01-03", "2024-01-02", "2024-01-01"],
        ["2024-03", "2024-02", "2024-01"],
        ["2003", "2002", "2001"],
        ["03.01.2024", "31.12.2023", "30.12.2023"],
        ["12/31/2024", "12/30/2024", "1/2/2024"],
        ["Mar 2024", "Feb 2024", "Jan 2024"],
        ["2024Q3", "2024Q2", "2024Q1"],
        ["2024-01-01T03:00:00Z", "2024-01-01 03:00+01:00", "2024-01-01T01:00:00Z"],
    ],
)
def test_a_series_is_in_the_order_of_its_dates(sales, dates):
    for order in (dates, [dates[1], dates[0], dates[2]]):
        found = load(**sales(dated(order)), window=1, test="train")
        ages = [order.index(date) for date in reversed(dates)]
        assert found.train.inputs.ravel().tolist() == ages[:-1]
        assert found.train.labels.ravel().tolist() == ages[1:]
        assert found.origin.endswith(".csv, sorted by 'date'")
    kept = load(**sales(dated(dates[::-1])), window=1, test="train")
    assert kept.train.inputs.ravel().tolist() == [0, 1]
    assert kept.origin.endswith(".csv")


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (
            ["2024-01-01", "2024-01-02", "2024-01-01"],
            "row 4, .*'date': expected a date that no oth",
        ),
        (["2001", "2002", "2002.0"], "row 4, column 'date': expected a date that no other row has"),
        (["2024-01-01", "never", "2024-01-03"], "row 3, .*a date such as 2024-01-31, .*'never'"),
        (["2024-01-01", "", "2024-01-03"], "row 3, .*a date such as 2024-01-31, .* got ''"),
        (["2001", "", "2003"], "row 3, .*a date such as 2024-01-31, .* got ''"),
        (["2024-02-30", "2024-03-01"], "row 2, .*a date such as 2024-01-31, .*'2024-02-30'"),
        (
            ["10:30", "11:30"],
            r"row 2, .*, or drop=\('date',\) to leave the column out, got '10:30'",
        ),
        (
            ["01/02/2024", "02/01/2024"],
            "row 2, .*unambiguous dates, .*, got '01/02/2024'",
        ),
    ],
)
def test_dates_that_give_no_order_are_refused(sales, dates, message):
    with pytest.raises(ValueError, match=rf"sales\.csv, {message}"):
        load(**sales(dated(dates)), window=1, test="train")


def test_the_dates_of_a_test_table_come_after_those_of_the_training_table(tmp_path):
    for name, dates in (
        ("train", ["2024-01-02", "2024-01-01"]),
        ("test", ["2024-01-04", "2024-01-03"]),
    ):
        (tmp_path / f"{name}.csv").write_text(dated(dates))
    found = load(tmp_path, window=1)
    assert found.train.inputs.ravel().tolist() == found.test.inputs.ravel().tolist() == [1]
    (tmp_path / "test.csv").write_text(dated(["2024-01-04", "2024-01-02"]))
    message = (
        r"test\.csv, row 3, column 'date': expected dates after the last of train\.csv, or drop"
    )
    with pytest.raises(ValueError, match=message):
        load(tmp_path, window=1)
    assert load(tmp_path, window=1, drop="date").test.inputs.ravel().tolist() == [0]


@pytest.mark.parametrize("name", ["day", "", "Unnamed: 0", "DATE"])
def test_a_column_of_dates_is_found_whatever_it_is_called(sales, name):
    dates = ["2024-01-03", "2024-01-02", "2024-01-01"]
    found = load(**sales(dated(dates, name)), window=1, test="train")
    assert found.train.inputs.ravel().tolist() == [2, 1]
    text = "sold,shop,when\n" + "".join(f"{k},{'xy'[k % 2]},{d}\n" for k, d in enumerate(dates))
    found = load(**sales(text), window=1, test="train", label="sold")
    assert found.train.inputs.tolist() == [[[2, 1, 0]], [[1, 0, 1]]]
    assert found.encoder.inputs == ("sold", "shop=x", "shop=y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"label": 0},
            r"label: expected None, as elnino \(bundled with jaxnets\) has its .*, got 0",
        ),
        (
            {"regression": True},
            r"regression: expected False, as elnino \(bundled .* has its labels",
        ),
    ],
)
def test_a_bundled_set_has_its_labels(options, message):
    with pytest.raises(ValueError, match=message):
        load("elnino", **options)


@pytest.mark.parametrize("name", ["mnist", "linear"])
def test_a_set_that_is_no_series_has_no_windows(name):
    with pytest.raises(ValueError, match=rf"window: expected None, as {name} \(bundled with"):
        load(name, window=3)


def test_columns_are_standardized_by_the_training_part():
    train = Split(np.array([[1, 5], [3, 5]], np.float32), np.array([10, 30], np.float32))
    test = Split(np.array([[5, 6]], np.float32), np.array([50], np.float32))
    found = data.standardize(Dataset("d", train, test))
    assert isinstance(found, StandardizedDataset)
    assert found.train.inputs.tolist() == [[-1, 0], [1, 0]]
    assert found.test.inputs.tolist() == [[3, 1]]  # minus the second column's constant
    assert found.train.labels.tolist() == [-1, 1]
    assert found.test.labels.tolist() == [3]
    assert found.labels_scaler.inverse(found.test.labels).tolist() == [50]
    left = data.standardize(Dataset("d", train, test), labels=False)
    assert left.labels_scaler is None
    assert left.test.labels.tolist() == [50]


def test_classes_are_not_standardized(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,x\n2,y\n3,x\n4,y\n5,x\n6,y\n")
    found = load("t", data_dir=tmp_path, test_fraction=0.34, standardize=True)
    assert found.labels_scaler is None
    assert found.class_names == ("x", "y")
    assert found.train.inputs.mean() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.1, 3e7, 0.0])
def test_a_constant_column_becomes_zeros(value):
    column = np.full((37, 1), value, np.float32)
    assert not Standardizer.fit(column)(column).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Standardizer((0.0,), (0.0,)), r"std: expected positive numbers, got \(0.0,\)"),
        (lambda: Standardizer((0.0,), (1.0, 1.0)), "std: expected 1 numbers, as many as in mean"),
        (lambda: Standardizer(np.inf, 1.0), "mean: expected a finite number, got inf"),
        (lambda: Standardizer("high", 1.0), "mean: expected a finite number, got high"),
        (lambda: Standardizer.fit(np.zeros(3)), r"array: expected floats \[rows, columns\], got"),
        (lambda: Standardizer.fit(np.array([[np.nan]])), "got nan in row 0, column 0"),
        (
            lambda: Standardizer((0.0, 1.0), (1.0, 1.0))(np.zeros((2, 3))),
            "array: expected 2 columns in the last axis, got",
        ),
        (lambda: load("mnist", standardize=True), r"mnist \(bundled .*inputs: .*, got uint8\["),
    ],
)
def test_a_standardizer_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_dataset_names_where_a_number_is_not_finite():
    good = Split(np.array([[1.0], [2.0]]), np.array([1.0, 2.0]))
    bad = Split(np.array([[1.0], [np.nan]]), np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="d, test inputs: .* got nan in row 1, column 0"):
        data.standardize(Dataset("d", good, bad))


def test_elnino_is_the_original_file_a_month_a_row():
    found = load("elnino", train="train", test="train", window=1)
    assert len(found.train) == 61 * 12 - 1
    lines = (FOLDER / "elnino.csv").read_text().split()
    original = '"YEAR","JAN","FEB","MAR","APR","MAY","JUN","JUL","AUG","SEP","OCT","NOV","DEC"\n'
    for first in range(1, len(lines), 12):
        year = lines[first][:4]
        names, cells = zip(*(line.split(",") for line in lines[first : first + 12]), strict=True)
        assert names == tuple(f"{year}-{month:02}" for month in range(1, 13))
        original += ",".join([year, *cells]) + "\n"
    assert hashlib.md5(original.encode()).hexdigest() == "286f807bb727bdd332c5efc802e28dec"


def test_engel_is_the_original_file():
    content = (FOLDER / "engel.csv").read_bytes()
    assert hashlib.md5(content).hexdigest() == "add15eece84e650ec032758d432be857"
    found = load("engel")
    assert len(found.train) + len(found.test) == 235
    assert found.train.inputs.shape[1:] == found.train.labels.shape[1:] == (1,)
