"""The `hub` and fresh Python processes that know nothing of the real one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.hub.loopback import LoopbackHub

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]

# Hides a package however it is installed: every finder of modules and distributions is asked through a filter.
NOT_INSTALLED = """
import sys

class Without:
    hidden = ("speechprompt_hf", "speechprompt_cli", "speechprompt-hf")

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in self.hidden else self.finder.find_spec(name, path, target)

    def find_distributions(self, *arguments, **keywords):
        search = getattr(self.finder, "find_distributions", None)
        found = search(*arguments, **keywords) if search else ()
        return (each for each in found if each.name not in self.hidden)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""
FOREIGN = ("HF_", "HUGGING", "TRANSFORMERS_", "SPEECHPROMPT_", "PYTHON", "XDG_", "DATASETS_")


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """An empty Hub on a free port. A mistake inside the server fails the test."""
    with LoopbackHub() as hub:
        yield hub
    assert not hub.errors, "\n".join(hub.errors)


@pytest.fixture
def run_python(request: pytest.FixtureRequest, tmp_path: Path) -> RunPython:
    """Runs code in a fresh Python process with its own HF_HOME, and with the `hub` if the test has one.

    `run_python(code, *args, env={}, install=True, check=True, site=(), timeout=280)`: `args` are `sys.argv[1:]`; `env`
    adds to the environment, None takes a variable away; without `install` the process does not see this project;
    `site` are texts of sitecustomize.py (see faults.py) that run first. Returns the finished process with `stdout` and
    `stderr`; if it failed and `check`, an AssertionError shows both.
    """
    number = iter(range(10_000))

    def run(
        code: str,
        *args: object,
        env: Mapping[str, str | None] | None = None,
        install: bool = True,
        check: bool = True,
        site: Sequence[str] = (),
        timeout: float = 280,
    ) -> "subprocess.CompletedProcess[str]":
        variables = environment(tmp_path)
        if "hub" in request.fixturenames:
            variables["HF_ENDPOINT"] = request.getfixturevalue("hub").url
        texts = [*site, *([] if install else [NOT_INSTALLED])]
        if texts:
            folder = tmp_path / f"site-{next(number)}"
            folder.mkdir()
            (folder / "sitecustomize.py").write_text("\n".join(texts))
            variables["PYTHONPATH"] = str(folder)
        for key, value in (env or {}).items():
            variables.pop(key, None)
            if value is not None:
                variables[key] = value
        command = [sys.executable, "-c", code, *map(str, args)]
        done = subprocess.run(
            command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0 or not check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


def environment(folder: Path) -> dict[str, str]:
    """The environment of a child process: nothing of the Hub's from outside, no proxy, all caches in `folder`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    kept = {key: value for key, value in kept.items() if not key.lower().endswith("_proxy")}
    return kept | {
        # Nobody listens there: without a hub every request fails at once.
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(folder / "hf_home"),
        "HF_TOKEN": "token",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "SPEECHPROMPT_CACHE": str(folder / "speechprompt_cache"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
