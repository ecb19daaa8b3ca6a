"""State of an unfinished training run in one safetensors file."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kahlervae import storage
from kahlervae.errors import InputError
from kahlervae.sources import imported

__all__ = ["Checkpoint"]

log = logging.getLogger(__name__)


class Checkpoint:
    """Parameters, optimiser moments, random state and history: all that a resumed run needs.

    Args:
        path: the file.
        parameters: everything that is trained, by name.
        optimiser: an Adam over the parameters, in their order.
        streams: the generators from which training draws.
        origin: all that the run depends on, besides the code.
    """

    def __init__(
        self,
        path: Path,
        parameters: Mapping[str, nn.Parameter],
        optimiser: torch.optim.Adam,
        streams: Sequence[torch.Generator],
        origin: Mapping[str, Any],
    ) -> None:
        self.path = path
        self.parameters = parameters
        self.optimiser = optimiser
        self.streams = streams
        self.origin = json.dumps(origin, sort_keys=True) + _code_digest()

    def save(self, history: list[Any]) -> None:
        """Write the state after the epochs of ``history``."""
        tensors = {f"parameters.{k}": v.detach() for k, v in self.parameters.items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
        tensors |= self._streams()
        metadata = {"origin": self.origin, "history": json.dumps(history)}
        storage.write_tensors(self.path, tensors, metadata)

    def restore(self) -> list[Any]:
        """Load the state if there is one, and return the history so far, else an empty one.

        A checkpoint of other settings, data or code is passed over: going on from it would not
        end where an undisturbed run ends.

        Raises:
            InputError: the file is damaged.
        """
        if not self.path.exists():
            return []
        tensors, metadata = storage.read_tensors(self.path)
        if metadata.get("origin") != self.origin:
            log.info("%s is of other settings, data or code: training starts anew", self.path)
            return []
        storage.check_tensors(self.path, tensors, self._expected(tensors))
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            part, _, rest = key.partition(".")
            if part == "optimiser":
                index, _, moment = rest.partition(".")
                moments.setdefault(int(index), {})[moment] = value
        try:
            history = json.loads(metadata["history"])
            for number, stream in enumerate(self.streams):
                stream.set_state(tensors[f"stream.{number}"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise InputError(f"{self.path} is damaged: delete it and run again.") from error
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"parameters.{name}"])
        state = self.optimiser.state_dict()
        self.optimiser.load_state_dict(state | {"state": moments})
        return history

    def _expected(self, found: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What :meth:`save` writes: names, shapes and types."""
        tensors: dict[str, torch.Tensor] = {
            f"parameters.{k}": v for k, v in self.parameters.items()
        }
        for index, parameter in enumerate(self.parameters.values()):
            if f"optimiser.{index}.step" not in found:  # a parameter that had no gradient yet
                continue
            tensors[f"optimiser.{index}.step"] = torch.zeros(())
            for moment in ("exp_avg", "exp_avg_sq"):
                real = torch.view_as_real(parameter) if parameter.is_complex() else parameter
                tensors[f"optimiser.{index}.{moment}"] = real
        return tensors | self._streams()

    def _streams(self) -> dict[str, torch.Tensor]:
        return {f"stream.{index}": s.get_state() for index, s in enumerate(self.streams)}


def _code_digest() -> str:
    """SHA-256 of the source of all that training imports from this package."""
    digest = hashlib.sha256()
    for path in imported(["kahlervae.train.loop"], Path(__file__).parents[2]):
        digest.update(path.read_bytes())
    return digest.hexdigest()
