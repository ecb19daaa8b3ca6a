# The modules that draw; the package loads each of them only when it is needed, by its name.
DRAWING = [
    f"kahlervae.figures.{file.stem}"
    for file in sorted((PACKAGES / "kahlervae/figures").glob("*.py"))
]
FIRST = config["seeds"][:1]

# Figure: (section of the report, the tables and arrays that it shows, the models in it). There is one
# for each data set in each representation of these models; one of everything where there are none.
# Pictures show the first seed. The report sorts its sections by name, hence the numbers. A result has
# a single label there: of a second one with two values the report makes a switch, and what is not
# there for both is an error.
FIGURES = {
    "training": ("1 Training", ["<results>/tables/history.csv"], MODELS),
    "reconstructions": (
        "1 Training",
        [
            *of_models("gallery.safetensors", seeds=FIRST),
            "<results>/tables/reconstruction.csv",
        ],
        MODELS,
    ),
    "latent_slice": (
        "2 Geometry",
        of_models("slice.safetensors", METRIC, FIRST),
        METRIC,
    ),
    "agreement": ("2 Geometry", ["<results>/tables/probes.csv"], METRIC),
    "agreement_summary": ("2 Geometry", ["<results>/tables/agreement.csv"], METRIC),
    "cost": ("2 Geometry", ["<results>/tables/cost.csv"], []),
    "tradeoff": ("2 Geometry", ["<results>/tables/cost.csv"], []),
    "sample_sheets": (
        "4 Sampling",
        of_models("sheet.safetensors", seeds=FIRST),
        MODELS,
    ),
    "flagged": (
        "4 Sampling",
        of_models("flagged.safetensors", JUDGED, FIRST),
        JUDGED,
    ),
    "paths": ("5 Evaluation", of_models("gallery.safetensors", seeds=FIRST), MODELS),
    "smoothness": ("5 Evaluation", ["<results>/tables/paths.csv"], MODELS),
    "geodesics": (
        "5 Evaluation",
        [
            *of_models("geodesics.safetensors", METRIC, FIRST),
            "<results>/tables/geodesics.csv",
        ],
        METRIC,
    ),
    "pareto": (
        "5 Evaluation",
        [
            f"<results>/tables/{table}.csv"
            for table in ("samples", "chosen", "reference")
        ],
        JUDGED,
    ),
    "claims": ("6 Claims", ["<results>/claims.csv"], []),
    "runtime": (
        "7 Run",
        ["<results>/tables/runtime.csv", "<results>/tables/efficiency.csv"],
        [],
    ),
}
# Figures that show nothing but what oracles tell.
if not JUDGED:
    del FIGURES["flagged"], FIGURES["pareto"]
if CONTROLS:
    FIGURES["states"] = ("2 Geometry", ["<results>/tables/states.csv"], CONTROLS)
CONSTRUCTED = [
    model for model in METRIC if model["variant"] in ("pluriharmonic", "unconstrained")
]
if CONSTRUCTED:
    FIGURES["construction"] = (
        "2 Geometry",
        [
            *of_models("slice.safetensors", CONSTRUCTED, FIRST),
            *of_models("gallery.safetensors", CONSTRUCTED, FIRST),
        ],
        CONSTRUCTED,
    )
if STRENGTHS:
    FIGURES["strengths"] = (
        "1 Training",
        ["<results>/tables/sweep.csv", "<results>/tables/strengths.csv"],
        [
            {"dataset": dataset, "representation": options["representations"][0]}
            for dataset, options in config["datasets"].items()
            if SWEEPS[dataset]
        ],
    )


for figure, (section, sources, models) in FIGURES.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            sources=sources,
            code=code("figure", *DRAWING),
        output:
            png=[
                report(
                    path,
                    caption=f"../report/figures/{figure}.rst",
                    category=section,
                    labels={"result": figure_label(figure, run)},
                )
                for run, path in drawings(figure, models, "png").items()
            ],
            pdf=list(drawings(figure, models, "pdf").values()),
        log:
            f"<logs>/figure/{figure}.log",
        benchmark:
            f"<benchmarks>/figure/{figure}.tsv"
        group:
            "gather"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1500,
            runtime=10,
        params:
            figure=figure,
            of=[f"--of={run}" for run in runs(models)],
            out=lambda wildcards, output: [f"--out={path}" for path in output],
            captions=f"{RESULTS}/captions",  # which the report puts beside it
        shell:
            "kahlervae figure {params.figure:q} {input.sources:q} {params.of:q} {params.out:q}"
            " > {log:q} 2>&1"


rule page:
    """The atlas of a model as an interactive page."""
    input:
        atlas=f"<results>/{{dataset}}/{{representation}}/{{variant}}/seed={FIRST[0]}/atlas.safetensors",
        code=code("page"),
    output:
        report(
            "<figures>/atlas/{dataset}/{representation}/{variant}.html",
            caption="../report/figures/atlas.rst",
            category="3 Atlas",
            labels={"result": "page: {variant} ({dataset}, {representation})"},
        ),
    log:
        "<logs>/page/{dataset}/{representation}/{variant}.log",
    benchmark:
        "<benchmarks>/page/{dataset}/{representation}/{variant}.tsv"
    wildcard_constraints:
        variant="|".join(COMPLEX),
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    shell:
        "kahlervae page {input.atlas:q} --out {output:q} > {log:q} 2>&1"


rule player:
    """The sounds of a model of recordings as a page."""
    input:
        sounds=f"<results>/{{dataset}}/stft/{{variant}}/seed={FIRST[0]}/sounds.safetensors",
        code=code("player"),
    output:
        report(
            "<figures>/player/{dataset}/{variant}.html",
            caption="../report/figures/player.rst",
            category="4 Sampling",
            labels={"result": "page: sounds of {variant} ({dataset})"},
        ),
    log:
        "<logs>/player/{dataset}/{variant}.log",
    benchmark:
        "<benchmarks>/player/{dataset}/{variant}.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        rate=lambda wildcards: SOURCES[wildcards.dataset]["rate"],
    shell:
        "kahlervae player {input.sounds:q} --rate {params.rate} --out {output:q} > {log:q} 2>&1"


# The pages of all models that have one.
PAGES = [
    "<figures>/atlas/{dataset}/{representation}/{variant}.html".format(**model)
    for model in METRIC
    if model["seed"] in FIRST
] + ["<figures>/player/{dataset}/{variant}.html".format(**model) for model in HEARD]


# Table: section of the report. Those with a row for every epoch, probe or comparison are left to the
# figures.
SHOWN = {
    "reconstruction": "1 Training",
    "steps": "1 Training",
    **dict.fromkeys(STRENGTHS, "1 Training"),
    "potentials": "2 Geometry",
    "agreement": "2 Geometry",
    "identities": "2 Geometry",
    "cost": "2 Geometry",
    **({"states": "2 Geometry"} if CONTROLS else {}),
    "sampler_diagnostics": "4 Sampling",
    "mixtures": "4 Sampling",
    "samples": "5 Evaluation",
    "score_agreement": "5 Evaluation",
    "paths": "5 Evaluation",
    "flatness": "5 Evaluation",
    "geodesics": "5 Evaluation",
    "distances": "5 Evaluation",
    "chosen": "5 Evaluation",
    "reference": "5 Evaluation",
    "claims": "6 Claims",
    "runtime": "7 Run",
    "efficiency": "7 Run",
}
if not JUDGED:
    for table in ("score_agreement", "chosen", "reference"):
        del SHOWN[table]


rule browse:
    """The tables as pages whose columns sort."""
    input:
        tables=[
            f"<results>/{'' if table == 'claims' else 'tables/'}{table}.csv"
            for table in SHOWN
        ],
        code=code("browse"),
    output:
        [
            report(
                f"<results>/pages/{table}.html",
                caption=f"../report/tables/{table}.rst",
                category=section,
                labels={"result": f"table: {table.replace('_', ' ')}"},
            )
            for table, section in SHOWN.items()
        ],
    log:
        "<logs>/browse.log",
    benchmark:
        "<benchmarks>/browse.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        out=lambda wildcards, output: [f"--out={path}" for path in output],
    shell:
        "kahlervae browse {input.tables:q} {params.out:q} > {log:q} 2>&1"


# The figures whose captions say what was measured; the captions include the files of this rule.
MEASURED = [
    "reconstructions",
    "latent_slice",
    "agreement",
    "agreement_summary",
    "cost",
    "sample_sheets",
    "smoothness",
    "geodesics",
    *(["states"] if CONTROLS else []),
    *(["pareto"] if JUDGED else []),
    "claims",
]


rule captions:
    """What was measured, in words."""
    input:
        tables=[
            f"<results>/tables/{table}.csv"
            for table in (
                "reconstruction",
                "agreement",
                "cost",
                "samples",
                "hypervolume",
                "paths",
                "geodesics",
                *(["states"] if CONTROLS else []),
            )
        ],
        claims="<results>/claims.csv",
        code=code("captions"),
    output:
        expand("<results>/captions/{figure}.rst", figure=MEASURED),
    log:
        "<logs>/captions.log",
    benchmark:
        "<benchmarks>/captions.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        tables=lambda wildcards, input: str(Path(input.tables[0]).parent),
        out=lambda wildcards, output: [f"--out={path}" for path in output],
    shell:
        "kahlervae captions --tables {params.tables:q} --claims {input.claims:q} {params.out:q}"
        " > {log:q} 2>&1"


# The figures of the summary: of the first data set, with labels if any has.
SUMMED = runs(JUDGED or MODELS)[:1]


rule summary:
    """The primary claims and the main figures on one page."""
    input:
        claims="<results>/claims.csv",
        figures=expand(
            "<figures>/{run}/{figure}.png",
            run=SUMMED,
            figure=[
                "smoothness",
                *(["pareto"] if JUDGED else []),
                "agreement_summary",
                "latent_slice",
            ],
        ),
        code=code("summary"),
    output:
        report(
            "<results>/summary.html",
            caption="../report/summary.rst",
            category="6 Claims",
            labels={"result": "page: summary"},
        ),
    log:
        "<logs>/summary.log",
    benchmark:
        "<benchmarks>/summary.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    shell:
        "kahlervae summary --claims {input.claims:q} {input.figures:q} --out {output:q} > {log:q} 2>&1"
