"""`speechprompt demo` and `push --space`: one sentence for everything that can be given wrongly, and one page."""

import json
import shutil
import threading

import pytest

from speechprompt_cli.commands import demo
from tests.fixtures.speech_generation import save_speaking_folders, save_vocoder
from tests.fixtures.tiny_models import PEFT_WARNING


def test_what_is_given_wrongly_is_one_sentence(speechprompt, adapter_folder, tmp_path):
    for arguments, message in (
        ([], "no adapter was given"),
        ([tmp_path / "none"], "there is no folder"),
        ([tmp_path], "has no config.json"),
        ([adapter_folder, "--name", "words"], "'words' is no name with a folder"),
        ([adapter_folder, "--name", f"{adapter_folder.name}={adapter_folder}"], "would both be called"),
        ([adapter_folder, "--device", "abacus"], "device 'abacus'"),
        ([adapter_folder, "--port", "0"], "'--port'"),
        ([adapter_folder, "--max-seconds", "0"], "'--max-seconds'"),
    ):
        answer = speechprompt("demo", *arguments)
        assert answer.code == 2, arguments
        assert message in answer.err and "Traceback" not in answer.err, answer.err
        assert answer.out == ""


def test_without_gradio_the_extra_is_named(speechprompt, adapter_folder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    answer = speechprompt("demo", adapter_folder)
    assert answer.code == 2
    assert 'pip install "speechprompt-hf[demo]"' in answer.err


class Page:
    """Stands for gradio's, which is tested elsewhere."""

    closed = False

    def close(self, verbose):
        self.closed = True


@pytest.fixture
def shown(monkeypatch):
    """What would be shown, and Ctrl-C as soon as it is."""
    import speechprompt_hf.demo as library

    seen = {"page": Page()}

    def build(answers, *, title):
        seen.update(answers=answers, title=title)
        return seen["page"]

    def launch(page, **options):
        seen.update(options)
        return "http://127.0.0.1:7860/"

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            raise KeyboardInterrupt

    monkeypatch.setattr(library, "build_page", build)
    monkeypatch.setattr(library, "launch_page", launch)
    monkeypatch.setattr(demo, "Event", Interrupted)
    return seen


def test_the_address_is_the_result_and_ctrl_c_ends_it(speechprompt, adapter_folder, shown):
    answer = speechprompt(
        "demo", adapter_folder, "--no-browser", "--port", 8123, "--max-seconds", 3, "--max-megabytes", 2
    )
    assert (answer.code, answer.out) == (0, "http://127.0.0.1:7860/\n")
    assert (shown["port"], shown["open_browser"], shown["share"]) == (8123, False, False)
    assert (shown["limits"].max_seconds, shown["limits"].max_bytes) == (3, 2_000_000)
    assert list(shown["answers"].tasks) == [adapter_folder.name]
    assert shown["page"].closed


def test_names_and_title_reach_the_page(speechprompt, adapter_folder, shown):
    answer = speechprompt(
        "demo", "--name", f"my words={adapter_folder}", "--title", "T", "--host", "0.0.0.0", "--json"
    )
    assert answer.code == 0
    assert json.loads(answer.out) == {"address": "http://127.0.0.1:7860/", "tasks": ["my words"]}
    assert (shown["title"], shown["host"], shown["open_browser"]) == ("T", "0.0.0.0", True)


def test_options_of_spaces_and_of_adapters_are_kept_apart(speechprompt, adapter_folder):
    for options, message in (
        (["--name", "a=b"], "--name is an option of Spaces alone"),
        (["--title", "T"], "--title is an option of Spaces alone"),
        (["--vocoder", "v"], "--vocoder is an option of Spaces alone"),
        (["--package", "p"], "--package is an option of Spaces alone"),
        (["--space", "--dataset", "org/data"], "--dataset is no option of a Space"),
        (["--space", "--language", "en"], "--language is no option of a Space"),
        (["--space", "--name", "a"], "'a' is no name with a folder"),
    ):
        answer = speechprompt("push", adapter_folder, "org/space", *options)
        assert answer.code == 2, options
        assert message in answer.err, answer.err


def test_a_space_needs_an_id_and_a_network(speechprompt, adapter_folder):
    answer = speechprompt("push", "--space", adapter_folder, "no id")
    assert answer.code == 2 and "'no id' is no repository id" in answer.err
    answer = speechprompt("push", "--space", adapter_folder, "org/space")
    assert answer.code == 2 and "HF_HUB_OFFLINE" in answer.err


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_a_vocoder_and_a_limit_reach_adapters_that_speak(speechprompt, adapter_folder, shown, tmp_path):
    folder = save_speaking_folders(tmp_path)
    other = save_vocoder(
        tmp_path / "other", 20, sampling_rate=1000, upsample_rates=(5, 4), upsample_kernel_sizes=(11, 8)
    )
    answer = speechprompt("demo", folder / "adapter", "--vocoder", other, "--max-answer-seconds", 2)
    assert answer.code == 0, answer.err
    (task,) = shown["answers"].tasks.values()
    assert task.says_speech and task.model.vocoder.sampling_rate == 1000
    assert shown["limits"].max_answer_seconds == 2
    shutil.rmtree(folder / "vocoder")
    answer = speechprompt("demo", folder / "adapter")
    assert answer.code == 2 and "names the vocoder" in answer.err and "--vocoder" in answer.err
    answer = speechprompt("demo", adapter_folder, "--vocoder", other)
    assert answer.code == 2 and "none of the adapters answers with speech" in answer.err
