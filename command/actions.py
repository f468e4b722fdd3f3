"""The commands, which need ComfyUI to be importable."""

from __future__ import annotations

import argparse
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from ..dataset.pair import DatasetError
from ..evaluation.progress.curves import Course
from ..evaluation.progress.follow import Follower
from ..evaluation.score.conclude import conclude
from ..evaluation.score.outcome import outcome_of
from ..files import DamagedFileError, StorageError, storing
from ..language import say
from ..trainer import host, parallel
from ..trainer.config import ConfigError
from ..trainer.data.cache import Cache
from ..trainer.data.encode import encode_dataset
from ..trainer.families import recognise, text_encoders
from ..trainer.files import LoraError
from ..trainer.host import files as host_files
from ..trainer.host.folders import output_folder, rescue_folder
from ..trainer.loop import train
from ..trainer.request import TrainingError, TrainingRequest
from ..trainer.runs.ending import ending_of
from ..trainer.runs.export import FORMATS, export_lora
from ..trainer.runs.identity import RunError
from ..trainer.runs.job import Job, JobError
from ..trainer.runs.name import checked_name
from ..trainer.runs.run import Run
from .foreign.read import grouped, read_files
from .jobs import AskedJob, cache_folder, checked, lora_file, read_jobs
from .show import Screen
from .tries import perform_tries

Options = argparse.Namespace
LOSSES = 50  # last steps whose mean loss is reported
INPUT_ERRORS = (
    JobError, ConfigError, DatasetError, RunError, host.BaseModelError, host.HostError, LoraError,
    FileExistsError, DamagedFileError,
)  # fmt: skip


def perform(options: Options, screen: Screen) -> int:
    """Run one command; its errors become a message and an exit code."""
    try:
        return COMMANDS[options.command](options, screen)
    except KeyboardInterrupt:
        return 130
    except (Exception, host.Interrupted) as error:  # to ComfyUI, Cancel is no Exception
        code = exit_code(error)
        if options.traceback or code == 1:
            traceback.print_exc()
        words = str(error)
        if code == 130:
            words = say("Cancelled. Steps done are saved; `resume` continues.")
        if screen.mode == "json":
            screen.result("", error=words, kind=type(error).__name__, exit_code=code)
        elif code != 1:
            screen.write(screen.errors, words)
        return code


def exit_code(error: BaseException) -> int:
    if isinstance(error, host.Interrupted):
        return 130
    if isinstance(error, INPUT_ERRORS):
        return 2
    if isinstance(error, (TrainingError, host.OutOfMemory)):
        return 3
    return 4 if isinstance(error, StorageError) else 1


# ---- before training -----------------------------------------------------------------------


def validate(options: Options, screen: Screen) -> int:
    """List everything that is wrong with the files, not only the first problem."""
    code = 0
    for asked in read_jobs(options):
        job = asked.job
        loaded, lines, problems = checked(asked, INPUT_ERRORS)
        pairs = loaded.dataset
        counts = len(pairs.train), job.model != "demo", len(pairs.holdout)
        config = job.settled(pairs).settled(*counts)
        words = [*lines, *(say("WRONG: {problem}", problem=problem) for problem in problems)]
        facts: dict[str, Any] = {"name": job.name, "train": len(pairs.train)}
        facts |= {"holdout": len(pairs.holdout), "config": asdict(config), "notes": loaded.notes}
        facts |= {"ignored": asked.ignored, "problems": problems, "report": lines}
        screen.result("\n".join(words), ok=not problems, **facts)
        code = 2 if problems else code
    return code


def convert(options: Options, screen: Screen) -> int:
    """Write jobs as files of this trainer; settings not taken over go to standard error."""
    groups = grouped([Path(name) for name in options.files])
    if options.to and len(groups) > 1:
        raise JobError(say("--to takes one job; these are {count}.", count=len(groups)))
    for paths in groups:
        job, ignored = read_files(paths)
        text = yaml.safe_dump(job.content(), allow_unicode=True, sort_keys=False)
        for line in ignored:
            screen.note(say("Not taken over: {line}", line=line))
        if options.to:
            with storing(Path(options.to)):
                Path(options.to).write_text(text, encoding="utf-8")
        screen.result(options.to or text.rstrip(), job=job.content(), ignored=ignored)
    return 0


def cache(options: Options, screen: Screen) -> int:
    """Encode what `train` would encode."""
    for asked in read_jobs(options):
        pairs = asked.load_pairs().dataset
        with parallel.joined(), stopping(), screen.progress(), torch.inference_mode():
            base = load_base(asked.job)
            full_size = recognise(base).full_size
            counts = len(pairs.train), full_size, len(pairs.holdout)
            config = asked.job.settled(pairs).settled(*counts)
            folder = cache_folder(options)
            encode_dataset(Cache(folder, base, config), pairs, host.Progress(config.steps))
        files = len([*folder.glob("*.safetensors")])
        words = say(
            "{count} pairs are encoded; {folder} holds {files} files.",
            count=len(pairs), folder=folder, files=files,
        )  # fmt: skip
        screen.result(words, folder=str(folder), pairs=len(pairs), files=files)
    return 0


# ---- training ------------------------------------------------------------------------------


def start(options: Options, screen: Screen) -> int:
    """Train a job, or continue its run; several one after the other.

    All are checked before the first begins. A job that fails does not stop those after it; Cancel
    does. The exit code is that of the first that failed.
    """
    queue = read_jobs(options)
    if len(queue) > 1:
        problems = {each.job.name: checked(each, INPUT_ERRORS)[2] for each in queue}
        wrong = [f"{name}: {line}" for name, lines in problems.items() for line in lines]
        if wrong:
            raise JobError("\n".join(wrong))
    codes = []
    for place, asked in enumerate(queue, 1):
        if len(queue) > 1:
            screen.note(
                say("Job {n} of {all}: {name}", n=place, all=len(queue), name=asked.job.name)
            )
        try:
            codes.append(run_job(asked, options, screen, options.replace))
        except (TrainingError, StorageError, host.OutOfMemory) as error:
            if place == len(queue):
                raise
            screen.note(f"{asked.job.name}: {error}")
            codes.append(exit_code(error))
    return next(filter(None, codes), 0)


def resume(options: Options, screen: Screen) -> int:
    """Continue a run from its own file."""
    run = open_run(options.run)
    if run.finished and not options.set:
        tell(run, screen)
        return 0
    options.files = [str(run.folder / "run.yaml")]
    (asked,) = read_jobs(options)
    return run_job(asked, options, screen, False, run.output)


def run_job(
    asked: AskedJob, options: Options, screen: Screen, replace: bool, output: Path | None = None
) -> int:
    """Train one job. Reports what the graph's nodes would report, and then the result."""
    job, places = asked.job, asked.places
    loaded = asked.load_pairs()
    pairs = loaded.dataset
    for line in asked.lines(loaded):
        screen.note(line)
    start = host.load_lora_file(lora_file(job.start, places)) if job.start else None
    samples = job.sample_plan(places)
    with parallel.joined(), stopping():
        with screen.progress(), torch.inference_mode():
            base = load_base(job)
            if job.base_hash and job.base_hash != host.base_hash(base.model):
                screen.note(
                    say(
                        "The model is not the one this run was made with: another file, or the "
                        "graph had a LoRA on it."
                    )
                )
            request = TrainingRequest(
                base,
                pairs,
                job.settled(pairs),
                job.name,
                output or output_folder(),
                cache_folder(options),
                replace,
                start,
                watcher=Follower(pairs),
                resize_start=job.resize_start,
                samples=samples,
                rescue_places=[rescue_folder()],
                alone=True,
            )
            run = train(request)
            conclude(request, run)
        if parallel.is_first():
            tell(run, screen)
    return 0


def try_settings(options: Options, screen: Screen) -> int:
    """Compare settings by short runs; the model is loaded once for all."""
    loaded: list[host.Base] = []

    def train_try(asked: AskedJob) -> None:
        job, pairs = asked.job, asked.load_pairs().dataset
        start = host.load_lora_file(lora_file(job.start, asked.places)) if job.start else None
        with parallel.joined(), stopping(), screen.progress(), torch.inference_mode():
            loaded[:] = loaded or [load_base(job)]
            places = output_folder(), cache_folder(options)
            resize = job.resize_start
            request = TrainingRequest(
                loaded[0], pairs, job.config, job.name, *places, start=start, resize_start=resize
            )
            train(request)

    return perform_tries(options, screen, train_try)


@contextmanager
def stopping() -> Iterator[None]:
    """Ctrl+C and SIGTERM are Cancel: the step is ended and saved. A second Ctrl+C stops at once."""

    def cancel(number: int, _frame: object) -> None:
        signal.signal(number, signal.default_int_handler)
        host.interrupt()

    before = {number: signal.signal(number, cancel) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def load_base(job: Job) -> host.Base:
    if job.model == "demo":
        from ..trainer.host.demo import load_demo_model

        return host.Base(*load_demo_model())
    return host_files.load_base(dict(job.model), text_encoders)  # type: ignore[arg-type]


# ---- runs ----------------------------------------------------------------------------------


def export(options: Options, screen: Screen) -> int:
    """Save a checkpoint in another format."""
    if options.format not in FORMATS:
        raise JobError(
            say(
                "{name} is {value}; choose one of {choices}.",
                name="--format", value=repr(options.format), choices=", ".join(FORMATS),
            )
        )  # fmt: skip
    run = open_run(options.run)
    checkpoint = run.checkpoint_at(options.step)
    name = checked_name(options.to or f"{checkpoint.path.stem}_{options.format}")
    path = run.output / "loras" / f"{name}.safetensors"
    tensors, metadata = host.load_lora_file(checkpoint.path), checkpoint.metadata()
    written = export_lora(tensors, metadata, path, options.format, options.overwrite)
    screen.result(str(written), path=str(written), step=checkpoint.step)
    return 0


def status(options: Options, screen: Screen) -> int:
    """One run in full, or a line for each."""
    if options.run:
        tell(open_run(options.run), screen)
        return 0
    output = output_folder()
    facts, lines = [], []
    for name in Run.names(output):
        try:
            facts.append(state_of(Run(name, output), thorough=False))
            lines.append(f"{facts[-1]['step']:>7}/{facts[-1]['steps']:<7} {name}")
        except (RunError, DamagedFileError) as error:  # the others are shown all the same
            facts.append({"run": name, "error": str(error)})
            lines.append(f"{'?':>7}/{'?':<7} {name}: {error}")
    none = say("There are no runs in {folder}.", folder=output)
    screen.result("\n".join(lines) or none, runs=facts)
    return 0


def tell(run: Run, screen: Screen) -> None:
    facts = state_of(run)
    words = [
        say("{name}: step {step} of {steps}", name=run.name, step=facts["step"],
            steps=facts["steps"])
    ]  # fmt: skip
    if facts["loss"] is not None:
        words.append(say("loss {loss}", loss=f"{facts['loss']:.4f}"))
    if facts["holdout"]:
        words.append(say("held-out pairs {change} against the base", change=facts["holdout"]))
    if facts["keep"]:
        words.append(say("keep {file}", file=facts["keep"]))
    lines = [", ".join(words), *filter(None, [facts["ending"]]), *facts["checkpoints"]]
    screen.result("\n".join(lines), **facts)


def state_of(run: Run, thorough: bool = True) -> dict[str, Any]:
    """The progress of a run, by the end of its log. Not `thorough`, its last LoRA is not read as a
    whole. `loss` is the mean of the last 50 steps.

    `holdout` is the held-out change in words; `holdout_change` its number, None if too few pairs
    were measured to be evidence.
    """
    config, early, scored = run.config, ending_of(run.folder), outcome_of(run.folder)
    # they are measured at every checkpoint at least
    course = Course(run.lines.tail(max(LOSSES, config.save_every)))
    losses = course.column("loss")[-LOSSES:]
    tested = course.tested[-1] if course.tested else None
    return {
        "run": run.name,
        "step": course.step,
        "steps": run.last_step(config),
        "finished": run.finished if thorough else run.steps_done() >= run.last_step(config),
        "ending": early.text if early else "",
        "keep": scored.best if scored else None,
        "loss": float(losses.mean()) if len(losses) else None,
        "holdout": tested.summary if tested else "",
        "holdout_change": tested.change.mean if tested and tested.is_evidence else None,
        "folder": str(run.folder),
        "checkpoints": [str(checkpoint.path) for checkpoint in run.checkpoints()],
    }


# ---- files and folders ---------------------------------------------------------------------


def open_run(text: str) -> Run:
    """A run by its name, or by its folder, wherever that is."""
    folder = Path(text)
    if (folder / "run.yaml").is_file():
        folder = folder.resolve()
        return Run.open(folder.name, folder.parents[1])
    return Run.open(text, output_folder())


COMMANDS = {
    "validate": validate,
    "cache": cache,
    "train": start,
    "resume": resume,
    "try": try_settings,
    "export": export,
    "status": status,
    "convert": convert,
}
