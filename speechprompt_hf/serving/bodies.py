"""What a client sent: a file as it is, or JSON with the file in base64, to samples and parameters. No HTTP here."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..core.audio_io import Waveform, check_waveform, load_waveform
from .limits import ServingLimits
from .refusals import RequestRefusedError

__all__ = ["Parameters", "decode_recording", "is_json", "parse_json", "parse_parameters", "read_body"]

_FUNCTIONS = ("softmax", "sigmoid", "none")
_KNOWN = {
    "audio-classification": ("top_k", "function_to_apply"),
    "automatic-speech-recognition": ("num_beams",),
}


@dataclass(frozen=True)
class Parameters:
    """What a client asked for beside its recording.

    Attributes:
        top_k (`int`, defaults to 5): labels that are returned.
        function_to_apply (`str`, defaults to `"softmax"`): scores to probabilities: `"softmax"`, `"sigmoid"` or
            `"none"`.
        num_beams (`int`, defaults to 1): of texts.
    """

    top_k: int = 5
    function_to_apply: Literal["softmax", "sigmoid", "none"] = "softmax"
    num_beams: int = 1


def is_json(content_type: str) -> bool:
    """Whether a body of this content type is a JSON document.

    Args:
        content_type (`str`): the header.
    """
    return content_type.partition(";")[0].strip().lower() == "application/json"


def parse_json(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Args:
        body (`bytes`): UTF-8.

    Raises:
        RequestRefusedError: it is none.
    """
    try:
        value = json.loads(body)
    # Nesting that is deeper than Python's stack.
    except (ValueError, RecursionError):
        raise RequestRefusedError(400, "the body is no JSON document") from None
    if not isinstance(value, dict):
        raise RequestRefusedError(400, "the body is no JSON object")
    return value


def read_body(body: bytes, content_type: str, task: str, limits: ServingLimits) -> tuple[bytes, Parameters]:
    """The file and the parameters of a request.

    Args:
        body (`bytes`): as it came.
        content_type (`str`): the header; JSON holds `{"inputs": base64, "parameters": {…}}`, everything else is taken
            for a sound file.
        task (`str`): of the adapter.
        limits (`ServingLimits`): the largest file, the most beams.

    Raises:
        RequestRefusedError: the body has another form, a parameter is not known, or the file is too large.
    """
    parameters = Parameters()
    if is_json(content_type):
        document = parse_json(body)
        strangers = sorted(set(document) - {"inputs", "parameters"})
        if strangers:
            raise RequestRefusedError(
                400, f"the body has {_short(strangers[0])}, and only 'inputs' and 'parameters' are known"
            )
        body = _file_of(document.get("inputs"))
        parameters = parse_parameters(document.get("parameters"), task, limits)
    if not body:
        raise RequestRefusedError(400, "the request has no recording: its body is empty")
    if len(body) > limits.max_bytes:
        raise RequestRefusedError(413, f"the file has {len(body)} bytes, {limits.max_bytes} at most are taken")
    return body, parameters


def _file_of(inputs: Any) -> bytes:
    if not isinstance(inputs, str):
        raise RequestRefusedError(400, "'inputs' must be a sound file in base64")
    try:
        return base64.b64decode(inputs, validate=True)
    except (binascii.Error, ValueError):
        raise RequestRefusedError(400, "'inputs' is no base64") from None


def parse_parameters(given: Any, task: str, limits: ServingLimits) -> Parameters:
    """The parameters of a JSON body.

    Args:
        given: what stands there; nothing is allowed.
        task (`str`): of the adapter.
        limits (`ServingLimits`): the most beams.

    Raises:
        RequestRefusedError: a parameter is not known or has a value that does not exist.
    """
    if given is None:
        return Parameters()
    if not isinstance(given, Mapping):
        raise RequestRefusedError(400, "'parameters' must be a JSON object")
    values = {name: value for name, value in given.items() if value is not None}
    known = _KNOWN[task]
    for name in values:
        if name not in known:
            raise RequestRefusedError(
                400, f"the parameter {_short(name)} is not known for {task}; known are {', '.join(known)}"
            )
    for name, highest in (("top_k", 10_000), ("num_beams", limits.max_beams)):
        value = values.get(name, 1)
        if type(value) is not int or not 1 <= value <= highest:
            raise RequestRefusedError(400, f"{name} is {_short(value)}; it must be a whole number from 1 to {highest}")
    function = values.get("function_to_apply", "softmax")
    if function not in _FUNCTIONS:
        raise RequestRefusedError(400, f"function_to_apply is {_short(function)}; known are {', '.join(_FUNCTIONS)}")
    return Parameters(**values)


def decode_recording(content: bytes, extractor: Any, limits: ServingLimits) -> Waveform:
    """Samples of a stranger's file.

    Only formats that are asked for reach the decoder, no more than `max_seconds` is decoded whatever the header says,
    and nothing that is not finite passes.

    Args:
        content (`bytes`): wav, flac, ogg, opus or mp3.
        extractor (`SpeechUnitFeatureExtractor`): the wanted rate, and the samples of one frame.
        limits (`ServingLimits`): the longest recording.

    Returns:
        `NDArray[float32]` of shape `(S,)`: mono, at the extractor's rate.

    Raises:
        RequestRefusedError: it is of another format.
        AudioError: one of its kinds: damaged, too long, too short, not finite.
    """
    if not _is_known_format(content):
        raise RequestRefusedError(422, "the recording is no wav, flac, ogg, opus or mp3 file")
    name = "the recording"
    waveform = load_waveform(content, target_rate=extractor.sampling_rate, name=name, max_seconds=limits.max_seconds)
    check_waveform(waveform, name=name, min_samples=extractor.min_samples)
    return waveform


def _is_known_format(content: bytes) -> bool:
    # libsndfile knows dozens of formats, most of them seldom read and seldom tested.
    head = content[:12]
    if head[:4] in (b"RIFF", b"RF64"):
        return head[8:12] == b"WAVE"
    is_mpeg_frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3" or is_mpeg_frame


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]} …"
