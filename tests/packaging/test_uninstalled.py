"""The source tree itself: two links, two guards, every folder in setup.cfg."""

import subprocess
import sys
from configparser import ConfigParser

import pytest


@pytest.mark.parametrize("name", ["modeling", "processors"])
def test_a_plain_import_from_the_root_is_refused(project_root, name):
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=project_root, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"import speechprompt_hf.{name}, not {name}" in done.stderr


@pytest.mark.parametrize("name", ["modeling", "processors"])
def test_the_links_lead_to_the_top_level_folders(project_root, name):
    link = project_root / "speechprompt_hf" / name
    assert link.is_symlink()
    assert link.readlink().as_posix() == f"../{name}"


def test_setup_cfg_lists_every_package(project_root):
    setup = ConfigParser(interpolation=None)
    setup.read(project_root / "setup.cfg", encoding="utf-8")
    listed = set(setup["options"]["packages"].split())
    found = {
        ".".join(path.parent.relative_to(project_root).parts)
        for top in ("speechprompt_hf", "speechprompt_cli")
        for path in (project_root / top).rglob("__init__.py")
    } | {"speechprompt_hf.modeling", "speechprompt_hf.processors"}
    assert listed == found


def test_pyproject_names_only_the_build_backend(project_root):
    import tomllib

    content = tomllib.loads((project_root / "pyproject.toml").read_text(encoding="utf-8"))
    assert content.keys() == {"build-system"}


def test_top_level_folders_are_no_second_copy():
    from transformers import AutoConfig

    import speechprompt_hf

    assert AutoConfig.for_model("gslm").__class__ is speechprompt_hf.GSLMConfig
    assert "modeling" not in sys.modules and "processors" not in sys.modules
