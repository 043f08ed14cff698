"""Tasks: what is classified or said, under which names, and how it is measured."""

from .presets import TASKS, intent_classification, keyword_spotting, task_by_name
from .sequence_task import (
    METRIC_DIRECTIONS,
    SEQUENCE_TASKS,
    SequenceTask,
    phone_recognition,
    sequence_task_by_name,
    slot_filling,
    speech_recognition,
    speech_translation,
)
from .slots import read_slots, slot_tags, slots_to_text, text_to_slots
from .speech_task import (
    SPEECH_TASKS,
    SpeechTask,
    speech_continuation,
    speech_task_by_name,
    speech_translation_to_speech,
    unit_correction,
    unit_inpainting,
)
from .task import Task, task_from_labels
from .text_normalization import NORMALIZATIONS, normalize_text

__all__ = [
    "METRIC_DIRECTIONS",
    "NORMALIZATIONS",
    "SEQUENCE_TASKS",
    "SPEECH_TASKS",
    "TASKS",
    "SequenceTask",
    "SpeechTask",
    "Task",
    "intent_classification",
    "keyword_spotting",
    "normalize_text",
    "phone_recognition",
    "read_slots",
    "sequence_task_by_name",
    "slot_filling",
    "slot_tags",
    "slots_to_text",
    "speech_continuation",
    "speech_recognition",
    "speech_task_by_name",
    "speech_translation",
    "speech_translation_to_speech",
    "task_by_name",
    "task_from_labels",
    "text_to_slots",
    "unit_correction",
    "unit_inpainting",
]
