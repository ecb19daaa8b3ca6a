"""The sampling stage: all samplers of one model."""

import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Complex, Num
from torch import Tensor

from kahlervae.errors import InputError
from kahlervae.models import VAE, MixturePrior, Posterior
from kahlervae.options import check_choice
from kahlervae.sample.chains import draw_family
from kahlervae.sample.diagnostics import Diagnostics
from kahlervae.sample.mixtures import (
    GaussianMixture,
    LearnedPrior,
    Mixture,
    PosteriorMixture,
    TruncatedMixture,
)
from kahlervae.sample.ratio import Ratio
from kahlervae.sample.riemannian import Riemannian, choose_anchors
from kahlervae.sample.samplers import Base, Prior, Sampler, Truncated
from kahlervae.sample.volume import FisherVolume, Volume, VolumeElement, component_log_dets
from kahlervae.seeding import generator

__all__ = [
    "SAMPLERS",
    "Samples",
    "Sources",
    "build_samplers",
    "prior_sampler",
    "sample_model",
    "truncated_sampler",
]

SAMPLERS = ("prior", "truncated", "posterior_mixture", "gmm", "ratio", "volume", "riemannian")
BASES = ("prior", "gmm", "posterior_mixture")
CHAINS = ("chains", "warmup", "draws", "leapfrog", "candidates", "rhat")
FITTED = 10_000
"""Training samples, at random, to whose posterior means mixtures and anchors are fitted."""
MIXTURES = ["components", "train_log_density", "validation_log_density", "chosen"]
ANCHORS = 1_000
"""Training samples, at random, whose posteriors are the aggregated one as base, at most."""


class Samples(NamedTuple):
    """What the sampling stage gives.

    Attributes:
        latents: by key ``"{sampler}:{setting}"``; those of the validation come first.
        diagnostics: one row for every sampler that runs Markov chains: identity, sampler, setting,
            then the fields of :class:`~kahlervae.sample.diagnostics.Diagnostics`.
        speed: wall-clock seconds and effective draws in a second of the same samplers, apart from
            all that must not differ between runs; of those that run together, a share each.
        mixtures: one row for every Gaussian mixture that was fitted: identity, ``components``,
            mean log densities at posterior means of training and of validation samples, and
            ``chosen``, which marks the base of the volume samplers.
    """

    latents: dict[str, Complex[Tensor, "count d"]]
    diagnostics: pd.DataFrame
    speed: pd.DataFrame
    mixtures: pd.DataFrame


def prior_sampler(model: VAE, device: torch.device | None = None) -> Base:
    """The prior of a model, whose draws go to that device.

    Example:
        >>> from kahlervae.data import Form
        >>> from kahlervae.models import build_model
        >>> identity = {"dataset": "d", "representation": "pixels", "variant": "complex", "seed": 0}
        >>> sizes = {"latent_dim": 2, "width": 8, "depth": 1}
        >>> mixture = {"kind": "mixture", "components": 8}
        >>> model = build_model(identity, Form((8, 8)), "complex", **sizes, prior=mixture)
        >>> type(prior_sampler(model)).__name__
        'LearnedPrior'
    """
    if isinstance(model.prior, MixturePrior):
        return LearnedPrior(model.prior)
    return Prior(model.latent_dim, device=device)


def truncated_sampler(model: VAE, temperature: float, device: torch.device | None = None) -> Base:
    """The prior of a model at a temperature, the factor on its standard deviations.

    Example:
        >>> from kahlervae.data import Form
        >>> from kahlervae.models import build_model
        >>> identity = {"dataset": "d", "representation": "pixels", "variant": "complex", "seed": 0}
        >>> model = build_model(identity, Form((8, 8)), "complex", latent_dim=2, width=8, depth=1)
        >>> truncated_sampler(model, 0.5).key
        'truncated:temperature=0.5'
    """
    if isinstance(model.prior, MixturePrior):
        return TruncatedMixture(model.prior, temperature)
    return Truncated(model.latent_dim, temperature, device=device)


class Sources:
    """What samplers of one model share: posteriors, mixtures, bases and metrics.

    Args:
        model: gives the posteriors, the decoder and the seed.
        training: training samples.
        validation: samples by which the number of components of a mixture is chosen.
        potentials: ``fitted`` and ``posterior``; None for a model with a real latent space.
        settings: ``sampling`` of the configuration.

    Example:
        >>> import torch
        >>> from kahlervae.data import Form
        >>> from kahlervae.models import build_model
        >>> identity = {"dataset": "d", "representation": "pixels", "variant": "complex", "seed": 0}
        >>> model = build_model(identity, Form((8, 8)), "complex", latent_dim=2, width=8, depth=1)
        >>> sources = Sources(model, torch.zeros(4, 8, 8), torch.zeros(2, 8, 8), None, {})
        >>> tuple(sources.posterior(3).mean.shape), sources.base("prior").key
        ((3, 2), 'prior:default')
    """

    def __init__(
        self,
        model: VAE,
        training: Num[Tensor, "n *shape"],
        validation: Num[Tensor, "m *shape"],
        potentials: Mapping[str, VolumeElement] | None,
        settings: Mapping[str, Any],
    ) -> None:
        self.model, self.training, self.validation = model, training, validation
        self.potentials, self.settings = potentials, settings
        self._mixtures: dict[int, GaussianMixture] = {}

    @property
    def seed(self) -> int:
        """That of the model."""
        return int(self.model.identity["seed"])

    def samples(self, most: int | None = None) -> Num[Tensor, "chosen *shape"]:
        """So many training samples at random, all of them if there are fewer."""
        stream = generator(self.seed, "sample", "images")
        return self.training[torch.randperm(len(self.training), generator=stream)[:most]]

    @torch.no_grad()
    def posterior(self, most: int | None = None) -> Posterior:
        """The posteriors of :meth:`samples`."""
        return self.model.encode(self.samples(most))

    @cached_property
    def fitted(self) -> Posterior:
        """The posteriors that mixtures and metrics are fitted to, encoded once."""
        return self.posterior(FITTED)

    def mixture(self, components: int) -> GaussianMixture:
        """The Gaussian mixture of the posterior means."""
        if components not in self._mixtures:
            fitted = GaussianMixture.fit(self.fitted.mean, components, self.seed)
            self._mixtures[components] = fitted
        return self._mixtures[components]

    @property
    def components(self) -> list[int]:
        """Numbers of components that have enough latents each; the largest there is if none has."""
        options, most = self.settings["gmm"], min(len(self.training), FITTED)
        largest = max(1, most // options["samples_per_component"])
        return [k for k in options["components"] if k <= largest] or [largest]

    @cached_property
    def mixtures(self) -> pd.DataFrame:
        """The mixtures of all :attr:`components`, see :class:`Samples`.

        The one with the largest mean log density of the posterior means of validation samples is
        chosen.
        """
        fitted = self.fitted.mean
        with torch.no_grad():
            held_out = self.model.encode(self.validation).mean
        rows = [
            (k, *(self.mixture(k).log_density(z).mean().item() for z in (fitted, held_out)), False)
            for k in self.components
        ]
        table = pd.DataFrame(rows, columns=MIXTURES)
        table.loc[table["validation_log_density"].idxmax(), "chosen"] = True
        return table

    def base(self, name: str) -> Base:
        """A base of the volume samplers by its name.

        Raises:
            InputError: there is no such base.
        """
        check_choice("the base", name, BASES)
        if name == "prior":
            return prior_sampler(self.model, self.training.device)
        if name == "gmm":
            return self.mixture(
                int(self.mixtures.loc[self.mixtures["chosen"], "components"].item())
            )
        return PosteriorMixture(self.posterior(ANCHORS))

    def geometric(self, sampler: str) -> bool:
        """Whether a sampler can ask for a potential; real latents have none.

        Raises:
            InputError: there should be one.
        """
        if self.potentials is None and self.model.identity["variant"] != "real":
            raise InputError(f"the {sampler} sampler needs a potential: pass its file.")
        return self.potentials is not None

    def element(self, name: str) -> VolumeElement:
        """A metric of the volume samplers by its name.

        Raises:
            InputError: there is no such metric.
        """
        if name == "fisher":
            return FisherVolume(self.model.decoder)
        assert self.potentials is not None
        check_choice("the metric", name, ["fisher", *self.potentials])
        return self.potentials[name]


def build_samplers(sources: Sources) -> Iterator[Sampler]:
    """All samplers that the settings name, one for every temperature and every power.

    A model with a real latent space has no potentials; it gets no ``volume`` samplers.

    Raises:
        InputError: an unknown sampler, or a complex model without potentials.

    Example:
        >>> import torch
        >>> from kahlervae.data import Form
        >>> from kahlervae.models import build_model
        >>> identity = {"dataset": "d", "representation": "pixels", "variant": "complex", "seed": 0}
        >>> model = build_model(identity, Form((8, 8)), "complex", latent_dim=2, width=8, depth=1)
        >>> settings = {"samplers": ["prior", "truncated"], "truncated": {"temperatures": [0.5]}}
        >>> images = torch.zeros(4, 8, 8)
        >>> sources = Sources(model, images, images, None, settings)
        >>> [sampler.key for sampler in build_samplers(sources)]
        ['prior:default', 'truncated:temperature=0.5']
    """
    model, settings = sources.model, sources.settings
    for name in settings["samplers"]:
        if name == "prior":
            yield sources.base("prior")
        elif name == "truncated":
            for temperature in settings["truncated"]["temperatures"]:
                yield truncated_sampler(model, temperature, sources.training.device)
        elif name == "posterior_mixture":
            yield PosteriorMixture(sources.posterior())
        elif name == "gmm":
            for components in sources.components:
                for temperature in settings["gmm"]["temperatures"]:
                    yield sources.mixture(components).at_temperature(temperature)
        elif name == "ratio":
            yield from _ratio_samplers(sources)
        elif name == "volume":
            if sources.geometric(name):
                yield from _volume_samplers(sources)
        elif name == "riemannian":
            options = settings["riemannian"]
            anchors = choose_anchors(sources.fitted, options["anchors"], sources.seed)
            chains = {name: options[name] for name in CHAINS}
            yield Riemannian(anchors, options["regularisation"], **chains)
        else:
            raise InputError(
                f"sampling.samplers names the unknown sampler {name!r}: "
                f"choose from {', '.join(SAMPLERS)}."
            )


def _ratio_samplers(sources: Sources) -> Iterator[Ratio]:
    options = sources.settings["ratio"]
    target = PosteriorMixture(sources.posterior())
    how = {name: options[name] for name in ("draws", "pool")} | {"seed": sources.seed}
    for base in options["bases"]:
        for log_det in options["log_det"]:
            if not log_det:
                yield Ratio(sources.base(base), target, **how)
            elif sources.geometric("ratio"):
                element, epsilon = sources.element("fitted"), sources.settings["epsilon"]
                yield Ratio(sources.base(base), target, element, epsilon, **how)


def _volume_samplers(sources: Sources) -> Iterator[Volume]:
    settings = sources.settings
    options = {name: settings["volume"][name] for name in CHAINS}
    epsilon = settings["epsilon"]
    for target in settings["volume"]["targets"]:
        base, element = sources.base(target["base"]), sources.element(target["metric"])
        names = {"weight": target["weight"], "metric": target["metric"]}
        log_dets = None
        if isinstance(base, Mixture):  # the same for all powers
            log_dets = component_log_dets(base, element, epsilon)
        for power in target["powers"]:
            yield Volume(base, element, power, epsilon, **names, log_dets=log_dets, **options)


def sample_model(
    model: VAE,
    samples: Num[Tensor, "n *shape"],
    validation: Num[Tensor, "m *shape"],
    potentials: Mapping[str, VolumeElement] | None,
    settings: Mapping[str, Any],
) -> Samples:
    """Latents of every sampler and the diagnostics of those that run Markov chains.

    Every sampler draws from its own stream of the model's seed, so that none depends on which
    others are run, and samplers with equal names are paired between variants; those of ``volume``
    with the same base and metric share one, for their chains run together. Of the draws of each
    ``validation_count`` are for choices and ``count`` for what is reported.

    Args:
        model: gives the latent dimension, the posteriors, the decoder, the identity and the seed.
        samples: training samples, for the posteriors; latents are drawn to their device.
        validation: samples by which the number of components of a mixture is chosen.
        potentials: metrics of the volume samplers, ``fitted`` and ``posterior``; None for a model
            with a real latent space.
        settings: ``sampling`` of the configuration, and ``epsilon`` of its ``geometry``.

    Raises:
        InputError: a setting that no sampler can follow; the sentence names it.

    Example:
        >>> import torch
        >>> from kahlervae.data import Form
        >>> from kahlervae.models import build_model
        >>> identity = {"dataset": "d", "representation": "pixels", "variant": "complex", "seed": 0}
        >>> model = build_model(identity, Form((8, 8)), "complex", latent_dim=2, width=8, depth=1)
        >>> settings = {"samplers": ["prior"], "validation_count": 2, "count": 4}
        >>> images = torch.zeros(4, 8, 8)
        >>> samples = sample_model(model, images, images, None, settings)
        >>> tuple(samples.latents["prior:default"].shape)
        (6, 2)
    """
    latents, diagnostics, speed = {}, [], []
    count = settings["validation_count"] + settings["count"]
    families: dict[str, list[Sampler]] = {}
    sources = Sources(model, samples, validation, potentials, settings)
    for sampler in build_samplers(sources):
        families.setdefault(sampler.family, []).append(sampler)
    for name, family in families.items():
        stream = generator(model.identity["seed"], "sample", name)
        start = time.perf_counter()
        drawn = draw_family(family, count, stream)
        seconds = (time.perf_counter() - start) / len(family)
        for sampler, draws in zip(family, drawn, strict=True):
            latents[sampler.key] = draws.latents
            if draws.diagnostics is None:
                continue
            row = {**model.identity, "sampler": sampler.name, "setting": sampler.setting}
            diagnostics.append({**row, **draws.diagnostics._asdict()})
            ess = draws.diagnostics.ess_bulk
            rates = {"seconds": seconds, "ess_bulk": ess, "ess_per_second": ess / seconds}
            speed.append({**row, **rates})
    names = [*model.identity, "sampler", "setting"]
    mixtures = sources.mixtures if "gmm" in settings else pd.DataFrame(columns=MIXTURES)
    for position, (column, value) in enumerate(model.identity.items()):
        mixtures.insert(position, column, value)
    return Samples(
        latents,
        pd.DataFrame(diagnostics, columns=[*names, *Diagnostics._fields]),
        pd.DataFrame(speed, columns=[*names, "seconds", "ess_bulk", "ess_per_second"]),
        mixtures,
    )
