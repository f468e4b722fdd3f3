"""The captions on a data set's page: read, written singly or in bulk, undone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ..captioning.bulk import Bulk
from ..captioning.desk import Change, ConflictError, Desk, digest
from ..captioning.letters import unreadable
from ..captioning.tokens import CLIP_LIMIT, T5_LIMIT, count_tokens
from ..language import say
from .guard import guarded, read_json
from .pairs import LONG, PAGE, listed, numbers_of, opened

LONGEST = 1 << 18  # bytes of a body with captions
MOST_TEXTS = 200


def register(routes: web.RouteTableDef) -> None:
    routes.post(PAGE + "/texts")(guarded(texts))
    routes.post(PAGE + "/caption")(guarded(caption))
    routes.post(PAGE + "/edit")(guarded(edit))
    routes.post(PAGE + "/undo")(guarded(undo))
    routes.get(PAGE + "/answers")(guarded(answers))
    routes.post(PAGE + "/answers")(guarded(drop_answers))


async def texts(request: web.Request) -> web.StreamResponse:
    """Descriptions and tokens of the pairs that are in view: `{"listing", "numbers"}`."""
    content = await read_json(request, LONGEST)

    def read(desk: Desk) -> dict[str, Any]:
        numbers = numbers_of(content, desk)[:MOST_TEXTS]
        return {"texts": {number: text_of(desk, number) for number in numbers}}

    return await answered(request, read)


def text_of(desk: Desk, number: int) -> dict[str, Any]:
    text = desk.captions[number]
    count = count_tokens(text)
    return {
        "caption": text,
        "description": desk.description(number),
        "tokens": [count.t5, T5_LIMIT, count.clip, CLIP_LIMIT],
        "unreadable": unreadable(text),
    }


async def caption(request: web.Request) -> web.StreamResponse:
    """Save `{"number", "key", "before", "description"}`; `before` is the caption that the page
    shows. 409 with the file's caption where it is another one by now."""
    content = await read_json(request, LONGEST)
    number = content.get("number")
    words = [content.get(name) for name in ("key", "before", "description")]
    if type(number) is not int or not all(isinstance(word, str) for word in words):
        raise web.HTTPBadRequest(text=say("The page sent an invalid request. Reload it."))

    def write(desk: Desk) -> dict[str, Any]:
        key, before, description = map(str, words)
        with desk.lock:
            known = desk.stamp
            change = desk.write(number, key, before, description)
            now = state(desk, [change])
        return {**text_of(desk, number), **now, "known": known}

    return await answered(request, write)


async def edit(request: web.Request) -> web.StreamResponse:
    """Change many captions: first asked without `agreed`, which answers every change and their
    digest; then with that digest, which saves exactly these.

    `{"listing", "numbers", "kind", …}`: see captioning/bulk.py, or kind "shared" with the new
    `instruction` and `ending` of all.
    """
    content = await read_json(request, LONG)
    words = {name: content.get(name, "") for name in ("kind", "text", "by", "agreed")}
    words |= {name: content.get(name, "") for name in ("instruction", "ending")}
    if not all(isinstance(word, str) for word in words.values()):
        raise web.HTTPBadRequest(text=say("The page sent an invalid request. Reload it."))
    shared = (words["instruction"], words["ending"]) if words["kind"] == "shared" else None

    def work(desk: Desk) -> dict[str, Any]:
        numbers = numbers_of(content, desk)
        if shared:
            changes = desk.preview_shared(numbers, *shared)
        else:
            switches = (content.get("regex") is True, content.get("at_end") is True)
            bulk = Bulk(words["kind"], words["text"], words["by"], *switches)
            changes = desk.preview(numbers, bulk)
        if not words["agreed"]:
            rows = [[each.number, each.before, each.after] for each in changes]
            return {"changes": rows, "digest": digest(changes)}
        if words["agreed"] != digest(changes):
            raise ConflictError({each.number: each.before for each in changes})
        conflicts = desk.apply(changes, shared)
        return {**listed(desk), "conflicts": conflicts}

    return await answered(request, work)


async def undo(request: web.Request) -> web.StreamResponse:
    """Take the last change of captions or decisions back."""
    await read_json(request)

    def back(desk: Desk) -> dict[str, Any]:
        desk.undo()
        return listed(desk)

    return await answered(request, back)


# ---- machine descriptions --------------------------------------------------------------------


async def answers(request: web.Request) -> web.StreamResponse:
    """The descriptions that wait to be accepted, and how far the captioner is."""

    def waiting(desk: Desk) -> dict[str, Any]:
        with desk.lock:
            listing, asking = desk.opened.listing, desk.asking
            texts, problems = dict(asking.texts), dict(asking.problems)
        return {
            "listing": listing,
            "texts": texts,
            "problems": problems,
            "done": asking.done,
            "total": asking.total,
            "working": asking.working,
        }

    return await answered(request, waiting)


async def drop_answers(request: web.Request) -> web.StreamResponse:
    """Forget the descriptions of `{"listing", "numbers"}`: accepted elsewhere, or refused."""
    content = await read_json(request, LONG)

    def drop(desk: Desk) -> dict[str, Any]:
        for number in numbers_of(content, desk):
            desk.asking.texts.pop(number, None)
            desk.asking.problems.pop(number, None)
        return {}

    return await answered(request, drop)


# ---- answering -------------------------------------------------------------------------------


async def answered(
    request: web.Request, work: Callable[[Desk], dict[str, Any]]
) -> web.StreamResponse:
    """What `work` does with the desk, off the event loop."""
    try:
        return web.json_response(await asyncio.to_thread(lambda: work(opened(request))))
    except ConflictError as conflict:
        content = {"message": str(conflict), "found": conflict.found}
        return web.json_response(content, status=409)


def state(desk: Desk, changes: list[Change]) -> dict[str, Any]:
    """What else a change of captions changes: pairs with the same target share its file."""
    targets = {desk.pairs[change.number].target for change in changes}
    also = [n for n, pair in enumerate(desk.pairs) if pair.target in targets]
    return {"also": also, "stamp": desk.stamp, "undo": len(desk.steps)}
