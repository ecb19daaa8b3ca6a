"""Progress of training: a bar on a terminal, readable lines in a log file."""

import logging
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

__all__ = ["Progress"]

log = logging.getLogger(__name__)


class Progress:
    """A context in which epochs are reported.

    On a terminal there is a bar; elsewhere, as under a workflow, every tenth part of the run and
    the last epoch are logged as a line.

    Args:
        names: of the runs that go on together, which differ after the last slash.
        epochs: how many there will be.
        start: how many are done.
    """

    def __init__(self, names: Sequence[str], epochs: int, start: int) -> None:
        self.names = names
        self.epochs = epochs
        self.every = max(1, epochs // 10)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Bar(*columns, TimeRemainingColumn(), disable=not sys.stderr.isatty())
        together = ", ".join([names[0], *(name.rpartition("/")[2] for name in names[1:])])
        self.task = self.bar.add_task(together, total=epochs, completed=start)
        if start:
            log.info("%s: resumed after epoch %d", together, start)

    def report(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Show one epoch: a row of the history of every run."""
        self.bar.advance(self.task)
        for name, row in zip(self.names, rows, strict=True):
            if row["epoch"] % self.every == 0 or row["epoch"] == self.epochs:
                terms = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch")
                log.info("%s: epoch %d/%d: %s", name, row["epoch"], self.epochs, terms)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()
