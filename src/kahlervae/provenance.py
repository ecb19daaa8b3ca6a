"""What a result was made with: versions, machine, configuration, revision; and its checksums."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from kahlervae.errors import InputError
from kahlervae.storage import checksum

__all__ = ["collect", "revision"]


def collect(
    files: Iterable[Path], results: Path, requirements: Path, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Record how ``files`` came about.

    The record holds no time, host name or absolute path: on one machine, equal results of one
    revision have equal records.

    Args:
        files: the results.
        results: the folder relative to which they are named; files elsewhere are named by their
            last folder.
        requirements: the list of pinned packages.
        config: all settings that determine numbers, with overlays and overrides merged in.

    Raises:
        InputError: a file is missing, or the list of packages cannot be read.
    """
    return {
        "kahlervae": _version("kahlervae"),
        "revision": revision(Path(__file__).parents[2]),
        "config_sha256": _config_digest(config),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _names(requirements)},
        "torch": {
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "libraries": _libraries(),
        },
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cpu": _cpu_info("model name") or platform.processor(),
            "cpu_flags": _cpu_info("flags"),
            "cores": os.cpu_count(),
        },
        "sha256": {_name(file, results): checksum(file) for file in files},
    }


def revision(folder: Path) -> dict[str, Any] | None:
    """The git commit of ``folder`` and whether files differ from it.

    None where there is no git, or where ``folder`` is not the top of a repository, as in an
    unpacked archive.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if git("rev-parse", "--show-prefix"):
            return None
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def _config_digest(config: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _names(requirements: Path) -> list[str]:
    try:
        text = requirements.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{requirements} is no readable list of packages ({error}): give requirements.txt."
        ) from error
    return re.findall(r"^([\w.-]+)==", text, re.MULTILINE)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _libraries() -> list[str]:
    """The libraries that compute for torch, with their versions."""
    lines = (line.strip(" -") for line in torch.__config__.show().splitlines())
    return [line for line in lines if re.match("Intel|OpenMP|LAPACK", line)]


def _cpu_info(key: str) -> str:
    """An entry of /proc/cpuinfo; empty where the system has no such file or entry."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(rf"^{key}\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _name(file: Path, results: Path) -> str:
    if file.is_relative_to(results):
        return file.relative_to(results).as_posix()
    return f"{file.parent.name}/{file.name}"
