"""Optional packages: one sentence instead of an import error from deep inside."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from types import ModuleType

from .errors import MissingDependencyError

__all__ = ["check_torchaudio", "require", "torchaudio_is_usable"]

_BROKEN_TORCHAUDIO = (
    "torchaudio is installed but does not load beside this torch, "
    "and transformers' HuBERT, Trainer and peft fail with it"
)


def require(module: str, extra: str | None = None) -> ModuleType:
    """Import an optional module.

    Args:
        module (`str`): the module's name.
        extra (`str`, *optional*): the extra of this package that brings it; without one the module is a package of
            the same name, which this package brings and readers of its code on the Hub may lack.

    Raises:
        MissingDependencyError: the module is absent or fails to load.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        hint = f"pip install {module}" if extra is None else f'pip install "speechprompt-hf[{extra}]"'
        raise MissingDependencyError(f"{module} cannot be imported: {error}", hint=hint) from error


def check_torchaudio() -> bool:
    """Whether torchaudio is installed and loads.

    transformers imports torchaudio whenever it is installed, so a build that does not fit the installed torch breaks
    HuBERT, the Trainer and peft at import.

    Returns:
        `bool`: `False` where torchaudio is not installed, `True` where it works.

    Raises:
        MissingDependencyError: it is installed and does not load.
    """
    if find_spec("torchaudio") is None:
        return False
    try:
        importlib.import_module("torchaudio")
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"{_BROKEN_TORCHAUDIO}: {error}",
            hint="pip uninstall torchaudio, or install the torch build that it was made for",
        ) from error
    return True


def torchaudio_is_usable() -> bool:
    """Whether torchaudio is installed and loads, without an error where it is broken."""
    try:
        return check_torchaudio()
    except MissingDependencyError:
        return False
