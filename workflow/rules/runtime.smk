def benchmarks():
    """Benchmark files of all jobs that the rules and the configuration admit.

    Some of them do not exist, for not every rule is applied to every model. They are no inputs of
    the rule that reads them: Snakemake would make again what was made long ago if its benchmark
    file were missing.
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


rule runtime:
    """Where the time of the run went, and how far the cores were used."""
    input:
        # Everything else, so that this comes last.
        rules.tables.input,
        rules.claims.output,
        [file for file in rules.figures.input if Path(file).stem != "runtime"],
        code=code("runtime"),
    output:
        runtime="<results>/tables/runtime.csv",
        efficiency="<results>/tables/efficiency.csv",
    log:
        "<logs>/runtime.log",
    benchmark:
        "<benchmarks>/runtime.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        jobs=lambda wildcards: benchmarks(),
        folder=config["results"],
    shell:
        "kahlervae runtime {params.jobs:q} --benchmarks {params.folder:q}/benchmarks"
        " --logs {params.folder:q}/logs"
        " --out {output.runtime:q} --efficiency {output.efficiency:q} > {log:q} 2>&1"
