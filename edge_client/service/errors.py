"""Errors of the local API, all of them in OpenAI's shape, so that its clients show them as they are: one clear line."""

import logging
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from edge_client.store import StoreUnwritableError
from fedge.errors import FedgeError, InputError

_log = logging.getLogger(__name__)
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "not_json"}


class ApiError(FedgeError):
    """A request that cannot be served. ``param`` names the field, ``code`` the kind of problem."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def response(self) -> JSONResponse:
        """As it goes over the wire. A client need not try again: the answer would be the same."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, status_code=self.status, headers={"x-should-retry": "false"})


def invalid(error: ValidationError) -> ApiError:
    """The first thing that is wrong with a request's body."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "json_invalid":
        return ApiError(f"the body is not JSON: {first['ctx']['error']}", code="invalid_json")
    if first["type"] == "missing":
        return ApiError(f"{where} is missing", param=where, code="missing")
    if first["type"] == "extra_forbidden":
        return ApiError(f"{where} is not known here", param=where, code="unknown_parameter")
    return ApiError(f"{where or 'the body'}: {first['msg']}", param=where or None, code="invalid_value")


async def on_api_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of ApiError."""
    assert isinstance(error, ApiError)
    return error.response()


async def on_input_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of InputError: a query that the features refuse, an unknown label, an unknown answer number."""
    return ApiError(str(error), code="invalid_value").response()


async def on_unwritable(request: Request, error: Exception) -> JSONResponse:
    """Handler of StoreUnwritableError: what was asked to be kept, a correction for one, is not kept."""
    return ApiError(str(error), status=507, code="storage_full").response()


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """Handler of what Starlette's router says: no such path, no such method."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    message = {404: f"there is no {request.url.path[:200]} here", 405: f"{request.url.path[:200]} takes no {request.method}"}
    response = ApiError(message.get(status, error.detail), status=status, code=_CODES.get(status)).response()
    response.headers.update(error.headers or {})
    return response


async def on_fault(request: Request, error: Exception) -> JSONResponse:
    """Handler of everything else: details stay in the device's log."""
    return ApiError("the agent failed on this request; its log says why", status=500, code="internal_error").response()


HANDLERS: dict[Any, Any] = {
    ApiError: on_api_error,
    InputError: on_input_error,
    StoreUnwritableError: on_unwritable,
    HTTPException: on_http_error,
    Exception: on_fault,
}
