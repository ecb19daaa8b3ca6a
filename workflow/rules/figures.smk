# The modules that draw; the package loads each of them only when it is needed, by its name.
DRAWING = [
    f"kahlervae.figures.{file.stem}"
    for file in sorted(Path("src/kahlervae/figures").glob("*.py"))
]
FIRST = config["seeds"][:1]

# Figure: (section of the report, the tables and arrays that it shows). Pictures show the first seed.
FIGURES = {
    "training": ("Training", ["<results>/tables/history.csv"]),
    "reconstructions": (
        "Training",
        [
            *of_models("gallery.safetensors", seeds=FIRST),
            "<results>/tables/reconstruction.csv",
        ],
    ),
    "latent_slice": ("Geometry", of_models("slice.safetensors", COMPLEX, FIRST)),
    "agreement": ("Geometry", ["<results>/tables/probes.csv"]),
    "agreement_summary": ("Geometry", ["<results>/tables/agreement.csv"]),
    "cost": ("Geometry", ["<results>/tables/cost.csv"]),
    "sample_sheets": ("Sampling", of_models("sheet.safetensors", seeds=FIRST)),
    "paths": ("Evaluation", of_models("gallery.safetensors", seeds=FIRST)),
    "smoothness": ("Evaluation", ["<results>/tables/paths.csv"]),
    "pareto": (
        "Evaluation",
        ["<results>/tables/samples.csv", "<results>/tables/reference.csv"],
    ),
    "claims": ("Claims", ["<results>/claims.csv"]),
    "runtime": (
        "Run",
        ["<results>/tables/runtime.csv", "<results>/tables/efficiency.csv"],
    ),
}

for figure, (section, sources) in FIGURES.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            sources=sources,
            code=code("figure", *DRAWING),
        output:
            png=report(
                f"<figures>/{figure}.png",
                caption=f"../report/figures/{figure}.rst",
                category=section,
                labels={"name": figure.replace("_", " "), "kind": "figure"},
            ),
            pdf=f"<figures>/{figure}.pdf",
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
        shell:
            "kahlervae figure {params.figure} {input.sources}"
            " --out {output.png} --out {output.pdf} > {log} 2>&1"


rule page:
    """The atlas of a model as an interactive page."""
    input:
        atlas=f"<results>/{{dataset}}/{{representation}}/{{variant}}/seed={FIRST[0]}/atlas.safetensors",
        code=code("page"),
    output:
        report(
            "<figures>/atlas/{dataset}/{representation}/{variant}.html",
            caption="../report/figures/atlas.rst",
            category="Atlas",
            labels={"name": "{variant} ({dataset}, {representation})", "kind": "page"},
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
        "kahlervae page {input.atlas} --out {output} > {log} 2>&1"


# The pages of all models that have one.
PAGES = [
    "<figures>/atlas/{dataset}/{representation}/{variant}.html".format(**model)
    for model in MODELS
    if model["variant"] in COMPLEX and model["seed"] in FIRST
]
