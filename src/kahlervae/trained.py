"""A trained model as commands take it: from files, on one device, with what belongs to it."""

from functools import cached_property
from pathlib import Path

from torch import Tensor

from kahlervae.data import Split, load_split
from kahlervae.device import resolve_device
from kahlervae.errors import InputError
from kahlervae.geometry.potential import Potential
from kahlervae.models import load_model
from kahlervae.storage import check_identity, read_tensors
from kahlervae.train.potentials import load_potentials

__all__ = ["Trained"]


class Trained:
    """A model, its data and its potentials; the last two are read when they are asked for.

    Args:
        model: what `kahlervae train` wrote.
        data: what `kahlervae data` wrote, if it is needed.
        potential: what `kahlervae potential` wrote, if it is needed.
        device: its name, see :func:`~kahlervae.device.resolve_device`.

    Attributes:
        device: on which all tensors are.
        vae: the model.

    Raises:
        InputError: a file is missing or damaged, or there is no such device; from :meth:`split` and
            :attr:`potentials` also that theirs is of other samples or of another model.
    """

    def __init__(
        self,
        model: Path | str,
        data: Path | str | None = None,
        potential: Path | str | None = None,
        device: str = "cpu",
    ) -> None:
        self.device = resolve_device(device)
        self.vae = load_model(model).to(self.device)
        self._model, self._data, self._potential = model, data, potential

    def split(self, name: str) -> Split:
        """One of ``train``, ``validation``, ``test`` and ``oracle``, with its labels."""
        assert self._data is not None
        split = load_split(self._data, name, self.vae.identity["dataset"])
        if split.form != self.vae.form:
            raise InputError(
                f"{self._data} holds other samples than {self._model} was trained on: pass those "
                f"of {self.vae.identity['dataset']}."
            )
        return split.to(self.device)

    def samples(self, name: str) -> Tensor:
        """The samples of a split alone."""
        return self.split(name).samples

    @cached_property
    def potentials(self) -> dict[str, Potential]:
        """By their names."""
        assert self._potential is not None
        _, metadata = read_tensors(self._potential)
        check_identity(self._potential, metadata, self.vae.identity, "potentials")
        return load_potentials(self._potential, self.vae.latent_dim, self.device)
