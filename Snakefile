# The workflow lives in workflow/; this file lets `snakemake` find it from the top level.
include: "workflow/Snakefile"


# Snakemake takes the default target from this file only, not from what it includes.
workflow.default_target = "all"
