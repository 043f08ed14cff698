"""Every kind of file given to every converter: the right one is named, nothing is raised raw, nothing is left."""

import io
import pickle
import re
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from speechprompt_cli.main import main
from speechprompt_hf.convert.catalogue_types import KINDS
from speechprompt_hf.convert.encoder import convert_encoder
from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.file_kinds import kind_of_file
from speechprompt_hf.convert.gslm import convert_gslm
from speechprompt_hf.convert.hifigan import convert_hifigan
from speechprompt_hf.convert.prompt import convert_prompt
from speechprompt_hf.convert.quantizer import convert_quantizer
from speechprompt_hf.convert.source import open_source
from speechprompt_hf.convert.unit_mbart import convert_unit_mbart
from speechprompt_hf.core.errors import ConfigurationError
from tests.fixtures.archives import tar_of, zip_of
from tests.fixtures.foreign_files import foreign_file
from tests.fixtures.official_prompts import prompt_content, prompt_tensors

USUAL_NAMES = {
    "encoder": "hubert_base_ls960.pt",
    "quantizer": "km.bin",
    "gslm": "checkpoint_best.pt",
    "unit-mbart": "checkpoint.pt",
    "hifigan": "g_00500000",
    "prompt": "checkpoint_best.pt",
}
FORMS = ("usual", "older", "tgz", "zip")
CONVERTERS = {
    "encoder": convert_encoder,
    "quantizer": convert_quantizer,
    "gslm": lambda source, made: convert_gslm(source, made, source.with_name("dict.txt")),
    "unit-mbart": lambda source, made: convert_unit_mbart(source, made, source.with_name("dict.txt")),
    "hifigan": lambda source, made: convert_hifigan(source, made, source.with_name("config.json")),
    "prompt": lambda source, made: convert_prompt(source, made, source.with_name("base"), labels=["a", "b"]),
}


def saved(content, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def dumped(estimator, **options) -> bytes:
    stream = io.BytesIO()
    joblib.dump(estimator, stream, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """(kind, form) → a file of it alone in a folder, under its usual name."""
    root = tmp_path_factory.mktemp("kinds")
    made = {}
    for kind in KINDS:
        if kind == "prompt":
            state = prompt_tensors(version=2, kind="deep", width=8, layers=2, vocab=24, num_classes=2)
            whole, older = (
                saved(prompt_content(state, version=2), _use_new_zipfile_serialization=zipped)
                for zipped in (True, False)
            )
        else:
            (root / f"{kind}_parts").mkdir()
            file = foreign_file(kind.replace("-", "_"), root / f"{kind}_parts")
            older_options = {"compress": 3} if kind == "quantizer" else {"_use_new_zipfile_serialization": False}
            whole, older = file.saved(), file.saved(**older_options)
        name = USUAL_NAMES[kind]
        for form, content in zip(
            FORMS, (whole, older, tar_of([(f"a/{name}", whole)]), zip_of([(f"a/{name}", whole)])), strict=True
        ):
            folder = root / f"{kind}_{form}"
            folder.mkdir()
            made[kind, form] = folder / (name if form in ("usual", "older") else f"{kind}.{form}")
            made[kind, form].write_bytes(content)
    return made


def said_by_command(capsys, kind, source, made) -> str:
    more = ["--base", "absent"] if kind == "prompt" else []
    assert main(["convert", kind, str(source), str(made), *more]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Traceback" not in said and ".unpacked" not in said and not made.exists()
    return said


@pytest.mark.parametrize("wanted", KINDS)
def test_every_wrong_pair_names_the_right_command(capsys, stand_ins, tmp_path, wanted):
    for kind in KINDS:
        if kind == wanted:
            continue
        source = stand_ins[kind, "usual"]
        said = said_by_command(capsys, wanted, source, tmp_path / "made")
        assert f"convert it with speechprompt convert {kind}" in said and str(source) in said, (kind, said)
        assert "seems to be" in said and f"not {_article(wanted)}" in said
        assert not any(tmp_path.iterdir())


def _article(kind: str) -> str:
    return {"encoder": "a HuBERT", "quantizer": "a k-means", "gslm": "a unit language model"}.get(
        kind, {"unit-mbart": "a unit mBART", "hifigan": "a unit vocoder", "prompt": "a prompt"}.get(kind, "")
    )


@pytest.mark.parametrize("form", ["usual", "older"])
@pytest.mark.parametrize("wanted", KINDS)
def test_in_python_the_right_function_is_named(stand_ins, tmp_path, wanted, form):
    for kind in KINDS:
        if kind != wanted:
            function = f"speechprompt_hf.convert.{kind.replace('-', '_')}.convert_{kind.replace('-', '_')}"
            with pytest.raises(ConversionError, match=re.escape(function)):
                CONVERTERS[wanted](stand_ins[kind, form], tmp_path / "made")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["tgz", "zip"])
@pytest.mark.parametrize("wanted", KINDS)
def test_a_function_that_takes_files_sends_archives_to_open_source(stand_ins, tmp_path, wanted, form):
    with pytest.raises(ConversionError, match=r"seems to be an archive.*unpack it.*source\.open_source"):
        CONVERTERS[wanted](stand_ins[wanted, form], tmp_path / "made")


WITH_PROMPTS = {"decoder.embed_tokens.weight": torch.ones(1), "decoder.sep_embed.weight": torch.ones(1)}
OTHERS = {
    "a recording": b"RIFF\x00\x00\x00\x00WAVEfmt ",
    "a web page": b"<!DOCTYPE html><html><body>404</body></html>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "a JSON file": b'{"num_embeddings": 100}',
    "a dictionary of units": b"71 345\n12 300\n",
    "weights in safetensors": (2).to_bytes(8, "little") + b'{"}',
    "the discriminators of a vocoder": saved({"mpd": {"w": torch.ones(1)}, "msd": {}}),
    "a language model with its prompts in it": saved({"model": WITH_PROMPTS}),
    "a fine-tuned encoder": saved({"model": {"w2v_encoder.w2v_model.mask_emb": torch.ones(1)}}),
    "a wav2vec 2.0": saved(
        {"model": {"feature_extractor.conv_layers.0.0.weight": torch.ones(1), "quantizer.vars": torch.ones(1)}}
    ),
    "a state dictionary alone": saved({"encoder.layer.weight": torch.ones(1)}),
    "sklearn.decomposition._pca.PCA of scikit-learn": dumped(PCA(1).fit(np.eye(3))),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("wanted", KINDS)
def test_what_no_converter_takes_is_called_what_it_is(tmp_path, wanted, what):
    source = tmp_path / "given"
    source.write_bytes(OTHERS[what])
    with pytest.raises(ConversionError, match=rf"given seems to be {re.escape(what)}.*, not {_article(wanted)}.* \("):
        CONVERTERS[wanted](source, tmp_path / "made")
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_folders_are_called_what_they_are(capsys, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "a folder of transformers: it needs no conversion" in said_by_command(
        capsys, "gslm", tmp_path, tmp_path / "made"
    )
    (tmp_path / "conversion.json").write_text("{}")
    assert "a folder that is converted already: use it as it is" in said_by_command(
        capsys, "encoder", tmp_path, tmp_path / "made"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abcd",
        bytes(range(256)),
        b"PK\x03\x04",
        b"\x80\x02.",
        b"\x80\x04K\x01.",
        saved([1]),
        saved({"model": {}}),
    ],
)
def test_of_other_files_nothing_is_said(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    assert kind_of_file(tmp_path / "x") is None
    assert kind_of_file(tmp_path / "absent") is None


def test_looking_at_a_file_executes_nothing(tmp_path, trap, would_run):
    estimator = KMeans(2, n_init=1).fit(np.eye(3))
    estimator.verbose = trap.planted
    assert would_run(pickle.dumps(estimator))
    for content in (dumped(estimator), saved({"model": {"decoder.embed_tokens.weight": trap.planted}})):
        (tmp_path / "x").write_bytes(content)
        kind_of_file(tmp_path / "x")
        with pytest.raises(ConversionError):
            convert_encoder(tmp_path / "x", tmp_path / "made")
        assert not trap.mark.exists()


# Members of archives.


@pytest.fixture
def opened(tmp_path):
    def run(kind, path, convert=lambda found: None, **options):
        scratch = tmp_path / "scratch"
        with open_source(kind, path, cache_dir=tmp_path, scratch=scratch, **options) as found:
            convert(found)

    return run


@pytest.mark.parametrize("form", ["tgz", "zip"])
def test_errors_name_the_archive_and_the_member(opened, tmp_path, form):
    archive = tmp_path / f"lm.{form}"
    make = tar_of if form == "tgz" else zip_of
    cut = saved({"model": {"decoder.embed_tokens.weight": torch.ones(3, 2)}})[:-7]
    archive.write_bytes(make([("lm/checkpoint_best.pt", cut), ("lm/dict.txt", b"0 1\nx 1\n")]))

    def convert(found):
        convert_gslm(found.checkpoint, tmp_path / "lm", found.companion)

    with pytest.raises(ConversionError, match=rf"checkpoint_best\.pt in {re.escape(str(archive))} is no whole") as one:
        opened("gslm", archive, convert)
    assert ".unpacked" not in str(one.value)
    whole = saved({"cfg": {}, "model": {"decoder.embed_tokens.weight": torch.ones(3, 2)}})
    archive.write_bytes(make([("lm/checkpoint_best.pt", whole), ("lm/dict.txt", b"0 1\nx 1\n")]))
    with pytest.raises(Exception, match=rf"dict\.txt in {re.escape(str(archive))}.*'x'") as two:
        opened("gslm", archive, convert)
    assert ".unpacked" not in str(two.value)


@pytest.mark.parametrize("form", ["tgz", "zip"])
@pytest.mark.parametrize("wanted", KINDS)
def test_a_wrong_kind_inside_an_archive_is_named(opened, stand_ins, tmp_path, wanted, form):
    for kind in KINDS:
        if kind != wanted:
            archive = stand_ins[kind, form]
            words = rf"^{USUAL_NAMES[kind]} in {archive} seems to be .* speechprompt convert {kind}[ ,]"
            with pytest.raises(ConversionError, match=words) as raised:
                opened(wanted, archive, lambda found: CONVERTERS[wanted](found.checkpoint, tmp_path / "made"))
            assert ".unpacked" not in str(raised.value)
    assert not (tmp_path / "made").exists() and not any((tmp_path / "scratch").iterdir())


def test_a_member_of_an_odd_name_is_called_by_its_role(opened, tmp_path):
    archive = tmp_path / "hubert.tgz"
    archive.write_bytes(tar_of([("a/my \x1b[2J model.pt", b"abcd")]))
    with pytest.raises(ConversionError, match=rf"^the checkpoint in {re.escape(str(archive))} starts with"):
        opened("encoder", archive, lambda found: convert_encoder(found.checkpoint, tmp_path / "made"))


def test_a_missing_dictionary_is_asked_for_by_both_names(opened, stand_ins):
    with pytest.raises(ConfigurationError, match=r"gslm needs dict\.txt.*companion= in Python, --dict on the command"):
        opened("gslm", stand_ins["gslm", "tgz"])
