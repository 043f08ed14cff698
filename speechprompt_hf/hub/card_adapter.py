"""What the model card of an adapter says, section by section, from its configuration and its report."""

from __future__ import annotations

from collections import Counter
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..core.embedded import EMBEDDED_BASES
from ..modeling.adapter_card import escape_markdown
from .card_facts import AdapterFacts
from .card_sequences import (
    sequence_evaluations,
    sequence_limits,
    sequence_results,
    sequence_summary,
    sequence_task,
)
from .card_snippets import use_section
from .card_text import code, hub_link, percent, public_name, table, without_paths

__all__ = ["SECTIONS", "adapter_metadata", "adapter_sections"]

SECTIONS = ("summary", "use", "results", "labels", "data", "training", "base", "licence", "limits")
"""Names of the sections, in order."""

_MOST_LABELS = 100
_BASELINES = {
    "majority": "most frequent label",
    "tfidf": "TF-IDF of unit 1-3-grams, linear SVM",
    "hidden_states": "logistic regression on the language model's states",
    "encoder_mean": "logistic regression on the encoder's mean features",
}


def adapter_metadata(facts: AdapterFacts) -> dict[str, Any]:
    """The metadata of the card as `ModelCardData` writes them, without what is unknown."""
    kinds = {"prompt": ["prompt tuning", f"{facts.config.get('prompt_type', 'deep')} prompt"]}
    evaluations = sequence_evaluations(facts) if facts.says_sequences else _evaluations(facts)
    metrics = [result.metric_type for result in evaluations] if facts.says_sequences else ["accuracy", "f1"]
    relation: dict[str, Any] = {"base_model_relation": "finetune" if facts.method == "finetune" else "adapter"}
    data = ModelCardData(
        library_name="peft" if facts.method == "prompt" else "transformers",
        base_model=facts.base_id,
        pipeline_tag=sequence_task(facts)[0] if facts.says_sequences else "audio-classification",
        tags=["speechprompt", "unit language model", *kinds.get(facts.method, [facts.method])],
        license=facts.license,
        language=facts.language,
        datasets=[facts.dataset] if facts.dataset else None,
        metrics=metrics if evaluations else None,
        model_name=facts.name if evaluations else None,
        eval_results=evaluations or None,
        **(relation if facts.base_id else {}),
    )
    return dict(data.to_dict())


def _evaluations(facts: AdapterFacts) -> list[EvalResult]:
    results = {name: facts.report[name] for name in ("accuracy", "macro_f1")} if facts.report else {}
    titles = {"accuracy": "Accuracy", "macro_f1": "Macro-F1"}
    return [
        EvalResult(
            task_type="audio-classification",
            task_name="Audio Classification",
            dataset_type=facts.data_name,
            dataset_name=facts.data_name,
            dataset_split="test",
            metric_type=name,
            metric_name=titles[name],
            metric_value=float(value),
        )
        for name, value in results.items()
    ]


def adapter_sections(facts: AdapterFacts, *, heading: int = 1) -> dict[str, str]:
    """The text of each section that there is something to say in, by name and in order.

    Args:
        facts (`AdapterFacts`): what is known.
        heading (`int`, defaults to 1): level of the card's title; 2 where the README has a title already.
    """
    texts = {
        "summary": (sequence_summary if facts.says_sequences else _summary)(facts, heading),
        "use": use_section(
            facts.opened_as,
            base_id=facts.base_id,
            has_processor=facts.has_processor,
            rate_hz=facts.rate_hz,
            has_remote_code="auto_map" in facts.config,
            says_sequences=facts.says_sequences,
            answers_with_speech=facts.answers_with_speech,
            vocoder=facts.vocoder,
        ),
        "results": sequence_results(facts) if facts.says_sequences else _results(facts),
        "labels": "" if facts.says_sequences else _labels(facts),
        "data": _data(facts),
        "training": _training(facts),
        "base": _base(facts),
        "licence": _licence(facts),
        "limits": _limits(facts),
    }
    return {name: text for name, text in texts.items() if text}


def _summary(facts: AdapterFacts, heading: int) -> str:
    kind = facts.config.get("prompt_type", "deep")
    columns = facts.config.get("num_virtual_tokens", 5)
    reader = {
        "prompt": f"A frozen unit language model reads them behind a {kind} prompt of {columns} trained vectors, "
        "and a verbalizer says the label",
        "probe": "A frozen unit language model reads them, and a linear classifier on its states says the label",
        "finetune": "A unit language model, trained whole, reads them, and a verbalizer says the label",
    }.get(facts.method, facts.method)
    trained = facts.report.get("trained_parameters")
    count = f" ({trained:,} trained parameters)" if trained is not None else ""
    task = facts.report.get("task", {}).get("name")
    named = f" Task: {escape_markdown(task)}." if task and task != "classification" else ""
    lines = [
        f"{'#' * heading} {escape_markdown(facts.name)}",
        "",
        f"Says which of {len(facts.labels):,} labels a recording has.{named} A speech encoder and k-means turn the "
        f"recording into units. {reader}{count}. Trained with speechprompt-hf, after "
        "[SpeechPrompt](https://arxiv.org/abs/2303.00733).",
    ]
    if facts.report:
        low, high = facts.report["accuracy_interval"]
        lines += [
            "",
            f"**Accuracy {percent(facts.report['accuracy'])}** ({_confidence(facts)} interval {percent(low)} to "
            f"{percent(high)}) on {facts.report.get('num_rows', {}).get('test', '?')} test recordings; "
            f"data: {escape_markdown(facts.data_name)}.",
        ]
    return "\n".join(lines)


def _confidence(facts: AdapterFacts) -> str:
    return f"{100 * float(facts.report.get('interval', {}).get('confidence', 0.95)):g} %"


def _results(facts: AdapterFacts) -> str:
    if not facts.report:
        return ""
    low, high = facts.report["accuracy_interval"]
    interval = facts.report.get("interval", {})
    rows: list[tuple[Any, ...]] = [
        (
            "**this adapter**",
            percent(facts.report["accuracy"]),
            f"{percent(low)} to {percent(high)}",
            percent(facts.report["macro_f1"]),
            f"{facts.report['trained_parameters']:,}",
        )
    ]
    for name, values in facts.report.get("baselines", {}).items():
        title = _BASELINES.get(name, escape_markdown(name))
        rows.append((title, percent(values["accuracy"]), "", "", f"{values.get('trained_parameters', 0):,}"))
    head = ("", "accuracy", f"{_confidence(facts)} interval", "macro-F1", "trained parameters")
    text = f"## Results\n\n{table(head, rows, raw=(0,))}\n\nOn the test part. The interval"
    text += f" is over {escape_markdown(interval.get('over', 'rows'))}"
    text += f" ({escape_markdown(interval.get('method', 'unknown method'))}). The baselines are trained on the same"
    text += " rows."
    if "equal_error_rate" in facts.report:
        text += f" Equal error rate: {percent(facts.report['equal_error_rate'])}."
    if facts.has_picture:
        text += "\n\n![Confusion matrix on the test part: true labels against predicted ones](confusion.png)"
    return text


def _labels(facts: AdapterFacts) -> str:
    measured = facts.report.get("per_label", {})
    shown = facts.labels[:_MOST_LABELS]
    rows: list[tuple[str, ...]] = []
    for label in shown:
        values = measured.get(label)
        rows.append((label, *((str(values["num_rows"]), percent(values["recall"])) if values else ("0", "–"))))
    if measured:
        text = table(("label", "test recordings", "recognised"), rows)
    else:
        text = ", ".join(escape_markdown(label) for label in shown)
    more = len(facts.labels) - len(shown)
    rest = f"\n\nAnd {more:,} more: see `id2label` in `config.json`." if more else ""
    return f"## Labels\n\n{text}{rest}" if facts.labels else ""


def _data(facts: AdapterFacts) -> str:
    if not facts.report:
        return ""
    data = facts.report.get("data", {})
    name = hub_link(facts.dataset, kind="datasets/") if facts.dataset else escape_markdown(facts.data_name)
    counts = ", ".join(f"{part} {rows:,}" for part, rows in facts.report.get("num_rows", {}).items())
    speakers = {
        True: "No speaker is in more than one part.",
        False: "Speakers are in more than one part: accuracy on new speakers may be lower.",
    }.get(data.get("speakers_apart"), "Speakers are unknown: they may be in more than one part.")
    digest = data.get("fingerprint", {}).get("digest")
    text = f"## Data\n\nSource: {name}. Rows: {counts}. {speakers}"
    return text + (f" Fingerprint of the rows: {code(digest)}." if digest else "")


def _training(facts: AdapterFacts) -> str:
    training = facts.report.get("training", {})
    settings = dict(training.get("settings") or {})
    if not settings:
        names = (
            "prompt_type",
            "num_virtual_tokens",
            "verbalizer",
            "verbalizer_hidden_size",
            "readout",
            "prompt_init",
            "prompt_dropout",
        )
        settings = {name: facts.config[name] for name in names if name in facts.config}
    further = {
        "method": facts.method,
        "seed": facts.report.get("seed", facts.config.get("seed")),
        "epochs trained": training.get("num_epochs"),
        "augmented copies": training.get("num_copies"),
    }
    rows = [*settings.items(), *((name, value) for name, value in further.items() if value is not None)]
    text = "## Training\n\n" + table(("setting", "value"), rows)
    trained, seconds = facts.report.get("trained_parameters"), facts.report.get("seconds")
    if trained is not None and seconds is not None:
        text += f"\n\n{trained:,} trained parameters, {seconds:.0f} s."
        versions = ", ".join(f"{name} {value}" for name, value in facts.report.get("versions", {}).items())
        text += f" Versions: {escape_markdown(versions, 500)}." if versions else ""
    return text


def _base(facts: AdapterFacts) -> str:
    named = facts.base_id or public_name(facts.config.get("base_model_name_or_path"))
    text = f"## Base and processor\n\nBase: {_repository(named, facts.base_id, facts.base_revision)}."
    weights = (facts.config.get("base_fingerprint") or {}).get("weights")
    text += f" SHA-256 of its weights: {code(weights)}." if weights else ""
    units = facts.report.get("units") or facts.config.get("unit_fingerprint") or {}
    if facts.processor_source not in (None, ".") and facts.has_processor:
        source = public_name(facts.processor_source)
        is_base = facts.processor_source in (facts.base_id, facts.config.get("base_model_name_or_path"))
        public = facts.base_id if is_base else (source if source == facts.processor_source else None)
        revision = facts.base_revision if is_base else facts.processor_revision
        text += f"\n\nProcessor: its encoder and centroids lie in {_repository(public or source, public, revision)}."
    if units:
        encoder = escape_markdown(public_name(str(units.get("encoder_id"))))
        text += f"\n\nUnits: encoder {encoder}, layer {escape_markdown(units.get('layer'))}, fingerprint "
        text += f"{code(units.get('digest'))}. An encoder or centroids with another fingerprint are refused."
    return text


def _repository(named: str | None, public: str | None, revision: str | None) -> str:
    if public and public not in EMBEDDED_BASES:
        return hub_link(public, revision)
    if named in EMBEDDED_BASES:
        return f"{code(named)}, which ships inside the package speechprompt-hf" + (
            f" ({hub_link(str(named), revision)})" if revision else ""
        )
    if named is None:
        return "without a name"
    return f"{escape_markdown(named)}, a folder of the machine that trained this: publish it to share the adapter"


def _licence(facts: AdapterFacts) -> str:
    if facts.license:
        given = ", ".join(facts.license) if isinstance(facts.license, list) else str(facts.license)
        text = f"This adapter: {escape_markdown(given)}."
    else:
        text = "None was named for this adapter."
    if facts.base_id in EMBEDDED_BASES:
        return f"## Licence\n\n{text} The base: Apache-2.0."
    return f"## Licence\n\n{text} The base and the data have licences of their own: see their cards."


def _limits(facts: AdapterFacts) -> str:
    points = [
        "It knows no label but its own: every recording, silence included, gets one of them.",
        "Accuracy holds for recordings and speakers like those of the test part.",
    ]
    if facts.says_sequences:
        points = sequence_limits(facts)
    points += [without_paths(str(warning), facts.private) for warning in facts.report.get("warnings", [])]
    skips = Counter(str(skip.get("error")) for skip in facts.report.get("skips", []))
    if skips:
        kinds = ", ".join(f"{number} {name}" for name, number in sorted(skips.items()))
        points.append(f"Recordings that were left out: {kinds}.")
    return "## Limits\n\n" + "\n".join(f"- {escape_markdown(point, 400)}" for point in points)
