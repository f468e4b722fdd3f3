"""The jobs of a command line: their files, the changes by --set, and where paths lead."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import folder_paths

from ..dataset.load import LoadedPairs
from ..dataset.pair import DatasetError, PairedDataset
from ..dataset.summary import describe
from ..language import say
from ..trainer.host import files as host_files
from ..trainer.host.folders import latents_folder
from ..trainer.optimizers import check_optimizer
from ..trainer.runs.job import Job, JobError, Places
from ..values import read_yaml
from .foreign.read import grouped, read_files

PACK = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class AskedJob:
    """A job, the settings of its file not taken over, and the folders for its relative paths."""

    job: Job
    ignored: Sequence[str]
    places: Places

    def load_pairs(self) -> LoadedPairs:
        """The pairs, with at least one to train on. Raises DatasetError."""
        loaded = LoadedPairs(*self.job.load_pairs(self.places))
        if not loaded.dataset.train:
            raise DatasetError(
                say("There is no pair to train on: all are held out. Lower `holdout`.")
            )
        return loaded

    def lines(self, loaded: LoadedPairs) -> list[str]:
        """The report on a job before training, as from the graph's nodes."""
        config = self.job.settled(loaded.dataset)
        return [
            say(
                "{name}: {steps} steps, rank {rank}, learning rate {rate}",
                name=self.job.name, steps=config.steps or say("automatic"), rank=config.rank,
                rate=f"{config.learning_rate:g}",
            ),
            *describe(loaded).splitlines(),
            *self.ignored_lines(),
        ]  # fmt: skip

    def ignored_lines(self) -> list[str]:
        return [say("Not taken over: {line}", line=line) for line in self.ignored]


def read_jobs(options: argparse.Namespace) -> list[AskedJob]:
    """A job for each file, or for two files of which one holds the other's pairs.

    Raises JobError for an invalid --set, and for two jobs of the same name.
    """
    changes = read_changes(options.set)
    asked = []
    for paths in grouped([Path(name) for name in options.files]):
        job, ignored = read_files(paths)
        asked.append(AskedJob(changed(job, changes), ignored, places_of(paths[0], options)))
    names = [each.job.name for each in asked]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise JobError(
            say(
                "Two jobs are called {names}: a run's name is the name of its files, so give each "
                "its own.",
                names=", ".join(twice),
            )
        )
    return asked


def read_changes(texts: Sequence[str]) -> dict[str, Any]:
    """The values from --set, by key. JobError names an invalid one."""
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            found = read_yaml(value)
        except ValueError:
            equals = ""
        if not equals:
            raise JobError(
                say(
                    "--set {text}: write it as KEY=VALUE, for example steps=3000, or "
                    "resolution=[512, 768].",
                    text=text,
                )
            )
        changes[key.strip()] = found
    return changes


def changed(job: Job, changes: dict[str, Any]) -> Job:
    """The job with other settings, or another name."""
    config = {**asdict(job.config), **{k: v for k, v in changes.items() if k != "name"}}
    name = changes.get("name", job.name)
    other = Job.parse({"name": name, "pairs": list(job.pairs), "config": config})
    return replace(job, name=other.name, config=other.config)


def checked(
    asked: AskedJob, errors: tuple[type[Exception], ...]
) -> tuple[LoadedPairs, list[str], list[str]]:
    """A job's pairs, the report on it, and the problems that prevent its training, as far as they
    can be found without loading a model. `errors` are those that a user can fix."""
    job, loaded, lines = asked.job, LoadedPairs(PairedDataset(()), ()), asked.ignored_lines()
    problems = [] if isinstance(job.model, str) else host_files.lacking(job.model)
    try:
        loaded = asked.load_pairs()
        lines = asked.lines(loaded)
    except errors as error:
        problems.append(str(error))
    for check in (
        lambda: check_optimizer(job.config),
        lambda: job.sample_plan(asked.places),
        lambda: job.start and lora_file(job.start, asked.places),
    ):
        try:
            check()
        except errors as error:
            problems.append(str(error))
    return loaded, lines, problems


def places_of(file: Path, options: argparse.Namespace) -> Places:
    """Relative paths are beside the file, in ComfyUI's input folder, or examples of this pack."""
    beside = file.resolve().parent
    input_folder = Path(folder_paths.get_input_directory())
    return Places((beside, input_folder, PACK), cache_folder(options).with_name("kontext_pairs"))


def cache_folder(options: argparse.Namespace) -> Path:
    given = getattr(options, "cache", None)
    return Path(given).resolve() if given else latents_folder()


def lora_file(name: str, places: Places) -> Path:
    """The LoRA to start from: a path, or a name in ComfyUI's list."""
    path = places.find(name)
    listed = folder_paths.get_full_path("loras", name)
    if not path.is_file() and not listed:
        raise JobError(
            say(
                "start: there is no LoRA {name}, neither in {folder} nor in ComfyUI's list.",
                name=name, folder=path.parent,
            )
        )  # fmt: skip
    return path if path.is_file() else Path(listed)
