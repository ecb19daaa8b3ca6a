"""Which arrays of a file are its samples, and which are their labels, by name, shape and type."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from kahlervae.data.arrays import ArrayHeader
from kahlervae.errors import InputError

__all__ = ["LABELS", "PARTS", "SAMPLES", "label_keys", "named_part", "sample_keys"]

SAMPLES = ("samples", "x", "data", "images", "image", "signals")
"""Names by which samples are known, by themselves or with the part of a split."""
LABELS = ("labels", "label", "y", "targets", "target", "classes")
"""Names by which labels are known, by themselves or with the part of a split."""
PARTS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "validation", "valid": "validation", "validation": "validation"},
}
"""Words for the parts of a split, and what each of them means."""
SEPARATOR = re.compile(r"[_\-./ ]+|(?<=[a-z0-9])(?=[A-Z])|(?<=^[xyXY])(?=train|val|test)")
"""What lies between the words of a name, as in x_train, imagesTest or Xtrain."""


def named_part(key: str) -> tuple[str, str | None]:
    """A name without the part of a split, in small letters, and the part.

    A part is one whole word of the name, and the only one of its kind.

    Example:
        >>> [named_part(key) for key in ("x_train", "valImages", "X", "x_trainval")]
        [('x', 'train'), ('images', 'validation'), ('x', None), ('x_trainval', None)]
    """
    words = [word.lower() for word in SEPARATOR.split(key) if word]
    parts = [word for word in words if word in PARTS]
    if len(parts) != 1:
        return "_".join(words), None
    return "_".join(word for word in words if word not in PARTS), PARTS[parts[0]]


def sample_keys(headers: Mapping[str, ArrayHeader], file: Path) -> list[str]:
    """The names of the samples: a known one, or that of the largest, and what differs from it in
    the part of a split alone.

    Args:
        headers: of all arrays of a file.
        file: names it in sentences.

    Raises:
        InputError: none of them can be samples.

    Example:
        >>> import numpy as np
        >>> header = ArrayHeader((60, 8), np.dtype("f4"))
        >>> sample_keys({"x_test": header, "y_test": header, "x_train": header}, Path("a.npz"))
        ['x_test', 'x_train']
    """
    numbers = {
        key: header
        for key, header in headers.items()
        if header.dtype.kind in "biufc" and len(header.shape) > 1 and header.shape[0] > 0
    }
    if not numbers:
        for header in headers.values():
            if header.fault:
                raise InputError(header.fault)
        held = ", ".join(f"{key} {header.shape}" for key, header in headers.items()) or "nothing"
        raise InputError(
            f"{file} holds no samples ({held}): these are numbers, stacked along the first axis: "
            "(n, 64) or (n, 28, 28)."
        )

    def rank(key: str) -> tuple[int, int, bool, bool, int]:
        # Of the same values as pictures and as vectors, the pictures; of what is as large, no mask,
        # nor what is called after a part.
        shape, kind = numbers[key].shape, numbers[key].dtype.kind
        whole = named_part(key)[1] is None
        return math.prod(shape), len(shape), kind != "b", whole, "biufc".index(kind)

    key = max([key for key in numbers if named_part(key)[0] in SAMPLES] or numbers, key=rank)
    name, part = named_part(key)
    if part is None:
        return [key]
    parts = {part: key}
    for other, header in numbers.items():
        its_name, its_part = named_part(other)
        alike = (header.shape[1:], header.dtype.kind) == (
            numbers[key].shape[1:],
            numbers[key].dtype.kind,
        )
        if its_name == name and its_part is not None and alike:
            parts.setdefault(its_part, other)
    return [other for other in numbers if other in parts.values()]


def label_keys(names: Sequence[str], samples: Sequence[str]) -> Iterator[list[str]]:
    """Names that may be those of the labels, of every array of samples its own part; the likeliest
    first.

    Args:
        names: of arrays that are no samples.
        samples: names of the arrays of samples.

    Example:
        >>> list(label_keys(["y_test", "y_train", "label", "y"], ["x_train", "x_test"]))
        [['y_train', 'y_test']]
        >>> list(label_keys(["y_test", "y_train", "label", "y"], ["x"]))
        [['label'], ['y']]
    """
    for known in LABELS:
        own = [
            [name for name in names if named_part(name) == (known, named_part(key)[1])]
            for key in samples
        ]
        for row in zip_longest(*own):
            yield [name for name in row if name is not None]
