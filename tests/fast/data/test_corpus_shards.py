"""Which process makes which shard: every row once, whatever the number of processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.data.corpus_shards import (
    World,
    block_name,
    file_shares,
    own_shards,
    plan_shards,
    shard_order,
)

SIZES = st.integers(1, 40)
PARTS = st.dictionaries(st.sampled_from(["train", "validation", "test", "all"]), st.integers(0, 300), min_size=1)


@given(PARTS, st.integers(1, 50), SIZES)
def test_every_row_is_in_one_shard_of_one_process(parts, shard_rows, size):
    shards = plan_shards(parts, shard_rows)
    made = [shard for rank in range(size) for shard in own_shards(shards, World(rank, size))]
    rows = [(shard.part, row) for shard in made for row in range(shard.start, shard.stop)]
    assert len(rows) == len(set(rows))
    assert set(rows) == {(part, row) for part, count in parts.items() for row in range(count)}
    assert all(0 < shard.stop - shard.start <= shard_rows for shard in shards)
    assert len({shard.name for shard in shards}) == len(shards)


@given(st.integers(0, 30), SIZES, st.integers(1, 20))
def test_every_block_of_every_file_is_made_by_one_process(num_files, size, num_blocks):
    made = [
        (share.file, block)
        for rank in range(size)
        for share in file_shares(num_files, World(rank, size))
        for block in range(num_blocks)
        if share.has(block)
    ]
    assert sorted(made) == [(file, block) for file in range(num_files) for block in range(num_blocks)]


@given(st.integers(1, 30), SIZES)
def test_no_file_is_read_more_often_than_needed(num_files, size):
    shares = [file_shares(num_files, World(rank, size)) for rank in range(size)]
    assert sum(map(len, shares)) == max(num_files, size)


def test_names():
    assert plan_shards({"train": 25}, 10)[1].name == "train-00001-of-00003.parquet"
    assert block_name("train", 3, 12) == "train-00003-00012.parquet"


def test_the_order_of_names_is_that_of_numbers():
    names = [shard.name for shard in plan_shards({"all": 100_001}, 1)]
    assert names == sorted(names) == sorted(names, key=shard_order)
    assert names[0] == "all-000000-of-100001.parquet"
    names = [
        block_name(part, file, block)
        for part in ("all", "test")
        for file in (9, 100_000)
        for block in (99_999, 100_000)
    ]
    assert names != sorted(names) and names == sorted(reversed(names), key=shard_order)


def test_a_shard_has_rows():
    with pytest.raises(ConfigurationError, match="0 rows"):
        plan_shards({"train": 3}, 0)


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        ({}, World()),
        ({"WORLD_SIZE": "1"}, World()),
        ({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}, World(3, 4, 1)),
        ({"WORLD_SIZE": "4", "RANK": "3"}, World(3, 4)),
    ],
)
def test_world_of_the_environment(environment, world):
    assert World.from_environment(environment) == world


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "4"}, "WORLD_SIZE is 4, but RANK is not set"),
        ({"WORLD_SIZE": "4", "RANK": "4"}, "RANK is 4 and WORLD_SIZE is 4"),
        ({"WORLD_SIZE": "four", "RANK": "0"}, "WORLD_SIZE is 'four'"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK is '-1'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0"),
    ],
)
def test_impossible_environments_are_refused(environment, message):
    with pytest.raises(ConfigurationError, match=message):
        World.from_environment(environment)
