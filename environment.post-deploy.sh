#!/usr/bin/env bash
# Run by `snakemake --sdm conda` after it has made the environment: adds the package itself.
set -euo pipefail
pip install --no-deps --editable .
