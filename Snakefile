# The workflow lives in workflow/; this file lets `snakemake` find it from the top level, and modules.
workflow.include("workflow/Snakefile", overwrite_default_target=True)
