"""What is trusted: no code hides in data, nothing comes from elsewhere unchecked."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kahlervae.config.registry import data_sources
from kahlervae.errors import InputError

ROOT = Path(__file__).parents[1]
MODULES = {
    "pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "zipfile", "tarfile",
}  # fmt: skip
FUNCTIONS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    "torch.load", "torch.jit.load", "torch.hub.load", "os.system", "os.popen", "yaml.load",
    "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "shutil.unpack_archive",
}  # fmt: skip
METHODS = {"read_pickle", "to_pickle", "extractall"}
KEYWORDS = {"shell", "allow_pickle"}

JUSTIFIED = {
    # A payload that is to have no effect, and the proof that it would have one.
    ("tests/fuzz/test_files.py", "pickle"),
    ("tests/fuzz/test_files.py", "allow_pickle"),
    # Decoders that users pickle themselves, such as for other processes.
    ("tests/geometry/test_log_partition_potential.py", "pickle"),
    ("tests/geometry/test_strangers.py", "pickle"),
    # Examples of the README and of pages are run.
    ("tests/test_readme.py", "exec"),
    ("tests/test_docs.py", "exec"),
    ("tests/test_peers.py", "exec"),
    ("tests/test_kahler_vae.py", "exec"),
    ("tests/test_sklearn.py", "exec"),
    ("tests/test_sklearn.py", "compile"),
    # Archives of arrays and of recordings are read, member by member, and never unpacked.
    ("src/kahlervae/data/arrays.py", "zipfile"),
    ("src/kahlervae/data/recordings.py", "tarfile"),
    ("src/kahlervae/data/recordings.py", "zipfile"),
    ("tests/data/test_arrays.py", "zipfile"),
    ("tests/data/test_recordings.py", "tarfile"),
    ("tests/data/test_recordings.py", "zipfile"),
    ("tests/fuzz/test_readers.py", "zipfile"),
    # The archive that the project makes of itself is unpacked.
    ("tests/test_release.py", "tarfile"),
    ("tests/test_release.py", "extractall"),
    # A loop that takes time.
    ("tests/test_startup.py", "exec"),
}


def sources() -> Iterator[Path]:
    """The Python of the project: package, workflow and tests."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if name.startswith(("src/", "workflow/", "tests/")) and name.endswith((".py", ".smk")):
            yield ROOT / name


def unsafe_names(text: str) -> set[str]:
    """What of the lists above a module imports, calls or takes from another."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name.partition(".")[0] for alias in names} & MODULES
            case ast.ImportFrom(module=str(module), names=names):
                found |= {module.partition(".")[0]} & MODULES
                found |= {f"{module}.{alias.name}" for alias in names} & ATTRIBUTES
            case ast.Attribute(attr=name):
                found |= ({ast.unparse(node)} & ATTRIBUTES) | ({name} & METHODS)
            case ast.Call(func=func, keywords=keywords):
                found |= {ast.unparse(func)} & FUNCTIONS
                named = [k for k in keywords if ast.unparse(k.value) != "False"]
                found |= {keyword.arg for keyword in named if keyword.arg} & KEYWORDS
    return found


def unsafe_words(text: str) -> set[str]:
    """The same by search, for files of rules, which are not all Python."""
    words = {word for word in ATTRIBUTES | METHODS if word in text}
    words |= set(re.findall(rf"\b(?:import|from) ({'|'.join(MODULES)})\b", text))
    words |= set(re.findall(rf"(?<![\w.])({'|'.join(FUNCTIONS)})\(", text))
    return words | set(re.findall(rf"\b({'|'.join(KEYWORDS)})\s*=\s*True", text))


def test_nothing_that_runs_code_from_data_is_used() -> None:
    files = list(sources())
    assert len(files) > 80
    found = set()
    for path in files:
        text = path.read_text(encoding="utf-8")
        names = unsafe_words(text) if path.suffix == ".smk" else unsafe_names(text)
        found |= {(path.relative_to(ROOT).as_posix(), name) for name in names}
    assert found == JUSTIFIED


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import joblib", "torch.load(p)", "eval('1')",
        "np.load(p, allow_pickle=True)", "yaml.load(f, Loader)", "subprocess.run(c, shell=True)",
        "os.system('ls')", "pd.read_pickle(p)", "tar.extractall()", "exec(code)", "f = torch.load",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert unsafe_names(text)
    assert unsafe_words(text)


def test_the_search_spares_what_is_sound() -> None:
    for text in (
        "yaml.safe_load(f)",
        "model.eval()",
        "re.compile('a')",
        "subprocess.run(['ls'])",
        "json.load(f)",
    ):
        assert not unsafe_names(text)
        assert not unsafe_words(text)


def entry(**changes: Any) -> dict[str, Any]:
    """An entry of the table of data sets."""
    file = {"name": "a.gz", "sha256": 64 * "0"}
    content = {
        "kind": "idx", "image_shape": [8, 8], "classes": 2, "licence": "MIT", "citation": "c",
        "addresses": ["https://example.org/"],
        "files": {"train": {"count": 9, "images": file, "labels": file}},
    }  # fmt: skip
    return {"registry": {"mine": content | changes}}


def files(**changes: Any) -> dict[str, Any]:
    file = {"name": "a.gz", "sha256": 64 * "0"} | changes
    content = {key: value for key, value in file.items() if value is not None}
    return entry(files={"train": {"count": 9, "images": content, "labels": content}})


REFUSED = [
    entry(addresses=["http://example.org/"]),
    entry(addresses=["ftp://example.org/"]),
    entry(addresses=["file:///etc/"]),
    entry(addresses=["https://example.org/a b/"]),
    files(sha256=None),
    files(sha256="0" * 63),
    files(sha256="md5:" + "0" * 60),
    files(name="../a"),
    files(name="a/b"),
    files(name="/etc/passwd"),
    files(name=".."),
    files(name="a\nb"),
    {"registry": {"../x": entry()["registry"]["mine"]}},
    {"registry": {"<script>": entry()["registry"]["mine"]}},
]


@pytest.mark.parametrize("config", REFUSED)
def test_data_come_by_https_with_a_checksum_and_stay_in_their_folder(
    config: dict[str, Any],
) -> None:
    data_sources(entry())
    with pytest.raises(InputError, match="config: registry"):
        data_sources(config)


def test_shipped_addresses_are_secure() -> None:
    table = yaml.safe_load((ROOT / "src/kahlervae/data/datasets.yaml").read_text())
    for source in table.values():
        assert all(address.startswith("https://") for address in source.get("addresses", []))


def test_every_direct_dependency_is_pinned_and_reviewed() -> None:
    """The review in SECURITY.md speaks of each of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    demands = [*project["dependencies"], *extras["workflow"], *extras["figures"]]
    names = [re.match(r"[\w.-]+", demand)[0] for demand in demands]
    pins = (ROOT / "requirements.txt").read_text()
    review = (ROOT / "SECURITY.md").read_text()
    for name in names:
        assert re.search(rf"(?im)^{re.escape(name)}==\d", pins), name
        assert f"`{name}`" in review, name
    assert all("==" in line for line in pins.split())
