"""Speech without labels: what distill, quantize, units and pretrain read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import note
from .options import label_columns

if TYPE_CHECKING:
    import numpy as np
    from datasets import Dataset

__all__ = ["ALL", "device_or_best", "read_corpus", "read_tables", "refuse_shards", "waveforms_of"]

#: Name of the only part of a corpus that has no parts.
ALL = "all"


def read_corpus(source: str) -> dict[str, Dataset]:
    """Rows by part, with the column `audio` or `units`; labels are not needed.

    Args:
        source (`str`): whatever train takes, and a folder of recordings at any depth.

    Raises:
        DatasetError: there is nothing to read, or units of a corpus run that has not made all of them.
    """
    from datasets import Dataset, Features, Value

    from speechprompt_hf.core.errors import DatasetError
    from speechprompt_hf.data.sources import AUDIO_FEATURE, AUDIO_SUFFIXES, read_source, rooted
    from speechprompt_hf.data.unit_identity import check_is_complete

    check_is_complete(source)
    try:
        tables, root, notes = read_source(source)
        for text in notes:
            note(text)
        return {ALL if name == "pool" else name: rooted(table, root) for name, table in tables.items()}
    except DatasetError:
        folder = Path(source).expanduser()
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
        if not files:
            raise
    rows = {"audio": [{"bytes": None, "path": str(path)} for path in files], "item": [str(path) for path in files]}
    features = Features({"audio": AUDIO_FEATURE, "item": Value("string")})
    return {ALL: Dataset.from_dict(rows, features=features)}


def read_tables(source: str, label_column: str | None, speaker_column: str | None) -> dict[str, Dataset]:
    """Recordings by part as `read_corpus` gives them, with `label`, `speaker` and `item` where there are labels.

    Args:
        source (`str`): as for `read_corpus`.
        label_column (`str`, *optional*): what `--label-column` says.
        speaker_column (`str`, *optional*): what `--speaker-column` says.

    Raises:
        DatasetError: there is nothing to read, no such column, or a row without label.
    """
    from speechprompt_hf.data import load_rows

    tables = read_corpus(source)
    for name, table in tables.items():
        if label_column or "label" in table.column_names:
            tables[name] = load_rows(
                source,
                split="pool" if name == ALL else name,
                label_column=label_columns(label_column),
                speaker_column=speaker_column,
            )
    return tables


def refuse_shards(output: Path) -> None:
    """Refuse to put whole tables beside shards: both would be read.

    Args:
        output (`Path`): the folder of the result.

    Raises:
        DatasetError: there are shards.
    """
    from speechprompt_hf.core.errors import DatasetError

    plan = _summary(output).get("plan")
    if plan is not None:
        raise DatasetError(
            f"{output} holds shards of a corpus, which would be read together with the tables of this run",
            hint=f"go on with --shard-rows {plan['shard_rows']}, choose another --output, or remove the shards",
        )


def _summary(folder: Path) -> dict[str, Any]:
    from speechprompt_hf.core.files import read_json
    from speechprompt_hf.data.unit_identity import UNITS_SUMMARY

    path = folder / UNITS_SUMMARY
    return read_json(path) if path.is_file() else {}


def waveforms_of(
    rows: Dataset, *, max_seconds: float | None, seed: int, target_rate: int = 16_000
) -> list[np.ndarray]:
    """Samples of recordings in a random order, until there is enough speech; unreadable ones are reported.

    Args:
        rows (`Dataset`): with the column `audio`.
        max_seconds (`float`, *optional*): enough; everything by default.
        seed (`int`): of the order.
        target_rate (`int`, *optional*, defaults to 16000): sampling rate in Hz.

    Returns:
        `list[np.ndarray]`: float32 vectors of shape `(S,)`.

    Raises:
        DatasetError: no recording can be used, or the rows hold units.
    """
    from speechprompt_hf.core.errors import DatasetError

    if "audio" not in rows.column_names:
        raise DatasetError("this corpus holds no recordings", hint="give the recordings, not their units")
    waves, seconds = [], 0.0
    for wave in _readable(rows.shuffle(seed=seed), target_rate):
        waves.append(wave)
        seconds += len(wave) / target_rate
        if max_seconds is not None and seconds >= max_seconds:
            break
    if not waves:
        raise DatasetError("not one recording of this corpus can be used")
    return waves


def _readable(rows: Dataset, target_rate: int) -> Iterator[np.ndarray]:
    from speechprompt_hf.core.audio_io import check_waveform, load_waveform
    from speechprompt_hf.core.errors import AudioError

    from .console import print_error

    for index, row in enumerate(rows):
        audio: Any = row["audio"]
        name = str((audio.get("path") if isinstance(audio, dict) else None) or f"recording {index}")
        try:
            wave = load_waveform(audio, target_rate=target_rate, name=name)
            check_waveform(wave, name=name, min_samples=target_rate // 20)
        except AudioError as error:
            print_error(f"left out: {error}")
            continue
        yield wave


def device_or_best(device: str | None) -> str:
    """The named device, or a GPU where there is one.

    Raises:
        ConfigurationError: this machine has no such device.
    """
    from speechprompt_hf.core.devices import usable_device

    return str(usable_device(device))
