"""A report as blocks, written as Markdown and as one HTML page that needs nothing else; and its files."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ..core.files import atomic_path, write_json, write_text

__all__ = [
    "Block",
    "Command",
    "Heading",
    "Items",
    "Paragraph",
    "Picture",
    "Table",
    "as_html",
    "as_markdown",
    "gap_text",
    "interval_text",
    "lists",
    "version_texts",
    "write_files",
]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: .25em .7em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
code { background: #f2f2f2; padding: .15em .3em; } img { max-width: 100%; }
""".strip()


@dataclass(frozen=True)
class Heading:
    """A heading of a level from 1."""

    text: str
    level: int = 2

    def markdown(self) -> str:
        """With number signs."""
        return f"{'#' * self.level} {self.text}"

    def html(self) -> str:
        """As `h1` and so on."""
        return f"<h{self.level}>{escape(self.text)}</h{self.level}>"


@dataclass(frozen=True)
class Paragraph:
    """Sentences."""

    text: str

    def markdown(self) -> str:
        """As it is."""
        return self.text

    def html(self) -> str:
        """As `p`."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Command:
    """The command line that made the report."""

    text: str

    def markdown(self) -> str:
        """As code."""
        return f"Made by `{self.text}`."

    def html(self) -> str:
        """As `code`."""
        return f"<p>Made by <code>{escape(self.text)}</code>.</p>"


@dataclass(frozen=True)
class Items:
    """A list of sentences."""

    texts: Sequence[str]

    def markdown(self) -> str:
        """A line each."""
        return "\n".join(f"- {text}" for text in self.texts)

    def html(self) -> str:
        """As `ul`."""
        return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in self.texts) + "</ul>"


@dataclass(frozen=True)
class Table:
    """Rows of texts, the headings first."""

    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """With a line of dashes under the headings."""
        dashes = ("---",) * len(self.rows[0])
        lines = [self.rows[0], dashes, *self.rows[1:]]
        return "\n".join(f"| {' | '.join(text.replace('|', '/') for text in row)} |" for row in lines)

    def html(self) -> str:
        """As `table`."""
        head, *rest = self.rows
        heads = "".join(f"<th>{escape(text)}</th>" for text in head)
        body = "\n".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rest)
        return f"<table><tr>{heads}</tr>\n{body}</table>"


@dataclass(frozen=True)
class Picture:
    """A PNG that lies beside the Markdown under a name, and inside the page."""

    name: str
    data: bytes

    def markdown(self) -> str:
        """A link."""
        return f"![{self.name}]({self.name}.png)"

    def html(self) -> str:
        """As data."""
        data = base64.b64encode(self.data).decode()
        return f'<p><img alt="{escape(self.name)}" src="data:image/png;base64,{data}"></p>'


Block = Heading | Paragraph | Command | Items | Table | Picture


def as_markdown(blocks: Sequence[Block]) -> str:
    """Blocks with an empty line between them."""
    return "\n\n".join(block.markdown() for block in blocks) + "\n"


def as_html(title: str, blocks: Sequence[Block]) -> str:
    """One page without links to other files."""
    body = "\n".join(block.html() for block in blocks)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f"<style>\n{_STYLE}\n</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def lists(titled: Mapping[str, Sequence[str]]) -> list[Block]:
    """Lists under headings, without empty ones."""
    return [block for title, texts in titled.items() if texts for block in (Heading(title), Items(texts))]


def interval_text(interval: tuple[float, float]) -> str:
    """Both ends."""
    return f"{interval[0]:.3f}–{interval[1]:.3f}"


def gap_text(difference: float | None, interval: tuple[float, float] | None, digits: int = 4) -> str:
    """A difference with its interval; nothing where there is none."""
    if difference is None or interval is None:
        return ""
    return f"{difference:+.{digits}f} ({interval[0]:+.3f} to {interval[1]:+.3f})"


def version_texts(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Bases, then packages, each once; results of several runs may name several.

    Args:
        results (`Sequence[Mapping]`): contents of cells or parts.
    """
    bases = [result["base"] for result in results if result["base"]]
    packages = [", ".join(f"{name} {version}" for name, version in result["versions"].items()) for result in results]
    named = [f"base {base['source']}, weights {base['weights']['weights'][:16]}" for base in bases]
    return list(dict.fromkeys([*named, *packages]))


def write_files(
    folder: Path, texts: Mapping[str, str], summary: Mapping[str, Any], pictures: Mapping[str, bytes]
) -> list[Path]:
    """Write the files of a report.

    Args:
        folder (`Path`): receives them.
        texts (`Mapping[str, str]`): file name → content.
        summary (`Mapping[str, Any]`): content of `summary.json`.
        pictures (`Mapping[str, bytes]`): name → PNG.

    Returns:
        `list[Path]`: the files.
    """
    for name, text in texts.items():
        write_text(folder / name, text)
    write_json(folder / "summary.json", summary)
    for name, data in pictures.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            temporary.write_bytes(data)
    return [folder / name for name in (*texts, "summary.json", *(f"{name}.png" for name in pictures))]
