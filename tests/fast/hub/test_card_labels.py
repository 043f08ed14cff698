"""Labels are text, whatever they hold."""

import re

import pytest

from speechprompt_hf.hub.card import write_model_card
from tests.fixtures.cards import SECTION, outside, read, set_config, with_report
from tests.fixtures.tiny_models import PEFT_WARNING

pytestmark = pytest.mark.filterwarnings(PEFT_WARNING)


HOSTILE = [
    "a|b\nc",
    "<script>alert(1)</script>",
    "<!-- /speechprompt:labels -->",
    "-->",
    "![x](http://evil.example/x.png)",
    "`code` **bold** _i_ ~s~ $x$",
    "---\nlicense: mit\n---",
    "# title",
    "{{ jinja }} {0} %s",
    "\u202eevil\u0000\u0085\u2028x",
    "@everyone www.evil.example",
    "x" * 5000,
    "\\",
    "été 日本 🙂",
]


def test_hostile_labels_are_only_text(adapter, readme):
    set_config(adapter, id2label={str(index): label for index, label in enumerate(HOSTILE)})
    with_report(adapter, labels=HOSTILE, task={"name": HOSTILE[1], "labels": HOSTILE, "metric": "accuracy"})
    card = write_model_card(adapter)
    text = read(readme)
    names = [found[1] for found in SECTION.finditer(text)]
    assert names == ["summary", "use", "results", "labels", "data", "training", "base", "licence", "limits"]
    assert outside(text.split("\n---\n", 1)[1]).strip() == ""
    (section,) = [found[0] for found in SECTION.finditer(text) if found[1] == "labels"]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(HOSTILE) and all(row.count("|") == 4 for row in rows)
    assert all(len(row) < 300 for row in rows)
    assert not re.search(r"<(?!!-- /?speechprompt:)", section) and not re.search(r"(?<!\\)\]\(http", section)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x85\u2028\u202e]", text)
    assert "| été 日本 🙂 |" in section and card.data.license is None
    assert write_model_card(adapter).kept == () and read(readme) == text


def test_labels_are_shown_as_they_are_by_markdown(adapter, readme):
    markdown = pytest.importorskip("markdown_it")
    import html

    set_config(adapter, id2label={str(index): label for index, label in enumerate(HOSTILE)})
    with_report(adapter, labels=HOSTILE)
    write_model_card(adapter)
    (section,) = [found[0] for found in SECTION.finditer(read(readme)) if found[1] == "labels"]
    rendered = markdown.MarkdownIt("commonmark").enable("table").render(section)
    cells = [html.unescape(cell) for cell in re.findall(r"<tr>\n<td>(.*?)</td>", rendered)]
    plain = [" ".join(re.sub(r"[\x00\u202e]", "", label).split()) for label in HOSTILE]
    assert cells == [label if len(label) <= 80 else label[:79] + "…" for label in plain]


def test_a_thousand_labels(adapter, readme):
    labels = [f"label {index}" for index in range(1000)]
    set_config(adapter, id2label={str(index): label for index, label in enumerate(labels)})
    with_report(adapter, labels=labels)
    write_model_card(adapter)
    text = read(readme)
    assert "one of 1,000" in text or "of 1,000 labels" in text
    assert "| label 99 | 8 |" in text and "label 100" not in text and "And 900 more" in text
    assert len(text) < 20_000
