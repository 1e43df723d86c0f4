"""The doctor on a device that joined a real fleet: the server's own clock is asked at the real door."""

from edge_client.doctor import Machine, examine

QUICK = Machine(trial="print(1)")


def clock_of(findings):
    return next(finding for finding in findings if finding.check == "clock")


def test_a_members_clock_is_held_against_the_doors(federation):
    home = federation.enroll("kitchen")
    findings = examine(home, machine=QUICK)
    assert "of the server's" in clock_of(findings).says
    assert {finding.check: finding.outcome for finding in findings}["door"] == "ok"
    assert [finding for finding in findings if finding.check == "certificate" and finding.outcome != "ok"] == []


def test_a_clock_that_differs_from_the_doors_is_a_failure(federation):
    home = federation.enroll("kitchen")
    federation.clock.shift_s = 3600.0
    finding = clock_of(examine(home, machine=QUICK))
    assert (finding.outcome, "60 minutes behind the server's" in finding.says) == ("fail", True)


def test_a_revoked_device_is_told_so(federation):
    home = federation.enroll("kitchen")
    federation.revoke("kitchen")
    outcomes = {finding.check: finding.outcome for finding in examine(home, machine=QUICK)}
    assert outcomes["clock"] == "ok"  # the door's refusal is no sign of a wrong clock
