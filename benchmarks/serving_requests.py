"""What the load test of serving.py sends: recordings, adapters, good and bad requests, and a light client."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

BASE = "speechprompt-hf/tiny-hubert-km100-gslm"
RATE = 16000


def make_recordings(count: int, seed: int = 0) -> list[bytes]:
    """Flac files of 0.5 to 1.5 s: wavering tones with some noise, no two alike."""
    generator = np.random.default_rng(seed)
    return [_flac(_tones(generator, float(generator.uniform(0.5, 1.5)))) for _ in range(count)]


def _tones(generator: np.random.Generator, seconds: float) -> NDArray[np.float32]:
    times = np.arange(int(seconds * RATE)) / RATE
    wave = generator.normal(0, 0.02, len(times))
    for _ in range(4):
        waver = generator.uniform(0, 6) * np.sin(2 * np.pi * generator.uniform(1, 8) * times)
        wave += generator.uniform(0.05, 0.3) * np.sin(2 * np.pi * generator.uniform(80, 3000) * times + waver)
    return (0.7 * wave / np.abs(wave).max()).astype(np.float32)


def _encoded(wave: Any, rate: int = RATE, **options: Any) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, wave, rate, **options)
    return stream.getvalue()


def _flac(wave: Any, rate: int = RATE) -> bytes:
    return _encoded(wave, rate, format="FLAC")


def save_adapters(root: Path, count: int = 8) -> dict[str, Path]:
    """Adapters on the embedded default with random prompts and verbalizers: three readouts, 5 to 12 classes."""
    import torch

    from speechprompt_hf.modeling import SpeechPromptForAudioClassification
    from speechprompt_hf.processors import SpeechUnitProcessor

    processor = SpeechUnitProcessor.from_pretrained(BASE)
    kinds: tuple[dict[str, Any], ...] = (
        {"readout": "pooled"},
        {"readout": "separator"},
        {"readout": "pooled", "prompt": "input"},
        {"method": "probe"},
    )
    folders = {}
    for number in range(count):
        labels = [f"class {index}" for index in range(5 + number)]
        model = SpeechPromptForAudioClassification.from_base(
            BASE, labels, processor=processor, seed=number, **kinds[number % len(kinds)]
        )
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        folders[f"task{number}"] = root / f"task{number}"
        model.save_pretrained(folders[f"task{number}"])
    return folders


@dataclass(frozen=True)
class Request:
    """One request and what has to come back.

    Attributes:
        path (`str`): of the URL.
        body (`bytes`): as it is sent.
        headers (`dict[str, str]`): beside Host and Content-Length.
        kind (`str`): of the request.
        expected (`str | None`): the label of good ones; `None` of bad ones.
        declared (`int | None`): another Content-Length than the body's.
    """

    path: str
    body: bytes
    kind: str
    headers: dict[str, str] = field(default_factory=dict)
    expected: str | None = None
    declared: int | None = None


def good_request(file: bytes, task: str, expected: str, as_json: bool) -> Request:
    """As InferenceClient sends it, without or with parameters."""
    if not as_json:
        return Request(f"/models/{task}", file, "file", expected=expected)
    document = {"inputs": base64.b64encode(file).decode(), "parameters": {"top_k": 1}}
    headers = {"Content-Type": "application/json"}
    return Request(f"/models/{task}", json.dumps(document).encode(), "json", headers, expected)


def bad_requests(file: bytes, task: str, max_seconds: float) -> list[Request]:
    """Every kind of bad request, each of which deserves a 4xx."""
    path, as_json = f"/models/{task}", {"Content-Type": "application/json"}
    wave, _ = soundfile.read(io.BytesIO(file), dtype="float32")
    wav, encoded = _encoded(wave, format="WAV"), base64.b64encode(file).decode()
    not_finite = wave.copy()
    not_finite[len(wave) // 2] = np.nan
    silence = np.zeros(int((max_seconds + 1) * RATE), np.float32)
    lie = bytearray(file)
    # STREAMINFO's number of samples, 36 bits that end at byte 26 of the file: twelve hours.
    lie[22:26] = (12 * 3600 * RATE).to_bytes(4, "big")

    def document(**values: Any) -> bytes:
        return json.dumps(values).encode()

    def bad(kind: str, body: bytes, headers: dict[str, str] | None = None, **options: Any) -> Request:
        return Request(options.pop("path", path), body, kind, headers or {}, **options)

    return [
        bad("empty body", b""),
        bad("no sound", b"this is no sound file at all, only text " * 20),
        bad("random bytes after a flac's head", file[:60] + np.random.default_rng(1).bytes(400)),
        bad("cut flac", file[: len(file) // 2]),
        bad("cut wav", wav[: len(wav) // 2]),
        bad("header that claims twelve hours", bytes(lie)),
        bad("silence packed small, longer than allowed", _flac(silence)),
        bad("ogg of silence, longer than allowed", _encoded(silence, format="OGG")),
        bad("NaN samples", _encoded(not_finite, format="WAV", subtype="FLOAT")),
        bad("shorter than a frame", _flac(wave[:40])),
        bad("no samples", _encoded(wave[:0], format="WAV")),
        bad("wav of 700 kHz", _encoded(wave, 700_000, format="WAV")),
        bad("broken JSON", b'{"inputs": ', as_json),
        bad("deep JSON", b"[" * 50_000, as_json),
        bad("JSON without inputs", document(parameters={}), as_json),
        bad("no base64", document(inputs="***"), as_json),
        bad("unknown parameter", document(inputs=encoded, parameters={"temperature": 2}), as_json),
        bad("top_k of zero", document(inputs=encoded, parameters={"top_k": 0}), as_json),
        bad("unknown model", file, path="/models/nobody"),
        bad("unknown path", file, path="/predict"),
        bad("gzip", file, {"Content-Encoding": "gzip"}),
        bad("multipart", file, {"Content-Type": "multipart/form-data; boundary=x"}),
        bad("too many bytes", b"x", declared=10**9),
    ]


class Client:
    """A client over one connection, light enough to share a machine with the server.

    Args:
        port (`int`): on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: Request) -> tuple[int, Any]:
        """The status and the JSON document of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        length = len(request.body) if request.declared is None else request.declared
        lines = [f"POST {request.path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + request.body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(" ", 2)[1])
        size = int(head.split("content-length:")[1].split("\r\n")[0])
        document = json.loads(await reader.readexactly(size))
        if "connection: close" in head or request.declared is not None:
            await self.close()
        return status, document

    async def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def send_all(
    port: int, requests: list[Request], clients: int, on_answer: Callable[[Request, int, Any], None]
) -> None:
    """Send requests by clients, each of which sends its next one when the last one is answered."""
    numbers = iter(range(len(requests)))

    async def work() -> None:
        client = Client(port)
        for number in numbers:
            request = requests[number]
            try:
                status, document = await client.send(request)
            except (OSError, asyncio.IncompleteReadError) as error:
                await client.close()
                status, document = 0, {"error": repr(error)}
            on_answer(request, status, document)
        await client.close()

    await asyncio.gather(*(work() for _ in range(clients)))
