"""What starting a command takes is measured: import statements, whenever they run."""

import builtins
import time

import pytest

from kahlervae.startup import Startup, read_startup

SPIN = "import time; end = time.process_time() + {}\nwhile time.process_time() < end: pass\n"


@pytest.fixture
def startup(monkeypatch):
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)  # put back afterwards
    startup = Startup()
    startup.begin()
    return startup


def test_imports_count_once_and_work_does_not(startup, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_inner.py").write_text(SPIN.format(0.1))
    (tmp_path / "slow_outer.py").write_text("import slow_inner\n" + SPIN.format(0.1))
    before = startup.seconds
    import slow_outer  # noqa: F401

    assert 0.2 <= startup.seconds - before < 0.3
    exec(SPIN.format(0.3))
    import slow_inner  # noqa: F401

    assert startup.seconds - before < 0.3


def test_failed_import_counts_and_fails(startup, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_failure.py").write_text(SPIN.format(0.1) + "raise ImportError('no')\n")
    before = startup.seconds
    with pytest.raises(ImportError, match="no"):
        import slow_failure  # noqa: F401
    assert startup.seconds - before >= 0.1


def test_log_gives_the_seconds_back():
    startup = Startup()
    startup.seconds = 0.25
    total, start = read_startup(f"epoch 1\n{startup}\n")
    assert start == 0.25
    assert total == pytest.approx(time.process_time(), abs=0.5)
    assert read_startup("error: no such file") == pytest.approx((float("nan"),) * 2, nan_ok=True)
