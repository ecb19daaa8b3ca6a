"""Every figure is whole, legible and the same each time, from ordinary and awkward results."""

import re
import subprocess
import sys
from itertools import pairwise

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from kahlervae.errors import InputError
from kahlervae.figures import FIGURES, WHOLE, draw
from kahlervae.figures.looks import VARIANTS
from kahlervae.figures.style import style
from kahlervae.storage import read_table, read_tensors, write_table, write_tensors

TABLES = {
    "agreement": "probes",
    "agreement_summary": "agreement",
    "cost": "cost",
    "states": "states",
    "tradeoff": "cost",
    "training": "history",
    "smoothness": "paths",
    "pareto": "samples",
    "claims": "claims",
    "strengths": "sweep",
    "runtime": "runtime",
}
"""Figures that are drawn from a table, and its name."""
CONSTRUCTED = ("pluriharmonic", "unconstrained")
ARRAYS = [name for name in FIGURES if name not in TABLES]


def laid_out(name, inputs):
    """The figure after layout, at its printed size."""
    with style():
        figure = FIGURES[name](inputs)
        figure.draw_without_rendering()
    return figure


@style()
def check_fits(figure):
    """Nothing lies outside the page, no two tick labels of an axis overlap, no number is NaN."""
    for text in figure.findobj(Text):
        assert not re.search(r"\bnan\b", text.get_text())
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0) > -0.01
    assert box.x1 < width + 0.01
    assert box.y1 < height + 0.01
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            labels = [
                tick.label1
                for tick in axis.get_major_ticks()
                if tick.label1.get_visible()
                and tick.label1.get_text()
                and low <= tick.get_loc() <= high
            ]
            for one, other in pairwise(labels):
                assert not overlap(one, other), ax.get_title()


def overlap(one, other):
    """Whether two labels of an axis, turned by the same angle, overlap by more than a pixel."""
    angle = np.deg2rad(one.get_rotation())
    x, y = (text.get_transform().transform(text.get_position())[0] for text in (one, other))
    if angle:  # parallel lines of text: the distance across them
        return abs((y - x) * np.sin(angle)) < one.get_fontsize() * one.figure.dpi / 72 - 1
    first, second = (text.get_window_extent().padded(-1) for text in (one, other))
    return first.overlaps(second)


@pytest.mark.parametrize("name", FIGURES)
def test_drawn_whole_and_the_same_each_time(results, name):
    """Of two models: whether many fit is the next test's question."""
    results = results(variants=("complex", "kahler"), seeds=[0])
    inputs = results.inputs(name)
    first = [results.root / f"first.{suffix}" for suffix in ("png", "pdf")]
    second = [results.root / f"second.{suffix}" for suffix in ("png", "pdf")]
    draw(name, inputs, first)
    draw(name, inputs, second)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()

    pixels = matplotlib.image.imread(first[0])
    assert pixels[..., :3].std() > 0.05
    assert pixels.shape[1] == 1400  # two columns, 7 inches at 200 dpi

    pdf = first[1].read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf


@pytest.mark.parametrize("name", FIGURES)
def test_one_seed_and_few_variants(results, name):
    check_fits(laid_out(name, results(variants=("kahler",), seeds=[3]).inputs(name)))


@pytest.mark.parametrize("name", sorted(FIGURES.keys() - set(WHOLE)))
def test_two_data_sets_have_a_figure_each(results, name):
    results = results(variants=("complex", "kahler"), seeds=[0])
    inputs = with_another(results, name, "fashion")
    runs = ["digits/pixels", "fashion/pixels"]
    outputs = [results.root / f"{run}/{name}.png" for run in runs]
    draw(name, inputs, outputs, runs)
    for path in outputs:
        assert matplotlib.image.imread(path)[..., :3].std() > 0.05
    with pytest.raises(InputError, match="digits/pixels, fashion/pixels: say with --of"):
        draw(name, inputs, [])
    with pytest.raises(InputError, match="holds nothing of mnist/pixels"):
        draw(name, inputs, [], ["mnist/pixels"])


def with_another(results, name, dataset):
    """The inputs of a figure with the same models once more, on another data set."""
    inputs = results.inputs(name)
    arrays = [path for path in inputs if path.suffix == ".safetensors"]
    for path in arrays:
        tensors, metadata = read_tensors(path)
        other = path.parent / dataset / path.name
        write_tensors(other, tensors, metadata | {"dataset": dataset})
        inputs.append(other)
    for path in inputs:
        if path.suffix == ".csv" and "variant" in (frame := read_table(path)):
            write_table(path, pd.concat([frame, frame.assign(dataset=dataset)]))
    return inputs


def test_every_run_has_a_file_and_every_file_a_run(results):
    results = results(variants=("complex",), seeds=[0])
    inputs, right = results.inputs("training"), results.root / "digits/pixels/t.png"
    for outputs, runs, lost in (
        ([results.root / "t.png"], ["digits/pixels"], "digits/pixels"),
        ([right], ["digits/pixels", "digits/kspace"], "digits/kspace"),
        ([right, results.root / "t.png"], ["digits/pixels"], ".*/t.png"),
    ):
        with pytest.raises(InputError, match=f"Nothing is written of {lost}: every --of needs"):
            draw("training", inputs, outputs, runs)
        assert not right.exists()


def test_a_figure_of_everything_has_no_runs(results):
    with pytest.raises(InputError, match="one figure 'cost' of all data sets: leave --of away"):
        draw("cost", results().inputs("cost"), [], ["digits/pixels"])


def test_claims_have_a_panel_for_each_data_set(results):
    results = results()
    frame = results.frame("claims")
    path = results.table("claims", pd.concat([frame, frame.assign(dataset="fashion")]))
    figure = laid_out("claims", [path])
    check_fits(figure)
    assert [ax.get_title() for ax in figure.axes] == ["digits", "fashion"]


@pytest.mark.parametrize("name", FIGURES)
def test_all_variants_fit_a_page(results, name):
    """None is higher than 1.4 times its width."""
    shown = {"flagged": ("real", "complex", "kahler", "mixture"), "construction": CONSTRUCTED}
    seeds = [0, 1, 2] if name in TABLES else [0]
    results = results(variants=shown.get(name, tuple(VARIANTS)), seeds=seeds)
    figure = laid_out(name, results.inputs(name))
    width, height = figure.get_size_inches()
    assert height <= 1.4 * width
    check_fits(figure)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.filterwarnings("error")
def test_missing_numbers(results, name):
    """NaN in some cells, and in all cells of a variant or of a whole column."""
    results = results()
    frame = results.frame(TABLES[name])
    numbers = [column for column in frame.select_dtypes("float") if column != "seed"]
    frame.loc[frame.index[::7], numbers] = np.nan
    if "variant" in frame:
        frame.loc[frame["variant"] == "fisher", numbers] = np.nan
    _, *others = results.inputs(name)
    laid_out(name, [results.table(TABLES[name], frame), *others])
    frame[numbers[-1]] = np.nan
    laid_out(name, [results.table(TABLES[name], frame), *others])


def test_sheets_without_volume_samples(results):
    figure = laid_out("sample_sheets", results(variants=("real",)).inputs("sample_sheets"))
    assert len(figure.axes) == 4


def test_sheets_show_a_middling_setting_of_every_sampler_and_base(results):
    figure = laid_out("sample_sheets", results(variants=("kahler",)).inputs("sample_sheets"))
    assert [ax.get_title().replace("\u00a0", " ") for ax in figure.axes] == [
        "prior",
        "truncated\nprior\nT = 0.7",
        "aggregated\nposterior",
        "Gaussian\nmixture\nK = 10,\nT = 0.55",
        "volume-\nweighted\ngmm, local\npower −4",
        "volume-\nweighted\nprior, global\npower −4",
    ]


def sheets_of_the_prior(results, variants):
    inputs = results(variants=variants, seeds=[0]).inputs("sample_sheets")
    for path in inputs:
        content, identity = read_tensors(path)
        write_tensors(path, {"prior:default": content["prior:default"]}, identity)
    return laid_out("sample_sheets", inputs)


def test_sheets_of_a_single_sampler_keep_to_a_page(results):
    variants = tuple(f"mine_{k}" for k in range(22))
    figure = sheets_of_the_prior(results, variants)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(shown) == len(variants)
    # Fewer rows of samples instead of smaller ones: wider than high.
    assert all(ax.images[0].get_array().shape[0] < 40 for ax in shown)


def test_sheets_of_a_single_sampler_stand_side_by_side(results):
    variants = ("complex", "mixture", "beta", "kahler", "constant")
    figure = sheets_of_the_prior(results, variants)
    shown = [ax.get_title().split("\n")[0] for ax in figure.axes if ax.images]
    assert shown == ["complex", "learned prior", "β-VAE", "Kähler", "constant metric"]
    width, height = figure.get_size_inches()
    assert height < width


def test_pareto_of_the_prior_alone_compares_all_variants_in_one_panel(results):
    results = results(variants=("complex", "kahler", "pluriharmonic", "mine"))
    samples, chosen = results.frame("samples"), results.frame("chosen")
    samples = samples[samples["sampler"] == "prior"]
    inputs = [results.table("samples", samples), results.table("chosen", chosen[:0])]
    figure = laid_out("pareto", inputs)
    above, _below = figure.axes
    (legend,) = figure.legends
    entries = {text.get_text() for text in legend.get_texts()} - {" "}
    assert entries == {"complex", "Kähler", "pluriharmonic", "mine"}
    test = samples[samples["split"] == "test"].groupby("variant")
    expected = np.sort(test[["recall", "knn_outliers"]].mean(), axis=0)
    (points,) = above.collections[:1]
    np.testing.assert_allclose(np.sort(points.get_offsets(), axis=0), expected)


def test_flagged_samples_are_shown_by_who_flags_them(results):
    results = results(variants=("real", "kahler"))
    inputs = results.inputs("flagged")
    figure = laid_out("flagged", inputs)
    axes = np.reshape(figure.axes, (3, 4))  # `real` has fewer samplers and is left out
    assert [ax.get_title() for ax in axes[0]] == [
        "flagged by kNN only\n0.2%", "by entropy only\n12.5%", "by both\n0.0%",
        "by neither\n87.3%",
    ]  # fmt: skip
    assert axes[-1, 0].get_ylabel() == "Kähler\nvolume-weighted\ngmm, local\npower −4"
    content, identity = read_tensors(inputs[3])
    assert (identity["variant"], identity["seed"]) == ("kahler", "0")
    drawn = axes[0, 0].images[0].get_array()
    np.testing.assert_array_equal(drawn[:8, :8], content["images/knn/prior:default"][0])
    assert np.isnan(drawn[9:].filled(np.nan)).all()  # five images fill a part of the first row


def test_absent_sampler_is_said(results):
    variants = ("real", "complex")
    figure = laid_out("sample_sheets", results(variants=variants).inputs("sample_sheets"))
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts == ["not sampled"] * 2


def test_lowest_seed_is_shown(results):
    results = results(variants=("complex",), seeds=[2, 10])
    figure = laid_out("reconstructions", results.inputs("reconstructions"))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["test data", "complex\nMSE 0.0140"]


def test_pareto_curves_are_means_of_test_rows_over_seeds_and_oracles(results):
    results = results(variants=("complex",))
    path, chosen, _ = results.inputs("pareto")
    frame = read_table(path).query("split == 'test'")
    figure = laid_out("pareto", [path, chosen])
    curve = figure.axes[0].lines[0].get_xydata()

    truncated = frame[frame["sampler"] == "truncated"].groupby("setting")
    prior = frame[frame["sampler"] == "prior"]
    expected = truncated[["recall", "knn_outliers"]].mean().to_numpy()
    np.testing.assert_allclose(curve[:-1], expected)
    np.testing.assert_allclose(curve[-1], prior[["recall", "knn_outliers"]].mean())


def test_pareto_rings_what_was_chosen(results):
    results = results(variants=("complex",))
    path, chosen, _ = results.inputs("pareto")
    figure = laid_out("pareto", [path, chosen])
    rings = [line for line in figure.axes[0].lines if line.get_markersize() == 7]
    frame = read_table(path).query("split == 'test'")
    settings = read_table(chosen)["setting"]
    expected = frame[frame["setting"].isin(settings)].groupby("setting")[["recall", "knn_outliers"]]
    found = np.sort([line.get_xydata()[0] for line in rings], axis=0)
    np.testing.assert_allclose(found, np.sort(expected.mean(), axis=0))


def test_agreement_states_the_rank_correlation(results):
    results = results(variants=("complex",), seeds=[0])
    frame = results.frame("probes").query("potential == 'fitted' and probe_set == 'prior'")
    figure = laid_out("agreement", [results.table("probes", frame)])
    part = frame[frame["quantity"] == "log_det"]
    rho = part[["fisher", "value"]].corr("spearman").iloc[0, 1]
    assert f"ρ = {rho:.2f}\n(" in figure.axes[0].get_title()


def test_cost_states_the_exponent(results):
    figure = laid_out("cost", results().inputs("cost"))
    by_outputs, by_latents, by_batch = (ax.get_legend() for ax in figure.axes[:3])
    assert [text.get_text() for text in by_outputs.get_texts()] == [
        r"$D^{0.00 \pm 0.00}$",
        r"$D^{0.90 \pm 0.00}$",
    ]
    assert [text.get_text() for text in by_latents.get_texts()] == [r"$d^{1.00 \pm 0.00}$"] * 2
    assert by_batch is None


def test_cost_without_sweeps_is_refused(results):
    results = results()
    frame = results.frame("cost").query("sweep == 'base'")
    with pytest.raises(InputError, match=r"varies no factor: add values to cost\.sweeps"):
        draw("cost", [results.table("cost", frame)], [results.root / "figure.png"])


def one_claim(results, **changes):
    frame = results.frame("claims").query("part == 'regulariser' & role == 'primary'").head(1)
    return results.table("claims", frame.assign(**changes))


def test_claims_are_drawn_relative_to_their_control(results):
    path = one_claim(results(), estimate=-0.03, ci_low=-0.06, ci_high=0.0, control=0.3)
    (ax,) = laid_out("claims", [path]).axes
    drawn = np.concatenate([line.get_xdata() for line in ax.lines if np.size(line.get_xdata())])
    for end in (-20, -10, 0):
        assert np.isclose(drawn.astype(float), end).any()


@pytest.mark.parametrize("adjusted", ["supported", "inconclusive"])
def test_claims_that_do_not_stand_after_correction_are_hollow(results, adjusted):
    path = one_claim(results(), verdict="supported", adjusted=adjusted)
    (ax,) = laid_out("claims", [path]).axes
    hollow = [line for line in ax.lines if line.get_color() == "white"]
    assert len(hollow) == (adjusted == "inconclusive")


def test_claims_are_the_primary_ones_below_the_words_of_the_paper(results):
    results = results()
    frame = results.frame("claims")
    (ax,) = laid_out("claims", [results.table("claims")]).axes
    labels = [text.get_text().replace("\n", " ") for text in ax.get_yticklabels()]
    said = frame[frame["role"] == "primary"]
    assert sorted(labels) == sorted([*said["paper"].unique(), *said["statement"]])


def test_claims_of_ones_own_are_drawn_by_their_parts(results):
    results = results()
    frame = results.frame("claims").head(6).assign(role="secondary", paper=None)
    (ax,) = laid_out("claims", [results.table("claims", frame)]).axes
    labels = [text.get_text().replace("\n", " ") for text in ax.get_yticklabels()]
    assert sorted(labels) == sorted([*frame["part"].unique(), *frame["statement"]])


def test_decoders_by_construction_show_their_own_potential(results):
    results = results(variants=("pluriharmonic", "unconstrained"), seeds=[0])
    figure = laid_out("construction", results.inputs("construction"))
    check_fits(figure)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title().startswith("log det")]
    assert titles == [
        f"log det of the {metric} − median" for metric in ("exact potential", "Fisher metric")
    ]
    maps = [ax for ax in figure.axes if ax.get_title() in titles]
    scales = {ax.images[0].get_clim() for ax in maps}
    assert len(scales) == 1  # as varied as they look
    labels = [ax.get_ylabel() for ax in figure.axes if ax.get_title().startswith("log det")]
    assert [label.split(", ")[-1] for label in labels] == ["pluriharmonic", "unconstrained"]


def test_smoothness_is_of_all_variants_in_the_order_of_legends(results):
    results = results(variants=("tie", "complex", "kahler"))
    figure = laid_out("smoothness", [results.table("paths", results.frame("paths"))])
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["complex", "Kähler", "Kähler, tie alone"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["between test posteriors", "between prior samples"]


def test_unknown_figure_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no figure 'pie'.*claims"):
        draw("pie", [], [tmp_path / "pie.png"])


@pytest.mark.parametrize("name", TABLES)
def test_missing_column_is_named(results, name):
    results = results()
    inputs, frame = results.inputs(name), results.frame(TABLES[name])
    required = {
        "agreement": "fisher",
        "cost": "method",
        "tradeoff": "relative_error",
        "claims": "role",
        "runtime": "jobs",
    }.get(name, "variant")
    path = results.table(TABLES[name], frame.drop(columns=required))
    output = results.root / "figure.png"
    with pytest.raises(InputError, match=rf"{re.escape(str(path))} has no column '{required}'"):
        draw(name, inputs, [output])
    assert not output.exists()


@pytest.mark.parametrize("name", TABLES)
def test_table_without_rows_is_refused(results, name):
    results = results()
    inputs = results.inputs(name)
    results.table(TABLES[name], results.frame(TABLES[name]).head(0))
    with pytest.raises(InputError, match="has no rows"):
        draw(name, inputs, [])


@pytest.mark.parametrize("name", ARRAYS)
def test_array_file_without_identity_is_refused(results, name):
    results = results(seeds=[0])
    path = results.inputs(name)[0]
    write_tensors(path, read_tensors(path)[0], {"dataset": "digits"})
    with pytest.raises(InputError, match=f"{path.name} does not say the representation"):
        draw(name, [path], [])


def test_missing_array_is_named(results):
    path = results(seeds=[0]).arrays("sheet")[0]
    with pytest.raises(InputError, match="has no array 'paths'"):
        draw("paths", [path], [])


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_of_nothing_is_refused(name):
    with pytest.raises(InputError, match=r"at least one model|not from 0 tables: give .*\.csv"):
        draw(name, [], [])


@pytest.mark.parametrize("name", ["runtime", "pareto", "geodesics", "construction"])
def test_too_few_files_are_refused(results, name):
    inputs = results(seeds=[0]).inputs(name)
    fewer = inputs[:1] if name == "pareto" else inputs[:-1]
    with pytest.raises(InputError, match=r"not from [01] tables: give|no gallery of tie:"):
        draw(name, fewer, [])


def test_a_name_without_format_is_refused_before_anything_is_drawn(results):
    results = results(variants=("complex",), seeds=[0])
    outputs = [results.root / name for name in ("a.png", "b")]
    with pytest.raises(InputError, match=r"b is no name of a figure: let it end in"):
        draw("training", results.inputs("training"), outputs)
    assert not outputs[0].exists()


def test_a_variant_of_ones_own_comes_last_by_its_name(results):
    results = results(variants=("complex", "kahler"))
    frame = results.frame("paths").replace({"variant": {"complex": "my_own"}})
    figure = laid_out("smoothness", [results.table("paths", frame)])
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["Kähler", "my own"]


def test_galleries_of_different_images_are_refused(results):
    paths = results(seeds=[0]).arrays("gallery")
    path = paths[1]
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors | {"originals": 1 - tensors["originals"]}, metadata)
    with pytest.raises(InputError, match="different test images"):
        draw("reconstructions", paths, [])


def test_importing_the_package_does_not_load_matplotlib():
    code = "import sys, kahlervae.figures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
