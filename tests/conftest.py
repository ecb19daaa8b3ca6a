import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

# Tensors are small and test workers many: more threads only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def comparison() -> Callable[[str], ModuleType]:
    """Loads a script of comparison/, which is no package, by its name."""

    def load(name: str) -> ModuleType:
        path = Path(__file__).parents[1] / f"comparison/{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def random() -> torch.Generator:
    """Random numbers, the same for every test that asks for them."""
    return torch.Generator().manual_seed(0)
