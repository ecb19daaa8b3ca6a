# What can be asked for by name: everything, or one stage. The report itself is made afterwards by
# `snakemake --report results/report.html` from these files.


rule datasets:
    input:
        expand("<results>/{dataset}/data.safetensors", dataset=config["datasets"]),


rule models:
    input:
        of_models("model.safetensors", TRAINED),


rule geometry:
    input:
        expand(
            "<results>/tables/{table}.csv",
            table=["potentials", "agreement", "identities", "probes", "cost"],
        ),
        of_models("slice.safetensors", METRIC, FIRST),


rule samples:
    input:
        of_models("samples.safetensors"),


rule kept:
    """What `make archive` packs: all that comes of training or timing."""
    input:
        rules.models.input,
        rules.samples.input,
        of_models("potential.safetensors", METRIC + CONTROLS),
        of_oracles(".safetensors"),
        expand("<results>/tables/{table}.csv", table=["cost", "steps"]),


rule tables:
    input:
        expand(
            "<results>/tables/{table}.csv",
            table=[
                *GATHERED,
                *STRENGTHS,
                "pareto",
                "hypervolume",
                "chosen",
                "cost",
                "steps",
            ],
        ),


rule figures:
    input:
        [
            list(drawings(figure, FIGURES[figure][2], suffix).values())
            for figure in FIGURES
            for suffix in ("png", "pdf")
        ],
        PAGES,


rule pages:
    input:
        rules.browse.output,
        rules.captions.output,
        rules.summary.output,


rule provenance:
    """What everything was made with, and the checksums of what was made.

    The revision is read when the rule runs: as a parameter it would be a reason to run again.
    """
    input:
        files=[
            *rules.tables.input,
            *rules.claims.output,
            *rules.figures.input,
            *rules.models.input,
        ],
        requirements=shipped("requirements.txt"),
        code=code("provenance"),
    output:
        "<results>/provenance.json",
    log:
        "<logs>/provenance.log",
    benchmark:
        "<benchmarks>/provenance.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        # Where a run reads and writes changes no number.
        settings=compact(
            {
                k: v
                for k, v in config.items()
                if k not in ("results", "figures", "data")
            }
        ),
    shell:
        "kahlervae provenance {input.files:q} --requirements {input.requirements:q}"
        " --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"
