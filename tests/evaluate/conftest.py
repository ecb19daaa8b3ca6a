import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def single_thread():
    """Small tensors gain nothing from threads, and the test processes would fight for them."""
    torch.set_num_threads(1)
