import pytest

from speechprompt_hf.core.errors import UnitError, VocabularyError
from speechprompt_hf.core.vocabulary import UnitVocabulary


def test_an_utterance_starts_with_end_of_sentence_and_ends_with_the_separator():
    assert UnitVocabulary.from_num_units(100).input_ids([5, 6]) == [2, 9, 10, 0]


def test_dictionary_order_is_read_from_the_file_not_assumed(tmp_path):
    path = tmp_path / "dict.txt"
    path.write_text("61 19403763\n97 12\n8 3\nmadeupword0000 0\n")
    vocabulary = UnitVocabulary.from_dict_txt(path)
    assert len(vocabulary) == 7
    assert vocabulary.encode([61, 8]) == [4, 6]
    assert vocabulary.decode([2, 5, 0]) == [97]


def test_dict_txt_round_trip(tmp_path):
    path = tmp_path / "dict.txt"
    vocabulary = UnitVocabulary(("2", "0", "1"))
    path.write_text(vocabulary.to_dict_txt())
    assert UnitVocabulary.from_dict_txt(path) == vocabulary


def test_released_dictionaries(shared_data):
    hubert = UnitVocabulary.from_dict_txt(shared_data / "units/speech_commands_v1/hubert100/dict.txt")
    cpc = UnitVocabulary.from_dict_txt(shared_data / "units/speech_commands_v1/cpc100/dict.txt")
    assert hubert.encode([0, 99]) == [4, 103]
    assert cpc.encode([61]) == [4]
    assert len(hubert) == len(cpc) == 104


def test_malformed_dictionaries_are_refused(tmp_path):
    path = tmp_path / "dict.txt"
    for text, message in [("", "lists no unit"), ("a 1\n", "is no unit number"), ("3 1\n3 1\n", "occurs twice")]:
        path.write_text(text)
        with pytest.raises(VocabularyError, match=message):
            UnitVocabulary.from_dict_txt(path)


def test_unknown_units_and_ids_are_refused():
    vocabulary = UnitVocabulary.from_num_units(3)
    with pytest.raises(UnitError, match="unit 3 is not among the 3 units"):
        vocabulary.encode([0, 3])
    with pytest.raises(UnitError, match="token id 7 is outside"):
        vocabulary.decode([7])
    assert 2 in vocabulary and 3 not in vocabulary
