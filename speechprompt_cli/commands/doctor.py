"""`speechprompt doctor`: is this installation whole?"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from typing import Any

import typer

from ..console import print_json, print_line, working
from ..options import JsonOption

_DISTRIBUTION = "speechprompt-hf"
#: Distributions whose versions decide whether the numbers are those that the tests saw.
CHECKED = (
    "torch", "transformers", "peft", "accelerate", "datasets", "huggingface_hub", "safetensors", "numpy", "soundfile",
    "soxr",
)  # fmt: skip


def run(as_json: JsonOption = False) -> None:
    """Check the installation: versions, torchaudio, the cache, and a self-test with known units.

    Exit code 1 where something is wrong; every line says what to do.
    """
    checks: list[dict[str, Any]] = []
    for name, check in _checks():
        with working():
            entry = _result_of(name, check)
        checks.append(entry)
        if not as_json:
            print_line(f"{'ok  ' if entry['ok'] else 'FAIL'}  {name}: {entry['detail']}")
    whole = all(entry["ok"] for entry in checks)
    if as_json:
        print_json({"ok": whole, "checks": checks})
    else:
        print_line("everything works" if whole else "something is wrong, see the lines marked FAIL")
    if not whole:
        raise typer.Exit(1)


def _checks() -> list[tuple[str, Callable[[], tuple[bool, str]]]]:
    versions = [(name, _version_check(name)) for name in CHECKED]
    return [
        ("python", _python),
        (_DISTRIBUTION, _package),
        *versions,
        ("torchaudio", _torchaudio),
        ("cache", _cache),
        ("import", _import),
        ("self-test", _self_test),
    ]


def _result_of(name: str, check: Callable[[], tuple[bool, str]]) -> dict[str, Any]:
    try:
        ok, detail = check()
    except Exception as error:
        ok, detail = False, f"{type(error).__name__}: {error}"
    return {"name": name, "ok": ok, "detail": " ".join(detail.split())}


def _python() -> tuple[bool, str]:
    version = sys.version.split()[0]
    return sys.version_info >= (3, 11), f"{version}, needed 3.11 or newer"


def _package() -> tuple[bool, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return True, f"{version(_DISTRIBUTION)} is installed"
    except PackageNotFoundError:
        return False, "the source is here, but not installed, so nobody checked what it needs: pip install -e ."


def _version_check(name: str) -> Callable[[], tuple[bool, str]]:
    def check() -> tuple[bool, str]:
        from importlib.metadata import PackageNotFoundError, requires, version

        from packaging.requirements import Requirement

        try:
            wanted = [Requirement(line) for line in requires(_DISTRIBUTION) or ()]
        except PackageNotFoundError:
            return True, f"{version(name)}, tested range unknown"
        allowed = next(each.specifier for each in wanted if each.name.replace("-", "_") == name and not each.marker)
        try:
            installed = version(name)
        except PackageNotFoundError:
            return False, f"not installed, tested {allowed}: pip install '{name}{allowed}'"
        if allowed.contains(installed, prereleases=True):
            return True, f"{installed}, tested {allowed}"
        return False, f"{installed} is outside the tested range {allowed}: pip install '{name}{allowed}'"

    return check


def _torchaudio() -> tuple[bool, str]:
    # Looked at without importing our package, which refuses to start beside a broken one.
    from importlib.metadata import PackageNotFoundError, version
    from importlib.util import find_spec

    if find_spec("torchaudio") is None:
        return True, 'not installed, only augmentation and alignment use it: pip install "speechprompt-hf[torchaudio]"'
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError) as error:
        return False, f"does not load beside this torch, pip uninstall torchaudio: {error}"
    try:
        return True, f"{version('torchaudio')} loads"
    except PackageNotFoundError:
        return True, "loads"


def _cache() -> tuple[bool, str]:
    from pathlib import Path

    from huggingface_hub.constants import HF_HOME

    from speechprompt_hf.data.unit_store import CACHE_VARIABLE, default_cache_dir

    folders = {CACHE_VARIABLE: default_cache_dir(), "HF_HOME": Path(HF_HOME)}
    for variable, folder in folders.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
        except OSError as error:
            return False, f"{folder} cannot be written, set {variable} to a folder that can: {error}"
    return True, f"{' and '.join(map(str, folders.values()))} can be written"


def _import() -> tuple[bool, str]:
    import speechprompt_hf

    return True, f"speechprompt_hf {speechprompt_hf.__version__}, classes registered with the Auto classes"


def _self_test() -> tuple[bool, str]:
    from speechprompt_hf.backbones.self_test import run_self_test

    return run_self_test()
