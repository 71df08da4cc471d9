"""Ratings: files, splits, negatives, the order of items, and the commands on them."""

import ast
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from jaxnets import metrics, recipes, runs, scores
from jaxnets.cli import main
from jaxnets.compare.engine import Terms, compared
from jaxnets.compare.from_recipe import from_recipe
from jaxnets.data import (
    Rated,
    RatingsDataset,
    RatingsEncoder,
    SampleNegatives,
    Split,
    TableEncoder,
    load,
)
from jaxnets.data.ratings.generated import generate
from jaxnets.data.table_encoding import TableColumn
from jaxnets.reports import data_of, of_run
from tests.pages import blocks

ROWS = [
    ("10", "b", "4", "300"),
    ("9", "a", "5", "100"),
    ("10", "a", "1", "300"),
    ("9", "c", "3", "200"),
    ("11", "c", "2", "50"),
]


def write(path, rows=ROWS, separator="\t", header=None):
    lines = [separator.join(row) for row in ([header] if header else []) + list(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def rows_of(split, encoder):
    """The ratings of a split in words, as a set."""
    users, items = split.inputs["user"], split.inputs["item"]
    return {
        (encoder.users[u], encoder.items[i], float(value))
        for u, i, value in zip(users, items, split.labels, strict=True)
    }


ALL = {(user, item, float(value)) for user, item, value, _ in ROWS}


@pytest.mark.parametrize(
    ("name", "separator", "header", "options"),
    [
        ("u.data", "\t", None, {}),
        ("ratings.dat", "::", None, {}),
        ("ratings.csv", ",", None, {"header": False}),
        ("ratings.csv", ",", ("userId", "movieId", "rating", "timestamp"), {}),
        ("ratings.csv", ";", ("User_ID", "Item", "Stars", "Date"), {"header": True}),
        ("a.csv", ",", ("reader", "title", "x", "y"), {"user": "reader", "item": 1, "label": "x"}),
    ],
)
def test_every_format_is_read(name, separator, header, options, tmp_path):
    path = write(tmp_path / name, separator=separator, header=header)
    data = load(path, test_fraction=0.4, **options)
    assert isinstance(data, RatingsDataset)
    assert data.encoder.users == ("9", "10", "11")  # in numerical order
    assert data.encoder.items == ("a", "b", "c")
    parts = [rows_of(split, data.encoder) for split in (data.train, data.test)]
    assert parts[0] | parts[1] == ALL
    assert [len(part) for part in parts] == [3, 2]
    assert data.train.labels.dtype == np.float32
    assert "3 users, 3 items" in repr(data)
    assert data.mean == pytest.approx(np.mean([value for *_, value in parts[0]]))


def test_the_last_rating_of_each_user_is_set_aside_and_of_equally_late_ones_the_later_row(tmp_path):
    data = load(write(tmp_path / "u.data"), test="last")
    assert rows_of(data.test, data.encoder) == {("10", "a", 1.0), ("9", "c", 3.0)}
    assert len(data.train) == 3  # the only rating of user 11 stays


def test_a_fold_is_a_pair_of_files_and_a_folder_is_its_ratings(tmp_path):
    write(tmp_path / "u1.base", ROWS[:3])
    write(tmp_path / "u1.test", ROWS[3:])
    for name in ("u1.base", "u1.test"):
        data = load(tmp_path / name)
        assert data.encoder.users == ("9", "10", "11")
        assert rows_of(data.test, data.encoder) == {("9", "c", 3.0), ("11", "c", 2.0)}
    write(tmp_path / "u.data")
    assert len(load(tmp_path, test="last").test) == 2
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "ml-100k").symlink_to(tmp_path)
    found = load("ml-100k", data_dir=tmp_path / "sets", test="last")
    assert rows_of(found.train, found.encoder) < ALL


def test_implicit_feedback_has_candidates_that_nobody_rated(tmp_path):
    rows = [*ROWS, *(("12", str(k), "5", str(k)) for k in range(4))]
    data = load(write(tmp_path / "u.data", rows), negatives=3)
    assert data.candidates == 4
    assert set(data.train.labels.tolist()) == {1.0}
    rated = {(user, item) for user, item, *_ in rows}
    groups = data.test.labels.reshape(-1, 4)
    assert groups.tolist() == [[1, 0, 0, 0]] * 3  # of the users with several ratings
    pairs = rows_of(data.test, data.encoder)
    assert {pair[:2] for pair in pairs if pair[2] == 1} <= rated
    assert not {pair[:2] for pair in pairs if pair[2] == 0} & rated
    whole = data.rated()
    assert [len(whole.by(user)) for user in range(4)] == [2, 2, 1, 4]
    assert sum(len(data.rated("train").by(user)) for user in range(4)) == len(data.train) == 6
    clicks = write(tmp_path / "clicks.csv", [row[:2] for row in rows], ",", ("user", "item"))
    assert load(clicks, user="user", negatives=3).test.labels.size % 4 == 0


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("u.item", "a|Amélie (2001)|01-Jan-2001||\nb|Brazil (1985)|||"),
        ("movies.dat", "a::Amélie (2001)::Comedy\nb::Brazil (1985)::Sci-Fi"),
        ("movies.csv", 'movieId,title,genres\na,"Amélie (2001)",Comedy\nb,Brazil (1985),Sci-Fi'),
    ],
)
def test_titles_of_movies_are_read_beside_the_ratings(name, lines, tmp_path):
    (tmp_path / name).write_bytes(lines.encode("latin-1"))
    data = load(write(tmp_path / "u.data"), test="last")
    assert data.encoder.titles == ("Amélie (2001)", "Brazil (1985)", "c")


def words(path, **options):
    with pytest.raises(ValueError, match=": expected ") as error:
        load(path, **options)
    return str(error.value)


def test_what_is_wrong_with_ratings_is_one_sentence(tmp_path):
    good = write(tmp_path / "u.data")
    assert words(good, test="first").startswith("test: expected 'last' for each user's last rating")
    assert words(good, user="who").startswith(
        "user: expected a column of 1, 2, 3, 4, or its number"
    )
    assert words(good, negatives=3).startswith("negatives: expected at most 1, the items that some")
    assert words(good, window=3) == f"window: expected None, as {good} is ratings, got 3"
    assert words(good, encoder=RatingsEncoder(("9",), ("a",))).startswith(
        "user: expected one of the 1"
    )
    table = TableEncoder((TableColumn("x"),))
    assert words(good, encoder=table).startswith("encoder: expected a RatingsEncoder or None, for")
    assert "is ratings" in words(good, train="train[:50%]")
    bad = write(tmp_path / "ratings.dat", [*ROWS, ("9", "d", "good", "1")], "::")
    assert words(bad).endswith(
        "ratings.dat, row 6, column '3': expected a rating, a number, got 'good'"
    )
    bad = write(tmp_path / "ratings.dat", [*ROWS, ("9", "d")], "::")
    assert words(bad).endswith("row 6: expected 4 columns, got 2")
    bad = write(tmp_path / "ratings.dat", [*ROWS, ("9", "", "1", "1")], "::")
    assert words(bad).endswith("row 6, column '2': expected an id, got an empty cell")
    bad = write(tmp_path / "ratings.csv", [row[:3] for row in ROWS], ",")
    assert (
        words(bad, test="last") == "test: expected None, as there is no column of times, got last"
    )
    bad = write(tmp_path / "ratings.csv", [row[:2] for row in ROWS], ",", ("user", "item"))
    assert "expected a column of ratings, or negatives=99" in words(bad)
    bad = write(tmp_path / "ratings.csv", [("a", "b", "c")], ",", ("x", "y", "z"))
    assert "expected a column called user, or user= with the column's name" in words(bad)
    (tmp_path / "ratings.csv").write_text("")
    assert words(tmp_path / "ratings.csv").endswith("expected ratings, got an empty file")
    write(tmp_path / "u2.test")
    assert "expected u2.base next to it" in words(tmp_path / "u2.test")
    write(tmp_path / "u1.base", ROWS[:3])
    write(tmp_path / "u1.test", ROWS[3:])
    assert "as u1.test has the ratings to test with" in words(tmp_path / "u1.base", test="last")
    missing = words("ml-1m", data_dir=tmp_path / "u1.base")
    assert missing.startswith("name: expected ratings.dat of MovieLens (https://grouplens.org/")
    assert (
        words("engel", user="x") == "user: expected None, as 'engel' is no table of ratings, got x"
    )
    ids = RatingsEncoder(("1",), ("2",))
    assert "as the encoder is a RatingsEncoder" in words("engel", encoder=ids)


def test_a_data_set_checks_its_columns():
    encoder = RatingsEncoder(("1", "2"), ("a", "b"))
    pairs = {"user": np.array([0, 1], np.int32), "item": np.array([0, 1], np.int32)}
    split = Split(pairs, np.array([1, 0], np.float32))
    assert RatingsDataset("x", split, split, encoder=encoder, candidates=2).candidates == 2
    for change, message in [
        ({"encoder": None}, "encoder: expected a RatingsEncoder, got None"),
        ({"candidates": 3}, "candidates: expected 2 or more, of which the 2 rows"),
        (
            {"encoder": RatingsEncoder(("1",), ("a", "b"))},
            r"train inputs.user: expected .* got 0 to 1",
        ),
        (
            {"train": Split(pairs["user"]), "test": None},
            "train inputs: expected a dictionary of user",
        ),
        (
            {"test": Split(pairs, np.ones(2, np.float32)), "candidates": 2},
            "test labels: expected 1 followed by 1 zeros in each test example",
        ),
    ]:
        given = {"train": split, "test": split, "encoder": encoder, **change}
        with pytest.raises(ValueError, match=message):
            RatingsDataset("x", **given)
    with pytest.raises(ValueError, match="users: expected a tuple of different strings"):
        RatingsEncoder(("1", "1"), ("a",))
    with pytest.raises(ValueError, match="titles: expected 1 strings, or None, got"):
        RatingsEncoder(("1",), ("a",), ("b", "c"))
    with pytest.raises(ValueError, match="items: expected 1 ids, one for each user, got 2"):
        encoder(["1"], ["a", "b"])
    with pytest.raises(
        ValueError, match="item: expected one of the 2 items of the data, such as a"
    ):
        encoder([1], ["z"])


def test_an_encoder_survives_saving_and_a_damaged_file_is_refused(tmp_path):
    encoder = RatingsEncoder(("1", "2"), ("ä", "b"), ("Äpfel", "b"))
    encoder.save(tmp_path / "ratings.json")
    assert RatingsEncoder.load(tmp_path / "ratings.json") == encoder
    (tmp_path / "ratings.json").write_text('{"users": 3}')
    with pytest.raises(ValueError, match="path: expected a file written by RatingsEncoder.save"):
        RatingsEncoder.load(tmp_path / "ratings.json")


def pairs_of_some_users():
    draw = np.random.default_rng(0)
    counts = [0, 3, 9, 5]
    items = [draw.choice(10, count, replace=False) for count in counts]
    return Rated.of(np.repeat(np.arange(4), counts), np.concatenate(items), 4, 10)


def test_negatives_are_drawn_alike_from_what_a_user_has_not_rated():
    rated = pairs_of_some_users()
    users = np.repeat(np.arange(4, dtype=np.int32), 500)
    sample = SampleNegatives(rated, count=4)
    batch = {"user": users, "item": np.zeros(len(users), np.int32)}
    inputs, labels = jax.jit(sample)(batch, jnp.ones(len(users)), jax.random.key(3))
    drawn = np.asarray(inputs["item"]).reshape(-1, 5)[:, 1:]
    assert np.asarray(labels).reshape(-1, 5).tolist() == [[1, 0, 0, 0, 0]] * len(users)
    np.testing.assert_array_equal(np.asarray(inputs["user"]), np.repeat(users, 5))
    for user in range(4):
        counts = np.bincount(drawn[users == user].ravel(), minlength=10)
        left = np.setdiff1d(np.arange(10), rated.by(user))
        assert set(np.flatnonzero(counts)) == set(left)
        assert np.abs(counts[left] / 2000 - 1 / len(left)).max() < 0.04
    again, _ = sample(batch, jnp.ones(len(users)), jax.random.key(3))
    np.testing.assert_array_equal(again["item"], inputs["item"])
    apart = rated.draw(np.array([1, 3]), 5, seed=1)
    for user, row in zip((1, 3), apart, strict=True):
        assert len(set(row.tolist()) - set(rated.by(user).tolist())) == 5


def test_bad_negatives_are_refused():
    with pytest.raises(ValueError, match="rated: expected what RatingsDataset.rated returns"):
        SampleNegatives(None)
    full = Rated.of(np.zeros(2, int), np.arange(2), 1, 2)
    with pytest.raises(ValueError, match="rated: expected for each user an item that is not rated"):
        SampleNegatives(full)
    with pytest.raises(ValueError, match="x: expected a dictionary of user and item"):
        SampleNegatives(pairs_of_some_users())({"user": 1}, None, jax.random.key(0))
    with pytest.raises(ValueError, match="starts: expected ascending numbers from 0 to 2"):
        Rated(np.zeros(2, np.int32), np.array([0, 1], np.int32), 3)
    with pytest.raises(ValueError, match=r"items: expected an int32 array \[N\]"):
        Rated(np.zeros(2), np.array([0, 2], np.int32), 3)


def test_hit_rate_and_ndcg_are_scikit_learns():
    draw = np.random.default_rng(1)
    outputs = draw.normal(size=(40, 25)).astype(np.float32)
    chosen = draw.integers(25, size=40)
    labels = (np.arange(25) == chosen[:, None]).astype(np.float32)
    best = np.argsort(-outputs, axis=1)[:, :5]
    expected = {
        "hit_rate": (best == chosen[:, None]).any(1).mean(),
        "ndcg": ndcg_score(labels, outputs, k=5),
    }
    places = scores.places(outputs, chosen)
    for name, value in expected.items():
        assert getattr(scores, name)(places, 5) == pytest.approx(value, abs=1e-7)
        measure = getattr(metrics, name)(5, candidates=25)
        found = measure(outputs.ravel(), labels.ravel())
        assert float(found.total) / float(found.count) == pytest.approx(value, abs=1e-6)
    # equal scores count against the chosen item, and so does NaN
    assert scores.places(np.array([[1.0, 1, 0], [np.nan, 1, 0]]), [0, 0]).tolist() == [1, 2]
    same = metrics.hit_rate(2, candidates=3)(jnp.zeros(3), jnp.array([1, 0, 0]))
    assert int(same.total) == 0
    with pytest.raises(ValueError, match="outputs: expected scores and labels of examples of 3"):
        metrics.ndcg(2, candidates=3)(jnp.zeros(4), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"scores: expected floats \[N, items\]"):
        scores.places([1.0], [0])
    with pytest.raises(ValueError, match=r"places: expected integers \[N\] from 0 on"):
        scores.hit_rate([0.5], 1)


@pytest.mark.slow
def test_the_generated_ratings_are_those_of_their_truth():
    table, truth = generate()
    again, _ = generate()
    np.testing.assert_array_equal(table.values, again.values)
    users, items = (np.array(ids, int) - 1 for ids in (table.users, table.items))
    residual = table.values - truth.expected[users, items]
    assert abs(residual.mean()) < 0.01
    assert set(np.unique(table.values)) == {1, 2, 3, 4, 5}
    popular = np.sort(np.bincount(items))[::-1]
    assert popular[:50].sum() > 0.25 * popular.sum()
    assert len(set(zip(table.users, table.items, strict=True))) == len(table.users)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Ratings of 40 items by 30 users, 12 each, as u.data."""
    draw = np.random.default_rng(2)
    taste = draw.normal(size=(30, 2)) @ draw.normal(size=(2, 40))
    rows = []
    for user in range(30):
        for time, item in enumerate(draw.choice(40, 12, replace=False)):
            value = int(np.clip(round(3 + taste[user, item]), 1, 5))
            rows.append((f"u{user}", str(item), str(value), str(time)))
    return write(tmp_path_factory.mktemp("ratings") / "u.data", rows)


@pytest.fixture(scope="module")
def trained(table):
    """A run of each recipe."""
    found: dict = {}
    for name, *more in [
        ("ratings-mf", "--epochs", "30"),
        ("ratings-ncf", "--epochs", "2", "--data-option", "negatives=9"),
    ]:
        out = table.parent / name
        words = ["train", name, "--data", str(table), "--out", str(out), "--quiet"]
        assert main([*words, "--batch-size", "32", *more]) == 0
        found[name] = out
    return found


@pytest.mark.slow
def test_both_recipes_train_evaluate_and_recommend(trained, table, capsys):
    record = json.loads((trained["ratings-mf"] / "run.json").read_text())
    history = record["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert record["settings"]["objective"] == "supervised"
    assert main(["evaluate", str(trained["ratings-mf"]), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["scores"]
    assert measured["rmse"] == pytest.approx(np.sqrt(record["test_loss"]), rel=1e-5)
    record = json.loads((trained["ratings-ncf"] / "run.json").read_text())
    assert record["test_accuracy"] is None
    assert main(["evaluate", str(trained["ratings-ncf"]), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["scores"]
    for name in ("loss", "hit_rate_10", "ndcg_10"):
        assert measured[name] == pytest.approx(record[f"test_{name}"], rel=1e-5)
    assert 0 <= measured["hit_rate_10_all_items"] <= measured["hit_rate_10"] == 1  # of 10
    assert main(["evaluate", str(trained["ratings-ncf"])]) == 0
    out = capsys.readouterr().out
    assert "hit rate@10             100.00 %" in out
    assert "NDCG@10, all items" in out
    saved = runs.read(trained["ratings-ncf"])
    assert saved.ratings.users[:3] == ("u0", "u1", "u10")
    rated = {
        line.split("\t")[1] for line in table.read_text().splitlines() if line.startswith("u3\t")
    }
    for run in trained.values():
        assert main(["predict", str(run), "--user", "u3", "--top", "5"]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert [line[0] for line in lines] == ["1", "2", "3", "4", "5"]
        assert not {line[1] for line in lines} & rated
        values = [float(line[2]) for line in lines]
        assert values == sorted(values, reverse=True)
    assert main(["predict", str(trained["ratings-mf"]), "--user", "u3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_the_commands_on_data_tell_of_users_and_items(table, capsys, monkeypatch):
    assert main(["data", "info", str(table)]) == 0
    out = capsys.readouterr().out
    assert "30 users; training ratings of each: " in out
    assert "40 items; training ratings of each: " in out
    assert main(["data", "head", str(table), "-n", "2"]) == 0
    assert "0: user u0, item " in capsys.readouterr().out
    assert main(["data", "check", str(table)]) == 0
    assert "u.data: train 288, test 72, all readable" in capsys.readouterr().out
    place = table.parent / "ml-100k"
    place.mkdir()
    (place / "u.data").symlink_to(table)
    monkeypatch.setenv("JAXNETS_DATA", str(table.parent / "ml-100k"))
    assert main(["data", "list"]) == 0
    out = capsys.readouterr().out
    assert f"ml-100k         ratings in {place / 'u.data'}" in out
    assert "ratings         generated by jaxnets" in out
    assert "ml-1m           not here" in out


@pytest.mark.slow
def test_all_items_are_ranked_as_a_plain_computation_ranks_them(trained):
    saved = runs.read(trained["ratings-ncf"])
    data = data_of(saved)
    found = of_run(saved, data).scores
    rated, hits, gains = data.rated("train"), [], []
    for user, item in zip(*(data.test.inputs[k][::10] for k in ("user", "item")), strict=True):
        left = np.setdiff1d(np.arange(40), rated.by(user))
        outputs = saved.predict({"item": left.astype(np.int32), "user": np.full(len(left), user)})
        gains.append(ndcg_score([(left == item).astype(int)], [outputs], k=10))
        hits.append(item in left[np.argsort(-outputs)[:10]])
    assert found["hit_rate_10_all_items"] == pytest.approx(np.mean(hits))
    assert found["ndcg_10_all_items"] == pytest.approx(np.mean(gains), abs=1e-6)


@pytest.mark.slow
def test_bad_commands_on_ratings_are_one_sentence(trained, table, capsys):
    run = str(trained["ratings-mf"])
    for words, message in [
        (
            ["predict", run, "--user", "99"],
            "user: expected one of the 30 users of the data, such as u0",
        ),
        (["predict", run, "--index", "0"], "index: expected none, as a run on ratings recommends"),
        (
            ["evaluate", str(trained["ratings-ncf"]), "--split", "train"],
            "split: expected 'test', as",
        ),
        (["explain", run, "--index", "0"], "inputs: expected one array, got inputs.item, inputs"),
        (
            ["train", "ratings-mf", "--data", "engel"],
            "data: expected ratings, such as the generated",
        ),
        (["train", "ratings-ncf", "--data", "engel"], "negatives: expected None, as 'engel' is no"),
        (
            ["train", "ratings-mf", "--normalize", "0", "1"],
            "normalize: expected None, as columns are",
        ),
        (["train", "mnist-mlp", "--data", "ratings"], "inputs of ratings: expected one array, got"),
        (
            ["train", "ratings-ncf", "--data", str(table), "--data-option", "negatives=10"],
            "negatives: expected a number such as 99, so that 1000 rows are whole test examples",
        ),
    ]:
        assert main([*words, *(["--quiet"] if words[0] == "train" else [])]) != 0
        assert message in capsys.readouterr().err
    assert main(["summary", "ratings-ncf"]) == 0
    assert "user_gmf" in capsys.readouterr().out
    assert main(["predict", str(trained["ratings-mf"])]) != 0
    assert "or --user ID" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ratings-mf", "ratings-ncf"])
def test_pytorch_trains_alike_on_the_same_pairs(name, table):
    options = {"negatives": 9} if name == "ratings-ncf" else {}
    given = {"data": str(table), "data_options": options, "epochs": 2, "batch_size": 64}
    small = dataclasses.replace(recipes.recipe(name), **given)
    terms = Terms(seeds=[0], timing=False, control=False)
    found = compared(from_recipe(small), terms, progress="none")
    ours, theirs = found.pairs[0].ours, found.pairs[0].theirs
    np.testing.assert_allclose(ours.step_losses, theirs.step_losses, rtol=1e-5)
    np.testing.assert_allclose(ours.test_loss, theirs.test_loss, rtol=1e-5)


@pytest.mark.slow
def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parent.parent / "docs" / "recommendation.md"
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec("\n".join(blocks(page.read_text(), "python")), {"__name__": "__main__"})
    rmse, hits, items = capsys.readouterr().out.splitlines()
    assert 0.7 < float(rmse.removeprefix("RMSE ")) < 0.95
    assert 0.3 < float(hits.removeprefix("hit rate@10 ")) < 0.6
    assert len(set(ast.literal_eval(items))) == 5
