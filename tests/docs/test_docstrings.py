"""Docstrings say what is true: every public name has one, every documented default is the real one."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted(
    path
    for folder in ("modeling", "processors", "speechprompt_hf", "speechprompt_cli")
    for path in (ROOT / folder).rglob("*.py")
    if not {"modeling", "processors"} & set(path.relative_to(ROOT).parts[1:])
)
# name (`type`, *optional*, defaults to `value`): or defaults to value without ticks
DOCUMENTED = re.compile(r"^\s*(?P<name>\w+) \((?P<type>[^:]*?)defaults to `?(?P<value>[^`)]*)`?\):", re.MULTILINE)


def definitions(path):
    """(name, node, arguments with defaults) of every public function, and of classes by their fields or `__init__`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node, defaults_of(node)
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            fields = {
                item.target.id: item.value
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None
            }
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    fields |= defaults_of(item)
            yield node.name, node, fields


def defaults_of(node):
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    pairs = list(zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True))
    pairs += [(name, value) for name, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value]
    return {name.arg: value for name, value in pairs}


def literal(text):
    try:
        return ast.literal_eval(
            text.strip().replace("\u202f", "").replace(" ", "") if text[:1].isdigit() else text.strip()
        )
    except (ValueError, SyntaxError):
        return None


def wrong_defaults(path):
    wrong = []
    for name, node, defaults in definitions(path):
        for found in DOCUMENTED.finditer(ast.get_docstring(node) or ""):
            if found["name"] not in defaults:
                continue
            try:
                real = ast.literal_eval(defaults[found["name"]])
            except ValueError:
                continue  # a name or a call: not comparable as text
            told = literal(found["value"])
            if told is not None and told != real:
                wrong.append(f"{path.name}: {name}({found['name']}) is {real!r}, the docstring says {found['value']}")
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documented_defaults_are_the_real_ones(path):
    assert wrong_defaults(path) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_is_described(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.name} has no docstring"
    public = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in tree.body:
        if isinstance(node, public) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def test_the_check_sees_a_wrong_default(tmp_path):
    path = tmp_path / "x.py"
    path.write_text(
        'def f(a=3, *, b="x"):\n    """F.\n\n    Args:\n        a (`int`, *optional*, defaults to 4): A.\n'
        '        b (`str`, defaults to `"y"`): B.\n    """\n'
    )
    assert len(wrong_defaults(path)) == 2
