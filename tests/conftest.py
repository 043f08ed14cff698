"""Fixtures for all tests: offline, few threads, shared data where it is present."""

import os
from pathlib import Path

# Read by huggingface_hub and tokenizers at import.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # one core a worker; also read by the processes that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

PROJECT_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_root() -> Path:
    return PROJECT_ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public speech data beside the project's root; tests that need it skip where it is absent."""
    folder = PROJECT_ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the public speech data (../shared/data) are not on this machine")
    return folder
