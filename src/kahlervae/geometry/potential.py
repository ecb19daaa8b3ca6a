"""What every Kähler potential can do, whatever its class."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn

from kahlervae import storage
from kahlervae.errors import InputError
from kahlervae.geometry.curvature import log_det
from kahlervae.geometry.latents import COMPLEX, check_latents
from kahlervae.nn.precision import OnePrecision

__all__ = ["Certificate", "Potential", "TotalCovariance"]


class TotalCovariance(NamedTuple):
    """The two parts of the metric of a :class:`Potential`; their sum is the metric.

    Attributes:
        within: the mean of the components' own curvatures, and the background.
        between: the covariance of their slopes.
    """

    within: Complex[Tensor, "n d d"]
    between: Complex[Tensor, "n d d"]


class Certificate(NamedTuple):
    """Why a potential is plurisubharmonic.

    Attributes:
        lower_bound: a bound, valid at every z, of the smallest eigenvalue of the metric, from the
            parameters alone.
        smallest_strength: the smallest s_m, which must be positive.
    """

    lower_bound: float
    smallest_strength: float

    @property
    def valid(self) -> bool:
        """Whether the certificate proves plurisubharmonicity."""
        return 0 <= self.lower_bound < math.inf and 0 < self.smallest_strength < math.inf


class Potential(OnePrecision, ABC):
    r"""A plurisubharmonic function K on C^d with its metric :math:`g = \partial\bar\partial K`.

    Every class of potentials has these verbs, and samplers, geodesics and regularisers know no
    others. Points are taken in chunks, so that memory beyond the result stays bounded however many
    there are. A class is constructed from its parameters, by name, and registers itself, so that
    :meth:`load` finds the one that a file is of.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from kahlervae.geometry import MixturePotential, Potential
        >>> potential = MixturePotential.constant(torch.tensor([[2, 1j], [-1j, 2]]))
        >>> with TemporaryDirectory() as folder:
        ...     potential.save(f"{folder}/constant.safetensors")
        ...     loaded = Potential.load(f"{folder}/constant.safetensors")
        >>> type(loaded).__name__, round(loaded.certificate().lower_bound, 4)
        ('MixturePotential', 1.0)
    """

    kinds: ClassVar[dict[str, type["Potential"]]] = {}
    """Every class of potentials, by its name."""

    real_parameters: ClassVar[frozenset[str]] = frozenset()
    """Which parameters are real; all others are complex."""

    background: nn.Parameter
    """L₀ of the term z†L₀L₀†z that every class has."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        Potential.kinds[cls.__name__] = cls

    @property
    def latent_dim(self) -> int:
        """d."""
        return self.background.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """That of the latents, complex64 or complex128."""
        return self.background.dtype

    def potential(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """K(z)."""
        return torch.cat([self._potential(part) for part in self._chunks(z)])

    def metric(self, z: Complex[Tensor, "n d"]) -> Complex[Tensor, "n d d"]:
        r""":math:`g_{i\bar j} = \partial_i \bar\partial_j K` in closed form."""
        return torch.cat([self._metric(part) for part in self._chunks(z)])

    def squared_norm(
        self, z: Complex[Tensor, "n d"], v: Complex[Tensor, "n d"]
    ) -> Float[Tensor, " n"]:
        r"""Squared length of one vector per point, :math:`g(v, v) = v^T G \bar v`.

        Lengths of curves by the :meth:`metric` of a potential come from here: a class may know them
        without the matrices.

        Raises:
            InputError: z and v are no latents of one shape and of the potential's precision.

        Example:
            >>> from kahlervae.geometry import MixturePotential
            >>> potential = MixturePotential.constant(torch.tensor([[2, 1j], [-1j, 2]]))
            >>> v = torch.tensor([[1 + 0j, 1j]])
            >>> round(potential.squared_norm(0 * v, v).item(), 4)  # 2 + 2 + 2 Re(1j · conj(1j))
            6.0
        """
        parts, v = self._chunks(z), check_latents(v, "v")
        if v.shape != z.shape or v.dtype != self.dtype:
            raise InputError(
                f"v has the shape {tuple(v.shape)} and type {v.dtype}, but z has "
                f"{tuple(z.shape)} and {self.dtype}: give one vector for every point."
            )
        pairs = zip(parts, v.split([len(part) for part in parts]), strict=True)
        return torch.cat([self._squared_norm(*pair) for pair in pairs])

    def total_covariance(self, z: Complex[Tensor, "n d"]) -> TotalCovariance:
        """The metric's parts within and between components."""
        parts = [self._parts(part) for part in self._chunks(z)]
        within, between = zip(*parts, strict=True)
        return TotalCovariance(torch.cat(within), torch.cat(between))

    def log_det(self, z: Complex[Tensor, "n d"], epsilon: float = 0.0) -> Float[Tensor, " n"]:
        r""":math:`\log\det(g(z) + \epsilon I)`, differentiable in z; NaN where not definite."""
        return torch.cat([self._log_det(part, epsilon) for part in self._chunks(z)])

    def log_det_and_gradient(
        self, z: Complex[Tensor, "n d"], epsilon: float = 0.0
    ) -> tuple[Float[Tensor, " n"], Complex[Tensor, "n d"]]:
        r""":meth:`log_det` and its gradient :math:`\nabla_a + i \nabla_b`, the one of autograd.

        In closed form; nothing flows back through the result.
        """
        parts = [self._log_det_and_gradient(part, epsilon) for part in self._chunks(z)]
        values, gradients = zip(*parts, strict=True)
        return torch.cat(values), torch.cat(gradients)

    @torch.no_grad()
    def scaled(self, factor: float) -> Self:
        """The potential times a positive factor, and so its metric.

        Raises:
            InputError: the factor is not positive and finite.

        Example:
            >>> from kahlervae.geometry import MixturePotential
            >>> potential = MixturePotential.constant(torch.tensor([[2, 1j], [-1j, 2]])).scaled(3)
            >>> round(potential.certificate().lower_bound, 4)
            3.0
        """
        if not 0 < factor < math.inf:
            raise InputError(f"a potential times {factor} is none: take a positive, finite factor.")
        scaled = copy.deepcopy(self)
        scaled._scale(factor)
        return scaled

    @torch.no_grad()
    def certificate(self) -> Certificate:
        """Plurisubharmonicity from the parameters; invalid where they are not finite."""
        if not all(parameter.isfinite().all() for parameter in self.parameters()):
            return Certificate(torch.nan, torch.nan)
        return self._certificate()

    def save(self, path: Path | str) -> None:
        """Write class and parameters as a safetensors file, in either precision.

        Raises:
            InputError: the path cannot be written to.
        """
        tensors = self.state_dict()
        if self.dtype == torch.complex128:  # which the format lacks
            tensors |= {
                name: torch.view_as_real(value.resolve_conj())
                for name, value in tensors.items()
                if value.is_complex()
            }
        kind = {"kind": type(self).__name__, "precision": self.dtype}
        storage.write_tensors(path, tensors, kind)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """A potential that :meth:`save` wrote, without gradients.

        Raises:
            InputError: the file is missing, damaged, or not one of a potential of this class or a
                class of it.
        """
        tensors, metadata = storage.read_tensors(path)
        kind = metadata.get("kind", "")
        if metadata.get("precision") == str(torch.complex128) and kind in Potential.kinds:
            tensors |= {
                # Copies: numbers of 16 bytes that lie at a multiple of 8, as read, crash torch.
                name: torch.view_as_complex(value.clone())
                for name, value in tensors.items()
                if name not in Potential.kinds[kind].real_parameters
                and value.dtype == torch.float64
                and value.shape[-1:] == (2,)
            }
        of = Potential.kinds.get(kind)
        own = of is not None and of is not cls and "load" in vars(of)  # with files of its own form
        potential = of.load(path) if own and of else Potential.restore(path, kind, tensors)
        if not isinstance(potential, cls):
            raise InputError(
                f"{path} holds a {type(potential).__name__}, not a {cls.__name__}: load it with "
                "Potential.load."
            )
        return potential

    @staticmethod
    def restore(path: Path | str, kind: str, tensors: Mapping[str, Tensor]) -> "Potential":
        """The potential of a class of that name and those parameters, read from ``path``.

        Raises:
            InputError: there is no such class, or the parameters are not those of one.
        """
        if kind not in Potential.kinds:
            raise InputError(
                f"{path} holds a potential of the unknown kind {kind!r}, not one of "
                f"{', '.join(Potential.kinds)}: fit it again."
            )
        of = Potential.kinds[kind]
        given = tensors["background"].dtype if "background" in tensors else COMPLEX[0]
        dtype = given if given in COMPLEX else COMPLEX[0]
        expected = {
            name: torch.empty(
                shape, dtype=dtype.to_real() if name in of.real_parameters else dtype, device="meta"
            )
            for name, shape in of._shapes(tensors).items()
        }
        storage.check_tensors(path, tensors, expected)
        potential = of(**tensors).requires_grad_(False)
        if not potential._size:
            raise InputError(f"{path} holds a potential without components: fit it again.")
        return potential

    @classmethod
    @abstractmethod
    def _shapes(cls, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        """The shapes that parameters of these sizes have to have, by name."""

    @property
    @abstractmethod
    def _size(self) -> int:
        """Numbers in the largest intermediate of one point."""

    @abstractmethod
    def _potential(self, z: Tensor) -> Tensor: ...

    @abstractmethod
    def _metric(self, z: Tensor) -> Tensor: ...

    def _squared_norm(self, z: Tensor, v: Tensor) -> Tensor:
        # A row times a matrix times a column: einsum would spend more time than the products.
        return (v.unsqueeze(1) @ self._metric(z) @ v.conj().unsqueeze(2)).real.flatten()

    @abstractmethod
    def _parts(self, z: Tensor) -> TotalCovariance: ...

    def _log_det(self, z: Tensor, epsilon: float) -> Tensor:
        return log_det(self._metric(z), epsilon)

    @abstractmethod
    def _log_det_and_gradient(self, z: Tensor, epsilon: float) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _scale(self, factor: float) -> None:
        """Multiply the potential by a factor, in place."""

    @abstractmethod
    def _certificate(self) -> Certificate:
        """That of finite parameters."""

    def _chunks(self, z: Tensor) -> tuple[Tensor, ...]:
        """Points, checked, by as many as keep the largest intermediate near the caches."""
        z = check_latents(z)
        if z.shape[1] != self.latent_dim or z.dtype != self.dtype:
            raise InputError(
                f"z has the shape {tuple(z.shape)} and type {z.dtype}, but the potential is one of "
                f"(n, {self.latent_dim}) and {self.dtype}: convert z or fit anew."
            )
        return z.split(max(FEW, CHUNK // self._size))

    def _background(self) -> Tensor:
        """The metric of the background, A₀ᵀ."""
        return (self.background @ self.background.mH).mT


CHUNK = 1 << 20
"""Numbers in the largest intermediate of a chunk of points."""

FEW = 8
"""Fewer points than this are never split, and cheaper without tables that all points share."""


def square_modulus(z: Tensor) -> Tensor:
    """|z|² with a second derivative at 0, which ``abs()**2`` lacks."""
    return z.real.square() + z.imag.square()


def sizes(tensors: Mapping[str, Tensor], name: str, count: int) -> tuple[int, ...]:
    """The shape of a tensor that has to have so many axes; zeros, which no other fits, else."""
    tensor = tensors.get(name)
    return tuple(tensor.shape) if tensor is not None and tensor.dim() == count else (0,) * count


def inverse_and_log_det(metric: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """(g + εI)⁻¹ and log det(g + εI); where it is not definite, 1 and NaN.

    Example:
        >>> inverse_and_log_det(torch.stack([torch.eye(2), -torch.eye(2)]), 1.0)[1]
        tensor([1.3863,    nan])
    """
    eye = torch.eye(metric.shape[-1], dtype=metric.dtype, device=metric.device)
    root, failed = torch.linalg.cholesky_ex(metric + epsilon * eye)
    root = torch.where((failed > 0)[..., None, None], eye, root)
    values = 2 * root.diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
    return torch.cholesky_inverse(root), values.masked_fill(failed > 0, torch.nan)
