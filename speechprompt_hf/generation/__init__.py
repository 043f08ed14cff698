"""Speech made of recordings, file by file: continued, corrected, translated or said again by a vocoder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .file_generation import GeneratedSpeech, generate_files, resynthesise_files
    from .settings import GenerationSettings
    from .vocoders import open_vocoder

_HOME = {
    "GeneratedSpeech": "file_generation",
    "GenerationSettings": "settings",
    "generate_files": "file_generation",
    "open_vocoder": "vocoders",
    "resynthesise_files": "file_generation",
}

__all__ = ["GeneratedSpeech", "GenerationSettings", "generate_files", "open_vocoder", "resynthesise_files"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
