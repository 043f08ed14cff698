"""Programs with a model's process end, and let go of what they hold; real ones, with a real fork."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason='needs pip install "speechprompt-hf[serve]"')
pytest.importorskip("starlette", reason='needs pip install "speechprompt-hf[serve]"')
pytest.importorskip("prometheus_client", reason='needs pip install "speechprompt-hf[serve]"')

from speechprompt_hf.core.errors import SpeechPromptError
from speechprompt_hf.serving.engine_process import EngineEndedError
from speechprompt_hf.serving.run import open_socket, serve
from speechprompt_hf.serving.service import SpeechPromptService

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the model's process is forked on Linux alone")

# The model is nothing, so that a program takes no longer than its imports.
PREAMBLE = """
import sys
from types import SimpleNamespace
import speechprompt_hf.serving.engine_process as module
from speechprompt_hf.serving.engine import ServedModel

class Engine:
    models = {"words": ServedModel("words", "audio-classification", ("no", "yes"))}
    feature_extractor = SimpleNamespace(sampling_rate=16000, min_samples=400)
    from_adapters = classmethod(lambda cls, adapters, device=None: cls())

module.ServingEngine = Engine
"""
COMMAND = """
from speechprompt_cli.main import main
sys.exit(main(["serve", "words", "--port", "0", "--device", "cpu", "--timeout", "60"]))
"""
EXAMPLE = """
from speechprompt_hf.serving.application import create_application
from speechprompt_hf.serving.service import SpeechPromptService
application = create_application(SpeechPromptService(module.EngineProcess({"words": "words"})))
print("made", flush=True)
"""


@pytest.fixture
def program():
    """Start one; it is ended with the test."""
    started = []

    def start(text):
        command = [sys.executable, "-c", PREAMBLE + text]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def connect(port, text=b""):
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(text)
    return connection


@pytest.mark.slow
def test_a_program_that_closes_nothing_ends(program):
    process = program(EXAMPLE)
    assert process.stdout.readline() == "made\n"
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")


@pytest.mark.slow
def test_ctrl_c_shuts_the_door_and_once_more_ends_it(program):
    process = program(COMMAND)
    port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
    unfinished = b"POST /models/words HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nRIFF"
    with connect(port, unfinished):
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        with pytest.raises(ConnectionRefusedError):
            while time.monotonic() < deadline:
                connect(port).close()
                time.sleep(0.1)
        assert process.poll() is None  # it waits for the upload that it took
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_a_model_that_ended_ends_the_service(engine, served_recordings, monkeypatch):
    def ended(group, questions):
        raise EngineEndedError("the model's process has ended")

    monkeypatch.setattr(engine, "answer", ended)
    service, listener, answers = SpeechPromptService(engine), open_socket("127.0.0.1", 0), []
    content = served_recordings[0].read_bytes()
    head = f"POST /models/words HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"

    def ask():
        with connect(listener.getsockname()[1], head.encode() + content) as connection:
            answers.append(b"".join(iter(lambda: connection.recv(65_536), b"")).decode())

    asking = threading.Thread(target=ask)
    with pytest.raises(SpeechPromptError, match=r"the model's process has ended.*restart the service") as failed:
        serve(service, listener, on_start=asking.start)
    assert not failed.value.is_mistake  # the command's exit code is 1
    asking.join(20)
    assert answers[0].startswith("HTTP/1.1 503")
    assert "the model has ended; restart the service" in answers[0] and "retry-after" not in answers[0].lower()
    service.close()  # once more does nothing
