"""IDX files are read as they were written, and what is not one is refused."""

import contextlib
import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kahlervae.data.idx import read_idx, size_limit
from kahlervae.errors import InputError

SHAPE = (5, 3, 4)
VALUES = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def idx(values=VALUES, kind=8):
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, kind, values.ndim]) + sizes + values.tobytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("values", [VALUES, VALUES[:, 0, 0]], ids=["images", "labels"])
def test_values_come_back(tmp_path, pack, values):
    path = tmp_path / "file"
    path.write_bytes(pack(idx(values)))
    np.testing.assert_array_equal(read_idx(path, values.shape), values)


HEADER = bytes([0, 0, 8, 3])
ZIPPED = gzip.compress(idx())
WRONG = {
    "empty": (b"", "does not start with two zero bytes"),
    "short header": (b"\0\0\x08", "does not start with two zero bytes"),
    "text": (b"<html>404</html>", "does not start with two zero bytes"),
    "other type": (idx(kind=13), "IDX type 0x0d, but only unsigned bytes"),
    "other shape": (idx(VALUES[:4]), r"shape \(4, 3, 4\), not of \(5, 3, 4\)"),
    "other rank": (idx(VALUES[0]), r"shape \(3, 4\), not of \(5, 3, 4\)"),
    "cut sizes": (HEADER + b"\0\0\0\x05\0", r"shape \(5,\), not of"),
    "huge claim": (HEADER + b"\xff" * 12, r"4294967295\), not of"),
    "255 dimensions": (bytes([0, 0, 8, 255]) + bytes(1020), "not of"),
    "truncated": (idx()[:-1], "ends after 59 of 60 values: it is truncated"),
    "too long": (idx() + b"\0", "goes on after the values"),
    "gzip header only": (ZIPPED[:10], "cannot be read"),
    "gzip cut": (ZIPPED[:-12], "cannot be read|truncated"),
    "gzip checksum": (ZIPPED[:-8] + bytes(8), "cannot be read .*CRC"),
    "gzip body": (ZIPPED[:10] + b"\xff" * 40, "cannot be read"),
    "gzip of another file": (gzip.compress(b"a,b\n1,2\n"), "does not start with two zero bytes"),
    "gzip too long": (gzip.compress(idx() + b"\0"), "goes on after the values"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_files_are_refused(tmp_path, name):
    content, message = WRONG[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        read_idx(path, SHAPE)
    assert str(path) in str(refusal.value)


def test_a_bomb_is_not_unpacked(tmp_path):
    """200 MB of zeros behind a sound header, in 200 kB."""
    path = tmp_path / "bomb.gz"
    shape = (2000, 28, 28)
    with gzip.open(path, "wb") as file:
        file.write(bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape))
        for _ in range(200):
            file.write(bytes(10**6))
    tracemalloc.start()
    with pytest.raises(InputError, match="goes on after"):
        read_idx(path, shape)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 2000 * 28 * 28


def test_a_file_that_is_too_large_is_not_opened(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, size_limit(SHAPE) + 1)
    with pytest.raises(InputError, match="more than an IDX file of shape"):
        read_idx(path, SHAPE)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        read_idx(tmp_path / "missing", SHAPE)
    with pytest.raises(InputError, match="is not a file"):
        read_idx(tmp_path, SHAPE)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a file"):
        read_idx(tmp_path / "pipe", SHAPE)


@pytest.mark.parametrize("count", [1, 10**6])
def test_nothing_is_larger_than_the_limit(count):
    values = np.random.default_rng(0).integers(0, 256, count, dtype=np.uint8)
    assert len(gzip.compress(idx(values), compresslevel=1)) <= size_limit((count,))


@settings(max_examples=300, deadline=None)
@given(
    zipped=st.booleans(),
    position=st.integers(0, 200),
    noise=st.binary(max_size=20),
    cut=st.integers(0, 20),
)
def test_a_damaged_file_is_read_whole_or_refused(tmp_path_factory, zipped, position, noise, cut):
    content = ZIPPED if zipped else idx()
    damaged = content[:position] + noise + content[position + cut :]
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(damaged)
    with contextlib.suppress(InputError):
        assert read_idx(path, SHAPE).shape == SHAPE
