"""Times of a run: gathered by rule, and compared with what the cores could have done."""

import math
import os

import numpy as np
import pandas as pd
import pytest

from kahlervae.errors import InputError
from kahlervae.measure.runtime import (
    busy_seconds,
    compare_rules,
    measure_efficiency,
    read_jobs,
    rule_table,
    summarise_rules,
)


def write_job(folder, name, end, wall, cpu=None, start=None, memory="100.5", sampled="NA"):
    """Benchmark file and log of a job as Snakemake and the command line write them."""
    benchmark, log = folder / "benchmarks" / f"{name}.tsv", folder / "logs" / f"{name}.log"
    for path in (benchmark, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    benchmark.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{wall}\t0:00:01\t{memory}\t{sampled}\n")
    os.utime(benchmark, (end, end))
    told = f"CPU seconds: {cpu:.2f}, of which to start: {start:.2f}\n" if cpu else ""
    log.write_text("epoch 1\n" + told)
    return benchmark


@pytest.fixture
def jobs(tmp_path):
    paths = [
        write_job(tmp_path, "train/digits/seed=0", 110.0, 10.0, 8.0, 2.0),
        write_job(tmp_path, "train/digits/seed=1", 120.0, 20.0, 16.0, 2.0, memory="200"),
        write_job(tmp_path, "claims", 221.0, 1.0, 1.0, 0.5, memory="-"),
        tmp_path / "benchmarks/potential/none.tsv",
    ]
    return read_jobs(paths, tmp_path / "benchmarks", tmp_path / "logs")


def test_rules_are_summed(jobs):
    train, claims = summarise_rules(jobs).to_dict("records")
    assert train == {
        "rule": "train",
        "jobs": 2,
        "wall_seconds_total": 30,
        "wall_seconds_median": 15,
        "wall_seconds_max": 20,
        "cpu_seconds": 24,
        "start_up_share": pytest.approx(4 / 24),
        "peak_memory_mb": 200,
    }
    assert (claims["rule"], claims["start_up_share"]) == ("claims", 0.5)
    assert math.isnan(claims["peak_memory_mb"])


def test_cores_are_compared_with_the_time_in_which_jobs_ran(jobs):
    (row,) = measure_efficiency(jobs, cores=2, calibration=1.5).to_dict("records")
    assert row["busy_seconds"] == pytest.approx(21)  # 100 to 120 and 220 to 221
    assert row["occupancy"] == pytest.approx(31 / 42)
    assert row["efficiency"] == pytest.approx(25 / 42)
    assert row["start_up_share"] == pytest.approx(4.5 / 25)
    assert row["calibration_seconds"] == 1.5


def test_a_job_that_tells_nothing_makes_its_rule_unknown(tmp_path):
    paths = [
        write_job(tmp_path, "data/a", 10.0, 1.0, 1.0, 0.5),
        write_job(tmp_path, "data/b", 10.0, 1.0),
    ]
    table = summarise_rules(read_jobs(paths, tmp_path / "benchmarks", tmp_path / "logs"))
    assert table["wall_seconds_total"].tolist() == [2]
    assert math.isnan(table["cpu_seconds"].item())
    assert table["start_up_share"].item() == 0.5  # of the other job


def test_without_its_log_a_job_took_what_snakemake_sampled(tmp_path):
    paths = [
        write_job(tmp_path, "data/a", 10.0, 1.0, 1.0, 0.5, sampled="0.8"),
        write_job(tmp_path, "data/b", 10.0, 2.0, sampled="1.5"),
    ]
    (tmp_path / "logs/data/b.log").unlink()
    table = summarise_rules(read_jobs(paths, tmp_path / "benchmarks", tmp_path / "logs"))
    assert table["cpu_seconds"].tolist() == [2.5]
    assert table["start_up_share"].tolist() == [0.5]


def test_files_that_were_touched_do_not_make_a_run_faster_than_its_cores(tmp_path):
    paths = [write_job(tmp_path, f"data/{k}", 100.0, 10.0, 8.0, 1.0) for k in range(6)]
    jobs = read_jobs(paths, tmp_path / "benchmarks", tmp_path / "logs")
    (row,) = measure_efficiency(jobs, cores=2, calibration=1.0).to_dict("records")
    assert (row["busy_seconds"], row["occupancy"], row["efficiency"]) == (30, 1, 0.8)


def test_a_job_lies_in_the_folder_of_all(tmp_path):
    job = write_job(tmp_path, "data/a", 10.0, 1.0)
    with pytest.raises(InputError, match=r"a\.tsv does not lie in .*logs: name the folder"):
        read_jobs([job], tmp_path / "logs", tmp_path / "logs")


def test_a_folder_is_no_job(tmp_path):
    with pytest.raises(InputError, match="is not a benchmark file"):
        read_jobs([tmp_path], tmp_path.parent, tmp_path)


def test_busy_seconds_is_the_measure_of_the_union():
    random = np.random.default_rng(0)
    starts = random.integers(0, 300, 40)
    ends = starts + random.integers(1, 10, 40)
    seconds = {s for a, b in zip(starts, ends, strict=True) for s in range(a, b)}
    assert busy_seconds(starts, ends) == len(seconds)
    assert busy_seconds(pd.Series([0.0, 1.0, 2.0]), pd.Series([9.0, 2.0, 3.0])) == 9


def test_no_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="there are no benchmark files in"):
        read_jobs([tmp_path / "a.tsv"], tmp_path, tmp_path)
    for content in ("", "s\n", "a\tb\n1\t2\n", "s\tmax_rss\nx\ty\n"):
        (tmp_path / "a.tsv").write_text(content)
        with pytest.raises(InputError, match=r"a\.tsv is not a benchmark file: delete it"):
            read_jobs([tmp_path / "a.tsv"], tmp_path, tmp_path)


def test_a_run_is_compared_with_the_kept_one_by_rule_and_in_all(tmp_path):
    kept = {"rule": ["train", "sample", "old"], "cpu_seconds": [10.0, 30.0, 5.0]}
    fresh = {"rule": ["sample", "train", "new"], "cpu_seconds": [60.0, 5.0, math.nan]}
    for name, table in {"kept": kept, "fresh": fresh}.items():
        (tmp_path / name / "tables").mkdir(parents=True)
        pd.DataFrame(table).to_csv(tmp_path / name / "tables/runtime.csv", index=False)
    rules = compare_rules(tmp_path / "kept", tmp_path / "fresh")
    assert rules["rule"].tolist() == ["sample", "train", "all"]
    assert rules["ratio"].tolist() == [2.0, 0.5, 65 / 40]
    assert rule_table(rules).row_count == 3
    assert compare_rules(tmp_path / "kept", tmp_path).empty


@pytest.mark.parametrize("rows", ["train,1\ntrain,2\n", ",1\n", "train,much\n", "x"])
def test_a_damaged_table_of_run_times_is_refused(tmp_path, rows):
    for name, content in (("kept", "train,1\n"), ("fresh", rows)):
        (tmp_path / name / "tables").mkdir(parents=True)
        (tmp_path / name / "tables/runtime.csv").write_text(f"rule,cpu_seconds\n{content}")
    with pytest.raises(InputError, match=r"fresh/tables/runtime\.csv .*: delete it and run again"):
        compare_rules(tmp_path / "kept", tmp_path / "fresh")


def test_runs_without_a_rule_in_common_do_not_compare(tmp_path):
    for name in ("kept", "fresh"):
        (tmp_path / name / "tables").mkdir(parents=True)
        (tmp_path / name / "tables/runtime.csv").write_text("rule,cpu_seconds\n")
    assert compare_rules(tmp_path / "kept", tmp_path / "fresh").empty
