"""A package turned into flat sibling modules, the only form of code that transformers carries along.

transformers finds the files of remote code by a regular expression that knows `from .name import x` and nothing else:
no sub-packages, no `from . import name`, no `from ..package.name import x`. It refuses code with an import that the
reader's machine lacks, wherever in the file it stands, unless it is inside `try`.
"""

from __future__ import annotations

import ast
import re
import sys
from importlib.resources import files

from ..core.errors import ConfigurationError

__all__ = ["ALLOWED_LIBRARIES", "flat_name", "flatten", "flatten_source"]

ALLOWED_LIBRARIES = frozenset({"huggingface_hub", "numpy", "peft", "safetensors", "torch", "transformers"})
"""What a reader has beside Python; anything else is imported by name, through `core.extras.require`."""

_PACKAGE = "speechprompt_hf"
_HEADER = """\
# SPDX-License-Identifier: Apache-2.0
# Generated from {source} of {version}; do not edit.
"""
# Names that say in transformers' own way what a module holds need no folder before them.
_OWN_NAMES = (
    "configuration_",
    "feature_extraction_",
    "modeling_",
    "processing_",
    "processors_",
    "remote_",
    "tokenization_",
)
_IMPORT = re.compile(rb"from(\s+)(\.+\s*[\w.]*)(\s+)import\b")
# transformers.dynamic_module_utils.get_relative_imports
_SEEN_BY_TRANSFORMERS = re.compile(r"^\s*from\s+\.(\S+)\s+import", re.MULTILINE)


def flat_name(module: str) -> str:
    """Name of the flat module that a module of this package becomes.

    Args:
        module (`str`): its name below the package: `"core.errors"`, `"modeling.modeling_gslm"`.

    Returns:
        `str`: `"core_errors"`, `"modeling_gslm"`: the folder stands before names that do not say it themselves.
    """
    folder, _, name = module.rpartition(".")
    return name if name.startswith(_OWN_NAMES) or not folder else f"{folder.replace('.', '_')}_{name}"


def flatten(root: str, version: str) -> dict[str, str]:
    """A module and all modules of this package that it needs, those imported inside functions included.

    Args:
        root (`str`): name of the module below the package.
        version (`str`): what the header of every file says about its origin.

    Returns:
        `dict[str, str]`: source by file name, in the order of the names.

    Raises:
        ConfigurationError: a module cannot travel; the message names file and line.
    """
    sources: dict[str, str] = {}
    origin: dict[str, str] = {}
    waiting = [root]
    while waiting:
        module = waiting.pop()
        name = flat_name(module)
        if origin.setdefault(name, module) != module:
            raise ConfigurationError(f"{origin[name]} and {module} would both become {name}.py", hint="rename one")
        if f"{name}.py" in sources:
            continue
        flat, needed = flatten_source(_read(module), module)
        header = _HEADER.format(source=f"{_PACKAGE}/{module.replace('.', '/')}.py", version=version)
        sources[f"{name}.py"] = header + flat
        waiting += needed
    return dict(sorted(sources.items()))


def flatten_source(source: str, module: str) -> tuple[str, list[str]]:
    """One module with its relative imports written for flat siblings; all else, comments included, stays as it is.

    Args:
        source (`str`): the module's text.
        module (`str`): its name below the package.

    Returns:
        `tuple[str, list[str]]`: the new text, and the modules that it imports, by their names below the package.

    Raises:
        ConfigurationError: an import cannot travel.
    """
    lines = source.encode("utf-8").splitlines(keepends=True)
    needed: dict[str, None] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _check_library(alias.name, module, node.lineno)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            _check_library(node.module or "", module, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            target = _absolute(node, module)
            needed[target] = None
            line = lines[node.lineno - 1]
            rest = line[node.col_offset :]
            match = _IMPORT.match(rest)
            if match is None or line[: node.col_offset].strip():
                raise _refused(module, node.lineno, "an import that does not stand on a line of its own")
            new = b"from%s.%s%simport" % (match[1], flat_name(target).encode(), match[3])
            lines[node.lineno - 1] = line[: node.col_offset] + new + rest[match.end() :]
    flat = b"".join(lines).decode("utf-8")
    seen, expected = set(_SEEN_BY_TRANSFORMERS.findall(flat)), {flat_name(target) for target in needed}
    if seen != expected:
        odd = ", ".join(sorted(seen ^ expected))
        raise _refused(module, 1, f"text that transformers takes for imports, or imports that it does not see: {odd}")
    return flat, list(needed)


def _absolute(node: ast.ImportFrom, module: str) -> str:
    package = module.split(".")[:-1]
    if node.level > len(package) + 1 or node.module is None:
        raise _refused(module, node.lineno, "`from . import name`; write `from .name import …`")
    return ".".join([*package[: len(package) - node.level + 1], node.module])


def _check_library(name: str, module: str, line: int) -> None:
    library = name.split(".")[0]
    if library not in ALLOWED_LIBRARIES and library not in sys.stdlib_module_names:
        raise ConfigurationError(
            f"{_place(module, line)} cannot travel as remote code: readers may lack {library}",
            hint="transformers would refuse the whole code there; import it by name, with core.extras.require",
        )


def _read(module: str) -> str:
    *folders, name = module.split(".")
    source = files(".".join([_PACKAGE, *folders])).joinpath(f"{name}.py")
    if not source.is_file():
        raise ConfigurationError(f"{module} is no module of this package, or a folder", hint="name the module itself")
    return source.read_text(encoding="utf-8")


def _place(module: str, line: int) -> str:
    return f"{module.replace('.', '/')}.py:{line}"


def _refused(module: str, line: int, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_place(module, line)} cannot travel as remote code: it has {what}",
        hint="only `from .name import x` and `from ..core.name import x` travel",
    )
