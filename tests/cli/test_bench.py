"""`fedge bench`: what it prints for a small case, and one line for a bad one. Figures are not judged here."""

import json

import pytest

from cli import main


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["fedge", *arguments])
    with pytest.raises(SystemExit) as stop:
        main.main()
    return stop.value.code or 0


def test_secagg_measures_every_bench_of_a_case_side_by_side(monkeypatch, capsys):
    assert run(monkeypatch, "bench", "secagg", "--case", "10:300", "--repetitions", "1", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["machine"]["cores"] >= 1
    results = document["results"]
    assert {result["bench"] for result in results} == {
        "secagg.masks", "secagg.client", "secagg.upload", "secagg.server", "secagg.memory", "secagg.session",
    }  # fmt: skip
    servers = [result for result in results if result["bench"] == "secagg.server"]
    cases = {(result["case"]["bits"], result["case"]["dropout"]) for result in servers}
    assert cases == {(bits, dropout) for bits in (32, 16) for dropout in (0.0, 0.01, 0.1)}
    for result in servers:
        assert result["unit"] == "s" and result["case"]["n"] == 10 and result["case"]["k"] == 9
        assert {"flwr", "keystream", "plain"} <= result["peers"].keys()
        assert result["ours"] > 0 and result["peers"]["flwr"] > 0
    (session,) = (result for result in results if result["bench"] == "secagg.session")
    assert list(session["detail"]) == ["check_in", "share_keys", "masked_input", "consistency", "unmask"]
    uploads = {
        result["case"]["bits"]: result["detail"]["vector"] for result in results if result["bench"] == "secagg.upload"
    }
    assert uploads == {32: 4 * 300, 16: 2 * 300}, "four or two bytes a value, as on the wire"


@pytest.mark.parametrize("case", ["32", "4:100", "129:100", "32:x", "32:1"])
def test_a_case_that_cannot_be_is_one_line(monkeypatch, capsys, case):
    assert run(monkeypatch, "bench", "secagg", "--case", case) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"--case {case}" in error and "N:M" in error


def test_inference_measures_the_agent_inside_and_over_http_and_its_memory(monkeypatch, capsys):
    assert run(monkeypatch, "bench", "inference", "--queries", "200", "--json") == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(result["bench"], result["case"].get("layer")) for result in results] == [
        ("inference.local_path", "agent"), ("inference.local_path", "http"), ("inference.memory", None),
    ]  # fmt: skip
    assert results[0]["peers"]["model"] > 0 and results[1]["peers"]["inside"] > 0 and results[2]["ours"] > 0


def test_fallback_measures_a_bare_call_beside_the_escalation(monkeypatch, capsys):
    assert run(monkeypatch, "bench", "fallback", "--calls", "200", "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["bench"] == "fallback.call" and result["unit"] == "ms"
    assert result["ours"] > 0 and result["peers"]["grpc_aio"] > 0 and result["detail"]["client_alone"] > 0
