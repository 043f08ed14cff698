"""The batcher: what waits together is answered together, what fails does so alone, what nobody wants costs nothing."""

import threading
import time

import pytest

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.serving import BatchSettings, DynamicBatcher
from speechprompt_hf.serving.batching import Row, choose_batch
from speechprompt_hf.serving.refusals import BusyError, ModelEndedError

LATER = 1e12


class Answerer:
    """Doubles numbers; waits until it is let go; fails for what it is told to."""

    def __init__(self, poison=()):
        self.poison = set(poison)
        self.batches = []
        self.go = threading.Event()
        self.go.set()
        self.busy = threading.Event()

    def __call__(self, group, items):
        self.busy.set()
        assert self.go.wait(10)
        self.batches.append((group, list(items)))
        if self.poison & set(items):
            raise RuntimeError("poison")
        return [ValueError(f"{item} is odd") if item == 13 else 2 * item for item in items]


@pytest.fixture
def make():
    made = []

    def start(answerer, *, max_queue=100, **options):
        batcher = DynamicBatcher(answerer, BatchSettings(**{"max_wait_ms": 0, **options}), max_queue=max_queue)
        batcher.start()
        made.append((batcher, answerer))
        return batcher

    yield start
    for batcher, answerer in made:
        answerer.go.set()
        batcher.close(5)
        assert not batcher.is_alive


def hold(batcher, answerer):
    """Keep the thread busy with one row, so that the next ones wait."""
    answerer.go.clear()
    answerer.busy.clear()
    first = batcher.submit("g", 0, seconds=1, deadline=LATER)
    assert answerer.busy.wait(5)
    return first


def rows_of(*pairs):
    return [Row(group, number, seconds, LATER) for number, (group, seconds) in enumerate(pairs)]


def test_what_waits_is_answered_together(make):
    answerer = Answerer()
    batcher = make(answerer)
    first = hold(batcher, answerer)
    futures = [batcher.submit("g", number, seconds=1, deadline=LATER) for number in range(1, 6)]
    answerer.go.set()
    assert [future.result(5) for future in (first, *futures)] == [0, 2, 4, 6, 8, 10]
    assert answerer.batches == [("g", [0]), ("g", [1, 2, 3, 4, 5])]


def test_the_first_row_waits_for_others(make):
    answerer = Answerer()
    batcher = make(answerer, max_wait_ms=2000, max_batch_size=3)
    start = time.monotonic()
    futures = [batcher.submit("g", number, seconds=1, deadline=LATER) for number in (1, 2, 3)]
    assert [future.result(5) for future in futures] == [2, 4, 6]
    assert len(answerer.batches) == 1
    assert time.monotonic() - start < 1.5  # a full batch does not wait


def test_a_row_fails_alone(make):
    answerer = Answerer(poison={3})
    batcher = make(answerer)
    hold(batcher, answerer)
    futures = [batcher.submit("g", number, seconds=1, deadline=LATER) for number in (1, 2, 3, 13, 4)]
    answerer.go.set()
    assert [futures[index].result(5) for index in (0, 1, 4)] == [2, 4, 8]
    with pytest.raises(RuntimeError, match="poison"):
        futures[2].result(5)
    with pytest.raises(ValueError, match="13 is odd"):
        futures[3].result(5)
    assert batcher.submit("g", 5, seconds=1, deadline=LATER).result(5) == 10


def test_rows_that_nobody_wants_cost_nothing(make):
    dropped = []
    answerer = Answerer()
    batcher = make(answerer)
    batcher._on_drop = dropped.append
    hold(batcher, answerer)
    gone = batcher.submit("g", 1, seconds=1, deadline=LATER)
    late = batcher.submit("g", 2, seconds=1, deadline=time.monotonic() + 0.05)
    wanted = batcher.submit("g", 3, seconds=1, deadline=LATER)
    assert gone.cancel()
    time.sleep(0.1)
    answerer.go.set()
    assert wanted.result(5) == 6
    with pytest.raises(TimeoutError, match="before its turn"):
        late.result(5)
    assert sorted(dropped) == ["cancelled", "expired"]
    assert [items for _, items in answerer.batches] == [[0], [3]]


def test_a_full_queue_refuses(make):
    answerer = Answerer()
    batcher = make(answerer, max_queue=2)
    hold(batcher, answerer)
    futures = [batcher.submit("g", number, seconds=1, deadline=LATER) for number in (1, 2)]
    with pytest.raises(BusyError, match="2 requests are waiting already") as refused:
        batcher.submit("g", 3, seconds=1, deadline=LATER)
    assert refused.value.status == 503 and refused.value.headers["Retry-After"] == "1"
    assert batcher.queue_length == 2
    answerer.go.set()
    assert [future.result(5) for future in futures] == [2, 4]


def test_closing_answers_what_was_taken(make):
    answerer = Answerer()
    batcher = make(answerer, max_batch_size=2)
    hold(batcher, answerer)
    futures = [batcher.submit("g", number, seconds=1, deadline=LATER) for number in (1, 2, 3, 4)]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._closing:
        time.sleep(0.01)
    with pytest.raises(BusyError, match="shutting down"):
        batcher.submit("g", 5, seconds=1, deadline=LATER)
    with pytest.raises(BusyError, match="shutting down"):
        batcher.run(lambda: None)
    answerer.go.set()
    closing.join(5)
    assert [future.result(0) for future in futures] == [2, 4, 6, 8]


def test_jobs_run_in_the_models_thread_between_batches(make):
    batcher = make(Answerer())
    assert batcher.run(lambda: threading.current_thread().name).result(5) == "speechprompt-model"
    with pytest.raises(KeyError):
        batcher.run(lambda: {}["absent"]).result(5)
    assert batcher.submit("g", 1, seconds=1, deadline=LATER).result(5) == 2


def test_a_thread_that_dies_leaves_nobody_waiting(make):
    answerer, failures = Answerer(), []
    batcher = make(answerer)
    batcher._on_failure = failures.append
    hold(batcher, answerer)
    job = batcher.run(lambda: (_ for _ in ()).throw(SystemExit))
    waiting = batcher.submit("g", 1, seconds=1, deadline=LATER)
    answerer.go.set()
    with pytest.raises(ModelEndedError, match="the model has ended; restart the service"):
        waiting.result(5)
    batcher._thread.join(5)
    with pytest.raises(ModelEndedError):
        job.result(5)
    assert not batcher.is_alive and batcher.has_failed
    assert len(failures) == 1 and isinstance(failures[0], SystemExit)
    with pytest.raises(ModelEndedError) as refused:
        batcher.submit("g", 1, seconds=1, deadline=LATER)
    assert refused.value.status == 503 and not refused.value.headers
    with pytest.raises(ModelEndedError):
        batcher.run(lambda: None)


def test_batches_hold_one_group_and_similar_lengths():
    waiting = rows_of(("a", 5.0), ("b", 1.0), ("a", 1.0), ("a", 6.0), ("a", 4.5), ("a", 0.5))
    chosen = choose_batch(waiting, BatchSettings(max_batch_size=3))
    assert [row.item for row in chosen] == [4, 0, 3]  # the oldest and its nearest, rising
    assert [row.item for row in choose_batch(waiting, BatchSettings())] == [5, 2, 4, 0, 3]


def test_long_recordings_make_small_batches():
    waiting = rows_of(("a", 50.0), ("a", 1.0), ("a", 60.0), ("a", 2.0))
    assert [row.item for row in choose_batch(waiting, BatchSettings(max_batch_seconds=110))] == [1, 0]
    assert [row.item for row in choose_batch(waiting, BatchSettings(max_batch_seconds=5))] == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size is 0"),
        ({"max_batch_size": 2.5}, "max_batch_size is 2.5"),
        ({"max_wait_ms": -1}, "max_wait_ms is -1"),
        ({"max_batch_seconds": 0}, "max_batch_seconds is 0"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ConfigurationError, match=message):
        BatchSettings(**options)
