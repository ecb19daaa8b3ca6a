import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def cuda() -> torch.device:
    """The GPU; without one, nothing here is tested."""
    if not torch.cuda.is_available():
        pytest.skip("NOTHING TESTED, NO GPU: torch finds none that it can use")
    return torch.device("cuda")
