"""The static files of the pack's pages: a folder of web/ for each page, and a shared one."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from .guard import TYPES, guarded, text_file

WEB = Path(__file__).parents[1] / "web"
FOLDERS = ("shared", "viewer", "run", "runs", "pairs")


def register(routes: web.RouteTableDef) -> None:
    routes.get("/kontext/web/{folder}/{file}")(guarded(page_file))


async def page_file(request: web.Request) -> web.StreamResponse:
    """ComfyUI's page need not load these."""
    folder, file = request.match_info["folder"], request.match_info["file"]
    shipped = {path.name: path for path in (WEB / folder).iterdir()} if folder in FOLDERS else {}
    path = shipped.get(file)
    if path is None or path.suffix not in TYPES:
        raise web.HTTPNotFound()
    return text_file(path)
