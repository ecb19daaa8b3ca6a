"""All stages of a configuration in this process: the commands as the rules call them."""

from pathlib import Path
from typing import Any

import torch
import yaml

from kahlervae import cli
from kahlervae.config.registry import data_sources

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow/schemas/config.schema.yaml"
TINY = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text())
TINY["datasets"]["digits"]["training"]["epochs"] = 2
TINY["datasets"]["digits"]["variants"]["real"] = {}


def run_stages(config: dict[str, Any], folder: Path, data: Path | None = None) -> None:
    """Everything up to the claims, into a folder; the files of a model are named after it.

    Args:
        config: one that `check_config` accepts.
        folder: written to.
        data: instead of what the data stage writes.
    """
    torch.manual_seed(0)
    (folder / "tables").mkdir(exist_ok=True)
    geometry, evaluation = config["geometry"], config["evaluation"]
    parts: dict[str, list[Path]] = {}

    def part(table: str, model: str) -> Path:
        path = folder / f"{model}.{table}.csv"
        parts.setdefault(table, []).append(path)
        return path

    for dataset, options in config["datasets"].items():
        if data is None:
            data = folder / "data.safetensors"
            source = data_sources(config)[dataset]
            cli.data(
                dataset, {"source": source, "split": options["split"]}, data, folder / "d.json"
            )
        oracles = [folder / f"{name}.safetensors" for name in evaluation["oracles"]]
        for path in oracles:
            settings = {"oracle": options["oracle"], "evaluation": evaluation}
            cli.oracle(dataset, path.stem, data, settings, path, part("reference", path.stem))
        for variant, block in options["variants"].items():
            for seed in config["seeds"]:
                name = f"{variant}{seed}"
                model = folder / f"{name}.safetensors"
                settings = {key: options[key] for key in ("model", "training")}
                cli.train(
                    *(dataset, "pixels", variant, [seed], data, settings | {"variant": block}),
                    *(folder / "checkpoint.safetensors", [model], [part("history", name)]),
                )
                potential, samples = (
                    folder / f"{name}.{stage}.safetensors" for stage in ("potential", "samples")
                )
                settings = config["sampling"] | {"epsilon": geometry["epsilon"]}
                if variant == "real":
                    potential = None
                    del settings["volume"]
                    settings["samplers"] = [s for s in settings["samplers"] if s != "volume"]
                else:
                    choice = part("potentials", name)
                    cli.potential(data, model, geometry["potential"], potential, choice)
                    tables = [part(t, name) for t in ("agreement", "identities", "probes")]
                    cli.agreement(data, model, potential, geometry, *tables)
                    settings_slice = geometry["slice"] | {"epsilon": geometry["epsilon"]}
                    cli.latent_slice(
                        data, model, potential, settings_slice, folder / f"{name}.slice.safetensors"
                    )
                    settings_curves = evaluation["geodesics"] | {"epsilon": geometry["epsilon"]}
                    settings_curves |= {key: evaluation[key] for key in ("neighbours", "quantile")}
                    cli.geodesics(
                        *(data, model, potential, oracles, settings_curves),
                        *(part("geodesics", name), folder / f"{name}.geodesics.safetensors"),
                    )
                    cli.distances(
                        *(data, [model], [potential], evaluation["distances"]),
                        part("distances", name),
                    )
                tables = [part("sampler_diagnostics", name), folder / f"{name}.speed.csv"]
                tables.append(part("mixtures", name))
                cli.sample(data, model, settings, samples, *tables, potential)
                cli.score(
                    *(data, model, samples, oracles, evaluation | {"sampling": config["sampling"]}),
                    *(part("samples", name), part("score_agreement", name)),
                    *(folder / f"{name}.{kind}.safetensors" for kind in ("sheet", "flagged")),
                    *(part(kind, name) for kind in ("paths", "reconstruction", "flatness")),
                    folder / f"{name}.gallery.safetensors",
                )
    for table, files in parts.items():
        cli.table(files, folder / "tables" / f"{table}.csv")
    tables = [folder / f"tables/{name}.csv" for name in ("pareto", "hypervolume", "chosen")]
    samples, diagnostics = (folder / f"tables/{n}.csv" for n in ("samples", "sampler_diagnostics"))
    cli.pareto(samples, diagnostics, config["claims"]["choice"], *tables)
    gathered = sorted((folder / "tables").glob("*.csv"))
    cli.claims(gathered, ROOT / config["claims"]["file"], config["claims"], folder / "claims.csv")
    candidates = {"candidates": config["geometry"]["potential"]["candidates"]}
    cli.cost(config["cost"] | candidates, folder / "tables/cost.csv")
    cli.steps(config["step_cost"], folder / "tables/steps.csv")
