"""The pickle machine gives plain data as Python's unpickler does, and nothing else."""

import pickle
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.pickle_machine import Global, Record

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(SCALARS | st.tuples(SCALARS, SCALARS), inner, max_size=4)
        | st.tuples(inner, inner, inner, inner)
        | st.sets(SCALARS, max_size=4)
        | st.frozensets(SCALARS, max_size=3)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(value=PLAIN, protocol=st.integers(0, 5))
def test_plain_data_is_what_python_reads(value, protocol):
    import io

    from speechprompt_hf.convert.byte_stream import ByteStream
    from speechprompt_hf.convert.pickle_machine import load_inert
    from speechprompt_hf.convert.pickle_names import PlainRules

    content = pickle.dumps(value, protocol)
    stream = ByteStream(io.BytesIO(content + b"rest"), "x.pkl")
    # Protocols before 3 have no frozen sets of their own and make them by a call.
    assert load_inert(stream, PlainRules()) == pickle.loads(content)  # noqa: S301 - made here
    assert stream.tell() == len(content)


@pytest.mark.parametrize("protocol", range(6))
def test_shared_parts_stay_shared(loads_inert, protocol):
    part = ["a"]
    first, second = loads_inert(pickle.dumps([part, part], protocol))
    assert first is second == part


@pytest.mark.parametrize("protocol", range(6))
def test_containers_of_collections_become_plain(loads_inert, protocol):
    ordered = OrderedDict(b=1, a=2)
    ordered.metadata = {"version": 1}
    counted, defaulted = Counter("aab"), defaultdict(list, x=[1])
    read = loads_inert(pickle.dumps([ordered, counted, defaulted, bytearray(b"x")], protocol))
    assert list(read[0].items()) == [("b", 1), ("a", 2)]
    assert read[1:3] == [{"a": 2, "b": 1}, {"x": [1]}]
    assert [type(part) for part in read[:3]] == [dict] * 3


@pytest.mark.parametrize("protocol", range(6))
def test_types_are_names(loads_inert, protocol):
    # omegaconf keeps the types of its keys; protocols before 3 call them by their names in Python 2.
    types = [int, str, float, bool, bytes, list, dict, tuple]
    read = loads_inert(pickle.dumps(types, protocol))
    assert [type(each) for each in read] == [Global] * len(types)
    assert read[2] in (Global("builtins", "float"), Global("__builtin__", "float"))


@pytest.mark.parametrize("protocol", range(6))
def test_a_namespace_is_a_record(loads_inert, protocol):
    read = loads_inert(pickle.dumps(Namespace(layers=12), protocol))
    assert isinstance(read, Record)
    assert (str(read.kind), read.state) == ("argparse.Namespace", {"layers": 12})


@pytest.mark.parametrize("protocol", range(6))
def test_what_would_run_is_refused_by_name_and_does_not_run(loads_inert, trap, would_run, protocol):
    content = pickle.dumps({"model": [trap.planted]}, protocol)
    assert would_run(content)
    with pytest.raises(ConversionError, match=trap.name):
        loads_inert(content)
    assert not trap.mark.exists()


@pytest.mark.parametrize(
    "name", ["torch load", "torch.storage _load_from_bytes", "builtins getattr", "importlib import_module", "x y z"]
)
def test_names_are_refused_even_where_nothing_calls_them(loads_inert, name):
    with pytest.raises(ConversionError, match=name.split()[1]):
        loads_inert(b"c" + "\n".join(name.split(" ", 1)).encode() + b"\n.")


def test_an_admitted_name_is_never_called(loads_inert):
    read = loads_inert(b"cfairseq.tasks\nsetup_task\n(S'x'\ntR.")
    assert (read.kind, read.args) == (Global("fairseq.tasks", "setup_task"), ("x",))
    with pytest.raises(ConversionError, match="Global is needed"):
        loads_inert(b"cfairseq\nx\n)R)R.")


def test_other_classes_are_refused(loads_inert):
    with pytest.raises(ConversionError, match=r"fractions\.Fraction"):
        loads_inert(pickle.dumps(Fraction(1, 2)))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no whole pickle"),
        (b"\x80\x02", "no whole pickle"),
        (b"\x80\x02]q\x00(K\x01K\x02e", "no whole pickle"),
        (b"K\x01K\x02.", "2 values|left over"),
        (b"a.", "no whole pickle"),
        (b"h\x07.", "no whole pickle"),
        (b"\x83.", "EXT2|truncated"),
        (b"\x82\x01.", "EXT1"),
        (b"(ios\nsystem\n.", "INST"),
        (b"(cos\n", "no whole pickle"),
        (b"\x97.", "NEXT_BUFFER"),
        (b"K\x01Q.", "no storage"),
        (b"\x8e" + b"\xff" * 7 + b"\x0f.", "announced"),
        (b"\x8a\x05\x01.", "truncated|announced"),
        (b"c" + b"a" * 100_000, "line of more"),
        (b"}]K\x01s.", "needed"),
        (b"]}b.", "needed"),
        (b"}K\x01b.", "needed"),
        (b"ccollections\nOrderedDict\nK\x01\x85R.", "dictionary is made of int"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "latin1"),
        (b"\xff.", "no whole pickle"),
    ],
)
def test_damage_is_a_typed_error(loads_inert, content, words):
    with pytest.raises(ConversionError, match=words):
        loads_inert(content)


def test_deep_keys_are_refused_before_they_overflow_the_stack(loads_inert):
    nested = b")" + b"\x85" * 300_000
    with pytest.raises(ConversionError, match="needed"):
        loads_inert(b"}" + nested + b"K\x01s.")
    assert loads_inert(b"K\x01" + b"\x85" * 300_000 + b"0K\x02.") == 2


def test_endless_pickles_are_refused(loads_inert, monkeypatch):
    monkeypatch.setattr("speechprompt_hf.convert.pickle_machine.MAX_OPCODES", 1000)
    assert loads_inert(b"N0" * 400 + b"N.") is None
    with pytest.raises(ConversionError, match="1000"):
        loads_inert(b"N0" * 600 + b"N.")
