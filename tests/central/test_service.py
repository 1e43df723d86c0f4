"""What the core of the fallback service promises, without any transport."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aggregator.central import (
    CentralService,
    KeyReusedError,
    Limits,
    ModelFailedError,
    Pricing,
    RequestRefusedError,
    Served,
)
from fedge.costs import PriceBook
from fedge.errors import InputError
from protos.fedge.central.v1.central_pb2 import PURPOSE_ESCALATION, PURPOSE_PROBE, AnswerResponse

LABELS = tuple(f"label-{i}" for i in range(64))


def test_answer_carries_label_distribution_price_and_model(service, ask):
    response = service.answer(ask("17"))
    assert response.label == "label-17"
    assert len(response.distribution) == 64
    assert response.distribution[17] == pytest.approx(0.75)
    assert sum(response.distribution) == pytest.approx(1.0)
    assert (response.answered_by, response.model, response.price_book) == ("central", "numbers", "book-1")
    assert response.price_usd == pytest.approx(0.002)


def test_description_names_labels_and_limits(service):
    description = service.describe()
    assert description.labels[63] == "label-63"
    assert (description.model, description.price_book) == ("numbers", "book-1")
    assert (description.max_text_bytes, description.pixels) == (1000, 0)


def test_the_price_book_prices_every_answer_alike(model, clock, ask):
    book = PriceBook.load_default()
    service = CentralService(
        model=model,
        model_name="numbers",
        labels=LABELS,
        pricing=Pricing.from_book(book),
        limits=Limits(max_text_bytes=10),
        clock=clock,
    )
    answers = [service.answer(ask("1", key="a")), service.answer(ask("     12", key="b"))]
    price_usd = book.models[book.central_model].usd(book.tokens_in, book.tokens_out)
    assert [answer.price_usd for answer in answers] == [price_usd] * 2
    assert answers[0].price_book == book.version


def test_same_key_gives_the_stored_response_and_is_computed_and_charged_once(service, model, ask):
    first = service.answer(ask("17"))
    again = service.answer(ask("17", release_id="ab" * 32))  # a retry after an update names another release
    assert again == first
    assert model.batches == [["17"]]
    assert service.served() == {("dev", PURPOSE_ESCALATION): Served(1, 0.002)}


def test_same_key_with_another_query_is_refused(service, ask):
    service.answer(ask("17"))
    with pytest.raises(KeyReusedError, match="'k'"):
        service.answer(ask("18"))


def test_same_key_of_another_device_is_another_question(service, ask):
    assert service.answer(ask("17", device="a")).label == "label-17"
    assert service.answer(ask("18", device="b")).label == "label-18"


def test_memory_of_answers_ends_with_their_age(service, model, clock, ask):
    service.answer(ask("17"))
    clock.now = 100.0
    service.answer(ask("17"))
    assert len(model.batches) == 1
    clock.now = 100.1
    service.answer(ask("17"))
    assert len(model.batches) == 2


def test_memory_of_answers_is_bounded_and_forgets_the_oldest(service, model, ask):
    for number in range(1001):
        service.answer(ask("1", key=f"k{number}"))
    service.answer(ask("1", key="k1"))
    assert len(model.batches) == 1001
    service.answer(ask("1", key="k0"))
    assert len(model.batches) == 1002


def test_concurrent_duplicates_are_computed_once(service, model, ask):
    model.may_run.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(service.answer, ask("17")) for _ in range(8)]
        model.is_running.wait(timeout=30)
        model.may_run.set()
        assert {answer.result(timeout=30).label for answer in answers} == {"label-17"}
    assert model.batches == [["17"]]


def test_a_batch_is_one_call_of_the_model_with_refusals_in_their_places(service, model, ask):
    requests = [ask("1", key="a"), ask("2", purpose=0), ask("3", key="c"), ask("1", key="a"), ask("9", key="c")]
    outcomes = service.answer_many(requests)
    assert model.batches == [["1", "3"]]
    assert [outcome.label for outcome in outcomes if isinstance(outcome, AnswerResponse)] == [
        "label-1",
        "label-3",
        "label-1",
    ]
    assert isinstance(outcomes[1], RequestRefusedError)
    assert isinstance(outcomes[4], KeyReusedError)


def test_one_query_that_breaks_the_model_costs_only_its_own_answer(service, model, ask):
    model.broken_on = "13"
    outcomes = service.answer_many([ask(text, key=text) for text in ("1", "13", "2")])
    assert isinstance(outcomes[1], ModelFailedError)
    assert "secret" not in str(outcomes[1])
    assert [outcomes[0].label, outcomes[2].label] == ["label-1", "label-2"]
    model.broken_on = None
    assert service.answer(ask("13", key="13")).label == "label-13"  # the failure was not remembered
    assert service.served()["dev", PURPOSE_ESCALATION].queries == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": "ok", "idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "x" * 129}, "129"),
        ({"idempotency_key": "tab\t"}, "printable"),
        ({"device_id": "käfer"}, "device id"),
        ({"release_id": "latest"}, "release_id"),
        ({"purpose": 0}, "purpose 0"),
        ({"purpose": 7}, "purpose 7"),
        ({"query": "1" * 1001}, "1001 bytes"),
        ({"query": " \n"}, "empty"),
        ({"query": np.zeros(4, dtype=np.float32)}, "4 pixels"),
    ],
)
def test_a_wrong_request_is_refused_by_name_and_not_computed(service, model, ask, changes, said):
    query = changes.pop("query", "17")
    request = ask(query, key=changes.pop("key", "k"))
    for name, value in changes.items():
        setattr(request, name, value)
    with pytest.raises(RequestRefusedError, match=said):
        service.answer(request)
    assert model.batches == []


def test_pixels_of_the_right_length_reach_the_model_unchanged(clock, ask):
    seen = []

    class Model:
        def predict(self, queries):
            seen.extend(queries)
            return np.full((len(queries), 2), 0.5, dtype=np.float32)

    service = CentralService(
        model=Model(),
        model_name="m",
        labels=("a", "b"),
        pricing=Pricing("b", lambda query: 0.0),
        limits=Limits(pixels=3),
        clock=clock,
    )
    pixels = np.array([0.0, 0.1, 1.0], dtype=np.float32)
    assert service.answer(ask(pixels)).label == "a"
    assert seen[0].dtype == np.float32
    assert seen[0].tolist() == pixels.tolist()
    bad = ask(pixels, key="bad")
    for payload in (b"", b"\0\0\0", np.array([0, np.nan, 1], "<f4").tobytes(), np.array([0, 0, 1.5], "<f4").tobytes()):
        bad.query.pixels = payload
        with pytest.raises(RequestRefusedError):
            service.answer(bad)
    with pytest.raises(RequestRefusedError, match="too long"):
        service.answer(ask("text", key="text"))


@pytest.mark.parametrize("rows", [[[0.5, 0.4]], [[1.5, -0.5]], [[np.nan, 1.0]], [[1.0]], [[0.5, 0.5], [0.5, 0.5]]])
def test_a_model_that_gives_no_distribution_is_an_error_not_an_answer(clock, ask, rows):
    class Model:
        def predict(self, queries):
            return np.array(rows, dtype=np.float32)

    pricing = Pricing("b", lambda query: 0.0)
    limits = Limits(max_text_bytes=10)
    service = CentralService(model=Model(), model_name="m", labels=("a", "b"), pricing=pricing, limits=limits, clock=clock)
    with pytest.raises(ModelFailedError):
        service.answer(ask("17"))
    assert service.served() == {}


def test_counts_are_kept_by_device_and_purpose(service, ask):
    service.answer(ask("1", key="1", device="a"))
    service.answer(ask("2", key="2", device="a", purpose=PURPOSE_PROBE))
    service.answer(ask("3", key="3", device="a", purpose=PURPOSE_PROBE))
    service.answer(ask("4", key="4", device="b"))
    taken = service.served()
    assert {key: served.queries for key, served in taken.items()} == {
        ("a", PURPOSE_ESCALATION): 1,
        ("a", PURPOSE_PROBE): 2,
        ("b", PURPOSE_ESCALATION): 1,
    }
    assert sum(taken.values(), Served()).price_usd == pytest.approx(0.004)


@pytest.mark.parametrize("labels", [(), ("a", "a"), ("a", "")])
def test_labels_must_be_distinct_and_not_empty(clock, model, labels):
    pricing = Pricing("b", lambda query: 0.0)
    with pytest.raises(InputError, match="labels"):
        CentralService(model=model, model_name="m", labels=labels, pricing=pricing, limits=Limits(), clock=clock)
