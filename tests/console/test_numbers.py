"""Numbers in addresses that no database holds are refused or not found, on every route that takes one."""

import re
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

HUGE = [str(2**63), str(2**64), str(10**30), "9" * 5000, "-" + "9" * 40]


def _addresses(client: TestClient) -> set[tuple[str, str]]:
    """Every GET route with a number in it, as (address with {}, what kind)."""
    from aggregator.console.app import ROUTERS

    found = set()
    for router in ROUTERS:
        for route in router.routes:
            if "GET" not in route.methods:
                continue
            for parameter in route.dependant.path_params:
                if parameter.field_info.annotation is int:
                    found.add(re.sub(rf"{{{parameter.name}}}", "{}", route.path))
            for parameter in route.dependant.query_params:
                if "int" in str(parameter.field_info.annotation):
                    found.add(f"{route.path}?{parameter.alias}={{}}")
    return found


@pytest.mark.parametrize("number", HUGE, ids=lambda text: text[:12])
def test_no_number_in_an_address_ends_in_a_traceback(
    client: TestClient, record_rounds: Callable[[int], None], number: str
) -> None:
    record_rounds(1)
    addresses = _addresses(client)
    assert {"/rounds/{}", "/api/v1/rounds/{}", "/rounds?before={}", "/devices?start={}"} <= addresses
    statuses = {
        address: client.get(address.format(number)).status_code for address in addresses if "stream" not in address
    }
    assert set(statuses.values()) <= {404, 422}, statuses
