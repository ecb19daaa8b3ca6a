rule oracle:
    """A classifier in whose features samples are judged, and the scores of real test samples."""
    input:
        data="<results>/{dataset}/data.safetensors",
        code=code("oracle"),
    output:
        oracle="<results>/{dataset}/oracles/{architecture}.safetensors",
        record="<results>/{dataset}/oracles/{architecture}.csv",
    log:
        "<logs>/oracle/{dataset}/{architecture}.log",
    benchmark:
        "<benchmarks>/oracle/{dataset}/{architecture}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=15,
        gpu=GPUS,
    params:
        device=config["device"],
        settings=lambda wildcards: compact(
            pick(config["datasets"][wildcards.dataset], "oracle")
            | {"evaluation": OUTLIERS}
        ),
    shell:
        "kahlervae oracle --device {params.device} --dataset {wildcards.dataset} --architecture {wildcards.architecture}"
        " --data {input.data:q} --settings {params.settings:q} --out {output.oracle:q}"
        " --record {output.record:q} > {log:q} 2>&1"


rule score:
    """Scores of the samples, of decoded latent lines and of reconstructions, with pictures.

    One rule, since they read the same files through the same oracles: to start and to load them
    takes longer than to score lines and reconstructions.
    """
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        samples="<model>/samples.safetensors",
        oracles=oracles,
        code=code("score"),
    output:
        scores="<model>/samples.csv",
        agreement="<model>/score_agreement.csv",
        sheet="<model>/sheet.safetensors",
        flagged="<model>/flagged.safetensors",
        paths="<model>/paths.csv",
        reconstruction="<model>/reconstruction.csv",
        flatness="<model>/flatness.csv",
        gallery="<model>/gallery.safetensors",
    log:
        "<logs>/score/<each>.log",
    benchmark:
        "<benchmarks>/score/<each>.tsv"
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
            OUTLIERS | pick(config["evaluation"], "paths", "flagged") | DRAWS
        ),
        oracles=oracle_options,
    shell:
        "kahlervae score --device {params.device} --data {input.data:q} --model {input.model:q} --samples {input.samples:q}"
        " {params.oracles:q} --settings {params.settings:q}"
        " --out {output.scores:q} --agreement {output.agreement:q} --sheet {output.sheet:q}"
        " --flagged {output.flagged:q} --paths {output.paths:q}"
        " --reconstruction {output.reconstruction:q} --flatness {output.flatness:q}"
        " --gallery {output.gallery:q} > {log:q} 2>&1"


rule geodesics:
    """Curves between test images along the metric of a potential, and straight lines."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        potential="<model>/potential.safetensors",
        oracles=oracles,
        code=code("geodesics"),
    output:
        scores="<model>/geodesics.csv",
        curves="<model>/geodesics.safetensors",
    log:
        "<logs>/geodesics/<each>.log",
    benchmark:
        "<benchmarks>/geodesics/<each>.tsv"
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
            config["evaluation"]["geodesics"]
            | {"epsilon": config["geometry"]["epsilon"]}
            | OUTLIERS
        ),
        oracles=oracle_options,
    shell:
        "kahlervae geodesics --device {params.device} --data {input.data:q} --model {input.model:q} --potential {input.potential:q}"
        " {params.oracles:q} --settings {params.settings:q}"
        " --out {output.scores:q} --curves {output.curves:q} > {log:q} 2>&1"


rule distances:
    """Distances by each metric: against exact ones, across seeds, and as neighbours with few labels."""
    input:
        data="<results>/{dataset}/data.safetensors",
        models=of_all_seeds("model.safetensors"),
        potentials=of_all_seeds("potential.safetensors"),
        code=code("distances"),
    output:
        "<results>/{dataset}/{representation}/{variant}/distances.csv",
    log:
        "<logs>/distances/{dataset}/{representation}/{variant}.log",
    benchmark:
        "<benchmarks>/distances/{dataset}/{representation}/{variant}.tsv"
    wildcard_constraints:
        variant="|".join(COMPLEX),
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=compact(config["evaluation"]["distances"]),
        models=lambda wildcards, input: [f"--model={path}" for path in input.models],
        potentials=lambda wildcards, input: [
            f"--potential={path}" for path in input.potentials
        ],
    shell:
        "kahlervae distances --data {input.data:q} {params.models:q}"
        " {params.potentials:q} --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


rule states:
    """Lengths, distances, volumes and curvature of a model of states, against the known ones."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        potential="<model>/potential.safetensors",
        code=code("states"),
    output:
        "<model>/states.csv",
    log:
        "<logs>/states/<each>.log",
    benchmark:
        "<benchmarks>/states/<each>.tsv"
    wildcard_constraints:
        variant="|".join(COMPLEX),
    group:
        "model"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        settings=lambda wildcards: compact(
            config["evaluation"]["states"]
            | {"noise": SOURCES[wildcards.dataset]["noise"]}
        ),
    shell:
        "kahlervae states --data {input.data:q} --model {input.model:q} --potential {input.potential:q}"
        " --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


rule atlas:
    """Geometry, decoded images and samples with their outliers on a plane of the latent space."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        potential="<model>/potential.safetensors",
        samples="<model>/samples.safetensors",
        oracles=oracles,
        code=code("atlas"),
    output:
        "<model>/atlas.safetensors",
    log:
        "<logs>/atlas/<each>.log",
    benchmark:
        "<benchmarks>/atlas/<each>.tsv"
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
            config["geometry"]["atlas"]
            | {
                "extent": config["geometry"]["slice"]["extent"],
                "epsilon": config["geometry"]["epsilon"],
            }
            | OUTLIERS
            | DRAWS
        ),
        oracles=oracle_options,
    shell:
        "kahlervae atlas --device {params.device} --data {input.data:q} --model {input.model:q} --potential {input.potential:q}"
        " --samples {input.samples:q} {params.oracles:q} --settings {params.settings:q}"
        " --out {output:q} > {log:q} 2>&1"


rule sounds:
    """What a model of recordings says, drawn from its likelihood."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<model>/model.safetensors",
        samples="<model>/samples.safetensors",
        code=code("sounds"),
    output:
        "<model>/sounds.safetensors",
    log:
        "<logs>/sounds/<each>.log",
    benchmark:
        "<benchmarks>/sounds/<each>.tsv"
    group:
        "model"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        settings=compact(DRAWS),
    shell:
        "kahlervae sounds --data {input.data:q} --model {input.model:q} --samples {input.samples:q}"
        " --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


# Table: the tables that are put together.
GATHERED = {
    "history": of_models("history.csv"),
    "reconstruction": of_models("reconstruction.csv"),
    "flatness": of_models("flatness.csv"),
    "potentials": of_models("potentials.csv", METRIC),
    "agreement": of_models("agreement.csv", METRIC),
    "identities": of_models("identities.csv", METRIC),
    "probes": of_models("probes.csv", METRIC),
    "sampler_diagnostics": of_models("sampler_diagnostics.csv"),
    "sampler_speed": of_models("sampler_speed.csv"),
    "mixtures": of_models("mixtures.csv"),
    "samples": of_models("samples.csv"),
    "score_agreement": of_models("score_agreement.csv", JUDGED),
    "paths": of_models("paths.csv"),
    "geodesics": of_models("geodesics.csv", METRIC),
    "distances": list(
        dict.fromkeys(
            "<results>/{dataset}/{representation}/{variant}/distances.csv".format(
                **model
            )
            for model in METRIC
        )
    ),
    "states": of_models("states.csv", CONTROLS),
    "reference": of_oracles(".csv"),
} | ({"sweep": SWEPT} if SWEPT else {})
GATHERED = {table: parts for table, parts in GATHERED.items() if parts}

for table, parts in GATHERED.items():

    rule:
        name:
            f"table_{table}"
        input:
            tables=parts,
            code=code("table"),
        output:
            f"<results>/tables/{table}.csv",
        log:
            f"<logs>/table/{table}.log",
        benchmark:
            f"<benchmarks>/table/{table}.tsv"
        group:
            "gather"
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=5,
        shell:
            "kahlervae table {input.tables:q} --out {output:q} > {log:q} 2>&1"
