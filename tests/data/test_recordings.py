"""Recordings: read rightly, whatever their rate and width, or refused in a sentence."""

import io
import struct
import tarfile
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from kahlervae.config.registry import data_sources
from kahlervae.data import prepare
from kahlervae.data.form import Form
from kahlervae.data.recordings import digest, read_recordings, read_wav
from kahlervae.errors import InputError
from kahlervae.places import local_files

RATE, LENGTH = 8000, 800
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(LENGTH) / RATE)
STFT = {"window": 64, "hop": 32, "lowest": 1, "highest": 32}


def pcm(values: np.ndarray, bits: int, rate: int = RATE) -> bytes:
    """A WAV file of whole numbers; (n,) or (n, channels)."""
    whole = np.round(values * (2 ** (bits - 1) - 1)).astype(np.int64)
    if bits == 8:
        whole += 128
    raw = whole.astype("<i8")[..., None].view(np.uint8)[..., : bits // 8]
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        channels = values.shape[1] if values.ndim == 2 else 1
        writer.setparams((channels, bits // 8, rate, len(values), "NONE", ""))
        writer.writeframes(np.ascontiguousarray(raw).tobytes())
    return file.getvalue()


def floating(values: np.ndarray, dtype: str = "f4", rate: int = RATE) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, rate, values.astype(dtype))
    return file.getvalue()


READ = {
    "8 bit": pcm(TONE, 8),
    "16 bit": pcm(TONE, 16),
    "24 bit": pcm(TONE, 24),
    "32 bit": pcm(TONE, 32),
    "float": floating(TONE),
    "double": floating(TONE, "f8"),
    "stereo": pcm(np.stack([TONE, TONE], axis=1), 16),
    "stereo float": floating(np.stack([1.5 * TONE, 0.5 * TONE], axis=1)),
}


@pytest.mark.parametrize("case", READ)
def test_widths_and_channels_are_read_alike(case):
    found = read_wav(READ[case], "a.wav", RATE, LENGTH)
    tolerance = 1e-2 if case == "8 bit" else 1e-4
    np.testing.assert_allclose(found, TONE, atol=tolerance)


@pytest.mark.parametrize("rate", [44100, 16000, 48000, 11025])
def test_other_rates_are_resampled(rate):
    values = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate // 5) / rate)
    found = read_wav(pcm(values, 16, rate), "a.wav", RATE, LENGTH)
    np.testing.assert_allclose(found[50:-50], TONE[50:-50], atol=0.01)


def test_recordings_are_cropped_or_padded_to_one_length():
    assert read_wav(pcm(TONE, 16), "a.wav", RATE, 100).shape == (100,)
    longer = read_wav(pcm(TONE, 16), "a.wav", RATE, 1000)
    assert longer.shape == (1000,)
    assert (longer[LENGTH:] == 0).all()


def claims(content: bytes, size: int) -> bytes:
    """The data chunk says that it has so many bytes."""
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def test_recordings_that_came_through_a_pipe_are_read():
    content = pcm(TONE, 16)
    piped = claims(content[:4] + b"\xff" * 4 + content[8:], 2**32 - 1)
    np.testing.assert_array_equal(
        read_wav(piped, "a.wav", RATE, LENGTH), read_wav(content, "a.wav", RATE, LENGTH)
    )


MP3 = pcm(TONE, 16).replace(b"fmt \x10\0\0\0\x01\0", b"fmt \x10\0\0\0\x55\0")
REFUSED = {
    "empty file": (b"", "not a readable WAV file"),
    "no sound": (pcm(TONE[:0], 16), "holds no sound|not a readable"),
    "text": (b"no sound at all" * 10, "not a readable WAV file"),
    "truncated": (pcm(TONE, 16)[:-400], "ends before its header says|not a readable"),
    "header alone": (pcm(TONE, 16)[:30], "not a readable WAV file"),
    "ten gigabytes": (claims(pcm(TONE, 16), 2**32 - 8), "ends before|not a readable"),
    "NaN": (floating(TONE * np.nan), "values that are not finite"),
    "opposite channels": (floating(np.stack([TONE, -TONE], axis=1)), "cancel each other"),
    "no data": (pcm(TONE, 16).replace(b"data", b"atad"), "its header is wrong"),
    "no rate": (pcm(TONE, 16, 1), "says that it has 1 values a second"),
    "compressed": (
        pcm(TONE, 16).replace(b"fmt \x10\0\0\0\x01\0", b"fmt \x10\0\0\0\x55\0"),
        "not a readable",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_recording_is_refused_in_a_sentence(case):
    content, sentence = REFUSED[case]
    with pytest.raises(InputError, match=sentence) as caught:
        read_wav(content, "a.wav", RATE, LENGTH)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def recordings():
    """Twenty short tones of two speakers, by name."""
    random = np.random.default_rng(0)
    return {
        f"{k % 2}_{'ab'[k % 3 == 0]}_{k}.wav": pcm(
            random.uniform(0.2, 0.9) * TONE + 0.01 * random.normal(size=LENGTH), 16
        )
        for k in range(60)
    }


def as_folder(root: Path, recordings: dict[str, bytes]) -> Path:
    folder = root / "sounds/recordings"
    folder.mkdir(parents=True)
    for name, content in recordings.items():
        (folder / name).write_bytes(content)
    (folder / "README.md").write_text("not a sound")
    return folder


def as_zip(root: Path, recordings: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for name, content in reversed(recordings.items()):
            archive.writestr(f"repository-1.0/recordings/{name}", content)
        archive.writestr("repository-1.0/other/x.wav", b"another folder")
    return root / "a.zip"


def as_tar(root: Path, recordings: dict[str, bytes]) -> Path:
    with tarfile.open(root / "a.tar.gz", "w:gz") as archive:
        for name, content in recordings.items():
            member = tarfile.TarInfo(f"./x/recordings/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return root / "a.tar.gz"


@pytest.mark.parametrize("pack", [as_folder, as_zip, as_tar])
def test_another_packing_does_not_matter(pack, recordings, tmp_path):
    found = read_recordings(pack(tmp_path, recordings), "recordings")
    assert found == dict(sorted(recordings.items()))
    assert digest(found) == digest(recordings)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(as_folder(tmp_path / "b", recordings), ".")
    assert digest(read_recordings(tmp_path / "b.tar")) == digest(recordings)
    changed = recordings | {"0_b_0.wav": recordings["1_a_1.wav"]}
    assert digest(changed) != digest(recordings)


def source(path: Path, **more):
    entry = {
        "kind": "wav",
        "files": [str(path)],
        "rate": RATE,
        "length": LENGTH,
        "label": r"^(\d)_",
    }
    return data_sources({"registry": {"tones": entry | more}})["tones"]


def test_recordings_are_split_with_labels_and_the_test_set_that_is_named(recordings, tmp_path):
    path = as_folder(tmp_path, recordings)
    entry = source(path, test=r"_1\d\.wav$", sha256=digest(recordings))
    split = {"oracle": 20, "validation": 10, "test": 10, "seed": 0}
    tensors, form, record = prepare("tones", entry, split, STFT)
    assert form == Form((LENGTH,), False, False, STFT)
    assert record["labels"] == ["0", "1"]
    assert record["recordings"]["count"] == 60
    named = {read_wav(recordings[n], n, RATE, LENGTH).argmax() for n in recordings if "_1" in n[3:]}
    assert len(tensors["test_samples"]) == 10
    assert tensors["train_samples"].square().mean().item() == pytest.approx(1, rel=0.3)
    assert {int(x.argmax()) for x in tensors["test_samples"]} <= named
    views = form.show(tensors["train_samples"])
    assert views.shape[1:] == form.view_shape
    assert 0 <= views.min() < views.max() <= 1
    # The tone of 440 Hz lies in bin 3.52 of 125 Hz: high frequencies are on top.
    assert int(views.mean((0, 2)).argmax()) in (28, 29)
    with pytest.raises(InputError, match=r"`test` of tones names 10 recordings, but"):
        prepare("tones", entry, split | {"test": 16}, STFT)
    with pytest.raises(InputError, match=r"a window of 64 values, 64 apart"):
        prepare("tones", entry, split, STFT | {"hop": 64})


def test_the_record_leads_back_to_the_recordings(tmp_path):
    offset = 0.3 + 0.1 * np.random.default_rng(0).normal(size=(60, LENGTH))
    for k, values in enumerate(offset):
        (tmp_path / f"{k}.wav").write_bytes(floating(values))
    entry = source(tmp_path)
    del entry["label"]
    split = {"validation": 16, "test": 16, "seed": 0}
    tensors, _, record = prepare("tones", entry, split)
    values = torch.cat([tensors[key] for key in tensors]).double()
    back = values * record["scale"]["factor"] + record["scale"]["offset"]
    np.testing.assert_allclose(np.sort(back.ravel()), np.sort(offset.ravel()), atol=1e-5)


def test_recordings_of_one_name_are_refused(recordings, tmp_path):
    split = {"oracle": 20, "validation": 10, "test": 16, "seed": 0}
    first, second = as_folder(tmp_path / "1", recordings), as_folder(tmp_path / "2", recordings)
    with pytest.raises(InputError, match=r"hold 60 recordings of the same name, .* 0_a_10\.wav"):
        prepare("tones", source(first, files=[str(first), str(second)]), split)
    with pytest.raises(InputError, match="files of tones, are the same or one in the other"):
        prepare("tones", source(first, files=[str(first), str(first.parent)]), split)
    packed = as_zip(tmp_path, recordings)
    with zipfile.ZipFile(packed, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("repository-1.0/recordings/0_a_10.wav", b"another")
    with pytest.raises(InputError, match=r"two recordings of the name .*0_a_10\.wav: rename one"):
        read_recordings(packed)
    tar = as_tar(tmp_path, recordings)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        for _ in range(2):
            archive.add(tar, "a.wav")
    with pytest.raises(InputError, match=r"two recordings of the name a\.wav"):
        read_recordings(tmp_path / "b.tar")


def test_links_are_followed_or_refused(recordings, tmp_path):
    folder = as_folder(tmp_path, recordings)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/link").symlink_to(folder)
    assert len(read_recordings(tmp_path / "other")) == len(recordings)
    (tmp_path / "other/up").symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match=r"up and .*other are the same: remove the link"):
        read_recordings(tmp_path / "other")
    (folder / "x.wav").symlink_to("nowhere.wav")
    with pytest.raises(InputError, match=r"x\.wav is a link to nothing: remove it"):
        read_recordings(folder)
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(folder / "x.wav", "x.wav")
    with pytest.raises(InputError, match=r"x\.wav of .* is a link: pack the recordings themselves"):
        read_recordings(tmp_path / "b.tar")


LINKS = {
    "into each other": {"a/other": "b", "b/other": "a"},
    "of a folder": {"c": "a"},
    "of a folder, read first": {"A": "b"},
    "of a recording": {"b/x.wav": "a/0.wav"},
    "to a folder above": {"b/up": ".."},
}


@pytest.mark.parametrize("case", LINKS)
def test_links_do_not_multiply_recordings(case, recordings, tmp_path):
    folder = tmp_path / "sounds"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for k, content in enumerate(recordings.values()):
            (folder / name / f"{k}.wav").write_bytes(content)
    assert len(read_recordings(folder)) == 2 * len(recordings)
    for link, target in LINKS[case].items():
        (folder / link).symlink_to((folder / target).resolve())
    entry = {"kind": "wav", "files": [str(folder)]}
    for read in (lambda: read_recordings(folder), lambda: local_files("sounds", entry)):
        with pytest.raises(InputError, match="are the same: remove the link that one of them is"):
            read()


def test_wrong_recordings_are_refused(recordings, tmp_path):
    path = as_folder(tmp_path, recordings)
    split = {"oracle": 20, "validation": 10, "test": 16, "seed": 0}
    with pytest.raises(InputError, match=r"have the SHA-256 .* not 0000"):
        prepare("tones", source(path, sha256="0" * 64), split)
    with pytest.raises(InputError, match=r"has no label by the pattern"):
        prepare("tones", source(path, label="(x)"), split)
    with pytest.raises(InputError, match=r"tones lacks .*nowhere"):
        prepare("tones", source(tmp_path / "nowhere"), split)
    (path / "z.wav").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"z\.wav is not a readable WAV file"):
        prepare("tones", source(path, label="(.)"), split)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"holds no WAV file"):
        prepare("tones", source(tmp_path / "none"), split)
    (tmp_path / "text.zip").write_text("text")
    with pytest.raises(InputError, match=r"is no folder, zip or tar archive"):
        prepare("tones", source(tmp_path / "text.zip"), split)


def test_a_recording_that_unpacks_to_too_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", b"\0" * (2**26 + 1))
    with pytest.raises(InputError, match=r"a.wav has 67,108,865 bytes, more than"):
        read_recordings(tmp_path / "a.zip")


@pytest.mark.parametrize("hop", [32, 16, 20])
def test_transforms_are_isometries_up_to_what_is_cropped(hop):
    x = torch.randn(3, 481, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = Form((481,), bounded=False, stft=STFT | {"hop": hop, "lowest": 0}).spectrogram
    coefficients = whole.transform(x)
    torch.testing.assert_close(coefficients.abs().square().sum((1, 2)), x.square().sum(1))
    torch.testing.assert_close(whole.invert(coefficients), x)
    cropped = Form((481,), bounded=False, stft=STFT | {"hop": hop, "highest": 20}).spectrogram
    assert torch.equal(cropped.transform(x), coefficients[:, 1:21])
