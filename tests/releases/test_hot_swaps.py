"""No query is dropped, and none is answered by half of two releases, while releases are swapped under load."""

from benchmarks.hot_swaps import swap_under_load


def test_fifty_swaps_under_load_fail_no_query(tmp_path):
    load, _ = swap_under_load(tmp_path, swaps=50, threads=3)
    assert load.failed == []
    assert len(load.releases) > 10  # the load did run while they were swapped
    assert load.asked >= len(load.releases)
