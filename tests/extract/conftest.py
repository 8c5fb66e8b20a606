"""What several tests of extraction and fine-tuning ask for."""

import pytest


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """The folder of a tiny text network, called ``tiny``."""
    from tunable import save_bert

    return save_bert(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture
def own_caches(tmp_path, monkeypatch):
    """Let nothing be found on this machine but what the test puts there, and nothing be asked of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("MIXED_SIGNALS_CACHE", str(tmp_path / "cache"))
