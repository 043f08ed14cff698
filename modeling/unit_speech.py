"""Units to sound by any unit vocoder: opening one that is named, durations at another tempo, ragged rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedModel
from transformers.utils.hub import extract_commit_hash

from ..core.errors import AdapterError, ConfigurationError, FingerprintMismatchError, SpeechPromptError, UnitError
from ..core.locations import check_is_there, reading
from ..core.units import check_tempo, scaled_durations
from .adapter_files import find_file
from .base_files import weight_files
from .configuration_unit_vocoder import UnitVocoderConfig
from .untrusted import check_base_header, read_config_file, shortened

__all__ = ["UnitSpeech", "check_vocoder", "load_vocoder", "speak_units"]


@dataclass(frozen=True)
class UnitSpeech:
    """Speech of a batch of units.

    Attributes:
        waveform (`Tensor` of shape `(B, S)`, float32): samples, zero behind each row's end.
        waveform_lengths (`LongTensor` of shape `(B,)`): samples of each row.
        sampling_rate (`int`): in hertz.
        units (`tuple[LongTensor, ...]`): B rows of merged units.
        durations (`tuple[LongTensor, ...]`): frames of each of them.
    """

    waveform: Tensor
    waveform_lengths: Tensor
    sampling_rate: int
    units: tuple[Tensor, ...]
    durations: tuple[Tensor, ...]

    def row(self, index: int) -> Tensor:
        """The samples of one row, without what is behind its end."""
        return self.waveform[index, : int(self.waveform_lengths[index])]


def load_vocoder(name: str | os.PathLike[str], *, revision: str | None = None, **hub: Any) -> PreTrainedModel:
    """Open a unit vocoder; code that a repository carries is not run.

    Args:
        name (`str | PathLike`): folder or Hub id.
        revision (`str`, *optional*): revision on the Hub.
        hub: further keywords of `from_pretrained` that say where files are found, such as `local_files_only`.

    Returns:
        `PreTrainedModel`: in float32, as processors are many times slower in half precision; in evaluation mode,
            without gradients.

    Raises:
        AdapterError: there is none, it is no vocoder, or its weights are not those that its configuration describes.
    """
    where = {**hub, **({} if revision is None else {"revision": revision})}
    name = os.fspath(name)
    check_is_there(name, AdapterError, "the vocoder", "config.json", **where)
    path = find_file(name, "config.json", what="the vocoder", **where)
    if path is None:
        raise AdapterError(f"{name} cannot be loaded: it has no config.json", hint="give a folder or id of a vocoder")
    config = _configuration(read_config_file(path), name)
    config._commit_hash = extract_commit_hash(path, None)
    # Before anything of the claimed sizes is made.
    shapes = {key: tuple(tensor.shape) for key, tensor in _claimed_model(config, name).state_dict().items()}
    check_base_header(weight_files(name, where), shapes, name)
    with reading(name, AdapterError, "the vocoder"):
        vocoder: Any = AutoModel.from_pretrained(
            name, config=config, dtype=torch.float32, trust_remote_code=False, use_safetensors=True, **where
        )
    return vocoder.eval().requires_grad_(False)


def is_vocoder(model: Any) -> bool:
    """Whether a model has what a unit vocoder is used by."""
    config = getattr(model, "config", None)
    return hasattr(model, "sampling_rate") and hasattr(model, "predict_durations") and hasattr(config, "vocab_size")


def _configuration(values: dict[str, Any], name: str) -> UnitVocoderConfig:
    """The configuration in a file; those of other models are not made, as they bound nothing."""
    kind = values.get("model_type")
    found = CONFIG_MAPPING[kind] if isinstance(kind, str) and kind in CONFIG_MAPPING else None
    if found is None or not issubclass(found, UnitVocoderConfig):
        raise AdapterError(
            f"{name} is a model of type {shortened(kind)}, which makes no sound of units",
            hint="the type of a vocoder is unit_vocos, unit_hifigan, or one registered with a UnitVocoderConfig",
        )
    with _describing(name):
        config: UnitVocoderConfig = found.from_dict(values)
    return config


def _claimed_model(config: UnitVocoderConfig, name: str) -> Any:
    """The model that a configuration describes, without its weights."""
    with _describing(name), torch.device("meta"):
        return AutoModel.from_config(config, trust_remote_code=False)


@contextmanager
def _describing(name: str) -> Iterator[None]:
    """Turn the failures of a stranger's values, in whatever way what is made of them fails, into an error of ours."""
    try:
        yield
    except SpeechPromptError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise AdapterError(
            f"config.json of {name} describes no vocoder: {error}"[:300], hint="it is damaged: save or copy it again"
        ) from error


def check_vocoder(
    vocoder: Any, num_units: int, fingerprint: Mapping[str, Any] | None, frame_rate: float | None, of: str
) -> None:
    """Refuse a vocoder of other units.

    Args:
        vocoder (`PreTrainedModel`): of units.
        num_units (`int`): units K that it shall say.
        fingerprint (`Mapping`, *optional*): their identity; compared where the vocoder names one, too.
        frame_rate (`float`, *optional*): frames of them in a second; compared where it is known.
        of (`str`): whose units these are, for the message.

    Raises:
        AdapterError: it is no vocoder.
        ConfigurationError: it says another number of units, or frames of another length.
        FingerprintMismatchError: it says the units of another encoder or k-means.
    """
    if not is_vocoder(vocoder):
        raise AdapterError(
            f"a {type(vocoder).__name__} makes no sound of units", hint="open a vocoder: load_vocoder(DIR_OR_ID)"
        )
    if vocoder.config.vocab_size != num_units:
        raise ConfigurationError(
            f"the vocoder says {vocoder.config.vocab_size} units, {of} has {num_units}",
            hint="use a vocoder that was trained on the same units",
        )
    rate = getattr(vocoder, "frame_rate", None)
    # Rounding of hops to whole samples is no other rate.
    if frame_rate and rate and not 0.99 < rate / frame_rate < 1.01:
        raise ConfigurationError(
            f"the vocoder says {rate:g} frames a second, {of} has {frame_rate:g}",
            hint="use a vocoder that was trained on the same units",
        )
    known = getattr(vocoder.config, "fingerprint", None)
    wanted, found = (each.get("digest") if isinstance(each, Mapping) else None for each in (fingerprint, known))
    if wanted and found and wanted != found:
        raise FingerprintMismatchError(
            f"the vocoder says units {str(found)[:16]}, those of {of} are {str(wanted)[:16]}",
            hint="use a vocoder that was trained on the same units",
        )


@torch.no_grad()
def speak_units(
    vocoder: Any,
    units: Sequence[Any],
    durations: Sequence[Any] | None = None,
    *,
    tempo: float = 1.0,
    speaker_ids: Tensor | None = None,
) -> UnitSpeech:
    """Sound of rows of merged units.

    Args:
        vocoder (`PreTrainedModel`): of these units.
        units (`Sequence` of B rows of integers): merged units; a row without any is silent.
        durations (`Sequence` of B rows of integers, *optional*): frames of each unit; by default the vocoder says
            them. A row that is `None` is as if there were none.
        tempo (`float`, defaults to 1.0): 2.0 is twice as fast; see `scaled_durations`.
        speaker_ids (`LongTensor` of shape `(B,)`, *optional*): the voice of each row, of a vocoder with several.

    Returns:
        `UnitSpeech`: on the vocoder's device.

    Raises:
        UnitError: units that the vocoder lacks, or durations that do not fit them.
        ConfigurationError: the tempo is none; the vocoder has several voices and none was chosen, or predicts no
            durations and none were given.
    """
    check_tempo(tempo)
    rows = [torch.as_tensor(row, dtype=torch.long, device=vocoder.device).reshape(-1) for row in units]
    given = [None] * len(rows) if durations is None else list(durations)
    if len(given) != len(rows):
        raise UnitError(f"{len(rows)} rows of units came with {len(given)} rows of durations", hint="one a row")
    frames = [_frames(vocoder, row, each) for row, each in zip(rows, given, strict=True)]
    if tempo != 1.0:
        frames = [each.new_tensor(scaled_durations(each.tolist(), tempo)) for each in frames]
    lengths = torch.zeros(len(rows), dtype=torch.long, device=vocoder.device)
    waveform = torch.zeros(len(rows), 0, device=vocoder.device)
    audible = [index for index, row in enumerate(rows) if len(row)]
    if audible:
        said = vocoder(
            input_ids=pad_sequence([rows[index] for index in audible], batch_first=True),
            attention_mask=pad_sequence([torch.ones_like(rows[index]) for index in audible], batch_first=True),
            durations=pad_sequence([frames[index] for index in audible], batch_first=True),
            speaker_ids=None if speaker_ids is None else speaker_ids[audible],
        )
        waveform = said.waveform.new_zeros(len(rows), said.waveform.shape[1])
        waveform[audible] = said.waveform
        lengths[audible] = said.waveform_lengths.to(lengths.device)
    return UnitSpeech(waveform, lengths, int(vocoder.sampling_rate), tuple(rows), tuple(frames))


def _frames(vocoder: Any, units: Tensor, durations: Any) -> Tensor:
    """Frames of each unit of one row."""
    if durations is not None:
        frames = torch.as_tensor(durations, dtype=torch.long, device=units.device).reshape(-1)
        if frames.shape != units.shape:
            raise UnitError(f"{len(units)} units came with {len(frames)} durations", hint="give one duration a unit")
        return frames
    if not len(units):
        return units
    predicted: Tensor = vocoder.predict_durations(units[None])[0]
    return predicted
