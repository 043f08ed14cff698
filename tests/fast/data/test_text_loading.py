import json

import pytest
import torch
from datasets import Dataset

from speechprompt_hf.core.errors import DatasetError, LabelError, UnitError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.data import (
    SequenceCollator,
    load_text_rows,
    load_text_splits,
    said_units,
    task_tokenizer,
)
from speechprompt_hf.tasks import SequenceTask, slot_filling, speech_recognition

VOCABULARY = UnitVocabulary.from_num_units(20)


def write(folder, **columns):
    rows = len(next(iter(columns.values())))
    table = {"units": [[number % 9, 9 + number % 5] for number in range(rows)], **columns}
    Dataset.from_dict(table).to_parquet(str(folder / "rows.parquet"))
    return folder


def test_texts_need_not_occur_twice(tmp_path):
    folder = write(tmp_path, text=[f"Text {number}" for number in range(30)], speaker=list("abcde") * 6)
    splits = load_text_splits(folder)
    assert sum(len(part) for _, part in splits.items()) == 30 and splits.speakers_apart and splits.kind == "units"
    assert set(splits.train.column_names) == {"units", "label", "speaker", "item"}
    assert splits.options["text_column"] == ["text"] and splits.carved == ("validation", "test")
    again = load_text_splits(folder, **splits.options)
    assert [list(part["label"]) for _, part in again.items()] == [list(part["label"]) for _, part in splits.items()]


def test_a_task_makes_the_texts(tmp_path):
    folder = write(tmp_path, text=["Hello, World!"] * 10 + [None, " - "])
    splits = load_text_splits(folder, text_of=speech_recognition.text_of)
    assert {text for _, part in splits.items() for text in part["label"]} == {"hello world"}
    assert splits.notes[0] == "2 row(s) of pool have no text in text and were left out: pool row 10, pool row 11"
    assert "so the result on new speakers may be lower" in splits.notes[1]
    rows = load_text_rows(folder, split="train", text_of=speech_recognition.text_of)
    assert len(rows) == 10


def test_one_text_for_all_is_no_mistake(tmp_path):
    assert load_text_splits(write(tmp_path, text=["a"] * 9)).labels == ("a",)


def test_slots_come_from_several_columns_or_from_json(tmp_path):
    sizes, roasts = ["large", None, "small"] * 4, ["dark", "Light", None] * 4
    slots = [
        json.dumps({"size": size, "roast": roast}) if size or roast else None
        for size, roast in zip(sizes, roasts, strict=True)
    ]
    folder = write(tmp_path, size=sizes, roast=roasts, slots_json=slots)
    wide = SequenceTask(
        "orders", text_columns=("size", "roast"), normalization="lower", metrics=("slot_f1",), has_slots=True
    )
    parts = [
        load_text_splits(folder, text_column=task.text_columns, text_of=task.text_of) for task in (wide, slot_filling)
    ]
    texts = [[list(part["label"]) for _, part in splits.items()] for splits in parts]
    assert texts[0] == texts[1]
    assert set(parts[0].train["label"]) <= {
        "[size] large [/size] [roast] dark [/roast]",
        "[roast] light [/roast]",
        "[size] small [/size]",
    }


def test_recordings_with_a_metadata_file(label_folder):
    files = sorted(label_folder.rglob("*.wav"))
    rows = [
        {"file_name": str(file.relative_to(label_folder)), "text": f"{file.parent.name} {file.stem}"} for file in files
    ]
    (label_folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    splits = load_text_splits(label_folder)
    assert splits.kind == "audio" and splits.unit_fingerprint is None


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"text": ["a"] * 9}, {"text_column": "words"}, r"no column 'words'.*text_column \(--text-column\)"),
        ({"text": [None] * 9}, {}, "not one of 9 rows of pool has a text in text"),
        ({"text": ["a"] * 9, "more": ["b"] * 9}, {"text_column": ["text", "more"]}, "the text has 2 columns"),
        ({"text": ["a"] * 9}, {"speaker_column": "who"}, r"no column 'who'.*--speaker-column"),
        ({"text": ["a"] * 2}, {}, "row"),
        ({"text": ["no slots"] * 9}, {"text_of": slot_filling}, r"pool row 0 \(pool\): 'no slots' holds no slots"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path, columns, options, words):
    if options.get("text_of") is slot_filling:
        task = SequenceTask("x", metrics=("slot_f1",), has_slots=True)
        options = {"text_of": task.text_of}
    with pytest.raises(DatasetError, match=words):
        load_text_splits(write(tmp_path, **columns), **options)


def test_a_part_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match="has no part 'dev'"):
        load_text_rows(write(tmp_path, text=["a"] * 9), split="dev")


@pytest.mark.parametrize("tokens", ["characters", "words", "subwords"])
def test_tags_of_slots_are_tokens_of_their_own(tokens):
    from speechprompt_hf.tasks import slots_to_text, text_to_slots

    task = SequenceTask("x", tokens=tokens, metrics=("slot_f1",), has_slots=True, num_subwords=60)
    slots = (("coffeeDrink", "house coffee"), ("size", "sixteen ounce"))
    text = slots_to_text(slots)
    tokenizer = task_tokenizer(task, [text, ""])
    ids = tokenizer(text).input_ids
    pieces = tokenizer.convert_ids_to_tokens(ids)
    assert [piece for piece in pieces if piece.startswith("[")] == [
        "[coffeeDrink]",
        "[/coffeeDrink]",
        "[size]",
        "[/size]",
    ]
    assert pieces[-1] == "</s>" and tokenizer.unk_token_id not in ids
    assert text_to_slots(tokenizer.decode(ids, skip_special_tokens=True)) == slots
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]
    assert tokenizer.decode([tokenizer.eos_token_id], skip_special_tokens=True) == ""


@pytest.mark.parametrize("tokens", ["characters", "words", "subwords"])
@pytest.mark.parametrize("slots", [{"size": "large cup", "roast": "dark"}, {"roast": "dark"}, {}])
def test_decoding_gives_the_text_of_slots_again(tmp_path, tokens, slots):
    from transformers import PreTrainedTokenizerFast

    from speechprompt_hf.tasks import slots_to_text

    task = SequenceTask("x", tokens=tokens, metrics=("slot_f1",), has_slots=True, num_subwords=60)
    tokenizer = task_tokenizer(task, [slots_to_text({"size": "large cup"}), slots_to_text({"roast": "dark"})])
    text = slots_to_text(slots)
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    opened = PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), eos_token="</s>")
    said = [tokenizer.bos_token_id, *tokenizer(text).input_ids, tokenizer.pad_token_id]
    assert opened.decode(said, skip_special_tokens=True) == text
    decoder = json.loads((tmp_path / "tokenizer.json").read_text())["decoder"]
    kinds = {step["type"] for step in (decoder or {}).get("decoders", ())}
    assert kinds <= {"Fuse", "Metaspace", "Replace", "Strip"} and bool(kinds) == (tokens != "words")


def test_blanks_that_are_said_beside_tags_are_one():
    tokenizer = task_tokenizer(slot_filling, ["[size] large cup [/size] [roast] dark [/roast]"])
    pieces = ["[size]", " ", " ", "l", "a", " ", "[/size]", " ", "[roast]", "[/roast]", " ", "c"]
    ids = tokenizer.convert_tokens_to_ids(pieces)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "[size] la [/size] [roast] [/roast] c"


def test_slots_that_never_occur_are_told():
    with pytest.raises(LabelError, match="no training row has a slot"):
        task_tokenizer(slot_filling, ["", ""])


def test_collator_pads_texts_with_what_is_not_taught():
    rows = Dataset.from_dict({"units": [[1, 2, 3], [4]], "label": ["ab", "b"], "item": ["x", "y"]})
    tokenizer = task_tokenizer(SequenceTask("x"), rows["label"])
    table = said_units(rows, tokenizer, VOCABULARY)
    assert table["length"] == [5, 3]
    batch = SequenceCollator(VOCABULARY)([table[0], table[1]])
    assert batch["labels"].tolist() == [[4, 5, 2], [5, 2, -100]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch["input_ids"].dtype == batch["labels"].dtype == torch.long
    with pytest.raises(UnitError, match="no units"):
        said_units(Dataset.from_dict({"units": [[]], "label": ["a"], "item": ["x"]}), tokenizer, VOCABULARY)
