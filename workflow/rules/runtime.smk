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
        folder=lambda wildcards, output: str(Path(output.runtime).parents[1]),
    shell:
        "kahlervae runtime {params.jobs:q} --benchmarks {params.folder:q}/benchmarks"
        " --logs {params.folder:q}/logs"
        " --out {output.runtime:q} --efficiency {output.efficiency:q} > {log:q} 2>&1"
