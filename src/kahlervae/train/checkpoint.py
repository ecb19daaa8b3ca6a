"""State of an unfinished training run in one safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kahlervae import storage
from kahlervae.errors import InputError

__all__ = ["Checkpoint"]


class Checkpoint:
    """Parameters, optimiser moments, random state and history: all that a resumed run needs.

    Args:
        path: the file.
        modules: everything that is trained.
        optimiser: an Adam over ``modules.parameters()``.
        stream: the generator from which training draws.
        settings: what the run depends on; a checkpoint of other settings is refused.
    """

    def __init__(
        self,
        path: Path,
        modules: nn.Module,
        optimiser: torch.optim.Adam,
        stream: torch.Generator,
        settings: Mapping[str, Any],
    ) -> None:
        self.path = path
        self.modules = modules
        self.optimiser = optimiser
        self.stream = stream
        self.settings = json.dumps(settings, sort_keys=True)

    def save(self, history: list[dict[str, float]]) -> None:
        """Write the state after the epochs of ``history``."""
        tensors = {f"modules.{k}": v for k, v in self.modules.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
        tensors["stream"] = self.stream.get_state()
        metadata = {"settings": self.settings, "history": json.dumps(history)}
        storage.write_tensors(self.path, tensors, metadata)

    def restore(self) -> list[dict[str, float]]:
        """Load the state if there is one, and return the history so far, else an empty one.

        Raises:
            InputError: the file is damaged or was written under other settings.
        """
        if not self.path.exists():
            return []
        tensors, metadata = storage.read_tensors(self.path)
        if metadata.get("settings") != self.settings:
            raise InputError(
                f"{self.path} is the checkpoint of a run with other settings: delete it."
            )
        moments: dict[int, dict[str, torch.Tensor]] = {}
        parameters = {}
        for key, value in tensors.items():
            part, _, rest = key.partition(".")
            if part == "modules":
                parameters[rest] = value
            elif part == "optimiser":
                index, _, moment = rest.partition(".")
                moments.setdefault(int(index), {})[moment] = value
        self.modules.load_state_dict(parameters)
        state = self.optimiser.state_dict()
        self.optimiser.load_state_dict(state | {"state": moments})
        self.stream.set_state(tensors["stream"])
        return json.loads(metadata["history"])
