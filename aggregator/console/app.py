"""The console as a FastAPI application, put together from one module for each page or resource.

Who may ask what is decided here and not in each route: but for those in ``OPEN``, all stand behind a viewer, and those that
change something behind an operator, closed to other sites' forms. The interactive documentation that FastAPI brings is off,
since it loads scripts from elsewhere; the schema is at ``/api/v1/openapi.json``.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from fastapi import APIRouter, Depends, FastAPI

from aggregator.admin import Operator
from aggregator.console import (
    actions,
    costs,
    devices,
    events,
    login,
    metrics,
    overview,
    releases,
    rounds,
    security,
    templating,
)
from aggregator.console.auth.accounts import Accounts, Passwords
from aggregator.console.auth.dependencies import acts_by_operators_only, current_viewer, may_read_figures
from aggregator.console.auth.oidc import OidcLogin
from aggregator.console.auth.policy import AccessPolicy
from aggregator.console.auth.rate_limit import LoginLimiter
from aggregator.console.context import Console
from aggregator.console.errors import say_errors
from aggregator.console.middleware import AddressedHere, BodyLimit
from aggregator.console.security_headers import SecurityHeaders
from aggregator.store import Database
from aggregator.store.audit import AuditWatch

# A new page or resource is a file and a name here.
_RESOURCES = (overview, rounds, devices, releases, costs, security, events, actions)
PROTECTED: tuple[APIRouter, ...] = (
    login.api,
    *(resource.api for resource in _RESOURCES),
    *(resource.pages for resource in _RESOURCES),
)
METRICS: tuple[APIRouter, ...] = (metrics.api,)
OPEN: tuple[APIRouter, ...] = (login.pages, templating.pages)
ROUTERS = (*PROTECTED, *METRICS, *OPEN)


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
    for router in METRICS:
        app.include_router(router, dependencies=[Depends(may_read_figures)])
    for router in OPEN:
        app.include_router(router)
    return app
