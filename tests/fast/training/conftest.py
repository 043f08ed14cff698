import pytest

from tests.fixtures.unit_tasks import save_tiny_base, unit_task_splits


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def splits():
    return unit_task_splits()
