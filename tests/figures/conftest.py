"""Synthetic results with the shape of real ones, awkward cases included."""

from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from kahlervae.judge.sweep import choose
from kahlervae.storage import write_table, write_tensors

VARIANTS = ("real", "complex", "beta", "kahler", "fisher", "tie")
SAMPLERS = {
    "prior": ["default"],
    "truncated": [f"temperature={t / 10}" for t in range(3, 10)],
    "posterior_mixture": ["default"],
    "volume": [f"alpha={a}" for a in (-1.0, -0.5, -0.25, 0.25)],
}
SHEETS = [
    "prior:default",
    *(f"truncated:temperature={t / 10}" for t in range(3, 10)),
    "posterior_mixture:default",
    *(f"gmm:components={k},temperature={t}" for k in (10, 50) for t in (0.55, 0.85, 1)),
    *(
        f"volume:base={base},weight={weight},metric=fitted,power={power}"
        for base, weight in (("prior", "global"), ("gmm", "global"), ("gmm", "local"))
        for power in (-8, -4, -2, 2)
    ),
    "volume:base=gmm,weight=local,metric=posterior,power=-4",
]
"""Keys of the samples that are shown."""


def identity(variant, seed):
    return {
        "dataset": "digits",
        "representation": "pixels",
        "variant": variant,
        "seed": seed,
    }


def rank(model):
    """By which the scores of a variant are shifted."""
    return VARIANTS.index(model["variant"]) if model["variant"] in VARIANTS else 3


@cache
def load_images():
    """Read once: unpacking them takes longer than most figures."""
    return load_digits().images / 16


def digits(random, *shape):
    """Real digits, 8 × 8, values in [0, 1]."""
    images = load_images()
    return torch.tensor(images[random.integers(len(images), size=shape)], dtype=torch.float32)


VOLUMES = {("prior", "global"): 0.25, ("gmm", "global"): 0.1, ("gmm", "local"): 0.06}
"""Base and weight of the volume samplers, with their outliers at power 0."""


class Results:
    """Writes a results tree of synthetic models and names its files."""

    def __init__(self, root: Path, variants=VARIANTS, seeds=(0, 1, 2)):
        self.root, self.variants, self.seeds = root, variants, list(seeds)
        self.random = np.random.default_rng(0)

    def frame(self, name):
        return getattr(self, f"_{name}")()

    def table(self, name, frame=None):
        path = self.root / "tables" / f"{name}.csv"
        write_table(path, self.frame(name) if frame is None else frame)
        return path

    def arrays(self, name):
        paths = []
        for variant in self.variants:
            if name in ("slice", "geodesics") and variant == "real":
                continue
            for seed in self.seeds:
                path = self.root / variant / f"seed={seed}" / f"{name}.safetensors"
                write_tensors(path, getattr(self, f"_{name}")(variant), identity(variant, seed))
                paths.append(path)
        return paths

    def _gallery(self, variant):
        originals = digits(np.random.default_rng(1), 16)
        noise = 0.1 * torch.from_numpy(self.random.normal(size=(16, 8, 8))).float()
        ends = digits(self.random, 2, 6, 1)
        t = torch.linspace(0, 1, 11)[:, None, None]
        return {
            "originals": originals,
            "reconstructions": (originals + noise).clamp(0, 1),
            "paths": (1 - t) * ends[0] + t * ends[1],
        }

    def _geodesics(self, variant=None):
        if variant is None:
            return self._geodesic_scores()
        ends = digits(self.random, 2, 2, 1)
        t = torch.linspace(0, 1, 17)[:, None, None]
        return {
            "straight": (1 - t) * ends[0] + t * ends[1],
            "geodesic": (1 - t**2) * ends[0] + t**2 * ends[1],
        }

    def _states(self):
        columns = ["length_error", "distance_error", "metric_error", "volume_error"]
        return pd.DataFrame(
            identity(variant, seed)
            | {"metric": metric}
            | dict(zip(columns, self.random.uniform(0, 0.5, 4), strict=True))
            | {"hermitian_defect": 0.2, "chart_defect": 0.3, "elbo": 5.0}
            for variant in self.variants
            if variant != "real"
            for seed in self.seeds
            for metric in ("real", "fisher", "fitted", "posterior", "constant")
        )

    def _sheet(self, variant):
        return {
            key: digits(self.random, 64)
            for key in SHEETS
            if not (variant == "real" and key.startswith("volume"))
        }

    def _flagged(self, variant):
        keys = ["prior:default", "gmm:components=10,temperature=1"]
        content = {}
        for key in keys if variant == "real" else [*keys, SHEETS[-4]]:
            for group, count, share in zip(
                ("knn", "entropy", "both", "neither"),
                (5, 16, 0, 16),
                (0.0025, 0.125, 0, 0.8725),
                strict=True,
            ):
                content[f"images/{group}/{key}"] = digits(self.random, count)
                content[f"share/{group}/{key}"] = torch.tensor(share)
        return content

    def _slice(self, variant):
        axis = np.linspace(-2.5, 2.5, 31)
        v, u = np.meshgrid(axis, axis, indexing="ij")
        scale = 1.0 if variant == "kahler" else 2.0
        field = 12 + scale * (np.sin(2 * u) + np.cos(1.5 * v) - 0.3 * (u**2 + v**2))
        rough = field + self.random.normal(size=field.shape) * 0.2
        posterior = 12 + 0.5 * (field - 12)
        posterior[:2, :2] = np.nan
        arrays = {
            "axis": axis,
            "log_det_fisher": field,
            "log_det_fitted": rough,
            "log_det_posterior": posterior,
            "means": self.random.normal(size=(297, 2)),
        }
        images = digits(self.random, 9, 9)
        labels = torch.arange(297) % 10
        if variant == "pluriharmonic":
            arrays["log_det_log_partition"] = field
        return {k: torch.from_numpy(a).float() for k, a in arrays.items()} | {
            "images": images,
            "labels": labels,
        }

    def _models(self):
        return [identity(v, s) for v, s in product(self.variants, self.seeds)]

    def _history(self):
        rows = []
        for model in self._models():
            i, noise = rank(model), self.random.normal(size=60)
            for epoch in range(1, 61):
                fall = np.exp(-epoch / 8)
                regularised = model["variant"] in ("kahler", "fisher")
                rows.append(
                    model
                    | {
                        "epoch": epoch,
                        "loss": -40 + 400 * fall,
                        "log_likelihood": 50 - 400 * fall - i + noise[epoch - 1],
                        "kl": 9 * (1 - fall) - 0.5 * i,
                        "regulariser": 10 + 5 * fall if regularised else np.nan,
                        "tie": 2 * fall if model["variant"] == "kahler" else np.nan,
                        "validation_elbo": 38 - 300 * fall - i + 0.5 * noise[epoch - 1],
                        "gradient_norm": 20 * fall + 1,
                    }
                )
        return pd.DataFrame(rows)

    def _reconstruction(self):
        return pd.DataFrame(
            [m | {"elbo": 35.0, "mse": 0.012 + 0.001 * m["seed"]} for m in self._models()]
        )

    def _agreement(self):
        level = {"fitted": 0.18, "posterior": 0.75, "constant": 0.5, "fisher": np.nan}
        return pd.DataFrame(
            [
                m
                | {
                    "probe_set": probes,
                    "potential": potential,
                    "relative_error_median": error * (1.3 if probes == "prior" else 1)
                    + 0.02 * self.random.normal(),
                    "hermitian_defect": 0.4 + 0.03 * m["seed"],
                    "closedness_defect": 0.6 if potential == "fisher" else 1e-16,
                }
                for m in self._models()
                if m["variant"] != "real"
                for probes, (potential, error) in product(("posterior", "prior"), level.items())
            ]
        )

    def _probes(self):
        rows = []
        for m, probes, potential in product(
            self._models(), ("posterior", "prior"), ("fitted", "posterior", "constant")
        ):
            if m["variant"] == "real":
                continue
            fisher = np.sort(np.exp(self.random.normal(3, 0.6, (40, 4))), axis=1)
            noise = {"fitted": 0.2, "posterior": 0.8, "constant": 0.0}[potential]
            value = fisher * np.exp(noise * self.random.normal(size=fisher.shape))
            for n in range(40):
                where = m | {"probe_set": probes, "potential": potential, "probe": n}
                log_det = {"quantity": "log_det", "rank": 0}
                rows.append(
                    where
                    | log_det
                    | {"fisher": np.log(fisher[n]).sum(), "value": np.log(value[n]).sum()}
                )
                for k in range(4):
                    eigenvalue = {"quantity": "eigenvalue", "rank": k}
                    rows.append(where | eigenvalue | {"fisher": fisher[n, k], "value": value[n, k]})
        return pd.DataFrame(rows)

    def _samples(self):
        """Samples of all families: a knob, how far it is from the base, the outliers there."""
        families = {
            ("prior", "default"): [(1.0, 0.0, 0.3)],
            ("truncated", "temperature={}"): [(t / 10, 1 - t / 10, 0.3) for t in range(3, 10)],
            ("posterior_mixture", "default"): [(1.0, 0.0, 0.04)],
            ("riemannian", "default"): [(1.0, 0.3, 0.2)],
        }
        for components, start in ((10, 0.15), (50, 0.08)):
            families["gmm", f"components={components},temperature={{}}"] = [
                (t, 1 - t, start) for t in (0.55, 0.85, 1)
            ]
        for (base, weight), start in VOLUMES.items():
            setting = f"base={base},weight={weight},metric=fitted,power={{}}"
            families["volume", setting] = [(p, -0.12 * p, start) for p in (-4, -2, 1)]
        rows = []
        for m, ((sampler, setting), points) in product(self._models(), families.items()):
            if m["variant"] == "real" and sampler == "volume":
                continue
            shift = 0.02 * rank(m)
            for (knob, away, start), oracle, split in product(
                points, ("cnn", "mlp"), ("validation", "test")
            ):
                wobble = 0.01 * self.random.normal()
                outliers = max(0.005, start * (1 - away) - 0.1 * start * shift + 0.3 * wobble)
                rows.append(
                    m
                    | {"split": split, "oracle": oracle, "sampler": sampler}
                    | {"setting": setting.format(knob)}
                    | {"knn_outliers": outliers, "entropy_outliers": 1.3 * outliers}
                    | {"recall": 0.9 - 0.9 * away**2 - shift + wobble}
                    | {"vendi": 5 - 3 * away**2 + wobble}
                )
        return pd.DataFrame(rows)

    def _chosen(self):
        models = pd.DataFrame([m for m in self._models() if m["variant"] != "real"])
        where = models[["dataset", "representation", "variant"]].drop_duplicates()
        parts = [
            where.assign(
                family=f"volume:base={base},weight={weight},metric=fitted",
                setting=f"base={base},weight={weight},metric=fitted,power=-2",
                control="gmm",
                difference=-0.02,
                best=(base, weight) == ("gmm", "local"),
            )
            for base, weight in VOLUMES
        ]
        return pd.concat(parts)

    def _reference(self):
        return pd.DataFrame(
            [
                {
                    "dataset": "digits",
                    "oracle": oracle,
                    "accuracy": 0.98,
                    "knn_outliers": 0.05,
                    "entropy_outliers": 0.06,
                    "recall": 0.92,
                    "vendi": 5.3,
                }
                for oracle in ("cnn", "mlp")
            ]
        )

    def _paths(self):
        rows = []
        for m, oracle in product(self._models(), ("cnn", "mlp")):
            for endpoints in ("posterior", "prior"):
                wobble = 0.02 * self.random.normal()
                shift = 0.05 * rank(m)
                rows.append(
                    m
                    | {
                        "endpoints": endpoints,
                        "oracle": oracle,
                        "acceleration": 0.9 - shift + wobble,
                        "speed_variation": 0.2 - 0.1 * shift + 0.1 * wobble,
                        "turning": 4 - shift + wobble,
                        "path_length": 1.4,
                        "label_flips": 1.8 - shift + wobble,
                        "midpoint_outliers": 0.2 - 0.5 * shift + wobble,
                        "sharpness": 0.9 - 0.3 * shift + wobble,
                    }
                )
        return pd.DataFrame(rows)

    def _geodesic_scores(self):
        rows = []
        for m, oracle, curve in product(self._models(), ("cnn", "mlp"), ("straight", "geodesic")):
            if m["variant"] == "real":
                continue
            wobble, gain = 0.02 * self.random.normal(), 0.1 * (curve == "geodesic")
            rows.append(
                m
                | {
                    "curve": curve,
                    "oracle": oracle,
                    "fisher_length": 10 - gain,
                    "acceleration": 2 + gain + wobble,
                    "midpoint_outliers": 0.3 - gain + wobble,
                }
            )
        return pd.DataFrame(rows)

    def _cost(self):
        base = {"output_dim": 256, "latent_dim": 4, "batch": 256, "components": 256}
        sweeps = {"output_dim": (64, 1024), "latent_dim": (2, 8), "batch": (1, 16)}
        sizes = [("base", base)]
        sizes += [(key, base | {key: value}) for key, values in sweeps.items() for value in values]
        rows = []
        for sweep, size in sizes:
            times = {
                ("metric", "potential"): 4.0 * size["latent_dim"],
                ("metric", "fisher"): 3 * size["latent_dim"] * (size["output_dim"] / 64) ** 0.9,
                ("log_det_gradient", "potential"): 9.0 * size["latent_dim"],
            }
            for (quantity, method), time in times.items():
                rows.append(
                    {
                        "sweep": sweep,
                        **size,
                        "width": 256,
                        "quantity": quantity,
                        "method": method,
                        "threads": 2,
                        "device": "cpu",
                        "microseconds_per_point": time,
                        "microseconds_q25": 0.9 * time,
                        "microseconds_q75": 1.2 * time,
                        "peak_memory_mb": 1.0,
                        "relative_to": "potential",
                        "relative": time / times[quantity, "potential"],
                        "relative_q25": 0.9 * time / times[quantity, "potential"],
                        "relative_q75": 1.2 * time / times[quantity, "potential"],
                    }
                )
        classes = {"constant": (0.5, 1.0), "mixture": (0.2, 4.0), "holomorphic": (0.1, 20.0)}
        for method, (error, time) in {**classes, "fisher": (0.0, 90.0)}.items():
            row = rows[0] | {"sweep": "classes", "method": method, "relative_error": error}
            row |= {"microseconds_per_point": time, "microseconds_q25": 0.9 * time}
            rows.append(row | {"microseconds_q75": 1.2 * time, "relative_to": "fisher"})
        for method in ("log_partition", "pushforward", "automatic"):
            rows.append(rows[-1] | {"sweep": "construction", "method": method})
        return pd.DataFrame(rows)

    def _claims(self):
        """As many claims as a full run has, of all topics, verdicts and sizes."""
        names = ["kl_hessian", "psh_certificate", "closedness", "total_covariance"]
        rows = [
            (name, "identities", value, 1e-8, np.nan)
            for name, value in zip(names, (3e-14, 0.8, 0.0, 2e-16), strict=True)
        ]
        rows.append(("potential_tracks_fisher_volume", "tracking", 0.88, 0.8, np.nan))
        metrics = ("acceleration", "sharpness", "knn_outliers", "entropy_outliers", "recall")
        for control, metric in product(("complex", "beta"), metrics):
            name = f"regulariser_{metric}_vs_{control}"
            rows.append((name, "regulariser", self.random.normal(scale=0.1), 0.0, 0.3))
        for best, variant, score, (control, variation) in product(
            ("", "best_"),
            ("complex", "kahler"),
            ("knn_outliers", "mahalanobis_outliers", "entropy_outliers"),
            (("truncated", "recall"), ("gmm", "recall"), ("gmm", "novelty")),
        ):
            name = f"{best}volume_sampler_{variant}_{score}_vs_{control}_at_{variation}"
            estimate = np.nan if variation == "novelty" else self.random.normal(scale=0.05)
            rows.append((name, "at equal variation", estimate, 0.0, 0.05))
        columns = ["claim", "part", "estimate", "bound", "control"]
        frame = pd.DataFrame(rows, columns=columns)
        frame["claim"] = [f"C{i}_{name}" for i, name in enumerate(frame["claim"], 1)]
        half = self.random.uniform(0.02, 0.05, len(frame))
        half[frame["part"] == "identities"] = np.nan
        frame["ci_low"], frame["ci_high"] = frame["estimate"] - half, frame["estimate"] + half
        away = (frame["estimate"] - frame["bound"]) / half
        verdict = np.select(
            [frame["part"] == "identities", away < -1, away > 1],
            ["supported", "supported", "not supported"],
            "inconclusive",
        )
        adjusted = np.where(away.abs() < 2, "inconclusive", verdict)
        more = {"dataset": "digits", "rule": "r", "p_value": 0.5}
        metric = frame["claim"].str.extract(r"(acceleration|sharpness|\w+_outliers|recall)")[0]
        frame = frame.assign(**more, metric=metric.fillna("relative_error_median, fitted"))
        primary = np.isin(np.arange(len(frame)), [0, 1, 4, 5, 7, 9, 12, 15, 20, 30])
        frame["role"] = np.where(primary, "primary", "secondary")
        words = np.array(["smoother representations", "a potential that is plurisubharmonic"])
        frame["paper"] = np.where(primary, words[(frame["part"] == "identities").astype(int)], "")
        frame["statement"] = "The metric of " + frame["claim"].str.replace("_", " ") + "."
        return frame.assign(verdict=verdict, adjusted=adjusted)

    def _runtime(self):
        rules = {"train": 2500, "potential": 25, "figure": 11, "cost": 1, "claims": 1}
        columns = ["jobs", "wall_seconds_total", "wall_seconds_median", "wall_seconds_max"]
        rows = [
            {"rule": rule, **dict(zip(columns, (n, 30.5 * n, 30.1, 61.7), strict=True))}
            for rule, n in rules.items()
        ]
        # The rule of one job uses two threads, the last one did not tell its CPU time.
        cpu = [*(20.5 * n for n in (2500, 25, 11)), 50.0, np.nan]
        frame = pd.DataFrame(rows).assign(cpu_seconds=cpu, start_up_share=0.2)
        return frame.assign(peak_memory_mb=400.0)

    def _efficiency(self):
        row = {"cores": 2, "jobs": 2538, "busy_seconds": 45_000.0, "wall_seconds": 77_000.0}
        shares = {"start_up_share": 0.2, "occupancy": 0.86, "efficiency": np.nan}
        return pd.DataFrame([row | {"cpu_seconds": np.nan} | shares])

    def _sweep(self):
        rows = []
        for variant, setting, cost in [
            ("mixture", "default", 1.0),
            *(("beta", f"beta={beta}", 1 + 0.1 * beta) for beta in (2.0, 4.0, 8.0)),
            *(("kahler", f"strength={strength}", 1 + 0.05 * strength) for strength in (0, 1, 10)),
        ]:
            point = {"setting": setting, "elbo": 100 / cost, "mse": 0.01 * cost, "turning": 3.0}
            point |= {"acceleration": 4 / cost, "speed_variation": 0.1 / cost, "sharpness": 0.9}
            point |= {"knn_outliers": 0.2 / cost, "midpoint_outliers": 0.1 / cost}
            point |= {"entropy_outliers": 0.5 / cost, "active_latents": 1.0}
            rows += [identity(variant, 1000) | point | {"oracle": name} for name in ("cnn", "mlp")]
        return pd.DataFrame(rows)

    def _strengths(self):
        rule = {"least": "speed_variation", "against": "mixture", "margin": 10.0}
        return choose(self._sweep(), {"kahler": rule, "beta": {"match": "kahler"}})

    def inputs(self, name):
        """The files that the workflow hands to figure ``name``."""
        return {
            "reconstructions": lambda: [*self.arrays("gallery"), self.table("reconstruction")],
            "sample_sheets": lambda: self.arrays("sheet"),
            "flagged": lambda: self.arrays("flagged"),
            "paths": lambda: self.arrays("gallery"),
            "geodesics": lambda: [*self.arrays("geodesics"), self.table("geodesics")],
            "latent_slice": lambda: self.arrays("slice"),
            "construction": lambda: [*self.arrays("slice"), *self.arrays("gallery")],
            "agreement": lambda: [self.table("probes")],
            "agreement_summary": lambda: [self.table("agreement")],
            "cost": lambda: [self.table("cost")],
            "states": lambda: [self.table("states")],
            "tradeoff": lambda: [self.table("cost")],
            "training": lambda: [self.table("history")],
            "smoothness": lambda: [self.table("paths")],
            "pareto": lambda: list(map(self.table, ("samples", "chosen", "reference"))),
            "claims": lambda: [self.table("claims")],
            "strengths": lambda: [self.table("sweep"), self.table("strengths")],
            "runtime": lambda: [self.table("runtime"), self.table("efficiency")],
        }[name]()


@pytest.fixture
def results(tmp_path):
    """A factory of results trees."""
    return lambda **options: Results(tmp_path, **options)
