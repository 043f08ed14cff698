"""The part of a checkpoint that training goes on from: to a repository and back."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from huggingface_hub import snapshot_download

from ..core.errors import ConfigurationError, HubError
from ..core.files import read_json, write_json
from ..hub.client import talking_to_the_hub
from ..modeling.adapter_files import TRAINING_STATE

__all__ = ["LAST_CHECKPOINT", "copy_what_is_resumed_from", "download_checkpoint"]

LAST_CHECKPOINT = "last-checkpoint"
"""The folder of a repository that holds what training goes on from."""

_STATE = "trainer_state.json"
_NEEDED = (TRAINING_STATE, "optimizer.pt", "scheduler.pt", _STATE)
# Without configuration: as a sub-folder of the repository it opens through no door. Without training_args.bin: it is a
# pickle of arguments, tokens among them, that resuming does not read.
_RESUMED_FROM = (*_NEEDED, "scaler.pt", "rng_state*.pth")


def copy_what_is_resumed_from(checkpoint: Path, target: Path) -> None:
    """Copy what training goes on from, and nothing that an inference door would open.

    Args:
        checkpoint (`Path`): folder that Trainer wrote.
        target (`Path`): a new folder.
    """
    target.mkdir()
    for pattern in _RESUMED_FROM:
        for path in checkpoint.glob(pattern):
            shutil.copyfile(path, target / path.name)
    # A folder of this machine. Trainer finds the best checkpoint again by its step, where it is.
    write_json(target / _STATE, {**read_json(target / _STATE), "best_model_checkpoint": None})


def download_checkpoint(
    repo_id: str,
    output_dir: str | os.PathLike[str],
    *,
    revision: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Fetch what a run with `hub_strategy="checkpoint"` pushed last, to go on from it.

    Args:
        repo_id (`str`): the run's repository.
        output_dir (`str | PathLike`): of the training arguments; receives `checkpoint-N`.
        revision (`str`, *optional*): branch, tag or commit.
        token (`str`, *optional*): instead of the one of `hf auth login`.
        endpoint (`str`, *optional*): another Hub.

    Returns:
        `str`: the folder, for `trainer.train(resume_from_checkpoint=...)`. Trainer reads its pickles with
        `weights_only`.

    Raises:
        HubError: the repository holds no whole checkpoint, or cannot be reached.
        ConfigurationError: `checkpoint-N` is there already.
    """
    with talking_to_the_hub(repo_id, "read"):
        snapshot = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=[f"{LAST_CHECKPOINT}/{name}" for name in _RESUMED_FROM],
            token=token,
            endpoint=endpoint,
        )
    source = Path(snapshot, LAST_CHECKPOINT)
    missing = [name for name in _NEEDED if not (source / name).is_file()]
    step = None if missing else read_json(source / _STATE).get("global_step")
    if not isinstance(step, int) or step < 1:
        what = f"{', '.join(missing)} missing" if missing else f"it is of step {step!r}"
        raise HubError(
            f"{repo_id} holds no checkpoint to go on from: in {LAST_CHECKPOINT}/, {what}",
            hint='train with PromptTrainer and hub_strategy="checkpoint"',
        )
    target = Path(output_dir, f"checkpoint-{step}")
    if target.exists():
        raise ConfigurationError(f"{target} is there already", hint="resume from it, or take it away first")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as temporary:
        shutil.copytree(source, Path(temporary, target.name))
        os.replace(Path(temporary, target.name), target)
    return str(target)
