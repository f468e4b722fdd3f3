"""The page of a data set's pairs: its pictures, and the decisions about them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Lock
from typing import Any

from aiohttp import web

from ..captioning.desk import Desk
from ..captioning.desks import desk_of
from ..captioning.tokens import count_tokens
from ..dataset.check import check
from ..dataset.finding import ABOUT_CAPTION, kind_name, remember, remembered
from ..dataset.pair import PairedDataset
from ..dataset.thumbs import sprite, whole
from ..language import say
from ..trainer.host.folders import data_sets, thumbnails_folder
from .files import WEB
from .guard import guarded, read_json, text_file

PAGE = "/kontext/pairs/{set:[0-9a-f]{12}}"
PICTURE = "/{number:[0-9]{1,6}}/{key:[0-9a-f]{12}}"
LONG = 1 << 20  # bytes of a body with the numbers of all pairs
DECISIONS = ("excluded", "held_out", "swapped")
AGAIN = {"Cache-Control": "private, no-cache"}  # a picture may be painted over

# decoding pictures leaves a core to ComfyUI, and the event loop free
_drawing = ThreadPoolExecutor(2, thread_name_prefix="kontext_pictures")


def register(routes: web.RouteTableDef) -> None:
    routes.get("/kontext/pairs")(guarded(page))
    routes.get("/kontext/pairs/list")(guarded(known))
    routes.get(PAGE)(guarded(page_of))
    routes.get(PAGE + "/index")(guarded(index))
    routes.post(PAGE + "/again")(guarded(again))
    routes.get(PAGE + "/thumb" + PICTURE)(guarded(thumb))
    routes.get(PAGE + "/picture" + PICTURE + "/{side:target|masked|[0-9]{1,2}}")(guarded(picture))
    routes.post(PAGE + "/choose")(guarded(choose))
    routes.get(PAGE + "/findings")(guarded(findings))
    routes.post(PAGE + "/check")(guarded(start_check))


# ---- pages -----------------------------------------------------------------------------------


async def page(request: web.Request) -> web.StreamResponse:
    """All data sets, and bringing pictures in."""
    return text_file(WEB / "pairs" / "sets.html")


async def page_of(request: web.Request) -> web.StreamResponse:
    await asyncio.to_thread(opened, request)
    return text_file(WEB / "pairs" / "pairs.html")


async def known(request: web.Request) -> web.StreamResponse:
    """Ids and folders of the data sets that nodes have read, the latest first."""
    sources = await asyncio.to_thread(data_sets().known)
    rows = [
        {"id": identity, "control": source.control, "target": source.target}
        for identity, source in sources.items()
    ]
    return web.json_response(rows)


# ---- pairs -----------------------------------------------------------------------------------


async def index(request: web.Request) -> web.StreamResponse:
    """Everything that the page lists: each pair as key, name, caption, flags, repeats, controls."""
    # the text of 20,000 pairs is 2 MB: made off the event loop, too
    text = await asyncio.to_thread(lambda: json.dumps(listed(opened(request))))
    return web.Response(text=text, content_type="application/json")


def listed(desk: Desk) -> dict[str, Any]:
    with desk.lock:
        found, choices = desk.opened, desk.opened.choices
        return {
            "name": found.name,
            "listing": found.listing,
            "stamp": desk.stamp,
            "single": desk.source.single,
            "instruction": choices.instruction,
            "ending": choices.ending,
            "unwritable": desk.unwritable,
            "packed": desk.packed,
            "notes": list(found.leftovers),
            "undo": len(desk.steps),
            "pairs": [row(desk, number) for number in range(len(desk.pairs))],
        }


def row(desk: Desk, number: int) -> list[Any]:
    pair = desk.pairs[number]
    about = [desk.opened.keys[number], pair.stem, desk.captions[number]]
    return [*about, flags(desk, number), pair.repeats, len(pair.controls)]


def flags(desk: Desk, number: int) -> int:
    """1: left out, 2: held out, 4: swapped, 8: has a mask."""
    pair, choices = desk.pairs[number], desk.opened.choices
    return (
        (pair.stem in choices.excluded)
        + 2 * (pair.split == "holdout")
        + 4 * (pair.stem in choices.swapped)
        + 8 * bool(pair.mask)
    )


async def again(request: web.Request) -> web.StreamResponse:
    """List the files anew: `{"stamp": …}` is another one where anything has changed."""
    desk = await asyncio.to_thread(opened, request)
    await read_json(request)
    await asyncio.to_thread(desk.look_again)
    return web.json_response({"stamp": await asyncio.to_thread(lambda: desk.stamp)})


async def choose(request: web.Request) -> web.StreamResponse:
    """`{"listing", "numbers", "what", "value"}`: what is one of DECISIONS, or repeats (0: as the
    folder says)."""
    content = await read_json(request, LONG)
    what, value = content.get("what"), content.get("value")
    if what not in (*DECISIONS, "repeats") or type(value) is not (
        int if what == "repeats" else bool
    ):
        raise web.HTTPBadRequest(text=say("The page sent an invalid request. Reload it."))

    def decide() -> dict[str, Any]:
        desk = opened(request)
        with desk.lock:
            known, numbers = desk.stamp, numbers_of(content, desk)
            desk.choose(numbers, what, value)
            rows = {number: row(desk, number) for number in numbers}
            now = {"known": known, "stamp": desk.stamp, "undo": len(desk.steps)}
        return {"rows": rows, **now}

    return web.json_response(await asyncio.to_thread(decide))


# ---- pictures --------------------------------------------------------------------------------


async def thumb(request: web.Request) -> web.StreamResponse:
    """Before and after in one small picture."""

    def draw() -> web.StreamResponse:
        path = sprite(pair_of(request, opened(request)), thumbnails_folder())
        return web.FileResponse(path, headers=AGAIN)

    return await drawn(request, draw)


async def picture(request: web.Request) -> web.StreamResponse:
    side = request.match_info["side"]

    def draw() -> web.StreamResponse:
        pair = pair_of(request, opened(request))
        if side.isdigit() and int(side) >= len(pair.controls):
            raise web.HTTPNotFound()
        return web.Response(body=whole(pair, side), content_type="image/png", headers=AGAIN)

    return await drawn(request, draw)


async def drawn(request: web.Request, draw: Callable[[], web.StreamResponse]) -> web.StreamResponse:
    """What `draw` answers when its turn comes, unless the page has scrolled on by then."""

    def wanted() -> web.StreamResponse:
        gone = request.transport is None or request.transport.is_closing()
        return web.Response(status=204) if gone else draw()

    return await asyncio.get_running_loop().run_in_executor(_drawing, wanted)


# ---- findings --------------------------------------------------------------------------------


class Stopped(Exception):
    """The user wants no more of this check."""


class Checking:
    """One check at a time; how far it is."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.desk: Desk | None = None
        self.done = self.total = 0
        self.stop = False
        self.general: dict[str, list[dict[str, Any]]] = {}  # by data set: of no pair in particular

    def run(self, desk: Desk, identity: str) -> None:
        """Check Pairs' checks on the pairs that are not left out."""
        if not self.lock.acquire(blocking=False):
            return
        try:
            excluded = desk.opened.choices.excluded
            pairs = PairedDataset(tuple(p for p in desk.as_written() if p.stem not in excluded))
            self.desk, self.done, self.total, self.stop = desk, 0, len(pairs), False
            found = check(pairs, lambda text: count_tokens(text).t5, self.tick)
            remember(pairs.pairs, found)
            self.general[identity] = [shown(each) for each in found if not each.stems]
        except Stopped:
            pass
        finally:
            self.desk = None
            self.lock.release()

    def tick(self) -> None:
        if self.stop:
            raise Stopped
        self.done += 1


_checking = Checking()


async def findings(request: web.Request) -> web.StreamResponse:
    """What was found on each pair by number, by the page or by *Check Pairs*."""

    def found() -> dict[str, Any]:
        desk = opened(request)
        with desk.lock:
            listing, pairs = desk.opened.listing, desk.as_written()
        seen = {number: remembered(pair) for number, pair in enumerate(pairs)}
        return {
            "listing": listing,
            "running": _checking.desk is desk,
            "done": _checking.done,
            "total": _checking.total,
            "checked": sum(each is not None for each in seen.values()),
            "general": _checking.general.get(request.match_info["set"], []),
            "pairs": {n: [shown(each) for each in found] for n, found in seen.items() if found},
        }

    return web.json_response(await asyncio.to_thread(found))


async def start_check(request: web.Request) -> web.StreamResponse:
    """`{"stop": false}` begins a check, true ends it. It goes on while the page asks how far."""
    stop = (await read_json(request)).get("stop")
    if type(stop) is not bool:
        raise web.HTTPBadRequest(text=say("The page sent an invalid request. Reload it."))
    desk = await asyncio.to_thread(opened, request)
    if stop:
        _checking.stop = _checking.desk is desk
    elif _checking.lock.locked():
        raise web.HTTPConflict(text=say("Another check is running. Wait until it has ended."))
    else:
        asyncio.get_running_loop().run_in_executor(
            None, _checking.run, desk, request.match_info["set"]
        )
        await asyncio.sleep(0.05)
    return web.json_response({})


def shown(finding: Any) -> dict[str, Any]:
    about = {"name": kind_name(finding.kind), "caption": finding.kind in ABOUT_CAPTION}
    return {**asdict(finding), "stems": [], **about}


# ---- what an address names -------------------------------------------------------------------


def opened(request: web.Request) -> Desk:
    """The desk of the data set that the address names. Lists its files the first time."""
    return desk_of(request.match_info["set"], data_sets())


def pair_of(request: web.Request, desk: Desk) -> Any:
    return desk.opened.pair(int(request.match_info["number"]), request.match_info["key"])


def numbers_of(content: dict[str, Any], desk: Desk) -> list[int]:
    """The pairs that a body names by `listing` and `numbers`; without numbers all of them."""
    listing, numbers = content.get("listing"), content.get("numbers")
    if numbers is None:
        numbers = range(len(desk.pairs))
    if not isinstance(listing, str) or not all(type(number) is int for number in numbers):
        raise web.HTTPBadRequest(text=say("The page sent an invalid request. Reload it."))
    return desk.opened.checked(listing, numbers)
