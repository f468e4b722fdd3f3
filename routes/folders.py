"""The owner's list of folders, for the page on the owner's own machine."""

from __future__ import annotations

from aiohttp import web

from ..language import say
from ..trainer.host import sharing
from .guard import from_this_machine, guarded, read_json


def register(routes: web.RouteTableDef) -> None:
    routes.get("/kontext/folders")(guarded(listed))
    routes.post("/kontext/folders")(guarded(changed))


async def listed(request: web.Request) -> web.StreamResponse:
    folders = require_owner(request)
    return web.json_response({"folders": folders, "file": str(sharing.list_file())})


async def changed(request: web.Request) -> web.StreamResponse:
    """`{"folders": ["D:\\\\jewellery"]}` replaces the list."""
    require_owner(request)
    folders = (await read_json(request)).get("folders")
    if not isinstance(folders, list) or not all(isinstance(text, str) for text in folders):
        raise web.HTTPBadRequest(text=say("folders is not a list of texts"))
    sharing.write_folders(folders)
    return await listed(request)


def require_owner(request: web.Request) -> list[str]:
    """The list, for its owner. Others could be anybody whom a proxy lets in, if it says so."""
    folders, shared = sharing.owners_list()
    if shared == "yes" or not from_this_machine(request):
        raise web.HTTPForbidden(
            text=say(
                "The list is changed on the machine itself: open ComfyUI there as localhost, or "
                "edit the file {file} in ComfyUI's user folder.",
                file=sharing.OWNERS_LIST.as_posix(),
            )
        )
    return [str(folder) for folder in folders]
