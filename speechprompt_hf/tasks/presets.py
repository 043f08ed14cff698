"""The two tasks of the SpeechPrompt papers."""

from __future__ import annotations

from ..core.errors import ConfigurationError
from .task import Task

__all__ = ["TASKS", "intent_classification", "keyword_spotting", "task_by_name"]

keyword_spotting = Task(
    name="keyword_spotting",
    labels=("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "_unknown_", "_silence_"),
)
"""Google Speech Commands v0.01 with 12 classes, in the order of the published label ids."""


def _intents() -> tuple[tuple[int, int, int], ...]:
    """The 31 combinations of (action, object, location) that Fluent Speech Commands' training set holds.

    Label tokens: actions 0-5, objects 6-19, locations 20-23; 6 and 20 are "none".
    """
    change_language = [(0, 6, 20), *((0, language, 20) for language in (15, 16, 17, 18))]
    switching = [
        (action, thing, place)
        for action in (1, 2)
        for thing, places in ((7, (20,)), (8, (20, 21, 22, 23)), (11, (20,)))
        for place in places
    ]
    levels = [
        (action, thing, place)
        for action in (3, 4)
        for thing, places in ((9, (20,)), (10, (20, 21, 22, 23)))
        for place in places
    ]
    bringing = [(5, thing, 20) for thing in (12, 13, 14, 19)]
    return tuple(change_language + switching + levels + bringing)


intent_classification = Task(
    name="intent_classification",
    labels=tuple(" ".join(map(str, intent)) for intent in _intents()),
    label_sequences=_intents(),
    label_columns=("action_id", "object_id", "location_id"),
)
"""Fluent Speech Commands: an utterance has an action, an object and a location (24 label tokens, 31 combinations).

A class is named by its three label-token ids, as the published unit lines number them.
"""

TASKS: dict[str, Task] = {task.name: task for task in (keyword_spotting, intent_classification)}


def task_by_name(name: str) -> Task:
    """A ready-made task.

    Raises:
        ConfigurationError: there is no task of that name.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise ConfigurationError(
            f"there is no ready-made task {name!r}",
            hint=f"ready-made: {', '.join(TASKS)}; any other data set makes its own task from its labels",
        ) from None
