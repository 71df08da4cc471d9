import numpy as np
import pytest

from jaxnets.data import load

FLOWERS = """sepal,petal,species
5.1,1.4,setosa
7.0,4.7,versicolor
6.3,6.0,virginica
4.9,1.4,setosa
6.4,4.5,versicolor
5.8,5.1,virginica
"""


def write(folder, text, name="flowers.csv"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def whole(folder, name="flowers", **options):
    """All rows of a table."""
    return load(name, data_dir=folder, test="train", **options)


def test_a_table_with_text_for_labels(tmp_path):
    path = write(tmp_path, FLOWERS)
    for place in (tmp_path, path):
        data = whole(place)
        assert data.train.inputs.dtype == np.float32
        np.testing.assert_allclose(data.train.inputs[1], [7.0, 4.7], rtol=1e-6)
        assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert data.class_names == ("setosa", "versicolor", "virginica")
        assert data.origin == f"the table {path}"


def test_without_a_test_table_rows_of_each_class_are_set_aside(tmp_path):
    write(tmp_path, FLOWERS)
    data = load("flowers", data_dir=tmp_path, test_fraction=0.5)
    assert sorted(data.test.labels.tolist()) == [0, 1, 2]
    assert sorted(data.train.labels.tolist()) == [0, 1, 2]


def test_tables_of_train_and_test(tmp_path):
    write(tmp_path / "flowers", FLOWERS, "train.csv")
    write(tmp_path / "flowers", "sepal,petal,species\n6.1,5.0,virginica\n", "test.csv")
    data = load("flowers", data_dir=tmp_path)
    assert (len(data.train), len(data.test)) == (6, 1)
    assert data.test.labels.tolist() == [2]
    write(tmp_path / "flowers", "petal,sepal,species\n6.1,5.0,virginica\n", "test.csv")
    with pytest.raises(
        ValueError, match=r"test\.csv: expected the columns of train\.csv: sepal, p"
    ):
        load("flowers", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("text", "inputs", "labels"),
    [
        ("1,2,0\n3,4,1\n", [[1, 2], [3, 4]], [0, 1]),  # no header
        ("label;a\n1;0.5\n0;-2e3\n", [[0.5], [-2000]], [1, 0]),
        ("a\tClass\tb\n1\t0\t2\n3\t1\t4\n", [[1, 2], [3, 4]], [0, 1]),
        ('"a","y"\n\n"1","0"\n 2 , 1 \n', [[1], [2]], [0, 1]),
        ("\ufeffa,y\r\n1,0\r\n2,1\r\n", [[1], [2]], [0, 1]),
    ],
)
def test_tables_as_people_write_them(tmp_path, text, inputs, labels):
    write(tmp_path, text)
    data = whole(tmp_path)
    assert data.train.inputs.tolist() == inputs
    assert data.train.labels.tolist() == labels
    assert data.train.labels.dtype == np.int32


def test_whole_numbers_are_classes_in_their_order(tmp_path):
    write(tmp_path, "x,y\n0.1,10\n0.2,9\n0.3,-1\n")
    data = whole(tmp_path)
    assert data.train.labels.tolist() == [2, 1, 0]
    assert data.class_names == ("-1", "9", "10")


def test_numbers_with_a_point_are_to_be_predicted(tmp_path):
    write(tmp_path, "x,y\n1,10.5\n2,9\n")
    data = whole(tmp_path)
    assert data.train.labels.tolist() == [[10.5], [9]]
    assert data.train.labels.dtype == np.float32
    assert data.class_names is None


def test_whole_numbers_are_to_be_predicted_where_that_is_asked(tmp_path):
    write(tmp_path, "x,y\n1,10\n2,9\n")
    data = whole(tmp_path, regression=True)
    assert data.train.labels.tolist() == [[10], [9]]
    assert data.class_names is None
    write(tmp_path, "x,y\n1,10\n2,red\n")
    with pytest.raises(ValueError, match=r"row 3, column 'y': expected a number, got 'red'"):
        whole(tmp_path, regression=True)


def test_the_label_is_the_column_asked_for(tmp_path):
    write(tmp_path, "kind,x,y\na,1,5.5\nb,2,6.5\n")
    assert whole(tmp_path, label="kind").class_names == ("a", "b")
    assert whole(tmp_path, label=0).train.inputs.tolist() == [[1, 5.5], [2, 6.5]]
    assert whole(tmp_path, label=-3).class_names == ("a", "b")
    for label, message in [
        ("sort", "label: expected a column of kind, x, y, got sort"),
        (3, "label: expected a column from 0 to 2, got 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            whole(tmp_path, label=label)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            FLOWERS.replace("6.4,4.5", "6.4,"),
            r"row 6, column 'petal': expected a number, got an em",
        ),
        (FLOWERS.replace("6.4", "tall"), r"row 6, column 'sepal': expected a number, got 'tall'"),
        (FLOWERS.replace("6.4", "NA"), r"row 6, column 'sepal': expected a number, got 'NA'"),
        (FLOWERS.replace("6.4", "nan"), r"row 6, column 'sepal': expected a number, got 'nan'"),
        (FLOWERS.replace("6.4", "1e99"), r"row 6, column 'sepal': expected a number, got '1e99'"),
        (
            FLOWERS.replace("4.9,1.4,setosa", "4.9,1.4,"),
            r"row 5, column 'species': expected a label, got an empty cell",
        ),
        (FLOWERS.replace("4.9,1.4,setosa", "4.9,1.4"), r"row 5: expected 3 columns, got 2"),
        ("1,2,0\n3,,1\n", r"row 2, column '2': expected a number, got an empty cell"),
        ("", "expected a table, got an empty file"),
        ("a,b\n", "expected rows of at least two columns, one for the label, got 0 rows of 2"),
        ("a\n1\n", "expected rows of at least two columns, one for the label, got 1 rows of 1"),
        ('a,b\n1,"2\n', "expected a table as UTF-8 text, got unexpected end of data"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(ValueError, match=rf"flowers\.csv.*{message}"):
        whole(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "flowers.csv").write_bytes(b"a,b\n\xff,1\n")
    with pytest.raises(ValueError, match=r"flowers\.csv: expected a table as UTF-8 text"):
        whole(tmp_path)
