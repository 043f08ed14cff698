"""The page itself: its functions in this process, and its endpoints over HTTP as any client calls them."""

import base64
import gc
import html
import re
import shutil
import socket
import urllib.request
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import soundfile

from speechprompt_hf.core.errors import ConfigurationError, MissingDependencyError
from speechprompt_hf.demo import DemoAnswers, UploadLimits, build_page, launch_page, open_tasks
from speechprompt_hf.demo.opening import DemoTask
from tests.fixtures.tiny_models import PEFT_WARNING

gradio = pytest.importorskip("gradio", reason="the extra demo is not installed")

# Every page of gradio leaves an event loop open; they are collected while this is known. Its queue counts visitors by
# what pandas 3.1 calls deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:'future.no_silent_downcasting'",
    "ignore:The copy keyword is deprecated",
    PEFT_WARNING,
)


@pytest.fixture(autouse=True, scope="module")
def collected():
    yield
    gc.collect()


@pytest.fixture
def page(answers):
    return build_page(answers)


def functions(page):
    return {function.api_name: function.fn for function in page.fns.values()}


def components(page, kind):
    return [block for block in page.blocks.values() if type(block).__name__ == kind]


def test_a_label_comes_with_all_probabilities_and_nothing_else(page, answers, recording):
    asked = {}
    ((message, label, text, picture, speech),) = functions(page)["answer"](str(recording), "moods", asked)
    (expected,) = answers.answer("moods", recording)
    assert (message, picture) == ("", "")
    assert label["visible"] and label["value"] == expected.probabilities
    assert not text["visible"] and text["value"] == ""
    assert not speech["visible"] and speech["value"] is None


def test_a_text_grows(page, answers, recording):
    updates = list(functions(page)["answer"](str(recording), "texts", {}))
    expected = [answer.text for answer in answers.answer("texts", recording)]
    assert [text["value"] for _, _, text, _, _ in updates] == expected
    assert all(text["visible"] and not label["visible"] for _, label, text, _, _ in updates)


def test_a_refusal_is_an_alert_with_nothing_of_the_visitors_that_runs(page, corrupt):
    ((message, label, text, picture, speech),) = functions(page)["answer"](str(corrupt), "words", {})
    assert message.startswith('<p role="alert">&lt;i&gt;corrupt.wav cannot be read')
    assert not label["visible"] and not text["visible"] and picture == ""
    assert not speech["visible"]
    assert functions(page)["picture"](str(corrupt), "words", {}) == ""


def test_without_a_recording_the_page_is_empty(page):
    ((message, label, text, picture, speech),) = functions(page)["answer"](None, "words", {})
    assert (message, picture) == ("", "") and not label["visible"] and not text["visible"]
    assert not speech["visible"]
    assert functions(page)["picture"](None, "words", {}) == ""


def test_a_picture_is_an_image_with_its_description(page, answers, recording):
    shown = functions(page)["picture"](str(recording), "moods", {})
    expected = answers.picture("moods", recording)
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', shown)
    assert base64.b64decode(data) == expected.png
    # One of the labels is HTML.
    assert "<b>" not in shown
    assert f'alt="{html.escape(expected.description)}"' in shown


def test_a_late_picture_of_an_earlier_recording_is_not_shown(page, recording):
    asked = {}
    list(functions(page)["answer"](str(recording), "words", asked))
    assert "<img" in functions(page)["picture"](str(recording), "words", asked)
    list(functions(page)["answer"](str(recording), "moods", asked))
    assert functions(page)["picture"](str(recording), "words", asked) == gradio.skip()
    list(functions(page)["answer"](None, "moods", asked))
    assert functions(page)["picture"](str(recording), "moods", asked) == gradio.skip()


def test_tasks_are_picked_where_there_are_several(page, tasks):
    (picker,) = components(page, "Radio")
    assert [name for name, _ in picker.choices] == list(tasks) and picker.visible
    alone = build_page(DemoAnswers({"words": tasks["words"]}))
    assert not components(alone, "Radio")[0].visible
    many = build_page(DemoAnswers({f"task {number}": tasks["words"] for number in range(7)}))
    assert len(components(many, "Dropdown")[0].choices) == 7


def test_examples_are_offered_where_an_adapter_has_some(page, tasks, recording, tmp_path):
    assert not components(page, "Dataset")
    example = shutil.copy(recording, tmp_path / "example.wav")
    task = DemoTask("words", tasks["words"].model, (example,))
    (samples,) = components(build_page(DemoAnswers({"words": task})), "Dataset")
    assert [name for _, name in samples.samples] == ["words"]


def test_titles_are_text(answers):
    about = components(build_page(answers, title="<script>alert(1)</script>"), "HTML")[0]
    assert "<script>" not in about.value and "&lt;script&gt;" in about.value


@pytest.fixture
def address(answers):
    page = build_page(answers)
    yield launch_page(page, limits=UploadLimits(max_bytes=50_000))
    page.close(verbose=False)


def test_a_client_gets_answers_and_pictures(address, answers, recording, corrupt, monkeypatch):
    from gradio_client import Client, handle_file

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    client = Client(address, verbose=False, analytics_enabled=False)
    message, label, _, _, _ = client.predict(handle_file(recording), "moods", api_name="/answer")
    (expected,) = answers.answer("moods", recording)
    assert message == "" and label["value"]["label"] == expected.label
    assert "<img" in client.predict(handle_file(recording), "moods", api_name="/picture")
    message, label, _, _, _ = client.predict(handle_file(corrupt), "moods", api_name="/answer")
    assert "cannot be read as sound" in message and not label["visible"]
    texts = client.submit(handle_file(recording), "texts", api_name="/answer")
    assert texts.result()[2]["value"] == list(answers.answer("texts", recording))[-1].text
    client.close()


def test_large_files_are_refused_while_they_are_uploaded(address):
    import httpx

    upload = f"{address}gradio_api/upload"
    assert httpx.post(upload, files={"files": ("a.wav", b"x" * 40_000)}, trust_env=False).status_code == 200
    assert httpx.post(upload, files={"files": ("a.wav", b"x" * 60_000)}, trust_env=False).status_code == 413


def test_the_page_names_no_other_host_and_no_telemetry(address):
    with urllib.request.urlopen(address) as answer:
        text = answer.read().decode()
    loaded = re.findall(r'(?:src|href)="(?:https?:)?//([^/"]+)', text)
    assert set(loaded) <= {"127.0.0.1:" + address.split(":")[2].strip("/")}
    assert '"analytics_enabled":false' in text.replace(" ", "")


def test_a_taken_port_and_a_strange_host_are_refused(answers):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot be shown on 127\.0\.0\.1, port {port}"):
            launch_page(build_page(answers), port=port)
    with pytest.raises(ConfigurationError, match=r"cannot be shown on 192\.0\.2\.1"):
        launch_page(build_page(answers), host="192.0.2.1")
    with pytest.raises(ConfigurationError, match="cannot be shown on no such host"):
        launch_page(build_page(answers), host="no such host")


def test_nothing_is_shared_without_a_network(answers, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigurationError, match="a public address needs the network"):
        launch_page(build_page(answers), share=True)


def test_without_gradio_the_extra_is_named(answers, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "speechprompt-hf\[demo\]"'):
        build_page(answers)


@pytest.fixture(scope="module")
def spoken(adapters, speaking):
    return open_tasks({"words": adapters["words"], "stories": speaking / "adapter"}, device="cpu")


def test_speech_is_shown_as_sound_and_what_was_shown_before_goes(spoken, recording):
    page = build_page(DemoAnswers(spoken))
    (picker,) = components(page, "Radio")
    assert [name for name, _ in picker.choices] == ["words", "stories"]
    ((message, label, text, picture, speech),) = functions(page)["answer"](str(recording), "stories", {})
    (expected,) = DemoAnswers(spoken).answer("stories", recording)
    assert (message, picture) == ("", "") and not label["visible"] and not text["visible"]
    assert speech["visible"] and speech["value"] == expected.wav
    assert "then the answer" in functions(page)["picture"](str(recording), "stories", {})


def test_a_client_hears_the_vocoders_samples_at_its_rate(spoken, recording, monkeypatch):
    from gradio_client import Client, handle_file

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    answers = DemoAnswers(spoken)
    (expected,) = answers.answer("stories", recording)
    page = build_page(answers)
    try:
        client = Client(launch_page(page), verbose=False, analytics_enabled=False)
        *_, speech = client.predict(handle_file(recording), "stories", api_name="/answer")
        assert Path(speech["value"]).read_bytes() == expected.wav
        wave, rate = soundfile.read(speech["value"], dtype="float32")
        # As loud as it was made: nothing has raised its peak to full scale.
        assert rate == 500 and np.abs(wave).max() == pytest.approx(np.abs(expected.waveform).max(), abs=1e-4)
        *_, speech = client.predict(handle_file(recording), "words", api_name="/answer")
        assert not speech["visible"] and speech["value"] is None
        client.close()
    finally:
        page.close(verbose=False)
