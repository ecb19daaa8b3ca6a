"""Which source files a module depends on, read from the import statements; nothing is run."""

from collections.abc import Iterable
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

__all__ = ["imported"]


def imported(modules: Iterable[str], root: Path | str) -> list[Path]:
    """Source files of modules of this package, and of all that they import from it.

    Args:
        modules: their full names.
        root: the folder that holds the package.
    """
    finder = _PackageFinder(path=[str(root)])
    for module in modules:
        finder.import_hook(module)
    files = {getattr(found, "__file__", None) for found in finder.modules.values()}
    return sorted(Path(file) for file in files if file)


class _PackageFinder(ModuleFinder):
    """Passes over other packages, which may lie beside this one."""

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        if path is None and name != "kahlervae":
            raise ImportError(name)
        return super().find_module(name, path, parent)
