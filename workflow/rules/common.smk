"""What the rules share: the configuration, the models, the code and the settings of a stage."""

import ast
import fcntl
import functools
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from kahlervae.config import (
    check_config,
    check_repetitions,
    check_writable,
    data_sources,
    drop_absent,
)
from kahlervae.errors import InputError
from kahlervae.sources import imported

drop_absent(config)
try:
    for file in workflow.configfiles:
        check_repetitions(file)
    check_config(config, "workflow/schemas/config.schema.yaml")
    check_writable(config["results"])
    check_writable(config["figures"])
except InputError as error:
    sys.exit(str(error))

SOURCES = data_sources(config)
# Through the environment and not through a parameter: where files lie changes nothing in them.
folders = [*filter(None, [os.environ.get("KAHLERVAE_DATA")]), *config["data"]]
os.environ.update(KAHLERVAE_DATA=os.pathsep.join(folders))

MODELS = [
    {
        "dataset": dataset,
        "representation": representation,
        "variant": variant,
        "seed": seed,
    }
    for dataset, options in config["datasets"].items()
    for representation in options["representations"]
    for variant, block in options["variants"].items()
    if representation in block.get("representations", options["representations"])
    for seed in config["seeds"]
]
# GPUs that a job asks for: one where the configuration wants one, none where it may do without.
GPUS = int(config.get("device") == "cuda")
VARIANTS = list(dict.fromkeys(model["variant"] for model in MODELS))
# The variants with a metric and a potential; the latent space of `real` is not complex.
COMPLEX = [variant for variant in VARIANTS if variant != "real"]


def distrust_the_future():
    """Date files back that a clock which jumped has dated in the future.

    What is newer than an input counts as made from it, and so would for as long as the future
    lasts. Results get the oldest date there is: then all their inputs are newer, and contents
    decide. Sources, which are inputs, get the present: jobs fail whose inputs are of the future.
    """
    now = time.time()
    folders = {config["results"]: 1, config["figures"]: 1, "src": now}
    for folder, date in folders.items():
        for file in Path(folder).rglob("*"):
            # Another run may be writing here.
            with suppress(FileNotFoundError):
                if file.stat().st_mtime > now:
                    os.utime(file, (date, date))


# Jobs on other machines read this file too, by clocks of their own.
if workflow.is_main_process:
    distrust_the_future()


def of_models(name, variants=VARIANTS, seeds=config["seeds"]):
    """The file of that name of every model, in the order of the configuration."""
    return [
        "<results>/{dataset}/{representation}/{variant}/seed={seed}/{name}".format(
            **model, name=name
        )
        for model in MODELS
        if model["variant"] in variants and model["seed"] in seeds
    ]


def of_oracles(suffix):
    """The file with that suffix of every oracle of every data set."""
    return [
        f"<results>/{dataset}/oracles/{architecture}{suffix}"
        for dataset in config["datasets"]
        for architecture in config["evaluation"]["oracles"]
    ]


def oracles(wildcards):
    """The oracles of the data set."""
    return [
        f"<results>/{wildcards.dataset}/oracles/{architecture}.safetensors"
        for architecture in config["evaluation"]["oracles"]
    ]


@functools.cache
def code(command, *also):
    """Source files of all modules that a command imports, and that these import.

    They are inputs of the rules, since Snakemake itself sees only the command of a rule: a change
    in the package makes again what was made with it, and nothing else. The imports are read from
    the function of the command in cli.py (nothing is run), which itself only parses and calls, so
    that its text is no input: it would make everything again.

    `also` names modules that are imported by name only.
    """
    tree = ast.parse(Path("src/kahlervae/cli.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", None) == command)
    modules = [
        node.module
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kahlervae.")
    ]
    return list(map(os.path.relpath, imported([*modules, *also], "src")))


def compact(settings):
    """JSON of the part of the configuration that a stage needs: what the command is given.

    Exactly that part, so that a changed key makes again what depends on it and nothing else; with
    sorted keys, so that their order in the file does not matter.
    """
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def dataset_settings(wildcards, *keys):
    """Some blocks of the data set's configuration."""
    return {key: config["datasets"][wildcards.dataset][key] for key in keys}


def sample_counts():
    """How many draws of every sampler belong to the validation and to the test split."""
    return {
        "sampling": {
            key: config["sampling"][key] for key in ("validation_count", "count")
        }
    }


def train_settings(wildcards):
    """Networks, optimisation and the variant's own block, but for where else it is trained."""
    blocks = dataset_settings(wildcards, "model", "training", "variants")
    variant = dict(blocks.pop("variants")[wildcards.variant])
    variant.pop("representations", None)
    return compact(blocks | {"variant": variant})


def evaluation_settings(*keys):
    """Some keys of the evaluation's configuration."""
    return {key: config["evaluation"][key] for key in keys}


def sample_settings(wildcards):
    """The samplers; `real` has no potential, so that nothing of `volume` concerns it."""
    settings = config["sampling"] | {"epsilon": config["geometry"]["epsilon"]}
    if wildcards.variant == "real":
        del settings["volume"], settings["epsilon"]
        settings["samplers"] = [
            name for name in settings["samplers"] if name != "volume"
        ]
    return compact(settings)


def lock_results():
    """Refuse to run beside another run with the same results.

    The lock is the operating system's: it ends with the process, however that ends.
    """
    file = Path(config["results"]) / ".lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock_results.handle = file.open("w")
    try:
        fcntl.flock(lock_results.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(
            f"Another run is writing to {config['results']}: wait until it has ended."
        )


def name_killed_jobs(logs):
    """Say what the log of a job cannot: that the job was killed.

    `logs` are the files of all that Snakemake has said.
    """
    said = "".join(Path(log).read_text(encoding="utf-8") for log in logs)
    # 137 is what a shell makes of it.
    if "SIGKILL" in said or "exit status 137" in said:
        print(
            "A job was killed by the system, most likely for want of memory: run fewer jobs at"
            " once (snakemake --cores 1), or free memory, and run again.",
            file=sys.stderr,
        )


def benchmarks():
    """Benchmark files of all jobs that workflow and configuration admit.

    Some of them do not exist, for not every job is done for every model. They must be no inputs,
    or Snakemake would make again what was made long ago when its benchmark file is missing.
    """
    return sorted(
        {
            entry.benchmark.apply_wildcards(model | {"architecture": architecture})
            for entry in workflow.rules
            if entry.benchmark
            and entry.name not in ("runtime", "figure_runtime", "provenance")
            for model in MODELS
            for architecture in config["evaluation"]["oracles"]
        }
    )
