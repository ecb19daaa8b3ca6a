"""What makes the comparison with pythae fair, the geometry of its decoders, and stochman's curves.

pythae and stochman themselves are needed by what is marked so, and by nothing else.
"""

import importlib.util
import math
import re
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from scipy import optimize, stats
from torch import nn

from kahlervae import cli
from kahlervae.config.registry import data_sources
from kahlervae.data import Form
from kahlervae.data.datasets import Split
from kahlervae.evaluate.reconstruction import reconstruction_scores
from kahlervae.geometry import MixturePotential
from kahlervae.models import build_model, save_model
from kahlervae.models.posteriors import RealPosterior
from kahlervae.models.vae import VAE, count_parameters
from kahlervae.train import train
from kahlervae.train.potentials import POTENTIALS, save_potentials

ROOT = Path(__file__).parents[1]
MNIST = yaml.safe_load((ROOT / "config/paper.yaml").read_text())["datasets"]["mnist"]


@pytest.fixture(scope="module")
def matched(comparison):
    return comparison("matched")


def test_networks_have_the_size_of_the_complex_variant(matched):
    """Neither one hidden unit more a layer nor one less comes closer to it."""
    sizes = MNIST["model"]
    names = {"dataset": "mnist", "representation": "pixels", "variant": "", "seed": 0}
    target = count_parameters(build_model(names, Form((28, 28)), "complex", **sizes))
    encoder, decoder = matched.matched_networks((28, 28), sizes, seed=0)
    off = abs(count_parameters(encoder) + count_parameters(decoder) - target)
    like_real = build_model(names, Form((28, 28)), "real", **sizes).architecture
    for unit in (-1, 1):
        neighbour = VAE(names, like_real | {"width": like_real["width"] + unit})
        assert off < abs(count_parameters(neighbour) - target)
    assert encoder(torch.zeros(1, 784)).real_mean.shape == (1, 2 * sizes["latent_dim"])


def test_networks_start_as_the_real_variant_does(matched, tmp_path):
    sizes = {"latent_dim": 2, "width": 5, "depth": 2, "likelihood_variance": "constant"}
    split = Split(torch.rand(8, 4, 4), torch.zeros(8, dtype=torch.int64), Form((4, 4)))
    training = {"epochs": 1, "batch_size": 8, "learning_rate": 0.0, "gradient_clip": 1.0}
    training |= {"kl_warmup_epochs": 1, "checkpoint_every": 2}
    model, _ = train(
        {"train": split, "validation": split},
        {"dataset": "", "representation": "pixels", "variant": "real", "seed": 3},
        {"model": sizes, "training": training, "variant": {}},
        tmp_path / "checkpoint.safetensors",
    )
    encoder, decoder = matched.matched_networks((4, 4), sizes, seed=3)
    for fresh, started in ((encoder, model.encoder), (decoder, model.decoder)):
        torch.testing.assert_close(fresh.state_dict(), started.state_dict(), rtol=0, atol=0)


def test_scores_of_certain_posteriors(matched, random):
    """Where q(z|x) has no width, nothing is drawn: variance, likelihood, KL and MSE by scipy."""
    weight = torch.randn(4, 6, dtype=torch.float64, generator=random)
    train_images, test_images = torch.rand(2, 50, 6, dtype=torch.float64, generator=random)
    log_var = torch.full((50, 4), -60.0, dtype=torch.float64)

    def encode(x):
        return RealPosterior(x[:, :4].sin(), log_var)

    def decode(z):
        return math.sqrt(2) * torch.cat([z.real, z.imag], dim=1) @ weight

    images = train_images, test_images
    scores = matched.scores_at_best_variance(encode, decode, *images, random, learned_variance=0.3)
    error = (train_images - train_images[:, :4].sin() @ weight).numpy()
    best = optimize.minimize_scalar(
        lambda log: -stats.norm.logpdf(error, scale=math.exp(log)).sum(), options={"xtol": 1e-12}
    )
    assert scores["sigma"] == pytest.approx(math.exp(best.x), rel=1e-6)

    mean = test_images[:, :4].sin() @ weight
    likelihood = stats.norm.logpdf(test_images.numpy(), mean.numpy(), scores["sigma"])
    assert scores["log_likelihood"] == pytest.approx(likelihood.sum(1).mean(), rel=1e-9)
    posterior = torch.distributions.Normal(test_images[:, :4].sin(), torch.exp(0.5 * log_var))
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    assert scores["kl"] == pytest.approx(kl.sum(1).mean().item(), rel=1e-9)
    assert scores["elbo"] == scores["log_likelihood"] - scores["kl"]
    likelihood = stats.norm.logpdf(test_images.numpy(), mean.numpy(), math.sqrt(0.3))
    assert scores["learned_elbo"] == pytest.approx(likelihood.sum(1).mean() - scores["kl"])
    error = (mean.clamp(0, 1) - test_images).square().mean().item()
    assert scores["mse"] == pytest.approx(error, rel=1e-9)


def test_elbo_of_exact_posteriors_is_the_evidence(matched, random):
    """Probabilistic PCA with orthogonal weights: the exact posterior is diagonal."""
    dimension, latent, count, variance = 6, 4, 40_000, 0.09
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=random)).Q[:, :latent]
    weight = basis * torch.tensor([1.5, 1.0, 0.7, 0.2], dtype=torch.float64)
    precision = 1 + weight.square().sum(0) / variance
    z = torch.randn(2, count, latent, dtype=torch.float64, generator=random)
    noise = torch.randn(2, count, dimension, dtype=torch.float64, generator=random)
    train_images, test_images = z @ weight.T + math.sqrt(variance) * noise

    def encode(x):
        mean = x @ weight / (variance * precision)
        return RealPosterior(mean, -precision.log().expand_as(mean))

    def decode(z):
        return math.sqrt(2) * torch.cat([z.real, z.imag], dim=1) @ weight.T

    scores = matched.scores_at_best_variance(encode, decode, train_images, test_images, random)
    covariance = (weight @ weight.T + variance * torch.eye(dimension)).numpy()
    evidence = stats.multivariate_normal.logpdf(test_images, cov=covariance)
    assert scores["sigma"] == pytest.approx(math.sqrt(variance), rel=0.01)
    # Both are means over the same images; what is left is the noise of the posterior samples.
    assert scores["elbo"] == pytest.approx(evidence.mean(), abs=0.03)
    assert scores["latent_norm"] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("variant", "block"),
    [("complex", {}), ("real", {}), ("complex", {"prior": {"kind": "mixture", "components": 3}})],
)
def test_scores_under_the_learned_variance_are_those_of_the_project(matched, variant, block):
    sizes = {"latent_dim": 2, "width": 8, "depth": 2} | block
    identity = {"dataset": "", "representation": "pixels", "variant": variant, "seed": 0}
    model = build_model(identity, Form((4, 4)), variant, **sizes)
    images = torch.rand(2, 30, 4, 4)
    expected = reconstruction_scores(model, images[1], torch.Generator().manual_seed(0))
    scores = matched.scores_at_best_variance(
        model.encoder,
        lambda z: model.decoder(z).mean,
        *images.flatten(2),
        torch.Generator().manual_seed(0),
        learned_variance=expected["sigma"] ** 2,
        kl=model.prior.kl,
    )
    assert scores["learned_elbo"] == pytest.approx(expected["elbo"], rel=1e-5)
    for name in ("kl", "mse", "latent_norm"):
        assert scores[name] == pytest.approx(expected[name], rel=1e-5)


def test_pythae_is_pinned_and_no_dependency_of_the_package():
    lines = (ROOT / "comparison/requirements.txt").read_text().splitlines()
    wanted = [line.partition("#")[0].strip() for line in lines]
    wanted = [line for line in wanted if line]
    locks = ("requirements.txt", "requirements-dev.txt")
    assert wanted[:2] == [f"-r ../{lock}" for lock in locks]
    assert all("==" in line for line in wanted[2:])
    own = {line.split("==")[0].lower() for line in wanted[2:]}
    locked = {
        line.split("==")[0].lower()
        for lock in locks
        for line in (ROOT / lock).read_text().splitlines()
    }
    assert not own & locked
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for demands in (project["dependencies"], *project["optional-dependencies"].values()):
        assert not any(line.startswith("pythae") for line in demands)


TRAINING, GEOMETRY = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/pythae.md").read_text(), re.DOTALL
)


class Output(dict):
    """As pythae's: a dictionary whose entries are attributes."""

    __getattr__ = dict.__getitem__


class Decoder(nn.Module):
    """pythae's default one, with its output."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(4, 512), nn.ReLU(), nn.Linear(512, 64), nn.Sigmoid()),
            nn.Unflatten(1, (1, 8, 8)),
        )

    def forward(self, z, output_layer_levels=None):
        return Output(reconstruction=self.layers(z))


def hold(said):
    assert "certified: True" in said
    error, defect = (
        float(re.search(rf"{name}: ([\d.]+)", said)[1])
        for name in ("relative error", "not Hermitian")
    )
    assert error < 0.3
    assert 0 < defect < 1


def test_geometry_of_a_decoder_that_answers_as_pythaes_does(capsys):
    torch.manual_seed(0)
    model = nn.Module()
    model.decoder = Decoder()
    exec(GEOMETRY, {"model": model})
    hold(capsys.readouterr().out)


@pytest.mark.peers
def test_geometry_of_a_model_that_pythae_has_trained(capsys, tmp_path, monkeypatch):
    if importlib.util.find_spec("pythae") is None:
        pytest.skip("NOTHING TESTED, NO PYTHAE: call `make test-peers`, which installs it")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    torch.manual_seed(0)
    scope: dict = {}
    exec(TRAINING, scope)
    exec(GEOMETRY, scope)
    assert isinstance(scope["model"].decoder(torch.zeros(1, 4)).reconstruction, torch.Tensor)
    hold(capsys.readouterr().out)


@pytest.mark.peers
def test_stochman_and_the_project_find_curves_of_one_length(comparison, tmp_path):
    if importlib.util.find_spec("stochman") is None:
        pytest.skip("NOTHING TESTED, NO STOCHMAN: call `make test-peers`, which installs it")
    torch.manual_seed(0)
    identity = {"dataset": "digits", "representation": "pixels", "variant": "complex", "seed": 0}
    model = build_model(identity, Form((8, 8)), "complex", latent_dim=2, width=8, depth=2)
    for parameter in model.parameters():
        parameter.data *= 1.5  # so that posterior means lie apart
    save_model(tmp_path / "model.safetensors", model)
    flat = torch.eye(2, dtype=torch.complex64)
    potentials = {name: MixturePotential.constant(flat) for name in POTENTIALS}
    save_potentials(tmp_path / "potential.safetensors", potentials, identity)
    split = {"oracle": 500, "validation": 100, "test": 100, "seed": 0}
    settings = {"source": data_sources({})["digits"], "split": split}
    cli.data("digits", settings, tmp_path / "data.safetensors", tmp_path / "data.json")
    script = comparison("stochman_geodesics")
    table = script.compare(tmp_path, tmp_path / "data.safetensors", 10, 16).set_index("method")
    lengths = table["decoded_length"]
    assert lengths["stochman"] == pytest.approx(lengths["whole form"], abs=5e-3)
    assert lengths["whole form"] < lengths["Hermitian part"]
    assert lengths["straight"] == pytest.approx(1)
    assert lengths["fitted potential"] == pytest.approx(1, abs=1e-4)  # a constant
    assert table["hermitian_length"].idxmin() == "Hermitian part"
