rule train:
    """One variant with one seed.

    The checkpoint from which an interrupted training goes on is not an output, since Snakemake
    deletes the outputs of a job that fails; the command removes it when the model is written.
    """
    input:
        data="<results>/{dataset}/data.safetensors",
        code=code("train"),
    output:
        model="<model>/model.safetensors",
        history="<model>/history.csv",
    log:
        "<logs>/train/<each>.log",
    benchmark:
        "<benchmarks>/train/<each>.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=60,
        gpu=GPUS,
    params:
        device=config["device"],
        variant=lambda wildcards: wildcards.variant,
        seed=lambda wildcards: wildcards.seed,
        settings=train_settings,
        checkpoint=lambda wildcards, output: str(
            Path(output.model).with_name("checkpoint.safetensors")
        ),
    shell:
        "kahlervae train --device {params.device} --data {input.data:q} --dataset {wildcards.dataset}"
        " --representation {wildcards.representation} --variant {params.variant}"
        " --seed {params.seed} --settings {params.settings:q} --checkpoint {params.checkpoint:q}"
        " --out {output.model:q} --history {output.history:q} > {log:q} 2>&1"


use rule train as train_sweep with:
    output:
        model="<results>/{dataset}/{representation}/sweep/{setting}/model.safetensors",
        history="<results>/{dataset}/{representation}/sweep/{setting}/history.csv",
    log:
        "<logs>/train_sweep/{dataset}/{representation}/{setting}.log",
    benchmark:
        "<benchmarks>/train_sweep/{dataset}/{representation}/{setting}.tsv"
    params:
        device=config["device"],
        variant=lambda wildcards: SWEEPS[wildcards.dataset][wildcards.setting].variant,
        seed=config["sweep"]["seed"],
        settings=sweep_train_settings,
        checkpoint=lambda wildcards, output: str(
            Path(output.model).with_name("checkpoint.safetensors")
        ),
