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

try:
    import kahlervae
except ModuleNotFoundError:
    sys.exit(
        f"{sys.executable}, which runs Snakemake, has no package kahlervae: install it there, with"
        " `pip install '.[workflow,figures]'` in a checkout of this workflow, or `make install` and"
        " call Snakemake from .venv."
    )

from kahlervae.config.check import (
    check_claims,
    check_config,
    check_prefixed,
    check_writable,
)
from kahlervae.config.filling import drop_absent, fill_in
from kahlervae.config.registry import data_sources, is_labelled
from kahlervae.config.sentences import check_repetitions
from kahlervae.config.sweep import NAME as SETTING_NAME
from kahlervae.config.sweep import sweep_settings
from kahlervae.errors import InputError
from kahlervae.judge.entries import needed
from kahlervae.places import local_files
from kahlervae.sources import imported
from snakemake.io import get_flag_value

for place in (str(workflow.basedir), kahlervae.__file__):
    if "{" in place or "}" in place:
        sys.exit(
            f"{place} holds braces, which Snakemake takes for a wildcard: move the workflow to a"
            " folder without any."
        )

try:
    fill_in(config, workflow.configfiles)
    drop_absent(config)
    for file in workflow.configfiles:
        check_repetitions(file)
    check_config(config, workflow.source_path("../schemas/config.schema.yaml"))
    # A module may have a prefix, which is in front of all that its rules write.
    RESULTS, DRAWN = (
        str(workflow.modifier.modify_path(config[folder]))
        for folder in ("results", "figures")
    )
    check_prefixed(config, results=RESULTS, figures=DRAWN)
    for folder in (RESULTS, DRAWN, ".snakemake"):
        check_writable(folder)
except InputError as error:
    sys.exit(str(error))

# The folder that holds the package: src of a checkout, or where pip has put it.
PACKAGES = Path(kahlervae.__file__).resolve().parents[1]
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


# The models whose metric is looked at: all but `real`, whose latent space is not complex.
METRIC = [model for model in MODELS if model["variant"] != "real"]
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
    folders = {RESULTS: 1, DRAWN: 1, PACKAGES / "kahlervae": now}
    for folder, date in folders.items():
        for file in Path(folder).rglob("*"):
            # Another run may be writing here, and sources be somebody else's.
            with suppress(FileNotFoundError, PermissionError):
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


def of_all_seeds(name):
    """That file of all models of a variant."""

    def files(wildcards):
        return of_models(
            name,
            [
                model
                for model in METRIC
                if all(model[key] == value for key, value in wildcards.items())
            ],
        )

    return files


def of_oracles(suffix, datasets=LABELLED):
    """The file with that suffix of every oracle of those data sets that have labels."""
    return [
        f"<results>/{dataset}/oracles/{architecture}{suffix}"
        for dataset in datasets
        for architecture in config["evaluation"]["oracles"]
        if dataset in LABELLED
    ]


def oracles(wildcards):
    """The oracles of the data set; none without labels."""
    return of_oracles(".safetensors", [wildcards.dataset])


def runs(models):
    """Data sets and representations of models, as folders have them."""
    named = ["{dataset}/{representation}".format(**model) for model in models]
    return list(dict.fromkeys(named))


def drawings(figure, models, suffix):
    """The files of a figure of models, by run; one of everything has the run None."""
    folders = {run: f"{run}/" for run in runs(models)} or {None: ""}
    return {run: f"<figures>/{at}{figure}.{suffix}" for run, at in folders.items()}


def figure_label(figure, run):
    """What the report calls a figure."""
    of = f" ({', '.join(Path(run).parts)})" if run else ""
    return f"figure: {figure.replace('_', ' ')}{of}"


@functools.cache
def code(command, *also):
    """Source files of all modules that a command imports, and that these import.

    They are inputs of the rules, since Snakemake itself sees only the command of a rule: a change
    in the package makes again what was made with it, and nothing else. The imports are read from
    the function of the command in cli.py (nothing is run), which itself only parses and calls, so
    that its text is no input: it would make everything again.

    `also` names modules that are imported by name only.
    """
    tree = ast.parse((PACKAGES / "kahlervae/cli.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if getattr(node, "name", None) == command)
    modules = [
        node.module
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("kahlervae.")
    ]
    return [nearby(file) for file in imported([*modules, *also], PACKAGES)]


def nearby(file):
    """A source file as an input: by a path that holds wherever the working folder is moved, if the
    file lies in it, and that no prefix of a module changes."""
    relative = os.path.relpath(file)
    return local(str(file) if relative.startswith("..") else relative)


def shipped(name):
    """A file at the top of the repository as an input, wherever the repository is."""
    file = workflow.source_path(f"../../{name}")
    origin = get_flag_value(file, "sourcecache_entry")
    return nearby(origin) if os.path.exists(origin) else file


def claims_file():
    """The file of the claims: a path of the user's, or else the one that comes with the workflow."""
    file = config["claims"]["file"]
    comes_along = file == "workflow/claims.yaml" and not Path(file).exists()
    return shipped(file) if comes_along else nearby(file)


try:
    CLAIMS_FILE = claims_file()
    CLAIMS = check_claims(
        CLAIMS_FILE,
        config,
        workflow.source_path("../schemas/config.schema.yaml"),
    )
except InputError as error:
    sys.exit(str(error))


def compact(settings):
    """JSON of the part of the configuration that a stage needs: what the command is given.

    Exactly that part, so that a changed key makes again what depends on it and nothing else; with
    sorted keys, so that their order in the file does not matter.
    """
    return json.dumps(settings, sort_keys=True, separators=(",", ":"))


def examples(source):
    """Of the files of a data set those that the workflow makes itself."""
    made = f"{config['results']}/examples/"
    return [name for name in source.get("files", []) if str(name).startswith(made)]


def local_data(wildcards):
    """The files that decide what a data set is, but for what is made."""
    made = examples(SOURCES[wildcards.dataset])
    return [nearby(file) for file in LOCAL[wildcards.dataset] if file not in made]


def data_settings(wildcards, input):
    """What a data set is made of; its examples are named as they are where a module has a prefix."""
    source = SOURCES[wildcards.dataset]
    places = dict(zip(examples(source), input.examples))
    if places:
        files = [places.get(name, name) for name in source["files"]]
        source = source | {"files": files}
    options = config["datasets"][wildcards.dataset]
    return compact(pick(options, "split", "stft") | {"source": source})


def pick(block, *keys):
    """Some keys of a block of the configuration, those that it has."""
    return {key: block[key] for key in keys if key in block}


# How many draws of every sampler belong to the validation and to the test split; what outliers are.
DRAWS = {"sampling": pick(config["sampling"], "validation_count", "count")}
OUTLIERS = pick(config["evaluation"], "neighbours", "quantile")


def oracle_options(wildcards, input):
    """The oracles that a rule reads, as its command is given them."""
    return [f"--oracle={path}" for path in input.oracles]


def network_block(variant):
    """A variant's block but for what is done with the model."""
    return {
        k: v for k, v in variant.items() if k not in ("representations", "samplers")
    }


def seeds_at_once():
    """Seeds that one job trains together, and of which variants, by their folders.

    Models that are there already are a group of their own, so that a longer list of seeds does not
    train them again.
    """
    size = config["seeds_at_once"]
    groups = {tuple(config["seeds"][:size]): []}
    folders = {}
    for model in TRAINED:
        folder = "{dataset}/{representation}/{variant}".format(**model)
        there = Path(
            RESULTS, folder, f"seed={model['seed']}/model.safetensors"
        ).exists()
        folders.setdefault((folder, there), []).append(model["seed"])
    for (folder, _), seeds in folders.items():
        for start in range(0, len(seeds), size):
            groups.setdefault(tuple(seeds[start : start + size]), []).append(folder)
    return groups


def seed_options(wildcards, output):
    """The seeds of models that are trained together, as their command is given them.

    Read from the files, so that they are no parameters of which a change makes a model again.
    """
    return [f"--{Path(file).parent.name}" for file in output.models]


def model_options(wildcards, output):
    """The files of models that are trained together, as their command is given them."""
    return [
        f"--{option}={file}"
        for option, files in (("out", output.models), ("history", output.histories))
        for file in files
    ]


def train_settings(wildcards):
    """Networks, optimisation and the variant's own block, but for what is done with it."""
    options = config["datasets"][wildcards.dataset]
    variant = network_block(options["variants"][wildcards.variant])
    return compact(pick(options, "model", "training") | {"variant": variant})


SWEEPS = {
    dataset: sweep_settings(options, config["sweep"]["rules"])
    for dataset, options in config["datasets"].items()
}
SWEPT = [
    f"<results>/{dataset}/{config['datasets'][dataset]['representations'][0]}/sweep/{name}/scores.csv"
    for dataset, settings in SWEEPS.items()
    for name in settings
]
# The table of the choice, where there is one.
STRENGTHS = ["strengths"] if SWEPT else []


def sweep_train_settings(wildcards):
    """What one setting of the sweep is trained with: all as usual but what is changed."""
    swept = SWEEPS[wildcards.dataset][wildcards.setting]
    training = config["datasets"][wildcards.dataset]["training"]
    variant = network_block(swept.block)
    return compact({"training": training, "model": swept.model, "variant": variant})


def sweep_score_settings(wildcards):
    """What one setting of the sweep is scored with."""
    setting = SWEEPS[wildcards.dataset][wildcards.setting].setting
    return compact(
        {"setting": setting, "count": config["sweep"]["count"]}
        | OUTLIERS
        | pick(config["evaluation"], "paths")
    )


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


def needs_potential(wildcards):
    """Whether any of the samplers of a model asks for log det of a potential."""
    samplers, ratio = samplers_of(wildcards), config["sampling"]["ratio"]
    informed = "ratio" in samplers and any(ratio["log_det"])
    return "volume" in samplers or (informed and wildcards.variant in COMPLEX)


def sample_settings(wildcards):
    """The samplers of a model and what concerns them."""
    sampling, samplers = config["sampling"], samplers_of(wildcards)
    needed = {"count", "validation_count", *samplers}
    if "volume" in samplers:  # its bases
        needed |= {target["base"] for target in sampling["volume"]["targets"]}
    if "ratio" in samplers:
        needed |= set(sampling["ratio"]["bases"])
    settings = {key: value for key, value in sampling.items() if key in needed}
    settings["samplers"] = samplers
    if needs_potential(wildcards):
        settings["epsilon"] = config["geometry"]["epsilon"]
    return compact(settings)


def lock_results():
    """Refuse to run beside another run with the same results.

    The lock is the operating system's: it ends with the process, however that ends.
    """
    file = Path(RESULTS) / ".lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock_results.handle = file.open("w")
    try:
        fcntl.flock(lock_results.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"Another run is writing to {RESULTS}: wait until it has ended.")


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


# The jobs that come after the table of run times, or are it, by their benchmark files.
LAST = {"runtime", "provenance"}


def benchmarks():
    """Benchmark files of all jobs that workflow and configuration admit.

    Some of them do not exist, for not every job is done for every model. They must be no inputs,
    or Snakemake would make again what was made long ago when its benchmark file is missing.
    """
    jobs = {
        entry.benchmark.apply_wildcards(
            model
            | {"architecture": architecture, "setting": setting, "example": "none"}
        )
        for entry in workflow.rules
        # Of another workflow, where this one is a module; of what comes last.
        if str(entry.benchmark).startswith(f"{RESULTS}/benchmarks/")
        and Path(entry.benchmark).stem not in LAST
        for model in TRAINED
        for architecture in config["evaluation"]["oracles"]
        for setting in SWEEPS[model["dataset"]] or ["none"]
    }
    # Any seed may once have been the first of those that were trained together.
    first = "benchmarks/train/{dataset}/{representation}/{variant}/seed={seed}.tsv"
    trained = {f"{RESULTS}/{first.format(**model)}" for model in TRAINED}
    return sorted(jobs | trained)
