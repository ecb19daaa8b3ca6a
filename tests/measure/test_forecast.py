"""The time of a run is foretold from that of the kept one and the speed of this machine."""

import pandas as pd
import pytest

from kahlervae.errors import InputError
from kahlervae.measure import forecast as module
from kahlervae.measure.forecast import forecast


@pytest.fixture
def kept(tmp_path):
    path = tmp_path / "efficiency.csv"
    row = {"cores": 2, "cpu_seconds": 3600.0, "efficiency": 0.75, "calibration_seconds": 2.0}
    pd.DataFrame([row]).to_csv(path, index=False)
    return path


def test_minutes_are_the_kept_ones_times_the_ratio_of_speeds(kept, monkeypatch):
    monkeypatch.setattr(module, "calibrate", lambda: 3.0)
    said = forecast(kept, cores=4)
    assert "about 30 minutes here (4 cores)" in said  # 3600 · 1.5 / (4 · 0.75) seconds
    assert "3,600 CPU seconds" in said
    assert "needs 1.5 times as many" in said


def test_a_run_that_was_not_calibrated_is_refused(kept):
    pd.read_csv(kept).drop(columns="calibration_seconds").to_csv(kept, index=False)
    with pytest.raises(InputError, match="has no column 'calibration_seconds'"):
        forecast(kept, cores=1)


def test_a_run_whose_time_is_unknown_is_refused(kept):
    pd.read_csv(kept).assign(cpu_seconds=float("nan")).to_csv(kept, index=False)
    with pytest.raises(InputError, match="does not tell how long its run took"):
        forecast(kept, cores=1)
