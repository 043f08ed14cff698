"""A saved adapter that answers with speech on rows of recordings or units: a report without training."""

from __future__ import annotations

import os
from typing import Any

from datasets import Dataset

from ..core.errors import ConfigurationError, DatasetError
from ..data.fingerprint import rows_fingerprint
from ..data.lengths import max_utterance_tokens
from ..data.speech_pairs import load_speech_rows, load_speech_splits, pair_rows
from ..data.unit_identity import check_unit_identity, recorded_unit_fingerprint
from ..data.unit_splits import why_few_are_left, without_too_long
from ..modeling.modeling_for_speech_generation import SpeechPromptForSpeechGeneration, frame_rate_of
from ..tasks import SPEECH_TASKS, SpeechTask
from .saying import say_rows
from .sequence_adapter import known_baseline
from .sequence_report import build_sequence_report, text_scores
from .training_record import notes_on_known_rows, training_report

__all__ = ["evaluate_speech"]


def evaluate_speech(
    adapter: str | os.PathLike[str] | SpeechPromptForSpeechGeneration,
    source: str | os.PathLike[str],
    *,
    task: SpeechTask | None = None,
    split: str = "test",
    speaker_column: str | None = None,
    num_beams: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
    config_name: str | None = None,
    revision: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure the units that a saved adapter says, found by search, against those that were to be said.

    Of the data set that it was trained on only rows are measured that were held out, where its parts were made.

    Args:
        adapter (`str | PathLike | SpeechPromptForSpeechGeneration`): folder, Hub id, or the model.
        source (`str | PathLike`): see `load_speech_splits`.
        task (`SpeechTask`, *optional*): what is read and what is to be said; by default as the report beside the
            adapter says.
        split (`str`, defaults to `"test"`): the part, where the data set has parts.
        speaker_column (`str`, *optional*): see `load_splits`.
        num_beams (`int`, defaults to 1): of the answers.
        cache_dir (`str | PathLike`, *optional*): of units.
        config_name (`str`, *optional*): configuration of a Hub data set.
        revision (`str`, *optional*): revision of a Hub data set.
        seed (`int`, defaults to 0): of the intervals; damage is drawn as in the training.
        progress (`bool`, defaults to `True`): bars on stderr.

    Returns:
        `dict`: a report, as training writes it.

    Raises:
        DatasetError: the data cannot be read, or not one row makes a pair.
        UnitError: a unit that was to be said is not among those that the adapter says.
        FingerprintMismatchError: the data are units of another encoder than the adapter's.
        ConfigurationError: nothing says what the task is, recordings and an adapter without a processor, or
            recordings of a translation to units that the adapter's processor does not make.
    """
    if isinstance(adapter, SpeechPromptForSpeechGeneration):
        model = adapter
    else:
        model = SpeechPromptForSpeechGeneration.from_pretrained(adapter)
    trained_on = training_report(model)
    task = task or _task_of(trained_on)
    name = os.fspath(source)
    rows, warnings = _rows(
        name, task, split, trained_on, speaker_column=speaker_column, config_name=config_name, revision=revision
    )
    if "units" in rows.column_names:
        check_unit_identity(recorded_unit_fingerprint(name), model.config.unit_fingerprint, name)
    _check_targets(rows, model)
    pairs, skips = pair_rows(
        rows,
        task,
        model.processor,
        num_units=model.lm.num_units,
        num_target_units=model.num_target_units,
        frame_rate=frame_rate_of(model.processor),
        seed=(trained_on or {}).get("seed", 0),
        cache_dir=cache_dir,
        progress=progress,
    )
    pairs, too_long = without_too_long(pairs, max_utterance_tokens(model.lm, model.config.max_output_tokens))
    skips += too_long
    warnings = [*why_few_are_left(len(pairs), skips), *warnings, *notes_on_known_rows(pairs, model, trained_on)]
    measured = task.sequence_task
    report = build_sequence_report(
        task=measured,
        scores=text_scores(measured, pairs, say_rows(model, pairs, num_beams=num_beams), seed=seed),
        baselines={"most_frequent": known_baseline(measured, pairs, trained_on)},
        method=model.config.method,
        trained_parameters=model.num_trained_parameters(),
        seconds=0.0,
        seed=seed,
        num_beams=num_beams,
        base=model.config.base_model_name_or_path,
        data={"source": name, "speakers_apart": None, "fingerprint": {"digest": rows_fingerprint(pairs)}},
        num_rows={split: len(pairs)},
        units=model.config.unit_fingerprint,
        skips=skips,
        warnings=warnings,
    )
    return {**report, "speech": task.as_record()}


def _task_of(trained_on: dict[str, Any] | None) -> SpeechTask:
    record = (trained_on or {}).get("speech")
    if not isinstance(record, dict):
        raise ConfigurationError(
            "nothing beside the adapter says what its task is: there is no report.json of speech",
            hint=f"in Python, pass task: one of speechprompt_hf.tasks.SPEECH_TASKS ({', '.join(SPEECH_TASKS)})",
        )
    return SpeechTask.from_record(record)


def _rows(
    source: str, task: SpeechTask, split: str, trained_on: dict[str, Any] | None, **options: Any
) -> tuple[Dataset, list[str]]:
    """The part, as training took it out of this data set itself where it did; and notes."""
    recorded = ((trained_on or {}).get("data") or {}).get("split") or {}
    if (trained_on or {"data": {}})["data"].get("source") == source and split in (recorded.get("carved") or ()):
        shape = {name: recorded[name] for name in ("validation_fraction", "test_fraction", "seed") if name in recorded}
        known = {name: recorded.get(name) for name, value in options.items() if value is None}
        try:
            splits = load_speech_splits(source, task, **{**options, **known, **shape})
        except DatasetError:
            splits = None
        if splits is not None and split in splits.carved:
            note = f"the adapter was trained on this data set: only its {split} part is measured"
            return dict(splits.items())[split], [note]
    return load_speech_rows(source, task, split=split, **options), []


def _check_targets(rows: Dataset, model: SpeechPromptForSpeechGeneration) -> None:
    """Refuse recordings of a translation to units that the adapter's own processor does not make."""
    if "target_audio" not in rows.column_names or model.processor is None:
        return
    target = ((model.config.target_units or {}).get("fingerprint") or {}).get("digest")
    if target is not None and target != model.processor.fingerprint.get("digest"):
        raise ConfigurationError(
            "what is to be said are recordings, and the adapter says units of another encoder",
            hint="make their units first: speechprompt units --base BASE-OF-THE-TARGET, and give both as columns",
        )
