"""The potential that a decoder brings which is Kähler by construction."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from kahlervae import storage
from kahlervae.errors import InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.decoder import Decoder
from kahlervae.geometry.latents import check_gradients
from kahlervae.geometry.potential import Certificate, Potential, TotalCovariance
from kahlervae.models.decoders import BornDecoder, HolomorphicDecoder, PluriharmonicDecoder
from kahlervae.nn.skeleton import skeleton

__all__ = ["LogPartitionPotential", "exact_potential"]

KahlerDecoder = BornDecoder | HolomorphicDecoder | PluriharmonicDecoder

KINDS: dict[str, type[KahlerDecoder]] = {
    kind.__name__: kind for kind in (BornDecoder, HolomorphicDecoder, PluriharmonicDecoder)
}
"""Decoders that are Kähler by construction."""


class LogPartitionPotential(Potential):
    r"""A∘η of a decoder with pluriharmonic natural parameters: its Fisher metric's own potential.

    .. math:: K(z) = s\, A(\eta(z)), \qquad g = \partial\bar\partial K
              = s\, S^T \bar S, \qquad S^T \bar S = \tfrac14\, \partial h^T\, \mathrm{Cov}(T)\,
                \overline{\partial h}, \quad \eta = \mathrm{Re}\, h

    Nothing is fitted and nothing is approximate: with s = 1 the metric is the decoder's Fisher
    metric, by d holomorphic tangents. Plurisubharmonic since A is convex; a covariance and nothing
    else, by A'' = Cov T (docs/theory.md, section 15). It shares the decoder's parameters.

    Args:
        decoder: a :class:`~kahlervae.models.decoders.PluriharmonicDecoder`,
            :class:`~kahlervae.models.decoders.BornDecoder` or
            :class:`~kahlervae.models.decoders.HolomorphicDecoder`.
        strength: s.

    Raises:
        InputError: the decoder is none of these, or the strength is not positive and finite.

    Example:
        >>> from kahlervae.geometry import fisher_metric
        >>> decoder = PluriharmonicDecoder(64, 2, 8, 1, "bernoulli")
        >>> potential = LogPartitionPotential(decoder)
        >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
        >>> torch.allclose(potential.metric(z), fisher_metric(decoder, z))
        True
        >>> potential.certificate().valid
        True
    """

    decoder: KahlerDecoder
    strength: Tensor

    def __init__(self, decoder: KahlerDecoder, strength: float = 1.0) -> None:
        super().__init__()
        if type(decoder) not in KINDS.values():
            raise InputError(
                f"a {type(decoder).__name__} is not known to be Kähler, so that it brings no "
                f"potential: use one of {', '.join(KINDS)}, or fit one (fit_potential)."
            )
        if not 0 < strength < math.inf:
            raise InputError(
                f"a potential of strength {strength} is none: take a positive, finite one."
            )
        self.decoder = decoder
        self.register_buffer("strength", torch.tensor(strength, dtype=self.dtype.to_real()))

    @property
    def latent_dim(self) -> int:
        """d."""
        return int(self.decoder.settings["latent_dim"])

    @property
    def dtype(self) -> torch.dtype:
        """That of the latents, complex64 or complex128."""
        return next(p.dtype for p in self.decoder.parameters() if p.is_complex())

    def save(self, path: Path | str) -> None:
        """Write the decoder, with what it is made of, as one safetensors file.

        Raises:
            InputError: the path cannot be written to, the decoder is in double precision, for whose
                complex numbers the format has no type, or it has parts that its settings do not
                make.
        """
        if any(parameter.dtype == torch.complex128 for parameter in self.parameters()):
            raise InputError(f"{path} cannot hold double precision: save it in single precision.")
        with skeleton():
            made = type(self.decoder)(**self.decoder.settings)
        if _parts(made) != _parts(self.decoder):
            raise InputError(
                f"{path} cannot hold a {type(self.decoder).__name__} with parts of your own: save "
                "its state_dict, and make the potential anew of the decoder."
            )
        metadata = {
            "kind": type(self).__name__,
            "decoder": type(self.decoder).__name__,
            "settings": json.dumps(self.decoder.settings, sort_keys=True),
        }
        storage.write_tensors(path, self.state_dict(), metadata)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """A potential that :meth:`save` wrote, without gradients.

        Raises:
            InputError: the file is missing, damaged, or of another kind.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> potential = LogPartitionPotential(PluriharmonicDecoder(64, 2, 8, 1, "bernoulli"))
            >>> with TemporaryDirectory() as folder:
            ...     potential.save(f"{folder}/exact.safetensors")
            ...     again = LogPartitionPotential.load(f"{folder}/exact.safetensors")
            >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
            >>> torch.equal(again.potential(z), potential.potential(z))
            True
        """
        tensors, metadata = storage.read_tensors(path)
        try:
            if metadata["kind"] != cls.__name__:
                raise ValueError("another kind")
            settings = json.loads(metadata["settings"])
            if not all(size <= LARGEST for size in settings.values() if isinstance(size, int)):
                raise ValueError("sizes that no decoder has")
            with skeleton():
                decoder = KINDS[metadata["decoder"]](**settings)
        except (AttributeError, InputError, LookupError, RuntimeError, TypeError, ValueError) as e:
            raise InputError(f"{path} does not hold a {cls.__name__}: save it again.") from e
        potential = cls(decoder)
        expected = {key: value.to("meta") for key, value in potential.state_dict().items()}
        storage.check_tensors(path, tensors, expected)
        # Copies, for what is read is not aligned like other tensors, which the last digit can show.
        copies = {key: value.clone() for key, value in tensors.items()}
        potential.load_state_dict(copies, assign=True)
        return potential.eval().requires_grad_(False)

    @classmethod
    def _shapes(cls, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        raise InputError(f"a {cls.__name__} is made of a decoder: use {cls.__name__}.load.")

    @property
    def _size(self) -> int:
        sizes = self.decoder.settings
        outputs = sizes["output_dim"] * (sizes.get("categories") or 1)
        return int(self.latent_dim * max(outputs, sizes["width"]))

    def _potential(self, z: Tensor) -> Tensor:
        return self._scaled(self.decoder.log_partition(z))

    def _metric(self, z: Tensor) -> Tensor:
        factor = self.decoder.holomorphic_factor(z)
        return self._scaled(factor.mT @ factor.conj())

    def _parts(self, z: Tensor) -> TotalCovariance:
        """None within, all between, since the metric is a covariance."""
        metric = self._metric(z)
        return TotalCovariance(torch.zeros_like(metric), metric)

    def _log_det_and_gradient(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        """By one reverse pass through the closed form of the metric."""
        check_gradients("the gradient of log det")
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            value = log_det(self._metric(leaf), epsilon)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    def _scale(self, factor: float) -> None:
        self.strength.mul_(factor)

    def _certificate(self) -> Certificate:
        """A is convex and η is pluriharmonic; 0, since tangents may be linearly dependent."""
        return Certificate(0.0, float(self.strength))

    def _scaled(self, values: Tensor) -> Tensor:
        return values * self.strength.to(values.real.dtype)


def exact_potential(decoder: Decoder) -> LogPartitionPotential | None:
    """The potential that a decoder brings; none where it is not known to be Kähler.

    Example:
        >>> from kahlervae.models.decoders import ComplexDecoder
        >>> exact_potential(ComplexDecoder(64, 2, 8, 1)) is None
        True
    """
    if isinstance(decoder, KahlerDecoder) and type(decoder) in KINDS.values():
        return LogPartitionPotential(decoder)
    return None


def _parts(decoder: nn.Module) -> list[tuple[str, type]]:
    return [(name, type(module)) for name, module in decoder.named_modules()]


LARGEST = 1 << 20
"""Of the sizes of a decoder that a file may claim."""
