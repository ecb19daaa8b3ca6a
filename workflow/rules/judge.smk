rule sweep:
    """Scores of one setting on validation data."""
    input:
        data="<results>/{dataset}/data.safetensors",
        model="<results>/{dataset}/{representation}/sweep/{setting}/model.safetensors",
        oracles=oracles,
        code=code("sweep"),
    output:
        "<results>/{dataset}/{representation}/sweep/{setting}/scores.csv",
    log:
        "<logs>/sweep/{dataset}/{representation}/{setting}.log",
    benchmark:
        "<benchmarks>/sweep/{dataset}/{representation}/{setting}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=sweep_score_settings,
        oracles=oracle_options,
    shell:
        "kahlervae sweep --data {input.data:q} --model {input.model:q} {params.oracles:q}"
        " --settings {params.settings:q} --out {output:q} > {log:q} 2>&1"


rule choose:
    """Of every variant that is swept the setting that its rule chooses."""
    input:
        sweep="<results>/tables/sweep.csv",
        code=code("choose"),
    output:
        "<results>/tables/strengths.csv",
    log:
        "<logs>/choose.log",
    benchmark:
        "<benchmarks>/choose.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5,
    params:
        settings=compact(config["sweep"]["rules"]),
    shell:
        "kahlervae choose --sweep {input.sweep:q} --settings {params.settings:q}"
        " --out {output:q} > {log:q} 2>&1"


rule pareto:
    """Samplers against the simple ways at equal variation; settings chosen on validation rows."""
    input:
        samples="<results>/tables/samples.csv",
        diagnostics="<results>/tables/sampler_diagnostics.csv",
        code=code("pareto"),
    output:
        pareto="<results>/tables/pareto.csv",
        hypervolume="<results>/tables/hypervolume.csv",
        chosen="<results>/tables/chosen.csv",
    log:
        "<logs>/pareto.log",
    benchmark:
        "<benchmarks>/pareto.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=5,
    params:
        settings=compact(config["claims"]["choice"]),
    shell:
        "kahlervae pareto --samples {input.samples:q} --diagnostics {input.diagnostics:q}"
        " --settings {params.settings:q} --out {output.pareto:q}"
        " --hypervolume {output.hypervolume:q} --chosen {output.chosen:q} > {log:q} 2>&1"


# The tables that claims are read from; a run may lack some, and claims that need them get no row.
CLAIMED = [
    f"<results>/tables/{table}.csv"
    for table in needed(CLAIMS)
    if table in (*GATHERED, "pareto", "chosen")
]


rule claims:
    """Estimates, intervals over seeds and verdicts."""
    input:
        tables=CLAIMED,
        claims=CLAIMS_FILE,
        code=code("claims"),
    output:
        "<results>/claims.csv",
    log:
        "<logs>/claims.log",
    benchmark:
        "<benchmarks>/claims.tsv"
    group:
        "gather"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        settings=compact(
            {k: v for k, v in config["claims"].items() if k not in ("file", "choice")}
        ),
    shell:
        "kahlervae claims {input.tables:q} --claims {input.claims:q} --settings {params.settings:q}"
        " --out {output:q} > {log:q} 2>&1"
