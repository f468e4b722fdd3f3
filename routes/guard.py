"""Access checks, error responses and headers, shared by every page of the pack."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ..captioning.captioner import CaptionError
from ..dataset.access import AccessError
from ..dataset.pair import DatasetError
from ..evaluation.compare.comparison import ComparisonError
from ..files import DamagedFileError, StorageError
from ..language import asked_in, say
from ..trainer.host.sharing import is_loopback
from ..trainer.runs.identity import RunError

TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
}
OWN = "; ".join(f"{kind}-src 'self'" for kind in ("style", "script", "connect"))
OWN += "; img-src 'self' blob:"  # pictures that the user is about to bring in
HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; {OWN}; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",  # with --disable-api-nodes ComfyUI replaces the policy
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError)
UNCHANGING = {"Cache-Control": "private, max-age=31536000, immutable"}
LONGEST_BODY = 4096
FORWARDED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guarded(handler: Handler) -> Handler:
    """The handler, for pages of this server only, with errors as one-line responses."""

    async def answer(request: web.Request) -> web.StreamResponse:
        with asked_in(request.headers.get("Kontext-Language", "")):
            return await checked(request)

    async def checked(request: web.Request) -> web.StreamResponse:
        if not from_own_page(request):
            raise web.HTTPForbidden(text=say("Only ComfyUI's own pages may ask for this."))
        try:
            response = await handler(request)
        except (ComparisonError, RunError, DamagedFileError) as error:
            raise web.HTTPNotFound(text=said(error)) from error
        except AccessError as error:
            raise web.HTTPNotFound(text=said(error)) from error
        except (DatasetError, CaptionError) as error:
            raise web.HTTPConflict(text=said(error)) from error
        except StorageError as error:
            raise web.HTTPInsufficientStorage(text=said(error)) from error
        except UNREADABLE as error:  # what lies in a run's folder may have been spoilt
            logging.exception("%s could not be answered.", request.path)
            raise web.HTTPUnprocessableEntity(text=said(error)) from error
        response.headers.update(HEADERS)
        return response

    return answer


def said(error: Exception) -> str:
    """The error's message, without lone surrogates, which could not be sent."""
    text = str(error) or type(error).__name__
    return text.encode("utf-8", "replace").decode("utf-8")


def from_own_page(request: web.Request) -> bool:
    """False for requests that another site's page sends, and for a POST that no page sends.

    Browsers say where a request comes from: in Sec-Fetch-Site on https and on this machine, in
    Origin with every POST.
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None and site not in ("same-origin", "none"):
        return False
    if origin is not None:
        return urlsplit(origin).netloc.lower() == request.host.lower()
    return request.method in ("GET", "HEAD") or site == "same-origin"


def from_this_machine(request: web.Request) -> bool:
    """Whether a program of this machine asks, under the machine's own name, and no proxy says
    that it asks for another one."""
    proxied = any(name in request.headers for name in FORWARDED)
    return not proxied and is_loopback(request.remote or "") and is_loopback(own_name(request))


def own_name(request: web.Request) -> str:
    """What the client calls this server, without the port."""
    return urlsplit(f"//{request.host}").hostname or ""


async def read_json(request: web.Request, longest: int = LONGEST_BODY) -> dict[str, Any]:
    """The body of a POST, of at most `longest` bytes.

    A form of another site cannot have this content type without asking.
    """
    require_page(request, "application/json", longest)
    try:
        content = await request.json()
    except (ValueError, RecursionError) as error:  # also not UTF-8, or nested without end
        raise web.HTTPBadRequest(text=say("The body is not a JSON object.")) from error
    if not isinstance(content, dict):
        raise web.HTTPBadRequest(text=say("The body is not a JSON object."))
    return content


def require_page(request: web.Request, content_type: str, longest: int) -> None:
    """Refuse a body of another type than the pack's pages send, or a longer one."""
    if request.content_type != content_type:
        raise web.HTTPUnsupportedMediaType(text=say("Send {kind}.", kind=content_type))
    if request.content_length is None or request.content_length > longest:
        raise web.HTTPRequestEntityTooLarge(longest, request.content_length or 0)


def text_file(path: Path) -> web.Response:
    kind = TYPES[path.suffix]
    return web.Response(text=path.read_text("utf-8"), content_type=kind, charset="utf-8")
