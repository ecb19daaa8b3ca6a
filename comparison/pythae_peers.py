"""Compare with pythae: its VAE by evidence lower bound, its samplers by the project's scores.

Writes reconstruction.csv and samplers.csv; README.md beside this file says what they hold. Times
are seconds of one core (CPU time on one thread), so that other work on the machine does not count.
"""

import copy
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is loaded, which pythae does

import pandas as pd
import threadpoolctl
import torch
import typer
import yaml
from matched import matched_networks, scores_at_best_variance
from pythae.data.datasets import BaseDataset
from pythae.models import RHVAE, VAE, VAMP, RHVAEConfig, VAEConfig, VAMPConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.samplers import (
    BaseSampler,
    GaussianMixtureSampler,
    GaussianMixtureSamplerConfig,
    MAFSampler,
    NormalSampler,
    RHVAESampler,
    RHVAESamplerConfig,
    VAMPSampler,
)
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.trainer_utils import set_seed
from snakemake.utils import update_config
from torch import Tensor, nn

from kahlervae.data import load_split
from kahlervae.data.datasets import Split
from kahlervae.errors import InputError
from kahlervae.evaluate.reference import Reference
from kahlervae.evaluate.score import load_references
from kahlervae.geometry import to_real
from kahlervae.models import VAE as ProjectVAE
from kahlervae.models.likelihoods import RealGaussian
from kahlervae.models.posteriors import Posterior, RealPosterior
from kahlervae.models.vae import count_parameters
from kahlervae.seeding import generator
from kahlervae.storage import write_table
from kahlervae.train import train

SEED = 0
COMPONENTS = (10, 100)
"""Gaussians of the mixtures: pythae's default, and the strongest control of the project."""
PRIOR_COMPONENTS = 64
"""Of learned priors, pythae's and the project's."""
FLOW_EPOCHS = 20
"""Of the autoregressive flow that is fitted to latents."""
RIEMANNIAN = {"mcmc_steps_nbr": 5, "n_lf": 3, "eps_lf": 0.15}
"""A twentieth of the steps that pythae's Riemannian sampler takes by default; each is as long as
there (0.45), but in a fifth of the leapfrog steps."""
CENTROIDS = 500
"""Of the Riemannian metric, of 12,800 that pythae keeps. It builds an array of samples × centroids
× dimension² every time it evaluates the metric; with all of them it would take hours."""

PROJECT: dict[str, dict[str, Any]] = {
    "complex": {},
    "real": {},
    "mixture": {"prior": {"kind": "mixture", "components": PRIOR_COMPONENTS}},
}
"""Variants of the project, with what they change."""

logger = logging.getLogger("peers")


class Encoder(BaseEncoder):
    """The encoder of the project's `real` variant, for pythae."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> ModelOutput:
        posterior = self.network(x.flatten(1))
        return ModelOutput(embedding=posterior.real_mean, log_covariance=posterior.real_log_var)


class Decoder(BaseDecoder):
    """The decoder of the project's `real` variant, for pythae."""

    def __init__(self, network: nn.Module, image_shape: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.image_shape = image_shape

    def forward(self, z: Tensor) -> ModelOutput:
        mean = self.network(torch.complex(*z.chunk(2, dim=-1)) / 2**0.5).mean
        return ModelOutput(reconstruction=mean.unflatten(1, (1, *self.image_shape)))

    def log_prob(self, recon_x: Tensor, x: Tensor) -> Tensor:
        """log p(x | z), with the variance that the network learns."""
        mean = recon_x.flatten(1)
        log_var = self.network.log_var.value.expand_as(mean)
        return RealGaussian(mean, log_var).log_prob(x.flatten(1))


class LearnedVarianceVAE(VAE):
    """pythae's VAE with the likelihood and the KL warm-up of the project."""

    warmup_epochs: int

    def forward(self, inputs: Mapping[str, Tensor], epoch: int = 1, **options: Any) -> ModelOutput:
        self.kl_weight = min(1.0, epoch / max(1, self.warmup_epochs))
        return super().forward(inputs, epoch=epoch, **options)

    def loss_function(
        self, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        distortion = -self.decoder.log_prob(recon_x, x).mean()
        kl = RealPosterior(mu, log_var).kl().mean()
        return distortion + self.kl_weight * kl, distortion, kl


class LearnedVarianceRHVAE(RHVAE):
    """pythae's Riemannian Hamiltonian VAE with the variance that its decoder has learned.

    With pythae's variance of 1 the encoder would unlearn what a trained decoder tells apart.
    """

    def _log_p_x_given_z(self, recon_x: Tensor, x: Tensor) -> Tensor:
        return self.decoder.log_prob(recon_x, x)


class LearnedVarianceVAMP(VAMP):
    """pythae's VAE with a prior of pseudo-inputs, with the likelihood and the KL of the project."""

    def loss_function(
        self, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor, epoch: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        distortion = -self.decoder.log_prob(recon_x, x).mean()
        kl = self.kl(mu, log_var, z).mean()
        weight = min(1.0, epoch / max(1, self.linear_scheduling)) if self.training else 1.0
        return distortion + weight * kl, distortion, kl

    def kl(self, mu: Tensor, log_var: Tensor, z: Tensor) -> Tensor:
        """log q(z | x) - log p(z) at draws z of q."""
        log_q = -0.5 * (log_var + (z - mu).square() / log_var.exp()).sum(1)
        return log_q - self._log_p_z(z)


class ClippingTrainer(BaseTrainer):
    """pythae's trainer with a largest norm of a batch's gradient, as in the project."""

    gradient_clip: float

    def _optimizers_step(self, model_output: ModelOutput) -> None:
        self.optimizer.zero_grad()
        model_output.loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self.optimizer.step()


class Budget(NamedTuple):
    """What all models have in common."""

    dataset: str
    splits: Mapping[str, Split]
    model: Mapping[str, Any]
    real_depth: int | None
    training: Mapping[str, Any]

    @property
    def images(self) -> Tensor:
        """The images to train on."""
        return self.splits["train"].samples

    def networks(self) -> tuple[Encoder, Decoder]:
        """Fresh ones of the project's variant `real`."""
        height, width = self.images.shape[1:]
        sizes = {**self.model, "own_depth": self.real_depth}
        encoder, decoder = matched_networks((height, width), sizes, SEED)
        return Encoder(encoder), Decoder(decoder, (height, width))


def main(
    config: Annotated[
        tuple[Path, Path], typer.Option(help="The workflow's configuration and its overlay.")
    ] = (Path("config.yaml"), Path("config/paper.yaml")),
    dataset: Annotated[str, typer.Option(help="One of the configuration.")] = "mnist",
    epochs: Annotated[int | None, typer.Option(help="Instead of the configuration's.")] = None,
    rhvae_epochs: Annotated[int, typer.Option(help="On top of those of the VAE.")] = 3,
    images: Annotated[int | None, typer.Option(help="To train on, instead of all.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/peers"),
) -> None:
    """Train and sample by pythae and by the project on one budget, and write the scores.

    Data and oracles are those that the workflow makes with the same configuration.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("pythae"):
            logging.getLogger(name).setLevel(logging.WARNING)
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)

    settings: dict[str, Any] = {}
    for file in config:
        update_config(settings, yaml.safe_load(file.read_text(encoding="utf-8")))
    stages = Path(settings["results"]) / dataset
    data = stages / "data.safetensors"
    oracles = [stages / f"oracles/{name}.safetensors" for name in settings["evaluation"]["oracles"]]
    splits = {name: load_split(data, name) for name in ("train", "validation", "test")}
    train = splits["train"]
    labels = train.labels if train.labels is None else train.labels[:images]
    splits["train"] = Split(train.samples[:images], labels, train.form)
    options = settings["datasets"][dataset]
    training = dict(options["training"])
    training["epochs"] = epochs or training["epochs"]
    training["kl_warmup_epochs"] = min(training["kl_warmup_epochs"], training["epochs"])
    real_depth = options["variants"]["real"].get("depth")
    budget = Budget(dataset, splits, options["model"], real_depth, training)

    models, reconstruction = train_all(budget, rhvae_epochs)
    write_table(out / "reconstruction.csv", reconstruction)
    references = load_references(data, oracles, settings["evaluation"])
    samples = sample_all(models, budget, references, settings["sampling"]["count"])
    write_table(out / "samplers.csv", samples)


def train_all(budget: Budget, rhvae_epochs: int) -> tuple[dict[str, nn.Module], pd.DataFrame]:
    """All models by name, and the table of what they cost and how well they reconstruct."""
    models: dict[str, nn.Module] = {}
    rows: list[dict[str, Any]] = []

    def add(name: str, model: nn.Module, epochs: int, seconds: float) -> None:
        models[name] = model
        row = {"dataset": budget.dataset, "software": _software(model), "model": name}
        row |= {"seed": SEED, "images": len(budget.images), "epochs": epochs}
        row |= {"train_seconds": seconds, "parameters": count_parameters(model)}
        rows.append(row | score_reconstruction(model, budget))
        logger.info("%s: %s", name, rows[-1])

    epochs = budget.training["epochs"]
    for variant, block in PROJECT.items():
        add(variant, *train_project(variant, block, budget))

    def config(kind: type[VAEConfig] = VAEConfig, **options: Any) -> VAEConfig:
        shape = (1, *budget.images.shape[1:])
        return kind(input_dim=shape, latent_dim=2 * budget.model["latent_dim"], **options)

    set_seed(SEED)  # of the networks that pythae builds
    default = VAE(config())
    add("vae_default", default, epochs, train_pythae(default, budget, epochs))
    unit = VAE(config(), *budget.networks())
    add("vae_unit_variance", unit, epochs, train_pythae(unit, budget, epochs))
    vae = LearnedVarianceVAE(config(), *budget.networks())
    vae.warmup_epochs = budget.training["kl_warmup_epochs"]
    add("vae", vae, epochs, train_pythae(vae, budget, epochs))

    learned = config(
        VAMPConfig,
        number_components=PRIOR_COMPONENTS,
        linear_scheduling_steps=budget.training["kl_warmup_epochs"],
    )
    set_seed(SEED)  # of the pseudo-inputs
    vamp = LearnedVarianceVAMP(learned, *budget.networks())
    add("vamp", vamp, epochs, train_pythae(vamp, budget, epochs))

    # It goes on from there with the decoder as it is, so that samplers are compared on one decoder.
    set_seed(SEED)  # of the metric network
    rhvae = LearnedVarianceRHVAE(
        config(RHVAEConfig, n_lf=1),
        copy.deepcopy(vae.encoder),
        copy.deepcopy(vae.decoder).requires_grad_(False),
    )
    add("rhvae", rhvae, epochs + rhvae_epochs, train_pythae(rhvae, budget, rhvae_epochs))
    return models, pd.DataFrame(rows)


def train_project(
    variant: str, block: Mapping[str, Any], budget: Budget
) -> tuple[ProjectVAE, int, float]:
    """A variant of the project, its epochs, and the seconds that they took."""
    identity = {"dataset": budget.dataset, "representation": "pixels"}
    identity |= {"variant": variant, "seed": SEED}
    settings = {"model": budget.model, "training": budget.training, "variant": block}
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        model, _ = train(budget.splits, identity, settings, Path(folder) / "checkpoint")
        return model, budget.training["epochs"], time.process_time() - start


def train_pythae(model: VAE, budget: Budget, epochs: int) -> float:
    """Train in place by pythae's trainer; the seconds that it took.

    Adam, cosine decay by the epoch and clipping as in the project; the last epoch counts.
    """
    dataset = BaseDataset(budget.images[:, None], torch.zeros(len(budget.images)))
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            learning_rate=budget.training["learning_rate"],
            per_device_train_batch_size=budget.training["batch_size"],
            optimizer_cls="Adam",
            scheduler_cls="CosineAnnealingLR",
            scheduler_params={"T_max": epochs},
            seed=SEED,
            no_cuda=True,
        )
        trainer = ClippingTrainer(model, dataset, training_config=config)
        trainer.gradient_clip = budget.training["gradient_clip"]
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
    model.eval()
    return seconds


def score_reconstruction(model: nn.Module, budget: Budget) -> dict[str, float]:
    """ELBO and MSE on the test images, for all models under the variance that is best for them.

    The RHVAE counts as the plain VAE that its encoder and decoder are, without the Hamiltonian
    steps of its posterior.
    """
    shape = budget.images.shape[1:]

    def encode(x: Tensor) -> Posterior:
        if isinstance(model, ProjectVAE):
            return model.encoder(x)
        output = model.encoder(x.unflatten(1, (1, *shape)))
        return RealPosterior(output.embedding, output.log_covariance)

    def decode(z: Tensor) -> Tensor:
        if isinstance(model, ProjectVAE):
            return model.decoder(z).mean
        return model.decoder(to_real(z)).reconstruction.flatten(1)

    def kl(posterior: Posterior, z: Tensor) -> Tensor:
        if isinstance(model, ProjectVAE):
            return model.prior.kl(posterior, z)
        if isinstance(model, LearnedVarianceVAMP):
            return model.kl(posterior.real_mean, posterior.real_log_var, to_real(z))
        return posterior.kl()

    return scores_at_best_variance(
        encode,
        decode,
        budget.images.flatten(1),
        budget.splits["test"].samples.flatten(1),
        generator(SEED, "reconstruction"),
        learned_variance(model),
        kl,
    )


def learned_variance(model: nn.Module) -> float:
    """σ² of the likelihood that a model was trained with; NaN where it learned none."""
    if isinstance(model, ProjectVAE):
        return model.decoder.log_var.value.exp().item()
    if isinstance(model, LearnedVarianceVAE | LearnedVarianceVAMP | LearnedVarianceRHVAE):
        return model.decoder.network.log_var.value.exp().item()
    return math.nan


def sample_all(
    models: Mapping[str, nn.Module],
    budget: Budget,
    references: Sequence[Reference],
    count: int,
) -> pd.DataFrame:
    """One row for every sampler of every model, and every oracle."""
    rows: list[dict[str, Any]] = []

    def add(model: str, sampler: str, setting: str, images: Tensor, seconds: list[float]) -> None:
        row = {"dataset": budget.dataset, "software": _software(models[model]), "model": model}
        row |= {"seed": SEED, "sampler": sampler, "setting": setting, "count": len(images)}
        row |= {"fit_seconds": seconds[0], "seconds_per_1000": seconds[1] * 1000 / len(images)}
        for reference in references:
            oracle = {"oracle": reference.oracle.architecture}
            rows.append(row | oracle | score_images(reference, images))
            logger.info("%s, %s: %s", model, sampler, rows[-1])

    for name in PROJECT:
        add(name, "prior", "default", *sample_prior(models[name], count))

    train_images = budget.images[:, None]
    for name in ("vae_default", "vae_unit_variance", "vae"):
        vae = models[name]
        add(name, "NormalSampler", "default", *draw(NormalSampler(vae), count))
        for components in COMPONENTS:
            mixture = GaussianMixtureSamplerConfig(n_components=components)
            gmm = GaussianMixtureSampler(vae, mixture)
            setting = f"components={components}"
            add(name, "GaussianMixtureSampler", setting, *draw(gmm, count, train_images))
    with tempfile.TemporaryDirectory() as folder:
        flow = BaseTrainerConfig(output_dir=folder, num_epochs=FLOW_EPOCHS, seed=SEED, no_cuda=True)
        fit = {"train_data": train_images, "training_config": flow}
        add("vae", "MAFSampler", f"epochs={FLOW_EPOCHS}", *draw(MAFSampler(vae), count, **fit))
    vamp = models["vamp"]
    add("vamp", "VAMPSampler", "default", *draw(VAMPSampler(vamp), count))
    add("vamp", "prior", "default", *sample_pseudo_inputs(vamp, count))

    rhvae = models["rhvae"]
    chosen = torch.randperm(len(rhvae.M_tens), generator=generator(SEED, "centroids"))[:CENTROIDS]
    rhvae.M_tens, rhvae.centroids_tens = rhvae.M_tens[chosen], rhvae.centroids_tens[chosen]
    setting = "steps={mcmc_steps_nbr},leapfrog={n_lf},step_size={eps_lf}".format(**RIEMANNIAN)
    setting += f",centroids={len(chosen)}"
    sampler = RHVAESampler(rhvae, RHVAESamplerConfig(**RIEMANNIAN))
    add("rhvae", "RHVAESampler", setting, *draw(sampler, count))
    return pd.DataFrame(rows)


def draw(
    sampler: BaseSampler, count: int, train_data: Tensor | None = None, **options: Any
) -> tuple[Tensor, list[float]]:
    """Images of a sampler of pythae, and the seconds of fitting and of sampling."""
    set_seed(SEED)
    start = time.process_time()
    sampler.fit(train_data, **options)
    fitted = time.process_time()
    images = sampler.sample(count, batch_size=100)
    end = time.process_time()
    return images[:, 0].clamp(0, 1), [fitted - start, end - fitted]


def sample_prior(model: ProjectVAE, count: int) -> tuple[Tensor, list[float]]:
    """Images of the project's prior sampler, and the seconds of fitting and of sampling."""
    start = time.process_time()
    with torch.no_grad():
        images = model.decode(model.prior.sample(count, generator(SEED, "sample")))
    return images, [0.0, time.process_time() - start]


@torch.no_grad()
def sample_pseudo_inputs(model: LearnedVarianceVAMP, count: int) -> tuple[Tensor, list[float]]:
    """Images of the prior as it was trained, and the seconds of fitting and of sampling.

    pythae's own sampler takes the tanh of the pseudo-inputs' log variances.
    """
    set_seed(SEED)
    start = time.process_time()
    chosen = torch.randint(PRIOR_COMPONENTS, (count,))
    inputs = model.pseudo_inputs(model.idle_input[chosen])
    posterior = model.encoder(inputs)
    noise = torch.randn_like(posterior.embedding)
    z = posterior.embedding + (posterior.log_covariance / 2).exp() * noise
    images = model.decoder(z).reconstruction[:, 0]
    return images.clamp(0, 1), [0.0, time.process_time() - start]


def score_images(reference: Reference, images: Tensor) -> dict[str, float]:
    """The project's scores of images."""
    return reference.image_scores(reference.see(images), "test")


def _software(model: nn.Module) -> str:
    return "kahlervae" if isinstance(model, ProjectVAE) else "pythae"


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"error: {error}")
