"""The viewer of a comparison: its page, its pictures and its votes."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from ..evaluation.compare.comparison import Comparison, ComparisonError, folder_named
from ..evaluation.compare.vote import CHOICES, Vote, ballot_of, next_vote, rank
from ..evaluation.keep import Choice, KeepError, keep
from ..evaluation.score.outcome import outcome_of
from ..language import say
from ..trainer.host.folders import chosen_folder, output_folder
from ..trainer.runs.identity import RunError
from ..trainer.runs.name import checked_name
from ..trainer.runs.run import Run
from .files import WEB
from .guard import UNCHANGING, guarded, read_json, text_file

PAGE = "/kontext/compare/{run}/{comparison}"


def register(routes: web.RouteTableDef) -> None:
    routes.get(PAGE)(guarded(page))
    routes.get(PAGE + "/manifest")(guarded(manifest))
    routes.get(PAGE + "/cell/{row:[0-9]{1,6}}/{column:[0-9]{1,6}}")(guarded(cell))
    routes.get(PAGE + "/pair")(guarded(pair))
    routes.get(PAGE + "/votes")(guarded(votes))
    routes.post(PAGE + "/votes")(guarded(vote))
    routes.post(PAGE + "/keep")(guarded(keep_one))


# ---- pages ---------------------------------------------------------------------------------


async def page(request: web.Request) -> web.StreamResponse:
    opened(request)
    return text_file(WEB / "viewer" / "viewer.html")


async def manifest(request: web.Request) -> web.StreamResponse:
    """The comparison, with what Score Checkpoints found out about the run."""
    folder, comparison = opened(request)
    outcome = outcome_of(folder)
    scores = outcome.checkpoints if outcome else {}
    content = asdict(comparison)
    del content["cells"]
    shown = [[cell is not None for cell in row] for row in comparison.cells]
    return web.json_response({**content, "shown": shown, "scores": scores})


async def cell(request: web.Request) -> web.StreamResponse:
    folder, comparison = opened(request)
    place = (int(request.match_info[name]) for name in ("row", "column"))
    return web.FileResponse(comparison.picture(folder, *place), headers=UNCHANGING)


# ---- votes ---------------------------------------------------------------------------------


async def pair(request: web.Request) -> web.StreamResponse:
    """Which two pictures to show next, as places in the comparison."""
    folder, comparison = opened(request)
    items, rows = comparison.contestants, [row.item for row in comparison.rows]
    if len(items) < 2:
        raise ComparisonError(say("There is only one picture per row: nothing to choose between."))
    cast = await asyncio.to_thread(ballot_of(folder).votes, items)
    left, right, row = next_vote(items, rows, cast, np.random.default_rng())
    columns = [column.item for column in comparison.columns]
    place = {"row": rows.index(row), "left": columns.index(left), "right": columns.index(right)}
    pairs = len(items) * (len(items) - 1) // 2
    return web.json_response({**place, "votes": cast.total(), "pairs": pairs})


async def votes(request: web.Request) -> web.StreamResponse:
    """The ranking by eye of what this comparison shows, from all votes of its run."""
    folder, comparison = opened(request)
    return web.json_response(await asyncio.to_thread(ranking, folder, comparison))


async def vote(request: web.Request) -> web.StreamResponse:
    """Keep `{"row", "left", "right", "choice"}`, or take the last one back: `{"undo": true}`."""
    folder, comparison = opened(request)
    content = await read_json(request)
    if content.get("undo") is True:
        await asyncio.to_thread(ballot_of(folder).undo)
    else:
        await asyncio.to_thread(ballot_of(folder).add, vote_of(content, comparison))
    return web.json_response(await asyncio.to_thread(ranking, folder, comparison))


def ranking(folder: Path, comparison: Comparison) -> dict[str, Any]:
    cast = ballot_of(folder).votes(comparison.contestants)
    standings = rank(comparison.contestants, cast)
    return {"votes": cast.total(), "standings": [asdict(standing) for standing in standings]}


def vote_of(content: dict[str, Any], comparison: Comparison) -> Vote:
    """The vote that a page sent, its places turned into items. Refuses (400) any other content."""
    numbers = [content.get(name) for name in ("row", "left", "right")]
    whole = [number for number in numbers if type(number) is int and number >= 0]
    if len(whole) < len(numbers):
        raise web.HTTPBadRequest(text=say("A vote has row, left and right, counted from 0."))
    row, left, right = whole
    if row >= len(comparison.rows) or max(left, right) >= len(comparison.columns):
        raise web.HTTPBadRequest(text=say("There is no such row or column in this comparison."))
    items = [comparison.columns[place].item for place in (left, right)]
    if len(set(items) & set(comparison.contestants)) < 2:
        raise web.HTTPBadRequest(
            text=say("Vote on two different pictures of base model and LoRAs.")
        )
    if content.get("choice") not in CHOICES:
        raise web.HTTPBadRequest(
            text=say("The choice is one of {choices}.", choices=", ".join(CHOICES))
        )
    return Vote(items[0], items[1], comparison.rows[row].item, content["choice"])


# ---- keeping -------------------------------------------------------------------------------


async def keep_one(request: web.Request) -> web.StreamResponse:
    """Keep a column's LoRA as *Keep This Checkpoint* does: `{"column": 3, "name": "polish"}`."""
    folder, comparison = opened(request)
    content = await read_json(request)
    column, name = content.get("column"), content.get("name")
    if type(column) is not int or not 0 <= column < len(comparison.columns):
        raise web.HTTPBadRequest(text=say("There is no such row or column in this comparison."))
    if not isinstance(name, str):
        raise web.HTTPBadRequest(text=say("Give the LoRA a name."))
    run = Run.open(request.match_info["run"], output_folder())
    try:
        path = await asyncio.to_thread(kept, run, comparison, column, name)
    except (KeepError, RunError) as error:
        raise web.HTTPConflict(text=str(error)) from error
    return web.json_response({"file": path.name})


def kept(run: Run, comparison: Comparison, column: int, name: str) -> Path:
    """The LoRA of a column, copied into ComfyUI's first LoRA folder. KeepError for no LoRA."""
    shown = comparison.columns[column]
    checkpoint = next((each for each in run.checkpoints() if each.path.name == shown.file), None)
    if checkpoint is None:
        raise KeepError(say("This picture is not of a checkpoint of run “{run}”.", run=run.name))
    loras = chosen_folder()
    prompts = {row.prompt for row in comparison.rows}
    notes = {"modelspec.usage_hint": prompts.pop() if len(prompts) == 1 else ""}
    path = loras / f"{checked_name(name)}.safetensors"
    keep(run, Choice(run.checkpoint_at(checkpoint.step), shown.strength), path, notes)
    run.pin(checkpoint.step)
    return path


# ---- files ---------------------------------------------------------------------------------


def opened(request: web.Request) -> tuple[Path, Comparison]:
    """The run's folder and the comparison that the address names."""
    folder = folder_named(request.match_info["run"], output_folder())
    return folder, Comparison.read(folder, request.match_info["comparison"])
