"""The console as a FastAPI application, put together from its routes: a file a subject, in ``pages`` and in ``api``.

The interactive documentation that FastAPI brings is off, since it loads scripts from elsewhere; the schema is at
``/api/v1/openapi.json``.
"""

import time
from collections.abc import Callable, Mapping

from fastapi import APIRouter, FastAPI

from aggregator.console.access import AddressedHere
from aggregator.console.api import costs as costs_api
from aggregator.console.api import fleet as fleet_api
from aggregator.console.api import health
from aggregator.console.api import overview as overview_api
from aggregator.console.api import rounds as rounds_api
from aggregator.console.pages import costs, devices, overview, releases, rounds, security
from aggregator.console.shell import static
from aggregator.console.shell.context import Console
from aggregator.console.shell.errors import say_errors
from aggregator.console.shell.headers import SecurityHeaders
from aggregator.operator import Operator
from aggregator.store import Database

# Every route of the console stands in one of these: a new page or subject is a file and a line here.
ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    overview_api.router,
    rounds_api.router,
    fleet_api.router,
    costs_api.router,
    overview.router,
    rounds.router,
    devices.router,
    releases.router,
    costs.router,
    security.router,
    static.router,
)


def create_app(
    database: Database,
    *,
    federation: Mapping[str, object] | None = None,
    operator: Operator | None = None,
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The console over ``database``, which stays the caller's to close.

    ``federation``: what a live server says of itself; where its ``secagg`` is "demo", every page says so, too.
    ``operator``: what can be decided about a live fleet. ``clock``: UNIX seconds.
    """
    app = FastAPI(title="fedge console", docs_url=None, redoc_url=None, openapi_url="/api/v1/openapi.json")
    paths = frozenset(str(getattr(route, "path", "")) for router in ROUTERS for route in router.routes)
    app.state.console = Console(database=database, about=dict(federation or {}), clock=clock, paths=paths, operator=operator)
    say_errors(app)
    app.add_middleware(AddressedHere)
    app.add_middleware(SecurityHeaders)  # the outermost: what is added last sees every answer
    for router in ROUTERS:
        app.include_router(router)
    return app
