r"""Functions whose derivatives torch gets wrong, in a form in which it gets them right.

Torch differentiates some fused kernels once and no further: their derivative is a formula in
numbers that the kernel saved (the mean of a layer norm, the factors of a determinant), and a second
differentiation takes those for constants. Nothing is raised; the second derivative is wrong
(torch 2.13: forward over forward and reverse over forward; docs/theory.md, section 14, has the
list and how it was found). :class:`Exact` exchanges them, while a decoder runs, for compositions of
elementary operations, which are right to any order and in any composition of modes.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint

from kahlervae.errors import InputError

__all__ = ["exact", "exactly"]

Function = TypeVar("Function", bound=Callable)
SUBSTITUTES: dict[Callable, Callable] = {}


def _stands_in_for(*functions: Callable) -> Callable[[Function], Function]:
    """Register a substitute for each of the functions, which have the same signature."""

    def register(substitute: Function) -> Function:
        SUBSTITUTES.update(dict.fromkeys(functions, substitute))
        return substitute

    return register


def _in_place(substitute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of a function with the argument ``inplace``, which writes its result into its input."""

    @functools.wraps(substitute)
    def write(input: Tensor, *args: Any, inplace: bool = False, **kwargs: Any) -> Tensor:
        if not inplace:
            return substitute(input, *args, **kwargs)
        return input.copy_(substitute(input.clone(), *args, **kwargs))

    return write


class _Exact(TorchFunctionMode):
    """Puts a substitute, where there is one, in the place of every function that is called."""

    def __torch_function__(
        self, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func not in SUBSTITUTES:
            return func(*args, **kwargs)
        out = kwargs.pop("out", None)
        result = SUBSTITUTES[func](*args, **kwargs)
        return result if out is None else out.copy_(result)


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """What runs within is differentiated right, or refused before it has changed anything.

    Attention is taken by its definition, since its fused kernels have no forward derivative;
    checkpoints are passed through, since they cannot be recomputed within nested derivatives.

    Raises:
        InputError: a layer is in training mode whose rows would depend on each other or on chance.

    Example:
        >>> from torch.func import grad
        >>> second = grad(grad(lambda x: functional.layer_norm(torch.stack([x, x**2]), (2,))[0]))
        >>> with exact():
        ...     bool(second(torch.tensor(2.0)).isfinite())
        True
    """
    hook = register_module_forward_pre_hook(_refuse_training)
    try:
        with _without_checkpoints(), sdpa_kernel(SDPBackend.MATH), _Exact():
            yield
    finally:
        hook.remove()


def exactly(f: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """A function that runs within :func:`exact`.

    Example:
        >>> from torch.func import grad
        >>> grad(grad(exactly(lambda x: x.abs() ** 2)))(torch.tensor(0.0))
        tensor(2.)
    """

    @functools.wraps(f, assigned=())
    def within(z: Tensor) -> Any:
        with exact():
            return f(z)

    return within


def _refuse_training(module: nn.Module, inputs: Any) -> None:
    if not getattr(module, "training", False):  # frozen scripts have no mode
        return
    name = type(module).__name__
    if isinstance(module, _NormBase) and module.track_running_stats:
        raise InputError(
            f"the decoder's {name} is in training mode, in which rows depend on each other: call "
            ".eval() on it first."
        )
    if (isinstance(module, _DropoutNd) and module.p > 0) or isinstance(module, nn.RReLU):
        raise InputError(
            f"the decoder's {name} is in training mode, in which it is random: call .eval() on it "
            "first."
        )


@contextlib.contextmanager
def _without_checkpoints() -> Iterator[None]:
    """Run what is checkpointed as if it was not: the same values, and nothing to recompute."""
    names = "_checkpoint_without_reentrant_generator", "CheckpointFunction"
    kept = {name: getattr(checkpoint, name) for name in names}

    def generator(*_: Any, **__: Any) -> Iterator[None]:
        yield

    class Passing:
        @staticmethod
        def apply(function: Callable, preserve: bool, *args: Any) -> Any:
            return function(*args)

    try:
        for name, substitute in zip(names, (generator, Passing), strict=True):
            setattr(checkpoint, name, substitute)
        yield
    finally:
        for name, original in kept.items():
            setattr(checkpoint, name, original)


@_stands_in_for(functional.layer_norm)
def _layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    result = _normalise(x, tuple(range(-len(normalized_shape), 0)), eps)
    if weight is not None:
        result = result * weight
    return result if bias is None else result + bias


@_stands_in_for(torch.layer_norm)
def _torch_layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    return _layer_norm(x, normalized_shape, weight, bias, eps)


@_stands_in_for(functional.instance_norm)
def _instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not use_input_stats:
        return functional.batch_norm(x, running_mean, running_var, weight, bias, False, 0.0, eps)
    result = _normalise(x, tuple(range(2, x.dim())), eps)
    shape = (-1, *[1] * (x.dim() - 2))
    if weight is not None:
        result = result * weight.view(shape)
    return result if bias is None else result + bias.view(shape)


def _normalise(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(dims, keepdim=True) + eps)


@_stands_in_for(functional.batch_norm)
def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training:
        raise InputError(
            "the decoder normalises by the statistics of its batch, so that rows depend on each "
            "other: use batch norm in evaluation mode, with running statistics."
        )
    return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)


@_stands_in_for(functional.dropout, functional.alpha_dropout, functional.feature_alpha_dropout)
def _dropout(x: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    if training and p > 0:
        raise InputError("the decoder applies dropout, which is random: call .eval() on it first.")
    return x


@_stands_in_for(functional.rrelu)
@_in_place
def _rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False
) -> Tensor:
    if training:
        raise InputError("the decoder applies a random ReLU: call .eval() on it first.")
    return functional.leaky_relu(input, (lower + upper) / 2)


@_stands_in_for(torch.lstm)
def _lstm(*args: Any) -> Any:
    """Not by the fused kernel, which single precision has where nothing is learned."""
    with torch.backends.mkldnn.flags(enabled=False):
        return torch.lstm(*args)


@_stands_in_for(functional.glu, torch._C._nn.glu)
def _glu(x: Tensor, dim: int = -1) -> Tensor:
    value, gate = x.chunk(2, dim)
    return value * torch.sigmoid(gate)


@_stands_in_for(functional.hardsigmoid)
@_in_place
def _hardsigmoid(input: Tensor) -> Tensor:
    return functional.hardtanh(input / 6 + 0.5, 0.0, 1.0)


@_stands_in_for(functional.silu)
@_in_place
def _silu(input: Tensor) -> Tensor:
    return input * torch.sigmoid(input)


@_stands_in_for(functional.mish)
@_in_place
def _mish(input: Tensor) -> Tensor:
    return input * torch.tanh(functional.softplus(input))


@_stands_in_for(*(torch.abs, torch.absolute, Tensor.abs, Tensor.absolute, Tensor.__abs__))
def _abs(input: Tensor) -> Tensor:
    """Its square is smooth at 0, where torch's second derivative of the square is 0, not 2."""
    if input.is_complex():
        return _root(input.real.square() + input.imag.square())
    if not input.is_floating_point():
        return torch.abs(input)
    return torch.where(input == 0, _root(input.square()), torch.abs(input))


@_stands_in_for(torch.linalg.vector_norm)
def _vector_norm(
    x: Tensor,
    ord: Any = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    if ord != 2:
        return torch.linalg.vector_norm(x, ord, dim, keepdim, dtype=dtype)
    x = x if dtype is None else x.to(dtype)
    squares = x.real.square() + x.imag.square() if x.is_complex() else x.square()
    dims = tuple(range(x.dim())) if dim is None else dim
    return _root(squares.sum(dims, keepdim=keepdim))


@_stands_in_for(torch.norm, Tensor.norm)
def _norm(
    input: Tensor,
    p: Any = "fro",
    dim: Any = None,
    keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    if p in (2, "fro", None):
        return _vector_norm(input, 2, dim, keepdim, dtype=dtype)
    return torch.norm(input, p, dim, keepdim, dtype=dtype)


@_stands_in_for(torch.linalg.norm)
def _linalg_norm(
    A: Tensor,
    ord: Any = None,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    axes = A.dim() if dim is None else 1 if isinstance(dim, int) else len(dim)
    if ord in (None, "fro") or (ord == 2 and axes == 1):
        return _vector_norm(A, 2, dim, keepdim, dtype=dtype)
    return torch.linalg.norm(A, ord, dim, keepdim, dtype=dtype)


@_stands_in_for(torch.linalg.matrix_norm)
def _matrix_norm(
    A: Tensor,
    ord: Any = "fro",
    dim: Any = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    if ord == "fro":
        return _vector_norm(A, 2, dim, keepdim, dtype=dtype)
    return torch.linalg.matrix_norm(A, ord, dim, keepdim, dtype=dtype)


@_stands_in_for(torch.frobenius_norm)
def _frobenius_norm(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    return _vector_norm(input, 2, dim or None, keepdim)


@_stands_in_for(torch.dist, Tensor.dist)
def _dist(input: Tensor, other: Tensor, p: Any = 2) -> Tensor:
    return _vector_norm(input - other, p)


@_stands_in_for(functional.pairwise_distance, torch.pairwise_distance)
def _pairwise_distance(
    x1: Tensor, x2: Tensor, p: Any = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    return _vector_norm(x1 - x2 + eps, p, -1, keepdim)


@_stands_in_for(torch.std, Tensor.std)
def _std(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _root(torch.var(input, *args, **kwargs))


@_stands_in_for(torch.std_mean)
def _std_mean(input: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(input, *args, **kwargs)
    return _root(variance), mean


@_stands_in_for(torch.sinc, Tensor.sinc, torch.special.sinc)
def _sinc(input: Tensor) -> Tensor:
    """sin(πx)/πx, by its series near 0, where torch's has no second derivative."""
    x = math.pi * input
    near = x.detach().abs() < 0.5
    square, series = torch.where(near, x, 0.0).square(), torch.ones_like(x)
    for k in range(8, 0, -1):
        series = 1 - square / (2 * k * (2 * k + 1)) * series
    far = torch.where(near, 1.0, x)
    return torch.where(near, series, far.sin() / far)


def _root(squares: Tensor) -> Tensor:
    """√u, with so small a number for 0 that three derivatives are finite and u² keeps its own."""
    least = 1e-15 if squares.dtype == torch.float32 else 1e-40
    return (squares + least * (squares.detach() == 0)).sqrt()


@_stands_in_for(torch.linalg.slogdet)
def _slogdet(A: Tensor) -> Any:
    permutation, _, upper = torch.linalg.lu(A)
    diagonal = upper.diagonal(dim1=-2, dim2=-1)
    sign = torch.linalg.det(permutation) * torch.sgn(diagonal).prod(-1)
    log_det = diagonal.abs().log().sum(-1)
    return torch.return_types.linalg_slogdet((sign, log_det))  # type: ignore[attr-defined]


@_stands_in_for(torch.slogdet, Tensor.slogdet)
def _torch_slogdet(input: Tensor) -> Any:
    return torch.return_types.slogdet(tuple(_slogdet(input)))


@_stands_in_for(torch.logdet, Tensor.logdet)
def _logdet(input: Tensor) -> Tensor:
    sign, log_det = _slogdet(input)
    return log_det + sign.log()  # NaN where the determinant is negative


@_stands_in_for(torch.linalg.det)
def _det(A: Tensor) -> Tensor:
    """Polynomials for small matrices, which singular ones have derivatives of, too."""
    if A.shape[-1] == 1:
        return A[..., 0, 0]
    if A.shape[-1] == 2:
        return A[..., 0, 0] * A[..., 1, 1] - A[..., 0, 1] * A[..., 1, 0]
    if A.shape[-1] == 3:
        first, second, third = A.unbind(-2)
        minors = second.roll(-1, -1) * third.roll(-2, -1) - second.roll(-2, -1) * third.roll(-1, -1)
        return (first * minors).sum(-1)
    permutation, _, upper = torch.linalg.lu(A)
    return torch.linalg.det(permutation) * upper.diagonal(dim1=-2, dim2=-1).prod(-1)


@_stands_in_for(torch.det, Tensor.det)
def _torch_det(input: Tensor) -> Tensor:
    return _det(input)


@_stands_in_for(torch.linalg.solve)
def _solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    vector = B.dim() == 1 or (B.dim() == A.dim() - 1 and B.shape == A.shape[:-1])
    factors = torch.linalg.lu_factor(A)
    solution = torch.linalg.lu_solve(*factors, B.unsqueeze(-1) if vector else B, left=left)
    return solution.squeeze(-1) if vector else solution


@_stands_in_for(torch.linalg.solve_ex)
def _solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    info = torch.zeros(A.shape[:-2], dtype=torch.int32, device=A.device)
    return _solve(A, B, left=left), info


@_stands_in_for(torch.linalg.tensorsolve)
def _tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    if dims is not None:
        A = A.movedim(dims, tuple(range(-len(dims), 0)))
    shape = A.shape[B.dim() :]
    solution = _solve(A.reshape(math.prod(B.shape), -1), B.flatten())
    return solution.reshape(shape)


@_stands_in_for(torch.cholesky, Tensor.cholesky)
def _cholesky(input: Tensor, upper: bool = False) -> Tensor:
    return torch.linalg.cholesky(input, upper=upper)


@_stands_in_for(torch.linalg.householder_product, torch.orgqr, Tensor.orgqr)
def _householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first columns of (I − τ₁v₁v₁†)(I − τ₂v₂v₂†)⋯, the v in the lower part of A."""
    m, n = A.shape[-2:]
    eye = torch.eye(m, n, dtype=A.dtype, device=A.device)
    vectors = A.tril(-1) + eye
    product = eye.expand(*A.shape)
    for k in reversed(range(tau.shape[-1])):
        v = vectors[..., k : k + 1]
        product = product - tau[..., k, None, None] * v @ (_conj(v.mT) @ product)
    return product


@_stands_in_for(torch.cholesky_inverse, Tensor.cholesky_inverse)
def _cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
    half = torch.linalg.solve_triangular(L, eye, upper=upper)
    return half @ _conj(half.mT) if upper else _conj(half.mT) @ half


@_stands_in_for(torch.cumprod, Tensor.cumprod)
def _cumprod(input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """By doubling steps; torch's own derivative divides by the factors, which may be 0."""
    product = (input if dtype is None else input.to(dtype)).movedim(dim, -1)
    step = 1
    while step < product.shape[-1]:
        ahead = product[..., step:] * product[..., :-step]
        product = torch.cat([product[..., :step], ahead], dim=-1)
        step *= 2
    return product.movedim(-1, dim)


@_stands_in_for(torch.logcumsumexp, Tensor.logcumsumexp)
def _logcumsumexp(input: Tensor, dim: int) -> Tensor:
    """By doubling steps; torch's own backward is not linear where the gradient is 0."""
    total = input.movedim(dim, -1)
    step = 1
    while step < total.shape[-1]:
        ahead = torch.logaddexp(total[..., step:], total[..., :-step])
        total = torch.cat([total[..., :step], ahead], dim=-1)
        step *= 2
    return total.movedim(-1, dim)


@_stands_in_for(torch.logit, Tensor.logit, torch.special.logit)
def _logit(input: Tensor, eps: float | None = None) -> Tensor:
    p = input if eps is None else input.clamp(eps, 1 - eps)
    return p.log() - torch.log1p(-p)


@_stands_in_for(torch.polar)
def _polar(abs: Tensor, angle: Tensor) -> Tensor:
    return torch.complex(abs * angle.cos(), abs * angle.sin())


# Lazily conjugated views have no forward derivative.
@_stands_in_for(torch.conj, Tensor.conj)
def _conj(input: Tensor) -> Tensor:
    return torch.complex(input.real, -input.imag) if input.is_complex() else input


# Parts of a sum of columns have no forward derivative in a batch of tangents; those of a copy have.
@_stands_in_for(torch.real, Tensor.real.__get__)  # type: ignore[attr-defined]
def _real(input: Tensor) -> Tensor:
    return _copied(input).real if input.is_complex() else input


@_stands_in_for(torch.imag, Tensor.imag.__get__)  # type: ignore[attr-defined]
def _imag(input: Tensor) -> Tensor:
    return _copied(input).imag


@_stands_in_for(torch.view_as_real)
def _view_as_real(input: Tensor) -> Tensor:
    return torch.view_as_real(_copied(input))


def _copied(input: Tensor) -> Tensor:
    """A copy, but within torch.inference_mode, which has to be told from a constant."""
    return input if torch.is_inference_mode_enabled() else input.clone()


@_stands_in_for(torch.adjoint, Tensor.adjoint, Tensor.mH.__get__)  # type: ignore[attr-defined]
def _adjoint(input: Tensor) -> Tensor:
    return _conj(input.mT)


@_stands_in_for(Tensor.H.__get__)  # type: ignore[attr-defined]
def _hermitian(input: Tensor) -> Tensor:
    return _conj(input.T)
