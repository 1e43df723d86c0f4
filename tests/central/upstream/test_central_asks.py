"""Central with an upstream: who answers, at which price, and that nobody else waits."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aggregator.accounting import charge_served
from aggregator.central import CentralService, Limits, Pricing, serve_in_thread
from aggregator.central.upstream.config import open_upstream
from aggregator.central.upstream.upstream import Upstream, When
from aggregator.console.metrics import Recorded, exposition
from aggregator.settings import UpstreamSettings
from aggregator.upstream_figures import UpstreamFigures, read_figures
from aggregator.workbench.workloads import WorkloadFacts
from edge_client.inference.escalation import EscalationFailed, GrpcCentralClient
from fedge.costs import Kind, PriceBook
from fedge.errors import InputError
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, PURPOSE_FORCED, PURPOSE_PROBE
from tests.central.upstream.conftest import BOOK, LABELS, PRICE, Endpointed, completion, says

WAIT_S = 30.0
OWN_USD = BOOK.central_price_usd
TOKENS_USD = PRICE.usd(100, 5)
Make = Callable[..., Upstream]


@pytest.fixture
def make_service(model: Any) -> Callable[[Upstream | None], CentralService]:
    """Central with the model of the tests beside, which is 0.75 sure of everything."""

    def make(upstream: Upstream | None) -> CentralService:
        return CentralService(
            model=model,
            model_name="numbers",
            labels=LABELS,
            pricing=Pricing.from_book(BOOK),
            limits=Limits(max_text_bytes=1000),
            clock=time.time,
            upstream=upstream,
        )

    return make


@contextmanager
def over_grpc(service: CentralService) -> Iterator[GrpcCentralClient]:
    with serve_in_thread(service, grace_s=0.2) as port, GrpcCentralClient(f"127.0.0.1:{port}") as client:
        yield client


def test_upstreams_answer_comes_over_the_wire_at_the_price_of_its_tokens(make_upstream: Make, make_service: Any, ask: Any):
    with over_grpc(make_service(make_upstream())) as client:
        response = client.answer(ask("17"), WAIT_S)
    assert (response.label, response.answered_by, response.model) == ("label-7", "upstream", "test-model")
    assert (response.price_usd, response.price_book) == (pytest.approx(TOKENS_USD), "book-2")
    assert max(range(64), key=response.distribution.__getitem__) == 7
    assert sum(response.distribution) == pytest.approx(1.0, abs=1e-5)
    assert response.distribution[17] == pytest.approx(0.4 * 0.75)


def test_where_the_strong_model_is_sure_upstream_is_not_asked(
    endpoint: Endpointed, make_upstream: Make, make_service: Any, ask: Any
):
    service = make_service(make_upstream(when=When("unsure", 0.75)))
    response = service.answer(ask("17"))
    assert (response.label, response.answered_by, response.price_usd) == ("label-17", "central", pytest.approx(OWN_USD))
    assert endpoint.asked == []


@pytest.mark.parametrize("purpose", [PURPOSE_ESCALATION, PURPOSE_PROBE, PURPOSE_FORCED])
def test_probes_and_escalations_get_the_same_answer(make_upstream: Make, make_service: Any, ask: Any, purpose: int):
    service = make_service(make_upstream(when=When("unsure", 0.76)))
    assert service.answer(ask("17", purpose=purpose)).label == "label-7"


def test_a_reply_of_no_use_leaves_centrals_answer_and_is_paid_beside_it(
    endpoint: Endpointed, make_upstream: Make, make_service: Any, ask: Any
):
    endpoint.otherwise = says(completion("open the door"))
    upstream = make_upstream()
    response = make_service(upstream).answer(ask("17"))
    assert (response.label, response.answered_by, response.model) == ("label-17", "central", "numbers")
    assert response.distribution[17] == pytest.approx(0.75)
    assert (response.price_usd, response.price_book) == (pytest.approx(OWN_USD + TOKENS_USD), "book-2")
    assert upstream.budget.figures.outcomes == {"unknown_label": 1}


def test_an_upstream_that_fails_costs_nothing_and_central_answers(
    endpoint: Endpointed, make_upstream: Make, make_service: Any, ask: Any
):
    endpoint.otherwise = says({}, status=401)
    response = make_service(make_upstream()).answer(ask("17"))
    assert (response.label, response.price_usd, response.price_book) == ("label-17", pytest.approx(OWN_USD), BOOK.version)


def test_a_repeated_request_is_asked_and_charged_once(
    endpoint: Endpointed, make_upstream: Make, make_service: Any, ask: Any
):
    def slow(handler: Any, asked: Any) -> None:
        assert endpoint.closing.wait(WAIT_S)
        says(completion("label-7"))(handler, asked)

    endpoint.otherwise = slow
    service = make_service(make_upstream())
    with over_grpc(service) as client, ThreadPoolExecutor(4) as pool:
        together = [pool.submit(client.answer, ask("17"), WAIT_S) for _ in range(4)]
        while not endpoint.asked:
            time.sleep(0.01)
        with pytest.raises(EscalationFailed):  # a try that hangs up takes nothing from the others
            client.answer(ask("17"), 0.05)
        endpoint.closing.set()
        answers = [one.result(WAIT_S) for one in together] + [client.answer(ask("17"), WAIT_S)]
    assert all(answer == answers[0] and answer.answered_by == "upstream" for answer in answers)
    assert len(endpoint.asked) == 1
    assert service.served()["dev", PURPOSE_ESCALATION].queries == 1


def test_a_caller_gets_centrals_answer_in_its_time_although_upstream_hangs(
    endpoint: Endpointed, make_upstream: Make, make_service: Any, ask: Any
):
    endpoint.otherwise = lambda handler, asked: endpoint.closing.wait(WAIT_S)
    upstream = make_upstream()
    with over_grpc(make_service(upstream)) as client:
        response = client.answer(ask("17"), 1.0)
    assert (response.label, response.answered_by) == ("label-17", "central")
    assert upstream.budget.figures.outcomes == {"timeout": 1}


def test_nobody_waits_for_anothers_question_to_upstream(
    endpoint: Endpointed, make_upstream: Make, make_service: Any, ask: Any, model: Any
):
    def slow(handler: Any, asked: Any) -> None:
        assert endpoint.closing.wait(WAIT_S)
        says(completion("label-7"))(handler, asked)

    endpoint.otherwise = slow
    upstream = make_upstream()
    service = make_service(upstream)
    wants, upstream.wants = upstream.wants, lambda row: int(row.argmax()) < 8  # type: ignore[method-assign]
    with over_grpc(service) as client, ThreadPoolExecutor(8) as pool:
        hard = [pool.submit(client.answer, ask(str(i), key=f"hard-{i}"), WAIT_S) for i in range(8)]
        while len(endpoint.asked) < 8:
            time.sleep(0.01)
        easy = client.answer_many([ask(str(i), key=f"easy-{i}") for i in range(8, 64)], WAIT_S)
        assert [answer.label for answer in easy] == [f"label-{i}" for i in range(8, 64)]
        assert not any(one.done() for one in hard)
        endpoint.closing.set()
        assert {one.result(WAIT_S).answered_by for one in hard} == {"upstream"}
    assert wants is not upstream.wants


def test_the_servers_ledger_holds_what_devices_were_told_that_answers_cost(
    endpoint: Endpointed, make_upstream: Make, make_service: Any, ask: Any
):
    upstream = make_upstream(when=When("unsure", 0.0))
    service = make_service(upstream)
    told = [service.answer(ask("1", key="own")).price_usd]
    upstream._when = When("always", 0.0)
    told.append(service.answer(ask("2", key="upstream")).price_usd)
    told.append(service.answer(ask("3", key="probe", purpose=PURPOSE_PROBE)).price_usd)
    endpoint.script = [says(completion("no label"))]
    told.append(service.answer(ask("4", key="vain", purpose=PURPOSE_PROBE)).price_usd)
    rows = {row.kind: row for row in charge_served(service.served(), BOOK, at=0.0, upstream=upstream)}
    assert sum(row.amount_usd for row in rows.values()) == pytest.approx(sum(told))
    assert (rows[Kind.ESCALATIONS].quantity, rows[Kind.PROBES].quantity) == (1, 1)
    assert rows[Kind.UPSTREAM_TOKENS_IN].quantity == 300 and rows[Kind.UPSTREAM_TOKENS_OUT].quantity == 15
    assert rows[Kind.UPSTREAM_TOKENS_OUT].price_usd == pytest.approx(10e-6)


def facts_of(**changes: Any) -> WorkloadFacts:
    known = {"name": "home", "labels": LABELS, "oos_label": None, "topics": {}, "data_sha256": "", "note": ""}
    return WorkloadFacts(**{**known, "queries_per_round": 1, "pixels": 0, **changes})


ON = {"url": "http://127.0.0.1:1/v1", "model": "m", "input_usd_per_mtok": 0.0, "output_usd_per_mtok": 0.0}


def opened(tmp_path: Path, facts: WorkloadFacts, **settings: Any) -> Upstream | None:
    return open_upstream(UpstreamSettings(**settings), facts, PriceBook.load_default(), figures=tmp_path / "upstream.json")


def test_it_is_off_unless_an_address_is_set(tmp_path: Path):
    assert opened(tmp_path, facts_of()) is None
    assert opened(tmp_path, facts_of(pixels=64)) is None


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"pixels": 64, "name": "digits"}, {}, "workload digits asks about pictures"),
        ({}, {"model": " "}, "upstream.model"),
        ({}, {"url": "http://example.com/v1"}, "in the clear"),
        ({}, {"input_usd_per_mtok": None}, "upstream has no price"),
        ({}, {"price": "nano"}, "exclude each other"),
        ({}, {"price": "giant", "input_usd_per_mtok": None, "output_usd_per_mtok": None}, "no model 'giant'"),
        ({}, {"api_key_file": "/nowhere/key"}, "/nowhere/key"),
    ],
)
def test_settings_that_cannot_be_are_one_line_before_central_serves(
    tmp_path: Path, changes: dict[str, Any], settings: dict[str, Any], said: str
):
    with pytest.raises(InputError, match=said) as caught:
        opened(tmp_path, facts_of(**changes), **{**ON, **settings})
    assert "\n" not in str(caught.value)


def test_tokens_are_paid_by_the_price_book_or_by_the_settings(tmp_path: Path):
    book = PriceBook.load_default()
    by_book = opened(tmp_path, facts_of(), url=ON["url"], model="m", price="nano")
    by_settings = opened(tmp_path, facts_of(), **ON)
    assert by_book is not None and by_settings is not None
    assert (by_book.book.version, by_settings.book.version) == (book.version, f"{book.version}+server.toml")
    assert by_book.book.models[by_book.price_name] == book.models["nano"]
    for one in (by_book, by_settings):
        one.close()


def test_figures_outlive_a_restart_and_stand_in_the_metrics(tmp_path: Path):
    path = tmp_path / "upstream.json"
    assert read_figures(path) is None
    figures = UpstreamFigures().plus("answered", {"in/billed": 100, "out/billed": 5}, 0.25, at=86_400.0)
    figures = figures.plus("timeout", {"in/estimated": 70, "out/estimated": 9}, 0.5, at=86_401.0)
    figures.write(path)
    assert read_figures(path) == figures and path.stat().st_mode & 0o777 == 0o600
    again = open_upstream(UpstreamSettings(**ON), facts_of(), PriceBook.load_default(), figures=path)
    assert again is not None and again.budget.figures.spent_usd(86_402.0) == 0.75
    assert again.budget.figures.spent_usd(2 * 86_400.0) == 0.0
    again.close()
    text = exposition(Recorded(rounds=[], upstream=figures)).decode()
    assert 'fedge_upstream_requests_total{outcome="answered"} 1.0' in text
    assert 'fedge_upstream_requests_total{outcome="over_budget"} 0.0' in text
    assert 'fedge_upstream_tokens_total{basis="estimated",direction="in"} 70.0' in text
    assert "fedge_upstream" not in exposition(Recorded(rounds=[])).decode()


@pytest.mark.parametrize("held", ["", "{}", "[]", '{"outcomes": {"a": "b"}, "tokens": {}, "usd": 0, "day": 0, "day_usd": 0}',
                                  '{"outcomes": {}, "tokens": {}, "usd": NaN, "day": 0, "day_usd": 0}'])  # fmt: skip
def test_figures_that_cannot_be_read_are_one_line_and_not_a_new_budget(tmp_path: Path, held: str):
    (tmp_path / "upstream.json").write_text(held)
    with pytest.raises(InputError, match="begins anew"):
        opened(tmp_path, facts_of(), **ON)
