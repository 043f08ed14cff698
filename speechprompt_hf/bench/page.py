"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from .generalisation import Choice
from .incomplete import incomplete
from .runner import SuiteRun
from .summary import Line
from .tables import (
    CHOICE_HEADING,
    choice_rows,
    choice_sentences,
    dataset_sentence,
    legend,
    remark_lists,
    table_rows,
)

__all__ = ["report_page"]

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #ccc; padding: .25em .7em; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
code { background: #f2f2f2; padding: .15em .3em; } img { max-width: 100%; }
""".strip()


def report_page(
    run: SuiteRun,
    lines: Sequence[Line],
    pictures: Mapping[str, bytes],
    command: str,
    choice: Choice | None = None,
) -> str:
    """Tables, pictures and remarks of a run.

    Args:
        run (`SuiteRun`): what ran.
        lines (`Sequence[Line]`): of it.
        pictures (`Mapping[str, bytes]`): data set → PNG.
        command (`str`): that repeats it.
        choice (`Choice`, *optional*): what was chosen.

    Returns:
        `str`: HTML without links to other files.
    """
    suite = run.suite
    lacking = incomplete(suite, run.cells, run.planned)
    heading = f"{suite.name}: {suite.title}" if suite.title else suite.name
    body = [f"<h1>{escape(heading)}</h1>", f"<p>Made by <code>{escape(command)}</code>.</p>"]
    for spec in suite.datasets:
        mine = [line for line in lines if line.dataset == spec.name]
        without = [each for each in lacking if each.dataset == spec.name]
        if not mine and not without:
            continue
        body.append(f"<h2>{escape(spec.name)}</h2>")
        body.append(f"<p>{escape(dataset_sentence(spec.title, spec.note, mine))}</p>")
        body.append(_table(table_rows(mine, without)))
        if spec.name in pictures:
            data = base64.b64encode(pictures[spec.name]).decode()
            body.append(f'<p><img alt="{escape(spec.name)}" src="data:image/png;base64,{data}"></p>')
    if choice is not None:
        body.append(f"<h2>{CHOICE_HEADING}</h2>")
        body.append(f"<p>{escape(' '.join(choice_sentences(choice)))}</p>")
        body += [_table(rows) for rows in [choice_rows(choice)] if rows]
    body.append("<h2>How to read this</h2>")
    body.append(_list(legend(lines, lacking)))
    for title, remarks in remark_lists(run).items():
        body += [f"<h2>{escape(title)}</h2>", _list(remarks)]
    body += ["<h2>Versions</h2>", _list(_versions(run))]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(heading)}</title>\n'
        f"<style>\n{_STYLE}\n</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in rows[0])
    lines = ["".join(f"<td>{escape(text)}</td>" for text in row) for row in rows[1:]]
    return f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _list(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


def _versions(run: SuiteRun) -> list[str]:
    """Bases and packages of the cells; cells of several runs may name several."""
    found = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in cell["versions"].items()) for cell in run.cells
    )
    bases = dict.fromkeys(
        f"base {cell['base']['source']}, weights {cell['base']['weights']['weights'][:16]}"
        for cell in run.cells
        if cell["base"]
    )
    return [*bases, *found]
