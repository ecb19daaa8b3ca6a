rule example:
    """A small set of arrays to try the workflow on."""
    input:
        code=code("example"),
    output:
        "<results>/examples/{example}.npz",
    log:
        "<logs>/example/{example}.log",
    benchmark:
        "<benchmarks>/example/{example}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=5,
    shell:
        "kahlervae example {wildcards.example} --out {output:q} > {log:q} 2>&1"


rule data:
    """The samples of a data set, split by seed, and a record of what they are."""
    input:
        examples=lambda wildcards: examples(SOURCES[wildcards.dataset]),
        files=local_data,
        code=code("data"),
    output:
        data="<results>/{dataset}/data.safetensors",
        record="<results>/{dataset}/data.json",
    log:
        "<logs>/data/{dataset}.log",
    benchmark:
        "<benchmarks>/data/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=5,
    params:
        settings=data_settings,
    shell:
        "kahlervae data --dataset {wildcards.dataset} --settings {params.settings:q}"
        " --out {output.data:q} --record {output.record:q} > {log:q} 2>&1"
