# What can be asked for by name: everything, or one stage. The report itself is made afterwards by
# `snakemake --report results/report.html` from these files.


rule datasets:
    input:
        expand("<results>/{dataset}/data.safetensors", dataset=config["datasets"]),


rule models:
    input:
        of_models("model.safetensors"),


rule geometry:
    input:
        expand(
            "<results>/tables/{table}.csv",
            table=["agreement", "identities", "probes", "cost"],
        ),
        of_models("slice.safetensors", COMPLEX, FIRST),


rule samples:
    input:
        of_models("samples.safetensors"),


rule tables:
    input:
        expand("<results>/tables/{table}.csv", table=[*GATHERED, "pareto", "cost"]),


rule figures:
    input:
        expand("<figures>/{figure}.{suffix}", figure=FIGURES, suffix=["png", "pdf"]),
        PAGES,


rule all:
    input:
        rules.tables.input,
        rules.claims.output,
        rules.figures.input,
