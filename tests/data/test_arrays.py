"""Arrays of anybody's: read rightly, whatever their type and order, or refused in a sentence."""

import io
import json
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from kahlervae.config.registry import data_sources
from kahlervae.data import SPLITS, load_split, prepare
from kahlervae.data.arrays import read_arrays, read_headers
from kahlervae.data.scale import Scale
from kahlervae.errors import InputError
from kahlervae.storage import write_tensors

COUNT = 60
SPLIT = {"oracle": 16, "validation": 8, "test": 16, "seed": 0}
UNLABELLED = SPLIT | {"oracle": 0}
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (COUNT, 5, 6), dtype=np.uint8)
COMPLEX = (RANDOM.normal(size=(COUNT, 7)) + 1j * RANDOM.normal(size=(COUNT, 7))).astype("c8")
LABELS = np.arange(COUNT) % 4
NORMAL = np.random.default_rng(1).normal(size=(COUNT, 6))


def entry(path: Path, **more: Any) -> dict[str, Any]:
    """An entry of the registry, which its schema accepts."""
    source = {"kind": "arrays", "files": [str(path)], "samples": "x"} | more
    source = {key: value for key, value in source.items() if value is not None}
    return data_sources({"registry": {"mine": source}})["mine"]


def load(path: Path, **more: Any) -> tuple[dict[str, torch.Tensor], Any, dict[str, Any]]:
    source = entry(path, **more)
    return prepare("mine", source, SPLIT if "labels" in source else UNLABELLED)


def npz(tmp_path: Path, name: str = "a.npz", **arrays: np.ndarray) -> Path:
    np.savez(tmp_path / name, **arrays)
    return tmp_path / name


def whole(tensors: dict[str, torch.Tensor], kind: str = "samples") -> torch.Tensor:
    return torch.cat([tensors[f"{n}_{kind}"] for n in SPLITS if f"{n}_{kind}" in tensors])


def test_pictures_are_brought_into_the_unit_interval_and_keep_their_labels(tmp_path):
    tensors, form, record = load(npz(tmp_path, x=IMAGES, y=LABELS), labels="y")
    samples, labels = whole(tensors), whole(tensors, "labels")
    assert (form.shape, form.is_complex, form.bounded) == ((5, 6), False, True)
    low, high = int(IMAGES.min()), int(IMAGES.max())
    assert record["scale"] == {"kind": "unit", "offset": low, "factor": high - low}
    assert record["labels"] == [0, 1, 2, 3]
    # Every sample is there, with its own label.
    before = {(IMAGES[i].tobytes(), int(LABELS[i])) for i in range(COUNT)}
    back = (samples.numpy() * (high - low) + low).round().astype(np.uint8)
    assert {(x.tobytes(), int(y)) for x, y in zip(back, labels, strict=True)} == before


@pytest.mark.parametrize(
    "dtype",
    ["?", "i1", "u1", ">u2", "<i2", ">i4", "u8", "f2", ">f2", "f4", ">f4", ">f8", "longdouble"],
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_of_any_type_and_order_are_read_alike(dtype, order, tmp_path):
    values = RANDOM.integers(0, 2, (COUNT, 3, 4))
    stored = np.asarray(values.astype(dtype), order=order)
    found = whole(load(npz(tmp_path, x=stored))[0])
    expected = whole(load(npz(tmp_path, "b.npz", x=values.astype("f8")))[0])
    assert torch.equal(found, expected)
    np.save(tmp_path / "c.npy", stored)
    assert torch.equal(whole(load(tmp_path / "c.npy", samples=None)[0]), expected)


@pytest.mark.parametrize("dtype", [">f4", "<i2", ">c16", ">U3"])
def test_arrays_are_in_the_byte_order_of_the_machine(dtype, tmp_path):
    values = RANDOM.integers(0, 9, (COUNT, 4)).astype(dtype)
    found = read_arrays(npz(tmp_path, x=values), ["x"])["x"]
    assert found.dtype.isnative
    assert (found == values).all()


@pytest.mark.parametrize("dtype", ["c8", ">c8", "c16", ">c16"])
def test_complex_numbers_keep_their_phase_under_one_scale(dtype, tmp_path):
    tensors, form, record = load(npz(tmp_path, x=(3 * COMPLEX).astype(dtype)))
    samples = whole(tensors)
    assert form.is_complex
    assert not form.bounded
    assert samples.dtype == torch.complex64
    assert samples.abs().square().mean().item() == pytest.approx(1, abs=1e-5)
    scaled = np.sort_complex(np.round(samples.numpy() * record["scale"]["factor"], 3).ravel())
    np.testing.assert_allclose(scaled, np.sort_complex(np.round(3 * COMPLEX, 3).ravel()), atol=2e-3)
    assert record["classes"] is None
    path = tmp_path / "data.safetensors"
    write_tensors(path, tensors, {"form": json.dumps(form.dump())})
    split = load_split(path, "train")
    assert split.labels is None
    assert split.form == form


def test_files_of_all_kinds_hold_the_same(tmp_path):
    expected = whole(load(npz(tmp_path, x=IMAGES))[0])
    np.save(tmp_path / "b.npy", IMAGES)
    save_file({"x": IMAGES}, tmp_path / "c.safetensors")
    np.savez_compressed(tmp_path / "d.npz", x=IMAGES)
    assert torch.equal(whole(load(tmp_path / "b.npy", samples=None)[0]), expected)
    assert torch.equal(whole(load(tmp_path / "c.safetensors")[0]), expected)
    assert torch.equal(whole(load(tmp_path / "d.npz")[0]), expected)
    assert torch.equal(whole(load(tmp_path / "d.npz", samples=None)[0]), expected)  # there is one


def test_several_files_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setenv("KAHLERVAE_DATA", str(tmp_path))
    (tmp_path / "mine").mkdir()
    npz(tmp_path / "mine", "one.npz", x=IMAGES[:20], y=LABELS[:20])
    npz(tmp_path / "mine", "two.npz", x=IMAGES[20:], y=LABELS[20:])
    source = entry(Path("one.npz"), files=["one.npz", "two.npz"], labels="y", count=COUNT)
    tensors, *_ = prepare("mine", source, SPLIT)
    together = load(npz(tmp_path, x=IMAGES, y=LABELS), labels="y")[0]
    assert all(torch.equal(tensors[key], together[key]) for key in together)


def test_parts_of_a_file_are_put_together(tmp_path):
    """As files of MNIST and MedMNIST come: splits under names of their own."""
    parts = {"test_y": LABELS[20:], "x": IMAGES[:20], "test_x": IMAGES[20:], "y": LABELS[:20]}
    source = {"samples": ["x", "test_x"], "labels": ["y", "test_y"]}
    tensors = load(npz(tmp_path, "parts.npz", **parts), **source)[0]
    together = load(npz(tmp_path, x=IMAGES, y=LABELS), labels="y")[0]
    assert all(torch.equal(tensors[key], together[key]) for key in together)


def test_every_part_has_labels():
    with pytest.raises(InputError, match=r"labels must name as many keys as samples does \(2\)"):
        entry(Path("a.npz"), samples=["x_train", "x_test"], labels="y_train")


def test_labels_may_lie_beside_an_npy_file(tmp_path):
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "y.npy", LABELS)
    tensors, *_ = load(tmp_path / "x.npy", samples=None, labels="y.npy")
    assert whole(tensors, "labels").bincount().tolist() == [15] * 4


def test_labels_of_a_file_of_their_own_are_those_of_all_samples_together(tmp_path, monkeypatch):
    np.savez(tmp_path / "all.npz", x=IMAGES, y=LABELS)
    np.save(tmp_path / "1.npy", IMAGES[:20])
    np.save(tmp_path / "2.npy", IMAGES[20:])
    np.save(tmp_path / "y.npy", LABELS)
    np.save(tmp_path / "few.npy", LABELS[:20])
    monkeypatch.chdir(tmp_path)
    source = entry(Path(), files=["1.npy", "2.npy"], samples=None, labels="y.npy")
    found = prepare("mine", source, SPLIT)[0]
    expected = load(tmp_path / "all.npz", labels="y")[0]
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    with pytest.raises(InputError, match=r"few\.npy has the shape \(20,\) for 60 samples"):
        prepare("mine", source | {"labels": "few.npy"}, SPLIT)
    with pytest.raises(InputError, match=r"mine lacks none\.npy .* correct its name in the entry"):
        prepare("mine", source | {"labels": "none.npy"}, SPLIT)


@pytest.mark.parametrize("again", ["a.npz", "../{folder}/a.npz", "link.npz"])
def test_a_file_that_is_named_twice_is_refused(again, tmp_path):
    path = npz(tmp_path, x=IMAGES)
    (tmp_path / "link.npz").symlink_to(path)
    other = tmp_path / again.format(folder=tmp_path.name)
    files = [str(path), f"{tmp_path}/./{other.relative_to(tmp_path)}"]
    with pytest.raises(InputError, match="files of mine, are the same or one in the other"):
        load(path, files=files)


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        (LABELS[:20], LABELS[20:, None], [0, 1, 2, 3]),
        (np.array(["é", "b"])[LABELS[:20] % 2], np.array(["é".encode()] * 40), ["b", "é"]),
        (np.uint64(2**64 - 1) - LABELS[:20].astype("u8"), LABELS[20:] % 2, None),
        (LABELS[:20] > 1, LABELS[20:] * 1.0, [False, True, 2, 3]),
    ],
)
def test_labels_of_several_types_are_the_same_classes(first, second, names, tmp_path):
    one = npz(tmp_path, "1.npz", x=IMAGES[:20], y=first)
    two = npz(tmp_path, "2.npz", x=IMAGES[20:], y=second)
    _, _, record = load(one, files=[str(one), str(two)], labels="y")
    assert record["labels"] == names or names is None
    assert len(record["labels"]) == (len(names) if names else 6)


@pytest.mark.parametrize("other", ["objects", "dates", "README", "folder", "__MACOSX"])
def test_what_else_a_file_holds_does_not_matter(other, tmp_path):
    extra = {"objects": np.array({"a": 1}, object), "dates": np.zeros(60, "M8[s]")}
    path = npz(tmp_path, x=IMAGES, **({"z": extra[other]} if other in extra else {}))
    if other not in extra:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr({"README": "README.txt", "folder": "z/"}.get(other, "_/._x.npy"), b"?")
    expected = whole(load(npz(tmp_path, "b.npz", x=IMAGES))[0])
    assert torch.equal(whole(load(path)[0]), expected)
    assert torch.equal(whole(load(path, samples=None)[0]), expected)
    faults = [header.fault for header in read_headers(path).values() if header.fault]
    assert len(faults) == (other != "folder")


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    path = npz(tmp_path, x=IMAGES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", b"?")
    with pytest.raises(InputError, match=r"'x' of .* is there twice"):
        load(path)


def test_versions_of_the_format_are_read_alike(tmp_path):
    expected = whole(load(npz(tmp_path, x=IMAGES))[0])
    for major in (1, 2, 3):
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, IMAGES, version=(major, 0))
        assert torch.equal(whole(load(tmp_path / "a.npy", samples=None)[0]), expected)


def test_samples_are_never_all_in_double_precision(tmp_path):
    path = npz(tmp_path, x=RANDOM.integers(0, 256, (2000, 64, 64), dtype=np.uint8))  # 8 MB
    source = entry(path)
    tracemalloc.start()
    prepare("mine", source, UNLABELLED)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Bytes once more as floats of four, and one piece of them in double precision; torch's own
    # copies, the splits, are not traced.
    assert peak < 2**20 * (3 * 8 + 32 + 2 * 32 + 8)


def test_pieces_and_parts_do_not_change_a_scale(monkeypatch):
    values = RANDOM.normal(3, 2, (60, 4, 5))
    for kind in ("unit", "standard", "none"):
        whole_scale = Scale.of([values], kind, "data")
        whole_values = whole_scale.apply([values], "data")
        monkeypatch.setattr("kahlervae.data.scale.PIECE", 50)
        parts = [values[:13], values[13:]]
        scale = Scale.of(parts, kind, "data")
        assert scale[1:] == pytest.approx(whole_scale[1:])
        np.testing.assert_allclose(scale.apply(parts, "data"), whole_values, atol=1e-6)
        monkeypatch.undo()


@pytest.mark.parametrize(
    "values", [1e5 + NORMAL, NORMAL + 0j, NORMAL + 1e9j, NORMAL * (1e30 + 1e-30j), IMAGES]
)
@pytest.mark.parametrize("piece", [2**22, 50])
def test_what_single_precision_tells_apart_is_kept(values, piece, tmp_path, monkeypatch):
    monkeypatch.setattr("kahlervae.data.scale.PIECE", piece)
    tensors, _, _ = load(npz(tmp_path, x=values), scale="none")
    kept = whole(tensors).numpy()
    for part in (np.real, np.imag):
        assert part(kept).astype(float).std() == pytest.approx(part(values).std(), rel=0.05)


def test_real_and_complex_parts_go_together(tmp_path):
    for order in ((NORMAL, NORMAL * 1j), (NORMAL * 1j, NORMAL)):
        parts = dict(zip("ab", order, strict=True))
        path = npz(tmp_path, **parts)
        kept = whole(load(path, samples=["a", "b"], scale="none")[0]).numpy()
        expected = np.concatenate(order).astype("c8")
        np.testing.assert_array_equal(np.sort(kept.ravel()), np.sort(expected.ravel()))


@pytest.mark.parametrize("channels", [3, 4, 1])
def test_channels_come_last(channels, tmp_path):
    values = RANDOM.integers(0, 256, (COUNT, channels, 8, 9), dtype=np.uint8)
    first = load(npz(tmp_path, x=values))
    last = load(npz(tmp_path, "b.npz", x=np.moveaxis(values, 1, -1)))
    assert first[1].shape == last[1].shape == (8, 9, channels)
    assert torch.equal(whole(first[0]), whole(last[0]))
    assert (first[2]["channels"], last[2]["channels"]) == ("first", "last")
    told = load(npz(tmp_path, x=values), channels="last")
    assert told[1].shape == (channels, 8, 9)


@pytest.mark.parametrize(
    "shape", [(2, 40, 3), (1, 40, 3), (16, 16, 30), (5, 6, 7), (3, 3, 3), (3, 4, 5, 6), (2, 9)]
)
def test_axes_are_not_turned_on_a_guess(shape, tmp_path):
    values = RANDOM.integers(0, 256, (COUNT, *shape), dtype=np.uint8)
    tensors, form, record = load(npz(tmp_path, x=values), scale="none")
    assert form.shape == shape
    assert record.get("channels", "last") == "last"
    assert {x.tobytes() for x in whole(tensors).numpy().astype("u1")} == {
        x.tobytes() for x in values
    }
    if len(shape) > 2:
        turned = load(npz(tmp_path, x=values), channels="first")[1].shape
        assert turned == (*shape[1:], shape[0])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array(["cat", "dog", "eel"])[np.arange(COUNT) % 3], ["cat", "dog", "eel"]),
        (np.array([b"b", b"a"])[np.arange(COUNT) % 2], ["a", "b"]),
        (np.array([7.0, 3.0])[np.arange(COUNT) % 2], [3, 7]),
        (np.array([-1, 1000])[np.arange(COUNT) % 2][:, None], [-1, 1000]),
        (np.arange(COUNT) % 2 == 0, [False, True]),
        (LABELS.astype(">u2"), [0, 1, 2, 3]),
    ],
)
def test_labels_are_mapped_and_the_map_is_recorded(labels, names, tmp_path):
    tensors, _, record = load(npz(tmp_path, x=IMAGES, y=labels), labels="y")
    assert record["labels"] == names
    assert record["classes"] == len(names)
    found = whole(tensors, "labels")
    back = (whole(tensors).numpy() * record["scale"]["factor"] + record["scale"]["offset"]).round()
    origin = {IMAGES[i].tobytes(): np.ravel(labels)[i] for i in range(COUNT)}
    for image, label in zip(back.astype(np.uint8), found.tolist(), strict=True):
        known = origin[image.tobytes()]
        assert names[label] == (known.decode() if isinstance(known, bytes) else known)


NAN = IMAGES.astype("f4")
NAN[[3, 7], 0, :2] = np.nan
RAGGED = np.empty(2, dtype=object)
RAGGED[:] = [np.arange(2), np.arange(3)]
STRUCTURED = np.zeros(COUNT, dtype=[("a", "f4"), ("b", "f4")])
REFUSED: dict[str, tuple[dict[str, np.ndarray], dict[str, Any], str]] = {
    "objects": ({"x": RAGGED}, {}, "holds Python objects, which are not read since that may run"),
    "structured": ({"x": STRUCTURED}, {}, "save an array of numbers"),
    "dates": ({"x": np.zeros((COUNT, 2), "M8[s]")}, {}, "save an array of numbers"),
    "texts": ({"x": np.full((COUNT, 2), "a")}, {}, "samples are numbers"),
    "scalars": ({"x": np.arange(float(COUNT))}, {}, "each has one axis at least"),
    "empty": ({"x": np.zeros((0, 4))}, {}, "each has one axis at least"),
    "no axis": ({"x": np.array(1.0)}, {}, "each has one axis at least"),
    "NaN": ({"x": NAN}, {}, "holds 4 values that are not finite, in 2 of 60 samples"),
    "infinite": (
        {"x": np.full((COUNT, 2), np.inf)},
        {},
        "120 values that are not finite",
    ),
    "constant": ({"x": np.full((COUNT, 2), 0.5)}, {}, "holds the value 0.5 alone"),
    "one": ({"x": IMAGES[:1]}, {}, "leaves no sample for training, there are 1 in all"),
    "huge": ({"x": np.full((COUNT, 2), 1e300) * [[1, -1]]}, {"scale": "none"}, "single precision"),
    "wrong key": ({"z": IMAGES}, {}, "holds no array 'x': it holds z, name one of these"),
    "key of npy": (
        {"x": IMAGES},
        {"files": ["x.npy"]},
        "holds one array, which has no name: leave 'x' out of the entry",
    ),
    "channels": ({"x": COMPLEX}, {"channels": "first"}, "`channels` is for three axes or more"),
    "low digits": (
        {"x": np.arange(2**60, 2**60 + COUNT)[:, None]},
        {"scale": "standard"},
        "lie too far apart, or too close together, for double precision",
    ),
    "tiny": ({"x": IMAGES * 1e-300}, {"scale": "standard"}, "too close together"),
    "far from 0": ({"x": 1e9 + NORMAL}, {"scale": "none"}, "precision cannot tell the values of"),
    "near 0": ({"x": 1e-50 * NORMAL}, {"scale": "none"}, "precision cannot tell the values of"),
    "beyond double": ({"x": 1e-300 * NORMAL}, {"scale": "none"}, "or rescale them"),
    "real parts far from 0": ({"x": 1e9 + NORMAL * (1 + 1j)}, {}, "subtract what they have in"),
    "imaginary parts far from 0": (
        {"x": 1e9j + NORMAL * (1 + 1j)},
        {"scale": "none"},
        "subtract what they have in common",
    ),
    "no key": ({"a": IMAGES, "b": IMAGES}, {"samples": None}, "holds a, b: say in the entry"),
    "wrong label key": ({"x": IMAGES}, {"labels": "y"}, "holds no array 'y': it holds x"),
    "fractions": ({"x": IMAGES, "y": LABELS + 0.5}, {"labels": "y"}, "whole numbers or texts"),
    "NaN label": ({"x": IMAGES, "y": LABELS * np.nan}, {"labels": "y"}, "holds nan: labels are"),
    "more labels": ({"x": IMAGES, "y": np.arange(61)}, {"labels": "y"}, "one label for each"),
    "one-hot": ({"x": IMAGES, "y": np.eye(4)[LABELS]}, {"labels": "y"}, "one label for each"),
    "one class": ({"x": IMAGES, "y": 0 * LABELS}, {"labels": "y"}, "holds a single class"),
    "complex labels": ({"x": IMAGES, "y": LABELS * 1j}, {"labels": "y"}, "number the classes"),
    "complex unit": ({"x": COMPLEX}, {"scale": "unit"}, "set its scale to standard or none"),
    "shape": ({"x": IMAGES}, {"shape": [5, 7]}, r"have the shape \(5, 6\), but its entry says"),
    "count": ({"x": IMAGES}, {"count": 61}, "has 60 samples, but its entry says 61"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_are_no_samples_is_refused_in_a_sentence(case, tmp_path):
    arrays, more, sentence = REFUSED[case]
    if "files" in more:
        (name,) = more["files"]
        np.save(tmp_path / name, arrays["x"])
        more = more | {"files": [str(tmp_path / name)]}
    with pytest.raises(InputError, match=sentence) as caught:
        load(npz(tmp_path, **arrays), **more)
    assert len(str(caught.value).splitlines()) == 1


def test_too_many_classes_are_refused(tmp_path):
    values = RANDOM.normal(size=(300, 2))
    with pytest.raises(InputError, match="holds 300 classes: labels are of 2 to 256"):
        load(npz(tmp_path, x=values, y=np.arange(300)), labels="y")


def test_samples_for_oracles_need_labels(tmp_path):
    with pytest.raises(InputError, match="mine has no labels, and 16 of its samples are set aside"):
        prepare("mine", entry(npz(tmp_path, x=IMAGES)), SPLIT)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"sha256": {"b.npz": "0" * 64}}, r'sha256 names "b\.npz", which is not among its files'),
        (
            {"addresses": ["https://a.example/"], "sha256": {}},
            r'sha256 lacks "a\.npz": what is downloaded needs a checksum',
        ),
    ],
)
def test_checksums_are_those_of_the_files(more, sentence):
    with pytest.raises(InputError, match=sentence):
        entry(Path("a.npz"), **more)


def test_pickles_are_never_opened(tmp_path):
    trace = tmp_path / "trace"

    class Payload:
        def __reduce__(self):
            return open, (str(trace), "w")

    np.savez(tmp_path / "a.npz", x=np.array([Payload()], dtype=object))
    np.save(tmp_path / "b.npy", np.array([Payload()], dtype=object))
    for path in (tmp_path / "a.npz", tmp_path / "b.npy"):
        with pytest.raises(InputError, match="which are not read since that may run code"):
            load(path, samples=None)
    assert not trace.exists()


def header(shape: tuple[int, ...], dtype: str = "<f8") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


@pytest.mark.parametrize("shape", [(10**7, 128), (10**18, 10**18), (2**62, 4), (200, 4)], ids=str)
def test_a_header_cannot_demand_memory(shape, tmp_path):
    """Ten gigabytes, or more than there are numbers, in a file of a few bytes."""
    (tmp_path / "a.npy").write_bytes(header(shape) + b"\0" * 64)
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header(shape) + b"\0" * 64)
    for path in (tmp_path / "a.npy", tmp_path / "b.npz"):
        with pytest.raises(InputError, match=r"is the most that there can|more than 8,589"):
            load(path, samples=None)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    """The claimed size of a member is no bound: what deflate can make of the file is."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header((4,)) + b"\0" * 32)
    raw = bytearray(path.read_bytes())
    entry_at = raw.rindex(b"PK\x01\x02")
    raw[entry_at + 24 : entry_at + 28] = struct.pack("<I", 2**31)  # claims 2 GiB
    path.write_bytes(raw)
    headers = read_headers(path)
    assert headers["x"].shape == (4,)
    big = header((2**28,)) + b"\0" * 32
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", big)
    with pytest.raises(InputError, match="is the most that there can be"):
        read_arrays(path, ["x"])


def test_truncated_and_missing_files_are_refused(tmp_path):
    path = npz(tmp_path, x=IMAGES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot be read"):
        load(path)
    with pytest.raises(InputError, match=r"lacks .*none.npz \(there is no address to download"):
        load(tmp_path / "none.npz")
    (tmp_path / "a.txt").write_text("1 2 3")
    with pytest.raises(InputError, match=r"arrays come in files that end with \.npz, \.npy"):
        load(tmp_path / "a.txt")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(InputError, match=r"is not a file|cannot be read"):
        load(tmp_path / "folder.npz")
