"""docs/architecture.md's table of allowed imports, held on the syntax tree of every file."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = "speechprompt_hf"

# Lower number: lower layer. A folder may import lower layers and itself, never its neighbours or what is above.
LAYERS = {
    "core": 0,
    "version": 0,
    "modeling": 1,
    "processors": 1,
    "tasks": 2,
    "audio_pipeline": 2,
    "data": 3,
    "pretraining": 3,
    "hub": 3,
    "convert": 3,
    "decoding": 3,
    "generation": 4,
    "synthesis": 4,
    "vocoding": 4,
    "evaluation": 4,
    "explanation": 4,
    "training": 4,
    "serving": 4,
    "backbones": 5,
    "bench": 5,
    "demo": 5,
    "registration": 5,
    "speechprompt_cli": 6,
    "__main__": 7,
}
# training and evaluation meet: a training run ends with a report. A service says texts as `predict` does.
NEIGHBOURS = {("training", "evaluation"), ("serving", "evaluation")}
SOURCES = sorted(
    path
    for folder in ("modeling", "processors", PACKAGE, "speechprompt_cli")
    for path in (ROOT / folder).rglob("*.py")
    if not {"modeling", "processors"} & set(path.relative_to(ROOT).parts[1:])
)


def module_name(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in ("modeling", "processors"):
        parts = (PACKAGE, *parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def imported_names(path: Path) -> list[tuple[int, tuple[str, ...]]]:
    """(line, absolute name) of every import, those inside functions and `if TYPE_CHECKING` included."""
    name = module_name(path)
    package = name if path.name == "__init__.py" else name[:-1]
    found: list[tuple[int, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, tuple(alias.name.split("."))) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = (*start, *(node.module.split(".") if node.module else ()))
            # `from ..core import units` names a module too.
            found += [(node.lineno, (*base, alias.name)) for alias in node.names]
    return found


def layer_name(module: tuple[str, ...]) -> str | None:
    if module[0] == "speechprompt_cli":
        return "speechprompt_cli"
    if module[0] != PACKAGE or len(module) < 2:
        return None
    return module[1]


def violations(path: Path) -> list[str]:
    here = layer_name(module_name(path))
    wrong = []
    for line, target in imported_names(path):
        there = layer_name(target)
        if here is None or there is None or there == here or there not in LAYERS:
            continue
        if LAYERS[there] < LAYERS[here] or (here, there) in NEIGHBOURS:
            continue
        wrong.append(f"{path.relative_to(ROOT)}:{line}: {here} imports {'.'.join(target)}")
    return wrong


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_imports_only_lower_layers(path):
    assert violations(path) == []


def test_every_folder_has_a_layer():
    folders = {layer_name(module_name(path)) for path in SOURCES} - {None}
    assert folders <= LAYERS.keys()


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("modeling/x.py", "from ..processors.auto import register"),
        ("processors/x.py", "from speechprompt_hf.modeling import auto"),
        ("speechprompt_hf/core/x.py", "import speechprompt_hf.tasks.task"),
        ("speechprompt_hf/data/x.py", "def f():\n    from ..pretraining import packing"),
        ("speechprompt_hf/evaluation/x.py", "from ..training import trainer"),
    ],
)
def test_the_check_sees_forbidden_imports(tmp_path, monkeypatch, place, line):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    path.write_text(line + "\n")
    assert len(violations(path)) == 1


@pytest.mark.parametrize("folder", ["modeling", "processors"])
def test_flat_folders_use_only_imports_that_travel_as_remote_code(folder):
    for path in (ROOT / folder).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            module = node.module or ""
            assert module, f"{path.name}:{node.lineno}: `from . import x` does not travel"
            if node.level == 1:
                assert "." not in module, f"{path.name}:{node.lineno}: {folder} is flat"
            else:
                assert module.startswith("core."), f"{path.name}:{node.lineno}: only core is imported from outside"


HEAVY = {"datasets", "sklearn", "matplotlib", "torchaudio", "soundfile", "soxr", "evaluate", "espeakng_loader"}


@pytest.mark.parametrize("folder", ["speechprompt_hf/core", "modeling", "processors"])
def test_optional_libraries_are_imported_inside_functions(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & HEAVY, f"{path.name}:{node.lineno}"


def test_command_line_imports_the_library_only_inside_functions():
    light = {*sys.stdlib_module_names, "typer", "speechprompt_cli"}
    for path in (ROOT / "speechprompt_cli").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] in light, f"{path.name}:{node.lineno}"
            elif isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= light, f"{path.name}:{node.lineno}"
