"""Tasks: what is classified, under which names, and how it is measured."""

from .presets import TASKS, intent_classification, keyword_spotting, task_by_name
from .task import Task, task_from_labels

__all__ = ["TASKS", "Task", "intent_classification", "keyword_spotting", "task_by_name", "task_from_labels"]
