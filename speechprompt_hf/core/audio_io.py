"""Sound from whatever users have: paths, bytes, arrays, `datasets` rows; read by soundfile, resampled by soxr."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import AudioDecodeError, AudioTooLongError, AudioTooShortError, AudioValueError, SamplingRateError
from .extras import require, torchaudio_is_usable

__all__ = ["check_waveform", "load_waveform", "read_audio", "resample", "resample_tensor"]

Waveform = NDArray[np.float32]

# Rates of recordings from strangers, whose files may claim any.
_RATES_OF_STRANGERS = (1000, 192_000)
# Values, of all channels together, that are decoded at once where the length is limited.
_VALUES_AT_ONCE = 2**20
# Before the samples of a WAV file; writers make a dozen at most, and strangers' files may hold a million empty ones.
_MAX_CHUNKS = 1000


def read_audio(source: Any, *, name: str | None = None, max_seconds: float | None = None) -> tuple[Waveform, int]:
    """Read a sound file of any format that libsndfile knows: wav, flac, ogg, opus, mp3.

    Args:
        source (`str | PathLike | bytes | file object`): the file or its content.
        name (`str`, *optional*): how errors call the recording; defaults to the path.
        max_seconds (`float`, *optional*): of files from strangers: what lasts longer is refused, whatever its header
            says, after no more than that was decoded, a block at a time; and so are rates that no recording has.

    Returns:
        `tuple[NDArray[float32], int]`: mono samples of shape `(S,)` in [-1, 1] (channels are averaged), and the rate
        in Hz.

    Raises:
        AudioDecodeError: there is no such file, or it is no sound file, corrupt or truncated.
        AudioTooLongError: it lasts longer than `max_seconds`.
        SamplingRateError: with `max_seconds`, its rate is none between 1,000 and 192,000 Hz.
        MissingDependencyError: soundfile is not installed.
    """
    # By name: readers of this code on the Hub may lack it, and transformers refuses code that imports what is absent.
    soundfile = require("soundfile")
    label = name or (os.fspath(source) if isinstance(source, str | os.PathLike) else "the given bytes")
    try:
        with _binary_stream(source) as stream:
            missing = _what_is_missing(stream)
            with soundfile.SoundFile(stream) as sound:
                expected = sound.frames
                rate = int(sound.samplerate)
                if max_seconds is None:
                    samples = sound.read(dtype="float32", always_2d=True).mean(axis=1)
                else:
                    samples = _read_blocks(sound, label, max_seconds)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise AudioDecodeError(f"{label}: {error.strerror}", hint="give the path of a recording") from error
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        # libsndfile says which Python object it was given, then what is wrong.
        reason = str(error).rpartition(">: ")[2]
        raise AudioDecodeError(
            f"{label} cannot be read as sound: {reason}", hint="wav, flac, ogg, opus and mp3 files are read"
        ) from error
    if missing is None and 0 < expected < 2**62 and len(samples) < expected:
        missing = f"{len(samples)} of {expected} samples can be read"
    if missing is not None:
        raise AudioDecodeError(f"{label} is truncated: {missing}", hint="copy the file again")
    return np.ascontiguousarray(samples), rate


def _read_blocks(sound: Any, label: str, max_seconds: float) -> Waveform:
    """Mono samples of an open file whose header is not believed."""
    rate = int(sound.samplerate)
    lowest, highest = _RATES_OF_STRANGERS
    if not lowest <= rate <= highest:
        raise SamplingRateError(f"{label} has a sampling rate of {rate} Hz", hint=f"{lowest} to {highest} Hz are read")
    hint = f"at most {max_seconds:g} s are read: cut it"
    if 0 < sound.frames < 2**62 and sound.frames > max_seconds * rate:
        raise AudioTooLongError(f"{label} lasts {sound.frames / rate:.1f} s", hint=hint)
    blocks: list[Waveform] = []
    count = 0
    while True:
        # Not as many as the header promises: soundfile makes room for all that it is asked for.
        block = sound.read(max(1, _VALUES_AT_ONCE // sound.channels), dtype="float32", always_2d=True)
        if not len(block):
            return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
        blocks.append(block.mean(axis=1))
        count += len(block)
        if count > max_seconds * rate:
            raise AudioTooLongError(f"{label} lasts more than {max_seconds:g} s", hint=hint)


def _binary_stream(source: Any) -> AbstractContextManager[Any]:
    if isinstance(source, bytes | bytearray | memoryview):
        return io.BytesIO(source)
    if isinstance(source, str | os.PathLike):
        return open(source, "rb")
    return nullcontext(source)


def _what_is_missing(stream: Any) -> str | None:
    """What a cut WAV or Ogg file lacks, which libsndfile reads without complaint; `None` if nothing is known to."""
    start = stream.tell()
    head = stream.read(12)
    size = stream.seek(0, os.SEEK_END) - start
    missing = None
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        missing = _missing_wav_data(stream, start, size)
    elif head[:4] == b"OggS":
        # The last page carries the mark of the end of its stream. Pages are at most 65 307 bytes long.
        stream.seek(start + max(0, size - 65_307))
        tail = stream.read()
        page = tail.rfind(b"OggS")
        if page < 0 or page + 5 >= len(tail) or not tail[page + 5] & 4:
            missing = "its last page is not the end of the stream"
    stream.seek(start)
    return missing


def _missing_wav_data(stream: Any, start: int, size: int) -> str | None:
    position = 12
    for _ in range(_MAX_CHUNKS):
        if position + 8 > size:
            break
        stream.seek(start + position)
        header = stream.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] == b"data":
            available = size - position - 8
            # Writers to a pipe do not know the length and leave the largest one, or none.
            is_known = 0 < length < 0xFFFF_FF00
            return f"{available} of {length} bytes are there" if is_known and available < length else None
        position += 8 + length + length % 2
    return None


def resample(waveform: Waveform, rate: int, target_rate: int) -> Waveform:
    """Resample mono sound with soxr at its high quality.

    Args:
        waveform (`NDArray[float32]` of shape `(S,)`): samples at `rate` Hz.
        rate (`int`): its sampling rate in Hz.
        target_rate (`int`): the wanted rate in Hz.

    Returns:
        `NDArray[float32]`: samples at `target_rate`; the input itself if the rates are equal.

    Raises:
        SamplingRateError: a rate is not positive.
        MissingDependencyError: the rates differ, and soxr is not installed.
    """
    if rate <= 0 or target_rate <= 0:
        raise SamplingRateError(f"a sampling rate of {min(rate, target_rate)} Hz is impossible")
    if rate == target_rate:
        return waveform
    return np.asarray(require("soxr").resample(waveform, rate, target_rate), dtype=np.float32)


def resample_tensor(waveform: Any, rate: int, target_rate: int) -> Any:
    """Resample mono sound where it is: by torchaudio on the tensor's device, or without torchaudio by soxr.

    torchaudio's filter is set to be as steep as soxr's high quality; the two agree to about 1e-3 of full scale, not
    bit by bit, so that units near a border between two clusters may differ.

    Args:
        waveform (`Tensor` of shape `(S,)`, floating): samples at `rate` Hz.
        rate (`int`): its sampling rate in Hz.
        target_rate (`int`): the wanted rate in Hz.

    Returns:
        `Tensor`: float32 samples at `target_rate` on the same device.

    Raises:
        SamplingRateError: a rate is not positive.
    """
    if rate <= 0 or target_rate <= 0:
        raise SamplingRateError(f"a sampling rate of {min(rate, target_rate)} Hz is impossible")
    waveform = waveform.detach().float()
    if rate == target_rate:
        return waveform
    if not torchaudio_is_usable():
        return waveform.new_tensor(resample(waveform.cpu().numpy(), rate, target_rate))
    # Width, roll-off and window of torchaudio's "kaiser_best".
    return require("torchaudio.functional", "torchaudio").resample(
        waveform,
        rate,
        target_rate,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )


def check_waveform(waveform: Waveform, *, name: str, min_samples: int = 1) -> None:
    """Refuse what no encoder can turn into units.

    Args:
        waveform (`NDArray[float32]` of shape `(S,)`): samples.
        name (`str`): how errors call the recording.
        min_samples (`int`, defaults to 1): samples of one encoder frame.

    Raises:
        AudioTooShortError: fewer than `min_samples` samples.
        AudioValueError: a sample is NaN or infinite.
    """
    if waveform.size < min_samples:
        raise AudioTooShortError(
            f"{name} has {waveform.size} samples, fewer than the {min_samples} of one frame",
            hint="leave it out or record it again",
        )
    if not np.isfinite(waveform).all():
        position = int(np.flatnonzero(~np.isfinite(waveform))[0])
        raise AudioValueError(f"sample {position} of {name} is {waveform[position]}", hint="samples must be finite")


def _mono_array(values: Any, name: str) -> Waveform:
    if hasattr(values, "detach"):
        values = values.detach().cpu().float().numpy() if values.is_floating_point() else values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.size and not np.issubdtype(array.dtype, np.floating):
        raise AudioValueError(
            f"{name} has samples of dtype {array.dtype}",
            hint="divide integer samples by their full scale first, for example int16 by 32768.0",
        )
    if array.ndim == 2:
        # Either (channels, samples), as torch has it, or (samples, channels), as soundfile has it.
        array = array.mean(axis=0 if array.shape[0] <= array.shape[1] else 1)
    if array.ndim != 1:
        raise AudioValueError(
            f"{name} has shape {array.shape}",
            hint="one recording is (samples,), (channels, samples) or (samples, channels)",
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def load_waveform(
    item: Any,
    *,
    sampling_rate: int | None = None,
    target_rate: int = 16000,
    name: str = "the recording",
    max_seconds: float | None = None,
) -> Waveform:
    """One recording, in any form, as mono samples at `target_rate`.

    Args:
        item: array, tensor or list of floating samples of shape `(S,)`, `(channels, S)` or `(S, channels)`; path;
            bytes; or a `datasets` Audio value: `{"bytes", "path"}` (undecoded) or `{"array", "sampling_rate"}`
            (decoded).
        sampling_rate (`int`, *optional*): the rate of arrays in Hz; files carry their own.
        target_rate (`int`, defaults to 16000): the wanted rate in Hz.
        name (`str`): how errors call the recording.
        max_seconds (`float`, *optional*): of files, see `read_audio`.

    Returns:
        `NDArray[float32]` of shape `(S,)`.

    Raises:
        AudioDecodeError: a file cannot be read.
        AudioTooLongError: a file lasts longer than `max_seconds`.
        AudioValueError: samples are integers, or the shape is no recording's.
        SamplingRateError: an array came without its rate, or the rate is impossible.
    """
    if isinstance(item, Mapping):
        if item.get("array") is not None:
            rate = item.get("sampling_rate") or sampling_rate
            return load_waveform(item["array"], sampling_rate=rate, target_rate=target_rate, name=name)
        if item.get("path") and name == "the recording":
            name = str(item["path"])
        item = item["bytes"] if item.get("bytes") is not None else item.get("path")
        if item is None:
            raise AudioDecodeError(f"{name} has neither an array, nor bytes, nor a path")
    if isinstance(item, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(item, "read"):
        is_path = isinstance(item, str | os.PathLike)
        waveform, rate = read_audio(item, name=os.fspath(item) if is_path else name, max_seconds=max_seconds)
    else:
        if sampling_rate is None:
            raise SamplingRateError(f"{name} is an array without a sampling rate", hint="pass sampling_rate=… in Hz")
        rate = int(sampling_rate)
        if getattr(item, "is_cuda", False) and item.ndim == 1 and item.is_floating_point():
            return _mono_array(resample_tensor(item, rate, target_rate), name)
        waveform = _mono_array(item, name)
    return resample(waveform, rate, target_rate)
