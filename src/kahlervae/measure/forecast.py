r"""How long a run will take here, from how long the one that is kept in reference/ took.

A run is bound by the CPU. On another machine its CPU seconds are those of the kept one times the
ratio of what a second's work takes here and took there, see :func:`calibrate`.
"""

import time
from pathlib import Path

import torch

from kahlervae.errors import InputError
from kahlervae.storage import read_table

__all__ = ["calibrate", "forecast"]

STEPS = 1500
"""Of training, in a calibration: about a second."""


def calibrate() -> float:
    """CPU seconds of a fixed piece of work: steps of Adam on a small network, as most of a run is.

    Example:
        >>> 0.01 < calibrate() < 100
        True
    """
    random = torch.Generator().manual_seed(0)
    shapes = [(64, 64)] * 3
    weights = [torch.randn(shape, generator=random).div_(8).requires_grad_() for shape in shapes]
    batch = torch.randn(64, 64, generator=random)
    optimiser = torch.optim.Adam(weights, lr=1e-3)

    def step() -> None:
        hidden = batch
        for weight in weights:
            hidden = torch.tanh(hidden @ weight)
        optimiser.zero_grad()
        (hidden - batch).square().mean().backward()
        optimiser.step()

    step()  # which loads what is loaded late
    begin = time.process_time()
    for _ in range(STEPS):
        step()
    return time.process_time() - begin


def forecast(efficiency: Path | str, cores: int) -> str:
    r"""A sentence with the minutes that a whole run takes on this machine.

    .. math:: T = \frac{\text{CPU seconds}}{\text{cores} \cdot \text{efficiency}} \cdot
              \frac{\text{calibration here}}{\text{calibration there}}

    Args:
        efficiency: the table of the kept run, by
            :func:`~kahlervae.measure.runtime.measure_efficiency`.
        cores: of this machine.

    Raises:
        InputError: the table cannot be read, or is of a run that was not calibrated or timed.
    """
    numbers = ["cpu_seconds", "efficiency", "calibration_seconds"]
    kept = read_table(Path(efficiency), [], numbers).iloc[0]
    if kept[numbers].isna().any():
        raise InputError(f"{efficiency} does not tell how long its run took.")
    ratio = calibrate() / kept["calibration_seconds"]
    minutes = kept["cpu_seconds"] * ratio / (cores * kept["efficiency"]) / 60
    return (
        f"From nothing, this takes about {max(1, round(minutes))} minutes here ({cores} cores): "
        f"the kept run took {kept['cpu_seconds']:,.0f} CPU seconds, and this machine needs "
        f"{ratio:.2g} times as many for the same work. What is there already is not made again."
    )
