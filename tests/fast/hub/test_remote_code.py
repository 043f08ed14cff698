import ast
import io
import json
import os
import shutil
import sys
import tokenize
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_import_files, get_relative_imports

from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.hub import remote_flatten, remote_speechprompt
from speechprompt_hf.hub.remote_code import (
    adapter_auto_map,
    add_remote_code,
    auto_map_entries,
    generate_remote_code,
    refer_to_remote_code,
    remote_code_files,
)
from speechprompt_hf.hub.remote_flatten import ALLOWED_LIBRARIES, flat_name, flatten, flatten_source
from speechprompt_hf.modeling.bases import base_types

ROOT = Path(__file__).resolve().parent.parent.parent.parent
JSON_FILES = ("config.json", "processor_config.json", "tokenizer_config.json")


@pytest.fixture
def base(tmp_path):
    """The embedded base without its weights."""
    folder = tmp_path / "base"
    folder.mkdir()
    for name in JSON_FILES:
        shutil.copy(Path(resolve_base(DEFAULT_BASE)) / name, folder)
    return folder


@pytest.fixture
def adapter(base):
    folder = base.parent / "adapter"
    shutil.copytree(base, folder)
    (folder / "config.json").write_text('{"model_type": "speechprompt", "label": "é"}')
    return folder


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The generated modules, judged by transformers' own functions


def test_transformers_finds_every_module_from_the_entry(tmp_path):
    names = generate_remote_code(tmp_path)
    found = get_relative_import_files(tmp_path / "remote_speechprompt.py")
    assert {Path(name).name for name in found} | {"remote_speechprompt.py"} == set(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_transformers_sees_each_import_and_asks_for_no_library_that_a_reader_may_lack(tmp_path):
    for name in generate_remote_code(tmp_path):
        tree = ast.parse((tmp_path / name).read_text(encoding="utf-8"))
        relative = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
        assert set(get_relative_imports(tmp_path / name)) == relative, name
        asked = set(get_imports(tmp_path / name)) - sys.stdlib_module_names
        assert asked <= {"huggingface_hub", "numpy", "peft", "safetensors", "torch", "transformers"}, name


def test_only_the_relative_imports_differ_from_the_sources():
    def words(text):
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        return [token.string for token in tokens if token.type not in (tokenize.NL, tokenize.NEWLINE)]

    for name, text in remote_code_files().items():
        head, version, rest = text.split("\n", 2)
        assert head == "# SPDX-License-Identifier: Apache-2.0" and version.endswith("; do not edit.")
        source = version.split()[3]
        original = words((ROOT / source).read_text(encoding="utf-8"))
        flat = words(rest)
        while original and flat:
            if original[0] == flat[0]:
                del original[0], flat[0]
                continue
            # The tokens of a module's name: `..core.errors` was one to five of them, `.core_errors` is two.
            assert original[0] in (".", "..", "...") or flat[0] != original[0], name
            end, new_end = original.index("import"), flat.index("import")
            assert all(word == "." or word.isidentifier() for word in original[:end] + flat[:new_end]), name
            del original[:end], flat[:new_end]
        assert original == flat == [], name


def test_the_same_version_generates_the_same_bytes():
    assert flatten("hub.remote_speechprompt", "speechprompt-hf 9") == flatten(
        "hub.remote_speechprompt", "speechprompt-hf 9"
    )


# Flattening of one module


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("core.errors", "core_errors"),
        ("modeling.modeling_gslm", "modeling_gslm"),
        ("modeling.auto", "modeling_auto"),
        ("processors.auto", "processors_auto"),
        ("processors.tokenization_units", "tokenization_units"),
        ("version", "version"),
    ],
)
def test_flat_name(module, name):
    assert flat_name(module) == name


@pytest.mark.parametrize(
    ("source", "flat", "needed"),
    [
        ("from .auto import x\n", "from .modeling_auto import x\n", ["modeling.auto"]),
        (
            "from ..core.errors import (\n    A,  # why\n)\n",
            "from .core_errors import (\n    A,  # why\n)\n",
            ["core.errors"],
        ),
        ("def f():\n    from .auto import x\n", "def f():\n    from .modeling_auto import x\n", ["modeling.auto"]),
        ("if True:\n\tfrom  .auto  import x\n", "if True:\n\tfrom  .modeling_auto  import x\n", ["modeling.auto"]),
        (
            '"""Ünïcödé."""\r\nfrom .auto import é\r\n',
            '"""Ünïcödé."""\r\nfrom .modeling_auto import é\r\n',
            ["modeling.auto"],
        ),
        (
            "import os, torch.nn\nfrom numpy import x  # from .a\n",
            "import os, torch.nn\nfrom numpy import x  # from .a\n",
            [],
        ),
        ("x = '''\n  from ..core.errors take\n'''\n", "x = '''\n  from ..core.errors take\n'''\n", []),
    ],
)
def test_imports_are_rewritten_in_place(source, flat, needed):
    assert flatten_source(source, "modeling.x") == (flat, needed)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("from . import auto\n", "modeling/x.py:1 .*from . import name"),
        ("\nfrom .. import core\n", "modeling/x.py:2 .*from . import name"),
        ("from ...elsewhere import x\n", "modeling/x.py:1 "),
        ("import os; from .auto import x\n", "a line of its own"),
        ("if True: from .auto import x\n", "a line of its own"),
        ("from \\\n    .auto import x\n", "a line of its own"),
        ('"""Example:\n\n    from .auto import x\n"""\n', "takes for imports, or imports that it does not see: auto"),
        ("def f():\n    import soundfile\n", "modeling/x.py:2 .*readers may lack soundfile"),
        ("from scipy.signal import x\n", "readers may lack scipy .*core.extras.require"),
        ("import speechprompt_hf\n", "readers may lack speechprompt_hf"),
    ],
)
def test_what_cannot_travel_is_refused(source, message):
    with pytest.raises(ConfigurationError, match=message):
        flatten_source(source, "modeling.x")


def test_cycles_and_imports_inside_functions_are_followed_where_they_stand(monkeypatch):
    modules = {
        "modeling.a": "from .b import g\n\ndef f():\n    return 1\n",
        "modeling.b": "def g():\n    from .a import f\n    from ..core.c import h\n    return f() + h()\n",
        "core.c": "def h():\n    return 1\n",
    }
    monkeypatch.setattr(remote_flatten, "_read", modules.__getitem__)
    files = flatten("modeling.a", "v")
    assert list(files) == ["core_c.py", "modeling_a.py", "modeling_b.py"]
    assert "    from .modeling_a import f\n    from .core_c import h\n" in files["modeling_b.py"]


def test_two_modules_of_one_flat_name_are_refused(monkeypatch):
    modules = {
        "modeling.a": "from .modeling_core_x import z\n",
        "modeling.modeling_core_x": "from ..modeling_core.x import z\n",
        "modeling_core.x": "z = 1\n",
    }
    monkeypatch.setattr(remote_flatten, "_read", modules.__getitem__)
    with pytest.raises(ConfigurationError, match=r"would both become modeling_core_x\.py .rename one"):
        flatten("modeling.a", "v")


@pytest.mark.parametrize("module", ["modeling.nothing", "modeling"])
def test_a_module_that_is_not_there_is_named(module):
    with pytest.raises(ConfigurationError, match=f"{module} is no module of this package"):
        flatten(module, "v")


# auto_map


def references(value):
    """Every `module.Class` in a nested auto_map."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [found for item in items if item is not None for found in references(item)]


@pytest.mark.parametrize("kind", ["base", "adapter", "processor", "tokenizer"])
def test_entries_name_classes_of_the_entry_module(kind):
    for reference in references(auto_map_entries(kind)):
        module, name = reference.split(".")
        assert module == "remote_speechprompt" and name in remote_speechprompt.__all__
        assert getattr(remote_speechprompt, name).__name__ == name
    assert references(auto_map_entries(kind, "org/base")) == [
        f"org/base--{reference}" for reference in references(auto_map_entries(kind))
    ]


def test_adapter_auto_map_names_the_base():
    entries = adapter_auto_map("org/base")
    assert entries["AutoModel"] == "org/base--remote_speechprompt.SpeechPromptModel"
    name = "SpeechPromptForSequenceGeneration"
    assert entries["AutoModelForSpeechSeq2Seq"] == f"org/base--remote_speechprompt.{name}"


@pytest.mark.parametrize("model_type", base_types())
def test_every_base_has_the_doors_of_its_adapters(model_type):
    entries = auto_map_entries("base", model_type=model_type)["config.json"]
    for auto in ("AutoModelForAudioClassification", "AutoModelForSpeechSeq2Seq"):
        cls = getattr(remote_speechprompt, entries[auto].split(".")[1])
        assert cls.config_class.model_type == model_type and cls.opens.__name__ in remote_speechprompt.__all__


@pytest.mark.parametrize("base_id", ["org/a--b", "/cache/models--org--base/snapshots/1", ""])
def test_a_place_that_transformers_cannot_read_in_a_reference_is_refused(base_id):
    with pytest.raises(ConfigurationError, match=f"cannot be referred to in {base_id!r} .*another name"):
        adapter_auto_map(base_id)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigurationError, match=r"kind is 'model' .one of 'base'"):
        auto_map_entries("model")


def test_importing_the_entry_inside_the_package_changes_nothing():
    assert not remote_speechprompt.register_unless_known()
    assert "_stay_a_reference" not in str(remote_speechprompt.GSLMConfig.register_for_auto_class)


# Folders


def test_a_base_carries_code_and_names_it_beside_what_it_said_before(base):
    before = {name: json.loads((base / name).read_text()) for name in JSON_FILES}
    names = add_remote_code(base)
    assert set(names) == {*JSON_FILES, *remote_code_files()}
    after = {name: json.loads((base / name).read_text()) for name in JSON_FILES}
    assert after["config.json"].pop("auto_map") == auto_map_entries("base")["config.json"]
    assert after["tokenizer_config.json"].pop("auto_map") == {
        "AutoTokenizer": ["remote_speechprompt.UnitTokenizer", None]
    }
    assert after["processor_config.json"].pop("auto_map") == {
        "AutoProcessor": "remote_speechprompt.SpeechUnitProcessor"
    }
    assert after["processor_config.json"]["feature_extractor"].pop("auto_map") == {
        "AutoFeatureExtractor": "remote_speechprompt.SpeechUnitFeatureExtractor"
    }
    assert after == before
    first = snapshot(base)
    add_remote_code(base)
    assert snapshot(base) == first


def test_an_adapter_refers_to_the_code_and_carries_none(adapter):
    (adapter / "language_model").mkdir()
    (adapter / "language_model" / "config.json").write_text('{"auto_map": {"AutoConfig": "remote_speechprompt.X"}}')
    (adapter / "preprocessor_config.json").write_text("{}")
    names = refer_to_remote_code(adapter, "org/base")
    assert names == sorted([*JSON_FILES, "language_model/config.json", "preprocessor_config.json"])
    for name in names:
        values = json.loads((adapter / name).read_text())
        maps = [values["auto_map"], values.get("feature_extractor", {}).get("auto_map", {})]
        assert all(reference.startswith("org/base--remote_speechprompt.") for reference in references(maps))
    assert json.loads((adapter / "config.json").read_text())["label"] == "é"
    assert not list(adapter.glob("*.py"))


def test_a_base_is_no_adapter_and_an_adapter_no_base(base, adapter, tmp_path):
    with pytest.raises(ConfigurationError, match="holds base of model type 'gslm', no adapter"):
        refer_to_remote_code(base, "org/base")
    with pytest.raises(ConfigurationError, match="holds adapter of model type 'speechprompt', no base"):
        add_remote_code(adapter)
    with pytest.raises(ConfigurationError, match=r"has no config\.json .give the folder of a saved base"):
        add_remote_code(tmp_path)
    (base / "config.json").write_text('{"model_type": "xglm"}')
    with pytest.raises(ConfigurationError, match="holds something else of model type 'xglm'"):
        add_remote_code(base)


def test_own_files_are_not_touched_and_old_generated_ones_go(base):
    add_remote_code(base)
    licence = "# SPDX-License-Identifier: Apache-2.0\n"
    (base / "modeling_old.py").write_text(f"{licence}# Generated from speechprompt_hf/modeling/old.py of 0\n")
    (base / "train.py").write_text("# mine\n")
    add_remote_code(base)
    assert not (base / "modeling_old.py").exists() and (base / "train.py").read_text() == "# mine\n"
    (base / "core_units.py").write_text("# mine\n")
    before = snapshot(base)
    for change in (add_remote_code, generate_remote_code):
        with pytest.raises(ConfigurationError, match=r"core_units\.py was not generated by this package"):
            change(base)
    assert snapshot(base) == before


def test_a_damaged_file_stops_before_anything_is_written(base):
    (base / "tokenizer_config.json").write_text("{")
    before = snapshot(base)
    with pytest.raises(ConfigurationError, match=r"tokenizer_config\.json is not valid JSON"):
        add_remote_code(base)
    assert snapshot(base) == before


def test_a_full_disk_changes_nothing_and_leaves_nothing_behind(base, monkeypatch):
    before, write = snapshot(base), Path.write_text

    def full(path, text, **options):
        if "tokenization_units" in path.name:
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        add_remote_code(base)
    assert snapshot(base) == before


def test_files_that_name_the_code_are_moved_into_place_last(base, monkeypatch):
    moved, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda old, new: (moved.append(Path(new).name), replace(old, new)))
    add_remote_code(base)
    assert set(moved[-3:]) == set(JSON_FILES) and moved[-1] == "config.json"
    assert set(moved[:-3]) == set(remote_code_files())


def test_every_library_that_may_be_imported_is_one_that_transformers_or_peft_bring():
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert all(f"    {name}>=" in setup for name in ALLOWED_LIBRARIES)
