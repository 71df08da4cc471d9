import io
import json
import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import EpsImagePlugin, Image

from jaxnets.data import connection, files, from_tfds, load, loading, tfrecords

SIZE = (4, 5)


def picture(number: int, size: tuple[int, int] = SIZE) -> io.BytesIO:
    content = io.BytesIO()
    Image.fromarray(np.full((*size, 3), number, np.uint8)).save(content, "PNG")
    content.seek(0)
    return content


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """Pictures whose pixels all equal their number, labeled even or odd, in two shards."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 30), "test": self._generate_examples(30, 10)}

    def _generate_examples(self, first, count):
        for number in range(first, first + count):
            yield number, {"image": picture(number), "label": number % 2}


class TinySentences(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "text": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["neg", "pos"]),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("text", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(4):
            yield number, {"text": f"sentence {number} ü", "label": number % 2}


class TinyUnlabelled(TinySentences):
    def _info(self):
        features = {"a": tfds.features.Text(), "b": tfds.features.Text()}
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _generate_examples(self):
        yield 0, {"a": "x", "b": "y"}


class TinyMixture(TinyPictures):
    """Pictures of two sizes, and no test split."""

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 4)}

    def _generate_examples(self, first, count):
        for number in range(first, first + count):
            yield number, {"image": picture(number, (4 + number % 2, 5)), "label": 0}


class TinyPostScript(TinyPictures):
    """Files of another format, which Pillow would pass to Ghostscript."""

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 2), "test": self._generate_examples(0, 1)}

    def _generate_examples(self, first, count):
        head = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\n%%EndComments\nshowpage\n"
        for number in range(first, first + count):
            yield number, {"image": io.BytesIO(head), "label": 0}


class TinyConfigs(TinyPictures):
    BUILDER_CONFIGS = tuple(
        tfds.core.BuilderConfig(name=name, version="1.0.0") for name in ("a", "b")
    )


class TinyWide(TinyPictures):
    """Labels that do not fit into 32 bits."""

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.Scalar(np.int64),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 2)}

    def _generate_examples(self, first, count):
        for number in range(first, first + count):
            yield number, {"image": picture(number), "label": 2**32 + 1}


def prepare(builder, folder, **options):
    builder(data_dir=folder, file_format="array_record", **options).download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder of sets that TFDS has prepared, without TensorFlow."""
    folder = tmp_path_factory.mktemp("tfds")
    kinds = TinyPictures, TinySentences, TinyUnlabelled, TinyMixture, TinyPostScript, TinyWide
    for builder in kinds:
        prepare(builder, folder)
    for config in ("a", "b"):
        prepare(TinyConfigs, folder, config=config)
    assert "tensorflow" not in sys.modules
    return folder


@pytest.fixture(autouse=True)
def _no_other_places(monkeypatch, tmp_path):
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(connection, "fault", lambda url: "no network here")


def numbers(split):
    """The numbers of the pictures; checks that all pixels of a picture are equal."""
    first = split.inputs[:, :1, :1, :1]
    assert (split.inputs == first).all()
    return first.ravel().tolist()


def check_pictures(data):
    assert data.train.inputs.shape == (30, *SIZE, 3)
    assert data.train.inputs.dtype == np.uint8
    assert numbers(data.train) == list(range(30))
    assert numbers(data.test) == list(range(30, 40))
    assert data.train.labels.dtype == np.int32
    assert data.train.labels.tolist() == [number % 2 for number in range(30)]
    assert data.class_names == ("even", "odd")


def test_a_prepared_set_is_read(prepared, monkeypatch):
    data = load("tiny_pictures", data_dir=prepared)
    check_pictures(data)
    assert data.origin == f"TensorFlow Datasets, {prepared / 'tiny_pictures' / '1.0.0'}"
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    check_pictures(load("tiny_pictures"))
    check_pictures(load("tiny_pictures", source="tfds"))


@pytest.mark.parametrize("streaming", [False, True])
def test_an_image_of_another_format_is_not_decoded(prepared, monkeypatch, streaming):
    def refuse(*arguments, **options):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", refuse)
    with pytest.raises(ValueError, match="image: expected a readable image, got a file of another"):
        load("tiny_post_script", data_dir=prepared, streaming=streaming).train.gather([0])


def test_ranges_of_a_prepared_set(prepared):
    data = load("tiny_pictures", data_dir=prepared, train="train[:50%]", test="train[-3:]+test[:2]")
    assert numbers(data.train) == list(range(15))
    assert numbers(data.test) == [27, 28, 29, 30, 31]
    with pytest.raises(ValueError, match="train: expected a split of train, test, got 'valid'"):
        load("tiny_pictures", data_dir=prepared, train="valid")


@pytest.mark.slow
def test_reading_needs_no_tensorflow(prepared):
    code = f"""
import sys
from jaxnets.data import load
load("tiny_pictures", data_dir={str(prepared)!r})
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_files_of_ones_own_come_first(prepared, tmp_path):
    np.savez(tmp_path / "tiny_pictures.npz", x=np.zeros((5, 2)), y=np.zeros(5, np.int32))
    assert "npz" in load("tiny_pictures", data_dir=tmp_path).origin
    shutil.copytree(prepared / "tiny_pictures", tmp_path / "tiny_pictures")
    assert "npz" in load("tiny_pictures", data_dir=tmp_path).origin
    check_pictures(load("tiny_pictures", data_dir=tmp_path, source="tfds"))


# TFRecord files, in which TFDS prepares by default


@pytest.fixture
def tfrecord(prepared, tmp_path):
    """The same set in TFRecord files of several shards."""
    builder = tfds.builder_from_directory(prepared / "tiny_pictures" / "1.0.0")
    folder = tmp_path / "tiny_pictures" / "1.0.0"
    shutil.copytree(builder.data_path, folder, ignore=shutil.ignore_patterns("*.array_record*"))
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        rows = builder.as_data_source(
            split["name"], deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        shards = np.array_split(np.arange(len(rows)), 3)
        split["shardLengths"] = [str(len(shard)) for shard in shards]
        for number, shard in enumerate(shards):
            name = f"tiny_pictures-{split['name']}.tfrecord-{number:05}-of-00003"
            (folder / name).write_bytes(b"".join(frame(rows[int(row)]) for row in shard))
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return tmp_path


def frame(content: bytes) -> bytes:
    return struct.pack("<QI", len(content), 0) + content + bytes(4)


def test_tfrecord_files_are_read_without_tensorflow(tfrecord):
    check_pictures(load("tiny_pictures", data_dir=tfrecord))
    part = load("tiny_pictures", data_dir=tfrecord, train="train[8:22]", test="test[3:4]")
    assert numbers(part.train) == list(range(8, 22))
    assert numbers(part.test) == [33]
    assert "tensorflow" not in sys.modules


def test_tfrecord_files_are_not_streamed(tfrecord):
    message = "streaming: expected a set prepared with file_format='array_record', .* as a whole"
    with pytest.raises(ValueError, match=message):
        load("tiny_pictures", data_dir=tfrecord, streaming=True)


def test_a_cut_tfrecord_file_is_named(tfrecord):
    (path,) = tfrecord.rglob("*train.tfrecord-00001*")
    path.write_bytes(path.read_bytes()[:-30])
    message = r"train.tfrecord-00001-of-00003: expected whole records .* within record 9 .truncated"
    with pytest.raises(ValueError, match=message):
        load("tiny_pictures", data_dir=tfrecord)


def test_a_damaged_record_is_named(tfrecord):
    (path,) = tfrecord.rglob("*train.tfrecord-00001*")
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack_from("<Q", content)
    content[12 + length + 4 + 12] = 0xFF  # the first byte of the second record's content
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"train.tfrecord-00001-of-00003, record 1: expected an exa"
    ):
        load("tiny_pictures", data_dir=tfrecord)


@pytest.fixture
def copied(prepared, tmp_path):
    shutil.copytree(prepared / "tiny_pictures", tmp_path / "tiny_pictures")
    return tmp_path


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda content: content[:-400], "Corrupted"),
        (lambda content: b"", "at least 64KB"),
        (lambda content: content[:3000] + bytes(200) + content[3200:], "Corrupted"),
    ],
)
def test_a_damaged_array_record_file_is_named(copied, damage, found):
    (path,) = copied.rglob("*train.array_record*")
    path.write_bytes(damage(path.read_bytes()))
    message = rf"1\.0\.0: expected undamaged files of the split train\[0:30\], got .*{found}"
    with pytest.raises(ValueError, match=message):
        load("tiny_pictures", data_dir=copied)


def test_a_damaged_description_is_named(copied):
    (path,) = copied.rglob("dataset_info.json")
    path.write_text("{")
    with pytest.raises(
        ValueError, match=r"dataset_info\.json: expected a data set description of TFDS"
    ):
        load("tiny_pictures", data_dir=copied)


def test_a_set_half_prepared_is_not_taken(copied):
    folder = copied / "tiny_pictures" / "1.0.0"
    folder.rename(folder.with_name("incomplete.QUUX_1.0.0"))
    assert from_tfds.find("tiny_pictures", copied) is None
    assert from_tfds.prepared(copied) == []


@pytest.mark.parametrize("cut", [1, 4, 11, 12, 14, 18])
def test_a_record_cut_anywhere_is_refused(tmp_path, cut):
    path = tmp_path / "records"
    path.write_bytes(frame(b"one") + frame(b"two"))
    assert list(tfrecords.read(path)) == [b"one", b"two"]
    path.write_bytes(frame(b"one") + frame(b"two")[:cut])
    with pytest.raises(ValueError, match="records: expected whole records .* within record 1"):
        list(tfrecords.read(path))
    path.write_bytes(struct.pack("<QI", 2**62, 0) + bytes(20))
    with pytest.raises(ValueError, match="within record 0"):
        list(tfrecords.read(path))


def test_files_that_tfds_cannot_read_alone_are_refused(tfrecord):
    (path,) = tfrecord.rglob("dataset_info.json")
    path.write_text(path.read_text().replace('"tfrecord"', '"riegeli"'))
    message = "expected a set prepared with file_format='array_record' in .*, got riegeli"
    with pytest.raises(ValueError, match=message):
        load("tiny_pictures", data_dir=tfrecord)


# Sets that do not fit


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny_unlabelled", "expected a data set of inputs and labels, not of a, b"),
        ("tiny_sentences", "expected a set of images or numbers; jaxnets.data.from_tfds.texts"),
        (
            "tiny_mixture",
            r"examples of one shape in tiny_mixture's split train, got \[4, 5, 3\] and",
        ),
        ("tiny_configs", "expected one of tiny_configs/a, tiny_configs/b, got 'tiny_configs'"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(prepared, name, message):
    with pytest.raises(ValueError, match=f"name: .*{message}"):
        load(name, data_dir=prepared)


@pytest.mark.parametrize("streaming", [False, True])
def test_labels_that_would_wrap_are_refused(prepared, streaming):
    message = "labels of .*train.*: expected numbers that fit into int32, got 4294967297"
    with pytest.raises(ValueError, match=message):
        load("tiny_wide", data_dir=prepared, test="train", streaming=streaming)


def test_a_configuration_is_named_behind_a_slash(prepared):
    data = load("tiny_configs/b", data_dir=prepared)
    assert data.origin.endswith("tiny_configs/b/1.0.0")
    check_pictures(data)


def test_the_highest_version_is_taken(prepared, tmp_path):
    for version in ("1.0.0", "1.0.10", "1.0.9"):
        folder = tmp_path / "tiny_pictures" / version
        shutil.copytree(prepared / "tiny_pictures" / "1.0.0", folder)
    assert load("tiny_pictures", data_dir=tmp_path).origin.endswith("1.0.10")


def test_texts(prepared):
    texts, labels = from_tfds.texts("tiny_sentences", data_dir=prepared)
    assert texts == [f"sentence {number} ü" for number in range(4)]
    assert labels.tolist() == [0, 1, 0, 1]
    assert labels.dtype == np.int32
    assert from_tfds.texts("tiny_sentences", "train[1:2]", prepared)[0] == ["sentence 1 ü"]
    for name, split, message in [
        ("tiny_sentences", "test", "split: expected one of train, or a range, got 'test'"),
        ("tiny_pictures", "train", "name: expected a data set of texts, got 'tiny_pictures'"),
        ("imdb_reviews", "train", "name: expected a set prepared in .*imdb_reviews"),
    ]:
        with pytest.raises(ValueError, match=message):
            from_tfds.texts(name, split, prepared)


# Preparing


@pytest.mark.parametrize(
    ("name", "host"),
    [("cifar100", "www.cs.toronto.edu"), ("svhn_cropped", "ufldl.stanford.edu")],
)
def test_without_a_connection_one_sentence_says_what_to_do(name, host, tmp_path):
    with pytest.raises(ValueError, match="name: expected ") as caught:
        load(name, data_dir=tmp_path.parent)
    message = str(caught.value)
    assert re.search(rf"files .* in {tmp_path.parent}, a set prepared in", message)
    assert f"prepared in {tmp_path.parent / name}, " in message
    assert f"or a connection to {host} to download it" in message
    assert message.endswith("(no network here); use a connection, or copy the files")


def test_with_a_connection_tensorflow_is_asked_for(monkeypatch):
    monkeypatch.setattr(connection, "fault", lambda url: None)
    message = r"preparing cifar100 requires tensorflow, .*pip install -e '\.\[tensorflow\]'"
    with pytest.raises(ImportError, match=message):
        load("cifar100")


def test_with_connection_and_tensorflow_a_set_is_prepared(monkeypatch, tmp_path):
    monkeypatch.setattr(connection, "fault", lambda url: None)
    monkeypatch.setattr(
        from_tfds, "_require_tensorflow", lambda name: None
    )  # not needed for these pictures
    monkeypatch.setattr(
        tfds.core.DatasetInfo, "initialize_from_bucket", lambda info: None
    )  # which would use the network
    data = load("tiny_pictures", data_dir=tmp_path)
    check_pictures(data)
    assert data.origin == f"TensorFlow Datasets, {tmp_path / 'tiny_pictures' / '1.0.0'}"
    check_pictures(load("tiny_pictures", data_dir=tmp_path))


def test_finding_reads_no_example(prepared, monkeypatch):
    monkeypatch.setattr(from_tfds, "_examples", None)
    source = loading.find("tiny_pictures", data_dir=prepared)
    assert {name: part.length for name, part in source.parts.items()} == {"train": 30, "test": 10}
