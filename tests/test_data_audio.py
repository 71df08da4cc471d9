"""Recordings: WAV files, folders of them, error messages, and commands."""

import struct

import numpy as np
import pytest
from scipy.io import wavfile

from jaxnets.arrays import InputError
from jaxnets.data import AudioDataset, AudioFormat, Dataset, Split, load, read_wav, write_wav
from jaxnets.data.audio.wav import read_header
from tests.recordings import tone, write_digits

SOUND = 0.5 * np.sin(np.arange(800) / 7)


def chunk(kind, content):
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def riff(*chunks):
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def form(code=1, channels=1, rate=8000, bits=16, width=None):
    width = channels * bits // 8 if width is None else width
    return chunk(b"fmt ", struct.pack("<HHIIHH", code, channels, rate, rate * width, width, bits))


@pytest.mark.parametrize(
    ("stored", "step"),
    [
        (np.rint(128 + 127 * SOUND).astype(np.uint8), 2 / 127),
        (np.rint(2**15 * SOUND).astype(np.int16), 1e-4),
        (np.rint(2**31 * SOUND).astype(np.int32), 1e-7),
        (SOUND.astype(np.float32), 1e-7),
        (SOUND, 1e-7),
    ],
    ids=["8", "16", "32", "float32", "float64"],
)
def test_samples_of_every_format_are_numbers_from_minus_1_to_1(tmp_path, stored, step):
    wavfile.write(tmp_path / "a.wav", 8000, stored)
    samples, rate = read_wav(tmp_path / "a.wav")
    assert rate == 8000
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, SOUND, atol=step)


def test_24_bits_several_channels_and_unknown_chunks(tmp_path):
    values = np.array([0, 1, -1, 2**23 - 1, -(2**23), 255], np.int32)
    packed = b"".join(int(v).to_bytes(3, "little", signed=True) for v in values)
    path = tmp_path / "a.wav"
    path.write_bytes(
        riff(chunk(b"LIST", b"odd"), form(channels=2, bits=24), chunk(b"data", packed))
    )
    np.testing.assert_allclose(read_wav(path)[0], values.reshape(3, 2).mean(1) / 2**23)
    extensible = struct.pack("<HHIIHHHHIH14x", 0xFFFE, 1, 8000, 24000, 3, 24, 22, 24, 4, 1)
    path.write_bytes(riff(chunk(b"fmt ", extensible), chunk(b"data", packed)))
    np.testing.assert_allclose(read_wav(path)[0], values / 2**23)


def test_what_is_written_is_read_again_by_others_too(tmp_path):
    write_wav(tmp_path / "a.wav", SOUND, 16000)
    assert read_wav(tmp_path / "a.wav")[1] == 16000
    rate, values = wavfile.read(tmp_path / "a.wav")
    assert rate == 16000
    np.testing.assert_array_equal(values, np.rint(SOUND * 2**15))
    with pytest.raises(InputError, match=r"samples: expected floats \[samples\], got"):
        write_wav(tmp_path / "a.wav", np.zeros((2, 3)), 8000)


def test_another_sample_rate_is_converted(tmp_path):
    write_wav(tmp_path / "a.wav", tone(440, 0.5, 16000), 16000)
    samples, rate = read_wav(tmp_path / "a.wav", sample_rate=8000)
    assert (len(samples), rate) == (4000, 8000)
    np.testing.assert_allclose(samples[100:-100], tone(440, 0.5, 8000)[100:-100], atol=2e-3)


DAMAGED = {
    "empty": (b"", "expected a WAV file, which begins with RIFF and WAVE, got an empty file"),
    "other": (b"OggS" * 9, r"got a file that begins with b'OggS'"),
    "short": (riff(form(), chunk(b"data", b"\0" * 8))[:-4], "expected 8 bytes of samples, got 4"),
    "no samples": (riff(form(), chunk(b"data", b"")), "got 0 bytes"),
    "half a sample": (riff(form(), chunk(b"data", b"\0\0\0")), "whole samples of 2 bytes"),
    "no data": (riff(form()), "a chunk 'data', got none: it is cut short or damaged"),
    "no format": (riff(chunk(b"data", b"\0\0")), "expected a chunk 'fmt ' before the samples"),
    "a short format": (riff(chunk(b"fmt ", b"\0" * 8)), "a chunk 'fmt ' of 16 bytes, got 8"),
    "cut in a chunk": (riff(form())[:-6], "got a file that ends within its chunk 'fmt '"),
    "mp3 inside": (riff(form(85, bits=0)), "samples of 8, 16, 24 or 32 bits, .* got format 85"),
    "12 bits": (riff(form(bits=12)), "got format 1 of 12 bits"),
    "no channels": (riff(form(channels=0)), "a header whose numbers agree, got 0 channels"),
    "a wrong width": (riff(form(width=3)), "got 1 channels, 3 bytes a sample, 8000 Hz"),
    "infinite": (
        riff(form(3, bits=32), chunk(b"data", struct.pack("<f", np.inf))),
        "expected samples that are finite, got NaN or infinity",
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_sentence_that_names_it(tmp_path, name):
    content, message = DAMAGED[name]
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"bad.wav: .*{message}"):
        read_wav(path)


def test_no_file_at_all(tmp_path):
    with pytest.raises(InputError, match=r"none.wav: expected a readable WAV file, got no such"):
        read_header(tmp_path / "none.wav")
    with pytest.raises(InputError, match="expected a WAV file, got no regular file"):
        read_wav(tmp_path)


@pytest.mark.parametrize("inner", [".", "recordings"])
def test_spoken_digits_are_split_by_their_numbers(tmp_path, inner):
    write_digits(tmp_path / inner, digits=3, indices=7)
    (tmp_path / "README.md").write_text("digits")
    data = load(tmp_path)
    assert isinstance(data, AudioDataset)
    assert (len(data.train), len(data.test)) == (3 * 2, 3 * 5)
    assert data.class_names == ("0", "1", "2")
    assert data.audio == AudioFormat(8000, data.train.inputs.shape[1])
    assert set(data.train.labels[:4]) != {0}  # an order drawn from the seed
    assert f"{data.audio.seconds:g} s at 8,000 Hz" in repr(data)
    short = load(tmp_path, seconds=0.05)
    np.testing.assert_array_equal(short.train.inputs, data.train.inputs[:, :400])
    padded = load(tmp_path, seconds=2)
    assert padded.train.inputs.shape == (6, 16000)
    assert not padded.train.inputs[:, 8000:].any()


def test_fsdd_by_its_name_and_what_is_wanted_where_it_is_not(tmp_path, monkeypatch):
    write_digits(tmp_path / "free-spoken-digit-dataset" / "recordings", digits=10, indices=6)
    assert load("fsdd", data_dir=tmp_path).name == "fsdd"
    monkeypatch.setenv("JAXNETS_DATA", str(tmp_path))
    assert len(load("FSDD").test) == 50
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "other").write_text("")
    with pytest.raises(InputError, match=r"expected the WAV files .*Jakobovski/free-spoken-digit"):
        load("fsdd", data_dir=tmp_path / "empty")
    np.savez(tmp_path / "fsdd.npz", x=np.zeros((9, 4)), y=np.arange(9) % 2)
    with pytest.raises(InputError, match="fsdd, which is a set of recordings, got other data"):
        load("fsdd", data_dir=tmp_path / "fsdd.npz")


def test_a_subfolder_for_each_class(tmp_path):
    for split, count in (("train", 4), ("test", 2)):
        for name in ("no", "yes"):
            (tmp_path / split / name / "deep").mkdir(parents=True)
            for number in range(count):
                write_wav(tmp_path / split / name / "deep" / f"{number}.WAV", SOUND, 8000)
    data = load(tmp_path, lengths=True, seconds=0.2)
    assert data.class_names == ("no", "yes")
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.train.inputs["lengths"].tolist() == [800] * 8
    assert data.train.inputs["sound"].shape == (8, 1600)
    one = load(tmp_path / "train")
    assert (len(one.train), len(one.test)) == (6, 2)
    (tmp_path / "test" / "maybe").mkdir()
    write_wav(tmp_path / "test" / "maybe" / "a.wav", SOUND, 8000)
    with pytest.raises(InputError, match="training recordings, which are no, yes, got maybe"):
        load(tmp_path)


def test_several_sample_rates_are_refused_or_converted(tmp_path):
    write_digits(tmp_path, digits=2, indices=6)
    write_wav(tmp_path / "1_zoe_9.wav", tone(300, 0.1, 16000), 16000)
    with pytest.raises(InputError, match=r"1_zoe_9.wav: expected 8000 Hz, as .*sample_rate= conv"):
        load(tmp_path)
    data = load(tmp_path, sample_rate=4000)
    assert data.audio.sample_rate == 4000
    assert 560 <= data.audio.samples < 600


def test_streamed_recordings_are_the_same(tmp_path):
    write_digits(tmp_path, digits=2, indices=7)
    data, streamed = load(tmp_path), load(tmp_path, streaming=True)
    inputs, labels = streamed.train.gather(np.arange(4))
    np.testing.assert_array_equal(inputs, data.train.inputs)
    np.testing.assert_array_equal(labels, data.train.labels)


def test_recordings_are_joined_to_sequences(tmp_path):
    write_digits(tmp_path, digits=3, indices=8)
    single = load(tmp_path, lengths=True)
    data, again, other = (load(tmp_path, lengths=True, join=3, seed=s) for s in (0, 0, 1))
    inputs, labels = data.train.inputs, data.train.labels
    assert labels.shape == (9, 3)
    np.testing.assert_array_equal(labels, again.train.labels)
    assert not np.array_equal(labels, other.train.labels)
    counts = (labels >= 0).sum(1)
    assert set(counts) == {1, 2, 3}
    assert inputs["lengths"].max() <= data.audio.samples == inputs["sound"].shape[1]
    first = next(k for k in range(9) if counts[k] > 1)
    length = single.train.inputs["lengths"][first]
    np.testing.assert_array_equal(
        inputs["sound"][first, :length], single.train.inputs["sound"][first, :length]
    )
    assert inputs["sound"][first, length : inputs["lengths"][first]].any()
    assert not inputs["sound"][first, inputs["lengths"][first] :].any()
    assert labels[first, 0] == single.train.labels[first]


def test_options_of_recordings_are_for_recordings(tmp_path):
    with pytest.raises(InputError, match=r"seconds: expected the default, as linear .* no folder"):
        load("linear", seconds=1.0)
    with pytest.raises(InputError, match="seconds: expected a finite number > 0"):
        load("linear", seconds=0)
    with pytest.raises(InputError, match="join: expected"):
        load("linear", join=0)
    with pytest.raises(InputError, match="sample_rate: expected a positive integer"):
        load("linear", sample_rate=0.5)
    split = Split(np.zeros((2, 8), np.float32), np.arange(2))
    with pytest.raises(InputError, match="audio: expected the format of inputs"):
        AudioDataset("a", split, audio=AudioFormat(8000, 9))
    with pytest.raises(InputError, match="audio: expected an AudioFormat, got 3"):
        AudioDataset("a", split, audio=3)
    assert Dataset("a", split).num_classes == 2
