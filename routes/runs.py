"""The list of all runs, and a run's own page: curves, samples, checkpoints, settings, pairs."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import web

from ..evaluation.compare.comparison import folder_named, inside
from ..evaluation.progress import overview
from ..evaluation.progress.curves import Course, GrowingCourse
from ..evaluation.progress.diagnosis import diagnose
from ..evaluation.progress.follow import progress
from ..evaluation.progress.run_page import checkpoints, settings
from ..language import say
from ..lines import Lines
from ..trainer.host.folders import output_folder
from ..trainer.runs.identity import RunError
from ..trainer.runs.lock import LockedError, holding
from ..trainer.runs.log import log_lines
from ..trainer.runs.run import Run
from .files import WEB
from .guard import UNCHANGING, guarded, read_json, text_file

PAGE = "/kontext/run/{run}"
SAMPLE = re.compile(r"step_\d{1,9}(_\d{1,4})?\.png")
MOST_PAIRS = 500


def register(routes: web.RouteTableDef) -> None:
    routes.get("/kontext/runs")(guarded(list_page))
    routes.get("/kontext/runs/list")(guarded(list_runs))
    routes.get(PAGE)(guarded(page))
    routes.get(PAGE + "/facts")(guarded(facts))
    routes.get(PAGE + "/chart")(guarded(chart))
    routes.get(PAGE + "/graph")(guarded(graph))
    routes.get(PAGE + "/sample/{file}")(guarded(sample))
    routes.post(PAGE + "/delete")(guarded(delete))


# ---- all runs ------------------------------------------------------------------------------


async def list_page(request: web.Request) -> web.StreamResponse:
    return text_file(WEB / "runs" / "runs.html")


async def list_runs(request: web.Request) -> web.StreamResponse:
    found = await asyncio.to_thread(overview.summaries, output_folder())
    return web.json_response([asdict(each) for each in found])


async def delete(request: web.Request) -> web.StreamResponse:
    """Move a run into the trash folder. The body repeats its name: `{"name": "my_edit"}`."""
    run = opened(request)
    if (await read_json(request)).get("name") != run.name:
        raise web.HTTPBadRequest(text=say("Repeat the run's name to delete it."))
    try:
        trash = await asyncio.to_thread(put_aside, run)
    except LockedError as error:
        raise web.HTTPConflict(text=str(error)) from error
    return web.json_response({"trash": str(trash.relative_to(output_folder()))})


# ---- one run -------------------------------------------------------------------------------


async def page(request: web.Request) -> web.StreamResponse:
    opened(request)
    return text_file(WEB / "run" / "run.html")


async def facts(request: web.Request) -> web.StreamResponse:
    return web.json_response(await asyncio.to_thread(about, opened(request)))


def about(run: Run) -> dict[str, Any]:
    """All that the page shows but the curves."""
    with growing_course(run.folder).course() as course:
        shown = {"notes": [*course.notes], "rows": checkpoints(run, course)}
        shown |= {"chart": chart_of(run, course)}
    return {
        **asdict(overview.summary(run)),
        **shown,
        "settings": settings(run.config),
        "samples": sorted(path.name for path in (run.folder / "samples").glob(overview.SAMPLES)),
        "pairs": pair_rows(run.folder / "dataset.jsonl"),
    }


async def chart(request: web.Request) -> web.StreamResponse:
    """The event of the last step again, for a node whose run has ended."""
    run = opened(request)
    return web.json_response(await asyncio.to_thread(latest_chart, run))


async def graph(request: web.Request) -> web.StreamResponse:
    """The graph that the run was trained in, to continue it."""
    run = opened(request)
    path = run.folder / "workflow.json"
    if not path.is_file():
        raise RunError(say("“{name}” was not trained in a graph of ComfyUI's page.", name=run.name))
    return web.Response(text=path.read_text("utf-8"), content_type="application/json")


async def sample(request: web.Request) -> web.StreamResponse:
    run, name = opened(request), request.match_info["file"]
    path = run.folder / "samples" / name
    if not SAMPLE.fullmatch(name) or not path.is_file():
        raise web.HTTPNotFound()
    return web.FileResponse(inside(run.folder, path), headers=UNCHANGING)


# ---- what is on disk -----------------------------------------------------------------------


@lru_cache(maxsize=8)
def growing_course(folder: Path) -> GrowingCourse:
    """Of the run in this folder. Pages that follow a run ask every three seconds."""
    return GrowingCourse(log_lines(folder))


def latest_chart(run: Run) -> dict[str, Any] | None:
    with growing_course(run.folder).course() as course:
        return chart_of(run, course)


def chart_of(run: Run, course: Course) -> dict[str, Any] | None:
    if not len(course):
        return None
    shown = progress(course, 0, run.last_step(), diagnose(course))
    return {**shown, "run": run.name, "sample": overview.latest_sample(run)}


def pair_rows(table: Path) -> list[dict[str, str]]:
    """Names, captions and split of the pairs that a run was made from."""
    rows = Lines(table, lambda row: {name: str(row[name]) for name in ("stem", "caption", "split")})
    return [row for row, _ in zip(rows, range(MOST_PAIRS), strict=False)]


def put_aside(run: Run) -> Path:
    with holding(run.folder, run.name):
        return run.put_aside()


def opened(request: web.Request) -> Run:
    """The run that the address names. RunError for none, and for a link to somewhere else."""
    run = Run.open(request.match_info["run"], output_folder())
    folder_named(run.name, run.output)
    return run
