"""Hamiltonian Monte Carlo in C^d with moves between modes, batched over chains and densities."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.geometry.latents import check_gradients, check_latents
from kahlervae.options import check_count, check_number
from kahlervae.seeding import check_stream, standard_normal, uniform

__all__ = [
    "Chains",
    "Densities",
    "Differentiated",
    "DualAveraging",
    "Proposal",
    "check_run",
    "run_chains",
    "run_together",
]

LogDensity = Callable[[Complex[Tensor, "chains d"]], Float[Tensor, " chains"]]


class Proposal(Protocol):
    """A density that one can draw from, of which moves between modes take their candidates."""

    def propose(self, count: int, generator: torch.Generator) -> Complex[Tensor, "count d"]:
        """Independent draws."""

    def log_density(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Their log density up to a constant."""


class Densities(Protocol):
    """Densities on C^d, each up to a factor of its own, on which chains run side by side."""

    def log_density_and_gradient(
        self, z: Complex[Tensor, "n d"], which: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Complex[Tensor, "n d"]]:
        """The log density of every row's own density, and its gradient ∇_a + i∇_b."""

    def log_densities(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "densities n"]:
        """All log densities at every row, without a gradient."""


class Chains(NamedTuple):
    """The kept part of a run, chain first, as ArviZ orders it.

    Attributes:
        latents: the states.
        log_density: unnormalised log density of every state.
        acceptance: probability with which every proposal was accepted.
        moved: whether the state is another one than that before the iteration.
        jumped: whether a candidate replaced it.
        divergent: whether its trajectory left the region where the integrator is stable, or that
            where the density and its gradient are finite (energy error above 1000, as in Stan).
        step_size: the step size after warm-up.
        gradients: gradients of the log density that were taken in all, warm-up included.
        values: log densities that were taken without their gradient.
    """

    latents: Complex[Tensor, "chains draws d"]
    log_density: Float[Tensor, "chains draws"]
    acceptance: Float[Tensor, "chains draws"]
    moved: Bool[Tensor, "chains draws"]
    jumped: Bool[Tensor, "chains draws"]
    divergent: Bool[Tensor, "chains draws"]
    step_size: float
    gradients: int
    values: int


class DualAveraging:
    r"""Adaptation of the step size ε to a target acceptance probability δ.

    .. math::
        \log ε_{t+1} = \log(10 ε_1) - \frac{\sqrt t}{γ} \frac{1}{t + t_0} \sum_{s \le t} (δ - α_s),
        \qquad
        \log \bar ε_{t+1} = t^{-κ} \log ε_{t+1} + (1 - t^{-κ}) \log \bar ε_t

    with γ = 0.05, t₀ = 10, κ = 0.75. Warm-up runs with ε, which explores; what follows with the
    average, ε̄.

    Reference:
        Hoffman & Gelman (2014), The No-U-Turn Sampler, section 3.2.1 and algorithm 5.

    Args:
        step_size: first guess ε₁ > 0.
        target: δ, between 0 and 1.

    Raises:
        InputError: a number is out of range.

    Example:
        >>> adaptation = DualAveraging(step_size=1.0, target=0.8)
        >>> for _ in range(20):
        ...     adaptation.update(0.2)  # far too few proposals are accepted
        >>> adaptation.step_size < 1.0
        True
    """

    def __init__(self, step_size: float, target: float) -> None:
        check_number("the step size", step_size, positive=True)
        if not 0 < target < 1:
            raise InputError(
                f"the acceptance that is aimed at is {target!r}: give a number between 0 and 1."
            )
        self.step_size = step_size
        self.average = step_size
        self.target = target
        self._shrinkage = math.log(10 * step_size)
        self._count = 0
        self._error = 0.0

    def update(self, acceptance: float) -> None:
        """Take in the mean acceptance probability of one more iteration."""
        self._count += 1
        self._error += (self.target - acceptance - self._error) / (self._count + 10)
        log_step = self._shrinkage - math.sqrt(self._count) / 0.05 * self._error
        weight = self._count**-0.75
        self.step_size = math.exp(log_step)
        self.average = math.exp(weight * log_step + (1 - weight) * math.log(self.average))


def check_run(warmup: int, draws: int, leapfrog: int, candidates: int) -> None:
    """Refuse numbers of a run that are no whole ones, or too small.

    Example:
        >>> check_run(warmup=40, draws=200, leapfrog=0, candidates=0)
        Traceback (most recent call last):
        ...
        kahlervae.errors.InputError: leapfrog, the largest number of steps of a trajectory, is 0: \
give a whole number of at least 1.
    """
    check_count("warmup, the number of iterations that are dropped,", warmup, least=0)
    check_count("draws, the number of kept iterations of a chain,", draws)
    check_count("leapfrog, the largest number of steps of a trajectory,", leapfrog)
    check_count("candidates, of which an iteration chooses,", candidates, least=0)


def run_chains(
    log_density: LogDensity,
    start: Complex[Tensor, "chains d"],
    *,
    warmup: int,
    draws: int,
    leapfrog: int,
    generator: torch.Generator,
    target_acceptance: float = 0.8,
    scale: Float[Tensor, " d"] | None = None,
    proposal: Proposal | None = None,
    candidates: int = 0,
) -> Chains:
    r"""Draw from an unnormalised density on C^d, identified with R^{2d} by z = a + ib.

    Every iteration is a trajectory, which explores where the state is, and a choice among
    candidates, which takes it elsewhere. Both leave ρ invariant.

    **Trajectory.** The Hamiltonian is

    .. math:: H(z, p) = -\log ρ(z) + \tfrac12 |p|^2, \qquad p = p_a + i p_b,\quad
              p_a, p_b \sim N(0, I),

    so that position and momentum move by :math:`\dot z = s \odot p` and
    :math:`\dot p = s \odot (\nabla_a \log ρ + i \nabla_b \log ρ)`, which is what automatic
    differentiation returns for a complex argument (twice the derivative in z̄); the scales s make
    the coordinates z/s, in which all directions are alike. The number of steps is uniform on
    1..``leapfrog``, which breaks resonance with periodic orbits; ``leapfrog = 1`` is MALA. All
    chains share one step size and the number of steps, both independent of their states. A
    trajectory that meets a density or a gradient which is not finite is rejected.

    **Choice.** The state z₀ and M independent draws z₁, …, z_M of the proposal q are weighted by
    w_i = ρ(z_i)/q(z_i), and the next state is z_i with probability w_i / Σ_j w_j: iterated
    sampling importance resampling. It crosses between modes that no trajectory connects.

    Reference:
        Neal (2011), MCMC using Hamiltonian dynamics, sections 3 and 4; Andrieu, Lee & Vihola
        (2018), Uniform ergodicity of the iterated conditional SMC; Samsonov et al. (2022),
        Local-global MCMC kernels: the best of both worlds, algorithm 1.

    Args:
        log_density: differentiable, one value for every row.
        start: first states; their precision is that of the run.
        warmup: iterations that adapt the step size and are dropped.
        draws: iterations kept for every chain.
        leapfrog: largest number of steps of a trajectory.
        generator: source of all randomness.
        target_acceptance: mean acceptance probability that the step size is adapted to.
        scale: s > 0, 1 by default.
        proposal: q, positive wherever ρ is.
        candidates: M; 0 leaves the choice out.

    Raises:
        InputError: the starts are no finite latents (chains, d), the density has not one value for
            each or is not finite there, nor is its gradient, the scale is none of every coordinate,
            a number is out of range, there is no generator, or it is called in
            torch.inference_mode.

    Example:
        >>> import torch
        >>> def log_density(z):  # CN(0, I)
        ...     return -z.abs().square().sum(-1)
        >>> generator = torch.Generator().manual_seed(0)
        >>> start = torch.randn(8, 2, dtype=torch.complex128, generator=generator)
        >>> chains = run_chains(
        ...     log_density, start, warmup=50, draws=200, leapfrog=3, generator=generator
        ... )
        >>> tuple(chains.latents.shape)
        (8, 200, 2)
        >>> bool((chains.latents.abs().square().mean() - 1).abs() < 0.1)
        True
    """
    check_run(warmup, draws, leapfrog, candidates)
    check_stream(generator)
    if not callable(log_density):
        raise InputError(
            f"the log density is a {type(log_density).__name__}: give a function of latents."
        )
    start = check_latents(start, "start", finite=True)
    if not len(start):
        raise InputError("there are no starts: give one latent for every chain.")
    if scale is not None and not (
        isinstance(scale, Tensor)
        and scale.is_floating_point()
        and scale.shape == start.shape[1:]
        and (scale.isfinite() & (scale > 0)).all()
    ):
        raise InputError(
            f"the scale of a chain is no tensor of {start.shape[1]} floating numbers, positive and "
            "finite: give a standard deviation for every coordinate."
        )
    (chains,) = run_together(
        Differentiated(log_density),
        start.unsqueeze(0),
        warmup=warmup,
        draws=draws,
        leapfrog=leapfrog,
        generator=generator,
        target_acceptance=target_acceptance,
        scale=scale,
        proposal=proposal,
        candidates=candidates,
    )
    return chains


def run_together(
    densities: Densities,
    start: Complex[Tensor, "densities chains d"],
    *,
    warmup: int,
    draws: int,
    leapfrog: int,
    generator: torch.Generator,
    target_acceptance: float = 0.8,
    scale: Float[Tensor, " d"] | None = None,
    proposal: Proposal | None = None,
    candidates: int = 0,
) -> list[Chains]:
    """:func:`run_chains` on several densities at once, as many chains on each.

    Chains of different densities share the number of steps of every trajectory and the candidates,
    which is less work than one after the other, mostly where calls take longer than arithmetic.
    Each density has a step size of its own, and chains of one density share no candidates.

    Args:
        densities: what differs between the chains.
        start: first states.
        proposal: positive wherever any of the densities is.

    All others are those of :func:`run_chains`.

    Raises:
        InputError: a density or its gradient is not finite at a start.

    Returns:
        The chains of every density.
    """
    if proposal is None:
        candidates = 0
    several, chains, _ = start.shape
    position = start.detach().flatten(0, 1)
    which = torch.arange(several, device=start.device).repeat_interleave(chains)
    value, gradient = _finite(densities, position, which)
    lost = int((~torch.isfinite(value)).sum())
    if lost:
        raise InputError(
            f"the log density is not finite at {lost} of {len(position)} starts of the chains: "
            "check the potential (its metric must be finite and positive) and epsilon."
        )
    scale = torch.ones_like(position[0].real) if scale is None else scale
    averaging = [DualAveraging(0.5, target_acceptance) for _ in range(several)]
    kept: list[tuple[Tensor, ...]] = []
    taken, jumps = 0, torch.zeros(several, dtype=torch.int64)
    for iteration in range(warmup + draws):
        adapting = iteration < warmup
        sizes = [each.step_size if adapting else each.average for each in averaging]
        step_size = scale * torch.tensor(sizes).to(scale)[which, None]
        steps = int(torch.randint(1, leapfrog + 1, (), generator=generator))
        # torch's complex normal has E|p|² = 1; unit variance of both parts needs 2.
        momentum = math.sqrt(2) * standard_normal(position, generator)
        threshold = uniform(value, generator).log()
        energy = value - _kinetic(momentum)

        end, new_value, new_gradient = position, value, gradient
        divergent = torch.zeros_like(threshold, dtype=torch.bool)
        for _ in range(steps):
            momentum = momentum + 0.5 * step_size * new_gradient
            end = end + step_size * momentum
            # A lost trajectory goes back to its start, so that the density is never asked for
            # values where it overflows; it is rejected below.
            end = torch.where(divergent[:, None], position, end)
            new_value, new_gradient = _finite(densities, end, which)
            divergent = divergent | (new_value < energy - MAXIMUM_ENERGY_ERROR)
            momentum = momentum + 0.5 * step_size * new_gradient
        taken += steps * chains
        log_ratio = new_value - _kinetic(momentum) - energy
        divergent = divergent | ~(log_ratio > -MAXIMUM_ENERGY_ERROR)
        log_ratio = log_ratio.masked_fill(divergent, -math.inf)

        moved = threshold < log_ratio
        position = torch.where(moved[:, None], end, position)
        value = torch.where(moved, new_value, value)
        gradient = torch.where(moved[:, None], new_gradient, gradient)
        acceptance = log_ratio.clamp(max=0).exp()

        jumped = torch.zeros_like(moved)
        if proposal is not None and candidates:
            log_weight = (value - proposal.log_density(position)).unflatten(0, (several, chains))
            position, jumped = _choose(
                densities, proposal, position, log_weight, candidates, generator
            )
            if jumped.any():
                value, gradient = value.clone(), gradient.clone()
                found = _finite(densities, position[jumped], which[jumped])
                value[jumped], gradient[jumped] = found
                jumps += jumped.unflatten(0, (several, chains)).sum(1).cpu()
        if adapting:
            means = acceptance.unflatten(0, (several, chains)).mean(1).tolist()
            for each, mean in zip(averaging, means, strict=True):
                each.update(mean)
        else:
            kept.append((position, value, acceptance, moved | jumped, jumped, divergent))
    latents, log_densities, acceptances, moves, jumpings, divergences = (
        torch.stack(field, dim=1).unflatten(0, (several, chains))
        for field in zip(*kept, strict=True)
    )
    return [
        Chains(
            latents=latents[i],
            log_density=log_densities[i],
            acceptance=acceptances[i],
            moved=moves[i],
            jumped=jumpings[i],
            divergent=divergences[i],
            step_size=averaging[i].average,
            gradients=chains + taken + int(jumps[i]),
            values=chains * candidates * (warmup + draws),
        )
        for i in range(several)
    ]


MAXIMUM_ENERGY_ERROR = 1000.0


class Differentiated:
    """One density as :class:`Densities`, differentiated automatically.

    Args:
        log_density: differentiable, one value for every row; of another shape it is refused.
    """

    def __init__(self, log_density: LogDensity) -> None:
        self.log_density = log_density

    def log_density_and_gradient(self, z: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        check_gradients("a trajectory")
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            value = self._values(z)
            if not value.requires_grad:  # it is constant
                return value, torch.zeros_like(z)
            # Of a density that follows other parameters and not z, it is 0 as well.
            (gradient,) = torch.autograd.grad(value.sum(), z, materialize_grads=True)
        return value.detach(), gradient

    def log_densities(self, z: Tensor) -> Tensor:
        return self._values(z).unsqueeze(0)

    def _values(self, z: Tensor) -> Tensor:
        value = self.log_density(z)
        if not isinstance(value, Tensor) or value.is_complex():
            raise InputError(
                "the log density does not return real numbers: give a tensor with one for every "
                "row, such as the real part of what is real but for rounding."
            )
        if value.shape != z.shape[:1]:
            raise InputError(
                f"the log density of {len(z)} latents has the shape {tuple(value.shape)}: give one "
                f"value for every row, of shape ({len(z)},)."
            )
        return value


@torch.no_grad()
def _choose(
    densities: Densities,
    proposal: Proposal,
    position: Tensor,
    log_weight: Tensor,
    candidates: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The next states by iterated sampling importance resampling, and whether they are new.

    ``log_weight`` is that of the states, (densities, chains).
    """
    several, chains = log_weight.shape
    drawn = proposal.propose(chains * candidates, generator)
    drawn_weights = densities.log_densities(drawn) - proposal.log_density(drawn)
    log_weights = torch.cat(
        [log_weight.unsqueeze(-1), drawn_weights.reshape(several, chains, candidates)], dim=-1
    )
    log_weights = log_weights.nan_to_num(-math.inf, posinf=-math.inf, neginf=-math.inf)
    # The largest of the log weights with Gumbel noise is a draw in proportion to the weights.
    noise = -(-uniform(log_weights.double(), generator).log()).log()
    chosen = (log_weights + noise.to(log_weights)).argmax(dim=-1)
    every = drawn.reshape(chains, candidates, -1)
    found = every[torch.arange(chains, device=chosen.device), (chosen - 1).clamp(min=0)]
    jumped = (chosen > 0).flatten()
    return torch.where(jumped[:, None], found.flatten(0, 1), position), jumped


def _finite(densities: Densities, z: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Log density and its gradient; -inf and 0 where either is not finite."""
    value, gradient = densities.log_density_and_gradient(z, which)
    finite = torch.isfinite(value) & torch.isfinite(gradient).all(-1)
    value = value.masked_fill(~finite, -math.inf)
    return value, gradient.masked_fill(~finite[:, None], 0)


def _kinetic(momentum: Tensor) -> Tensor:
    return 0.5 * torch.view_as_real(momentum).square().sum((-2, -1))
