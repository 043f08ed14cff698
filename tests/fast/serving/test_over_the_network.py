"""A real server on loopback with the real InferenceClient; and the command's user errors."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason='needs pip install "speechprompt-hf[serve]"')
pytest.importorskip("starlette", reason='needs pip install "speechprompt-hf[serve]"')
pytest.importorskip("prometheus_client", reason='needs pip install "speechprompt-hf[serve]"')

from huggingface_hub import InferenceClient, constants
from huggingface_hub.errors import HfHubHTTPError

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.evaluation import predict_files
from speechprompt_hf.modeling.auto import SpeechPromptModel
from speechprompt_hf.serving import ServingLimits
from speechprompt_hf.serving.run import open_socket, url_of, uvicorn_server
from speechprompt_hf.serving.service import SpeechPromptService


@contextlib.contextmanager
def running(service, **options):
    """The address of a server that runs, and the server."""
    listener = open_socket("127.0.0.1", 0)
    started = threading.Event()
    server = uvicorn_server(service, on_start=started.set, **options)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    listener.listen(64)
    thread.start()
    try:
        assert started.wait(10)
        yield url_of(listener), server
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive() and not service.is_healthy


@pytest.fixture
def client_may_connect(monkeypatch):
    # The tests' own offline mode forbids the client everything, loopback too.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_the_hubs_client_works_unchanged(engine, served_adapters, served_recordings, client_may_connect):
    file = served_recordings[0]
    expected = {
        name: next(predict_files(SpeechPromptModel.from_pretrained(served_adapters[name]), [file]))
        for name in ("moods", "texts")
    }
    with running(SpeechPromptService(engine, limits=ServingLimits(max_seconds=5))) as (url, _):
        client = InferenceClient(base_url=f"{url}/models/moods")
        for audio in (str(file), file, file.read_bytes()):
            answer = client.audio_classification(audio)
            assert answer[0].label == expected["moods"].label and len(answer) == 3
            assert answer[0].score == pytest.approx(expected["moods"].probability, abs=1e-4)
        (best,) = client.audio_classification(file, top_k=1, function_to_apply="sigmoid")
        assert best.label == expected["moods"].label
        client = InferenceClient(model=f"{url}/models/texts")
        assert client.automatic_speech_recognition(file).text == expected["texts"].text
        said = client.automatic_speech_recognition(file.read_bytes(), extra_body={"num_beams": 2})
        assert isinstance(said.text, str)
        with pytest.raises(HfHubHTTPError, match="the recording is no wav, flac, ogg, opus or mp3 file") as refused:
            client.automatic_speech_recognition(b"no sound")
        assert refused.value.response.status_code == 422
        with pytest.raises(HfHubHTTPError, match="there is no model 'nobody' here"):
            InferenceClient(base_url=f"{url}/models/nobody").audio_classification(file)
        with pytest.raises(HfHubHTTPError, match="the body has 30000000 bytes; a file may have 10485760"):
            client.automatic_speech_recognition(bytes(30_000_000))
        assert client.automatic_speech_recognition(file).text == expected["texts"].text


def raw(url, text, wait=0.0):
    """What comes back on a connection that is left to the server."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(text)
        time.sleep(wait)
        received = b""
        while b"}" not in received:
            try:
                part = connection.recv(65_536)
            except ConnectionResetError:  # it was cut off
                break
            if not part:
                break
            received += part
    return received.decode()


def test_clients_that_do_not_keep_to_http(engine):
    with running(SpeechPromptService(engine, limits=ServingLimits(timeout_s=1))) as (url, _):
        head = b"POST /models/words HTTP/1.1\r\nHost: x\r\n"
        answer = raw(url, head + b"Content-Length: 5000\r\n\r\nRIFF")
        assert answer.startswith("HTTP/1.1 408") and "the body did not come in time" in answer
        answer = raw(url, head + b"Content-Length: 99999999999\r\n\r\nRIFF")
        assert answer.startswith("HTTP/1.1 413") and "connection: close" in answer.lower()
        assert raw(url, b"this is no HTTP\r\n\r\n").startswith("HTTP/1.1 400")
        assert raw(url, head + b"X: " + b"x" * 200_000 + b"\r\n\r\n")[:12] in ("HTTP/1.1 400", "")
        assert '{"status":"ok"}' in raw(url, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")


def test_what_was_taken_is_answered_before_the_end(engine, served_recordings, monkeypatch):
    httpx2 = pytest.importorskip("httpx2")
    answer, busy = engine.answer, threading.Event()

    def slow(group, questions):
        busy.set()
        time.sleep(0.5)
        return answer(group, questions)

    monkeypatch.setattr(engine, "answer", slow)
    service = SpeechPromptService(engine)
    responses = []
    with running(service) as (url, server):
        file = served_recordings[0].read_bytes()
        asking = threading.Thread(
            target=lambda: responses.append(httpx2.post(f"{url}/models/words", content=file, timeout=20))
        )
        asking.start()
        assert busy.wait(10)
        server.should_exit = True
        asking.join(20)
    assert responses[0].status_code == 200
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health")


def test_addresses_that_cannot_be_had():
    taken = open_socket("127.0.0.1", 0)
    taken.listen(1)
    with pytest.raises(ConfigurationError, match=r"cannot be served on: .*take another port"):
        open_socket("127.0.0.1", taken.getsockname()[1])
    taken.close()
    with pytest.raises(ConfigurationError, match="there is no address no such host"):
        open_socket("no such host", 0)
    with pytest.raises(ConfigurationError, match=r"there is no address a\.\.b"):
        open_socket("a..b", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no adapter was given"),
        (["a/words", "b/words"], "a/words and b/words are both called 'words' -> --name OTHER=b/words"),
        (["--name", "words"], "--name 'words' names no adapter"),
        (["--name", "a b=words"], "an adapter cannot be called 'a b'"),
        (["words", "--max-seconds", "0"], "max_seconds is 0.0"),
        (["words", "--timeout", "-1"], "timeout_s is -1.0"),
        (["./absent", "--port", "0"], "absent"),
        (["words", "--adapter-folder", "."], "--adapter-repo need an admin token -> set SPEECHPROMPT_ADMIN_TOKEN"),
        (["words", "--adapter-repo", "me/*"], "--adapter-repo need an admin token"),
        (
            ["words", "--admin-token", "t", "--adapter-folder", "no/such"],
            "--adapter-folder no/such is no folder -> check the path",
        ),
    ],
)
def test_user_errors_of_the_command(arguments, message, capsys):
    from speechprompt_cli.main import main

    assert main(["serve", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_command_needs_its_extra(monkeypatch, capsys):
    from speechprompt_cli.main import main

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["serve", "words"]) == 2
    assert 'pip install "speechprompt-hf[serve]"' in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_answers_and_ends(served_adapters, served_recordings):
    httpx2 = pytest.importorskip("httpx2")
    command = [sys.executable, "-m", "speechprompt_cli", "serve", str(served_adapters["words"]), "--port", "0"]
    command += ["--name", f"said={served_adapters['texts']}", "--adapter-folder", str(served_adapters["words"].parent)]
    environment = os.environ | {"SPEECHPROMPT_ADMIN_TOKEN": "secret"}
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True, env=environment) as process:
        text = ""
        while not text.endswith("\n}\n"):
            text += process.stdout.readline()
        document = json.loads(text)
        assert [model["name"] for model in document["models"]] == ["words", "said"]
        for model in document["models"]:
            answer = httpx2.post(model["url"], content=served_recordings[0].read_bytes(), timeout=30)
            assert answer.status_code == 200
        answer = httpx2.put(
            f"{document['url']}/models/moods",
            json={"adapter": str(served_adapters["moods"])},
            headers={"Authorization": "Bearer secret"},
            timeout=30,
        )
        assert answer.status_code == 201
        process.terminate()
        assert process.wait(30) in (0, -15)
