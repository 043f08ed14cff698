"""One copy of the tracked files and one wheel made of it, for all packaging tests."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def _run(*command, cwd, check=True):
    done = subprocess.run([str(each) for each in command], cwd=cwd, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def run():
    """Runs a command in a folder and returns what it printed."""
    return _run


@pytest.fixture(scope="session")
def build_wheel():
    """Makes a wheel of a source folder."""
    return _build_wheel


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """The project as a fresh clone has it (symbolic links included), without what tools left behind."""
    folder = tmp_path_factory.mktemp("tree") / "project"
    leftovers = shutil.ignore_patterns(
        ".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "quickstart-*"
    )
    shutil.copytree(ROOT, folder, symlinks=True, ignore=leftovers)
    return folder


@pytest.fixture(scope="session")
def wheel(tree, tmp_path_factory) -> Path:
    return _build_wheel(tree, tmp_path_factory.mktemp("wheel"))


def _build_wheel(source: Path, output: Path) -> Path:
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", output, source, cwd=output)
    (found,) = output.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def new_environment(tmp_path_factory):
    """Makes a virtual environment that sees the packages of this one, but not this project."""

    def make(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "venv"
        _run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
        python = folder / "bin" / "python"
        here = _run(sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
        there = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
        # A plain path in a .pth file: editable installs of the outer environment are .pth files and are not read.
        (Path(there.stdout.strip()) / "outer.pth").write_text(here.stdout)
        return python

    return make
