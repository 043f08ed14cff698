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
# Files with few tests that take long: begun first, so that no worker is left alone with one at the end.
LONG = {"slow": 0, "packaging": 1, "hub": 2}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def order(item: pytest.Item) -> int:
        parts = item.path.relative_to(PROJECT_ROOT / "tests").parts
        return LONG.get(parts[0], len(LONG))

    items.sort(key=order)


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
