"""What a stopped run goes on from: its last complete checkpoint, if it is the same run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset
from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import get_last_checkpoint

from ..core.digest import sha256_of_json
from ..core.errors import ConfigurationError
from ..core.files import read_json, write_json
from ..modeling.adapter_files import TRAINING_STATE

__all__ = ["check_run", "last_complete_checkpoint", "rows_digest", "write_run"]

RUN_FILE = "run.json"
"""What the checkpoints beside it were trained with."""

_BEFORE_IT_WAS_RECORDED = {"settings.verbalizer_hidden_size": 0, "settings.label_smoothing": 0.0}
# Trainer writes its state last; a checkpoint that is being deleted may lack any of them.
_FILES = (TRAINING_STATE, "optimizer.pt", "scheduler.pt")
_STATE = "trainer_state.json"


def last_complete_checkpoint(folder: Path) -> str | None:
    """The latest checkpoint that was written to its end; `None` where there is none.

    Args:
        folder (`Path`): holds folders `checkpoint-N`.
    """
    last = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    if last is None or _is_complete(Path(last)):
        return last
    steps = [int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*") if _is_complete(path)]
    return str(folder / f"checkpoint-{max(steps)}") if steps else None


def _is_complete(checkpoint: Path) -> bool:
    if not all((checkpoint / name).is_file() for name in _FILES):
        return False
    try:
        json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
        # Reads the header alone, and compares the file's size with it.
        with safe_open(checkpoint / TRAINING_STATE, "pt"):
            return True
    except (OSError, ValueError, SafetensorError):
        return False


def rows_digest(table: Dataset) -> str:
    """SHA-256 of encoded rows.

    Args:
        table (`Dataset`): with `input_ids` and `labels`, from `labelled_units`.
    """
    return sha256_of_json([list(table["input_ids"]), list(table["labels"])])


def write_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Write what the run is trained with beside its checkpoints."""
    os.makedirs(folder, exist_ok=True)
    write_json(folder / RUN_FILE, run)


def check_run(folder: Path, run: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings or rows than the run began with.

    Args:
        folder (`Path`): of the checkpoints; nothing is checked where it does not say what they were trained with.
        run (`Mapping`): what `write_run` would write now.

    Raises:
        ConfigurationError: something differs; the message names it.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        return
    now = _flat(json.loads(json.dumps(run)))
    # Runs of other kinds never had these settings.
    earlier = {name: value for name, value in _BEFORE_IT_WAS_RECORDED.items() if name in now}
    before = {**earlier, **_flat(read_json(path))}
    differing = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    if differing:
        changes = ", ".join(
            f"{name} (was {_short(before.get(name))}, is {_short(now.get(name))})" for name in differing
        )
        raise ConfigurationError(
            f"the run in {folder.parent} cannot be resumed, it began with other settings or data: {changes}",
            hint="repeat the settings and data of the first run, or start anew without resuming",
        )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:36]} …"
