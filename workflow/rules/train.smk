# One rule for every group of seeds: `train` for the first seeds of all, `train_0` for seed 0 alone.
for number, (seeds, folders) in enumerate(seeds_at_once().items()):
    of = "<results>/{{dataset}}/{{representation}}/{{variant}}/seed={}"

    rule:
        """One variant with several seeds, together."""
        name:
            f"train_{'_'.join(map(str, seeds))}" if number else "train"
        input:
            data="<results>/{dataset}/data.safetensors",
            code=code("train"),
        output:
            models=[f"{of.format(seed)}/model.safetensors" for seed in seeds],
            histories=[f"{of.format(seed)}/history.csv" for seed in seeds],
        log:
            f"<logs>/train/{{dataset}}/{{representation}}/{{variant}}/seed={seeds[0]}.log",
        benchmark:
            f"<benchmarks>/train/{{dataset}}/{{representation}}/{{variant}}/seed={seeds[0]}.tsv"
        wildcard_constraints:
            dataset=f"(?={'|'.join(f'{folder}/' for folder in folders) or '(?!)'})[^/]+",
        conda:
            "../../environment.yml"
        threads: 1
        resources:
            mem_mb=1500,
            runtime=60 * len(seeds),
            gpu=GPUS,
        params:
            device=config["device"],
            variant=lambda wildcards: wildcards.variant,
            settings=train_settings,
            seeds=seed_options,
            files=model_options,
            # From which an interrupted training goes on. It is no output, since Snakemake deletes
            # the outputs of a job that fails; the command removes it when the models are written.
            checkpoint=lambda wildcards, output: str(
                Path(output.models[0]).with_name("checkpoint.safetensors")
            ),
        shell:
            "kahlervae train --device {params.device} --data {input.data:q} --dataset {wildcards.dataset}"
            " --representation {wildcards.representation} --variant {params.variant}"
            " {params.seeds} {params.files:q} --settings {params.settings:q} --checkpoint {params.checkpoint:q}"
            " > {log:q} 2>&1"


use rule train as train_sweep with:
    output:
        models=[
            "<results>/{dataset}/{representation}/sweep/{setting}/model.safetensors"
        ],
        histories=["<results>/{dataset}/{representation}/sweep/{setting}/history.csv"],
    log:
        "<logs>/train_sweep/{dataset}/{representation}/{setting}.log",
    benchmark:
        "<benchmarks>/train_sweep/{dataset}/{representation}/{setting}.tsv"
    wildcard_constraints:
        dataset="|".join(config["datasets"]),
    params:
        device=config["device"],
        variant=lambda wildcards: SWEEPS[wildcards.dataset][wildcards.setting].variant,
        settings=sweep_train_settings,
        seeds=f"--seed={config['sweep']['seed']}",
        files=model_options,
        checkpoint=lambda wildcards, output: str(
            Path(output.models[0]).with_name("checkpoint.safetensors")
        ),
