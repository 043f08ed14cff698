"""The folder of a Space: what it holds, what of a README stays, what is refused. Nothing asks the network."""

import ast
import json
import shutil

import pytest

from speechprompt_hf import DEFAULT_BASE, SpeechPromptForAudioClassification, SpeechUnitProcessor
from speechprompt_hf.core.errors import AdapterError, ConfigurationError
from speechprompt_hf.demo import open_tasks, write_space
from speechprompt_hf.hub.card_metadata import read_readme
from speechprompt_hf.version import __version__
from tests.fixtures.speech_generation import save_vocoder, speaking_model
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


@pytest.fixture(scope="module")
def keywords(tmp_path_factory):
    """An adapter on the embedded base, with files that nobody else shall get."""
    folder = tmp_path_factory.mktemp("adapter") / "keywords"
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    model = SpeechPromptForAudioClassification.from_base(
        DEFAULT_BASE, ["yes", "no"], readout="pooled", processor=processor
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "optimizer.pt").write_bytes(b"private")
    (folder / "report.json").write_text("{}")
    return folder


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def adapters_of(folder):
    """What app.py says, without running it."""
    tree = ast.parse((folder / "app.py").read_text(encoding="utf-8"))
    (table,) = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "ADAPTERS"]
    values = [value.right if isinstance(value, ast.BinOp) else value for value in table.values]
    return {key.value: value.value for key, value in zip(table.keys, values, strict=True)}


def test_a_space_holds_app_requirements_card_and_the_adapters_public_files(keywords, tmp_path):
    write_space({"keywords": keywords, "intents": "org/intents"}, tmp_path / "space", title="My words")
    assert adapters_of(tmp_path / "space") == {"keywords": "adapters/0-keywords", "intents": "org/intents"}
    copied = {name for name in files(tmp_path / "space") if name.startswith("adapters/")}
    assert {"adapters/0-keywords/config.json", "adapters/0-keywords/verbalizer.safetensors"} <= copied
    assert not any(name.endswith(("optimizer.pt", "report.json")) for name in copied)
    assert files(tmp_path / "space") - copied == {"app.py", "requirements.txt", "README.md"}
    assert (tmp_path / "space/requirements.txt").read_text() == f"speechprompt-hf[demo]=={__version__}\n"
    metadata = read_readme(tmp_path / "space/README.md").values
    assert metadata["sdk"] == "gradio" and metadata["app_file"] == "app.py" and metadata["title"] == "My words"
    assert metadata["models"] == ["org/intents"] and "license" not in metadata
    assert isinstance(metadata["python_version"], str) and metadata["sdk_version"].startswith("6.")


def test_the_copied_adapter_opens_and_names_the_embedded_base(keywords, tmp_path):
    write_space({"keywords": keywords}, tmp_path)
    (task,) = open_tasks({"keywords": tmp_path / "adapters/0-keywords"}, device="cpu").values()
    assert task.model.config.base_model_name_or_path == DEFAULT_BASE


def test_names_of_all_kinds_are_literals_and_folders_apart(keywords, tmp_path):
    names = ['a "b"', "a 'b'", "../up", "ä\n", "__import__('os')"]
    write_space(dict.fromkeys(names, keywords), tmp_path, title='end""" + str(1)\n# x')
    found = adapters_of(tmp_path)
    assert list(found) == names and len(set(found.values())) == len(names)
    for place in found.values():
        assert (tmp_path / place / "config.json").is_file()
        assert (tmp_path / place).resolve().parent == (tmp_path / "adapters").resolve()
    compile((tmp_path / "app.py").read_text(encoding="utf-8"), "app.py", "exec")


def test_examples_travel(keywords, recording, tmp_path):
    folder = shutil.copytree(keywords, tmp_path / "keywords")
    (folder / "examples").mkdir()
    shutil.copy(recording, folder / "examples")
    (folder / "examples" / "private.txt").write_text("private")
    write_space({"keywords": folder}, tmp_path / "space")
    found = {name for name in files(tmp_path / "space") if "examples" in name}
    assert found == {f"adapters/0-keywords/examples/{recording.name}"}


def test_what_somebody_wrote_into_the_card_stays(keywords, tmp_path):
    (tmp_path / "README.md").write_text("---\ntitle: Mine\nsdk: docker\npinned: true\n---\nMy own words.\n")
    write_space({"keywords": keywords}, tmp_path, title="Other", license="mit")
    readme = read_readme(tmp_path / "README.md")
    assert readme.body == "My own words.\n"
    assert readme.values["title"] == "Mine" and readme.values["pinned"] is True
    assert readme.values["sdk"] == "gradio" and readme.values["license"] == "mit"


def test_the_card_of_a_space_just_made_is_replaced(keywords, tmp_path):
    (tmp_path / "README.md").write_text(
        "---\ntitle: Space\nsdk: gradio\n---\n\nCheck out the configuration reference at "
        "https://huggingface.co/docs/hub/spaces-config-reference\n"
    )
    write_space({"my words": keywords}, tmp_path)
    assert "- my words" in read_readme(tmp_path / "README.md").body


def test_writing_twice_gives_the_same_files(keywords, tmp_path):
    for name in ("a", "b"):
        write_space({"keywords": keywords}, tmp_path / name)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    for name in files(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_what_cannot_be_a_space_is_refused(keywords, tmp_path):
    with pytest.raises(ConfigurationError, match="no adapter was given"):
        write_space({}, tmp_path / "a")
    with pytest.raises(ConfigurationError, match="there is no folder a/b/c, and no Hub id"):
        write_space({"x": "a/b/c"}, tmp_path / "b")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdapterError, match=r"has no config\.json"):
        write_space({"x": tmp_path / "empty"}, tmp_path / "c")
    folder = shutil.copytree(keywords, tmp_path / "keywords")
    (folder / "processor_config.json").unlink()
    with pytest.raises(AdapterError, match="has no processor"):
        write_space({"x": folder}, tmp_path / "d")


@pytest.fixture(scope="module")
def stories(tmp_path_factory):
    """An adapter on the embedded base that answers with speech, and names no vocoder; a vocoder of its units."""
    root = tmp_path_factory.mktemp("stories")
    processor = SpeechUnitProcessor.from_pretrained(DEFAULT_BASE)
    speaking_model(DEFAULT_BASE, processor=processor).save_pretrained(root / "stories")
    save_vocoder(root / "voice", 100)
    (root / "voice" / "optimizer.pt").write_bytes(b"private")
    (root / "voice" / "README.md").write_text("A voice.")
    return root


def named(stories, target, vocoder):
    """The adapter with a vocoder that it names."""
    shutil.copytree(stories / "stories", target)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocoder_name_or_path": vocoder}))
    return target


def vocoders_of(folder):
    """The argument of `run_page` in app.py, as text; `None` where there is none."""
    tree = ast.parse((folder / "app.py").read_text(encoding="utf-8"))
    (call,) = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "run_page"]
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "vocoder"), None)


def test_a_vocoder_in_a_folder_goes_with_the_page(stories, keywords, tmp_path):
    write_space({"k": keywords, "s": stories / "stories"}, tmp_path / "space", vocoder=stories / "voice")
    assert vocoders_of(tmp_path / "space") == "HERE / 'vocoders/0-voice'"
    copied = {name for name in files(tmp_path / "space") if name.startswith("vocoders/")}
    assert copied == {f"vocoders/0-voice/{name}" for name in ("config.json", "model.safetensors", "README.md")}
    assert "see what these adapters answer" in read_readme(tmp_path / "space/README.md").body
    space = tmp_path / "space"
    (task,) = open_tasks(
        {"s": space / adapters_of(space)["s"]}, device="cpu", vocoder=space / "vocoders/0-voice"
    ).values()
    assert task.model.vocoder.sampling_rate == 500


def test_a_vocoder_on_the_hub_is_named(stories, tmp_path):
    write_space({"s": stories / "stories", "other": "org/other"}, tmp_path / "a", vocoder="org/voice")
    assert vocoders_of(tmp_path / "a") == "'org/voice'" and not (tmp_path / "a/vocoders").exists()
    assert read_readme(tmp_path / "a/README.md").values["models"] == ["org/other", "org/voice"]
    write_space({"other": "org/other"}, tmp_path / "b", vocoder=stories / "voice")
    assert vocoders_of(tmp_path / "b") == "HERE / 'vocoders/0-voice'"


def test_vocoders_that_adapters_name_are_taken_once(stories, keywords, tmp_path):
    local = named(stories, tmp_path / "local", str(stories / "voice"))
    hub = named(stories, tmp_path / "hub", "org/voice")
    write_space({"a": local, "b'": local, "c": hub, "k": keywords}, tmp_path / "space")
    expected = {"a": "HERE / 'vocoders/0-voice'", "b'": "HERE / 'vocoders/0-voice'", "c": "'org/voice'"}
    assert vocoders_of(tmp_path / "space") == (
        "{" + ", ".join(f"{name!r}: {place}" for name, place in expected.items()) + "}"
    )
    # The folder is nobody's to know.
    assert str(stories) not in "".join(
        (tmp_path / "space" / name).read_text(errors="replace") for name in files(tmp_path / "space")
    )


def test_pages_without_speech_are_told_of_no_vocoder(keywords, tmp_path):
    write_space({"k": keywords, "other": "org/other"}, tmp_path)
    assert vocoders_of(tmp_path) is None


def test_a_space_that_could_not_speak_is_refused(stories, keywords, tmp_path):
    with pytest.raises(ConfigurationError, match=r"units of the adapter 's' sound .*--vocoder DIR_OR_ID"):
        write_space({"s": stories / "stories"}, tmp_path / "a")
    with pytest.raises(ConfigurationError, match="none of the adapters answers with speech"):
        write_space({"k": keywords}, tmp_path / "b", vocoder=stories / "voice")
    with pytest.raises(ConfigurationError, match=r"the vocoder says 7 units, the adapter 's' has 100"):
        write_space({"s": stories / "stories"}, tmp_path / "c", vocoder=save_vocoder(tmp_path / "other", 7))
    with pytest.raises(AdapterError, match="makes no sound of units"):
        write_space({"s": stories / "stories"}, tmp_path / "d", vocoder=keywords)
    with pytest.raises(ConfigurationError, match="no vocoder in a folder a/b/c"):
        write_space({"s": stories / "stories"}, tmp_path / "e", vocoder="a/b/c")
