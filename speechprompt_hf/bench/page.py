"""The report of a run: tables, pictures and remarks, as Markdown and as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .blocks import Block, Command, Heading, Paragraph, Picture, Table, as_html, as_markdown, lists, version_texts
from .generalisation import Choice
from .incomplete import incomplete
from .runner import SuiteRun
from .summary import Line
from .tables import choice_rows, choice_sentences, dataset_sentence, legend, table_rows

__all__ = ["markdown", "report_page"]


def markdown(run: SuiteRun, lines: Sequence[Line], command: str, choice: Choice | None = None) -> str:
    """The tables with the command that made them, what was compared and what was skipped.

    Args:
        run (`SuiteRun`): what ran.
        lines (`Sequence[Line]`): of it.
        command (`str`): that repeats it.
        choice (`Choice`, *optional*): what was chosen.
    """
    return as_markdown(_blocks(run, lines, {}, command, choice))


def report_page(
    run: SuiteRun,
    lines: Sequence[Line],
    pictures: Mapping[str, bytes],
    command: str,
    choice: Choice | None = None,
) -> str:
    """The same with pictures and versions.

    Args:
        run (`SuiteRun`): what ran.
        lines (`Sequence[Line]`): of it.
        pictures (`Mapping[str, bytes]`): data set → PNG.
        command (`str`): that repeats it.
        choice (`Choice`, *optional*): what was chosen.

    Returns:
        `str`: HTML without links to other files.
    """
    blocks = [*_blocks(run, lines, pictures, command, choice), *lists({"Versions": version_texts(run.cells)})]
    return as_html(run.suite.heading, blocks)


def _blocks(
    run: SuiteRun, lines: Sequence[Line], pictures: Mapping[str, bytes], command: str, choice: Choice | None
) -> list[Block]:
    suite = run.suite
    lacking = incomplete(suite, run.cells, run.planned)
    blocks: list[Block] = [Heading(suite.heading, 1), Command(command)]
    for spec in suite.datasets:
        mine = [line for line in lines if line.dataset == spec.name]
        without = [each for each in lacking if each.dataset == spec.name]
        if mine or without:
            blocks += [Heading(spec.name), Paragraph(dataset_sentence(spec.title, spec.note, mine))]
            blocks.append(Table(table_rows(mine, without)))
        if spec.name in pictures:
            blocks.append(Picture(spec.name, pictures[spec.name]))
    if choice is not None:
        blocks.append(Heading("Chosen on some data sets, reported on the others"))
        blocks.append(Paragraph(" ".join(choice_sentences(choice))))
        blocks += [Table(rows) for rows in [choice_rows(choice)] if rows]
    return [*blocks, *lists({"How to read this": legend(lines, lacking), **run.remarks()})]
