"""From speech, without labels or with speech on both sides, to a saved adapter that answers with speech."""

from __future__ import annotations

import os
from typing import Any

from ..core.embedded import DEFAULT_BASE
from ..core.errors import ConfigurationError
from ..data.speech_pairs import load_speech_splits, pair_splits
from ..modeling.base_loading import load_base
from ..modeling.modeling_for_speech_generation import SpeechPromptForSpeechGeneration, frame_rate_of
from ..modeling.target_units import target_units_record, unit_output_tokenizer
from ..tasks import SpeechTask
from .experiment_parts import base_processor
from .sequence_experiment import SequenceExperiment, run_sequence_experiment
from .sequence_settings import SequenceMethod, SequenceTrainingSettings, check_sequence_method

__all__ = ["run_speech_experiment"]


def run_speech_experiment(
    source: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    task: SpeechTask,
    base: str | os.PathLike[str] = DEFAULT_BASE,
    target_base: str | os.PathLike[str] | None = None,
    num_target_units: int | None = None,
    vocoder: str | None = None,
    vocoder_revision: str | None = None,
    speaker_column: str | None = None,
    settings: SequenceTrainingSettings | None = None,
    method: SequenceMethod = "prompt",
    seed: int = 0,
    num_copies: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> SequenceExperiment:
    """Train a model that answers with speech, measure its units on held-out rows, and save all.

    Units of both sides are made once and cached; a run that was stopped goes on. The unit error rate on validation
    rows chooses the epoch: of continuations, of which many are right, it says little but which epoch to take.

    Args:
        source (`str | PathLike`): see `load_speech_splits`.
        output_dir (`str | PathLike`): the adapter folder.
        task (`SpeechTask`): what is read, and what is to be said.
        base (`str | PathLike`, defaults to the embedded base): Hub id, folder or embedded name.
        target_base (`str | PathLike`, *optional*): of a translation: the base whose processor makes the units that
            are to be said; the base itself by default.
        num_target_units (`int`, *optional*): of a translation to units that no base here makes: how many there are.
        vocoder (`str`, *optional*): folder or Hub id of the vocoder of these units, which the adapter is to name.
        vocoder_revision (`str`, *optional*): its revision on the Hub.
        speaker_column (`str`, *optional*): see `load_splits`.
        settings (`SequenceTrainingSettings`, *optional*): the defaults of all tasks.
        method (`str`, defaults to `"prompt"`): `"prompt"` or `"finetune"`.
        seed (`int`, defaults to 0): of splits, copies, damage and training.
        num_copies (`int`, defaults to 0): augmented copies of each training recording.
        cache_dir (`str | PathLike`, *optional*): of units.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.
        resume (`bool`, defaults to `False`): go on from the last checkpoint.
        progress (`bool`, defaults to `True`): bars on stderr.

    Returns:
        `SequenceExperiment`: its report has the task in `speech`, too.

    Raises:
        DatasetError: the data cannot be read, split, or used.
        UnitError: a unit that is to be said is not among the target units.
        ConfigurationError: units of another base where nothing is translated, or what `run_sequence_experiment`
            raises.
    """
    check_sequence_method(method)
    if task.kind != "translation" and (target_base is not None or num_target_units is not None):
        raise ConfigurationError(
            f"task {task.name!r} says the units that it reads, and other target units were given",
            hint="leave target_base (--target-base) and num_target_units out",
        )
    if target_base is not None and num_target_units is not None:
        raise ConfigurationError("a target base has so many units as it has", hint="leave num_target_units out")
    lm, processor = load_base(base), base_processor(base)
    target_processor = processor if target_base is None else base_processor(target_base)
    target = _target_units(lm, processor, target_base, target_processor, num_target_units)
    splits, skips = pair_splits(
        load_speech_splits(
            source, task, speaker_column=speaker_column, seed=seed, config_name=config_name, revision=revision
        ),
        task,
        processor,
        target_processor,
        num_units=lm.num_units,
        num_target_units=target["num_units"],
        frame_rate=frame_rate_of(processor),
        cache_dir=cache_dir,
        num_copies=num_copies,
        seed=seed,
        progress=progress,
    )
    return run_sequence_experiment(
        splits,
        output_dir,
        task=task.sequence_task,
        base=base,
        settings=settings,
        method=method,
        seed=seed,
        resume=resume,
        progress=progress,
        source_name=os.fspath(source),
        tokenizer=unit_output_tokenizer(target["num_units"]),
        model_class=SpeechPromptForSpeechGeneration,
        model_options={
            "target_units": target,
            "speech_task": task.kind,
            "prompt_seconds": task.prompt_seconds if task.kind == "continuation" else None,
            "vocoder_name_or_path": vocoder,
            "vocoder_revision": vocoder_revision,
        },
        further={"speech": task.as_record()},
        skips=skips,
    )


def _target_units(
    lm: Any, processor: Any, target_base: Any, target_processor: Any, num_target_units: int | None
) -> dict[str, Any]:
    if num_target_units is not None:
        return target_units_record(num_target_units)
    if target_base is None:
        fingerprint = lm.config.fingerprint or getattr(processor, "fingerprint", None)
        return target_units_record(lm.num_units, fingerprint, frame_rate_of(processor))
    if target_processor is None:
        raise ConfigurationError(
            f"the target base {target_base} has no processor, whose units are to be said",
            hint="use a base with processor_config.json, or num_target_units",
        )
    return target_units_record(
        target_processor.unit_encoder.num_units, target_processor.fingerprint, frame_rate_of(target_processor)
    )
