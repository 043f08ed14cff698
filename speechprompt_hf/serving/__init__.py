"""Answers for many tasks of one base: in Python, and over HTTP (extra `serve`, see docs/serving.md)."""

from __future__ import annotations

from .batching import BatchSettings, DynamicBatcher
from .engine import ServedModel, ServingEngine
from .engine_process import EngineProcess
from .limits import ServingLimits
from .mixed_tasks import SpeechPromptServer, TaskPrediction

__all__ = [
    "BatchSettings",
    "DynamicBatcher",
    "EngineProcess",
    "ServedModel",
    "ServingEngine",
    "ServingLimits",
    "SpeechPromptServer",
    "TaskPrediction",
]
