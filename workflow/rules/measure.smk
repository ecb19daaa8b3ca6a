rule cost:
    """Time of one exact Fisher metric and of one metric of a potential."""
    input:
        code=code("cost"),
    output:
        "<results>/tables/cost.csv",
    log:
        "<logs>/cost.log",
    benchmark:
        "<benchmarks>/cost.tsv"
    conda:
        "../../environment.yml"
    # More than there are: cut down to all cores, so that nothing runs beside it and disturbs it.
    threads: 1024
    resources:
        mem_mb=2000,
        runtime=15,
        gpu=GPUS,
    params:
        device=config["device"],
        settings=compact(
            config["cost"]
            | {"candidates": config["geometry"]["potential"]["candidates"]}
        ),
    shell:
        "kahlervae cost --device {params.device} --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


rule step_cost:
    """Time of a training step with and without regulariser."""
    input:
        code=code("steps"),
    output:
        "<results>/tables/steps.csv",
    log:
        "<logs>/step_cost.log",
    benchmark:
        "<benchmarks>/step_cost.tsv"
    conda:
        "../../environment.yml"
    # More than there are: cut down to all cores, so that nothing runs beside it and disturbs it.
    threads: 1024
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=compact(config["step_cost"]),
    shell:
        "kahlervae steps --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


# The models on which the time of samplers is measured: an ordinary one, and one that brings its potential.
TIMED = [model for model in METRIC if model["variant"] in ("complex", "pluriharmonic")]


rule sampler_cost:
    """Effective draws per second of volume sampling, by potential and by the exact metric."""
    input:
        models=of_models("model.safetensors", TIMED, config["seeds"][:1]),
        potentials=of_models("potential.safetensors", TIMED, config["seeds"][:1]),
        code=code("sampler_cost"),
    output:
        "<results>/tables/sampler_cost.csv",
    log:
        "<logs>/sampler_cost.log",
    benchmark:
        "<benchmarks>/sampler_cost.tsv"
    conda:
        "../../environment.yml"
    # More than there are: cut down to all cores, so that nothing runs beside it and disturbs it.
    threads: 1024
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        settings=compact(
            {k: v for k, v in config["sampling"]["volume"].items() if k != "targets"}
            | {"epsilon": config["geometry"]["epsilon"]}
        ),
        models=lambda wildcards, input: [f"--model={path}" for path in input.models],
        potentials=lambda wildcards, input: [
            f"--potential={path}" for path in input.potentials
        ],
    shell:
        # On one thread, as the samplers run.
        "OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 kahlervae sampler-cost {params.models:q}"
        " {params.potentials:q} --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


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
