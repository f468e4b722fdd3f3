"""The language of ComfyUI's interface, so that the server's messages are in it too."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import folder_paths
from aiohttp import web

from .. import language
from ..files import file_mark
from ..language import say
from .guard import guarded, read_json

LONGEST = 35  # letters of a language tag, RFC 5646 4.4.1
_page = "en"  # where the user never chose, the page follows the browser and says so


def register(routes: web.RouteTableDef) -> None:
    routes.post("/kontext/language")(guarded(page_language))
    language.follow(locale)


async def page_language(request: web.Request) -> web.StreamResponse:
    """`{"locale": "zh-CN"}`: the language an open page is in."""
    global _page
    tag = (await read_json(request)).get("locale")
    if not isinstance(tag, str) or not 0 < len(tag) <= LONGEST:
        raise web.HTTPBadRequest(text=say('The locale is a language tag: "en", "zh-TW".'))
    _page = tag
    return web.Response(status=204)


def locale() -> str:
    """The language the user chose in ComfyUI's settings, else the one its page was last in."""
    path = Path(folder_paths.get_user_directory()) / "default" / "comfy.settings.json"
    return (chosen(path, file_mark(path)) if path.is_file() else "") or _page


@lru_cache(maxsize=1)
def chosen(path: Path, _mark: str) -> str:
    """`language.chosen` of a settings file, read again when the file changes."""
    return language.chosen(path)
