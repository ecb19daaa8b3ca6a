"""A data set that a user adds by YAML alone goes through the stages, in k-space as well."""

import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from .conftest import STAND_IN, TINY, Project

SHAPE, CLASSES = (6, 8), 3


def write_blobs(folder: Path) -> dict[str, Any]:
    """IDX files of images with one bright spot a class, and their entry for ``registry``."""
    random = np.random.default_rng(0)
    rows, columns = np.indices(SHAPE)
    files: dict[str, Any] = {}
    folder.mkdir(parents=True)
    for part, count in {"train": 500, "test": 250}.items():
        labels = random.integers(0, CLASSES, count, dtype=np.uint8)
        centre = 1.5 + 2 * labels[:, None, None] + random.normal(0, 0.3, (count, 1, 1))
        spots = 255 * np.exp(-((columns - centre) ** 2 + (rows - 2.5) ** 2) / 2)
        noisy = np.clip(spots + random.normal(0, 8, spots.shape), 0, 255).astype(np.uint8)
        files[part] = {"count": count}
        for kind, array in {"images": noisy, "labels": labels}.items():
            header = struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            content = gzip.compress(header + array.tobytes())
            (folder / f"{part}-{kind}.gz").write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            files[part][kind] = {"name": f"{part}-{kind}.gz", "sha256": digest}
    return {
        "kind": "idx",
        "image_shape": list(SHAPE),
        "classes": CLASSES,
        "licence": "CC0",
        "citation": "nobody",
        "files": files,
    }


def test_a_data_set_of_a_user_goes_through_the_stages(project: Project) -> None:
    mine = {
        "registry": {"blobs": write_blobs(project.folder / "data/blobs")},
        "datasets": {
            "blobs": {
                "like": "digits",
                "representations": ["kspace"],
                "split": {"oracle": 200},
                "variants": {"kahler": None, "holomorphic": {}},
            }
        },
    }
    (project.folder / "mine.yaml").write_text(yaml.safe_dump(mine))
    model = project.folder / "results/blobs/kspace/holomorphic/seed=0"
    wanted = [
        f"{model.relative_to(project.folder)}/{name}.csv" for name in ("samples", "agreement")
    ]
    run = project.snakemake("--cores", "all", *TINY, "mine.yaml", "--", *wanted)
    assert run.returncode == 0, run.stdout
    samples = pd.read_csv(model / "samples.csv")
    assert {"prior", "volume"} <= set(samples["sampler"])
    assert (samples["dataset"] == "blobs").all()
    identities = pd.read_csv(model / "identities.csv").set_index("identity_name")
    control = identities.loc[["holomorphic_hermitian", "holomorphic_closedness"]]
    assert (control["value"] <= 1e-8).all()
    # Digits, which are in the configuration, have not been touched.
    assert not (project.folder / "results/digits").exists()


def test_data_are_made_again_when_their_own_files_change(project: Project) -> None:
    """Contents decide, of arrays, of labels beside them, and of what a folder holds."""
    project.use(STAND_IN)
    folder = project.folder / "data/mine"
    folder.mkdir(parents=True)
    samples, labels = folder / "my 'data' é.npy", folder / "y.npy"
    samples.write_bytes(b"samples")
    labels.write_bytes(b"labels")
    sounds = project.folder / "sounds"
    (sounds / "b").mkdir(parents=True)
    (sounds / "b/1.wav").write_bytes(b"sound")
    like = {"like": "digits", "variants": {"kahler": None}}
    config = {
        "registry": {
            "mine": {"kind": "arrays", "files": [samples.name], "labels": "y.npy"},
            "sounds": {"kind": "wav", "files": ["sounds"], "rate": 8000, "length": 99},
        },
        "datasets": {"mine": like, "sounds": like},
    }
    (project.folder / "mine.yaml").write_text(yaml.safe_dump(config))
    wanted = (*TINY, "mine.yaml", "--", "results/mine/data.json", "results/sounds/data.json")
    run = project.snakemake("--cores", "1", *wanted)
    assert run.returncode == 0, run.stdout
    assert not project.plan(*wanted)
    samples.write_bytes(b"samples")
    assert not project.plan(*wanted)
    for change in (samples, labels, sounds / "b/1.wav", sounds / "2.wav"):
        change.write_bytes(b"other")
        assert project.plan(*wanted)["data"] == 1, change
        run = project.snakemake("--cores", "1", *wanted)
        assert run.returncode == 0, run.stdout
    samples.rename(samples.with_name("{x}.npy"))
    config["registry"]["mine"]["files"] = ["{x}.npy"]
    (project.folder / "mine.yaml").write_text(yaml.safe_dump(config))
    run = project.snakemake("--dry-run", *wanted)
    assert "{x}.npy holds braces, which Snakemake takes for a wildcard: rename it." in run.stdout
