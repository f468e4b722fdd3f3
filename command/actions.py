"""What each command does, once ComfyUI can be imported."""

from __future__ import annotations

import argparse
import signal
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import folder_paths
import torch
import yaml

from ..dataset.pair import DatasetError, PairedDataset
from ..evaluation.progress.follow import Follower
from ..files import DamagedFileError, StorageError
from ..trainer import host, parallel
from ..trainer.config import ConfigError
from ..trainer.data.cache import Cache
from ..trainer.data.encode import encode_dataset
from ..trainer.families import recognise, text_encoders
from ..trainer.files import LoraError
from ..trainer.host import files as host_files
from ..trainer.loop import train
from ..trainer.optimizers import check_optimizer
from ..trainer.request import TrainingError, TrainingRequest
from ..trainer.runs.export import FORMATS, export_lora
from ..trainer.runs.job import Job, JobError, Places
from ..trainer.runs.run import Run, RunError, checked_name
from .foreign.read import read_files
from .show import Screen

Options = argparse.Namespace
PACK = Path(__file__).resolve().parents[1]
INPUT_ERRORS = (
    JobError, ConfigError, DatasetError, RunError, host.BaseModelError, LoraError, FileExistsError,
    DamagedFileError,
)  # fmt: skip


def perform(options: Options, screen: Screen) -> int:
    """Run one command; what it raises becomes words and an exit code."""
    try:
        return COMMANDS[options.command](options, screen)
    except KeyboardInterrupt:
        return 130
    except (Exception, host.Interrupted) as error:  # to ComfyUI, Cancel is no Exception
        code = exit_code(error)
        if options.traceback or code == 1:
            traceback.print_exc()
        words = "Cancelled. Steps done are saved; `resume` goes on." if code == 130 else str(error)
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
    """List all that is wrong with a file, not only the first thing."""
    job, ignored = read_job(options)
    places = places_of(options)
    problems = [] if job.model == "demo" else host_files.lacking(job.model)
    pairs, notes, config = PairedDataset(()), (), job.config
    try:
        pairs, notes = job.load_pairs(places)
        config = job.settled(pairs).settled(len(pairs.train), job.model != "demo")
        check_optimizer(config)
        job.sample_plan(places)
        if not pairs.train:
            raise DatasetError("There is no pair to train on: all are held out. Lower `holdout`.")
    except INPUT_ERRORS as error:
        problems.append(str(error))
    words = [
        f"{job.name}: {len(pairs.train)} pairs to train on, {len(pairs.holdout)} held out; "
        f"{config.steps} steps, rank {config.rank}, learning rate {config.learning_rate:g}",
        *notes,
        *(f"ignored: {line}" for line in ignored),
        *(f"WRONG: {line}" for line in problems),
    ]
    facts = dict(name=job.name, train=len(pairs.train), holdout=len(pairs.holdout))
    facts |= dict(config=asdict(config), notes=notes, ignored=ignored, problems=problems)
    screen.result("\n".join(words), ok=not problems, **facts)
    return 2 if problems else 0


def convert(options: Options, screen: Screen) -> int:
    """Write a job as our file; what was ignored goes to standard error."""
    job, ignored = read_files([Path(name) for name in options.files])
    text = yaml.safe_dump(job.content(), allow_unicode=True, sort_keys=False)
    for line in ignored:
        screen.note(f"ignored: {line}")
    if options.to:
        Path(options.to).write_text(text, encoding="utf-8")
    screen.result(options.to or text.rstrip(), job=job.content(), ignored=ignored)
    return 0


def cache(options: Options, screen: Screen) -> int:
    """Encode what `train` would encode."""
    job, _ = read_job(options)
    pairs, _ = job.load_pairs(places_of(options))
    with parallel.joined(), stopping(), screen.progress(), torch.inference_mode():
        base = load_base(job)
        full_size = recognise(base).full_size
        config = job.settled(pairs).settled(len(pairs.train), full_size)
        folder = cache_folder(options)
        encode_dataset(Cache(folder, base, config), pairs, host.Progress(config.steps))
    files = len([*folder.glob("*.safetensors")])
    told = f"{len(pairs)} pairs are encoded; {folder} holds {files} files."
    screen.result(told, folder=str(folder), pairs=len(pairs), files=files)
    return 0


# ---- training ------------------------------------------------------------------------------


def start(options: Options, screen: Screen) -> int:
    """Train a job, or go on with its run."""
    job, ignored = read_job(options)
    for line in ignored:
        screen.note(f"ignored: {line}")
    return run_job(job, places_of(options), options, screen, options.replace)


def resume(options: Options, screen: Screen) -> int:
    """Go on with a run from its own file."""
    run = open_run(options.run)
    if run.finished and not options.set:
        tell(run, screen)
        return 0
    options.files = [str(run.folder / "run.yaml")]
    job, _ = read_job(options)
    return run_job(job, places_of(options), options, screen, False, run.output)


def run_job(
    job: Job, places: Places, options: Options, screen: Screen, replace: bool,
    output: Path | None = None,
) -> int:  # fmt: skip
    pairs, notes = job.load_pairs(places)
    for line in notes:
        screen.note(line)
    start = host.load_lora_file(lora_file(job.start, places)) if job.start else None
    samples = job.sample_plan(places)
    with parallel.joined(), stopping():
        with screen.progress(), torch.inference_mode():
            base = load_base(job)
            if job.base_hash and job.base_hash != host.base_hash(base.model):
                screen.note(
                    "The model is not the one this run was made with: another file, or the graph "
                    "had a LoRA on it."
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
                rescue_places=[Path(folder_paths.get_user_directory()) / "kontext_rescued"],
            )
            run = train(request)
        if parallel.is_first():
            tell(run, screen)
    return 0


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
        raise JobError(f"The format is {options.format!r}; choose one of {', '.join(FORMATS)}.")
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
            facts.append(state_of(Run.open(name, output)))
            lines.append(f"{facts[-1]['step']:>7}/{facts[-1]['steps']:<7} {name}")
        except (RunError, DamagedFileError) as error:  # the others are shown all the same
            facts.append({"run": name, "error": str(error)})
            lines.append(f"{'?':>7}/{'?':<7} {name}: {error}")
    screen.result("\n".join(lines) or f"There are no runs in {output}.", runs=facts)
    return 0


def tell(run: Run, screen: Screen) -> None:
    facts = state_of(run)
    words = [f"{run.name}: step {facts['step']} of {facts['steps']}"]
    words += [f"loss {facts['loss']:.4f}"] if facts["loss"] is not None else []
    if facts["holdout_change"] is not None:
        words.append(f"held-out pairs {facts['holdout_change']:+.1%} against the base")
    screen.result("\n".join([", ".join(words), *facts["checkpoints"]]), **facts)


def state_of(run: Run) -> dict[str, Any]:
    """How far a run is, by what it has written. `loss` is the mean of the last 50 steps."""
    log, steps = run.logged(), run.config.steps
    losses = [entry["loss"] for entry in log[-50:]]
    tested = next((entry for entry in reversed(log) if entry.get("holdout")), None)
    return {
        "run": run.name,
        "step": log[-1]["step"] if log else 0,
        "steps": steps,
        "finished": run.finished,
        "loss": sum(losses) / len(losses) if losses else None,
        "holdout_change": sum(tested["holdout"]) / sum(tested["holdout_base"]) - 1
        if tested
        else None,
        "folder": str(run.folder),
        "checkpoints": [str(checkpoint.path) for checkpoint in run.checkpoints()],
    }


# ---- files and folders ---------------------------------------------------------------------


def read_job(options: Options) -> tuple[Job, Sequence[str]]:
    """The job of the files named, with what --set changes, and what was ignored."""
    job, ignored = read_files([Path(name) for name in options.files])
    changes = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise JobError(f"--set {text}: write it as KEY=VALUE, for example steps=3000.")
        changes[key.strip()] = yaml.safe_load(value)
    name = changes.pop("name", job.name)
    config = {**asdict(job.config), **changes}
    changed = Job.parse({"name": name, "pairs": list(job.pairs), "config": config})
    return replace(job, name=changed.name, config=changed.config), ignored


def places_of(options: Options) -> Places:
    """Relative paths are beside the file, in ComfyUI's input folder, or examples of this pack."""
    beside = Path(options.files[0]).resolve().parent
    input_folder = Path(folder_paths.get_input_directory())
    return Places((beside, input_folder, PACK), cache_folder(options).with_name("kontext_pairs"))


def cache_folder(options: Options) -> Path:
    """Not ComfyUI's temp folder, which its server empties whenever it starts."""
    given = getattr(options, "cache", None)
    return Path(given).resolve() if given else output_folder() / "kontext_cache"


def output_folder() -> Path:
    return Path(folder_paths.get_output_directory())


def open_run(text: str) -> Run:
    """A run by its name, or by its folder wherever that is."""
    folder = Path(text)
    if (folder / "run.yaml").is_file():
        folder = folder.resolve()
        return Run.open(folder.name, folder.parents[1])
    return Run.open(text, output_folder())


def lora_file(name: str, places: Places) -> Path:
    """The LoRA to start from: a path, or a name in ComfyUI's list."""
    path = places.find(name)
    listed = folder_paths.get_full_path("loras", name)
    if not path.is_file() and not listed:
        raise JobError(f"start: there is no LoRA {name}, neither in {path.parent} nor in the list.")
    return path if path.is_file() else Path(listed)


COMMANDS = {
    "validate": validate,
    "cache": cache,
    "train": start,
    "resume": resume,
    "export": export,
    "status": status,
    "convert": convert,
}
