"""The published checkpoints as data: where they lie, their digests as far as somebody pinned them, what fits what."""

from __future__ import annotations

from .catalogue_types import CatalogueEntry, CatalogueFile

__all__ = ["ENTRIES"]

_MIT = "mit"
"""fairseq's README: MIT, "the license applies to the pre-trained models as well"."""

_GSLM = "textless_nlp/gslm"
_TWIST = "textless_nlp/twist/speech_tokenizer"
_VOCODER = "fairseq/speech_to_speech/vocoder/code_hifigan"
_S2ST = "fairseq/speech_to_speech/s2st_finetuning"
_MHUBERT = "hubert/mhubert_base_vp_en_es_fr_it3"
_MHUBERT_8 = "hubert/mhubert_base_vp_mls_cv_8lang_it3"
_MHUBERT_25 = f"{_TWIST}/mhubert_base_25hz_cp_mls_cv_sp_fisher"
_NO_CPC = "CPC is no encoder of transformers; its quantizers and language models convert, as they work from units"


def _encoder(
    name: str, path: str, sha256: str, licence: str | None = _MIT, refused: str | None = None
) -> CatalogueEntry:
    return CatalogueEntry("encoder", name, CatalogueFile(path, sha256), licence=licence, refused=refused)


def _quantizer(
    units: str, path: str, sha256: str, encoder: str, layer: int, size: int, licence: str | None = _MIT
) -> CatalogueEntry:
    return CatalogueEntry(
        "quantizer",
        units,
        CatalogueFile(path, sha256),
        units=units,
        encoder=encoder,
        layer=layer,
        num_units=size,
        licence=licence,
    )


def _language_model(units: str, path: str, encoder: str | None, layer: int | None, size: int) -> CatalogueEntry:
    return CatalogueEntry(
        "gslm",
        units,
        CatalogueFile(f"{_GSLM}/{path}"),
        units=units,
        encoder=encoder,
        layer=layer,
        num_units=size,
        licence=_MIT,
    )


def _vocoder(name: str, folder: str, units: str, encoder: str, layer: int, size: int) -> CatalogueEntry:
    return CatalogueEntry(
        "hifigan",
        name,
        CatalogueFile(f"{_VOCODER}/{folder}/g_00500000"),
        companion=CatalogueFile(f"{_VOCODER}/{folder}/config.json"),
        units=units,
        encoder=encoder,
        layer=layer,
        num_units=size,
        licence=_MIT,
    )


ENTRIES: tuple[CatalogueEntry, ...] = (
    _encoder(
        "hubert-base",
        "hubert/hubert_base_ls960.pt",
        "1703cf8d2cdc76f8c046f5f6a9bcd224e0e6caf4744cad1a1f4199c32cac8c8d",
    ),
    _encoder("mhubert-base", f"{_MHUBERT}.pt", "23527cd6311a6617bfa199f574e2eed478cd6a58a634f4007165c10ec0019832"),
    _encoder("mhubert-8lang", f"{_MHUBERT_8}.pt", "fa82eaccb557465f4732662e3a744c30c953059147ac6a4c92f1f3e0daeda61e"),
    _encoder(
        "mhubert-25hz",
        f"{_MHUBERT_25}.pt",
        "edf0f5be2581a568a236aeb2781a5607c5af25806e12f40f7f2391e861fe3cf0",
        licence=None,
    ),
    _encoder(
        "cpc-big",
        f"{_GSLM}/cpc/cpc_big_ll6kh_top_ctc.pt",
        "73155dad5d7c986fe7b7f548050060a8e9cc9a0ffd111a22932f38c3e617c5b8",
        refused=_NO_CPC,
    ),
    _quantizer(
        "hubert-base-km50",
        f"{_GSLM}/hubert/km50/km.bin",
        "d01a7d5bc2c54b7b5f25f321ba525b4d230b06e3927f90bad0394198bc89f494",
        "hubert-base",
        6,
        50,
    ),
    _quantizer(
        "hubert-base-km100",
        f"{_GSLM}/hubert/km100/km.bin",
        "f14a3104615485381fc489701d6761c9abbdbb0d43607cf55518a1e2891023fe",
        "hubert-base",
        6,
        100,
    ),
    _quantizer(
        "hubert-base-km200",
        f"{_GSLM}/hubert/km200/km.bin",
        "b3c46c9cdd1707ad852dd53c359aa73942e79d53c432a9a8a419ed046408024b",
        "hubert-base",
        6,
        200,
    ),
    _quantizer(
        "hubert-base-km500",
        f"{_GSLM}/hubert/km500/km.bin",
        "411c8668e1314751404f58636f935fc73540a6793890435da4a8ffadf157398e",
        "hubert-base",
        6,
        500,
    ),
    _quantizer(
        "hubert-base-l9-km500",
        "hubert/hubert_base_ls960_L9_km500.bin",
        "4450dcbc90aa7d0553306a4b0fafef35c9b3c840468f02969273dfbb9db89a23",
        "hubert-base",
        9,
        500,
    ),
    _quantizer(
        "mhubert-base-km1000",
        f"{_MHUBERT}_L11_km1000.bin",
        "c70f5416c38044d0c20e33fdeedf4533974a8ac4029985cdef3b755038381a0b",
        "mhubert-base",
        11,
        1000,
    ),
    _quantizer(
        "mhubert-8lang-km2000",
        f"{_MHUBERT_8}_L12_km2000.bin",
        "05de230870427dcdce334d29922ccce354c7e7d0574edc645f5daed47b1ccc18",
        "mhubert-8lang",
        12,
        2000,
    ),
    _quantizer(
        "mhubert-25hz-km500",
        f"{_MHUBERT_25}_L11_km500.bin",
        "03cc04a9c24fec4285e73e709c485756d8f116aa8e724eac555de6a7cf8d28ad",
        "mhubert-25hz",
        11,
        500,
        licence=None,
    ),
    _quantizer(
        "cpc-big-km50",
        f"{_GSLM}/cpc/km50/km.bin",
        "c48be5717aebc08169aa5165d58267449b8c8568624a346bb9f4b26eac3b0240",
        "cpc-big",
        2,
        50,
    ),
    _quantizer(
        "cpc-big-km100",
        f"{_GSLM}/cpc/km100/km.bin",
        "077b96e010b1e87be627ef2bef0f5e5cdaa1c01722aa363b2dc0bb6a638e8b26",
        "cpc-big",
        2,
        100,
    ),
    _quantizer(
        "cpc-big-km200",
        f"{_GSLM}/cpc/km200/km.bin",
        "2d863d1c6f251d19e667998248c87642ecb5e3ffaa410e9ebfa64341db4f6de2",
        "cpc-big",
        2,
        200,
    ),
    *(
        _language_model(f"hubert-base-km{size}", f"hubert/lm_km{size}/hubert{size}_lm.tgz", "hubert-base", 6, size)
        for size in (50, 100, 200)
    ),
    *(
        _language_model(f"cpc-big-km{size}", f"cpc/lm_km{size}/cpc{size}_lm.tgz", "cpc-big", 2, size)
        for size in (50, 100, 200)
    ),
    *(
        _language_model(f"logmel-km{size}", f"logmel/lm_km{size}/logmel{size}_lm.tgz", None, None, size)
        for size in (50, 100, 200)
    ),
    *(
        _language_model(f"w2v2-km{size}", f"w2v2/lm_km{size}/w2v2_{size}_lm.tgz", None, None, size)
        for size in (50, 100, 200)
    ),
    CatalogueEntry(
        "unit-mbart",
        "mhubert-base-km1000",
        CatalogueFile(f"{_S2ST}/unit_mBART/checkpoint.pt"),
        companion=CatalogueFile(f"{_S2ST}/dict.txt"),
        units="mhubert-base-km1000",
        encoder="mhubert-base",
        layer=11,
        num_units=1000,
        licence=_MIT,
    ),
    _vocoder("hubert-base-km100-lj", "hubert_base_100_lj", "hubert-base-km100", "hubert-base", 6, 100),
    *(
        _vocoder(
            f"mhubert-base-km1000-{voice.replace('_', '-')}",
            f"mhubert_vp_en_es_fr_it3_400k_layer11_km1000_{voice}",
            "mhubert-base-km1000",
            "mhubert-base",
            11,
            1000,
        )
        for voice in ("lj", "es_css10", "fr_css10")
    ),
    CatalogueEntry(
        "hifigan",
        "mhubert-25hz-km500-lj",
        CatalogueFile(
            f"{_TWIST}/hifigan_lj_mhubert_base_25hz.pt",
            "d88224e95c501e2cd59a6e4014753169cfe060fb7ade3cc0da03c809fef73b79",
        ),
        companion=CatalogueFile(
            f"{_TWIST}/hifigan_lj_mhubert_base_25hz_config.json",
            "116dc39be4970cd393e562acd0a0ec70a86aaba7e9ca469b8b836cb3fe46afc7",
        ),
        units="mhubert-25hz-km500",
        encoder="mhubert-25hz",
        layer=11,
        num_units=500,
    ),
)
