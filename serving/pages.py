"""What every service has beside its own calls: GET /model, /docs, and the options it is run with."""

from __future__ import annotations

from typing import Any

import bentoml
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, RedirectResponse

TIMEOUT_SECONDS = 5  # Bento never cancels its timer, which pins each request's memory for this long
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # 665 against 63 requests/s

OPTIONS: dict[str, Any] = {
    "workers": 1,
    "traffic": {"timeout": TIMEOUT_SECONDS},
    "logging": {"access": {"enabled": False}},
    "envs": [{"name": name, "value": "1"} for name in ONE_THREAD],
}


def new() -> FastAPI:
    """The pages to mount in a service that has a `champion`."""
    pages = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    pages.add_api_route("/model", model, summary="Who serves, since when, and how it did in its exam.")
    pages.add_api_route("/docs", docs, include_in_schema=False)
    pages.add_exception_handler(RequestValidationError, refuse)
    return pages


async def model() -> JSONResponse:
    return JSONResponse(bentoml.get_current_service().champion.describe())


async def docs() -> RedirectResponse:
    return RedirectResponse("/")


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """A bad query, told as Bento tells of a bad body."""
    assert isinstance(error, RequestValidationError)
    detail = [{field: entry[field] for field in ("type", "loc", "msg")} for entry in error.errors()]
    told = f"{len(detail)} validation error{'s' if len(detail) > 1 else ''} for {request.url.path}"
    return JSONResponse({"error": told, "detail": detail}, status_code=400)
