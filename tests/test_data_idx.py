import contextlib
import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxnets.arrays import InputError
from jaxnets.data import idx, idx_folder
from tests.data_files import write_idx

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def same(ours, expected):
    assert ours.dtype == expected.dtype
    assert ours.shape == expected.shape
    assert ours.tobytes() == expected.tobytes()  # also NaN and -0.0


@pytest.mark.parametrize("dtype", idx.TYPES.values(), ids=str)
@given(data=st.data())
def test_encode_and_decode_are_inverse(dtype, data):
    array = data.draw(arrays.arrays(dtype, SHAPES))
    decoded = idx.decode(idx.encode(array))
    same(decoded, array)
    assert decoded.flags.writeable


@pytest.mark.parametrize(
    ("array", "code", "body"),
    [
        (np.array([1, 255], np.uint8), 0x08, b"\x01\xff"),
        (np.array([1, -1], np.int8), 0x09, b"\x01\xff"),
        (np.array([1, -2], np.int16), 0x0B, b"\x00\x01\xff\xfe"),
        (np.array([1, -2], np.int32), 0x0C, b"\x00\x00\x00\x01\xff\xff\xff\xfe"),
        (np.array([1.5, -2], np.float32), 0x0D, struct.pack(">2f", 1.5, -2)),
        (np.array([1.5, -2], np.float64), 0x0E, struct.pack(">2d", 1.5, -2)),
    ],
    ids=lambda value: str(getattr(value, "dtype", "")),
)
def test_bytes_are_those_of_the_format(array, code, body):
    data = bytes([0, 0, code, 1, 0, 0, 0, 2]) + body
    assert idx.encode(array) == data
    same(idx.decode(data), array)


def test_encode_takes_any_memory_order_and_byte_order():
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    assert idx.encode(np.asfortranarray(array)) == idx.encode(array)
    assert idx.encode(array.astype(">i2")) == idx.encode(array)
    assert idx.encode(array.astype("<i2")) == idx.encode(array)


@pytest.mark.parametrize("dtype", [np.uint16, np.int64, np.bool_, np.complex64, "U1", object])
def test_encode_refuses_other_element_types(dtype):
    with pytest.raises(ValueError, match="array: expected one of uint8, int8, int16, int32, float"):
        idx.encode(np.zeros(2, dtype))


GOOD = idx.encode(np.arange(6, dtype=np.int16).reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file: expected an IDX file, got an empty file"),
        (b"\x00", r"file: .* 1 bytes \(truncated\)"),
        (b"PK\x03\x04", "starts with two zero bytes, got the bytes 50 4b 03 04"),
        (b"\x00\x01\x08\x01", "starts with two zero bytes, got the bytes 00 01"),
        (b"\x00\x00\x0a\x01" + GOOD[4:], "element type out of 08, 09, 0b, 0c, 0d, 0e, got 0a"),
        (b"\x00\x00\x08\xff" + bytes(2000), "at most 64 axes, got 255"),
        (GOOD[:9], r"header of 12 bytes for 2 axes, got 9 bytes \(truncated\)"),
        (GOOD[:-1], r"24 bytes for int16\[2, 3\], got 23 bytes \(truncated\)"),
        (GOOD + b"\x00", r"24 bytes for int16\[2, 3\], got 25 bytes \(trailing bytes\)"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_read_refuses_a_damaged_file_and_names_it(tmp_path, data, message, compressed):
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(data) if compressed else data)
    with pytest.raises(ValueError, match=message) as caught:
        idx.read(path)
    assert str(path) in str(caught.value)


def test_read_tells_gzip_by_content_not_by_name(tmp_path):
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    for name, content in (("plain.gz", GOOD), ("packed", gzip.compress(GOOD))):
        (tmp_path / name).write_bytes(content)
        same(idx.read(tmp_path / name), array)
        same(idx.read(str(tmp_path / name)), array)


def corrupt(data, position):
    return data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :]


PACKED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    "content",
    [
        PACKED[:2],
        PACKED[:-3],  # its checksum is cut off
        PACKED[:15],
        corrupt(PACKED, 2),  # the method
        corrupt(PACKED, 12),  # the compressed stream
        corrupt(PACKED, len(PACKED) - 8),  # the checksum
        PACKED + b"more",
    ],
)
def test_read_refuses_damaged_gzip(tmp_path, content):
    path = tmp_path / "file.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.gz: expected an undamaged gzip file, got \w+"):
        idx.read(path)


def header(*shape):
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            GOOD + bytes(30_000_000),
            r"24 bytes for int16\[2, 3\], got more than 25 bytes \(trailing",
        ),
        (header(2**32 - 1, 2**32 - 1) + bytes(10), r"got \d+ bytes of gzip \(truncated\)"),
        (header(10_000) + bytes(9), r"10008 bytes for uint8\[10000\], got 17 bytes \(truncated\)"),
    ],
)
def test_no_more_is_unpacked_than_the_header_announces(tmp_path, content, message):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            idx.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_images_of_a_folder_are_not_unpacked_for_labels_that_do_not_fit(tmp_path, monkeypatch):
    folder = write_idx(tmp_path / "set", packed=True)
    for name, shape, message in [
        (
            "t10k-labels-idx1-ubyte.gz",
            (9,),
            "expected 10 labels, one for each image in t10k-images",
        ),
        (
            "train-labels-idx1-ubyte.gz",
            (20, 1),
            r"expected labels, uint8 \[N\], got uint8\[20, 1\]",
        ),
    ]:
        (folder / name).write_bytes(gzip.compress(header(*shape) + bytes(np.prod(shape))))
        with monkeypatch.context() as patched:
            patched.setattr(idx, "_elements", lambda data, header, name: pytest.fail(name))
            paths = folder / name.replace("labels-idx1", "images-idx3"), folder / name
            with pytest.raises(ValueError, match=message):
                idx_folder.read(*paths)


def test_read_of_a_missing_file_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        idx.read(tmp_path / "nowhere")


CODES = st.sampled_from([*idx.TYPES, 0, 7])


@given(tail=st.binary(max_size=40), code=CODES, axes=st.integers(0, 9))
def test_decode_of_anything_is_an_array_or_an_input_error(tail, code, axes):
    data = bytes([0, 0, code, axes]) + tail
    with contextlib.suppress(InputError):
        assert idx.encode(idx.decode(data)) == data


def test_decode_of_no_elements_along_huge_axes():
    data = bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1)
    with pytest.raises(ValueError, match="data: expected an array that NumPy can hold, got uint8"):
        idx.decode(data)
