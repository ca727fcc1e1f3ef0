"""The web application: an index and its model as a page and a JSON API, inside the guard."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from retrieval.index import Index
from retrieval.web.api import Api
from retrieval.web.api import refusal as api_refusal
from retrieval.web.errors import Refused
from retrieval.web.guard import Guard
from retrieval.web.pages import Pages
from retrieval.web.render import Assets
from retrieval.web.service import Service
from retrieval.web.uploads import UploadLimits

if TYPE_CHECKING:
    from training.models.clap import Clap

_FORM_BYTES = 64 * 2**10
"""Of a form around its file."""


def make_app(
    index: Index,
    model: Clap,
    *,
    limits: UploadLimits | None = None,
    allowed_hosts: Collection[str] = ("127.0.0.1", "localhost", "[::1]"),
) -> Guard:
    """Return the application that searches an index.

    Args:
        index: An open index.
        model: The model that made it.
        limits: Of uploaded sounds; None: those by default.
        allowed_hosts: Names that clients may call this server by.
    """
    limits = limits or UploadLimits()
    service = Service(index, model)
    pages, api = Pages(service, limits, Assets()), Api(service, limits)
    app = Starlette(
        routes=[
            Route("/", pages.start),
            Route("/sound", pages.sound, methods=["GET", "POST"]),
            Route("/clip/{key}", pages.clip),
            Route("/clip/{key}/audio.flac", pages.audio),
            Route("/clip/{key}/thumbnail.png", pages.thumbnail),
            Route("/static/{name}", pages.static),
            Route("/api", pages.api),
            Route("/api/search", api.search),
            Route("/api/sound", api.sound, methods=["POST"]),
            Route("/api/clips/{key}", api.clip),
            Route("/api/index", api.index),
            Route("/api/openapi.json", api.openapi),
        ],
        exception_handlers={
            Refused: lambda request, error: _refusal(pages, request, error.status, error.message),
            HTTPException: lambda request, error: _refusal(
                pages, request, error.status_code, _said(request, error), error.headers
            ),
            Exception: lambda request, error: _broken(pages, request),
        },
    )
    return Guard(app, allowed_hosts=allowed_hosts, max_body_bytes=limits.max_bytes + _FORM_BYTES)


def _refusal(
    pages: Pages, request: Request, status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    answer = api_refusal(status, message) if _is_api(request) else pages.refusal(request, status, message)
    answer.headers.update(headers or {})
    return answer


def _broken(pages: Pages, request: Request) -> Response:
    if _is_api(request):
        return api_refusal(500, "The server could not answer this; what went wrong stands in its log.")
    return pages.broken()


def _is_api(request: Request) -> bool:
    return request.url.path.startswith("/api/")


def _said(request: Request, error: HTTPException) -> str:
    """Return a sentence for what Starlette itself refuses."""
    if error.status_code == 404:
        return "Nothing lies at this address. Perhaps a letter is missing, or the page has moved."
    if error.status_code == 405:
        return f"This address does not answer {request.method} requests."
    return str(error.detail)
