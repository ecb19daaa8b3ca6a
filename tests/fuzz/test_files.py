"""Files damaged at random, in bulk: read, or refused in words; little memory, no other end."""

import gzip
import json
import pickle
import random
import resource
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save

from kahlervae import cli
from kahlervae.data import Form, load_split
from kahlervae.data.idx import read_idx
from kahlervae.errors import InputError
from kahlervae.evaluate.oracle import Oracle, load_oracle, save_oracle
from kahlervae.evaluate.score import load_samples
from kahlervae.geometry import MixturePotential
from kahlervae.models import build_model, load_model, save_model
from kahlervae.nn.optimiser import Adam
from kahlervae.storage import read_arrays, read_table, write_table, write_tensors
from kahlervae.train.checkpoint import Checkpoint
from kahlervae.train.potentials import load_potentials, save_potentials

IDENTITY = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 0}
EACH = 250
"""Damaged versions of each kind of file."""


def make_model() -> Any:
    torch.manual_seed(0)
    return build_model(IDENTITY, Form((4, 4)), "complex", 2, 3, 1)


def make_checkpoint(path: Path) -> tuple[Checkpoint, Any]:
    model = make_model()
    parameters = dict(model.named_parameters())
    optimiser = Adam(parameters.values())
    z = torch.randn(3, 2, dtype=torch.complex64)
    model.decoder(z).log_prob(torch.zeros(3, 16)).sum().backward()
    optimiser.step()
    return Checkpoint(path, parameters, optimiser, [torch.Generator()], {"a": 1}), model


def write_data(path: Path) -> None:
    parts = {f"{n}_samples": torch.rand(3, 4, 4) for n in ("oracle", "train", "validation", "test")}
    write_tensors(path, parts | {k.replace("samples", "labels"): torch.arange(3) for k in parts})


def write_potential(path: Path) -> None:
    stream = torch.Generator().manual_seed(0)
    posterior = MixturePotential.from_posterior(
        torch.randn(3, 2, dtype=torch.complex64), torch.rand(3, 2) + 0.1
    )
    potentials = {
        "fitted": MixturePotential.random(2, 2, 3, 1.0, stream),
        "posterior": posterior,
        "constant": MixturePotential.constant(torch.eye(2, dtype=torch.complex64)),
    }
    save_potentials(path, potentials, IDENTITY)


COUNTS = {"validation_count": 2, "count": 3}


def write_samples(path: Path) -> None:
    write_tensors(path, {"prior:default": torch.randn(5, 2, dtype=torch.complex64)}, IDENTITY)


def read_all_splits(path: Path) -> list[torch.Tensor]:
    splits = (load_split(path, name) for name in ("oracle", "train", "validation", "test"))
    return [tensor for split in splits for tensor in (split.samples, split.labels)]


def parameters(module: torch.nn.Module) -> list[torch.Tensor]:
    return list(module.parameters())


def restore(path: Path) -> list[torch.Tensor]:
    checkpoint, model = make_checkpoint(path)
    checkpoint.restore()
    return parameters(model)


# Kind of file: how it is written, and what its loader returns.
KINDS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], list[torch.Tensor]]]] = {
    "data": (write_data, read_all_splits),
    "model": (lambda p: save_model(p, make_model()), lambda p: parameters(load_model(p))),
    "potential": (
        write_potential,
        lambda p: [t for k in load_potentials(p, 2).values() for t in parameters(k)],
    ),
    "samples": (
        write_samples,
        lambda p: list(load_samples(p, make_model(), COUNTS)["test"].values()),
    ),
    "oracle": (
        lambda p: save_oracle(p, Oracle("mlp", (4, 4), 3, 0.5)),
        lambda p: parameters(load_oracle(p)),
    ),
    "checkpoint": (lambda p: make_checkpoint(p)[0].save([{"epoch": 1}]), restore),
}


class Payload:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.trace, "w")


def with_header(raw: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A safetensors file with its header changed."""
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + raw[8 + size :]


def retyped(raw: bytes, random: random.Random) -> bytes:
    """A header that lies about a tensor or the metadata."""

    def change(header: dict[str, Any]) -> None:
        name = random.choice([*header, "__metadata__"])
        tensors = [key for key in header if key != "__metadata__"]
        if name == "__metadata__":
            values = [
                "{}",
                "[]",
                "1",
                "{",
                '{"identity": 1}',
                "null",
                "[" * 5000,
                '{"a": [1]}',
                "\x00",
            ]
            inner = json.loads(header.get(name, {}).get("metadata", "{}"))
            for key in inner if isinstance(inner, dict) else ():
                junk = [
                    "",
                    "x",
                    "-1",
                    "1e9",
                    "nan",
                    "{}",
                    "[]",
                    str(10**12),
                    '{"depth": 1000000000}',
                ]
                for old, new in (
                    ("3", "100000"),
                    ("3", "-3"),
                    ("1", "1e3"),
                    ("2", '"2"'),
                    ("4", "[]"),
                ):
                    junk.append(inner[key].replace(old, new))
                values.append(json.dumps(inner | {key: random.choice(junk)}))
                values.append(json.dumps({k: v for k, v in inner.items() if k != key}))
            header[name] = {"metadata": random.choice(values)}
            return
        entry = header[name]
        match random.randrange(6):
            case 0:
                entry["dtype"] = random.choice(
                    ["F64", "I64", "U8", "BF16", "BOOL", "F8_E4M3", "X", 1]
                )
            case 1:
                entry["shape"] = random.choice(
                    [
                        [],
                        [-1],
                        [2**62],
                        [0],
                        entry["shape"][::-1],
                        [1, *entry["shape"]],
                        "a",
                        [10**30],
                    ]
                )
            case 2:
                entry["data_offsets"] = random.choice([[0, 2**63], [5, 1], [-1, 4], [0], None])
            case 3:
                del header[name]
            case 4:
                header[name + "x"] = header.pop(name)
            case 5:
                other = random.choice(tensors)
                header[name], header[other] = header[other], header[name]

    return with_header(raw, change)


def flipped(raw: bytes, random: random.Random) -> bytes:
    damaged = bytearray(raw)
    for _ in range(random.choice([1, 1, 3, 20])):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def damaged_header(raw: bytes, random: random.Random) -> bytes:
    """Bits flipped where they change the structure, not the values."""
    (size,) = struct.unpack("<Q", raw[:8]) if raw[1:2] != b"\x8b" else (4,)
    cut = min(8 + size, len(raw))
    return flipped(raw[:cut], random) + raw[cut:]


def not_finite(raw: bytes, random: random.Random) -> bytes:
    """Bytes of values that make NaN or infinities."""
    (size,) = struct.unpack("<Q", raw[:8])
    place = 8 + size + 4 * random.randrange((len(raw) - 8 - size) // 4)
    value = random.choice([float("nan"), float("inf"), 1e38])
    return raw[:place] + struct.pack("<f", value) + raw[place + 4 :]


DAMAGE: list[Callable[[bytes, random.Random], bytes]] = [
    flipped,
    damaged_header,
    retyped,
    retyped,
    not_finite,
    lambda raw, random: raw[: random.randrange(len(raw))],
    lambda raw, random: raw + random.randbytes(random.randrange(1, 100)),
    lambda raw, random: struct.pack("<Q", random.choice([2**63, 2**40, 0, 10**8])) + raw[8:],
    lambda raw, random: random.randbytes(random.randrange(300)),
]


@contextmanager
def bounded(megabytes: int, seconds: float) -> Iterator[None]:
    """Fail if the block takes much memory or time."""
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    yield
    assert time.process_time() - start < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1024 * megabytes


def outcome(load: Callable[[Path], Any], path: Path) -> Any:
    """What is read, or None where it is refused in one line that names the file."""
    try:
        return load(path)
    except InputError as error:
        refusal = str(error)
    assert str(path) in refusal
    assert "\n" not in refusal
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_tensors_are_refused_or_read(kind: str, tmp_path: Path) -> None:
    write, load = KINDS[kind]
    path = tmp_path / f"{kind}.safetensors"
    write(path)
    whole, generator = path.read_bytes(), random.Random(kind)
    assert load(path)
    refused = 0
    with bounded(megabytes=300, seconds=60):
        for number in range(EACH):
            path.write_bytes(DAMAGE[number % len(DAMAGE)](whole, generator))
            tensors = outcome(load, path)
            refused += tensors is None
            assert tensors is None or all(t.isfinite().all() for t in tensors)
            if kind != "checkpoint":  # its reader is that of the others
                outcome(read_arrays, path)
    assert refused > EACH / 2


def test_a_size_that_a_file_claims_is_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = make_model()
    for key, size in (("width", 10**5), ("depth", 10**9), ("form", {"shape": [10**5, 10**5]})):
        model.architecture = {**make_model().architecture, key: size}
        save_model(path, model)
        with bounded(megabytes=100, seconds=5), pytest.raises(InputError, match=r"model\.saf"):
            load_model(path)
    metadata = {"kind": "oracle", "architecture": "mlp", "shape": [10**5, 10**5]}
    metadata |= {"classes": 2, "accuracy": 1, "complex": "false"}
    write_tensors(path, {"a": torch.ones(1)}, metadata)
    with bounded(megabytes=100, seconds=5), pytest.raises(InputError, match=r"model\.saf"):
        load_oracle(path)


@pytest.mark.parametrize("packed", [False, True])
def test_damaged_idx_files_are_refused_or_read(packed: bool, tmp_path: Path) -> None:
    shape = (7, 5, 4)
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    whole = bytes([0, 0, 8, 3]) + struct.pack(">3I", *shape) + values.tobytes()
    raw = gzip.compress(whole, mtime=0) if packed else whole
    path, generator = tmp_path / "images", random.Random(0)
    path.write_bytes(raw)
    assert np.array_equal(read_idx(path, shape), values)
    header = 10 if packed else 16

    def lie(raw: bytes, random: random.Random) -> bytes:
        """Another type, number of dimensions or size, however large."""
        size = random.choice([0, 1, 6, 8, 2**31, 2**32 - 1])
        sizes = [*shape[: random.randrange(4)], size, *shape[1:]][: random.randrange(5)]
        start = bytes([0, 0, random.choice([8, 9, 0x0D, 255]), random.choice([len(sizes), 255])])
        text = start + struct.pack(f">{len(sizes)}I", *sizes) + values.tobytes()
        return gzip.compress(text, mtime=0) if packed else text

    damage = [
        flipped,
        lie,
        lambda raw, random: flipped(raw[:header], random) + raw[header:],
        lambda raw, random: raw[: random.randrange(len(raw))],
        lambda raw, random: raw + random.randbytes(random.randrange(1, 50)),
        lambda raw, random: random.randbytes(random.randrange(300)),
        lambda raw, random: b"\x1f\x8b" + random.randbytes(random.randrange(60)),
    ]
    refused = 0
    with bounded(megabytes=100, seconds=30):
        for number in range(700):
            path.write_bytes(damage[number % len(damage)](raw, generator))
            found = outcome(lambda path: read_idx(path, shape), path)
            refused += found is None
            assert found is None or (found.shape == shape and found.dtype == np.uint8)
    assert refused > 350


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """A gzip file of few bytes that unpacks to a gigabyte."""
    path = tmp_path / "images"
    block = gzip.compress(bytes(2**24), compresslevel=9, mtime=0)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(9)) + block * 64)
    with bounded(megabytes=50, seconds=5), pytest.raises(InputError, match=r"images "):
        read_idx(path, (9,))


TABLE = pd.DataFrame({"variant": ["a", "ä"], "seed": [0, 1], "mse": [0.5, 1e-3]})


def test_damaged_tables_are_refused_or_read(tmp_path: Path) -> None:
    path, generator = tmp_path / "t.csv", random.Random(0)
    write_table(path, TABLE)
    raw = path.read_bytes()
    damage = [
        flipped,
        lambda raw, random: raw[: random.randrange(len(raw))],
        lambda raw, random: raw.replace(b"0", random.choice([b",", b'"', b"\n", b"x", b"\x00"])),
        lambda raw, random: random.randbytes(random.randrange(100)),
    ]
    for number in range(200):
        path.write_bytes(damage[number % len(damage)](raw, generator))
        frame = outcome(lambda path: read_table(path, ["variant"], ["seed", "mse"]), path)
        assert frame is None or frame[["seed", "mse"]].to_numpy(dtype=float).shape[1] == 2


def test_tables_of_other_columns_are_not_put_together(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", TABLE)
    write_table(tmp_path / "b.csv", TABLE.rename(columns={"mse": "elbo"}))
    with pytest.raises(InputError, match=r"b\.csv has other columns than .*a\.csv"):
        cli.table([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "c.csv")
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(InputError, match=r"b\.csv is not a readable CSV file"):
        cli.table([tmp_path / "a.csv", tmp_path / "b.csv"], tmp_path / "c.csv")
    with pytest.raises(InputError, match=r"a\.csv has no column 'dataset'"):
        cli.pareto(tmp_path / "a.csv", tmp_path / "a.csv", {}, *[tmp_path / "c.csv"] * 3)
    assert not (tmp_path / "c.csv").exists()


def pickled(trace: Path, folder: Path) -> Iterator[Path]:
    """Files that run code where a reader unpickles them."""
    payload = Payload(trace)
    torch.save({"w": payload}, folder / "torch.safetensors")
    with (folder / "numpy.safetensors").open("wb") as file:
        np.save(file, np.array([payload], dtype=object), allow_pickle=True)
    (folder / "plain.safetensors").write_bytes(pickle.dumps(payload))
    whole = save({"a": torch.ones(1)}, {"metadata": pickle.dumps(payload, 0).decode("latin-1")})
    (folder / "metadata.safetensors").write_bytes(whole)
    yield from sorted(folder.glob("*.safetensors"))


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    loaders = [load for _, load in KINDS.values()]
    loaders += [read_arrays, read_table, lambda path: read_idx(path, (1,))]
    files = {path.stem: path for path in pickled(trace, tmp_path)}
    assert set(files) == {"metadata", "numpy", "plain", "torch"}
    for path in files.values():
        for load in loaders:
            with pytest.raises(InputError):
                load(path)
    assert not trace.exists()
    pickle.loads(files["plain"].read_bytes())
    assert trace.exists(), "the payload works"
