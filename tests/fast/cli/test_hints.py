"""What errors of the library advise is understood in Python and on the command line."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Publishing has commands and functions of the same names; its hints are about both.
FOLDERS = [
    path
    for path in (ROOT / "speechprompt_hf").iterdir()
    if path.is_dir() and not path.is_symlink() and path.name not in ("hub", "__pycache__")
]
FOLDERS += [ROOT / "modeling", ROOT / "processors"]


def hints_of(path: Path) -> list[str]:
    """The constant texts of every `hint=` of a module."""
    hints = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "hint":
            parts = [each.value for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
            hints.append("".join(part for part in parts if isinstance(part, str)))
    return hints


def only_for_the_command_line(hint: str) -> list[str]:
    """Options that stand neither in a whole command, nor in brackets behind what Python calls the same."""
    if re.search(r"speechprompt [a-z]|`hf |pip install", hint):
        return []
    outside = re.sub(r"\([^()]*--[^()]*\)|= in Python, --[a-z-]+", "", hint)
    return re.findall(r"--[a-z][a-z-]*", outside)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_hints_do_not_name_options_that_python_lacks(folder):
    found = {
        f"{path.relative_to(ROOT)}: {hint}": options
        for path in folder.rglob("*.py")
        for hint in hints_of(path)
        if (options := only_for_the_command_line(hint))
    }
    assert not found


def test_the_search_finds_what_it_looks_for():
    assert only_for_the_command_line("replace it with --overwrite") == ["--overwrite"]
    assert only_for_the_command_line("name a speaker (--speaker-column), or use --seed") == ["--seed"]
    assert only_for_the_command_line("pass overwrite=True (--overwrite)") == []
    assert only_for_the_command_line("speechprompt convert --list has the names") == []
