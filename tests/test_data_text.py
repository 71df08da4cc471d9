import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.data import Split, load, text
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from jaxnets.data.text.encoder import pad

WORDS = Vocabulary.from_counts({"good": 3, "film": 2, "bad": 2})


def write_polarity(folder, count=20):
    """Writes sentences with a word for each class; splitlines splits at one latin-1 character."""
    for kind, word in (("pos", "lovely"), ("neg", "dull")):
        lines = [f"A {word} film, no. {k}" for k in range(count)]
        lines[0] += " caf\xe9\x85 again"
        (folder / f"rt-polarity.{kind}").write_bytes("\n".join([*lines, "", ""]).encode("latin-1"))


def write_names(folder):
    for language, names in {
        "Greek": ["Pappas", "Kokinos", "Pappas", "Nomikos", "Garb"],
        "Czech": ["Šimon", "Vlach", "Horák", "Novák", "Black"],
    }.items():
        (folder / f"{language}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({}, ["It's", "GOOD,", "very-good", "(café)!"]),
        ({"lowercase": True}, ["it's", "good,", "very-good", "(café)!"]),
        (
            {"lowercase": True, "split_punctuation": True},
            ["it's", "good", ",", "very", "-", "good", "(", "café", ")", "!"],
        ),
        ({"level": "characters"}, list("It's  GOOD,\tvery-good (café)!")),
    ],
)
def test_a_text_is_cut_into_tokens(options, tokens):
    assert Tokenizer(**options)("It's  GOOD,\tvery-good (café)!") == tokens


@pytest.mark.slow
@given(st.text())
def test_no_visible_character_is_lost_and_characters_join_to_the_text(string):
    assert Tokenizer("characters").join(Tokenizer("characters")(string)) == string
    tokens = Tokenizer(split_punctuation=True)(string)
    assert "".join(tokens) == "".join(string.split())
    assert "".join(Tokenizer()(string)) == "".join(string.split())


def test_a_vocabulary_holds_the_frequent_tokens_in_the_same_order_each_time():
    counts = {"c": 2, "a": 2, "z": 5, "rare": 1, "<unk>": 9, "<pad>": 9}
    vocabulary = Vocabulary.from_counts(counts, min_count=2)
    assert vocabulary.tokens == ("<pad>", "<unk>", "z", "a", "c")
    assert vocabulary == Vocabulary.from_counts(dict(reversed(counts.items())), min_count=2)
    assert Vocabulary.from_counts(counts, max_size=4).tokens == ("<pad>", "<unk>", "z", "a")
    assert len(vocabulary) == 5
    with pytest.raises(AttributeError):
        vocabulary.tokens = ()


def test_unknown_tokens_are_1_and_padding_cannot_be_spelt():
    numbers = WORDS.encode(["good", "awful", "<pad>", "<unk>"])
    assert numbers.dtype == np.int32
    assert numbers.tolist() == [2, 1, 1, 1]


@given(st.lists(st.sampled_from(WORDS.tokens[2:])))
def test_decoding_is_the_inverse_of_encoding_known_tokens(tokens):
    assert WORDS.decode(WORDS.encode(tokens)) == tokens


def test_a_vocabulary_survives_saving(tmp_path):
    vocabulary = Vocabulary.from_counts({"\n": 1, "é": 1, '"': 1, "\u2028": 1})
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary


def test_texts_become_rows_filled_up_or_cut():
    encoder = TextEncoder(Tokenizer(), WORDS, 3)
    rows = encoder(["good film", "bad bad bad good", "film"])
    assert rows.dtype == np.int32
    assert rows.tolist() == [[2, 4, 0], [3, 3, 3], [4, 0, 0]]
    assert encoder.decode(rows[0]) == "good film"
    assert TextEncoder(Tokenizer(), WORDS)(["good film", "bad"]).shape == (2, 2)


def test_an_encoder_survives_saving(tmp_path):
    encoder = TextEncoder(Tokenizer("characters", lowercase=True), WORDS, 7)
    encoder.save(tmp_path / "text.json")
    assert TextEncoder.load(tmp_path / "text.json") == encoder


def test_the_length_is_that_of_the_percentile():
    texts = ["a " * n for n in range(1, 101)]
    assert text.learn_encoder(texts, Tokenizer(), percentile=95).length == 96
    assert text.learn_encoder(texts, Tokenizer()).length == 100


def test_polarity_sentences(tmp_path):
    write_polarity(tmp_path)
    data = text.polarity(tmp_path)
    assert data.class_names == ("negative", "positive")
    assert (len(data.train), len(data.test)) == (36, 4)
    for split in (data.train, data.test):
        assert split.labels.dtype == split.inputs.dtype == np.int32
        assert split.labels.mean() == 0.5
        for row, label in zip(split.inputs, split.labels, strict=True):
            assert ("lovely" if label else "dull") in data.encoder.decode(row).split()
    assert set(data.vocabulary.tokens[2:8]) == {"a", "film", ",", "no", ".", "dull"}
    assert len(text.polarity(tmp_path, min_count=1).vocabulary) > len(data.vocabulary)


def test_names_by_language_count_once_in_each(tmp_path):
    write_names(tmp_path)
    data = text.names(tmp_path, held_out=0.25)
    assert data.class_names == ("Czech", "Greek")
    assert (len(data.train), len(data.test)) == (7, 2)
    names = {data.encoder.decode(row) for row in data.train.inputs}
    assert len(names) == 7
    assert names < {"Pappas", "Kokinos", "Nomikos", "Garb", "Šimon", "Vlach", "Horák", "Novák",
                    "Black"}  # fmt: skip


def test_the_held_out_share_follows_the_seed_and_only_it(tmp_path):
    write_polarity(tmp_path)
    first, again, other = (text.polarity(tmp_path, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.test.inputs, again.test.inputs)
    assert first.vocabulary == again.vocabulary
    held, others = ({d.encoder.decode(row) for row in d.test.inputs} for d in (first, other))
    assert held != others


def test_the_vocabulary_is_that_of_the_training_texts(tmp_path):
    (tmp_path / "a.txt").write_text("x" * 90 + "y" * 10)
    data = text.characters(tmp_path / "a.txt", window=4)
    assert data.vocabulary.tokens == ("<pad>", "<unk>", "x")
    assert data.test.inputs.tolist() == [[1, 1, 1, 1]] * 2


def test_windows_of_a_text_predict_the_next_character(tmp_path):
    string = "".join(chr(97 + k % 26) for k in range(200))
    (tmp_path / "letters.txt").write_text(string)
    data = text.characters(tmp_path / "letters.txt", window=10)
    assert data.name == "letters"
    assert data.class_names == data.vocabulary.tokens
    assert data.train.inputs.shape == data.train.labels.shape == (17, 10)
    assert "".join(map(data.encoder.decode, data.train.inputs)) == string[:170]
    assert "".join(map(data.encoder.decode, data.train.labels)) == string[1:171]
    assert "".join(map(data.encoder.decode, data.test.inputs)) == string[180:190]


@given(st.integers(2, 200), st.integers(1, 9), st.integers(1, 5))
def test_streams_go_on_from_batch_to_batch(size, window, streams):
    stream = np.arange(size, dtype=np.int32)
    if (size - 1) // streams < window:
        with pytest.raises(ValueError, match="stream: expected a text longer than"):
            text.windows(stream, window, streams=streams)
        return
    split = text.windows(stream, window, streams=streams)
    np.testing.assert_array_equal(split.labels, split.inputs + 1)
    batches = split.inputs.reshape(-1, streams, window)
    parts = batches.swapaxes(0, 1).reshape(streams, -1)
    np.testing.assert_array_equal(np.diff(parts, axis=1), 1)
    assert np.unique(split.inputs).size == split.inputs.size
    assert (size - 1) // streams - parts.shape[1] < window  # no whole window is lost


def test_a_text_data_set_refuses_numbers_beyond_its_vocabulary():
    encoder = TextEncoder(Tokenizer(), WORDS, 2)
    labels = np.zeros(1, np.int32)
    good = Split(np.array([[2, 4]], np.int32), labels)
    assert TextDataset("t", good, good, encoder=encoder).vocabulary == WORDS
    bad = Split(np.array([[2, 5]], np.int32), labels)
    with pytest.raises(ValueError, match=r"test inputs: expected numbers in \[0, 4\], got 2 to 5"):
        TextDataset("t", good, bad, encoder=encoder)
    floats = Split(np.ones((1, 2), np.float32), labels)
    with pytest.raises(ValueError, match="train inputs: expected numbers of tokens, got float32"):
        TextDataset("t", floats, floats, encoder=encoder)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Tokenizer("bytes"), "level: expected 'words' or 'characters', got bytes"),
        (lambda: Tokenizer()(b"bytes"), "text: expected a string, got b'bytes'"),
        (lambda: Vocabulary(("a", "b")), "tokens: expected .*'<pad>', '<unk>'.* first, got"),
        (lambda: Vocabulary(["<pad>", "<unk>"]), "tokens: expected a tuple of strings, got list"),
        (lambda: Vocabulary(("<pad>", "<unk>", "a", "a")), "each token once, got 'a' twice"),
        (lambda: Vocabulary.from_counts({}, min_count=0), "min_count: expected a positive integer"),
        (lambda: Vocabulary.from_counts({}, max_size=2), "max_size: expected at least 3"),
        (lambda: WORDS.decode([5]), r"numbers: expected numbers in \[0, 4\], got 5 to 5"),
        (lambda: WORDS.decode([-1]), "numbers: expected numbers in"),
        (lambda: WORDS.decode([0.5]), r"numbers: expected integers \[n\], got float64\[1\]"),
        (lambda: TextEncoder(Tokenizer(), WORDS, 0), "length: expected a positive integer, got 0"),
        (lambda: TextEncoder(Tokenizer(), WORDS)([]), "texts: expected a sequence of at least one"),
        (lambda: TextEncoder(Tokenizer(), WORDS)("good"), "texts: expected a sequence of at least"),
        (lambda: TextEncoder(Tokenizer(), WORDS)(["a", " "]), "at least one token, got ' '"),
        (lambda: text.learn_encoder([" "], Tokenizer()), "texts: expected at least one text with"),
        (
            lambda: text.learn_encoder(["a"], Tokenizer(), percentile=0),
            r"percentile: expected a number in \(0, 100\], got 0",
        ),
        (lambda: text.windows(np.arange(5), 5), "stream: expected a text longer than 1 windows of"),
        (lambda: text.windows(np.arange(5), 0), "window: expected a positive integer, got 0"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bad_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="path: expected a readable text file, got .*rt-polarity"):
        text.polarity(tmp_path)
    with pytest.raises(ValueError, match="folder: expected a folder with at least two files"):
        text.names(tmp_path)
    write_names(tmp_path)
    (tmp_path / "Arabic.txt").write_text(" \n\n")
    with pytest.raises(
        ValueError, match=r"a text file that is not empty, got .*Arabic.txt, which has"
    ):
        text.names(tmp_path)
    (tmp_path / "Arabic.txt").write_text("Khoury\n")
    with pytest.raises(ValueError, match=r"at least two texts of each class \(Arabic .*got 1"):
        text.names(tmp_path)
    (tmp_path / "Arabic.txt").write_bytes(b"Khoury\nNahas\nB\xe9jar\n")
    with pytest.raises(ValueError, match=r"text in utf-8, got .*Arabic.txt, line 3: byte 0xe9"):
        text.names(tmp_path)
    with pytest.raises(ValueError, match="held_out: expected a fraction between 0 and 1, got 1"):
        text.characters(tmp_path / "Greek.txt", held_out=1)
    with pytest.raises(ValueError, match="stream: expected a text longer than"):
        text.characters(tmp_path / "Greek.txt", window=128)


def test_files_that_are_no_vocabulary_are_refused(tmp_path):
    path = tmp_path / "vocabulary.json"
    for content in ("no json", "3", '["a"]', '["<pad>", "<unk>", 3]', "[[]]"):
        path.write_text(content)
        with pytest.raises(ValueError, match="path: expected a vocabulary file, got .*vocabulary"):
            Vocabulary.load(path)
    with pytest.raises(ValueError, match="path: expected a vocabulary file, got .*No such file"):
        Vocabulary.load(tmp_path / "none.json")
    path.write_text(json.dumps({"tokenizer": {"case": "upper"}, "vocabulary": {"tokens": []}}))
    with pytest.raises(ValueError, match="path: expected a file written by TextEncoder.save"):
        TextEncoder.load(path)


@pytest.mark.parametrize("place", [".", "rt-polarity"])
def test_load_finds_polarity_below_the_folder(tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    write_polarity(tmp_path / place)
    data = load("rt-polarity", data_dir=tmp_path, test_fraction=0.25, seed=3)
    assert isinstance(data, TextDataset)
    expected = text.polarity(tmp_path / place, held_out=0.25, seed=3)
    np.testing.assert_array_equal(data.test.inputs, expected.test.inputs)
    assert len(data.test) == 10
    assert data.origin == f"files in {tmp_path / place}"


def test_load_finds_texts_in_the_folder_that_the_environment_names(tmp_path, monkeypatch):
    (tmp_path / "names").mkdir()
    write_names(tmp_path / "names")
    monkeypatch.setenv("JAXNETS_DATA", str(tmp_path))
    assert load("names").class_names == ("Czech", "Greek")


def test_load_takes_a_text_file_itself(tmp_path):
    (tmp_path / "input.txt").write_text("all the world's a stage " * 40)
    by_file, by_folder = (load("text", data_dir=d) for d in (tmp_path / "input.txt", tmp_path))
    np.testing.assert_array_equal(by_file.train.inputs, by_folder.train.inputs)
    assert by_file.train.inputs.shape[1] == 64


def test_reviews_come_through_the_same_tokenizer(monkeypatch, tmp_path):
    found = {
        "train": (["A fine film!"] * 6 + ["A dull film!"] * 6, np.repeat([1, 0], 6)),
        "test": (["fine", "never seen"], np.array([1, 0])),
    }

    def texts(name, split, root):
        assert (name, root) == ("imdb_reviews", tmp_path)
        return found[split]

    monkeypatch.setattr("jaxnets.data.from_tfds.texts", texts)
    data = load("imdb_reviews", data_dir=tmp_path)
    assert data.encoder.decode(data.train.inputs[0]) == "a fine film !"
    assert data.test.inputs[1].tolist() == [1, 1, 0, 0]
    assert data.class_names == ("negative", "positive")


def test_load_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXNETS_DATA", raising=False)
    with pytest.raises(ValueError, match=r"rt-polarity.neg in .*, got 'rt-polarity' without such"):
        load("rt-polarity", data_dir=tmp_path)
    with pytest.raises(ValueError, match=r"Language.txt for each class with data_dir or JAXNETS_D"):
        load("names")
    with pytest.raises(ValueError, match="data_dir: expected an existing folder or file"):
        load("text", data_dir=tmp_path / "none")
    with pytest.raises(ValueError, match=r"train: expected None, as text is a data set of texts"):
        load("text", data_dir=tmp_path, train="train[:50%]")


def test_the_pages_python_runs(tmp_path, monkeypatch):
    page = (Path(__file__).parent.parent / "docs" / "text.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 2
    (tmp_path / "data").mkdir()
    write_polarity(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["encoder"](["A good film!", "Good"]).tolist() == [[1, 2, 3, 1], [2, 0, 0, 0]]
    assert len(names["data"].test) == 2


def test_a_number_of_64_bits_does_not_wrap_in_a_row():
    with pytest.raises(
        ValueError, match="rows: expected numbers that fit into int32, got 4294967298"
    ):
        pad([np.array([1, 2**32 + 2])])
