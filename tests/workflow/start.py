"""Snakemake in processes that are forked from one which has imported it, most of what it takes."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run_snakemake"]

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["snakemake.cli"])


def run_snakemake(
    arguments: Sequence[str], folder: Path, environment: dict[str, str], log: Path
) -> int:
    """Exit status of ``python -m snakemake`` in a folder; what it says goes into a file."""
    process = PROCESSES.Process(target=_main, args=(arguments, folder, environment, log))
    process.start()
    process.join()
    return process.exitcode


def _main(arguments: Sequence[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:0] = ["", *environment["PYTHONPATH"].split(os.pathsep)]
    sys.argv = ["snakemake", *arguments]

    from snakemake.cli import main

    main(list(arguments))
