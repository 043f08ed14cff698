"""The process that loads eSpeak NG (GPL-3). Run as a script; it imports nothing of this package.

Standard input: one JSON object a line (`text`, `voice`, `variant`, `pitch`, `pitch_range`, `words_per_minute`).
Standard output, for each line: a 12-byte header (sampling rate, number of samples, status; three little-endian
int32), then int16 samples, or, with status 1, that many bytes of an error message.
"""

import ctypes
import json
import struct
import sys
from typing import Any

AUDIO_OUTPUT_SYNCHRONOUS = 2
CHARACTERS_UTF8 = 1
POSITION_CHARACTER = 1
PARAMETER_RATE, PARAMETER_PITCH, PARAMETER_RANGE = 1, 3, 4
VOICE_FILES = {"en-gb": "en"}  # voices are found by the names of their files; this one is not called like its language


def load_engine() -> tuple[Any, int, list[bytes]]:
    """Loads the shared library; returns it with the rate in hertz and the list that receives samples."""
    import espeakng_loader

    library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, str(espeakng_loader.get_data_path()).encode(), 0)
    if rate <= 0:
        raise RuntimeError(f"eSpeak NG did not start (code {rate})")
    blocks: list[bytes] = []
    callback_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def receive(wave: Any, num_samples: int, _events: Any) -> int:
        if wave and num_samples > 0:
            blocks.append(ctypes.string_at(wave, 2 * num_samples))
        return 0

    callback = callback_type(receive)
    library.espeak_SetSynthCallback(callback)
    library.receive_callback = callback  # kept alive as long as the library
    return library, rate, blocks


def speak(library: Any, blocks: list[bytes], request: dict[str, Any]) -> bytes:
    """Returns the int16 bytes of one request."""
    name = VOICE_FILES.get(request["voice"], request["voice"])
    if request.get("variant"):
        name += "+" + request["variant"]
    if library.espeak_SetVoiceByName(name.encode()) != 0:
        raise ValueError(f"eSpeak NG has no voice {name!r}")
    for parameter, key in (
        (PARAMETER_RATE, "words_per_minute"),
        (PARAMETER_PITCH, "pitch"),
        (PARAMETER_RANGE, "pitch_range"),
    ):
        library.espeak_SetParameter(parameter, int(request[key]), 0)
    text = request["text"].encode()
    blocks.clear()
    code = library.espeak_Synth(
        text, ctypes.c_size_t(len(text) + 1), 0, POSITION_CHARACTER, 0, CHARACTERS_UTF8, None, None
    )
    if code != 0:
        raise RuntimeError(f"eSpeak NG returned code {code}")
    library.espeak_Synchronize()
    return b"".join(blocks)


def main() -> None:
    """Answers requests until standard input closes."""
    library, rate, blocks = load_engine()
    output = sys.stdout.buffer
    for line in sys.stdin.buffer:
        try:
            samples = speak(library, blocks, json.loads(line))
            output.write(struct.pack("<iii", rate, len(samples) // 2, 0) + samples)
        except Exception as error:  # the parent turns it into a typed error
            message = f"{type(error).__name__}: {error}".encode()
            output.write(struct.pack("<iii", rate, len(message), 1) + message)
        output.flush()


if __name__ == "__main__":
    main()
