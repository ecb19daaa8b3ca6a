"""How much of a command goes into starting it: the interpreter and its imports.

The commands import what they need when they are called, and libraries import parts of themselves
later still, so that no moment separates start and work. Hence every import statement is timed.
"""

import builtins
import re
import time
from typing import Any

__all__ = ["Startup", "read_startup"]


class Startup:
    """CPU seconds of this process before :meth:`begin`, and in import statements after it.

    Every outermost import statement is timed; those inside of it are part of it.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._import = builtins.__import__
        self._inside = False

    def begin(self) -> None:
        """Count what the process has used so far, and time imports from now on."""
        self.seconds = time.process_time()
        builtins.__import__ = self._timed

    def _timed(self, *arguments: Any, **options: Any) -> Any:
        if self._inside:
            return self._import(*arguments, **options)
        self._inside = True
        begin = time.process_time()
        try:
            return self._import(*arguments, **options)
        finally:
            self.seconds += time.process_time() - begin
            self._inside = False

    def __str__(self) -> str:
        return f"CPU seconds: {time.process_time():.2f}, of which to start: {self.seconds:.2f}"


def read_startup(log: str) -> tuple[float, float]:
    """CPU seconds of a command and of its start, from its log; NaN where the log lacks them."""
    found = re.findall(r"^CPU seconds: ([\d.]+), of which to start: ([\d.]+)$", log, re.M)
    return (float(found[-1][0]), float(found[-1][1])) if found else (float("nan"), float("nan"))
