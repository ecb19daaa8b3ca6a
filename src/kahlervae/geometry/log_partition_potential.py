"""The potential that a decoder brings which is Kähler by construction."""

import copy
import json
from pathlib import Path
from typing import Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae import storage
from kahlervae.errors import InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.latents import check_latents
from kahlervae.geometry.potential import Certificate, TotalCovariance
from kahlervae.models.decoders import BornDecoder, HolomorphicDecoder, PluriharmonicDecoder

__all__ = ["LogPartitionPotential"]

KahlerDecoder = BornDecoder | HolomorphicDecoder | PluriharmonicDecoder

KINDS: dict[str, type[KahlerDecoder]] = {
    kind.__name__: kind for kind in (BornDecoder, HolomorphicDecoder, PluriharmonicDecoder)
}
"""Decoders that are Kähler by construction."""

CHUNK = 1 << 20
"""Numbers in the largest intermediate of a chunk of points."""


class LogPartitionPotential(nn.Module):
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
        InputError: the decoder is none of these.

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
        self.decoder = decoder
        self.register_buffer("strength", torch.tensor(strength, dtype=torch.float64))

    def potential(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """K(z); of Gaussians without log σ², which is constant."""
        parts = [self.decoder.log_partition(part) for part in self._chunks(z)]
        return self._scaled(torch.cat(parts))

    def metric(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
        r""":math:`g_{i\bar j} = \partial_i \bar\partial_j K` in closed form, differentiable."""
        return torch.cat([self._metric(part) for part in self._chunks(z)])

    def total_covariance(self, z: Complex[Tensor, "n d"]) -> TotalCovariance:
        """The metric's parts: none within, all between, since the metric is a covariance.

        Example:
            >>> potential = LogPartitionPotential(PluriharmonicDecoder(64, 2, 8, 1, "bernoulli"))
            >>> within, between = potential.total_covariance(torch.tensor([[1 + 2j, 0.5 - 1j]]))
            >>> within.abs().max().item()
            0.0
        """
        metric = self.metric(z)
        return TotalCovariance(torch.zeros_like(metric), metric)

    def log_det(self, z: Complex[Tensor, "n d"], epsilon: float = 0.0) -> Float[Tensor, " n"]:
        r""":math:`\log\det(g(z) + \epsilon I)`, differentiable in z; NaN where not definite."""
        parts = [log_det(self._metric(part), epsilon) for part in self._chunks(z)]
        return torch.cat(parts)

    def log_det_and_gradient(
        self, z: Complex[Tensor, "n d"], epsilon: float = 0.0
    ) -> tuple[Float[Tensor, " n"], Complex[Tensor, "n d"]]:
        r""":meth:`log_det` and its gradient :math:`\nabla_a + i \nabla_b`, by one reverse pass.

        Nothing flows back through the result.
        """
        values, gradients = [], []
        for part in self._chunks(z):
            with torch.enable_grad():
                leaf = part.detach().requires_grad_()
                value = log_det(self._metric(leaf), epsilon)
                (gradient,) = torch.autograd.grad(value.sum(), leaf)
            values.append(value.detach())
            gradients.append(gradient)
        return torch.cat(values), torch.cat(gradients)

    @torch.no_grad()
    def certificate(self) -> Certificate:
        """Plurisubharmonicity from the construction: A is convex and η is pluriharmonic.

        The bound of the smallest eigenvalue is 0: where tangents of the decoder are linearly
        dependent the metric is degenerate.
        """
        if not all(parameter.isfinite().all() for parameter in self.parameters()):
            return Certificate(torch.nan, torch.nan)
        return Certificate(0.0, float(self.strength))

    @torch.no_grad()
    def scaled(self, factor: float) -> Self:
        """The potential times a positive factor, and so its metric.

        Example:
            >>> potential = LogPartitionPotential(PluriharmonicDecoder(64, 2, 8, 1, "bernoulli"))
            >>> z = torch.tensor([[1 + 2j, 0.5 - 1j]])
            >>> torch.allclose(potential.scaled(3.0).metric(z), 3 * potential.metric(z))
            True
        """
        scaled = copy.deepcopy(self)
        scaled.strength.mul_(factor)
        return scaled

    def save(self, path: Path | str) -> None:
        """Write the decoder, with what it is made of, as one safetensors file.

        Raises:
            InputError: the path cannot be written to, or the decoder is in double precision, for
                whose complex numbers the format has no type.
        """
        if any(parameter.dtype == torch.complex128 for parameter in self.parameters()):
            raise InputError(f"{path} cannot hold double precision: save it in single precision.")
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
            with torch.device("meta"):  # nothing is allocated for the sizes that a file claims
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

    def _metric(self, z: Tensor) -> Tensor:
        factor = self.decoder.holomorphic_factor(z)
        return self._scaled(factor.mT @ factor.conj())

    def _scaled(self, values: Tensor) -> Tensor:
        return values * self.strength.to(values.real.dtype)

    def _chunks(self, z: Tensor) -> tuple[Tensor, ...]:
        z = check_latents(z)
        first = next(self.decoder.parameters())
        d = self.decoder.settings["latent_dim"]
        if z.shape[1] != d or z.dtype != first.dtype:
            raise InputError(
                f"z has the shape {tuple(z.shape)} and type {z.dtype}, but the potential is one of "
                f"(n, {d}) and {first.dtype}: convert z, or the decoder."
            )
        sizes = self.decoder.settings
        outputs = sizes["output_dim"] * (sizes.get("categories") or 1)
        return z.split(max(1, CHUNK // (d * max(outputs, sizes["width"]))))


LARGEST = 1 << 20
"""Of the sizes of a decoder that a file may claim."""
