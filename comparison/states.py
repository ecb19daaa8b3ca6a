"""Does any tie find the chart in which the metric of states is Kähler? See docs/states.md.

Every line of the output is a model of the data set `states` (25,600 states for training): ELBO,
what ``kahlervae.evaluate.states`` measures, and CPU-seconds. What is varied is not in the package:
the prior with the density of the holomorphic chart, the tie by the whole Fisher form, the potential
that is Fubini-Study up to a linear map, and the start in the affine chart.

    python comparison/states.py             # all, about 10 CPU-minutes
    python comparison/states.py plain 1     # one of them, with seed 1
"""

import json
import math
import sys
import time

import torch
from torch import Tensor, nn

from kahlervae.data import Form
from kahlervae.data.states import density_coordinates, make_states
from kahlervae.errors import InputError
from kahlervae.evaluate.states import compare_with_truth
from kahlervae.geometry import MixturePotential
from kahlervae.models import VAE, build_model
from kahlervae.nn.optimiser import Adam

NOISE, TRAIN, BATCH, EPOCHS, POINTS, SCALE = 0.03, 25_600, 128, 30, 32, 300.0
SETTINGS = {"pairs": 200, "steps": 16, "points": 7, "angle": 45, "tear": 6, "defect": 0.1}

KNOWN = {"prior": "known", "start": True}
RUNS = {
    "plain": {},
    "plain, known prior": {"prior": "known"},
    "tie to mixture, Hermitian": {"tie": "hermitian", "potential": "mixture", "weight": 30},
    "tie to mixture": {"tie": "full", "potential": "mixture", "weight": 30},
    "tie to log": {"tie": "full", "potential": "log", "weight": 30},
    "tie to log, known prior": {
        "prior": "known", "tie": "full", "potential": "log", "weight": 30,
    },
    "tie to log, known prior, slow": {
        "prior": "known", "tie": "full", "potential": "log", "weight": 3, "rise": 30,
    },
    "penalty, known prior": {"prior": "known", "tie": "penalty", "weight": 30},
    "start": {"start": True},
    "start, known prior": KNOWN,
    "start, tie to log": {"start": True, "tie": "full", "potential": "log", "weight": 30},
    "start, known prior, weak tie to log": {
        **KNOWN, "tie": "full", "potential": "log", "weight": 3,
    },
    "start, known prior, tie to log": {
        **KNOWN, "tie": "full", "potential": "log", "weight": 30,
    },
    "start, known prior, tie to mixture": {
        **KNOWN, "tie": "full", "potential": "mixture", "weight": 30,
    },
}  # fmt: skip


class Log(nn.Module):
    """K(z) = s log ‖B (1, z)‖²: Fubini-Study in any projective frame; non-convex."""

    def __init__(self) -> None:
        super().__init__()
        start = torch.randn(3, 3, dtype=torch.complex64)
        self.frame = nn.Parameter(torch.eye(3, dtype=torch.complex64) + 0.05 * start)
        self.log_strength = nn.Parameter(torch.tensor(math.log(SCALE)))

    def metric(self, z: Tensor) -> Tensor:
        frame = self.frame.to(z)
        y = torch.cat([torch.ones_like(z[:, :1]), z], 1) @ frame.mT
        tangents = frame[:, 1:]
        size = (y.real.square() + y.imag.square()).sum(1)[:, None, None]
        along = y.conj() @ tangents
        between = along[:, :, None] * along.conj()[:, None, :]
        inner = tangents.mT @ tangents.conj()
        return self.log_strength.exp() * (inner / size - between / size.square())


class Prior(nn.Module):
    """CN(0, I), or the density of uniform states in the affine chart at a learned scale."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def divergence(self, posterior, z: Tensor) -> Tensor:
        """Relative entropy of the posterior; for the density of states by one draw z."""
        if self.kind == "gauss":
            return posterior.kl()
        spread = (posterior.log_var + math.log(math.pi)).sum(-1)
        offset = (z - posterior.mean).abs().square() * torch.exp(-posterior.log_var)
        square = (z.real.square() + z.imag.square()).sum(-1) * torch.exp(-2 * self.log_scale)
        density = math.log(2) - 2 * math.log(math.pi) - 4 * self.log_scale - 3 * torch.log1p(square)
        return -spread - offset.sum(-1) - density


def real_norm(model: VAE, z: Tensor, v: Tensor) -> Tensor:
    """F(v, v) of the whole Fisher form."""
    likelihood, change = model.decoder.pushforward(z, v)
    return (change.mean.square() * torch.exp(-likelihood.log_var)).sum(-1)


def tie_term(kind: str, model: VAE, potential: nn.Module | None, z: Tensor, v: Tensor) -> Tensor:
    norm = real_norm(model, z, v)
    if kind == "full":
        target = 0.5 * norm
    else:
        turned = real_norm(model, z, 1j * v)
        if kind == "penalty":  # without a potential: F(v, v) = F(iv, iv)
            return (norm.log() - turned.log()).square().mean()
        target = 0.25 * (norm + turned)
    metric = potential.metric(z)
    own = ((metric @ v.conj()[..., None])[..., 0] * v).sum(-1).real
    return (own.log() - target.log()).square().mean()


def cosine(optimiser: Adam, rate: float, share: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * share))


def run(
    name: str,
    seed: int,
    prior: str = "gauss",
    tie: str = "",
    potential: str = "",
    weight: float = 0.0,
    rise: int = 1,
    start: bool = False,
) -> dict:
    """Train and measure one model."""
    torch.manual_seed(seed)
    begin = time.process_time()
    samples, states = make_states(3, TRAIN + 2000, NOISE, 0)
    test, test_states = samples[TRAIN:], states[TRAIN:]
    identity = {"dataset": "states", "representation": "pixels", "variant": name, "seed": seed}
    model = build_model(identity, Form((9,), bounded=False), "complex", 2, 64, 2)
    density, stream = Prior(prior), torch.Generator().manual_seed(seed)
    proxy = None
    if potential == "log":
        proxy = Log()
    elif potential == "mixture":
        proxy = MixturePotential.random(2, 8, 16, SCALE, stream)
    parameters = [*model.parameters(), *density.parameters()]
    parameters += [] if proxy is None else [*proxy.parameters()]
    optimiser, rate = Adam(parameters, lr=4e-3), 4e-3
    if start:  # both networks are taught the affine chart
        affine = states[:, 1:] / states[:, :1]
        for step in range(3000):
            rows = torch.randint(TRAIN, (256,), generator=stream)
            cosine(optimiser, 4e-3, step / 3000)
            near = 1 / (1 + affine[rows].abs().square().sum(1))
            decoded = model.decoder(affine[rows]).mean - density_coordinates(states[rows])
            encoded = (model.encode(samples[rows]).mean - affine[rows]).abs().square().sum(1)
            loss = decoded.square().sum(1).mean() + (encoded * near.square()).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            optimiser.step()
        with torch.no_grad():
            model.encoder.log_var.linear.bias.fill_(-6.0)
            model.decoder.log_var.value.fill_(-5.0)
        rate = 2e-3
    step = 0
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(TRAIN, generator=stream).split(BATCH):
            cosine(optimiser, rate, step / (EPOCHS * TRAIN // BATCH))
            x = samples[rows]
            posterior = model.posterior(x)
            z = posterior.sample(stream)
            beta = 1.0 if start else min(1.0, epoch / 5)
            loss = -model.decoder(z).log_prob(x).mean()
            loss = loss + beta * density.divergence(posterior, z).mean()
            if tie:
                points = z[:POINTS]
                v = torch.randn(points.shape, dtype=z.dtype, generator=stream)
                eta = weight * min(1.0, epoch / rise)
                loss = loss + eta * tie_term(tie, model, proxy, points, v)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 100.0)
            optimiser.step()
            step += 1
    model = model.eval().requires_grad_(False)
    with torch.no_grad():
        posterior = model.posterior(test)
        z = posterior.sample(stream)
        terms = model.decoder(z).log_prob(test) - density.divergence(posterior, z)
    found = {"name": name, "seed": seed, "elbo": terms.mean().item()}
    proxies = {} if proxy is None else {potential: proxy.requires_grad_(False)}
    try:
        table = compare_with_truth(model, proxies, test_states[:250], NOISE, SETTINGS)
    except InputError as error:
        found["refused"] = str(error)
    else:
        columns = ["length_error", "distance_error", "curvature"]
        for row in table.to_dict("records"):
            found |= {f"{row['metric']}.{column}": row[column] for column in columns}
        shared = ["sigma", "hermitian_defect", "chart_defect", "curvature_points"]
        found |= {column: row[column] for column in shared}
    return found | {"cpu_seconds": round(time.process_time() - begin)}


if __name__ == "__main__":
    chosen = sys.argv[1:2] or list(RUNS)
    for name in chosen:
        print(json.dumps(run(name, int(sys.argv[2]) if sys.argv[2:] else 0, **RUNS[name])))
