import os
import sqlite3
import stat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.store import (
    InstalledRelease,
    LabelledQuery,
    Limits,
    LoggedAnswer,
    OpenQuestion,
    Probe,
    open_file,
    open_memory,
    restore,
    schema,
)
from edge_client.store.labelled_queries import query_from_blob, vector_from_blob
from fedge.costs import Kind, Payer, Totals, entry
from fedge.errors import InputError, VerificationError
from fedge.features import content_hash


def example(text: str, label: str = "on", *, source: str = "central", at: float = 0.0) -> LabelledQuery:
    return LabelledQuery(content_hash(text), text, label, source, at)


def probe(text: str, *, central: str = "on", predicted: str = "on", local: bool = True, publication: int = 1) -> Probe:
    return Probe(
        content_hash=content_hash(text),
        query=text,
        central_label=central,
        predicted_label=predicted,
        confidence=0.9,
        release_id="r",
        publication=publication,
        would_stay_local=local,
        at=1.0,
    )


def drawn(store, *texts: str) -> None:
    store.fates.settle({content_hash(text): True for text in texts}, at=0.0)


def spend(joules: float, at: float = 0.0):
    return entry(Kind.DEVICE_INFERENCE, joules, 0.5, at=at, payer=Payer.DEVICE_OWNER)


def test_a_fate_stays_as_it_was_first_drawn():
    store = open_memory()
    a, b = content_hash("a"), content_hash("b")
    assert store.fates.settle({a: True, b: False}, at=1.0) == {a: True, b: False}
    assert store.fates.settle({a: False, b: True, content_hash("c"): True}, at=2.0) == {
        a: True,
        b: False,
        content_hash("c"): True,
    }
    assert store.fates.count() == (3, 2)


def test_more_fates_than_one_statement_binds():
    store = open_memory()
    hashes = [i.to_bytes(32, "big") for i in range(1203)]
    store.fates.settle({h: i % 3 == 0 for i, h in enumerate(hashes)}, at=0.0)
    assert store.fates.settle(dict.fromkeys(hashes, False), at=1.0) == {h: i % 3 == 0 for i, h in enumerate(hashes)}


def test_text_pixels_and_distributions_come_back_unchanged():
    store = open_memory()
    pixels = np.array([0.0, 0.25, 1.0], dtype=np.float32)
    distribution = np.array([0.25, 0.75], dtype=np.float32)
    store.memory.add(
        [example("Licht än 🙂"), LabelledQuery(content_hash(pixels), pixels, "x", "upstream", 3.0, distribution)]
    )
    text, picture = store.memory.all()
    assert text.query == "Licht än 🙂"
    assert text.distribution is None
    np.testing.assert_array_equal(picture.query, pixels)
    np.testing.assert_array_equal(picture.distribution, distribution)
    assert (picture.label, picture.source, picture.at) == ("x", "upstream", 3.0)


def test_memory_is_bounded_and_the_oldest_go():
    store = open_memory(limits=Limits(memory=3))
    for number in range(7):
        store.memory.add([example(f"q{number}")])
    assert [row.query for row in store.memory.all()] == ["q4", "q5", "q6"]


def test_a_correction_overrides_central_for_good():
    store = open_memory()
    store.memory.add([example("a", "on"), example("b", "on")])
    store.memory.correct(example("a", "off", source="correction"))
    store.memory.add([example("a", "on", at=9.0)])
    assert [(row.query, row.label) for row in store.memory.all()] == [("b", "on"), ("a", "off")]


def test_a_newer_answer_of_central_replaces_an_older_one_without_making_it_fresh():
    store = open_memory()
    store.memory.add([example("a", "on")])
    assert store.memory.all()[0].fresh
    store.memory.mark_used([content_hash("a")])
    store.memory.add([example("a", "off", at=5.0), example("b")])
    first, second = store.memory.all()
    assert (first.label, first.at, first.fresh, first.used) == ("off", 5.0, False, 1)
    assert [row.query for row in store.memory.all(fresh=True)] == [second.query] == ["b"]
    store.memory.correct(example("a", "dim", source="correction"))
    assert [row.used for row in store.memory.all(fresh=False)] == [1]


def test_a_probe_is_recorded_once_for_a_query():
    store = open_memory()
    drawn(store, "a")
    store.probes.record([probe("a", predicted="off"), probe("a", predicted="on")])
    store.probes.record([probe("a", central="dim")])
    (only,) = store.probes.all()
    assert (only.predicted_label, only.central_label, only.disagreed) == ("off", "on", True)


def test_what_was_not_drawn_is_never_a_probe():
    store = open_memory()
    store.fates.settle({content_hash("a"): False}, at=0.0)
    store.probes.record([probe("a"), probe("never seen")])
    assert len(store.probes) == 0


def fresh(store):
    return store.probes.select(fresh=100, max_scored=1)


def test_the_running_pair_counts_fresh_probes_that_would_have_stayed_local_until_they_are_sent():
    store = open_memory()
    drawn(store, *"abcd")
    store.probes.record([probe("a"), probe("b", predicted="off"), probe("c", local=False, predicted="off")])
    reported = fresh(store)
    assert (reported.running_pair, len(reported.fresh)) == ((2, 1), 3)
    store.probes.record([probe("d", predicted="off")])
    store.probes.mark_sent(reported)
    later = fresh(store)
    assert (later.running_pair, len(later.fresh)) == ((1, 1), 1)
    store.probes.mark_sent(later)
    assert (fresh(store).running_pair, store.probes.fresh_count(), len(store.probes)) == ((0, 0), 0, 4)


def test_a_probe_is_scored_again_no_more_than_it_may_be():
    store = open_memory()
    drawn(store, *"ab")
    store.probes.record([probe("a")])
    store.probes.mark_sent(store.probes.select(fresh=1, max_scored=3))
    store.probes.record([probe("b")])
    for expected in (["a"], ["a"], []):
        selection = store.probes.select(fresh=0, max_scored=3)
        assert [one.query for one in selection.old] == expected
        store.probes.mark_sent(selection)


def test_the_oldest_probes_go_first_and_a_dropped_probe_is_not_counted_again():
    store = open_memory(limits=Limits(probes=2))
    texts = [f"q{number}" for number in range(6)]
    drawn(store, *texts, "last")
    store.probes.record([probe(text) for text in texts])
    assert [row.query for row in store.probes.all()] == ["q4", "q5"]
    store.probes.record([probe("last"), probe("q0")])
    assert [row.query for row in store.probes.all()] == ["q5", "last"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("probe"), st.integers(0, 9), st.booleans(), st.booleans()),
            st.tuples(st.just("report"), st.just(0), st.booleans(), st.just(False)),
            st.tuples(st.just("reboot"), st.just(0), st.just(False), st.just(False)),
        ),
        max_size=40,
    )
)
def test_every_pair_is_reported_exactly_once_whatever_the_order(steps):
    store = open_memory()
    drawn(store, *(f"q{number}" for number in range(10)))
    reported_seen = reported_wrong = 0
    first: dict[int, tuple[bool, bool]] = {}
    for kind, number, flag, wrong in steps:
        if kind == "probe":
            store.probes.record([probe(f"q{number}", local=flag, predicted="off" if wrong else "on")])
            first.setdefault(number, (flag, wrong))
        elif kind == "reboot":
            store = restore(store.dump())
        else:
            selection = fresh(store)
            seen, disagreed = selection.running_pair
            if flag:  # the vector left the device; else the session was aborted before that
                store.probes.mark_sent(selection)
                reported_seen, reported_wrong = reported_seen + seen, reported_wrong + disagreed
    left_seen, left_disagreed = fresh(store).running_pair
    assert reported_seen + left_seen == sum(local for local, _ in first.values())
    assert reported_wrong + left_disagreed == sum(local and wrong for local, wrong in first.values())


def test_ledger_totals_since_a_mark_and_folding_lose_nothing():
    store = open_memory()
    store.ledger.append([spend(1.0), spend(2.0, at=86_400.0)])
    mark = store.ledger.mark()
    store.ledger.append([spend(4.0, at=86_401.0)])
    assert store.ledger.totals(mark).quantity(Kind.DEVICE_INFERENCE) == 4.0
    assert store.ledger.totals().amount_usd() == 3.5
    store.ledger.fold(mark)
    store.ledger.fold(mark)
    assert [row.quantity for row in store.ledger.days()] == [1.0, 2.0]
    assert store.ledger.totals(mark).quantity(Kind.DEVICE_INFERENCE) == 4.0
    store.ledger.fold(store.ledger.mark())
    assert [(row.at, row.quantity, row.amount_usd) for row in store.ledger.days()] == [(0.0, 1.0, 0.5), (86_400.0, 6.0, 3.0)]
    assert Totals.of(store.ledger.days()).amount_usd() == 3.5
    store.ledger.append([spend(8.0)])
    assert [row.quantity for row in store.ledger.since(mark)] == [8.0]


def test_counters_add_up():
    store = open_memory()
    store.count({"a": 1, "b": 2})
    store.count({"a": 3})
    assert store.counters() == {"a": 4, "b": 2}


def test_answer_numbers_are_never_given_twice():
    store = open_memory(limits=Limits(answers=2))
    answers = [LoggedAnswer(content_hash(text), text, "on", "device", False, 1.0) for text in "abc"]
    assert store.answers.reserve(3) == 1
    assert store.answers.reserve(2) == 4
    store.answers.append(1, answers)
    assert store.answers.get(1) is None
    assert store.answers.get(3) == answers[2]
    assert restore(store.dump()).answers.reserve(1) == 6


def test_the_outbox_keeps_the_first_of_a_question_and_no_more_than_it_holds():
    store = open_memory(limits=Limits(outbox=2))
    store.outbox.add([OpenQuestion(content_hash(t), t, f"k{i}", "r", float(i)) for i, t in enumerate("aabc")])
    assert [(q.query, q.idempotency_key) for q in store.outbox.oldest(10)] == [("a", "k0"), ("b", "k2")]
    store.outbox.close([content_hash("a")])
    assert len(store.outbox) == 1


def test_an_accepted_round_is_never_accepted_again_nor_an_older_one():
    store = open_memory()
    accept = store.sessions.accept
    assert accept("f", round_number=3, attempt=2)
    for older in [(3, 2), (3, 1), (2, 9)]:
        assert not accept("f", round_number=older[0], attempt=older[1])
    assert store.sessions.last_accepted("f") == (3, 2)
    assert accept("f", round_number=3, attempt=3)
    assert accept("f", round_number=4, attempt=1)
    assert accept("other", round_number=1, attempt=1)


def test_an_update_is_spent_once():
    store = open_memory()
    assert store.sessions.spend_update(b"h")
    assert not store.sessions.spend_update(b"h")


def test_a_transaction_is_all_or_nothing_and_nests():
    store = open_memory()
    with pytest.raises(RuntimeError), store.transaction():
        store.count({"a": 1})
        with store.transaction():
            store.memory.add([example("a")])
        raise RuntimeError
    assert store.counters() == {}
    assert len(store.memory) == 0


def test_durable_writes_survive_a_copy_of_the_files_made_before_closing(tmp_path):
    store = open_file(tmp_path / "device.db")
    store.sessions.save("s", b"secret")
    store.sessions.accept("f", round_number=1, attempt=1)
    for path in tmp_path.iterdir():  # what a crash at this moment leaves behind
        (tmp_path / f"crash-{path.name}").write_bytes(path.read_bytes())
    after = open_file(tmp_path / "crash-device.db")
    assert after.sessions.load("s") == b"secret"
    assert not after.sessions.accept("f", round_number=1, attempt=1)


def test_durable_transactions_switch_fsync_on_and_off_again(tmp_path):
    store = open_file(tmp_path / "device.db")
    statements: list[str] = []
    store._database.connection.set_trace_callback(statements.append)
    store.sessions.save("s", b"x")
    assert statements[0] == "PRAGMA synchronous = FULL"
    assert statements[-2:] == ["COMMIT", "PRAGMA synchronous = NORMAL"]
    with pytest.raises(sqlite3.ProgrammingError), store.transaction():
        store.sessions.save("s", b"y")
    assert store.sessions.load("s") == b"x"


def test_an_erased_session_leaves_no_bytes_in_the_files(tmp_path):
    store = open_file(tmp_path / "device.db")
    secret = os.urandom(64)
    store.sessions.save("s", secret)
    assert any(secret in path.read_bytes() for path in tmp_path.iterdir())
    store.sessions.erase("s")
    assert store.sessions.slots() == []
    assert not any(secret in path.read_bytes() for path in tmp_path.iterdir())


def test_the_file_is_readable_by_its_owner_only(tmp_path):
    store = open_file(tmp_path / "device.db")
    store.count({"a": 1})
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())


def test_a_dump_holds_everything():
    store = open_memory()
    drawn(store, "p")
    store.probes.record([probe("p")])
    store.memory.add([example("a")])
    store.ledger.append([spend(1.0)])
    store.installed.set(InstalledRelease("r", 3, b"c", 2))
    again = restore(store.dump())
    assert again.memory.all() == store.memory.all()
    assert again.probes.all() == store.probes.all()
    assert again.installed.get() == InstalledRelease("r", 3, b"c", 2)
    assert again.ledger.mark() == store.ledger.mark()
    again.memory.add([example("b")])
    assert len(store.memory) == 1


def test_a_database_of_another_version_is_refused(tmp_path):
    path = tmp_path / "device.db"
    store = open_file(path)
    store._database.connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(InputError, match="schema version 99"):
        open_file(path)


def test_a_database_from_before_sources_keeps_its_ledger_and_learns_who_said_so(tmp_path):
    path = tmp_path / "device.db"
    before = schema.MIGRATIONS.index(schema._SOURCES)
    old = sqlite3.connect(path)
    old.executescript(f"""
        {"".join(schema.MIGRATIONS[:before])}
        INSERT INTO ledger VALUES (7, 1.5, 'device_owner', 'device_training', 4.0, 'J', 0.5, 2.0);
        INSERT INTO ledger VALUES (9, 2.5, 'operator', 'probes', 2.0, 'query', 0.5, 1.0);
        INSERT INTO ledger_days VALUES (3, 'device_owner', 'device_training', 'J', 0.5, 6.0, 3.0);
        PRAGMA user_version = {before};
    """)
    old.close()
    store = open_file(path)
    training = entry(Kind.DEVICE_TRAINING, 4.0, 0.5, at=1.5, payer=Payer.DEVICE_OWNER, source="model")
    assert store.ledger.since() == [training, entry(Kind.PROBES, 2.0, 0.5, at=2.5, payer=Payer.OPERATOR)]
    assert store.ledger.mark() == 9
    assert store.ledger.energy_j() == {"model": 10.0}
    store.ledger.append([entry(Kind.DEVICE_TRAINING, 1.0, 0.5, at=3.0, payer=Payer.DEVICE_OWNER, source="rapl")])
    store.ledger.fold(store.ledger.mark())
    assert store.ledger.energy_j() == {"model": 10.0, "rapl": 1.0}


def test_a_database_from_before_allowances_gets_them_empty(tmp_path):
    path = tmp_path / "device.db"
    before = schema.MIGRATIONS.index(schema.ALLOWANCE_TABLES)
    old = sqlite3.connect(path)
    old.executescript(f"{''.join(schema.MIGRATIONS[:before])} PRAGMA user_version = {before};")
    old.close()
    store = open_file(path)
    assert store.allowances.under_way(day_of=0.0) == 0 and store.allowances.bucket("per_hour") is None
    store.allowances.set_aside(2, day_of=0.0)
    store.allowances.set_aside(-5, day_of=0.0)
    assert store.allowances.under_way(day_of=0.0) == 0  # never below none


def test_a_database_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(InputError, match="schema version 0"):
        open_file(path)


def test_columns_are_strictly_typed():
    store = open_memory()
    with pytest.raises(sqlite3.IntegrityError):
        store.memory.add([example("a", source="guess")])
    with pytest.raises(sqlite3.IntegrityError):
        store.count({"a": "many"})


@pytest.mark.parametrize("blob", [b"", b"x", b"t\xff", b"p\0\0\0"])
def test_a_stored_query_that_is_damaged_is_refused_in_words(blob):
    with pytest.raises(VerificationError, match="the file is damaged"):
        query_from_blob(blob)


def test_a_stored_vector_that_is_damaged_is_refused_in_words():
    assert vector_from_blob(None) is None
    with pytest.raises(VerificationError, match="a vector of 5 bytes: the file is damaged"):
        vector_from_blob(bytes(5))


def test_a_damaged_database_is_refused_in_words(tmp_path):
    dumped = open_memory().dump()
    with pytest.raises(InputError, match="damaged"):
        restore(b"no database" + dumped[11:])
    (tmp_path / "device.sqlite").write_bytes(b"no database" * 400)
    with pytest.raises(InputError, match=r"device\.sqlite cannot be opened"):
        open_file(tmp_path / "device.sqlite")
