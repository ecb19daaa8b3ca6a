rule sample:
    """Latents of every sampler; those by volume need the potential, which `real` lacks."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        potential=branch(
            lambda wildcards: "volume" in samplers_of(wildcards),
            then="<model>/potential.safetensors",
        ),
        code=code("sample"),
    output:
        samples="<model>/samples.safetensors",
        diagnostics="<model>/sampler_diagnostics.csv",
        speed="<model>/sampler_speed.csv",
    log:
        "<logs>/sample/<each>.log",
    benchmark:
        "<benchmarks>/sample/<each>.tsv"
    group:
        "model"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=30,
        gpu=GPUS,
    params:
        device=config["device"],
        settings=sample_settings,
        potential=lambda wildcards, input: (
            ["--potential", input.potential] if input.potential else []
        ),
    shell:
        "kahlervae sample --device {params.device} --data {input.data:q} --model {input.model:q} {params.potential:q}"
        " --settings {params.settings:q} --out {output.samples:q}"
        " --diagnostics {output.diagnostics:q} --speed {output.speed:q} > {log:q} 2>&1"


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
