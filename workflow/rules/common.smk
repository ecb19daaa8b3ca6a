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
    fill_in,
    is_labelled,
)
from kahlervae.errors import InputError
from kahlervae.places import local_files
from kahlervae.sources import imported

try:
    fill_in(config, workflow.configfiles)
    drop_absent(config)
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
try:
    LOCAL = {name: local_files(name, SOURCES[name]) for name in config["datasets"]}
except InputError as error:
    sys.exit(f"config: {error}")

# Data sets with labels: without, there are no oracles, and what they tell is left out.
LABELLED = [name for name in config["datasets"] if is_labelled(SOURCES[name])]
# Data sets of known geometry: controls, whose models are held against the truth and are not sampled
# or judged.
KNOWN = [name for name in config["datasets"] if SOURCES[name]["kind"] == "states"]
TRAINED = [
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
    for seed in config["seeds"][: options.get("seeds")]
]
MODELS = [model for model in TRAINED if model["dataset"] not in KNOWN]
CONTROLS = [
    model
    for model in TRAINED
    if model["dataset"] in KNOWN and model["variant"] != "real"
]
# GPUs that a job asks for: one where the configuration wants one, none where it may do without.
GPUS = int(config.get("device") == "cuda")
VARIANTS = list(dict.fromkeys(model["variant"] for model in TRAINED))


def variant_block(model):
    """The variant's block of the configuration."""
    return config["datasets"][model["dataset"]]["variants"][model["variant"]]


# The models whose metric is looked at: the latent space of `real` is not complex, and variants that
# are restricted to samplers without `volume`, as ablations are, are compared by scores alone.
METRIC = [
    model
    for model in MODELS
    if model["variant"] != "real"
    and "volume" in variant_block(model).get("samplers", ["volume"])
]
# The models that can be heard, with the first seed.
HEARD = [
    model
    for model in MODELS
    if model["representation"] == "stft" and model["seed"] in config["seeds"][:1]
]
JUDGED = [model for model in MODELS if model["dataset"] in LABELLED]
COMPLEX = list(dict.fromkeys(model["variant"] for model in METRIC + CONTROLS))


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


def of_models(name, models=MODELS, seeds=config["seeds"]):
    """The file of that name of every one of the models with one of the seeds, in their order."""
    return [
        "<results>/{dataset}/{representation}/{variant}/seed={seed}/{name}".format(
            **model, name=name
        )
        for model in models
        if model["seed"] in seeds
    ]


def of_oracles(suffix):
    """The file with that suffix of every oracle of every data set that has labels."""
    return [
        f"<results>/{dataset}/oracles/{architecture}{suffix}"
        for dataset in LABELLED
        for architecture in config["evaluation"]["oracles"]
    ]


def oracles(wildcards):
    """The oracles of the data set; none without labels."""
    return [
        f"<results>/{wildcards.dataset}/oracles/{architecture}.safetensors"
        for architecture in config["evaluation"]["oracles"]
        if wildcards.dataset in LABELLED
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


def files_of(dataset):
    """Files that a data set is read from: those that are there, and those that are made."""
    made = f"{config['results']}/examples/"
    named = SOURCES[dataset].get("files", [])
    examples = [name for name in named if str(name).startswith(made)]
    return list(dict.fromkeys([*examples, *LOCAL[dataset]]))


def dataset_settings(wildcards, *keys):
    """Some blocks of the data set's configuration, those that it has."""
    options = config["datasets"][wildcards.dataset]
    return {key: options[key] for key in keys if key in options}


def sample_counts():
    """How many draws of every sampler belong to the validation and to the test split."""
    return {
        "sampling": {
            key: config["sampling"][key] for key in ("validation_count", "count")
        }
    }


def train_settings(wildcards):
    """Networks, optimisation and the variant's own block, but for what is done with it."""
    blocks = dataset_settings(wildcards, "model", "training", "variants")
    variant = dict(blocks.pop("variants")[wildcards.variant])
    for key in ("representations", "samplers"):
        variant.pop(key, None)
    return compact(blocks | {"variant": variant})


def sweep_blocks(dataset):
    """The settings of a data set's sweep: the blocks of their variants by their names."""
    options = config["datasets"][dataset]
    if "sweep" not in options:
        return {}
    blocks = {"complex": ("complex", options["variants"]["complex"])}
    for beta in options["sweep"]["beta"]:
        blocks[f"beta_beta={beta}"] = ("beta", {"beta": beta})
    kahler = options["variants"]["kahler"]
    for changes in options["sweep"]["kahler"]:
        name = "_".join(
            ["kahler", *(f"{key}={changes[key]}" for key in sorted(changes))]
        )
        changes = dict(changes)
        beta = changes.pop("beta", kahler["beta"])
        regulariser = kahler["regulariser"] | changes
        blocks[name] = ("kahler", {"beta": beta, "regulariser": regulariser})
    return blocks


SWEEPS = {dataset: sweep_blocks(dataset) for dataset in config["datasets"]}
SWEPT = [
    f"<results>/{dataset}/{config['datasets'][dataset]['representations'][0]}/sweep/{name}/scores.csv"
    for dataset, blocks in SWEEPS.items()
    for name in blocks
]
# The table of the choice, where there is one.
STRENGTHS = ["strengths"] if SWEPT else []


def sweep_train_settings(wildcards):
    """What one setting of the sweep is trained with: all as usual but the variant's block."""
    _, block = SWEEPS[wildcards.dataset][wildcards.setting]
    return compact(
        dataset_settings(wildcards, "model", "training") | {"variant": block}
    )


def sweep_settings(wildcards):
    """What one setting of the sweep is scored with."""
    _, block = SWEEPS[wildcards.dataset][wildcards.setting]
    return compact(
        {"variant": block, "count": config["sweep"]["count"]}
        | evaluation_settings("neighbours", "quantile", "paths")
    )


def evaluation_settings(*keys):
    """Some keys of the evaluation's configuration."""
    return {key: config["evaluation"][key] for key in keys}


def samplers_of(wildcards):
    """The samplers of a model: those that its variant and its representation are restricted to.

    Without `volume` where there is no potential.
    """
    model = dict(wildcards.items())
    every = config["sampling"]["samplers"]
    restricted = config["datasets"][model["dataset"]].get("samplers", {})
    allowed = set(variant_block(model).get("samplers", every))
    allowed &= set(restricted.get(model["representation"], every))
    if model["variant"] not in COMPLEX:
        allowed -= {"volume"}
    return [name for name in every if name in allowed]


def sample_settings(wildcards):
    """The samplers of a model and what concerns them."""
    sampling, samplers = config["sampling"], samplers_of(wildcards)
    needed = {"count", "validation_count", *samplers}
    if "volume" in samplers:  # its bases
        needed |= {target["base"] for target in sampling["volume"]["targets"]}
    settings = {key: value for key, value in sampling.items() if key in needed}
    settings["samplers"] = samplers
    if "volume" in samplers:
        settings["epsilon"] = config["geometry"]["epsilon"]
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
            entry.benchmark.apply_wildcards(
                model
                | {"architecture": architecture, "setting": setting, "example": "none"}
            )
            for entry in workflow.rules
            if entry.benchmark
            and entry.name not in ("runtime", "figure_runtime", "provenance")
            for model in TRAINED
            for architecture in config["evaluation"]["oracles"]
            for setting in SWEEPS[model["dataset"]] or ["none"]
        }
    )
