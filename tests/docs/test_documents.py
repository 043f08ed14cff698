"""README and docs name only what exists; the README's commands have the promised form."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks_under(heading):
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("heading", ["Quick start", "Tests"])
def test_the_two_commands_are_one_line_in_a_bash_block(heading):
    (command,) = [text for language, text in blocks_under(heading) if language == "bash"]
    assert command.count("\n") == 1
    assert "://" not in command and "--index-url" not in command


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_every_command_is_in_the_readme():
    from speechprompt_cli.main import COMMANDS

    for name in COMMANDS:
        assert re.search(rf"`(speechprompt )?{name}`", README), name


def test_python_example_is_short():
    (example,) = [text for language, text in blocks_under("In Python") if language == "python"]
    assert len(example.splitlines()) <= 15


def test_no_file_names_a_machine():
    pattern = re.compile(r"/(root|home|work|tmp)/|file://|pypi\.org/simple|\.whl @")
    files = [*DOCUMENTS, ROOT / "setup.cfg", ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "notebooks").glob("*")]
    for path in files:
        assert not pattern.search(path.read_text(encoding="utf-8")), path.name


def test_versions_agree():
    from speechprompt_hf.version import __version__

    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_licence_is_the_whole_text():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


def test_architecture_page_names_every_folder():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = [path.name for path in (ROOT / "speechprompt_hf").iterdir() if (path / "__init__.py").is_file()]
    for name in folders:
        assert f"`{name}`" in text, name
