rule sample:
    """Latents of every sampler; those by volume need the potential, which `real` lacks."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        potential=branch(
            needs_potential,
            then="<model>/potential.safetensors",
        ),
        code=code("sample"),
    output:
        samples="<model>/samples.safetensors",
        diagnostics="<model>/sampler_diagnostics.csv",
        speed="<model>/sampler_speed.csv",
        mixtures="<model>/mixtures.csv",
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
        " --diagnostics {output.diagnostics:q} --speed {output.speed:q}"
        " --mixtures {output.mixtures:q} > {log:q} 2>&1"
