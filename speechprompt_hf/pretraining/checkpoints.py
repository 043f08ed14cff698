"""A pretraining that goes on where it was stopped, and never with other settings or other data."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..core.errors import ConfigurationError
from ..core.files import atomic_path, write_json

__all__ = [
    "CHECKPOINT_FILE",
    "UNITS_IDENTITY",
    "HasState",
    "ResumableRun",
    "adamw",
    "check_identity",
    "completed_settings",
    "forget_other_units",
    "read_checkpoint",
    "reports_of_last_step",
    "rows_digest",
]

CHECKPOINT_FILE = "checkpoint.pt"

UNITS_IDENTITY = "fingerprint of the units"
"""What a checkpoint calls the identity of its units."""


def adamw(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (betas 0.9, 0.98) whose weight decay spares biases and norms."""
    matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))


class HasState(Protocol):
    """A module, an optimizer, or what stands for one in a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values by name."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Takes what `state_dict` gave."""


class ResumableRun:
    """State of a pretraining: the step, its checkpoint `checkpoint.pt` and its log `log.jsonl`.

    Args:
        output (`Path`): folder of both; a checkpoint in it is taken up.
        config (dataclass instance): the settings.
        identity (`Mapping[str, str | None]`): name of each part of the data → digest.
        states (`Mapping[str, HasState]`): modules and optimizers that the checkpoint holds, by name.
        counted (`str`): what the rate in the log counts, e.g. `"tokens"`.
        on_report (`Callable`, *optional*): receives what is written to the log.

    Raises:
        ConfigurationError: the checkpoint is of other settings or data, or damaged.
    """

    def __init__(
        self,
        output: Path,
        config: Any,
        identity: Mapping[str, str | None],
        states: Mapping[str, HasState],
        *,
        counted: str,
        on_report: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        self.output, self.identity, self.states = output, dict(identity), dict(states)
        self.config = config
        self.counted, self.on_report = counted, on_report
        self.step, self.seconds, self.count = 0, 0.0, 0
        self.smoothed_loss: float | None = None
        self._restore()

    @property
    def _path(self) -> Path:
        return self.output / CHECKPOINT_FILE

    def smooth(self, loss: float, weight_of_past: float) -> float:
        """The running mean of the losses with one more; checkpoints hold it, so that logs go on as well."""
        past = self.smoothed_loss
        self.smoothed_loss = loss if past is None else weight_of_past * past + (1 - weight_of_past) * loss
        return self.smoothed_loss

    def report(self, values: Mapping[str, float]) -> None:
        """Writes one line of the log: step, seconds, rate and these values."""
        entry = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            f"{self.counted}_per_second": round(self.count / max(1e-9, self.seconds), 3),
            **{name: round(value, 5) for name, value in values.items()},
        }
        with (self.output / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self.on_report is not None:
            self.on_report(entry)

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        content = {
            "settings": json.dumps(asdict(self.config), sort_keys=True),
            "identity": self.identity,
            "step": self.step,
            "seconds": self.seconds,
            self.counted: self.count,
            "smoothed_loss": self.smoothed_loss,
            **{name: part.state_dict() for name, part in self.states.items()},
        }
        with atomic_path(self._path) as temporary:
            torch.save(content, temporary)

    def _restore(self) -> None:
        if not self._path.exists():
            write_json(self.output / "settings.json", asdict(self.config))
            return
        # The run may have begun on a GPU that this machine has not; the parts move it where they are.
        content = read_checkpoint(self._path)
        recorded = completed_settings(json.loads(content["settings"]), self.config)
        now = json.loads(json.dumps(asdict(self.config)))
        different = [name for name in sorted({*recorded, *now}) if recorded.get(name) != now.get(name)]
        if different:
            changes = ", ".join(f"{name} (was {recorded.get(name)}, is {now.get(name)})" for name in different)
            raise ConfigurationError(
                f"{self._path} was written with other settings: {changes}",
                hint="use the same settings, or another output folder",
            )
        check_identity(self._path, content.get("identity"), self.identity)
        for name, part in self.states.items():
            part.load_state_dict(content[name])
        self.step, self.seconds, self.count = content["step"], content["seconds"], content.get(self.counted, 0)
        self.smoothed_loss = content.get("smoothed_loss")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; nothing in it is executed.

    Args:
        path (`Path`): `checkpoint.pt`.

    Raises:
        ConfigurationError: it is damaged, or no checkpoint of a `ResumableRun`.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    # What torch and its unpickler raise for cut, empty and foreign files.
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ConfigurationError(
            f"the checkpoint {path} cannot be read: {' '.join(str(error).split())[:200]}",
            hint="it is damaged: delete it to begin anew, or copy it again",
            is_mistake=False,
        ) from error
    if not isinstance(content, dict) or not {"settings", "step", "seconds"} <= content.keys():
        raise ConfigurationError(f"{path} is no checkpoint of a pretraining", hint="choose another output folder")
    return content


def reports_of_last_step(output: Path) -> tuple[int, dict[str, float]]:
    """What a run that has ended says of itself.

    Args:
        output (`Path`): the folder of its checkpoint and log.

    Returns:
        `tuple`: updates of the checkpoint, and what the log holds of the last of them; nothing where it holds nothing.

    Raises:
        ConfigurationError: the checkpoint is damaged.
    """
    step = int(read_checkpoint(output / CHECKPOINT_FILE)["step"])
    path = output / "log.jsonl"
    values: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # a killed process may have written half of it
            continue
        if isinstance(entry, dict) and entry.get("step") == step:
            values |= entry
    return step, values


def completed_settings(recorded: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """Settings that an earlier version wrote, with the defaults of fields that it did not know.

    Args:
        recorded (`Mapping`): field → JSON value.
        config (dataclass instance): of the class whose settings they are.

    Returns:
        `dict`: JSON values.
    """
    completed = dict(recorded)
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            completed[item.name] = completed_settings(completed.get(item.name) or {}, value)
        elif item.name not in completed and item.default is not MISSING:
            completed[item.name] = json.loads(json.dumps(item.default))
        elif item.name not in completed and item.default_factory is not MISSING:
            completed[item.name] = json.loads(json.dumps(item.default_factory()))
    return completed


def forget_other_units(output: Path, digest: str | None) -> None:
    """Delete a checkpoint that was made on other units, and its log.

    Args:
        output (`Path`): the folder of the checkpoint.
        digest (`str`, *optional*): identity of the units that count now.
    """
    path = output / CHECKPOINT_FILE
    if not path.exists():
        return
    identity = read_checkpoint(path).get("identity") or {}
    if identity.get(UNITS_IDENTITY) != digest:
        path.unlink()
        (output / "log.jsonl").unlink(missing_ok=True)


def check_identity(path: Path, recorded: Mapping[str, str | None] | None, given: Mapping[str, str | None]) -> None:
    """Refuse to go on from a checkpoint of other data.

    Args:
        path (`Path`): the checkpoint.
        recorded (`Mapping`, *optional*): name of each part of the data → digest, in the checkpoint; checkpoints of
            earlier versions have none and are accepted.
        given (`Mapping`): the same of this run.

    Raises:
        ConfigurationError: parts differ; it names them.
    """
    if recorded is None:
        return
    names = sorted({*recorded, *given})
    different = [name for name in names if recorded.get(name) != given.get(name)]
    if different:
        raise ConfigurationError(
            f"{path} was made with other data: {', '.join(different)}",
            hint="give the same data, or another output folder",
        )


def rows_digest(rows: Sequence[np.ndarray]) -> str:
    """SHA-256 of token rows in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(len(row).to_bytes(8, "little"))
        digest.update(row.astype("<i4").tobytes())
    return digest.hexdigest()
