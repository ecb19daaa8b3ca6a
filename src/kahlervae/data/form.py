"""What a sample is: an array of some shape, real or complex, and how it is shown and judged."""

import functools
import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor

from kahlervae.data.spectrogram import Spectrogram, log_power

__all__ = ["Form", "planes"]


class Form(NamedTuple):
    """The form that all samples of a data set share.

    A sample is *shown* as what people look at and oracles read, its *view*: the array itself, or
    the log power of a recording's short-time Fourier transform.

    Attributes:
        shape: of a sample; of three or more axes the last one holds channels.
        is_complex: whether its values are complex.
        bounded: whether they are known to lie in [0, 1].
        stft: ``window``, ``hop``, ``lowest`` and ``highest`` bin of the transform by which a
            recording is shown; None for what is shown as it is.

    Example:
        >>> form = Form((8, 8))
        >>> form.view_shape, form.show(torch.zeros(5, 8, 8)).shape
        ((8, 8), torch.Size([5, 8, 8]))
        >>> Form.load(form.dump()) == form
        True
    """

    shape: tuple[int, ...]
    is_complex: bool = False
    bounded: bool = True
    stft: Mapping[str, int] | None = None

    @property
    def spectrogram(self) -> Spectrogram:
        """The transform of recordings of this form."""
        assert self.stft is not None
        return _spectrogram(self.shape[0], *sorted(self.stft.items()))

    @property
    def view_shape(self) -> tuple[int, ...]:
        """Shape of a view."""
        return self.shape if self.stft is None else self.spectrogram.shape

    @property
    def view_is_bounded(self) -> bool:
        """Whether views lie in [0, 1]."""
        return self.bounded or self.stft is not None

    def show(self, samples: Num[Tensor, "n *shape"]) -> Num[Tensor, "n *view"]:
        """The views of samples."""
        if self.stft is None:
            return samples
        transform = self.spectrogram.transform(samples)
        # High frequencies on top, as pictures are drawn.
        return log_power(transform.real.square() + transform.imag.square()).flip(1)

    def check(self, samples: Num[Tensor, "n *shape"]) -> str:
        """What is wrong with an array of samples of this form, in words; nothing if it is one."""
        dtype = torch.complex64 if self.is_complex else torch.float32
        if samples.dtype != dtype or samples.shape[1:] != self.shape or samples.numel() == 0:
            return f"no samples of shape {self.shape} and type {str(dtype).removeprefix('torch.')}"
        if not samples.isfinite().all():
            return "values that are not finite"
        if self.bounded and not ((samples >= 0) & (samples <= 1)).all():
            return "values out of [0, 1]"
        return ""

    def dump(self) -> dict[str, Any]:
        """The form in JSON's own types, without what is as usual."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in self._asdict().items()
            if key == "shape" or value != self._field_defaults[key]
        }

    @classmethod
    def load(cls, content: Mapping[str, Any] | str) -> "Form":
        """The form that :meth:`dump` wrote, also as JSON.

        Raises:
            ValueError: it is none.
        """
        if isinstance(content, str):
            content = json.loads(content)
        if not isinstance(content, Mapping) or not {"shape"} <= set(content) <= set(cls._fields):
            raise ValueError("not a form")
        shape = tuple(content["shape"])
        if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
            raise ValueError("not a shape")
        form = cls(**{**content, "shape": shape})
        if form.stft is not None:
            form.spectrogram  # noqa: B018  refuses what is no transform
        return form


@functools.cache
def _spectrogram(length: int, *settings: tuple[str, int]) -> Spectrogram:
    return Spectrogram(length, **dict(settings))


def planes(views: Num[Tensor, "n *shape"]) -> Float[Tensor, "n channels *space"]:
    """Views as channels over one or two axes, as convolutions read them.

    Vectors and series have one axis, pictures two; of three or more axes the last are channels, and
    all before the last two are laid one after the other. Of complex values both parts are channels.

    Example:
        >>> [planes(torch.zeros(5, *shape)).shape[1:] for shape in ((7,), (8, 6), (8, 6, 3))]
        [torch.Size([1, 7]), torch.Size([1, 8, 6]), torch.Size([3, 8, 6])]
        >>> planes(torch.zeros(5, 2, 8, 6, 3)).shape[1:]  # two pictures, one below the other
        torch.Size([3, 16, 6])
        >>> planes(torch.zeros(5, 7, dtype=torch.complex64)).shape[1:]
        torch.Size([2, 7])
    """
    shape = views.shape[1:]
    if len(shape) > 3:
        views = views.reshape(len(views), math.prod(shape[:-2]), *shape[-2:])
    apart = views.movedim(-1, 1) if len(shape) >= 3 else views.unsqueeze(1)
    return torch.cat([apart.real, apart.imag], dim=1) if apart.is_complex() else apart
