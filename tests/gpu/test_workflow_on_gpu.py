"""The whole workflow with ``device: cuda``, and its models scored on either device."""

import pandas as pd
import pytest
import torch
from workflow.conftest import TINY, Project

pytestmark = pytest.mark.gpu

CUDA = (*TINY, "--config", "device=cuda")
MODELS = [f"results/digits/pixels/{variant}/seed=0" for variant in ("complex", "kahler")]


@pytest.fixture(scope="module")
def finished_on_gpu(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("gpu"))
    run = project.snakemake("--cores", "all", *CUDA)
    assert run.returncode == 0, run.stdout
    return project


def read(project: Project, name: str) -> pd.DataFrame:
    return pd.read_csv(project.folder / name)


def test_a_second_run_has_nothing_to_do(finished_on_gpu):
    assert not finished_on_gpu.plan(*CUDA)
    measured = read(finished_on_gpu, "results/tables/cost.csv")
    assert set(measured["device"]) == {torch.cuda.get_device_name()}


def test_identities_hold(finished_on_gpu):
    identities = read(finished_on_gpu, "results/tables/identities.csv")
    exact = identities.query("0 < tolerance <= 1e-8")
    assert {"kl_hessian", "total_covariance", "closedness"} <= set(exact["identity_name"])
    assert (exact["value"] <= exact["tolerance"]).all(), exact
    claims = read(finished_on_gpu, "results/claims.csv")
    held = claims.query("metric == 'largest relative error'")
    assert len(held)
    assert set(held["verdict"]) == {"supported"}


def test_models_and_samples_of_the_gpu_are_scored_alike_on_the_cpu(finished_on_gpu):
    tables = [f"{model}/{name}.csv" for model in MODELS for name in ("samples", "paths")]
    tables += [f"{model}/reconstruction.csv" for model in MODELS]
    on_gpu = {table: read(finished_on_gpu, table) for table in tables}
    # Dates alone decide, or another device would make everything again.
    run = finished_on_gpu.snakemake(
        *("--cores", "all", *TINY, "--rerun-triggers", "mtime", "--printshellcmds"),
        *("--forcerun", "score", "--", *tables),
    )
    assert run.returncode == 0, run.stdout
    assert run.stdout.count("kahlervae score --device cpu") == len(MODELS)
    assert "kahlervae train" not in run.stdout
    for table, expected in on_gpu.items():
        found = read(finished_on_gpu, table)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-4, atol=1e-6)
