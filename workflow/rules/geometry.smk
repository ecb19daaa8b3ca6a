rule potential:
    """The potentials of a decoder, and how the class of `fitted` was chosen."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        code=code("potential"),
    output:
        potential="<model>/potential.safetensors",
        choice="<model>/potentials.csv",
    log:
        "<logs>/potential/<each>.log",
    benchmark:
        "<benchmarks>/potential/<each>.tsv"
    wildcard_constraints:
        variant="|".join(COMPLEX),
    group:
        "model"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=GPUS,
    params:
        device=config["device"],
        settings=compact(config["geometry"]["potential"]),
    shell:
        "kahlervae potential --device {params.device} --data {input.data:q} --model {input.model:q}"
        " --settings {params.settings:q} --out {output.potential:q} --choice {output.choice:q}"
        " > {log:q} 2>&1"


rule agreement:
    """How Kähler the decoder is, and how close the potentials come to its Fisher metric."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        potential="<model>/potential.safetensors",
        code=code("agreement"),
    output:
        agreement="<model>/agreement.csv",
        identities="<model>/identities.csv",
        probes="<model>/probes.csv",
    log:
        "<logs>/agreement/<each>.log",
    benchmark:
        "<benchmarks>/agreement/<each>.tsv"
    wildcard_constraints:
        variant="|".join(COMPLEX),
    group:
        "model"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
        gpu=GPUS,
    params:
        device=config["device"],
        settings=compact(
            {key: config["geometry"][key] for key in ("probes", "epsilon", "control")}
        ),
    shell:
        "kahlervae agreement --device {params.device} --data {input.data:q} --model {input.model:q}"
        " --potential {input.potential:q} --settings {params.settings:q}"
        " --out {output.agreement:q} --identities {output.identities:q} --probes {output.probes:q}"
        " > {log:q} 2>&1"


rule slice:
    """Metric and potentials on a plane of the latent space, with decoded images."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        potential="<model>/potential.safetensors",
        code=code("latent_slice"),
    output:
        "<model>/slice.safetensors",
    log:
        "<logs>/slice/<each>.log",
    benchmark:
        "<benchmarks>/slice/<each>.tsv"
    wildcard_constraints:
        variant="|".join(COMPLEX),
    group:
        "model"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=GPUS,
    params:
        device=config["device"],
        settings=compact(
            config["geometry"]["slice"] | {"epsilon": config["geometry"]["epsilon"]}
        ),
    shell:
        "kahlervae slice --device {params.device} --data {input.data:q} --model {input.model:q}"
        " --potential {input.potential:q} --settings {params.settings:q} --out {output:q}"
        " > {log:q} 2>&1"
