"""Weights on mixtures of latents: do any remove outliers by all scores at no loss of variation?

Writes search.csv and weights.csv; README.md beside this file says what they hold. There are no
Markov chains: latents are drawn from a large pool of a base by importance resampling, so that any
weight can be tried, be it differentiable or not.
"""

import itertools
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pandas as pd
import torch
import typer
import yaml
from jaxtyping import Complex, Float
from sklearn.ensemble import HistGradientBoostingRegressor
from snakemake.utils import update_config
from torch import Tensor

from kahlervae.data import load_split
from kahlervae.errors import InputError
from kahlervae.evaluate.reference import Reference, Seen
from kahlervae.evaluate.score import load_references
from kahlervae.geometry import log_det
from kahlervae.judge.pareto import SCORES, VARIATIONS, curve_outliers, split_setting
from kahlervae.judge.statistics import bootstrap_interval
from kahlervae.models import VAE, load_model
from kahlervae.sample import (
    GaussianMixture,
    Mixture,
    Pool,
    PosteriorMixture,
    Sources,
    VolumeElement,
    choose_anchors,
    component_log_dets,
    effective_size,
    rake,
)
from kahlervae.sample.run import FITTED
from kahlervae.seeding import generator
from kahlervae.storage import write_table
from kahlervae.train.potentials import load_potentials

SIGNS = {
    "density": 1,
    "log_det": -1,
    "ambiguity": -1,
    "fubini_study": 1,
    "fubini_study_posterior": 1,
    "nearest_latent": 1,
    "round_trip_density": 1,
    "round_trip_ambiguity": -1,
    "nearest_image": 1,
    "sharpness": 1,
}
"""Features of a latent, and where its weight is to be large: where they are large, or small."""
LATENT = (
    "density",
    "log_det",
    "ambiguity",
    "fubini_study",
    "fubini_study_posterior",
    "nearest_latent",
)
"""Those that need no decoded image."""
WEIGHTS: dict[str, tuple[str, ...]] = {
    "none": (),
    **{name: (name,) for name in SIGNS},
    "log_det+ambiguity": ("log_det", "ambiguity"),
    "log_det+fubini_study": ("log_det", "fubini_study"),
    "log_det+ambiguity+fubini_study": ("log_det", "ambiguity", "fubini_study"),
    "log_det+nearest_latent": ("log_det", "nearest_latent"),
    "round_trip": ("round_trip_density", "round_trip_ambiguity"),
    "round_trip+nearest_image": ("round_trip_density", "round_trip_ambiguity", "nearest_image"),
}
"""Features of the weights whose coefficients are searched on a grid."""
LEARNED = {
    "learned_density": ("density", "ambiguity", "nearest_latent"),
    "learned_latent": LATENT,
    "learned": tuple(SIGNS),
}
"""Features from which a :class:`Forecast` is made: without geometry, with it, and all of them."""
STRENGTHS = (0.5, 1.0)
"""Coefficients of all features of a weight on the grid, which have unit variance."""
OUTLIERS, NOVELTY = (1.0, 1.5, 2.0, 3.0), (0.0, 1.0, 2.0, 3.0)
"""Coefficients of a forecast's two parts."""
TEMPERATURES = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5)
"""Of the Gaussian mixture that is the control: beyond what any weight leaves of variation."""
WIDE_TEMPERATURE = 1.15
WIDE = f"gmm_{WIDE_TEMPERATURE:g}"
"""The mixture at that temperature, a base from which a weight has more to take away."""
CLIP = 3.0
"""Standard deviations from the mean at which a feature ends, so that no weight hangs on a few."""
POOL = 6
"""Latents in the pool for each that is drawn."""
LOSS = 0.01
"""Relative loss in a mean of variation up to which a setting counts as safe, on validation."""
CHUNK, BATCH = 1000, 100
"""Latents at once; images at once, by so few that a network's activations stay in the caches."""

MEASURES = [*SCORES, *VARIATIONS]
SETTING = ["base", "weight", "setting"]
CONTROL = "gmm"

logger = logging.getLogger("weights")


def fubini_study_metric(
    z: Complex[Tensor, "n d"],
    weights: Float[Tensor, " K"],
    centres: Complex[Tensor, "K d"],
    precisions: Complex[Tensor, "K d d"],
) -> Complex[Tensor, "n d d"]:
    r"""Metric of a mixture of local Fubini–Study potentials.

    .. math::
        K(z) &= \sum_k π_k \log(1 + q_k), \qquad q_k = u_k^\dagger P_k u_k, \quad u_k = z - a_k \\
        g_{i\bar j} &= \sum_k π_k \Bigl[ \frac{(P_k^T)_{ij}}{1 + q_k}
              - \frac{\overline{(P_k u_k)_i} (P_k u_k)_j}{(1 + q_k)^2} \Bigr]

    It is positive definite for Hermitian positive definite P; of one component,
    :math:`\det g = \det P / (1 + q)^{d + 1}`: large near the centre, with polynomial tails.

    Args:
        z: where.
        weights: π_k > 0.
        centres: a_k.
        precisions: P_k.
    """
    slopes = torch.einsum("kij,nkj->nki", precisions, z[:, None] - centres)
    q = 1 + ((z[:, None] - centres).conj() * slopes).real.sum(-1)
    mean = torch.einsum("nk,kji->nij", (weights / q).to(z.dtype), precisions)
    scaled = (weights.sqrt() / q).unsqueeze(-1) * slopes
    return mean - scaled.mH @ scaled


def complex_covariance(covariance: Float[Tensor, "*batch 2*d 2*d"]) -> Complex[Tensor, "*b d d"]:
    """E[uu†] of u = a + ib from the covariance of the coordinates (a, b)."""
    top, bottom = covariance.chunk(2, dim=-2)
    (aa, ab), (ba, bb) = top.chunk(2, dim=-1), bottom.chunk(2, dim=-1)
    return torch.complex(aa + bb, ba - ab)


class Features:
    """What a weight can depend on: functions of a latent that know no label and no oracle.

    - ``density``: log density of the Gaussian mixture, in which all that follows knows classes;
    - ``log_det``: log det(g + εI) of the fitted potential, relative to its mean in the components
      of the mixture, which are weighed by their responsibilities;
    - ``ambiguity``: entropy of the responsibilities;
    - ``fubini_study``, ``fubini_study_posterior``: log det of :func:`fubini_study_metric` of the
      mixture's components, and of the posteriors of anchors;
    - ``nearest_latent``: log distance to the nearest posterior mean of a training image;
    - ``round_trip_density``, ``round_trip_ambiguity``: density and ambiguity of the posterior mean
      of the decoded image;
    - ``nearest_image``: log distance of the decoded image to the nearest training image;
    - ``sharpness``: total variation of the decoded image.

    Args:
        vae: the model.
        mixture: of its posterior means.
        element: the fitted potential.
        anchors: posteriors of some training images.
        images: training images to which distances are taken.
        epsilon: ε.
    """

    def __init__(
        self,
        vae: VAE,
        mixture: GaussianMixture,
        element: VolumeElement,
        anchors: PosteriorMixture,
        images: Float[Tensor, "n height width"],
        epsilon: float,
    ) -> None:
        self.vae, self.mixture, self.element, self.epsilon = vae, mixture, element, epsilon
        self.log_dets = component_log_dets(mixture, element, epsilon).double().mean(1)
        centres = torch.complex(*mixture.means.chunk(2, dim=-1)).to(torch.complex128)
        precisions = torch.linalg.inv(complex_covariance(mixture.covariances.double()))
        self.components = (mixture.weights.double(), centres, precisions)
        mean, variance = anchors.posterior.mean, anchors.posterior.variance
        self.anchors = (
            anchors.log_weights.exp(),
            mean.to(torch.complex128),
            torch.diag_embed(1 / variance.double()).to(torch.complex128),
        )
        self.images = images.flatten(1)
        with torch.no_grad():
            self.means = torch.view_as_real(vae.encode(images).mean).flatten(1)

    @torch.no_grad()
    def __call__(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n features"]:
        """The features in the order of :data:`SIGNS`."""
        return torch.cat([self._values(part) for part in z.split(CHUNK)])

    @torch.no_grad()
    def responsibilities(self, z: Complex[Tensor, "n d"]) -> Float[Tensor, "n K"]:
        """Of the components of the mixture for every latent."""
        return self._place(z)[1].double()

    def _values(self, z: Tensor) -> Tensor:
        images = self.vae.decode(z)
        again = self.vae.encode(images).mean
        density, shares, ambiguity = self._place(z)
        again_density, _, again_ambiguity = self._place(again)
        down, across = images.diff(dim=1).abs(), images.diff(dim=2).abs()
        place = torch.view_as_real(z).flatten(1)
        found = {
            "density": density,
            "log_det": self.element.log_det(z, self.epsilon) - shares @ self.log_dets,
            "ambiguity": ambiguity,
            "fubini_study": log_det(fubini_study_metric(z.to(torch.complex128), *self.components)),
            "fubini_study_posterior": log_det(
                fubini_study_metric(z.to(torch.complex128), *self.anchors)
            ),
            "nearest_latent": torch.cdist(place, self.means).amin(1).log(),
            "round_trip_density": again_density,
            "round_trip_ambiguity": again_ambiguity,
            "nearest_image": torch.cdist(images.flatten(1), self.images).amin(1).log(),
            "sharpness": down.mean((1, 2)) + across.mean((1, 2)),
        }
        return torch.stack([found[name].double() for name in SIGNS], dim=1)

    def _place(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log density in the mixture, responsibilities of its components and their entropy."""
        terms = self.mixture.log_components(z) + self.mixture.log_weights
        shares = terms.softmax(-1)
        return terms.logsumexp(-1), shares, torch.special.entr(shares).sum(-1)


class Forecast:
    """What an oracle will say of a decoded latent, from features that know no oracle.

    By gradient-boosted trees, from draws that oracles have seen.

    Args:
        names: of the features to use.
        values: all features of the draws.
        shares: in how many outlier scores and oracles each was flagged.
        distances: log distance of each to the nearest training image, as the oracles see it.
    """

    def __init__(
        self,
        names: Sequence[str],
        values: Float[Tensor, "n features"],
        shares: Float[Tensor, " n"],
        distances: Float[Tensor, " n"],
    ) -> None:
        self.columns = [list(SIGNS).index(name) for name in names]
        x = values[:, self.columns].numpy()
        self.models = [
            HistGradientBoostingRegressor(
                max_depth=4, max_iter=80, min_samples_leaf=40, random_state=0
            ).fit(x, target.numpy())
            for target in (shares, distances)
        ]

    def __call__(self, values: Float[Tensor, "n features"]) -> Float[Tensor, "n 2"]:
        """``outliers`` and ``novelty``, in standard deviations from their means.

        Of novelty only what lies below the mean counts, so that nothing is drawn to outliers.
        """
        x = values[:, self.columns].numpy()
        found = torch.stack([torch.from_numpy(m.predict(x)) for m in self.models], dim=1)
        outliers, novelty = standardise(found).unbind(1)
        return torch.stack([-outliers, novelty.clamp(max=0)], dim=1)


PARTS = ("outliers", "novelty")
"""Columns of a forecast, each large where its weight is to be large."""


def standardise(values: Float[Tensor, "n columns"]) -> Float[Tensor, "n columns"]:
    """In standard deviations from the mean, cut at :data:`CLIP`; 0 where all are the same."""
    deviation = values.std(0)
    scaled = (values - values.mean(0)) / deviation.masked_fill(deviation == 0, 1)
    return scaled.clamp(-CLIP, CLIP)


class Candidates(NamedTuple):
    """Independent draws of a base, of which some are chosen by a weight.

    Attributes:
        latents: the draws.
        features: of each.
        responsibilities: of the mixture's components for each.
        pool: draws them, with the same noise for all weights.
    """

    latents: Complex[Tensor, "n d"]
    features: Float[Tensor, "n features"]
    responsibilities: Float[Tensor, "n K"]
    pool: Pool

    def log_weight(
        self, coefficients: Mapping[str, float], forecast: Forecast | None = None
    ) -> Float[Tensor, " n"]:
        """Σ coefficient × feature, raked so that the mixture's components keep their shares.

        Args:
            coefficients: of features or of the parts of the forecast.
            forecast: whose parts take the place of the features.
        """
        names, columns = (
            (list(SIGNS), standardise(self.features))
            if forecast is None
            else (list(PARTS), forecast(self.features))
        )
        coefficient = torch.tensor([coefficients.get(name, 0.0) for name in names]).double()
        return rake(columns @ coefficient, self.responsibilities)


class Subject(NamedTuple):
    """A trained model and what it is sampled by."""

    vae: VAE
    bases: dict[str, Mixture]
    features: Features

    def candidates(self, base: str, split: str, count: int) -> Candidates:
        """Those for so many draws, of a stream of its own for every split."""
        stream = generator(self.vae.identity["seed"], "weights", base, split)
        latents = self.bases[base].propose(POOL * count, stream)
        pool = Pool.draw(len(latents), stream)
        shares = self.features.responsibilities(latents)
        return Candidates(latents, self.features(latents), shares, pool)


def main(
    results: Annotated[
        Path, typer.Argument(help="Results of the workflow: models, potentials and oracles.")
    ] = Path("results/paper"),
    config: Annotated[
        tuple[Path, Path], typer.Option(help="The workflow's configuration and its overlay.")
    ] = (Path("config.yaml"), Path("config/paper.yaml")),
    dataset: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("results/weights"),
) -> None:
    """Try weights on the models of a run: choose on validation draws, report on test draws."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    settings: dict[str, Any] = {}
    for file in config:
        update_config(settings, yaml.safe_load(file.read_text(encoding="utf-8")))
    searches, tables = [], []
    for name in dataset or ("mnist",):
        data = results / name / "data.safetensors"
        oracles = settings["evaluation"]["oracles"]
        files = [results / name / f"oracles/{oracle}.safetensors" for oracle in oracles]
        references = load_references(data, files, settings["evaluation"])
        images, validation = (load_split(data, name).samples for name in ("train", "validation"))
        for kind in variant or ("complex", "kahler"):
            folders = [results / name / f"pixels/{kind}/seed={s}" for s in settings["seeds"]]
            subjects = [load_subject(folder, images, validation, settings) for folder in folders]
            search, table = explore(subjects, references, settings)
            searches.append(search.assign(dataset=name, variant=kind))
            tables.append(table.assign(dataset=name, variant=kind))
    first = ["dataset", "variant"]
    for stem, parts in (("search", searches), ("weights", tables)):
        frame = pd.concat(parts, ignore_index=True)
        frame = frame[[*first, *(column for column in frame.columns if column not in first)]]
        write_table(out / f"{stem}.csv", frame)


def load_subject(
    folder: Path, images: Tensor, validation: Tensor, settings: Mapping[str, Any]
) -> Subject:
    """A model of the run, with the mixtures that the workflow fits to it.

    Raises:
        InputError: a file is missing or damaged.
    """
    vae = load_model(folder / "model.safetensors")
    potentials = load_potentials(folder / "potential.safetensors", vae.latent_dim)
    seed = vae.identity["seed"]
    # The same images, components and anchors as in the sampling stage.
    sampling = settings["sampling"]
    sources = Sources(vae, images, validation, potentials, sampling)
    mixture = sources.base("gmm")
    assert isinstance(mixture, GaussianMixture)
    anchors = choose_anchors(sources.posterior(FITTED), sampling["riemannian"]["anchors"], seed)
    features = Features(
        vae,
        mixture,
        potentials["fitted"],
        PosteriorMixture(anchors),
        sources.samples(FITTED),
        settings["geometry"]["epsilon"],
    )
    wide = mixture.at_temperature(WIDE_TEMPERATURE)
    bases = {CONTROL: mixture, WIDE: wide, "posterior_mixture": sources.base("posterior_mixture")}
    return Subject(vae, bases, features)


def explore(
    subjects: Sequence[Subject], references: Sequence[Reference], settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The search on validation draws, and what its choices come to on test draws.

    Args:
        subjects: models of one variant, one a seed.
        references: real data as seen by each oracle.
        settings: the configuration.
    """
    count = settings["sampling"]["validation_count"]
    forecasts = [learn(subject, count, references) for subject in subjects]
    grid = {base: settings_of_weights() for base in subjects[0].bases}
    parts = []
    for subject, own in zip(subjects, forecasts, strict=True):
        pools = {base: subject.candidates(base, "validation", count) for base in subject.bases}
        parts.append(score_subject(subject, pools, grid, own, references, "validation"))
        logger.info("%s: searched", subject.vae.identity)
    search = choose(pd.concat(parts, ignore_index=True), count)

    reported = search[search["chosen"] | search["safest"] | (search["weight"] == "none")]
    wanted: dict[str, dict[str, list[dict[str, float]]]] = {}
    for row in reported.itertuples():
        choices = wanted.setdefault(row.base, {}).setdefault(row.weight, [])
        choices.append(parse_setting(row.setting))
    count, parts = settings["sampling"]["count"], []
    for subject, own in zip(subjects, forecasts, strict=True):
        pools = {base: subject.candidates(base, "test", count) for base in wanted}
        parts.append(score_subject(subject, pools, wanted, own, references, "test"))
        logger.info("%s: tested", subject.vae.identity)
    table = compare(pd.concat(parts, ignore_index=True), settings["claims"])
    marks = reported[[*SETTING, "chosen", "best", "safest"]]
    return search, table.merge(marks, on=SETTING, how="left")


def settings_of_weights() -> dict[str, list[dict[str, float]]]:
    """All coefficients that are searched, by weight."""
    grid = {
        name: [{f: SIGNS[f] * strength for f in features} for strength in STRENGTHS]
        for name, features in WEIGHTS.items()
        if features
    }
    both = [dict(zip(PARTS, pair, strict=True)) for pair in itertools.product(OUTLIERS, NOVELTY)]
    return {"none": [{}]} | grid | dict.fromkeys(LEARNED, both)


Forecasts = Mapping[str, Mapping[str, Forecast]]
"""By the oracle that is to judge, then by weight."""


def learn(subject: Subject, count: int, references: Sequence[Reference]) -> Forecasts:
    """The forecasts of all :data:`LEARNED`, for every oracle from what *others* say.

    No oracle judges a weight that was learned from it. Learned from draws of the wide mixture that
    are used for nothing else.

    Args:
        subject: the model.
        count: of the draws, times :data:`POOL`.
        references: real data as seen by each oracle.

    Raises:
        InputError: there is one oracle only.
    """
    if len(references) < 2:
        raise InputError(
            "a weight is judged by another oracle than it was learned from, and evaluation.oracles "
            "names one only: name two."
        )
    pool = subject.candidates(WIDE, "learning", count)
    seen = {r.oracle.architecture: (r, see(r, subject.vae, pool.latents)) for r in references}
    forecasts: dict[str, dict[str, Forecast]] = {}
    for judge in seen:
        others = [pair for name, pair in seen.items() if name != judge]
        flags = [flag for r, what in others for flag in r.flags(what).values()]
        shares = torch.stack(flags).double().mean(0)
        distances = torch.stack([what.nearest[:, 0].log() for _, what in others]).mean(0)
        forecasts[judge] = {
            weight: Forecast(names, pool.features, shares, distances)
            for weight, names in LEARNED.items()
        }
    return forecasts


@torch.no_grad()
def see(reference: Reference, vae: VAE, latents: Complex[Tensor, "n d"]) -> Seen:
    """Decoded latents as an oracle sees them, chunk by chunk: distances to all training images."""
    parts = [reference.see(vae.decode(part)) for part in latents.split(BATCH)]
    features, labels, nearest, scores = zip(*parts, strict=True)
    outliers = {name: torch.cat([s[name] for s in scores]) for name in scores[0]}
    return Seen(torch.cat(features), torch.cat(labels), torch.cat(nearest), outliers)


@torch.no_grad()
def score_subject(
    subject: Subject,
    pools: Mapping[str, Candidates],
    grid: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]],
    forecasts: Forecasts,
    references: Sequence[Reference],
    split: str,
) -> pd.DataFrame:
    """Scores of all weights on all bases, and of the control at its temperatures.

    Returns:
        One row per setting and oracle: ``seed``, ``oracle``, :data:`SETTING`, ``ess`` and
        :data:`MEASURES`. The control has the base ``gmm`` and the weight ``temperature``.
    """
    vae = subject.vae
    count = len(next(iter(pools.values())).latents) // POOL
    rows = []

    def score(
        reference: Reference,
        latents: Tensor,
        draws: Mapping[tuple[str, str, str], tuple[Tensor, float]],
    ) -> None:
        used = torch.cat([index for index, _ in draws.values()]).unique()
        seen = see(reference, vae, latents[used])
        for key, (index, ess) in draws.items():
            at = torch.searchsorted(used, index)
            outliers = {name: values[at] for name, values in seen.outlier_scores.items()}
            part = Seen(seen.features[at], seen.labels[at], seen.nearest[at], outliers)
            found = reference.image_scores(part, split)
            row = {"seed": vae.identity["seed"], "oracle": reference.oracle.architecture}
            row |= dict(zip(SETTING, key, strict=True)) | {"ess": ess}
            rows.append(row | {name: found[name] for name in MEASURES})

    for reference in references:
        judged = forecasts[reference.oracle.architecture]
        for base, pool in pools.items():
            draws = {}
            for weight, choices in grid[base].items():
                for coefficients in choices:
                    log_weight = pool.log_weight(coefficients, judged.get(weight))
                    drawn = pool.pool.resample(log_weight, count), effective_size(log_weight)
                    draws[base, weight, format_setting(coefficients)] = drawn
            score(reference, pool.latents, draws)
        for temperature in TEMPERATURES:
            sampler = subject.features.mixture.at_temperature(temperature)
            stream = generator(vae.identity["seed"], "weights", sampler.key, split)
            key = (CONTROL, "temperature", sampler.setting)
            drawn = torch.arange(count), float(count)
            score(reference, sampler.propose(count, stream), {key: drawn})
    return pd.DataFrame(rows)


def format_setting(coefficients: Mapping[str, float]) -> str:
    """``name=value`` with commas between them, ``default`` for none."""
    return ",".join(f"{name}={value:g}" for name, value in coefficients.items()) or "default"


def parse_setting(setting: str) -> dict[str, float]:
    """The coefficients that :func:`format_setting` wrote."""
    pairs = [pair.split("=") for pair in setting.split(",") if pair != "default"]
    return {name: float(value) for name, value in pairs}


def differences(scores: pd.DataFrame, at_equal: str | None = None) -> pd.DataFrame:
    """Every weight less the control, for every seed and oracle.

    Args:
        scores: see :func:`score_subject`.
        at_equal: the measure of variation at whose value the control's curve over its temperature
            is read, in its favour where it passes twice; None for the control at temperature 1.

    Returns:
        The table without the control, with differences in place of :data:`MEASURES`; NaN out of
        the range of the control.
    """
    parts = []
    for _, group in scores.groupby(["seed", "oracle"], sort=False):
        control = group[group["weight"] == "temperature"]
        knob = control["setting"].map(lambda setting: split_setting("gmm", setting)[1])
        control = control.assign(knob=knob).sort_values("knob")
        held = group[group["weight"] != "temperature"].copy()
        values = held[MEASURES].copy()
        for name in MEASURES:
            if at_equal is None:
                reference = control.loc[control["knob"] == 1, name].item()
            else:
                sign = 1 if name in SCORES else -1
                curve = (control[at_equal].to_numpy(), sign * control[name].to_numpy())
                reference = sign * curve_outliers(values[at_equal].to_numpy(), *curve)
            held[name] = values[name] - reference
        parts.append(held)
    return pd.concat(parts, ignore_index=True)


def choose(scores: pd.DataFrame, count: int) -> pd.DataFrame:
    """Means of the search, and what it chooses.

    Eligible are settings with an effective size of the pool of all draws or more, for every seed.

    - ``chosen``: of every weight the base and the strength that lie furthest below the control in
      the mean of the four outlier scores, at equal recall and at equal novelty (the worse of the
      two counts); ``best``: of all weights.
    - ``safest``: the setting with the smallest mean of the four, of those that vary as the control
      at temperature 1 does, up to a loss of :data:`LOSS`. Of novelty 1 is enough, that of real
      images: what lies above may be due to outliers.

    Args:
        scores: see :func:`score_subject`, on validation draws.
        count: of the draws.
    """
    by = scores[scores["weight"] != "temperature"].groupby(SETTING, sort=False)
    search = by[MEASURES].mean()
    search["smallest_ess"] = by["ess"].min()
    search["mean_outliers"] = search[SCORES].mean(axis=1)
    for variation in ("recall", "novelty"):
        held = differences(scores, variation).groupby(SETTING, sort=False)[SCORES]
        # A mean is empty where one of its values is: such a setting is not comparable.
        means = held.agg(lambda values: values.mean(skipna=False))
        search[f"at_equal_{variation}"] = means.mean(axis=1, skipna=False)
    least = scores[_is_plain(scores)][VARIATIONS].mean()
    least["novelty"] = min(least["novelty"], 1.0)
    safe = (search[VARIATIONS] >= (1 - LOSS) * least).all(axis=1)
    eligible = search["smallest_ess"] >= count
    matched = search[["at_equal_recall", "at_equal_novelty"]].max(axis=1, skipna=False)
    matched = matched[eligible].dropna()
    chosen = list(matched.groupby("weight").idxmin())
    best = [matched.idxmin()] if len(matched) else []
    candidates = search.loc[eligible & safe, "mean_outliers"]
    safest = [candidates.idxmin()] if len(candidates) else []
    return search.assign(
        eligible=eligible,
        chosen=search.index.isin(chosen),
        best=search.index.isin(best),
        safest=search.index.isin(safest),
    ).reset_index()


def _is_plain(scores: pd.DataFrame) -> "pd.Series[bool]":
    """The rows of the control at temperature 1."""
    plain = scores["setting"].map(lambda setting: split_setting(CONTROL, setting)[1] == 1)
    return (scores["weight"] == "temperature") & plain


def compare(scores: pd.DataFrame, claims: Mapping[str, Any]) -> pd.DataFrame:
    """Paired differences to the control with intervals over seeds, means over oracles.

    Args:
        scores: see :func:`score_subject`, on test draws.
        claims: ``confidence``, ``resamples`` and ``seed`` of the intervals.

    Returns:
        One row per setting, ``control`` (at temperature 1, or at equal recall or novelty) and
        measure. ``wins`` is true where all outlier scores lie below those of the control and no
        measure of variation does, by intervals; ``wins_but_novelty`` where novelty may.
    """
    held = scores[scores["weight"] != "temperature"]
    means = held.groupby(SETTING, sort=False)[["ess", *MEASURES]].mean()
    controls = {"temperature=1": None, "equal recall": "recall", "equal novelty": "novelty"}
    rows = []
    for control, at_equal in controls.items():
        table = differences(scores, at_equal)
        for key, group in table.groupby(SETTING, sort=False):
            seeds = group.groupby("seed")[MEASURES].agg(lambda x: x.mean(skipna=False))
            found = {
                name: bootstrap_interval(seeds[name], *_interval(claims))
                for name in MEASURES
                if name != at_equal
            }
            fewer = all(found[name].high < 0 for name in SCORES)
            less = {name for name in VARIATIONS if name in found and found[name].high < 0}
            for name, interval in found.items():
                row = dict(zip(SETTING, key, strict=True)) | {"ess": means.loc[key, "ess"]}
                row |= {"control": control, "measure": name, "value": means.loc[key, name]}
                row |= {"difference": interval.estimate, "ci_low": interval.low}
                row |= {"ci_high": interval.high, "wins": fewer and not less}
                rows.append(row | {"wins_but_novelty": fewer and less <= {"novelty"}})
    return pd.DataFrame(rows)


def _interval(claims: Mapping[str, Any]) -> tuple[float, int, int]:
    return claims["confidence"], claims["resamples"], claims["seed"]


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        sys.exit(f"error: {error}")
