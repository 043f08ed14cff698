"""Words, tables and names of a model card: nothing in them is markup by accident, or a path of somebody's machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..core.locations import looks_like_a_path
from ..modeling.adapter_card import escape_markdown

__all__ = ["code", "hub_link", "last_name", "percent", "public_name", "table", "without_paths"]

_QUOTED_PATH = re.compile(
    r"(?P<quote>['\"`])(?P<path>(?:file://|~|\.{0,2}|[A-Za-z]:)[\\/](?:(?!(?P=quote))[^\n])*)(?P=quote)"
)
_PATH = re.compile(
    r"(?P<address>\bhttps?://\S+)|(?P<path>(?:\bfile://|(?<![\w./\\])(?:~|\.{0,2}|[A-Za-z]:)(?=[\\/]))"
    r"[\\/][^\s'\"<>|,;:()]+)"
)


def last_name(path: str) -> str:
    """The last part of a path of any system: what may be said about a place on somebody's machine."""
    # Names of files that are not UTF-8 hold surrogates.
    path = path.encode("utf-8", "replace").decode("utf-8")
    parts = [part for part in re.split(r"[\\/]", path) if part not in ("", ".", "..")]
    is_absolute = re.match(r"[\\/~]|[A-Za-z]:|file:", path) is not None
    parts = [part for part in parts if not re.fullmatch(r"~.*|[A-Za-z]:|file:", part)]
    # /root, ~/x and the like: the first folder of a machine, or the folder of a user, is often a person's name.
    is_home = len(parts) == 2 and parts[0].lower() in ("home", "users") and is_absolute
    too_short = len(parts) < 2 and is_absolute and not path.startswith(("~/", "~\\"))
    return "a folder" if not parts or is_home or too_short else parts[-1]


def public_name(name: str | None) -> str | None:
    """A name as given, or only its last part where it is a path; `None` stays `None`."""
    if name is None:
        return None
    is_path = looks_like_a_path(name) or "\\" in name or re.match(r"[A-Za-z]:|file:", name) or Path(name).exists()
    return last_name(name) if is_path else name


def without_paths(text: str, prefixes: Iterable[str] = ()) -> str:
    """A sentence in which paths are cut to their last part.

    Args:
        text (`str`): of a report's warning.
        prefixes (`Iterable[str]`): folders that are known to be private; names with blanks are recognised only here
            and between quotes.
    """
    for prefix in sorted({prefix.rstrip("\\/") for prefix in prefixes} - {""}, key=len, reverse=True):
        whole = r"(?<![\w.])" + re.escape(prefix)
        text = re.sub(whole + r"[\\/]", "", text)
        text = re.sub(whole + r"(?![\w.-])", last_name(prefix), text)
    text = _QUOTED_PATH.sub(lambda found: found["quote"] + last_name(found["path"]) + found["quote"], text)
    return _PATH.sub(lambda found: found["address"] or last_name(found["path"]), text)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], *, raw: Sequence[int] = ()) -> str:
    """A Markdown table.

    Args:
        head (`Sequence[str]`): titles of the columns.
        rows (`Iterable[Sequence]`): cells; they are escaped.
        raw (`Sequence[int]`): columns whose cells are Markdown already.
    """
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [str(cell) if column in raw else escape_markdown(cell) for column, cell in enumerate(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def code(text: object) -> str:
    """A short text in a code span; backticks and line breaks in it are dropped."""
    plain = " ".join(str(text).encode("utf-8", "replace").decode("utf-8").replace("`", "'").split())
    return f"`{plain.replace('|', '/').replace('<!--', '<! --').replace('-->', '-- >')[:200]}`"


def percent(share: float) -> str:
    """A share in [0, 1] as per cent with one decimal."""
    return f"{100 * share:.1f} %"


def hub_link(repo_id: str, revision: str | None = None, kind: str = "") -> str:
    """A link to a repository of the Hub, at a revision.

    Args:
        repo_id (`str`): its id.
        revision (`str`, *optional*): commit, tag or branch.
        kind (`str`, defaults to `""`): `"datasets/"` for data sets.
    """
    address = f"https://huggingface.co/{kind}{repo_id}"
    if not revision or not re.fullmatch(r"[\w./-]+", revision):
        return f"[{repo_id}]({address})"
    return f"[{repo_id}]({address}/tree/{revision}) at {code(revision)}"
