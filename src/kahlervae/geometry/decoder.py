"""Anyone's decoder: asked, and refused in words where it fails."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch import distributions as dist
from torch.func import debug_unwrap

from kahlervae.errors import InputError, out_of_memory
from kahlervae.geometry.exact import exact
from kahlervae.geometry.information import information
from kahlervae.geometry.memory import followed
from kahlervae.models.likelihoods import ComplexGaussian, DenseComplexGaussian, RealGaussian

__all__ = ["Decoder", "ask", "ask_plainly", "check_overflow", "explained"]

Decoder = Callable[[Tensor], Any]
"""Latents (n, d) to a distribution over data, row by row: one of
:mod:`kahlervae.models.likelihoods` or a ``torch.distributions.Distribution``, with data of any
shape."""


def ask(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Any:
    """The decoder's distribution at z, with parameters of the package's Gaussians broadcast.

    Raises:
        InputError: the decoder fails, or does not return a distribution for every row.

    Example:
        >>> import torch
        >>> from kahlervae.models import RealGaussian
        >>> ask(lambda z: RealGaussian(z.real, torch.zeros(())), torch.tensor([[1 + 2j]])).log_var
        tensor([[0.]])
    """
    with explained(decoder, z), exact():
        return ask_plainly(decoder, z)


def ask_plainly(decoder: Decoder, z: Complex[Tensor, "n d"]) -> Any:
    """What :func:`ask` gives, by torch's own functions and with their errors.

    Of a copy of the latents, so that a decoder may write into what it is given.
    """
    return _broadcast(decoder(z.clone()), len(z))


def _broadcast(likelihood: Any, count: int) -> Any:
    """What the decoder returned, if it is a distribution for every one of so many rows."""
    if isinstance(likelihood, dist.Distribution):
        if likelihood.batch_shape[:1] != (count,):
            raise InputError(
                "the decoder returns a distribution of batch shape "
                f"{tuple(likelihood.batch_shape)} for {count} latents: its first axis has to be "
                "that of the latents."
            )
        return likelihood
    if isinstance(likelihood, RealGaussian | ComplexGaussian):
        return _checked_gaussian(likelihood, count)
    if isinstance(likelihood, DenseComplexGaussian) and not likelihood.mean.is_complex():
        raise InputError("the mean of the decoder's DenseComplexGaussian is real: make it complex.")
    if isinstance(likelihood, DenseComplexGaussian) or information(likelihood) is not None:
        return likelihood
    raise InputError(
        f"the decoder returns a {type(likelihood).__name__}, not a distribution: return one, such "
        "as torch's Independent(Normal(mean, scale), 1) or Bernoulli(logits=...), or "
        "RealGaussian(mean, log_var) of kahlervae.models."
    )


def _checked_gaussian(
    likelihood: RealGaussian | ComplexGaussian, count: int
) -> RealGaussian | ComplexGaussian:
    kind = type(likelihood).__name__
    mean, log_var = likelihood
    for name, part in likelihood._asdict().items():
        if not isinstance(part, Tensor):
            raise InputError(f"the {name} of the decoder's {kind} is no tensor: make it one.")
    if mean.is_complex() != isinstance(likelihood, ComplexGaussian) or not (
        mean.is_complex() or mean.is_floating_point()
    ):
        raise InputError(
            f"the mean of the decoder's {kind} is {_dtype(mean)}: real data are a RealGaussian, "
            "complex data a ComplexGaussian."
        )
    if not log_var.is_floating_point():
        raise InputError(f"the log_var of the decoder's {kind} is {_dtype(log_var)}: make it real.")
    if mean.dim() < 2 or len(mean) != count:
        raise InputError(
            f"the mean of the decoder's {kind} has the shape {tuple(mean.shape)} for {count} "
            "latents: its shape has to be (n, ...), a row of data for every latent."
        )
    misfit = (
        f"the log_var of the decoder's {kind} has the shape {tuple(log_var.shape)}, which does not "
        f"go with that of the mean, {tuple(mean.shape)}: one number for every latent has the shape "
        f"{(count, *[1] * (mean.dim() - 1))}."
    )
    try:
        return likelihood._replace(log_var=log_var.expand(mean.shape))
    except RuntimeError:
        raise InputError(misfit) from None


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@contextlib.contextmanager
def explained(decoder: Decoder, z: Tensor) -> Iterator[None]:
    """Errors of torch, or of the decoder, in one sentence.

    Example:
        >>> import torch
        >>> with explained(abs, torch.zeros(1, 1) + 0j):
        ...     raise RuntimeError("derivative for aten::cube is not implemented\\n  at ...")
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: torch cannot differentiate aten::cube, which the decoder \
uses, in the way that is needed here: write it out in elementary operations.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        raise InputError(_sentence(error, decoder, z)) from error


def check_overflow(value: Float[Tensor, "n *shape"], z: Complex[Tensor, "n d"]) -> None:
    """Refuse what is made of a decoder and not finite at latents that are.

    But where it is differentiated or batched: a training or a trajectory looks at what it gets, and
    does not wait for a device at every step.

    Raises:
        InputError: there is such a latent.

    Example:
        >>> import torch
        >>> check_overflow(torch.tensor([1.0, torch.inf]), torch.zeros(2, 1) + 0j)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: the decoder's Fisher information is not finite at 1 of 2 \
latents: leave these out, or bound what it computes, such as log_var or scale.
    """
    if followed(value) or followed(z):
        return
    wrong = z.isfinite().all(1) & ~value.isfinite().unsqueeze(-1).flatten(1).all(1)
    if count := int(wrong.sum()):
        raise InputError(
            f"the decoder's Fisher information is not finite at {count} of {len(z)} latents: leave "
            "these out, or bound what it computes, such as log_var or scale."
        )


CANNOT = re.compile(
    r"forward AD with (?:the )?(\S+) that does not support"
    r"|derivative for '?([\w:]+)'? is not implemented"
    r"|HigherOrderOperator (\w+)"
)


HINTS = {
    "not implemented for '(Complex|Half|BFloat)": "parameters of distributions are float32 or "
    "float64, such as the real and imaginary parts of what is complex",
    "BatchedTensor": "these functions take batches, so give all latents at once in place of vmap",
    "same dtype|expected scalar type|must match.*dtype|dtype.*must match": "give latents and "
    "decoder the same precision, as by {cast}",
    "storage|data pointer|[Ss]parse": "what numpy, sparse tensors or other libraries compute has "
    "no derivative, so write it in functions of torch on dense tensors",
    "[Ii]nference tensor": "tensors of torch.inference_mode have no derivative, so take it out of "
    "the decoder",
    "saved tensor hooks": "take them out, since they only save memory",
}
"""What helps, by what torch says."""

CASTS = {
    torch.complex64: "decoder.float(), or z.to(torch.complex128) for a decoder in double",
    torch.complex128: "decoder.double()",
}
"""What brings a decoder of another precision and latents together, by that of the latents."""


def _sentence(error: Exception, decoder: Decoder, z: Tensor) -> str:
    text = str(error).strip() or type(error).__name__
    first = text.partition("\n")[0]
    if found := CANNOT.search(text):
        operation = found[1] or found[2] or found[3]
    elif "autograd.Function" in text:
        operation = "a custom autograd.Function (a backward hook of a module is one, too)"
    else:
        name = getattr(decoder, "__name__", type(decoder).__name__)
        if wrong := int((~debug_unwrap(z).isfinite()).any(-1).sum()):
            return (
                f"z is not finite in {wrong} of {len(z)} rows, where the decoder {name} fails "
                f"({first}): leave them out, or find what made them diverge."
            )
        hint = next(
            (f": {hint}" for pattern, hint in HINTS.items() if re.search(pattern, first)), ""
        ).format(cast=CASTS.get(z.dtype))
        return (
            f"the decoder {name} fails at latents of shape {tuple(z.shape)} and type {_dtype(z)} "
            f"({first}){hint}."
        )
    return (
        f"torch cannot differentiate {operation}, which the decoder uses, in the way that is "
        "needed here: write it out in elementary operations."
    )
