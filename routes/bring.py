"""Uploads: two sets of pictures become the folders of a data set in the input folder."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any
from uuid import uuid4

from aiohttp import web

from ..dataset.access import writable
from ..dataset.drop import match_names
from ..dataset.files import folded
from ..dataset.image import picture_size, readable_suffixes
from ..dataset.load import PairSource
from ..dataset.pair import DatasetError
from ..dataset.store import require_stem
from ..files import PARTIAL
from ..language import say
from ..trainer.host.folders import data_sets, input_folder, unpacked_folder
from .guard import guarded, read_json, require_page

MOST_FILES = 20_000
LONG = 4 << 20  # bytes of a body with the names of all files
LARGEST = 256 << 20  # bytes of a picture
MOST_PLANS = 20
SIDES = ("before", "after")


@dataclass(frozen=True)
class Plan:
    """Where the pictures of a data set go: stem and suffixes of each pair. `waiting` has, by number
    and side, the pictures whose partner has not arrived.
    """

    folder: Path
    pairs: tuple[tuple[str, str, str], ...]
    waiting: dict[int, dict[str, Path]] = field(default_factory=dict)

    def path(self, number: int, side: str) -> Path:
        stem, *suffixes = self.pairs[number]
        return writable(self.folder / side / (stem + suffixes[SIDES.index(side)]))


_plans: OrderedDict[str, Plan] = OrderedDict()
_keeping = Lock()


def register(routes: web.RouteTableDef) -> None:
    routes.post("/kontext/pairs/match")(guarded(match))
    routes.post("/kontext/pairs/bring")(guarded(begin))
    address = "/kontext/pairs/bring/{plan:[0-9a-f]{32}}/{number:[0-9]{1,6}}/{side:before|after}"
    routes.post(address)(guarded(bring))


async def match(request: web.Request) -> web.StreamResponse:
    """Which of `{"before": [names], "after": [names]}` belong together, and their common stem."""
    content = await read_json(request, LONG)
    before, after = (names_in(content.get(side)) for side in SIDES)
    pairs = await asyncio.to_thread(match_names, before, after)
    return web.json_response({"pairs": [[each.control, each.target, each.name] for each in pairs]})


def names_in(value: Any) -> list[str]:
    right = isinstance(value, list) and len(value) <= MOST_FILES
    if not right or not all(isinstance(name, str) and len(name) < 1000 for name in value):
        raise web.HTTPBadRequest(text=say("The page sent an invalid request. Reload it."))
    return value


async def begin(request: web.Request) -> web.StreamResponse:
    """Make the folders of `{"name", "pairs": [[stem, suffix before, suffix after]]}`.

    A data set of this name may be there and gets more pairs; none of its files is replaced.
    """
    content = await read_json(request, LONG)
    name, rows = content.get("name"), content.get("pairs")
    if not isinstance(name, str) or not isinstance(rows, list) or not 0 < len(rows) <= MOST_FILES:
        raise web.HTTPBadRequest(text=say("The page sent an invalid request. Reload it."))
    return web.json_response(await asyncio.to_thread(planned, name.strip(), rows))


def planned(name: str, rows: list[Any]) -> dict[str, str]:
    base = input_folder()
    require_stem(name)
    folder = writable(base / name)
    pairs = tuple(checked(row) for row in rows)
    taken = {folded(path.stem) for side in SIDES for path in (folder / side).glob("*")}
    twice = []
    for stem, *suffixes in pairs:
        for side, suffix in zip(SIDES, suffixes, strict=True):
            writable(folder / side / (stem + suffix))
        if folded(stem) in taken:
            twice.append(stem)
        taken.add(folded(stem))
    if twice:
        raise DatasetError(
            say(
                "{name} is already in this data set, or appears twice. Choose another name for "
                "the data set, or rename the picture.",
                name=twice[0],
            )
        )
    for side in SIDES:
        (folder / side).mkdir(parents=True, exist_ok=True)
    source = PairSource(f"{name}/before", f"{name}/after", base, unpacked_folder())
    identity, plan = data_sets().remember(source), uuid4().hex
    _plans[plan] = Plan(folder, pairs)
    while len(_plans) > MOST_PLANS:
        _plans.popitem(last=False)
    return {"id": identity, "plan": plan, "control": source.control, "target": source.target}


def checked(row: Any) -> tuple[str, str, str]:
    if not isinstance(row, list) or len(row) != 3 or not all(isinstance(x, str) for x in row):
        raise web.HTTPBadRequest(text=say("The page sent an invalid request. Reload it."))
    stem, *suffixes = row
    require_stem(stem)
    for suffix in suffixes:
        if suffix not in readable_suffixes():
            raise DatasetError(
                say("{name}: pictures in this format cannot be opened here.", name=stem + suffix)
            )
    return stem, *suffixes


async def bring(request: web.Request) -> web.StreamResponse:
    """Store one picture, sent as the body. Rejects an unreadable one together with its partner, and
    replaces nothing.
    """
    plan = _plans.get(request.match_info["plan"])
    number, side = int(request.match_info["number"]), request.match_info["side"]
    if plan is None or number >= len(plan.pairs):
        raise web.HTTPNotFound()
    require_page(request, "application/octet-stream", LARGEST)
    partial = plan.path(number, side).with_name(PARTIAL.replace("*", uuid4().hex[:12]))
    try:
        with partial.open("wb") as file:
            async for part in request.content.iter_chunked(1 << 20):
                await asyncio.to_thread(file.write, part)
        await asyncio.to_thread(keep, plan, number, side, partial)
    finally:
        partial.unlink(missing_ok=True)
    return web.json_response({})


def keep(plan: Plan, number: int, side: str, partial: Path) -> None:
    """Give a pair's pictures their final names once both have arrived. DatasetError if this one is
    unreadable, or its name is taken: then its partner is not kept, either.
    """
    with _keeping:
        waiting = plan.waiting.setdefault(number, {})
        try:
            require_new_picture(partial, plan.path(number, side))
        except DatasetError:
            for picture in waiting.values():
                picture.unlink()
            waiting.clear()
            raise
        waiting[side] = partial.replace(waiting.get(side, partial.with_suffix(f".{side}.tmp")))
        if len(waiting) == len(SIDES):
            for each, picture in waiting.items():
                picture.replace(plan.path(number, each))
            del plan.waiting[number]


def require_new_picture(partial: Path, path: Path) -> None:
    try:
        picture_size(partial)
    except DatasetError as error:
        raise DatasetError(str(error).replace(str(partial), path.name)) from error
    if path.exists():
        raise DatasetError(say("{path} already exists.", path=path.name))
