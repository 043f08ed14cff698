"""Wheels, source distributions and editable installs: the same modules everywhere, nothing global."""

import os
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.fixtures.effort import thorough

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TOP = {"speechprompt_hf", "speechprompt_cli"}
CHECK = (
    "import speechprompt_hf, speechprompt_hf.modeling, speechprompt_hf.processors, sys;"
    "from transformers import AutoConfig, AutoModelForCausalLM;"
    "from speechprompt_hf.core.embedded import DEFAULT_BASE, resolve_base;"
    "model = AutoModelForCausalLM.from_pretrained(resolve_base(DEFAULT_BASE));"
    "assert type(model) is speechprompt_hf.GSLMForCausalLM;"
    "assert 'modeling' not in sys.modules;"
    "print(speechprompt_hf.__file__)"
)


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_the_packages_and_nothing_global(wheel):
    names = names_in(wheel)
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == TOP
    assert "speechprompt_hf/modeling/modeling_gslm.py" in names
    assert "speechprompt_hf/processors/unit_encoder.py" in names
    assert "speechprompt_hf/py.typed" in names
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)
    assert not any(name.endswith((".pyc", ".pt", ".pkl", ".bin")) for name in names)


def test_wheel_holds_the_backbone(wheel, project_root):
    names = names_in(wheel)
    folder = project_root / "speechprompt_hf" / "backbones" / "default"
    for file in folder.rglob("*"):
        if file.is_file():
            assert f"speechprompt_hf/backbones/default/{file.relative_to(folder).as_posix()}" in names
    assert "speechprompt_hf/backbones/default/encoder/model.safetensors" in names
    assert "speechprompt_hf/backbones/default/self_test.json" in names


def test_wheel_from_a_source_distribution_is_the_same(tree, wheel, build_wheel, run, tmp_path):
    code = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    source = tmp_path / "source"
    shutil.copytree(tree, source, symlinks=True)
    run(sys.executable, "-c", code, tmp_path, cwd=source)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    output = tmp_path / "wheel"
    output.mkdir()
    assert names_in(build_wheel(unpacked, output)) == names_in(wheel)


def test_a_clone_without_symbolic_links_makes_the_same_wheel(tree, wheel, build_wheel, run, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(tree, source, symlinks=True)
    for name in ("modeling", "processors"):
        link = source / "speechprompt_hf" / name
        link.unlink()
        link.write_text(f"../{name}")  # what git writes where links are switched off
    output = tmp_path / "wheel"
    output.mkdir()
    assert names_in(build_wheel(source, output)) == names_in(wheel)


def test_installed_wheel_works_outside_the_tree(wheel, new_environment, run, tmp_path):
    python = new_environment("wheel")
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    where = run(python, "-W", "ignore", "-c", CHECK, cwd=tmp_path).stdout.strip()
    assert "site-packages" in where and str(python.parent.parent) in where
    script = python.parent / "speechprompt"
    assert "quickstart" in run(script, "--help", cwd=tmp_path).stdout
    assert run(script, "--version", cwd=tmp_path).stdout.strip() == version_of(python, run, tmp_path)
    done = run(script, "doctor", cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout


def version_of(python, run, folder):
    return run(python, "-c", "import speechprompt_hf.version as v; print(v.__version__)", cwd=folder).stdout.strip()


@pytest.mark.parametrize("place", ["outside", "root"])
def test_editable_install(tree, new_environment, run, tmp_path, place):
    python = new_environment("editable")
    run(python, "-m", "pip", "install", "-q", "--no-deps", "-e", tree, cwd=tmp_path)
    folder = tmp_path if place == "outside" else tree
    where = run(python, "-W", "ignore", "-c", CHECK, cwd=folder).stdout.strip()
    assert where == str(tree / "speechprompt_hf" / "__init__.py")
    if place == "root":
        assert run(python, "-c", "import modeling", cwd=folder, check=False).returncode != 0


@thorough
def test_type_checker_finds_the_linked_folders(project_root, run, tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed here")
    (tmp_path / "user.py").write_text(
        "from speechprompt_hf.core.units import UnitSequence\n"
        "from speechprompt_hf.modeling.configuration_gslm import GSLMConfig\n"
        "from speechprompt_hf.processors.unit_encoder import UnitEncoder\n"
        "def frames(sequence: UnitSequence, encoder: UnitEncoder) -> int:\n"
        "    return encoder.num_frames(sequence.nonsense)\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", os.devnull, "--ignore-missing-imports"]
    done = run(*command, "--follow-imports=silent", tmp_path / "user.py", cwd=project_root, check=False)
    assert 'has no attribute "nonsense"' in done.stdout
    assert "import-not-found" not in done.stdout
