"""What devices are told that answers cost stands in the operator's ledger, also after kill -9 and on a full disk."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from aggregator.accounting import book_served
from aggregator.central import CentralService, LedgerFailedError, LedgerWriter, Limits, Pricing, Served
from aggregator.central.service import Account
from aggregator.central.upstream.budget import Tokens
from aggregator.store import Database
from edge_client.inference.escalation import GrpcCentralClient
from fedge.costs import Kind, LedgerEntry, PriceBook
from fedge.errors import FedgeError
from fedge.wire import answer_request
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, PURPOSE_PROBE, AnswerRequest, AnswerResponse
from tests.central.conftest import LABELS, Clock, NumberModel
from tests.small_disk import fill, small_disk

ROOT = Path(__file__).resolve().parents[2]
BOOK = PriceBook.load_default()
ME: Account = ("dev", PURPOSE_ESCALATION)
WAIT_S = 30.0


class Book:
    """What was written, one mapping a commit; can be held up, or refuse."""

    def __init__(self) -> None:
        self.commits: list[Mapping[Account, Served]] = []
        self.may_write = threading.Event()
        self.may_write.set()
        self.is_writing = threading.Event()
        self.is_full = False

    def __call__(self, served: Mapping[Account, Served]) -> None:
        self.is_writing.set()
        assert self.may_write.wait(WAIT_S)
        if self.is_full:
            raise FedgeError("database or disk is full")
        self.commits.append(served)


def counted(rows: Sequence[LedgerEntry]) -> dict[Kind, float]:
    found: dict[Kind, float] = {}
    for row in rows:
        found[row.kind] = found.get(row.kind, 0.0) + row.quantity
    return found


def make_service(ledger: LedgerWriter, model: NumberModel | None = None) -> CentralService:
    return CentralService(
        model=model or NumberModel(),
        model_name="numbers",
        labels=LABELS,
        pricing=Pricing.from_book(BOOK),
        limits=Limits(max_text_bytes=1000),
        clock=Clock(),
        ledger=ledger,
    )


def test_no_answer_is_given_before_its_cost_is_written(ask: Callable[..., AnswerRequest]):
    book = Book()
    book.may_write.clear()
    ledger = LedgerWriter(book)
    service = make_service(ledger)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(service.answer, ask("17"))
        assert book.is_writing.wait(WAIT_S)
        assert not answer.done() and service.served() == {}
        book.may_write.set()
        assert answer.result(WAIT_S).label == "label-17"
    assert book.commits == [{ME: Served(1, BOOK.central_price_usd)}]
    ledger.close()


def test_what_comes_while_a_commit_is_on_its_way_shares_the_next_one():
    book = Book()
    book.may_write.clear()
    ledger = LedgerWriter(book)
    first = ledger.book({ME: Served(1, 0.5)})
    assert book.is_writing.wait(WAIT_S)
    others = [ledger.book({ME: Served(1, 0.5)}) for _ in range(20)]
    book.may_write.set()
    for booked in (first, *others):
        booked.result(WAIT_S)
    assert book.commits == [{ME: Served(1, 0.5)}, {ME: Served(20, 10.0)}]
    ledger.close()


def test_where_nothing_can_be_written_nobody_is_told_and_nothing_more_is_spent(ask: Callable[..., AnswerRequest]):
    book, model, now = Book(), NumberModel(), [0.0]
    ledger = LedgerWriter(book, ticks=lambda: now[0], retry_s=1.0)
    service = make_service(ledger, model)
    book.is_full = True
    with pytest.raises(LedgerFailedError, match=r"cannot write its ledger.*disk is full"):
        service.answer(ask("17"))
    asked = len(model.batches)
    with pytest.raises(LedgerFailedError):
        service.answer(ask("18", key="other"))
    assert len(model.batches) == asked, "a moment after a failure the model is not even asked"
    book.is_full, now[0] = False, 1.0
    assert service.answer(ask("17")).label == "label-17", "a retry under the same key is answered"
    assert service.served() == book.commits[-1] == {ME: Served(1, BOOK.central_price_usd)}
    ledger.close()


def test_tokens_that_upstream_was_paid_for_are_owed_to_the_ledger_and_said_in_the_log(caplog: pytest.LogCaptureFixture):
    book = Book()
    ledger = LedgerWriter(book, usd=lambda served: 0.25 * served.tokens.tokens_in)
    book.is_full = True
    refused = ledger.book({ME: Served(1, 2.0, 1, Tokens(8, 2))})
    assert isinstance(refused.exception(WAIT_S), LedgerFailedError)
    assert "2 USD of upstream's tokens are owed" in caplog.text
    book.is_full = False
    ledger.book({("other", PURPOSE_PROBE): Served(1, 0.5)}).result(WAIT_S)
    assert book.commits == [{ME: Served(tokens=Tokens(8, 2)), ("other", PURPOSE_PROBE): Served(1, 0.5)}]
    ledger.close()


def test_a_closed_ledger_has_what_waited_and_takes_nothing_more():
    book = Book()
    book.may_write.clear()
    ledger = LedgerWriter(book)
    booked = [ledger.book({ME: Served(1, 1.0)}) for _ in range(5)]
    book.may_write.set()
    ledger.close()
    assert all(one.exception(WAIT_S) is None for one in booked)
    assert sum((commit[ME] for commit in book.commits), Served()) == Served(5, 5.0)
    assert isinstance(ledger.book({ME: Served(1, 1.0)}).exception(WAIT_S), LedgerFailedError)


def test_a_crowd_of_answers_fills_few_rows(tmp_path: Path):
    with Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}") as database:
        for second in range(12):
            for purpose in (PURPOSE_ESCALATION, PURPOSE_PROBE):
                book_served(database, {("dev", purpose): Served(2, 1.0)}, BOOK, at=float(second))
        rows = database.ledger(1)
        spent = database.spent_usd()
    assert len(rows) == 2 * 3, "one of each kind for seconds 0 to 5, and for 6 to 11"
    assert counted(rows) == {
        Kind.ESCALATIONS: 24,
        Kind.PROBES: 24,
        Kind.CENTRAL_ENERGY: pytest.approx(48 * BOOK.central_energy_j_per_query),
    }
    assert sum(spent.values()) == pytest.approx(sum(row.amount_usd for row in rows))


def ask_until_gone(port: int, device: str, told: list[AnswerResponse], stop: threading.Event) -> None:
    with GrpcCentralClient(f"127.0.0.1:{port}", None) as client:
        number = 0
        while not stop.is_set():
            number += 1
            request = answer_request(
                idempotency_key=str(number), device_id=device, query="q", release_id="", purpose=PURPOSE_ESCALATION
            )
            try:
                told.append(client.answer(request, 1.0))
            except FedgeError:
                return


def test_after_kill_9_the_ledger_has_every_answer_that_a_device_was_told(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'a.sqlite'}"
    told: list[AnswerResponse] = []
    for _ in range(2):
        central = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ledger_server.py")), url],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert central.stdout is not None
        port = int(central.stdout.readline())
        stop, enough = threading.Event(), len(told) + 300
        devices = [
            threading.Thread(target=ask_until_gone, args=(port, f"d{i}-{port}", told, stop)) for i in range(16)
        ]
        for device in devices:
            device.start()
        deadline = time.monotonic() + WAIT_S
        while len(told) < enough and time.monotonic() < deadline:
            time.sleep(0.005)
        central.send_signal(signal.SIGKILL)
        central.wait()
        stop.set()
        for device in devices:
            device.join()
    assert len(told) >= 600
    with Database.open(url) as database:
        rows = database.ledger(1)
    booked = counted(rows)[Kind.ESCALATIONS]
    told_usd = sum(answer.price_usd for answer in told)
    print(f"told {len(told)}, booked {booked:.0f} in {len(rows)} rows")
    assert len(told) <= booked <= len(told) + 2 * 16, "booked and not told: at most what was in flight at a kill"
    assert told_usd <= sum(row.amount_usd for row in rows) + 1e-9


def test_a_full_disk_refuses_answers_and_space_brings_them_back(tmp_path: Path, ask: Callable[..., AnswerRequest]):
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(tmp_path / "disk", size_bytes=4 << 20))
        database = stack.enter_context(Database.open(f"sqlite:///{disk / 'a.sqlite'}"))
        ledger = LedgerWriter(lambda served: book_served(database, served, BOOK, at=time.time()), retry_s=0.0)
        service = make_service(ledger)
        told = [service.answer(ask("1", key="before"))]
        ballast = fill(disk)
        refused: list[Any] = []
        for number in range(3000):  # the database may have pages of its own left
            outcome = service.answer_many([ask("2", key=f"full-{number}")])[0]
            if isinstance(outcome, LedgerFailedError):
                refused.append(outcome)
                break
            told.append(outcome)
        assert refused and "full" in str(refused[0])
        ballast.unlink()
        told.append(service.answer(ask("3", key="after")))
        ledger.close()
        assert counted(database.ledger(1))[Kind.ESCALATIONS] == len(told)
