"""The modules and tensors that a function may use."""

import functools
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["reached"]


def reached(f: Callable | Tensor) -> Iterator[nn.Module | Tensor]:
    """Modules, with modules and parameters within them, and tensors that a callable uses.

    They are looked for in what it is bound to, closes over, takes by default, finds among the
    globals of its file or has for attributes, and in what these hold in turn; nearest ones first.

    Example:
        >>> from kahlervae.geometry import complexify
        >>> layer = nn.Linear(2, 3)
        >>> [type(thing).__name__ for thing in reached(complexify(lambda u: layer(u).exp()))]
        ['Linear', 'Parameter', 'Parameter']
    """
    waiting, seen = deque([f]), {id(f)}
    for _ in range(MOST):
        if not waiting:
            return
        thing = waiting.popleft()
        if isinstance(thing, nn.Module):
            yield from thing.modules()
            yield from thing.parameters()
        elif isinstance(thing, Tensor):
            yield thing
        else:
            parts = [part for part in _parts(thing) if id(part) not in seen]
            seen.update(map(id, parts))
            waiting.extend(parts)


MOST = 1000
"""Things that are looked at: what a decoder uses is near."""


def _parts(thing: Any) -> Iterable[Any]:
    if isinstance(thing, functools.partial):
        return (thing.func, *thing.args, *thing.keywords.values())
    if isinstance(thing, types.MethodType):
        return (thing.__self__, thing.__func__)
    if isinstance(thing, types.FunctionType):
        return () if _is_library(thing.__module__) else _used(thing)
    if isinstance(thing, Mapping):
        return thing.values()
    if isinstance(thing, list | tuple | set | frozenset):
        return thing
    if isinstance(thing, type | types.ModuleType) or _is_library(type(thing).__module__):
        return ()
    own = type(thing).__dict__.get("__call__")
    return (*getattr(thing, "__dict__", {}).values(), *([own] if own else []))


def _used(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet filled
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]


def _is_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] in {"torch", "numpy", "builtins", "functools", "math"}
