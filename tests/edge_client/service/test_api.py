"""The local API over a real socket: fedge's own routes, what is refused, and what is never done twice."""

import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

KEYS = {"id", "answer", "answered_by", "reason", "confidence", "usd", "release", "latency_ms", "degraded", "recorded"}


def answers(local) -> int:
    return sum(value for name, value in local.process.store.counters().items() if name.startswith("answered."))


def test_an_answer_says_who_why_how_sure_and_for_how_much(local):
    status, answer, headers = local.call("POST", "/v1/ask", {"query": "turn off the lights"})
    assert status == 200 and answer.keys() == KEYS and answer["recorded"]
    assert (answer["answered_by"], answer["reason"], answer["degraded"]) == ("device", "confident", False)
    assert answer["usd"] > 0 and answer["latency_ms"] > 0 and re.fullmatch("[0-9a-f]{64}", answer["release"])
    assert headers["x-fedge-answered-by"] == "device" and headers["x-fedge-id"] == str(answer["id"])
    assert float(headers["x-fedge-usd"]) == pytest.approx(answer["usd"], abs=1e-9)


def test_a_caller_may_force_either_side(local):
    assert local.ask(mode="central")["answered_by"] == "central"
    assert local.ask(mode="central")["answer"] == "label-0"
    assert local.ask(mode="local-only")["reason"] == "forced_local"


def test_a_batch_is_its_queries_in_their_order(local):
    queries = [f"query number {i}" for i in range(20)]
    status, batch, _ = local.call("POST", "/v1/ask/batch", {"queries": queries, "topics": [None] * 20})
    assert status == 200
    single = [local.ask(query)["answer"] for query in queries]
    assert [answer["answer"] for answer in batch["answers"]] == single
    numbers = [answer["id"] for answer in batch["answers"]]
    assert numbers == list(range(numbers[0], numbers[0] + 20))


def test_a_correction_is_kept_and_an_unknown_one_named(local):
    number = local.ask("a query that was answered wrongly")["id"]
    status, done, _ = local.call("POST", f"/v1/answers/{number}/correction", {"label": "label-7"})
    assert (status, done) == (200, {"id": number, "label": "label-7", "kept": True})
    assert "label-7" in {row.label for row in local.process.store.memory.all()}
    status, refused, _ = local.call("POST", f"/v1/answers/{number}/correction", {"label": "nonsense"})
    assert status == 400 and "nonsense" in refused["error"]["message"]
    status, refused, _ = local.call("POST", "/v1/answers/999999/correction", {"label": "label-7"})
    assert status == 404 and "999999" in refused["error"]["message"]
    assert local.call("GET", f"/v1/answers/{number}")[1]["state"] == "answered"


@pytest.mark.parametrize("number", [str(2**63), str(2**64), "9" * 5000, "-1", "١"], ids=lambda text: ascii(text)[:12])
def test_a_number_that_no_store_holds_is_not_found(local, number):
    shown, refused, _ = local.call("GET", f"/v1/answers/{quote(number)}")
    corrected, *_ = local.call("POST", f"/v1/answers/{quote(number)}/correction", {"label": "label-7"})
    assert (shown, corrected) == (404, 404) and "no answer has the number" in refused["error"]["message"]


@pytest.mark.parametrize("value", ["1" * 5000, "1e999", str(2**64), "-" + "9" * 400])
def test_a_number_in_a_body_that_nothing_holds_is_refused_in_one_line(local, value):
    with socket.create_connection(("127.0.0.1", urlsplit(local.url).port), timeout=30) as connection:
        body = f'{{"query": [{value}]}}'
        head = f"POST /v1/ask HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        connection.sendall(f"{head}\r\nconnection: close\r\n\r\n{body}".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert re.match(rb"HTTP/1.1 4\d\d ", answer), answer[:200]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "query"),
        ({"query": "x", "mode": "cloud"}, "mode"),
        ({"query": "x", "queu": True}, "queu"),
        ({"query": "  "}, "query"),
        ({"query": [2.0]}, None),
        ({"query": ["a"]}, "query"),
        ({"query": "x", "mode": "local-only", "queue": True}, "queue"),
        (b"{", None),
        (b"[1]", None),
    ],
)
def test_a_bad_body_is_one_line_in_the_shape_that_clients_know(local, body, param):
    status, answer, headers = local.call("POST", "/v1/ask", body)
    assert status == 400 and answer.keys() == {"error"}
    error = answer["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert "\n" not in error["message"] and error["message"]
    assert error["param"] is None if param is None else error["param"].split(".")[0] == param
    assert headers["x-should-retry"] == "false"


def test_unknown_paths_and_methods_have_the_same_shape(local):
    status, answer, _ = local.call("GET", "/v1/nothing")
    assert status == 404 and "/v1/nothing" in answer["error"]["message"]
    status, answer, headers = local.call("GET", "/v1/ask")
    assert status == 405 and answer["error"]["code"] == "method_not_allowed" and "POST" in headers["allow"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:80"}, 403),
        ({"host": "localhost"}, 200),
        ({"host": "[::1]:8760"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:3000"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_pages_of_other_sites_cannot_reach_it(local, headers, status):
    before = answers(local)
    got, answer, _ = local.call("POST", "/v1/ask", {"query": "from a page"}, headers)
    assert got == status
    assert answers(local) - before == (1 if status == 200 else 0)
    if status != 200:
        assert answer["error"]["type"] == "invalid_request_error"


def test_the_foreign_host_is_refused_for_reading_too(local):
    assert local.call("GET", "/health", headers={"host": "evil.example"})[0] == 403
    assert local.call("GET", "/metrics", headers={"host": "evil.example"})[0] == 403


def test_a_body_over_the_cap_is_refused_unread(local):
    status, answer, _ = local.call("POST", "/v1/ask", b'{"query": "' + b"x" * (1 << 20) + b'"}')
    assert status == 413 and answer["error"]["code"] == "too_large"


def test_a_repeated_request_is_answered_once(local):
    sent = {"x-request-id": "one"}
    first = local.call("POST", "/v1/ask", {"query": "once", "mode": "central"}, sent)
    again = local.call("POST", "/v1/ask", {"query": "once", "mode": "central"}, sent)
    assert first[1] == again[1] and first[2]["x-request-id"] == "one"
    other = local.call("POST", "/v1/ask", {"query": "another", "mode": "central"}, sent)
    assert other[1]["id"] != first[1]["id"]
    assert local.ask("once", mode="central")["id"] != first[1]["id"]


def test_repetitions_at_once_are_one_request(local):
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda _: local.call("POST", "/v1/ask", {"query": "at once"}, {"x-request-id": "two"})[1]["id"], range(16)
            )
        )
    assert len(set(answers)) == 1


def test_what_failed_is_not_remembered(local):
    sent = {"x-request-id": "three"}
    assert local.call("POST", "/v1/ask", {"query": [2.0]}, sent)[0] == 400
    assert local.call("POST", "/v1/ask", {"query": [2.0]}, sent)[0] == 400
    assert local.call("POST", "/v1/ask", {"query": "fine"}, sent)[0] == 200


def test_health_says_that_it_lives_and_is_ready(local):
    status, health, _ = local.call("GET", "/health")
    assert status == 200 and health["live"] and health["ready"] and health["missing"] == {}
    assert health["release_version"] == 1 and health["queue"] == {"questions": 0, "bytes": 0}


def test_metrics_bear_the_agreed_names_and_no_device(local):
    local.ask()
    local.ask(mode="central")
    status, document, _ = local.call("GET", "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(document["text"])}
    assert status == 200
    assert {
        "fedge_queries", "fedge_query_duration_seconds", "fedge_energy_joules", "fedge_cost_usd", "fedge_update_bytes",
        "fedge_release_info", "fedge_degraded", "fedge_queue_questions", "fedge_certificate_expiry_timestamp_seconds",
    } == families.keys()  # fmt: skip
    by = {sample.labels["answered_by"]: sample.value for sample in families["fedge_queries"].samples}
    assert by["device"] >= 1 and by["central"] >= 1
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
    assert labels == {"answered_by", "reason", "source", "payer", "kind", "direction", "version", "le", "certificate"}
    assert "device-1" not in document["text"]
    ends = {s.labels["certificate"]: s.value for s in families["fedge_certificate_expiry_timestamp_seconds"].samples}
    assert ends.keys() == {"device", "threshold"} and all(end > time.time() for end in ends.values())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's prometheus) is not installed")
def test_promtool_accepts_the_devices_figures(local):
    local.ask()
    text = local.call("GET", "/metrics")[1]["text"]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_sixty_four_callers_at_once_each_get_their_own_answer(local):
    queries = [f"request {i} of many" for i in range(64)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(local.ask, queries))
    assert len({answer["id"] for answer in together}) == 64
    assert [answer["answer"] for answer in together] == [local.ask(query)["answer"] for query in queries]
