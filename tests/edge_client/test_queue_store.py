"""The queue on disk: promises are fsynced, an old database is brought up, and sizes are counted right."""

import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.store import Limits, OpenQuestion, open_file, open_memory
from edge_client.store.retention import export, forget_all, forget_before, listing
from edge_client.store.schema import MIGRATIONS
from fedge.features import content_hash
from fedge.routing import is_probe

UNSURE = np.array([0.5, 0.5, 0.5, 0.45], dtype=np.float32)


def question(text: str, *, at: float = 0.0, acknowledged: bool = False) -> OpenQuestion:
    return OpenQuestion(content_hash(text), text, f"k-{text}"[:100], "", at, acknowledged=acknowledged)


@pytest.fixture
def offline(make_bench, make_release, certify):
    bench = make_bench(online=lambda: False)
    bench.source.publish(make_release(), certify(make_release(), rate=0.5))
    bench.agent.sync()
    return bench


def test_a_promise_and_a_correction_stand_on_disk_before_they_are_given_and_a_plain_answer_need_not(offline):
    statements: list[str] = []
    offline.store._database.connection.set_trace_callback(statements.append)
    plain = offline.agent.ask(UNSURE)
    assert not any("synchronous" in statement for statement in statements)
    statements.clear()
    assert offline.agent.ask(UNSURE + np.float32(0.01), queue=True).queued
    on, off = (statements.index(f"PRAGMA synchronous = {mode}") for mode in ("FULL", "NORMAL"))
    assert on < next(i for i, s in enumerate(statements) if s.startswith("INSERT INTO waiting")) < off
    assert "COMMIT" in statements[on:off]
    statements.clear()
    offline.agent.correct(plain.answer_id, "left")
    assert "PRAGMA synchronous = FULL" in statements


def test_a_query_drawn_as_probe_is_queued_for_its_user_and_never_learned_from(offline):
    drawn = next(
        query for step in range(200) if is_probe(content_hash(query := UNSURE + np.float32(step * 1e-4)), b"k" * 32, 0.5)
    )
    answer = offline.agent.ask(drawn, queue=True)
    assert answer.queued
    online = offline.agent.device
    object.__setattr__(online, "online", lambda: True)
    assert offline.agent.catch_up() == 1
    assert offline.store.waiting.get(answer.answer_id).state == "answered"
    assert len(offline.store.memory) == 0


def test_a_database_of_the_first_version_is_brought_up_with_its_open_questions(tmp_path):
    path = tmp_path / "device.sqlite"
    old = sqlite3.connect(path)
    old.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
    old.execute("INSERT INTO outbox VALUES (?, ?, 'k', '', 1.0)", (b"h", b"tsome text"))
    old.commit()
    old.close()
    store = open_file(path)
    (kept,) = store.outbox.oldest(9)
    assert (kept.query, kept.learn, kept.acknowledged) == ("some text", True, False)
    assert (len(store.outbox), store.outbox.size_bytes) == (1, 10)
    store.close()


def test_what_is_older_than_its_time_goes_and_what_is_younger_stays(offline):
    old = offline.agent.ask(UNSURE, queue=True)
    offline.clock.now += 86_400 * 10
    young = offline.agent.ask(UNSURE + np.float32(0.01), queue=True)
    paid = offline.store.ledger.lifetime()
    assert {kind["kind"]: kind["rows"] for kind in listing(offline.store)}["answers"] == 2
    assert forget_before(offline.store, offline.clock.now - 86_400 * 5) == 4
    assert offline.store.answers.get(old.answer_id) is None and offline.store.answers.get(young.answer_id) is not None
    assert [row["kind"] for row in export(offline.store)] == ["answers", "outbox", "waiting", "fates"]
    assert forget_all(offline.store) == 4
    assert list(export(offline.store)) == [] and offline.store.ledger.since() == []
    assert offline.store.ledger.lifetime() == paid
    assert offline.agent.ask(UNSURE).answer_id > young.answer_id


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "promise", "close"]), st.integers(0, 9), st.integers(1, 30)), max_size=40
    )
)
def test_the_queue_never_outgrows_its_bounds_and_never_drops_a_promise(steps):
    store = open_memory(limits=Limits(outbox=6, outbox_bytes=120))
    promised: set[bytes] = set()
    for at, (what, number, size) in enumerate(steps):
        text = f"{number}" + "x" * size
        if what == "close":
            store.outbox.close([content_hash(text)])
            promised.discard(content_hash(text))
        else:
            kept = store.outbox.add([question(text, at=float(at), acknowledged=what == "promise")])
            promised |= kept if what == "promise" else set()
        open_now = store.outbox.oldest(99)
        assert len(open_now) == len(store.outbox) <= 6
        assert store.outbox.size_bytes == sum(len(q.query.encode()) + 1 for q in open_now) <= 120
        assert promised <= {q.content_hash for q in open_now if q.acknowledged}
