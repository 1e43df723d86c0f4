"""Which devices a page or the API is asked for: ``?release=HEX``, ``?waiting=1``, ``?silent=1``, alone or together."""

from typing import Annotated

from fastapi import Depends, Query

from aggregator.fleet.census import Wanted


def wanted_devices(
    release: Annotated[str | None, Query(pattern="^[0-9a-f]{64}$", description="That answer with this release.")] = None,
    waiting: Annotated[bool, Query(description="With questions that wait for central.")] = False,
    silent: Annotated[bool, Query(description="Members that were not heard of for ten minutes.")] = False,
) -> Wanted:
    """What was asked for."""
    return Wanted(release=release, waiting=waiting, silent=silent)


TheWanted = Annotated[Wanted, Depends(wanted_devices)]
