"""Settings of all tests, and what tests of several folders ask for."""

import hypothesis
import pytest

# Machines are shared: how long an example takes says nothing about what it shows.
hypothesis.settings.register_profile("no limit of time", deadline=None)
hypothesis.settings.load_profile("no limit of time")


@pytest.fixture
def one_thread():
    """Let torch compute with one thread: sums in another order are not the same bit for bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
