import json

import numpy as np
import pytest

from jaxnets.data import (
    StandardizedDataset,
    TableColumn,
    TableDataset,
    TableEncoder,
    load,
    table_files,
    tables,
)

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


def parts(folder, train, test):
    """The data set of two tables."""
    write(folder / "flowers", train, "train.csv")
    write(folder / "flowers", test, "test.csv")
    return load("flowers", data_dir=folder)


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


# Headers


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("400,410,kind\n0.1,0.2,a\n0.3,0.1,b\n", ("400", "410")),
        ("400,410,kind\n" + "1,2,a\n3,1,b\n" * 3, ("400", "410")),
        ("0,1,2\n5.1,3.5,0\n4.9,3.0,1\n", ("0", "1")),
        (",0,1,2\n0,5,3,0\n1,4,3,1\n", ("0", "1")),
        ("Unnamed: 0,0,1,y\n0,5,3,0\n1,4,3,1\n", ("0", "1")),
        ("400,420,455\n" + "1.5,2.5,0.5\n" * 5, ("400", "420")),
        ("date,0,1,2\n1,5,3,a\n2,4,3,b\n", ("date", "0", "1")),
        ("# a,b,y\n1,2,0\n3,4,1\n", ("a", "b")),
        ("# made in May, by me, I think\na,b,y\n1,2,0\n3,4,1\n", ("a", "b")),
        ("#,size,y\n7,2,0\n7,4,1\n", ("#", "size")),
        ("?,1,7\n3,4,5\n", None),
        ("1,2,0\n3,4,1\n", None),
        ("1.0,2.0\n2.0,4.1\n3.0,6.2\n", None),
        ("0,0,1\n0,1,0\n", None),
        ("5.1,3.5,setosa\n7.0,3.2,virginica\n5.0,3.1,setosa\n", None),
        ("x,s,n\nx,y,w\nx,s,n\n", None),  # all columns are text, and the first row recurs
    ],
)
def test_a_header_is_told_from_an_example(tmp_path, text, columns):
    write(tmp_path, text)
    if columns is None:
        text = text.replace("?", "9")
        write(tmp_path, text)
        columns = tuple(str(number) for number in range(1, text.split("\n")[0].count(",") + 1))
        assert len(whole(tmp_path).train) == text.count("\n")
    found = whole(tmp_path)
    names = tuple(column.name for column in found.encoder.columns)
    assert names == columns


@pytest.mark.parametrize(
    "text",
    [
        "400,410,kind\n1,2,a\n3,1,b\n",
        "0,1,2\n5,3,0\n4,3,1\n",
        "0,1\n5.1,3.2\n4.1,2.5\n",
        "10,20,30\n40,50,60\n",
        "5.1,3.5,setosa\n7.0,3.2,virginica\n",
    ],
)
def test_a_row_that_may_be_either_is_asked_for(tmp_path, text):
    write(tmp_path, text)
    message = r"flowers.csv, row 1: expected header=True or header=False, as the row may be"
    with pytest.raises(ValueError, match=message):
        whole(tmp_path)
    rows = text.count("\n")
    assert len(whole(tmp_path, header=True).train) == rows - 1
    assert len(whole(tmp_path, header=False).train) == rows


def test_two_tables_that_begin_alike_have_a_header(tmp_path):
    header, rows = "400,410,420\n", "7,2,0\n3,2,1\n"
    data = parts(tmp_path, header + rows, header + rows[6:])
    assert (len(data.train), len(data.test)) == (2, 1)
    assert data.encoder.inputs == ("400", "410")
    with pytest.raises(ValueError, match=r"train\.csv, row 1: expected header=True or header=Fal"):
        parts(tmp_path, header + rows, header + rows)  # one may be a copy of the other
    data = parts(tmp_path, "0,1,2\n" + rows, rows)  # a header would be in both
    assert (len(data.train), len(data.test)) == (3, 2)
    with pytest.raises(ValueError, match=r"test\.csv: expected the columns of train\.csv: a, b, y"):
        parts(tmp_path, "a,b,y\n" + rows, rows)
    with pytest.raises(ValueError, match=r"test\.csv: expected 3 columns, as train\.csv, got 2"):
        parts(tmp_path, "7,2,0\n3,2,1\n", "7,2\n3,2\n")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (",a,y\n0,5,0\n1,6,1\n", "''"),
        ("Unnamed: 0,a,y\n17,5,0\n4,6,1\n", "'Unnamed: 0'"),
        ("Id,a,y\n1,5,0\n2,6,1\n", "'Id'"),
        ('"a","y"\n"1",5,0\n"2",6,1\n', "''"),  # R's row names
        (",a,y\nann,5,0\nbob,6,1\n", "''"),
    ],
)
def test_a_column_that_numbers_the_rows_is_left_out_and_named(tmp_path, text, left):
    path = write(tmp_path, text)
    data = whole(tmp_path)
    assert data.encoder.inputs == ("a",)
    assert data.train.inputs.tolist() == [[5], [6]]
    assert data.origin == f"the table {path}, without its column {left}"


def test_a_column_without_a_name_that_numbers_nothing_is_refused(tmp_path):
    write(tmp_path, ",a,y\n3,5,0\n3,6,1\n")
    message = r"flowers\.csv, column 1: expected a name for each column, or header=False, got ''"
    with pytest.raises(ValueError, match=message):
        whole(tmp_path)
    assert whole(tmp_path, drop=0).encoder.inputs == ("a",)
    assert whole(tmp_path, label=0).class_names == ("3",)


# Files as programs write them


@pytest.mark.parametrize(
    "text",
    [
        "# by me\n# it's \"quoted\na,b,y\n1,2,0\n# one more\n3,4,1\n",
        "a,b,y\n1,2,0\n#3,4,0\n3,4,1\n",
        "a,b,y,\n1,2,0,\n3,4,1,\n",
        "a,b,y,\n1,2,0\n3,4,1\n",
        "a,b,y\n1,2,0,\n3,4,1,\n",
        "a,b,y\n\n1,2,0\n   \n3,4,1\n,,\n\n",
        "\ufeffsep=;\r\na;b;y\r\n1;2;0\r\n3;4;1\r\n",
        "a|b|y\n1|2|0\n3|4|1",
        "a,b,y\r1,2,0\r3,4,1\r",
        'a,"b",y\n1,"2",0\n"3",4,1\n',
    ],
)
def test_comments_and_ends_of_rows_change_nothing(tmp_path, text):
    (tmp_path / "flowers.csv").write_bytes(text.encode())
    data = whole(tmp_path)
    assert data.encoder.inputs == ("a", "b")
    assert data.train.inputs.tolist() == [[1, 2], [3, 4]]
    assert data.train.labels.tolist() == [0, 1]


def test_a_text_that_begins_with_a_hash_is_no_comment(tmp_path):
    write(tmp_path, "colour,y\n#ff0000,1\n#00ff00,0\n#ff0000,1\n")
    assert whole(tmp_path).encoder.inputs == ("colour=#00ff00", "colour=#ff0000")


def test_a_name_may_have_the_delimiter_and_the_end_of_a_line_in_it(tmp_path):
    write(tmp_path, 'x;"a, ""b""\nc";y\n1;2;0\n3;4;1\n')
    assert whole(tmp_path).encoder.inputs == ("x", 'a, "b"\nc')


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("x;y\n1,5;0\n-2,25;1\n,5;1\n", [[1.5], [-2.25], [0.5]]),
        ("1,5;2,7;0\n2,5;1,5;1\n", [[1.5, 2.7], [2.5, 1.5]]),
        ("x\ty\n1,234\t0\n0,5\t1\n", [[1.234], [0.5]]),
    ],
)
def test_decimal_commas(tmp_path, text, inputs):
    write(tmp_path, text)
    np.testing.assert_allclose(whole(tmp_path).train.inputs, inputs, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x;y\n1,500;0\n2,500;1\n", "row 2: expected numbers with one decimal sign and no"),
        ("x;y\n1.5;0\n2,5;1\n", "row 3: expected numbers with one decimal sign .*'2,5'"),
        ('x,y\n"1,500",0\n"2,500",1\n', "row 2, column 'x': expected a number, got '1,500'"),
        ("x,y\n$5,0\n$6,1\n", r"row 2, column 'x': expected a number, got '\$5'"),
        ("x,y\n1_0,0\n2_0,1\n", "row 2, column 'x': expected a number, got '1_0'"),
        ("x,y\n1,0\n1_0,1\n", "row 3, column 'x': expected a number, got '1_0'"),
        ("x,y\n１,0\n2,1\n", "row 2, column 'x': expected a number, got '１'"),
        ("a,a,y\n1,2,3\n4,5,6\n", "expected columns of different names, got 'a' twice"),
        ("a,y\n1,u\n2,v\na,y\n3,u\n", "row 4: expected an example, got the header again"),
        ("5,6,7\n" + "1.5,2.5,0.5\n" * 5 + "5,6,7\n", "row 7: expected an example, got the head"),
        ("# a\n# b\n", "expected a table, got comments alone"),
        ("a,y\n1\0,2\n", "expected a table as UTF-8 text, got a file with zero bytes"),
    ],
)
def test_what_may_mean_something_else_is_refused(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(ValueError, match=rf"flowers\.csv.*{message}"):
        whole(tmp_path)


# Labels


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (["1", "+1", "01", "1.0", " 1", "0"], ("0", "1"), [1, 1, 1, 1, 1, 0]),
        (["0.0", "1.0", "1.0", "0.0"], ("0", "1"), [0, 1, 1, 0]),
        (["-1", "4294967297", "-1"], ("-1", "4294967297"), [0, 1, 0]),
        (["1", "A", "01"], ("01", "1", "A"), [1, 2, 0]),  # not all are numbers
        (["9.0", "10.0"], None, [[9], [10]]),
        (["9.0", "10"], ("9", "10"), [0, 1]),
        (["TRUE", "true", "False"], ("False", "True"), [1, 1, 0]),
        (["9", "1e1", "2.5"], None, [[9], [10], [2.5]]),
    ],
)
def test_a_number_is_one_class_however_it_is_written(tmp_path, labels, classes, numbers):
    write(tmp_path, "x,y\n" + "".join(f"{k}.5,{label}\n" for k, label in enumerate(labels)))
    data = whole(tmp_path)
    assert data.class_names == classes
    assert data.train.labels.tolist() == numbers


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["10.5", "oops", "9"], "row 3, column 'y': expected a number, got 'oops'"),
        (["10", "inf", "9"], "row 3, column 'y': expected a number, got 'inf'"),
        (["10.5", "n/a"], "row 3, column 'y': expected a label, got 'n/a'"),
        (["cat", "NaN"], "row 3, column 'y': expected a label, got 'NaN'"),
        (["$5", "$6"], r"row 2, column 'y': expected a number, got '\$5'"),
    ],
)
def test_a_value_to_predict_does_not_become_a_class(tmp_path, labels, message):
    write(tmp_path, "x,y\n" + "".join(f"{k}.5,{label}\n" for k, label in enumerate(labels)))
    with pytest.raises(ValueError, match=message):
        whole(tmp_path)


def test_the_label_is_called_label_before_it_is_called_y(tmp_path):
    write(tmp_path, "x,y,label\n1,2,a\n2,3,b\n")
    assert whole(tmp_path).class_names == ("a", "b")
    write(tmp_path, "x,y,kind\n1,2,a\n2,3,b\n")
    with pytest.raises(ValueError, match="label: expected 'y' or 'kind', as either may be the"):
        whole(tmp_path)
    assert whole(tmp_path, label="kind").encoder.inputs == ("x", "y")


# Categories


COLOURS = "colour,size,y\nred,1,a\nblue,2,b\nred,3,a\n"


def test_a_column_of_texts_is_one_hot(tmp_path):
    write(tmp_path, COLOURS)
    data = whole(tmp_path)
    assert isinstance(data, TableDataset)
    assert data.encoder.inputs == ("colour=blue", "colour=red", "size")
    assert data.train.inputs.tolist() == [[0, 1, 1], [1, 0, 2], [0, 1, 3]]
    assert data.train.inputs.dtype == np.float32
    write(tmp_path, "sold,y\ntrue,a\nFALSE,b\nTrue,a\n")
    assert whole(tmp_path).encoder.inputs == ("sold=False", "sold=True")
    assert whole(tmp_path).encoder([["true"], [False]]).tolist() == [[0, 1], [1, 0]]
    row = {"size": 5, "colour": "blue"}
    assert data.encoder([row, ["red", "6"]]).tolist() == [[1, 0, 5], [0, 1, 6]]


def test_columns_are_categories_or_left_out_where_that_is_asked(tmp_path):
    write(tmp_path, "zip,name,size,y\n01,Ann,1,a\n2,Bob,2,b\n1,Cid,3,a\n")
    data = whole(tmp_path, categories="zip", drop=("name",))
    assert data.encoder.inputs == ("zip=1", "zip=2", "size")
    assert data.train.inputs.tolist() == [[1, 0, 1], [0, 1, 2], [1, 0, 3]]
    assert data.encoder([{"zip": 1.0, "size": 2}]).tolist() == [[1, 0, 2]]
    assert whole(tmp_path, drop=(0, -3)).encoder.inputs == ("size",)


def test_a_standardized_table_keeps_its_encoder(tmp_path):
    write(tmp_path, COLOURS)
    plain, data = whole(tmp_path), whole(tmp_path, standardize=True)
    assert isinstance(data, StandardizedDataset)
    made = data.inputs_scaler(data.encoder([["red", 1]]))
    np.testing.assert_array_equal(made, data.train.inputs[:1])
    assert data.encoder == plain.encoder


def test_a_category_of_the_test_table_alone_is_named(tmp_path):
    message = (
        r"test\.csv, row 2, column 'colour': expected a category that was trained on \(blue, r"
    )
    with pytest.raises(ValueError, match=message):
        parts(tmp_path, COLOURS, "colour,size,y\ngreen,1,a\n")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (COLOURS.replace("blue", ""), {}, "row 3, column 'colour': expected a number or text, got"),
        (
            COLOURS.replace("blue", "NA"),
            {},
            "row 3, column 'colour': expected a number or text, got",
        ),
        (COLOURS.replace("blue", "7"), {}, "row 2, column 'colour': expected a number, got 'red'"),
        (
            "day,y\n2024-01-01,a\n2024-01-02,b\n",
            {},
            r"row 2, column 'day': expected a number or a category; drop=\('day',\) to leave",
        ),
        (
            "name,y\n" + "".join(f"n{k},{k % 2}\n" for k in range(30)),
            {},
            r"column 'name': expected numbers or a few cat.* drop=.*, got 30 different texts in 30",
        ),
        (COLOURS, {"categories": "y"}, "categories: expected columns that are inputs, got y"),
        (
            COLOURS,
            {"categories": "kind"},
            "categories: expected a column of colour, size, y, got k",
        ),
        (COLOURS, {"categories": True}, "categories: expected names or numbers of columns"),
        (COLOURS, {"drop": 3}, "drop: expected a column from 0 to 2, got 3"),
        (COLOURS, {"drop": 1.5}, "drop: expected names or numbers of columns, got 1.5"),
        (
            COLOURS,
            {"drop": "y", "label": "y"},
            "drop: expected columns other than the label, got y",
        ),
        (
            COLOURS,
            {"drop": ("colour", "size")},
            "expected rows of at least two columns, one for the",
        ),
        (
            COLOURS,
            {"drop": (0, 1, 2)},
            "drop: expected not all columns, got colour, size",
        ),
        (COLOURS, {"header": "no"}, "header: expected True or False, got no"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path, text, options, message):
    write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        whole(tmp_path, **options)


@pytest.mark.parametrize("options", [{"header": True}, {"categories": "a"}, {"drop": 0}])
def test_what_is_no_table_has_no_columns(options):
    with pytest.raises(
        ValueError, match=r": expected the default, as mnist \(bundled .* is not the user's"
    ):
        load("mnist", **options)


ENCODER = TableEncoder((TableColumn("size"), TableColumn("colour", ("blue", "red"))))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "rows: expected at least one row, got none"),
        ({"size": 1}, "rows: expected a list of rows, got a dict"),
        ("abc", "rows: expected a list of rows, got a str"),
        ([3], "row 0: expected values by the columns' names, got a int"),
        (["ab"], "row 0: expected values by the columns' names, got a str"),
        (np.zeros((2, 3)), "row 0: expected 2 values: size, colour, got 3"),
        (np.array(3), "row 0: expected values by the columns' names, got a int"),
        ([[1]], "row 0: expected 2 values: size, colour, got 1"),
        ([{"size": 1}], "row 0: expected the columns size, colour, got no 'colour'"),
        ([{"size": 1, "colour": "red", "a": 0}], "row 0: expected the columns .*, got 'a' too"),
        ([[1, "red"], ["big", "red"]], "row 1, column 'size': expected a number, got 'big'"),
        ([[float("nan"), "red"]], "row 0, column 'size': expected a number, got 'nan'"),
        ([[1e39, "red"]], r"row 0, column 'size': expected a number, got '1e\+39'"),
        ([[1, "green"]], r"row 0, column 'colour': expected a category that was trained on \(blue"),
        ([[1, ""]], "row 0, column 'colour': expected a category .*, got an empty cell"),
    ],
)
def test_a_new_row_that_does_not_fit_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        ENCODER(rows)


def test_an_encoder_is_written_as_json():
    assert TableEncoder.from_json(json.loads(json.dumps(ENCODER.to_json()))) == ENCODER
    for bad in (None, 3, [], [3], [{}], [{"name": "a"}], [{"name": 1, "categories": None}],
                [{"name": "a", "categories": []}], [{"name": "a", "categories": ["b", "b"]}],
                [{"name": "a", "categories": [1]}], [{"name": "a", "categories": 4}]):  # fmt: skip
        with pytest.raises(ValueError, match=r"(columns|name|categories): expected"):
            TableEncoder.from_json(bad)


@pytest.mark.parametrize(
    "text",
    [
        ",".join(f"column{k}" for k in range(500))
        + "\n"
        + "1," * 498
        + "x,1\n"
        + "2," * 499
        + "0\n",
        f"a,{'n' * 400},y\n1,2,0\n2,{'9' * 400},1\n",
        f"a,{'n' * 400},y\n1,,0\n",
        f"colour,y\n{'r' * 400},a\n,b\n",
    ],
)
@pytest.mark.parametrize("label", [None, "none of them"])
def test_a_message_is_short_however_wide_the_table_is(tmp_path, text, label):
    write(tmp_path, text)
    with pytest.raises(ValueError, match="expected") as fault:
        whole(tmp_path, label=label)
    assert len(str(fault.value).replace(str(tmp_path), "")) < 300


@pytest.mark.parametrize(
    ("text", "inputs"),
    [
        ("5,6\n", [[5, 6]]),
        ("1,2\n", [[1, 2]]),  # equal to the names of the columns by chance
        ("1,2\n5,6\n", [[5, 6]]),
        ("5,6,0\n7,8,1\n", [[5, 6], [7, 8]]),  # with the label
        ("2,1\n5,6\n", [[6, 5]]),
    ],
)
def test_new_rows_of_a_table_without_a_header(tmp_path, text, inputs):
    write(tmp_path, "1,2,0\n3,4,1\n")
    encoder = whole(tmp_path).encoder
    cells = table_files.read(write(tmp_path, text, "new.csv"))
    assert tables.new_rows(cells, encoder, series=False)[0].tolist() == inputs
