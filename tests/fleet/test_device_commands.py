"""`fedge devices`, `fedge device enroll` and `fedge keys` as a person runs them, against a real door."""

import io
import json
import sys

import grpc
import pytest

from aggregator.fleet.heartbeat import Report
from cli.main import main
from edge_client.settings import DeviceHome
from fedge.identity import Invitation
from fedge.presence import Presence


@pytest.fixture
def fedge(federation, tmp_path, monkeypatch, capsys):
    """Runs the command; the server stands where FEDGE_HOME says. Gives exit code, standard output and standard error."""
    ports = federation.ports
    federation.home.settings_file.write_text(f"fleet_port = {ports.fleet_port}\njoin_port = {ports.join_port}\n")

    def run(*arguments, stdin="", home=tmp_path):
        monkeypatch.setenv("FEDGE_HOME", str(home))
        monkeypatch.setattr(sys, "argv", ["fedge", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code, *capsys.readouterr())

    return run


def test_from_token_to_revocation(fedge, federation, tmp_path, monkeypatch):
    code, text, errors = fedge("devices", "token")
    assert (code, errors, text.count("\n")) == (0, "", 1)
    assert Invitation.from_text(text).address == f"localhost:{federation.ports.join_port}"
    code, said, errors = fedge("device", "enroll", "-", "--name", "kitchen", stdin=text)
    assert (code, errors) == (0, "")
    assert "kitchen is a member of fedge" in said
    home = DeviceHome(tmp_path / "devices" / "kitchen")
    assert federation.ask(home).revocations

    code, again, errors = fedge("device", "enroll", text.strip(), "--name", "cellar")
    assert (code, again) == (1, "")
    assert errors.startswith("fedge: the server says no: this join token was used by another device")
    assert errors.count("\n") == 1

    (entry,) = json.loads(fedge("devices", "list", "--json")[1])
    assert (entry["device"], entry["state"], entry["revoked"]) == ("kitchen", "member", None)
    assert "kitchen" in fedge("devices", "list")[1]
    assert (entry["release"], entry["energy_source"], entry["queue"], entry["silent"]) == (None, None, None, False)
    said = Presence(release="ab" * 32, supply="battery", sensor="ina219", queue=17)
    federation.authority.note_reports({"kitchen": Report(federation.clock(), said)})
    (entry,) = json.loads(fedge("devices", "list", "--json")[1])
    assert (entry["release"], entry["energy_source"], entry["queue"]) == ("ab" * 32, "battery", 17)
    table = fedge("devices", "list")[1]
    assert all(word in table for word in ("abababababab", "battery", "17"))
    assert "kitchen" in fedge("devices", "list", "--waiting")[1]
    assert fedge("devices", "list", "--silent")[1] == "No device is so.\n"
    assert json.loads(fedge("devices", "list", "--silent", "--json")[1]) == []

    code, said, _ = fedge("devices", "revoke", "kitchen", "--reason", "lost on a train")
    assert (code, said) == (0, "kitchen is revoked: its next call is refused.\n")
    with pytest.raises(grpc.RpcError) as refusal:
        federation.ask(home)
    assert "revoked" in refusal.value.details()
    (entry,) = json.loads(fedge("devices", "list", "--json")[1])
    assert (entry["state"], entry["reason"]) == ("revoked", "lost on a train")
    code, _, errors = fedge("devices", "revoke", "nobody")
    assert (code, errors) == (1, "fedge: no device 'nobody' is enrolled here\n")
    acts = json.loads(fedge("server", "audit", "--json")[1])["audit"]
    done = [(one["action"], one["target"], one["reason"]) for one in reversed(acts)]
    assert done[-3:-1] == [
        ("device.revoke", "kitchen", "lost on a train"),
        ("device.revoke", "nobody", "revoked by the operator"),
    ]
    assert (acts[0]["action"], acts[0]["detail"]["error"]) == (
        "device.revoke.failed",
        "no device 'nobody' is enrolled here",
    )
    assert done[0][0] == "device.invite" and text.strip() not in str(acts)
    monkeypatch.setenv("COLUMNS", "80")
    shown = fedge("server", "audit")[1]
    assert "device.revoke.failed" in shown and "is enrolled here" in " ".join(shown.split())


def test_keys_are_shown_changed_and_backed_up(fedge, federation, tmp_path):
    before = json.loads(fedge("keys", "list", "--json")[1])
    assert (before["number"], before["devices"]) == (1, 0)
    code, said, _ = fedge("keys", "rotate", "round")
    assert (code, said) == (0, "trust root 2 counts now: start the rounds' process again\n")
    assert fedge("keys", "rotate", "tls")[0] == 0
    assert fedge("keys", "switch", "tls")[0] == 0
    after = json.loads(fedge("keys", "list", "--json")[1])
    assert after["number"] == 4
    assert after["round"] != before["round"]
    assert after["tls"][0] != before["tls"][0]
    assert after["authority"] == before["authority"]
    federation.enroll("kitchen")
    code, _, errors = fedge("keys", "switch", "authority")
    assert (code, errors.count("\n")) == (1, 1)
    assert "run `fedge keys rotate authority` first" in errors
    code, said, _ = fedge("keys", "backup", str(tmp_path / "backup"))
    assert code == 0
    assert (tmp_path / "backup" / "authority" / "identity.pem").is_file()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("device", "enroll", "nonsense"), "fedge: this is no join string"),
        (("devices", "list"), "fedge: no enrolment authority in"),
        (("devices", "token"), "is not set up: run `fedge server init` first"),
    ],
)
def test_what_is_wrong_is_one_line(fedge, tmp_path, arguments, line):
    code, said, errors = fedge(*arguments, home=tmp_path / "empty")
    assert (code, said, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("fedge: ") and line in errors
