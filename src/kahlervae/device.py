"""The device on which tensors are computed."""

import torch

from kahlervae.errors import InputError

__all__ = ["DEVICES", "resolve_device"]

DEVICES = ("auto", "cpu", "cuda")


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU where there is one, else the CPU.

    Random numbers are always drawn on the CPU and moved, so that all devices see the same ones.

    Raises:
        InputError: the name is unknown, or there is no GPU that torch can use.
    """
    if name not in DEVICES:
        raise InputError(f"the device {name!r} is unknown: choose one of {', '.join(DEVICES)}.")
    usable = torch.cuda.is_available()
    if name == "cuda" and not usable:
        raise InputError(
            "the device is cuda, but torch finds no GPU that it can use: choose device: cpu, or "
            "auto, or install a build of torch for the GPU."
        )
    return torch.device("cuda" if usable and name != "cpu" else "cpu")
