"""fairseq's own numbers from converted mBARTs, and what does not fit is refused by name."""

import json
import os
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch

from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.unit_mbart import convert_unit_mbart
from speechprompt_hf.core.errors import SpeechPromptError, VocabularyError
from speechprompt_hf.modeling import UnitMBartForConditionalGeneration
from speechprompt_hf.modeling.base_loading import base_vocabulary, load_base
from tests.fixtures.mutations import mutated, saved, with_mutated_pickle
from tests.fixtures.unit_mbarts import VARIANTS, golden, write_dictionary

UNITS = 20
EN = 4 + UNITS


class Checkpoint:
    """A checkpoint that can be changed before it is written."""

    def __init__(self, folder, variant="pre"):
        self.folder = folder
        self.content, self.outputs, self.said = golden(variant)
        self.state, self.args = self.content["model"], self.content["args"]
        self.symbols = [str(unit) for unit in range(UNITS)]

    def resize(self, rows):
        """Another embedding in all its places."""
        for name in ("encoder.embed_tokens", "decoder.embed_tokens", "decoder.output_projection"):
            self.state[f"{name}.weight"] = rows

    @property
    def embedding(self):
        return self.state["encoder.embed_tokens.weight"]

    def convert(self, **options):
        torch.save(self.content, self.folder / "checkpoint.pt")
        dictionary = write_dictionary(self.folder / "dict.txt", self.symbols)
        return convert_unit_mbart(self.folder / "checkpoint.pt", self.folder / "lm", dictionary, **options)

    @torch.no_grad()
    def logits(self, attn_implementation="sdpa"):
        lm = UnitMBartForConditionalGeneration.from_pretrained(
            self.folder / "lm", attn_implementation=attn_implementation
        )
        source = self.outputs["source"]
        return lm(source, attention_mask=source.ne(1).long(), decoder_input_ids=self.outputs["said"]).logits


@pytest.fixture
def checkpoint(tmp_path):
    return Checkpoint(tmp_path)


@pytest.mark.parametrize("attn_implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_fairseq(tmp_path, variant, attn_implementation):
    checkpoint = Checkpoint(tmp_path, variant)
    record = checkpoint.convert()
    assert (checkpoint.logits(attn_implementation) - checkpoint.outputs["logits"]).abs().max() < 2e-5
    assert record["normalize_before"] is (variant == "pre")
    assert record["languages"] == ["en", "es"] and record["has_mask"] is True and record["max_positions"] == 30
    assert (record["units"], record["vocab_size"], record["settings_found_in"]) == (UNITS, UNITS + 7, "args")
    assert json.loads((tmp_path / "lm" / "conversion.json").read_text()) == {
        key: value for key, value in record.items() if key != "output"
    }
    embeddings = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
    assert record["keys_left_out"].keys() == {"encoder.version", "decoder.version", *embeddings}
    assert base_vocabulary(tmp_path / "lm").num_units == load_base(tmp_path / "lm").num_units == UNITS


@pytest.mark.parametrize("variant", VARIANTS)
def test_generation_is_fairseq_s(tmp_path, variant):
    checkpoint = Checkpoint(tmp_path, variant)
    checkpoint.convert()
    lm = UnitMBartForConditionalGeneration.from_pretrained(tmp_path / "lm")
    source = checkpoint.outputs["source"]
    said = lm.generate(source, attention_mask=source.ne(1).long(), max_new_tokens=13, do_sample=False)
    for found, expected in zip(said.tolist(), checkpoint.said["greedy"], strict=True):
        assert found[: 1 + len(expected)] == [EN, *expected]
        assert set(found[1 + len(expected) :]) <= {1}


def test_settings_may_stand_in_cfg(checkpoint):
    args = vars(checkpoint.args)
    task = {"_name": "multilingual_denoising", "langs": "en,es", "add_lang_token": True, "poisson_lambda": 3.5}
    model = {key: value for key, value in args.items() if key not in ("langs", "add_lang_token", "task", "arch")}
    checkpoint.content.update(args=None, cfg={"model": Namespace(_name="mbart_large", **model), "task": task})
    record = checkpoint.convert()
    assert (record["settings_found_in"], record["noise"]) == ("cfg", {"poisson_lambda": 3.5})
    assert (checkpoint.logits() - checkpoint.outputs["logits"]).abs().max() < 2e-5


def test_half_precision(checkpoint):
    checkpoint.convert(dtype="float16")
    lm = UnitMBartForConditionalGeneration.from_pretrained(checkpoint.folder / "lm")
    assert lm.dtype == torch.float16
    expected = checkpoint.embedding.half()
    assert torch.equal(lm.get_input_embeddings().weight, expected)


def test_made_up_words_between_units_and_languages_are_left_out(checkpoint):
    rows = checkpoint.embedding
    checkpoint.resize(torch.cat([rows[:EN], torch.ones(4, rows.shape[1]), rows[EN:]]))
    checkpoint.symbols += [f"madeupword{number:04d}" for number in range(4)]
    record = checkpoint.convert()
    assert (record["padded_rows_left_out"], record["vocab_size"]) == (4, UNITS + 7)
    assert (checkpoint.logits() - checkpoint.outputs["logits"]).abs().max() < 2e-5
    assert (checkpoint.folder / "lm" / "dict.txt").read_text().splitlines()[-1].split()[0] == str(UNITS - 1)


def test_padding_that_the_dictionary_does_not_list_is_found_too(checkpoint):
    rows = torch.cat([checkpoint.embedding[: EN - 2], checkpoint.embedding[EN:]])
    checkpoint.symbols = checkpoint.symbols[:-2]
    checkpoint.resize(torch.cat([rows[: EN - 2], torch.ones(2, rows.shape[1]), rows[EN - 2 :]]))
    assert checkpoint.convert()["padded_rows_left_out"] == 2


def test_a_truncated_mask_and_listed_languages_are_read(checkpoint):
    checkpoint.resize(checkpoint.embedding[:-1])
    checkpoint.symbols += ["[en]", "[es]"]
    del checkpoint.args.langs
    checkpoint.args.task = "speech_to_speech"
    record = checkpoint.convert()
    assert (record["has_mask"], record["languages"]) == (False, ["en", "es"])
    assert (checkpoint.logits() - checkpoint.outputs["logits"][..., :-1]).abs().max() < 2e-5


def test_the_caller_may_name_the_languages_and_the_format(checkpoint):
    checkpoint.args.langs = None
    record = checkpoint.convert(languages=["en_XX", "es_XX"], inner_eos=False)
    assert (record["languages"], record["inner_eos"]) == (["en_XX", "es_XX"], False)
    config = load_base(checkpoint.folder / "lm").config
    assert (config.languages, config.inner_eos, config.language_token_id) == (["en_XX", "es_XX"], False, EN)


def test_old_spellings_are_understood(checkpoint):
    state = checkpoint.state
    for stack, norms in (
        ("encoder", ("self_attn", "final")),
        ("decoder", ("self_attn", "encoder_attn", "final")),
    ):
        for number, norm in enumerate(norms):
            for kind in ("weight", "bias"):
                value = state.pop(f"{stack}.layers.0.{norm}_layer_norm.{kind}")
                state[f"{stack}.layers.0.layer_norms.{number}.{kind}"] = value
    for kind in ("weight", "bias"):
        parts = [state.pop(f"decoder.layers.1.encoder_attn.{name}_proj.{kind}") for name in "qkv"]
        state[f"decoder.layers.1.encoder_attn.in_proj_{kind}"] = torch.cat(parts)
    state["classification_heads.x.dense.weight"] = torch.zeros(2, 2)
    record = checkpoint.convert()
    assert (checkpoint.logits() - checkpoint.outputs["logits"]).abs().max() < 2e-5
    assert record["keys_left_out"]["classification_heads.x.dense.weight"] == "the head of another task"


def drop(key):
    return lambda checkpoint: checkpoint.state.pop(key)


def put(key, value):
    return lambda checkpoint: checkpoint.state.update({key: value})


def say(**settings):
    return lambda checkpoint: vars(checkpoint.args).update(settings)


def add_unit(checkpoint):
    checkpoint.symbols.append("20")


def repeat_unit(checkpoint):
    checkpoint.symbols[3] = "2"


def word(checkpoint):
    checkpoint.symbols[3] = "hello"


def other_languages(checkpoint):
    checkpoint.symbols += ["[en]", "[fr]", "<mask>"]


REFUSED = [
    (drop("encoder.layers.1.fc1.weight"), "lacks encoder.layers.1.fc1.weight"),
    (drop("decoder.layer_norm.weight"), "holds encoder.layer_norm.weight but no decoder.layer_norm.weight"),
    (drop("encoder.embed_tokens.weight"), "encoder.embed_tokens.weight in .* has 0 rows|lacks encoder.embed_tokens"),
    (drop("decoder.embed_positions.weight"), "encoder.embed_positions.weight in .* has 32 rows, decoder"),
    (put("encoder.layers.2.fc1.weight", torch.zeros(24, 16)), "layers.2.fc1.weight, which a Unit mBART has no place"),
    (put("encoder.layers.1.fc1.weight", torch.zeros(24, 15)), r"fc1.weight in .* has shape \(24, 15\)"),
    (put("encoder.layers.1.fc1.weight", torch.full((24, 16), torch.nan)), "holds NaN or infinite values"),
    (put("encoder.layers.1.fc1.weight", torch.zeros(24, 16, dtype=torch.long)), "torch.int64, no weight"),
    (put("lm.weight", torch.zeros(2)), "'lm.weight': no weight of an encoder or decoder"),
    (put("decoder.version", torch.tensor([2.0])), "decoder.version in .* is 2.0, not 3"),
    (drop("encoder.version"), "encoder.version in .* is None"),
    (put("decoder.output_projection.weight", torch.zeros(27, 16)), "differs from encoder.embed_tokens.weight"),
    (put("decoder.layers.0.self_attn.in_proj_bias", torch.zeros(47)), "47 rows, which three projections"),
    (put("decoder.layers.0.self_attn.in_proj_bias", torch.zeros(48)), "which are the same"),
    (say(arch="transformer_lm_big"), "architecture 'transformer_lm_big' instead of mbart_large"),
    (say(encoder_learned_pos=False), "encoder_learned_pos False: computed positions"),
    (say(share_all_embeddings=False), "share_all_embeddings False"),
    (say(layernorm_embedding=False), "layernorm_embedding False"),
    (say(adaptive_softmax_cutoff="10"), "adaptive_softmax_cutoff"),
    (say(encoder_layers=10**7), "encoder_layers 10000000"),
    (say(decoder_ffn_embed_dim=32), "encoder_ffn_embed_dim 24 and decoder_ffn_embed_dim 32"),
    (say(encoder_attention_heads=5, decoder_attention_heads=5), "5 encoder_attention_heads do not divide"),
    (say(activation_fn="swish"), "activation_fn 'swish'"),
    (say(encoder_normalize_before=False, decoder_normalize_before=False), "but holds encoder.layer_norm.weight"),
    (say(decoder_normalize_before=False), "encoder_normalize_before True and decoder_normalize_before False"),
    (say(max_source_positions=20, max_target_positions=20), "the settings need tables of 22 rows"),
    (say(max_source_positions=20), "max_source_positions 20 and max_target_positions 30"),
    (say(langs="en,es,fr"), "has 27 rows; 24 tokens of .* 3 languages .* do not fit"),
    (say(langs=None), "names no languages; its embedding has 27 rows"),
    (say(langs="en,en"), "names a language twice"),
    (say(langs=3), "has langs 3"),
    (say(add_lang_token=False), "add_lang_token False"),
    (add_unit, "has 27 rows; 25 tokens of .* do not fit"),
    (other_languages, "names the languages en, es, .* lists en, fr"),
]


@pytest.mark.parametrize(("change", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_what_does_not_fit_is_refused_by_name(checkpoint, change, words):
    change(checkpoint)
    with pytest.raises(ConversionError, match=words):
        checkpoint.convert()
    assert not (checkpoint.folder / "lm").exists()
    assert sorted(path.name for path in checkpoint.folder.iterdir()) == ["checkpoint.pt", "dict.txt"]


@pytest.mark.parametrize(
    ("change", "words"), [(repeat_unit, "unit 2 occurs twice"), (word, "'hello' in line 4 is no unit")]
)
def test_dictionaries_of_something_else_are_refused(checkpoint, change, words):
    change(checkpoint)
    with pytest.raises(VocabularyError, match=words):
        checkpoint.convert()


def test_files_and_options_that_are_not_there_are_refused(checkpoint, tmp_path):
    checkpoint.convert()
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(ConversionError, match="there is no dictionary"):
        convert_unit_mbart(path, tmp_path / "other", tmp_path / "none.txt")
    empty = write_dictionary(tmp_path / "empty.txt", ["madeupword0000"])
    with pytest.raises(VocabularyError, match="lists no unit"):
        convert_unit_mbart(path, tmp_path / "other", empty)
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConversionError, match="is no dictionary"):
        convert_unit_mbart(path, tmp_path / "other", tmp_path / "binary.txt")
    with pytest.raises(ConversionError, match="dtype is 'int8'"):
        convert_unit_mbart(path, tmp_path / "other", tmp_path / "dict.txt", dtype="int8")
    with pytest.raises(ConversionError, match="languages is 'en'"):
        convert_unit_mbart(path, tmp_path / "other", tmp_path / "dict.txt", languages="en")
    with pytest.raises(ConversionError, match=r"but .* names en, es"):
        convert_unit_mbart(path, tmp_path / "other", tmp_path / "dict.txt", languages=["es", "en"])
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("planted", [False, True], ids=["honest", "planted"])
@pytest.mark.parametrize("kind", ["archive", "pickle"])
def test_mutants_are_converted_or_refused(checkpoint, tmp_path, call_of, kind, planted):
    mark = tmp_path / "executed"
    if planted:
        checkpoint.content["extra_state"]["call"] = call_of(os.system, f"touch {mark}")
    whole = saved(checkpoint.content)
    dictionary = write_dictionary(tmp_path / "dict.txt")
    generator = np.random.default_rng(sum(kind.encode()))
    path, output = tmp_path / "mutant.pt", tmp_path / "lm"
    converted, wanted = 0, 25
    for _ in range(wanted):
        path.write_bytes((with_mutated_pickle if kind == "pickle" else mutated)(whole, generator))
        try:
            convert_unit_mbart(path, output, dictionary)
        except SpeechPromptError as error:
            assert str(error)
        else:
            load_base(output)
            shutil.rmtree(output)
            converted += 1
        assert not mark.exists()
        assert sorted(each.name for each in tmp_path.iterdir()) == ["dict.txt", "mutant.pt"]
    assert converted < wanted
