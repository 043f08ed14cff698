"""The catalogue agrees with itself, with the recipes, and names become files."""

import contextlib
import hashlib
import json
import re
from dataclasses import replace

import pytest
import torch
from transformers import AutoProcessor

from speechprompt_hf.convert import catalogue_entries
from speechprompt_hf.convert.catalogue import (
    NOT_LISTED,
    SERVER,
    address,
    belongs_with,
    entries_of,
    entry_record,
    find_entry,
    has_entry,
)
from speechprompt_hf.convert.catalogue_types import KINDS, CatalogueEntry, CatalogueFile
from speechprompt_hf.convert.download_errors import DiskFullError, FileNotThereError, WrongDigestError
from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.recipes import RECIPES
from speechprompt_hf.convert.source import open_source, record_origin
from speechprompt_hf.convert.whole_base import join_base
from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.core.vocabulary import UnitVocabulary
from speechprompt_hf.processors import SpeechUnitProcessor
from speechprompt_hf.processors.quantizer import Quantizer
from tests.fixtures.archives import tar_of
from tests.fixtures.file_server import FileServer
from tests.fixtures.prosody import RATE, WAVES
from tests.fixtures.prosody import quantizer as prosody_quantizer
from tests.fixtures.speech_encoders import unit_encoder, unit_processor
from tests.fixtures.tiny_models import tiny_lm
from tests.fixtures.unit_mbarts import tiny_mbart

ENTRIES = entries_of()
FILES = [file for entry in ENTRIES for file in (entry.file, entry.companion) if file is not None]


def test_names_are_unique_and_fit_for_a_command_line():
    pairs = [(entry.kind, entry.name) for entry in ENTRIES]
    assert len(set(pairs)) == len(pairs)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for _, name in pairs)
    assert {kind for kind, _ in pairs} == set(KINDS) - {"prompt"}


def test_addresses_are_unique_and_digests_are_sha256():
    addresses = [address(file) for file in FILES]
    assert len(set(addresses)) == len(addresses)
    assert all(re.fullmatch(r"https://dl\.fbaipublicfiles\.com/[\w./-]+", each) for each in addresses)
    digests = [file.sha256 for file in FILES if file.sha256]
    assert len(set(digests)) == len(digests)
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests)


def test_what_the_publishers_pinned_is_pinned_and_nothing_else():
    pinned = {kind: [entry.file.sha256 is not None for entry in entries_of(kind)] for kind in KINDS}
    assert all(pinned["encoder"]) and all(pinned["quantizer"])
    assert not any(pinned["gslm"]) and not any(pinned["unit-mbart"])
    assert sum(pinned["hifigan"]) == 1


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipes_and_catalogue_agree(recipe):
    entry = find_entry("quantizer", recipe.name)
    assert (entry.encoder, entry.layer, entry.num_units) == (recipe.encoder, recipe.layer, recipe.num_units)
    assert find_entry("encoder", recipe.encoder).name == recipe.encoder


def test_every_quantizer_of_an_encoder_that_converts_has_a_recipe():
    usable = {entry.name for entry in entries_of("encoder") if entry.refused is None}
    assert {entry.name for entry in entries_of("quantizer") if entry.encoder in usable} == {
        each.name for each in RECIPES
    }


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_sizes_follow_names_and_what_belongs_together_agrees(entry):
    if entry.units is not None:
        assert entry.num_units == int(entry.units.rpartition("-km")[2])
        assert entry.name.startswith(entry.units)
        for other in ENTRIES:
            if other.units == entry.units:
                assert (other.encoder, other.layer, other.num_units) == (entry.encoder, entry.layer, entry.num_units)
    if entry.encoder is not None:
        assert has_entry("encoder", entry.encoder)
    for kind, names in belongs_with(entry).items():
        for name in names:
            (other,) = [each for each in entries_of(kind) if each.name == name]
            assert entry.name in belongs_with(other)[entry.kind]


def test_the_papers_own_parts_belong_together():
    assert belongs_with(find_entry("gslm", "hubert-base-km100")) == {
        "encoder": ["hubert-base"],
        "quantizer": ["hubert-base-km100"],
        "hifigan": ["hubert-base-km100-lj"],
    }


def test_language_models_of_encoders_that_do_not_convert_are_there():
    for units in ("cpc-big-km100", "logmel-km50", "w2v2-km200"):
        assert find_entry("gslm", units).refused is None
    assert "pGSLM" in NOT_LISTED and "logmel" in NOT_LISTED


def test_what_is_not_listed_is_said_with_its_commands():
    for words in ("TWIST", "slamkit", "convert causal-lm", "train --base FOLDER", "push-base FOLDER"):
        assert words in NOT_LISTED


def test_records_are_json_with_the_same_keys():
    records = [entry_record(entry, "http://mirror/") for entry in ENTRIES]
    assert json.loads(json.dumps(records)) == records
    assert len({tuple(record) for record in records}) == 1
    assert all(record["url"].startswith("http://mirror/") and "//" not in record["url"][8:] for record in records)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("gslm", "hubert-base-kn100", "no gslm of that name.*did you mean hubert-base-km100"),
        ("gslm", "hubert-base", "there is one of kind encoder: speechprompt convert encoder hubert-base"),
        ("gslm", "checkpoint_best.pt", r"no file checkpoint_best\.pt.*convert --list has the names"),
        ("encoder", "cpc-big", "is not converted: CPC is no encoder of transformers"),
        ("prompt", "x", "no prompt of that name"),
    ],
)
def test_unknown_names_are_explained(kind, name, words):
    with pytest.raises(ConfigurationError, match=words):
        find_entry(kind, name)


# Sources: what a command's SOURCE becomes.

WEIGHTS, DICTIONARY = b"\x80 weights" * 1000, b"0 1\n"
ARCHIVE = tar_of([("lm/checkpoint_best.pt", WEIGHTS), ("lm/dict.txt", DICTIONARY)])


@pytest.fixture
def server():
    with FileServer() as server:
        yield server


@pytest.fixture
def opened(tmp_path, server):
    """Opens a source and returns its contents as bytes, with the origin."""

    def run(kind, source, **options):
        places = {"cache_dir": tmp_path / "cache", "scratch": tmp_path / "scratch", "server": server.url}
        with open_source(kind, source, **places, **options) as found:
            companion = None if found.companion is None else found.companion.read_bytes()
            result = found.checkpoint.read_bytes(), companion, found.origin
        assert not (tmp_path / "scratch").exists() or not any((tmp_path / "scratch").iterdir())
        return result

    return run


def test_a_name_is_downloaded_and_unpacked(opened, server):
    server.files["/textless_nlp/gslm/hubert/lm_km100/hubert100_lm.tgz"] = ARCHIVE
    weights, dictionary, origin = opened("gslm", "hubert-base-km100")
    assert (weights, dictionary) == (WEIGHTS, DICTIONARY)
    assert origin == {
        "file": "hubert100_lm.tgz",
        "sha256": hashlib.sha256(ARCHIVE).hexdigest(),
        "name": "hubert-base-km100",
        "url": f"{server.url}/textless_nlp/gslm/hubert/lm_km100/hubert100_lm.tgz",
        "licence": "mit",
        "verified": "size",
    }
    opened("gslm", "hubert-base-km100")
    assert len(server.requests) == 1


def test_a_vocoder_comes_with_its_settings(opened, server):
    folder = "/fairseq/speech_to_speech/vocoder/code_hifigan/hubert_base_100_lj"
    server.files |= {f"{folder}/g_00500000": WEIGHTS, f"{folder}/config.json": b"{}"}
    assert opened("hifigan", "hubert-base-km100-lj")[:2] == (WEIGHTS, b"{}")


def test_a_pinned_digest_protects_a_name(opened, server):
    server.files["/hubert/hubert_base_ls960.pt"] = WEIGHTS
    with pytest.raises(WrongDigestError, match=r"1703cf8d2cdc.* is pinned"):
        opened("encoder", "hubert-base")
    with pytest.raises(FileNotThereError):
        opened("encoder", "mhubert-base")


def test_a_progress_is_asked_for_by_file_name(opened, server, monkeypatch):
    entry = CatalogueEntry("gslm", "tiny", CatalogueFile("a/tiny.pt"), companion=CatalogueFile("a/dict.txt"))
    monkeypatch.setattr(catalogue_entries, "ENTRIES", (entry,))
    server.files |= {"/a/tiny.pt": WEIGHTS, "/a/dict.txt": DICTIONARY}
    seen = []

    @contextlib.contextmanager
    def progress(name):
        yield lambda done, total: seen.append((name, done, total))

    opened("gslm", "tiny", progress=progress)
    assert seen[-1] == ("dict.txt", len(DICTIONARY), len(DICTIONARY))
    assert ("tiny.pt", len(WEIGHTS), len(WEIGHTS)) in seen


def test_a_file_comes_before_a_name(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hubert-base").write_bytes(WEIGHTS)
    weights, _, origin = opened("encoder", "hubert-base")
    assert weights == WEIGHTS
    assert origin == {"file": "hubert-base", "sha256": hashlib.sha256(WEIGHTS).hexdigest()}


def test_a_dictionary_is_found_beside_a_file_unless_it_is_given(opened, tmp_path):
    path = tmp_path / "checkpoint_best.pt"
    path.write_bytes(WEIGHTS)
    with pytest.raises(ConfigurationError, match=r"gslm needs dict\.txt, .*beside .*checkpoint_best\.pt.*--dict"):
        opened("gslm", path)
    (tmp_path / "dict.txt").write_bytes(DICTIONARY)
    assert opened("gslm", path)[1] == DICTIONARY
    (tmp_path / "other.txt").write_bytes(b"7 1\n")
    assert opened("gslm", path, companion=tmp_path / "other.txt")[1] == b"7 1\n"
    with pytest.raises(ConfigurationError, match=r"there is no file .*absent\.txt"):
        opened("gslm", path, companion=tmp_path / "absent.txt")
    with pytest.raises(ConfigurationError, match=r"hifigan needs config\.json.*--config"):
        opened("hifigan", path)


def test_a_given_dictionary_comes_before_that_of_the_archive(opened, tmp_path):
    (tmp_path / "lm.tgz").write_bytes(ARCHIVE)
    (tmp_path / "other.txt").write_bytes(b"7 1\n")
    assert opened("gslm", tmp_path / "lm.tgz")[1] == DICTIONARY
    assert opened("gslm", tmp_path / "lm.tgz", companion=tmp_path / "other.txt")[1] == b"7 1\n"


def test_an_archive_of_something_else_says_what_it_holds(opened, tmp_path):
    (tmp_path / "x.tgz").write_bytes(tar_of([("paper.pdf", b"x")]))
    with pytest.raises(ConversionError, match=r"holds no checkpoint_best\.pt or \*\.pt, but paper\.pdf"):
        opened("gslm", tmp_path / "x.tgz")


def test_a_folder_is_no_source(opened, tmp_path):
    with pytest.raises(ConfigurationError, match=r"is a folder.*give the checkpoint in it"):
        opened("gslm", tmp_path)


def test_a_full_disk_while_unpacking_is_said(opened, tmp_path):
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    (tmp_path / "lm.tgz").write_bytes(ARCHIVE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(DiskFullError, match="no room on the disk to unpack"):
            opened("gslm", tmp_path / "lm.tgz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any((tmp_path / "scratch").iterdir())


def test_a_conversion_remembers_where_it_came_from(tmp_path):
    record_origin(tmp_path, {"url": "x"})
    assert not any(tmp_path.iterdir())
    (tmp_path / "conversion.json").write_text('{"source": "a.pt"}')
    record_origin(tmp_path, {"url": "x"})
    assert json.loads((tmp_path / "conversion.json").read_text()) == {"source": "a.pt", "origin": {"url": "x"}}


def test_the_server_is_the_publishers():
    assert SERVER == "https://dl.fbaipublicfiles.com"


# Joining: the catalogue against what a processor records.

OWN_LAYER = unit_processor("hubert_two_convolutions").unit_encoder.description.layer


@pytest.fixture
def parts(tmp_path):
    """Writes a language model that was converted by a name, and a processor that records its encoder."""

    def write(named, encoder_id, *, kind="gslm", metadata=None, origin=None):
        lm, processor = tmp_path / "lm", tmp_path / "processor"
        units = unit_processor("hubert_two_convolutions")
        num_units = units.unit_encoder.num_units
        if kind == "gslm":
            tiny_lm(vocab_size=num_units + 4).save_pretrained(lm)
        else:
            tiny_mbart(num_units=num_units, vocab_size=num_units + 7).save_pretrained(lm)
        (lm / "dict.txt").write_text(UnitVocabulary.from_num_units(num_units).to_dict_txt())
        record = {} if named is None else {"origin": {"name": named}}
        (lm / "conversion.json").write_text(json.dumps(record))
        units.save_pretrained(processor, save_encoder=True)
        path = processor / "processor_config.json"
        values = json.loads(path.read_text())
        values["unit_encoder"] |= {"encoder_id": encoder_id, "fingerprint": None}
        path.write_text(json.dumps(values))
        if metadata is not None:
            quantizer = Quantizer.load(processor / "quantizer.safetensors")
            Quantizer(quantizer.centroids, metadata).save(processor / "quantizer.safetensors")
        if origin is not None:
            (processor / "encoder" / "conversion.json").write_text(json.dumps({"origin": {"name": origin}}))
        return lm, processor

    return write


@pytest.mark.parametrize(
    ("named", "encoder_id", "options", "words"),
    [
        ("hubert-base-km100", "mhubert-base", {}, "encoder: hubert-base.* has encoder mhubert-base"),
        ("hubert-base-km100", "mine", {"origin": "mhubert-base"}, "encoder: hubert-base.* has encoder mhubert-base"),
        ("cpc-big-km50", "hubert-base", {}, "units cpc-big-km50.*has encoder hubert-base"),
        ("logmel-km50", "hubert-base", {}, "units logmel-km50.*has encoder hubert-base"),
        ("hubert-base-km100", "mine", {}, f"layer: 6.* has layer {OWN_LAYER}"),
        (
            "mhubert-base-km1000",
            "mine",
            {"kind": "unit_mbart", "metadata": {"url": "http://x/hubert/hubert_base_ls960_L9_km500.bin"}},
            "is mhubert-base-km1000.*has units hubert-base-l9-km500",
        ),
        (
            "hubert-base-km100",
            "mine",
            {"metadata": {"source_sha256": find_entry("quantizer", "hubert-base-km50").file.sha256}},
            "units: hubert-base-km100.*has units hubert-base-km50",
        ),
    ],
)
def test_a_processor_of_other_units_is_refused(parts, tmp_path, named, encoder_id, options, words):
    lm, processor = parts(named, encoder_id, **options)
    with pytest.raises(ConversionError, match=words) as raised:
        join_base(lm, processor, tmp_path / "base")
    assert str(lm) in str(raised.value) and str(processor) in str(raised.value)
    assert not (tmp_path / "base").exists()


@pytest.mark.parametrize(
    ("named", "encoder_id"), [(None, "mhubert-base"), ("logmel-km50", "mine"), ("hubert-base-km100", "hubert-base")]
)
def test_what_agrees_or_is_not_known_is_joined(parts, tmp_path, monkeypatch, named, encoder_id):
    lm, processor = parts(named, encoder_id)
    entries = [replace(each, layer=OWN_LAYER) if each.layer is not None else each for each in ENTRIES]
    monkeypatch.setattr(catalogue_entries, "ENTRIES", tuple(entries))
    assert join_base(lm, processor, tmp_path / "base")["output"] == str(tmp_path / "base")


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_second_stream_is_joined_too(tmp_path, interleaved):
    units = SpeechUnitProcessor.from_unit_encoder(
        unit_encoder("hubert_two_convolutions"), prosody_quantizer=prosody_quantizer(5), interleaved=interleaved
    )
    units.save_pretrained(tmp_path / "processor", save_encoder=True)
    lm = tmp_path / "lm"
    num_units = units.tokenizer.vocabulary.num_units
    tiny_lm(vocab_size=num_units + 4).save_pretrained(lm)
    (lm / "dict.txt").write_text(UnitVocabulary.from_num_units(num_units).to_dict_txt())
    (lm / "conversion.json").write_text("{}")
    join_base(lm, tmp_path / "processor", tmp_path / "base")
    joined = AutoProcessor.from_pretrained(tmp_path / "base")
    assert joined.fingerprint == units.fingerprint and joined.model_input_names == units.model_input_names
    ours, theirs = (each(WAVES, sampling_rate=RATE, return_tensors="pt") for each in (units, joined))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    (lm / "dict.txt").write_text(UnitVocabulary.from_num_units(num_units + 3).to_dict_txt())
    with pytest.raises(ConversionError, match=rf"has {num_units + 3} units, .* makes {num_units} .*--num-units"):
        join_base(lm, tmp_path / "processor", tmp_path / "other")
    with pytest.raises(ConfigurationError, match=r"there is no folder .*nothing"):
        join_base(lm, tmp_path / "nothing", tmp_path / "other")
