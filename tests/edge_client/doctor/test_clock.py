"""What the clock is judged by, and when it is blamed."""

import pytest

from edge_client.doctor.times import Validity, clock


@pytest.mark.parametrize(
    ("off_s", "outcome"),
    [(0, "ok"), (29, "ok"), (-29, "ok"), (31, "warn"), (-31, "warn"), (301, "fail"), (-301, "fail"), (-(10**9), "fail")],
)
def test_the_servers_clock_decides_where_it_is_known(now, off_s, outcome):
    expired = Validity("the TLS certificate", 0.0, 1.0)
    finding = clock(now + off_s, server_time=now, validities=[expired])
    assert finding.outcome == outcome
    assert outcome == "ok" or ("ahead of" if off_s > 0 else "behind") in finding.says


def test_a_clock_before_any_certificate_began_is_behind(now):
    validities = [Validity("the TLS certificate", now, now + 10), Validity("the certificate of door", now - 1e9, now + 1e9)]
    finding = clock(now - 1000, server_time=None, validities=validities)
    assert (finding.outcome, "behind" in finding.says) == ("fail", True)
    assert "the TLS certificate" in finding.says and "timedatectl" in finding.remedy


def test_one_certificate_that_ended_is_old_and_all_of_them_point_to_the_clock(now):
    ended, holds = Validity("a", now - 10, now - 5), Validity("b", now - 10, now + 5)
    assert clock(now, server_time=None, validities=[ended, holds]).outcome == "ok"
    assert clock(now, server_time=None, validities=[ended]).outcome == "ok"
    finding = clock(now, server_time=None, validities=[ended, ended])
    assert (finding.outcome, "ahead" in finding.says) == ("warn", True)


def test_before_joining_systemd_is_asked_whether_the_clock_was_set(now, tmp_path):
    assert clock(now, server_time=None, validities=[], run=tmp_path).outcome == "ok"  # no systemd, no opinion
    (tmp_path / "systemd/timesync").mkdir(parents=True)
    assert clock(now, server_time=None, validities=[], run=tmp_path).outcome == "warn"
    (tmp_path / "systemd/timesync/synchronized").touch()
    assert clock(now, server_time=None, validities=[], run=tmp_path).outcome == "ok"
