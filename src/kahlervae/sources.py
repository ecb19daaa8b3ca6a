"""Which source files a module depends on, read from the import statements; nothing is run."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

__all__ = ["imported"]


def imported(modules: Iterable[str], root: Path | str) -> list[Path]:
    """Source files of modules of this package, and of all that they import from it.

    Args:
        modules: their full names.
        root: the folder that holds the package.

    Raises:
        ImportError: one of the modules has no file.

    Examples:
        >>> root = Path(__file__).parents[1]
        >>> [str(file.relative_to(root)) for file in imported(["kahlervae.options"], root)]
        ['kahlervae/__init__.py', 'kahlervae/errors.py', 'kahlervae/options.py']
    """
    root = Path(root)
    files: dict[str, Path | None] = {}
    waiting = list(modules)
    for name in waiting:
        if _file(name, root) is None:
            raise ImportError(f"there is no module {name} in {root}")
    while waiting:
        name = waiting.pop()
        if name in files:
            continue
        files[name] = file = _file(name, root)
        if parent := name.rpartition(".")[0]:
            waiting.append(parent)  # which Python runs first
        if file is not None:
            package = name if file.name == "__init__.py" else parent
            waiting += _names(file.read_text(encoding="utf-8"), package)
    return sorted(file for file in files.values() if file is not None)


def _file(name: str, root: Path) -> Path | None:
    """The file of a module or package, if it is one."""
    path = root.joinpath(*name.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@cache
def _names(source: str, package: str) -> tuple[str, ...]:
    """What a module of a package may import of this one: some names may be those of functions."""
    names = set()
    for node in _imports(ast.parse(source).body):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
            continue
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        module = ".".join([*above, *filter(None, [node.module])])
        names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return tuple(sorted(name for name in names if name.partition(".")[0] == "kahlervae"))


def _imports(body: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements among statements, however deep."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        for inner in ("body", "orelse", "handlers", "finalbody", "cases"):
            yield from _imports(getattr(node, inner, ()))
