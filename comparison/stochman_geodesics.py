"""Geodesics of a trained decoder by stochman and by this project: how short, and how fast.

stochman joins points by cubic splines, whose energy Adam lowers; that of a decoder is taken from
its outputs at neighbouring points, as in stochman's own examples. See comparison/README.md.

    .venv-peers/bin/python comparison/stochman_geodesics.py    # of `make reproduce`
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from stochman.curves import CubicSpline
from stochman.geodesic import geodesic_minimizing_energy
from stochman.manifold import Manifold
from torch import Tensor

from kahlervae.data import load_split
from kahlervae.evaluate.smoothness import latent_lines, pairs
from kahlervae.geometry import curve_length, fisher_form, fisher_metric
from kahlervae.geometry.geodesic import geodesics
from kahlervae.models import VAE, load_model
from kahlervae.seeding import generator
from kahlervae.storage import write_table
from kahlervae.train.potentials import load_potentials

DIGITS = "results/digits"
POINTS = 7
"""Free points of the project's curves."""
FINE = 64
"""Steps in which all lengths are measured, whatever a method took."""


class Decoded(Manifold):
    """The latent space, its curves measured by the decoder's outputs in units of its noise."""

    def __init__(self, model: VAE) -> None:
        self.model = model

    def metric(self, points: Tensor) -> Tensor:
        raise NotImplementedError("curves are measured by what they decode to")

    def curve_energy(self, curve: Tensor, reduction: str = "sum") -> Tensor:
        curves = curve if curve.dim() == 3 else curve.unsqueeze(0)
        likelihood = self.model.decoder(to_latents(curves).flatten(0, 1))
        outputs = (likelihood.mean * torch.exp(-0.5 * likelihood.log_var)).unflatten(
            0, curves.shape[:2]
        )
        energies = (curves.shape[1] - 1) * outputs.diff(dim=1).square().sum((1, 2))
        return energies.sum() if reduction == "sum" else energies


def to_latents(reals: Tensor) -> Tensor:
    return torch.complex(*reals.chunk(2, dim=-1))


def to_reals(z: Tensor) -> Tensor:
    return torch.cat([z.real, z.imag], dim=-1)


def by_stochman(model: VAE, start: Tensor, end: Tensor, iterations: int) -> Tensor:
    curve = CubicSpline(to_reals(start), to_reals(end))
    geodesic_minimizing_energy(curve, Decoded(model), max_iter=iterations)
    with torch.no_grad():
        return to_latents(curve(torch.linspace(0, 1, FINE + 1)))


def by_whole_form(model: VAE, start: Tensor, end: Tensor, steps: int) -> Tensor:
    """The project's curves in stochman's metric: that of C^2d whose real points are the latents."""

    def metric(u: Tensor) -> Tensor:
        return fisher_form(model.decoder, to_latents(u.real)).to(u.dtype)

    ends = (to_reals(z).to(z.dtype) for z in (start, end))
    return to_latents(geodesics(metric, *ends, steps, POINTS).real)


def decoded_length(model: VAE, curves: Tensor) -> Tensor:
    """In the decoder's whole Fisher form, which is stochman's metric."""
    likelihood = model.decoder(curves.flatten(0, 1))
    outputs = likelihood.mean * torch.exp(-0.5 * likelihood.log_var)
    steps = outputs.unflatten(0, curves.shape[:2]).diff(dim=1)
    return torch.linalg.vector_norm(steps, dim=2).sum(1)


def refined(curves: Tensor) -> Tensor:
    """The same polygons with FINE steps."""
    t = torch.linspace(0, curves.shape[1] - 1, FINE + 1)
    index = t.long().clamp(max=curves.shape[1] - 2)
    share = (t - index)[:, None]
    return (1 - share) * curves[:, index] + share * curves[:, index + 1]


def compare(folder: Path, data: Path, count: int, steps: int) -> pd.DataFrame:
    """One row per method: means over the pairs of what is told in comparison/README.md."""
    model = load_model(folder / "model.safetensors").requires_grad_(False)
    fitted = load_potentials(folder / "potential.safetensors", model.latent_dim)["fitted"]
    means = model.encode(load_split(data, "test").samples).mean
    first, second = pairs(len(means), count, generator(0, "stochman"))
    start, end = means[first], means[second]
    exact = partial(fisher_metric, model.decoder)
    methods: dict[str, Callable[[], Tensor]] = {
        "straight": lambda: latent_lines(start, end, steps),
        "stochman": lambda: by_stochman(model, start, end, 150),
        "whole form": lambda: by_whole_form(model, start, end, steps),
        "Hermitian part": lambda: geodesics(exact, start, end, steps, POINTS),
        "fitted potential": lambda: geodesics(fitted.metric, start, end, steps, POINTS),
    }
    lines = latent_lines(start, end, FINE)
    whole, hermitian = decoded_length(model, lines), curve_length(exact, lines)
    rows = []
    for name, join in methods.items():
        begun = time.process_time()
        curves = join()
        seconds = time.process_time() - begun
        curves = curves if curves.shape[1] == FINE + 1 else refined(curves)
        rows.append(
            {
                "method": name,
                "pairs": count,
                "decoded_length": (decoded_length(model, curves) / whole).mean().item(),
                "hermitian_length": (curve_length(exact, curves) / hermitian).mean().item(),
                "milliseconds": 1000 * seconds / count,
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path(f"{DIGITS}/pixels/complex/seed=0"))
    parser.add_argument("--data", type=Path, default=Path(f"{DIGITS}/data.safetensors"))
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=16, help="of the project's curves")
    parser.add_argument("--out", type=Path, default=Path("results/peers/geodesics.csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = compare(options.model, options.data, options.pairs, options.steps)
    print(table.round(3).to_string(index=False))
    write_table(options.out, table)


if __name__ == "__main__":
    main()
