"""The console as a FastAPI application, put together from its routes: a file a subject, in ``pages`` and in ``api``.

Who may ask what is decided here and not in each route: but for those in ``OPEN``, all stand behind a viewer, and those that
change something behind an operator, closed to other sites' forms. The interactive documentation that FastAPI brings is off,
since it loads scripts from elsewhere; the schema is at ``/api/v1/openapi.json``.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from fastapi import APIRouter, Depends, FastAPI

from aggregator.console.access import AddressedHere
from aggregator.console.api import acting as acting_api
from aggregator.console.api import costs as costs_api
from aggregator.console.api import events as events_api
from aggregator.console.api import fleet as fleet_api
from aggregator.console.api import health, session
from aggregator.console.api import overview as overview_api
from aggregator.console.api import rounds as rounds_api
from aggregator.console.audit_watch import AuditWatch
from aggregator.console.auth.accounts import Accounts
from aggregator.console.auth.limits import LoginLimiter
from aggregator.console.auth.oidc import OidcLogin
from aggregator.console.auth.passwords import Passwords
from aggregator.console.auth.policy import AccessPolicy
from aggregator.console.auth.protection import acts_by_operators_only
from aggregator.console.auth.viewer import current_viewer, may_read_figures
from aggregator.console.pages import acting, costs, devices, fragments, login, overview, releases, rounds, security
from aggregator.console.shell import static
from aggregator.console.shell.bodies import BodyLimit
from aggregator.console.shell.context import Console
from aggregator.console.shell.errors import say_errors
from aggregator.console.shell.headers import SecurityHeaders
from aggregator.operator import Operator
from aggregator.store import Database

# A new page or subject is a file and a line here.
PROTECTED: tuple[APIRouter, ...] = (
    session.router,
    overview_api.router,
    rounds_api.router,
    fleet_api.router,
    costs_api.router,
    events_api.router,
    acting_api.router,
    overview.router,
    rounds.router,
    devices.router,
    releases.router,
    costs.router,
    security.router,
    fragments.router,
    acting.router,
)
FIGURES: tuple[APIRouter, ...] = (health.router,)
OPEN: tuple[APIRouter, ...] = (login.router, static.router)
ROUTERS = (*PROTECTED, *FIGURES, *OPEN)


def create_app(
    database: Database,
    *,
    federation: Mapping[str, object] | None = None,
    operator: Operator | None = None,
    policy: AccessPolicy | None = None,
    oidc: OidcLogin | None = None,
    passwords: Passwords | None = None,
    clock: Callable[[], float] = time.time,
    ticks: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """The console over ``database``, which stays the caller's to close.

    ``federation``: what a live server says of itself; where its ``secagg`` is "demo", every page says so, too.
    ``operator``: what can be decided about a live fleet. ``policy``: who may look and under which names; by default, who is
    on this machine. ``clock``: UNIX seconds; ``ticks``: seconds that only rise.
    """
    policy = policy or AccessPolicy()
    app = FastAPI(title="fedge console", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.console = Console(
        database=database,
        about=dict(federation or {}),
        clock=clock,
        paths=frozenset(str(getattr(route, "path", "")) for router in ROUTERS for route in router.routes),
        policy=policy,
        accounts=Accounts(
            database,
            passwords=passwords or Passwords(),
            clock=clock,
            idle_s=policy.session_idle_s,
            max_s=policy.session_max_s,
        ),
        limiter=LoginLimiter(ticks),
        oidc=oidc,
        audit=AuditWatch(database.audit, clock=clock),
        operator=None if operator is None else replace(operator, database=database),
    )
    say_errors(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(AddressedHere, policy=policy)
    app.add_middleware(SecurityHeaders, tls=policy.over_tls)  # the outermost: what is added last sees every answer
    for router in PROTECTED:
        app.include_router(router, dependencies=[Depends(current_viewer), Depends(acts_by_operators_only)])
    for router in FIGURES:
        app.include_router(router, dependencies=[Depends(may_read_figures)])
    for router in OPEN:
        app.include_router(router)
    return app
