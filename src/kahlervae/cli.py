"""The command line: one command a stage, which parses paths and calls the package.

Heavy imports stand inside the commands, so that a command loads what it needs and no more.
"""

import io
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Annotated, Any, TextIO

try:
    import typer
except ModuleNotFoundError:
    sys.exit("error: the commands need more than the geometry: pip install 'kahlervae[workflow]'.")

from kahlervae.errors import InputError, one_line, out_of_memory
from kahlervae.startup import Startup

__all__ = ["app", "main"]

startup = Startup()
app = typer.Typer(
    help="Kähler geometry of complex variational autoencoders: the stages of the workflow.",
    no_args_is_help=True,
    add_completion=False,
    # The log of a command ends with what it took, which the table of run times gathers.
    result_callback=lambda _: logging.info(startup),
    pretty_exceptions_enable=False,
)


class _Block(dict[str, Any]):
    """A mapping of the settings, which answers for a missing key in words."""

    def __missing__(self, key: str) -> None:
        raise InputError(f"the settings lack the key {key!r}: pass a part of config.yaml.")


def _parse(settings: str) -> dict[str, Any]:
    try:
        parsed = json.loads(settings, object_hook=_Block)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"not JSON ({error}): pass a part of config.yaml.") from error
    if not isinstance(parsed, dict):
        raise typer.BadParameter("not a mapping: pass a part of config.yaml.")
    return parsed


def _equally_often(sentence: str, *options: Sequence[Any]) -> None:
    """Refuse options that belong together and are not given equally often, with a sentence."""
    if len({len(values) for values in options}) > 1:
        raise typer.BadParameter(sentence)


Settings = Annotated[
    dict, typer.Option(parser=_parse, metavar="JSON", help="The stage's part of config.yaml.")
]
Dataset = Annotated[str, typer.Option(help="Name of the data set.")]
Data = Annotated[Path, typer.Option(help="What `kahlervae data` wrote.")]
Model = Annotated[Path, typer.Option(help="What `kahlervae train` wrote.")]
Models = Annotated[list[Path], typer.Option(help="What `kahlervae train` wrote; repeatable.")]
Potentials = Annotated[Path, typer.Option(help="What `kahlervae potential` wrote.")]
AllPotentials = Annotated[
    list[Path], typer.Option(help="Potentials of the models, in the same order.")
]
Samples = Annotated[Path, typer.Option(help="What `kahlervae sample` wrote.")]
Oracles = Annotated[
    list[Path],
    typer.Option(
        help="What `kahlervae oracle` wrote; repeatable, none without labels.", default_factory=list
    ),
]
Out = Annotated[Path, typer.Option(help="File to write.")]
Device = Annotated[str, typer.Option(help="Where tensors are computed: auto, cpu or cuda.")]


@app.command()
def data(dataset: Dataset, settings: Settings, out: Out, record: Out) -> None:
    """Split a data set."""
    from kahlervae.data import prepare
    from kahlervae.storage import write_json, write_tensors

    tensors, form, description = prepare(
        dataset, settings["source"], settings["split"], settings.get("stft")
    )
    write_tensors(out, tensors, {"dataset": dataset, "form": json.dumps(form.dump())})
    write_json(record, description)


@app.command()
def example(
    name: Annotated[str, typer.Argument(help="colours or waves.")],
    out: Out,
    count: Annotated[int, typer.Option(help="Samples.", min=1, max=1_000_000)] = 600,
    seed: Annotated[int, typer.Option(help="Of everything random.", min=0)] = 0,
) -> None:
    """Write a small set of arrays to try the workflow on, as .npz."""
    from kahlervae.data.examples import make_example
    from kahlervae.storage import write_npz

    write_npz(out, make_example(name, count, seed))


@app.command()
def describe(
    files: Annotated[
        list[Path],
        typer.Argument(help="Arrays of a data set (.npz, .npy, safetensors), or a folder of WAVs."),
    ],
    name: Annotated[str | None, typer.Option(help="Of the data set.")] = None,
    samples: Annotated[str | None, typer.Option(help="The array that holds them.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="The array that holds them, or an .npy file of their own.")
    ] = None,
) -> None:
    """Print what files hold, and a configuration that runs them."""
    from kahlervae.data.describe import describe

    sys.stdout.write(describe(files, name, samples, labels))


@app.command()
def oracle(
    dataset: Dataset,
    architecture: Annotated[str, typer.Option(help="cnn or mlp.")],
    data: Data,
    settings: Settings,
    out: Out,
    record: Out,
    device: Device = "cpu",
) -> None:
    """Train a classifier that judges samples."""
    from kahlervae.device import resolve_device
    from kahlervae.evaluate.score import make_oracle

    options, evaluation = settings["oracle"], settings["evaluation"]
    where = resolve_device(device)
    make_oracle(dataset, architecture, data, options, evaluation, out, record, where)


@app.command()
def train(
    dataset: Dataset,
    representation: Annotated[str, typer.Option(help="What the model sees of a sample.")],
    variant: Annotated[str, typer.Option(help="One of those in config.yaml.")],
    seed: Annotated[
        list[int], typer.Option(help="Of everything random in a model; repeatable.", min=0)
    ],
    data: Data,
    settings: Settings,
    checkpoint: Out,
    out: Annotated[list[Path], typer.Option(help="Files of the models, one for every seed.")],
    history: Annotated[list[Path], typer.Option(help="Their tables, in the same order.")],
    device: Device = "cpu",
) -> None:
    """Train one variant, all seeds together; goes on from the checkpoint where there is one."""
    from kahlervae.data import load_split
    from kahlervae.device import resolve_device
    from kahlervae.models import save_model
    from kahlervae.storage import write_table
    from kahlervae.train import train_together

    _equally_often(
        "give one --seed, one --out and one --history for every model.", seed, out, history
    )
    model = {"dataset": dataset, "representation": representation, "variant": variant}
    where = resolve_device(device)
    splits = {name: load_split(data, name, dataset).to(where) for name in ("train", "validation")}
    identities = [model | {"seed": own} for own in seed]
    trained = train_together(splits, identities, settings, checkpoint)
    for (own, table), file, rows in zip(trained, out, history, strict=True):
        write_table(rows, table)
        save_model(file, own)
    checkpoint.unlink(missing_ok=True)


@app.command()
def sweep(data: Data, model: Model, oracle: Oracles, settings: Settings, out: Out) -> None:
    """Score one setting of the sweep on validation data."""
    from kahlervae.judge.sweep import score_setting
    from kahlervae.storage import write_table

    write_table(out, score_setting(data, oracle, model, settings))


@app.command()
def choose(
    sweep: Annotated[Path, typer.Option(help="Gathered scores of the sweep.")],
    settings: Settings,
    out: Out,
) -> None:
    """Choose settings of variants by the rules of the configuration."""
    from kahlervae.judge.sweep import make_choice

    make_choice(sweep, settings, out)


@app.command()
def potential(
    data: Data,
    model: Model,
    settings: Settings,
    out: Out,
    choice: Out,
    device: Device = "cpu",
) -> None:
    """Fit potentials to the metric of a decoder."""
    from kahlervae.storage import write_table
    from kahlervae.train.potentials import fit_potentials, save_potentials
    from kahlervae.trained import Trained

    trained = Trained(model, data, device=device)
    fitted = fit_potentials(trained.vae, trained.samples("train"), settings)
    write_table(choice, fitted.choice)
    save_potentials(out, fitted.potentials, trained.vae.identity)


@app.command()
def agreement(
    data: Data,
    model: Model,
    potential: Potentials,
    settings: Settings,
    out: Out,
    identities: Out,
    probes: Out,
    device: Device = "cpu",
) -> None:
    """Hold potentials and identities against the exact Fisher metric."""
    from kahlervae.evaluate.agreement import compare_potentials
    from kahlervae.storage import write_table
    from kahlervae.trained import Trained

    trained = Trained(model, data, potential, device)
    train, test = trained.samples("train"), trained.samples("test")
    tables = compare_potentials(trained.vae, trained.potentials, train, test, settings)
    write_table(out, tables.agreement)
    write_table(identities, tables.identities)
    write_table(probes, tables.probes)


@app.command(name="slice")
def latent_slice(
    data: Data,
    model: Model,
    potential: Potentials,
    settings: Settings,
    out: Out,
    device: Device = "cpu",
) -> None:
    """Evaluate metrics on a plane of the latent space."""
    from kahlervae.evaluate.latent_slice import slice_latents
    from kahlervae.storage import write_tensors
    from kahlervae.trained import Trained

    trained = Trained(model, data, potential, device)
    arrays = slice_latents(trained.vae, trained.potentials, trained.split("test"), settings)
    write_tensors(out, arrays, trained.vae.identity)


@app.command()
def sample(
    data: Data,
    model: Model,
    settings: Settings,
    out: Out,
    diagnostics: Out,
    speed: Out,
    mixtures: Out,
    potential: Annotated[Path | None, typer.Option(help="Needed by `volume`.")] = None,
    device: Device = "cpu",
) -> None:
    """Draw latents by every sampler."""
    from kahlervae.sample import sample_model
    from kahlervae.storage import write_table, write_tensors
    from kahlervae.trained import Trained

    trained = Trained(model, data, potential, device)
    potentials = trained.potentials if potential else None
    splits = trained.samples("train"), trained.samples("validation")
    samples = sample_model(trained.vae, *splits, potentials, settings)
    write_tensors(out, samples.latents, trained.vae.identity)
    write_table(diagnostics, samples.diagnostics)
    write_table(speed, samples.speed)
    write_table(mixtures, samples.mixtures)


@app.command(name="sampler-cost")
def sampler_cost(
    model: Models,
    potential: AllPotentials,
    settings: Settings,
    out: Out,
) -> None:
    """Time volume sampling on the potential and on the exact metric."""
    import pandas as pd

    from kahlervae.measure.sampler_cost import measure_samplers
    from kahlervae.storage import write_table
    from kahlervae.trained import Trained

    _equally_often("give one --potential for every --model.", model, potential)
    models = [Trained(a, potential=b) for a, b in zip(model, potential, strict=True)]
    tables = [measure_samplers(it.vae, it.potentials["fitted"], settings) for it in models]
    write_table(out, pd.concat(tables, ignore_index=True))


@app.command()
def score(
    data: Data,
    model: Model,
    samples: Samples,
    oracle: Oracles,
    settings: Settings,
    out: Out,
    agreement: Out,
    sheet: Out,
    flagged: Out,
    paths: Out,
    reconstruction: Out,
    flatness: Out,
    gallery: Out,
    device: Device = "cpu",
) -> None:
    """Score samples, decoded paths and reconstructions by every oracle, and flatness by none."""
    from kahlervae.evaluate.flatness import score_flatness
    from kahlervae.evaluate.score import score_model
    from kahlervae.storage import write_table
    from kahlervae.trained import Trained

    trained = Trained(model, data, device=device)
    test = trained.samples("test")
    outputs = (out, agreement, sheet, flagged, paths, reconstruction, gallery)
    score_model(data, trained.vae, test, samples, oracle, settings, *outputs)
    write_table(flatness, score_flatness(trained.vae, test, settings["paths"]))


@app.command()
def geodesics(
    data: Data,
    model: Model,
    potential: Potentials,
    oracle: Oracles,
    settings: Settings,
    out: Out,
    curves: Out,
    device: Device = "cpu",
) -> None:
    """Compare geodesics of a potential with straight lines."""
    from kahlervae.evaluate.geodesics import compare_curves
    from kahlervae.evaluate.score import load_references
    from kahlervae.geometry import exact_potential
    from kahlervae.storage import write_table, write_tensors
    from kahlervae.trained import Trained

    trained = Trained(model, data, potential, device)
    references = load_references(data, oracle, settings, trained.device)
    best = exact_potential(trained.vae.decoder) or trained.potentials["fitted"]
    test = trained.samples("test")
    table, decoded = compare_curves(trained.vae, best, test, references, settings)
    write_table(out, table)
    write_tensors(curves, decoded, trained.vae.identity)


@app.command()
def distances(
    data: Data, model: Models, potential: AllPotentials, settings: Settings, out: Out
) -> None:
    """Hold distances of one variant, by every metric, against exact ones and across seeds."""
    from kahlervae.evaluate.distances import compare_distances
    from kahlervae.storage import write_table
    from kahlervae.trained import Trained

    _equally_often("give one --potential for every --model.", model, potential)
    trained = [Trained(m, data, p) for m, p in zip(model, potential, strict=True)]
    models, potentials = [t.vae for t in trained], [t.potentials for t in trained]
    train, test = trained[0].split("train"), trained[0].split("test")
    write_table(out, compare_distances(models, potentials, train, test, settings))


@app.command()
def states(data: Data, model: Model, potential: Potentials, settings: Settings, out: Out) -> None:
    """Hold a model of states against their known geometry."""
    from kahlervae.evaluate.states import measure_states
    from kahlervae.storage import write_table
    from kahlervae.trained import Trained

    trained = Trained(model, data, potential)
    test = trained.split("test")
    write_table(out, measure_states(trained.vae, trained.potentials, test, settings))


@app.command()
def atlas(
    data: Data,
    model: Model,
    potential: Potentials,
    samples: Samples,
    oracle: Oracles,
    settings: Settings,
    out: Out,
    device: Device = "cpu",
) -> None:
    """Map geometry, decoded samples and draws of a model on a plane of its latent space."""
    from kahlervae.evaluate.atlas import map_latents
    from kahlervae.evaluate.score import load_references, load_samples
    from kahlervae.storage import write_tensors
    from kahlervae.trained import Trained

    trained = Trained(model, data, potential, device)
    vae, where = trained.vae, trained.device
    latents = load_samples(samples, vae, settings["sampling"], where)["test"]
    references = load_references(data, oracle, settings, where)
    fitted, test = trained.potentials["fitted"], trained.samples("test")
    write_tensors(out, map_latents(vae, fitted, test, latents, references, settings), vae.identity)


@app.command()
def sounds(data: Data, model: Model, samples: Samples, settings: Settings, out: Out) -> None:
    """Let a model of recordings speak."""
    from kahlervae.evaluate.score import load_samples
    from kahlervae.evaluate.sounds import make_sounds
    from kahlervae.storage import write_tensors
    from kahlervae.trained import Trained

    trained = Trained(model, data)
    latents = load_samples(samples, trained.vae, settings["sampling"])["test"]
    sounds = make_sounds(trained.vae, trained.samples("test"), latents)
    write_tensors(out, sounds, trained.vae.identity)


@app.command()
def player(
    sounds: Annotated[Path, typer.Argument(help="What `kahlervae sounds` wrote.")],
    rate: Annotated[int, typer.Option(help="Values a second.", min=1)],
    out: Out,
) -> None:
    """Write the page on which a model is heard."""
    from kahlervae.figures.player import write_player

    write_player(sounds, rate, out)


@app.command()
def table(parts: list[Path], out: Out) -> None:
    """Put tables of equal columns together."""
    import pandas as pd

    from kahlervae.storage import read_table, write_table

    frames = [read_table(part) for part in parts]
    for part, frame in zip(parts, frames, strict=True):
        if list(frame.columns) != list(frames[0].columns):
            raise InputError(f"{part} has other columns than {parts[0]}: make them again.")
    write_table(out, pd.concat(frames, ignore_index=True))


@app.command()
def pareto(
    samples: Annotated[Path, typer.Option(help="Gathered scores.")],
    diagnostics: Annotated[Path, typer.Option(help="Gathered diagnostics of the chains.")],
    settings: Settings,
    out: Out,
    hypervolume: Out,
    chosen: Out,
) -> None:
    """Compare samplers at equal variation and choose their settings."""
    from kahlervae.judge.pareto import make_pareto

    make_pareto(samples, diagnostics, settings, out, hypervolume, chosen)


@app.command()
def claims(
    tables: Annotated[list[Path], typer.Argument(help="Gathered tables, named as the claims do.")],
    claims: Annotated[Path, typer.Option(help="What is claimed: workflow/claims.yaml.")],
    settings: Settings,
    out: Out,
) -> None:
    """Judge the claims."""
    from kahlervae.judge.claims import make_claims

    make_claims(tables, claims, settings, out)


@app.command()
def check(
    reference: Annotated[Path, typer.Option(help="Folder of the run to hold against.")] = Path(
        "reference"
    ),
    results: Annotated[Path, typer.Option(help="Folder of the fresh run.")] = Path("results"),
) -> None:
    """Hold the claims of a fresh run, and what it cost, against a reference.

    Exits with 0 if it agrees, with 1 if a claim flips, drifts or is missing, with 2 if the two
    cannot be compared.
    """
    from rich.console import Console

    from kahlervae.judge.check import FAILURES, compare_claims, print_comparison
    from kahlervae.measure.runtime import compare_rules, rule_table

    comparison, rules = compare_claims(reference, results), compare_rules(reference, results)
    console = Console()
    # Piped into a file, the table is as wide as it needs to be.
    console = console if console.is_terminal else Console(width=140)
    print_comparison(comparison, console)
    if len(rules):
        console.print(rule_table(rules))
    if comparison["status"].isin(FAILURES).any():
        raise typer.Exit(1)


@app.command()
def cost(settings: Settings, out: Out, device: Device = "cpu") -> None:
    """Time potential and exact metric."""
    from kahlervae.device import resolve_device
    from kahlervae.measure.cost import run_cost
    from kahlervae.storage import write_table

    write_table(out, run_cost(settings, resolve_device(device)))


@app.command()
def steps(settings: Settings, out: Out) -> None:
    """Time a training step with and without regulariser."""
    from kahlervae.measure.step_cost import measure_steps
    from kahlervae.storage import write_table

    write_table(out, measure_steps(settings))


@app.command()
def runtime(
    jobs: Annotated[list[Path], typer.Argument(help="Benchmark files; missing ones are no jobs.")],
    benchmarks: Annotated[Path, typer.Option(help="Folder of the benchmark files.")],
    logs: Annotated[Path, typer.Option(help="Folder of the logs, of the same names.")],
    out: Out,
    efficiency: Out,
) -> None:
    """Gather where the time of a run went."""
    from kahlervae.measure.forecast import calibrate
    from kahlervae.measure.runtime import measure_efficiency, read_jobs, summarise_rules
    from kahlervae.storage import write_table

    measured = read_jobs(jobs, benchmarks, logs)
    write_table(out, summarise_rules(measured))
    write_table(efficiency, measure_efficiency(measured, os.cpu_count() or 1, calibrate()))


@app.command()
def forecast(
    efficiency: Annotated[Path, typer.Argument(help="The table efficiency.csv of a kept run.")],
) -> None:
    """Say how long such a run takes on this machine."""
    from kahlervae.measure.forecast import forecast

    print(forecast(efficiency, os.cpu_count() or 1))


@app.command()
def figure(
    name: str,
    inputs: list[Path],
    out: Annotated[list[Path], typer.Option(help="PNG or PDF to write; repeatable.")],
    of: Annotated[
        list[str] | None,
        typer.Option(
            help="DATASET/REPRESENTATION, for what --out has in such a folder; repeatable."
        ),
    ] = None,
) -> None:
    """Draw a figure from tables and arrays."""
    from kahlervae.figures import draw

    draw(name, inputs, out, of or ())


@app.command()
def page(
    atlas: Annotated[Path, typer.Argument(help="What `kahlervae atlas` wrote.")], out: Out
) -> None:
    """Write the interactive page of an atlas."""
    from kahlervae.figures.atlas import write_atlas

    write_atlas(atlas, out)


@app.command()
def browse(tables: list[Path], out: Annotated[list[Path], typer.Option(help="Pages.")]) -> None:
    """Write tables as pages whose columns sort."""
    from kahlervae.figures.pages import write_table_page

    _equally_often("give one --out for every table.", tables, out)
    for path, page in zip(tables, out, strict=True):
        write_table_page(path, page)


@app.command()
def captions(
    tables: Annotated[Path, typer.Option(help="Folder of the gathered tables.")],
    claims: Annotated[Path, typer.Option(help="What `kahlervae claims` wrote.")],
    out: Annotated[list[Path], typer.Option(help="Files to write, named after figures.")],
) -> None:
    """Say what was measured."""
    from kahlervae.figures.captions import write_captions

    write_captions(tables, claims, out)


@app.command()
def summary(
    figures: list[Path],
    claims: Annotated[Path, typer.Option(help="What `kahlervae claims` wrote.")],
    out: Out,
) -> None:
    """Write claims and figures on one page."""
    from kahlervae.figures.pages import write_summary

    write_summary(claims, figures, out)


@app.command()
def provenance(
    files: list[Path],
    requirements: Annotated[Path, typer.Option(help="The pinned packages.")],
    settings: Settings,
    out: Out,
) -> None:
    """Record what results were made with, and their checksums."""
    from kahlervae.provenance import collect
    from kahlervae.storage import write_json

    write_json(out, collect(files, out.parent, requirements, settings))


def _set_log_level() -> None:
    """The level of this package's messages, from the environment: no setting of a run."""
    level = os.environ.get("KAHLERVAE_LOG", "INFO")
    if level not in logging.getLevelNamesMapping():
        raise InputError(f"KAHLERVAE_LOG must be DEBUG, INFO, WARNING or ERROR, not {level!r}.")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("kahlervae").setLevel(level)


class _Output:
    """A standard stream whose failures are bad input.

    Left alone, rich and click take a closed pipe for the end of a command, with the code 1, and the
    interpreter finds a full disk after it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # Where the stream is closed, one for reading, which refuses to be written to.
        self._stream = stream or open(os.devnull)  # noqa: PTH123, SIM115

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._sure(self._stream.write, text)

    def flush(self) -> None:
        self._sure(self._stream.flush)

    def _sure(self, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except OSError as error:
            # What could not be written fails but once, not at the end of the interpreter again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise InputError(
                f"what a command says cannot be written ({error.strerror or error}): have it read "
                "to its end, or free space on the disk."
            ) from error


def main() -> None:
    """Run the command line.

    It exits with 0 if all went well; with 1 if `check` finds that a run is not as the reference;
    with 2 if a command could not do its work: bad input, too little memory and nobody to read what
    it says, which end it with one sentence on standard error, and whatever else is raised.
    """
    startup.begin()
    # Thread counts change floating-point results: one thread a job, parallelism is over jobs.
    os.environ["OMP_NUM_THREADS"] = "1"
    # Figures go into files, whichever window the environment asks for.
    os.environ.pop("MPLBACKEND", None)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # terminals without Greek show a question mark
    out, err = _Output(sys.stdout), _Output(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            _set_log_level()
            try:
                app()
            finally:
                out.flush()
        except Exception as error:
            with suppress(InputError):  # nobody reads it, and the code is left to tell
                print(_told(error), file=err)
            sys.exit(2)


def _told(error: Exception) -> str:
    """What is said of an error: a sentence, or a traceback of what is not foreseen."""
    if isinstance(error, InputError):
        return f"error: {one_line(str(error))}"
    if out_of_memory(error):
        reason = str(error).partition("\n")[0] or type(error).__name__
        return (
            f"error: out of memory ({reason}): run fewer jobs at once (snakemake --cores 1), "
            "or lower the sizes in the configuration."
        )
    return "".join(traceback.format_exception(error)).rstrip()


if __name__ == "__main__":
    main()
