"""`try`: settings compared by short runs, here one after the other, or side by side elsewhere."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from ..evaluation.tries.report import as_json, as_table, result, write
from ..evaluation.tries.search import Leg, Search, plan, price
from ..files import write_atomically
from ..language import say
from ..trainer.host.folders import output_folder
from ..trainer.runs.job import Job, JobError
from .jobs import AskedJob, read_jobs
from .show import Screen

TrainJob = Callable[[AskedJob], object]


def perform_tries(options: argparse.Namespace, screen: Screen, train: TrainJob) -> int:
    """Train the tries of a job's settings, or write their files with --jobs; report the best.

    `train` trains a job and returns once it has finished.
    """
    asked = read_jobs(options)
    if len(asked) > 1:
        raise JobError(say("`try` takes one file; these are {count}.", count=len(asked)))
    job, pairs = asked[0].job, asked[0].load_pairs().dataset
    config, full_model = job.settled(pairs), job.model != "demo"
    axes = "\n".join(text.replace("=", ": ", 1) for text in options.axis)
    search = plan(job.name, output_folder(), pairs, config, axes, options.steps, full_model)
    screen.note(price(search, full_model))
    if options.jobs and search.due():
        return write_jobs(asked[0], Path(options.files[0]), search, screen)

    def train_leg(leg: Leg) -> None:
        screen.note(say("{label}: to step {step}", label=leg.label, step=leg.step))
        train(replace(asked[0], job=job_of(asked[0], leg)))

    if not options.jobs:
        search.run(train_leg)
    found = result(search)
    folder = output_folder() / "kontext_tries" / job.name
    write(found, folder)
    best = [f"{name}={value}" for name, value in found.best.changes.items()]
    words = ["train", options.files[0]]
    words += [word for change in (*options.set, *best) for word in ("--set", change)]
    screen.result(
        f"{as_table(found)}\n\n{shlex.join(words)}",
        **as_json(found),
        folder=str(folder),
    )
    return 0


def job_of(asked: AskedJob, leg: Leg) -> Job:
    """The job that trains a try up to its step."""
    return replace(
        asked.job, name=leg.name, config=leg.config, epochs=0, save_every_epochs=0, samples={}
    )


def write_jobs(asked: AskedJob, file: Path, search: Search, screen: Screen) -> int:
    """A job file for each try that is due, beside the file itself; training them is left to
    others."""
    paths = []
    for leg in search.due():
        path = file.resolve().with_name(f"{leg.name}.yaml")
        text = yaml.safe_dump(job_of(asked, leg).content(), allow_unicode=True, sort_keys=False)
        write_atomically(path, text.encode())
        paths.append(str(path))
    words = say("Train these, on any machine, then run `try` again:")
    screen.result("\n".join([words, *paths]), jobs=paths)
    return 0
