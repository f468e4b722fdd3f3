"""The disk refuses something once, or from a moment on; then it works again and all is repeated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import cycle
from typing import Any

from ground import Ground, Tally, digests, loras
from kills_attack import captioned, operations
from kontext.dataset.pair import DatasetError
from kontext.files import StorageError
from kontext.trainer import host
from kontext.trainer.runs.export import export_lora
from kontext.trainer.runs.identity import RunError
from kontext.trainer.runs.run import Run
from trap import FAULTS, Trap, refuse, refuse_late, trapped, write_less

ACTS: dict[str, Callable[..., Any]] = {name: refuse(name) for name in FAULTS}
ACTS |= {"done, but reported as failed": refuse_late, "short write": write_less}
SAID = (StorageError, RunError, DatasetError)  # with the file, the reason and the way out


def attempt(work: Callable[[], object], trap: Trap) -> tuple[str, str]:
    """How it ended in a word, and what is wrong with that."""
    try:
        with trapped(trap):
            work()
    except SAID as error:
        plain = str(error).startswith("[Errno")
        return "said", f"{trap.sprung}: not explained: {error}" if plain else ""
    except Exception as error:
        return "traceback", f"{trap.sprung}: {type(error).__name__}: {error}"
    return "went on", ""


def training(ground: Ground, most: int) -> Tally:
    tally, place = Tally("disk faults in training"), ground.place()
    expected = loras(ground.train(place, cache_folder=place / "cache"))
    again = ground.place()
    moments = operations(lambda: ground.train(again, cache_folder=again / "cache"), again)
    step = next(n for n in range(moments // most or 1, moments) if moments % n or n == 1)
    moment = 0
    for case, (name, act) in zip(range(most), cycle(ACTS.items()), strict=False):
        moment = (moment + step) % moments
        output, lasting = ground.place(), case % 4 == 3
        trap = Trap(output, 1 + moment, act, lasting)
        options = {"cache_folder": output / "cache", "rescue_places": [output / "rescue"]}
        outcome, wrong = attempt(lambda: ground.train(output, **options), trap)  # noqa: B023
        run, what = Run("ring", output), f"{name} at {trap.sprung}{' for good' * lasting}"
        if run.exists() and run.finished and loras(run) != expected:
            wrong = f"{what}: called finished"
        if loras(ground.train(output, **options)) != expected:
            wrong = f"{what}: another result"
        tally.note(outcome, wrong or ground.touched())
        ground.forget(output)
    return tally


def exports(ground: Ground, most: int) -> Tally:
    tally, output = Tally("disk faults in an export"), ground.place()
    run = ground.train(output)
    last, old = run.checkpoint_at(0), run.checkpoint_at(2).path.read_bytes()
    tensors, metadata = host.load_lora_file(last.path), last.metadata()
    acts = cycle(ACTS.items())
    for format in ("comfyui", "diffusers", "peft"):
        for moment in range(1, 1 + most // 3):
            (name, act), place = next(acts), ground.place()
            file = place / "kept.safetensors"
            file.write_bytes(old)

            def export(file=file, format=format) -> None:
                export_lora(tensors, metadata, file, format, overwrite=True)

            trap = Trap(place, moment, act)
            outcome, wrong = attempt(export, trap)
            if name != "done, but reported as failed" and outcome == "said" and format != "peft":
                wrong = wrong or ("" if file.read_bytes() == old else f"{name}: the old is lost")
            if (
                any(path.suffix == ".tmp" for path in place.rglob("*"))
                and trap.sprung[:4] != "unli"
            ):
                wrong = f"{name} at {trap.sprung}: a partial file was left"
            export()
            tally.note(outcome if trap.sprung else "not reached", wrong)
            shutil.rmtree(place)
    return tally


def captions(ground: Ground, most: int) -> Tally:
    tally, acts = Tally("disk faults in writing captions"), cycle(ACTS.items())
    for case in range(most):
        (name, act), place = next(acts), ground.place()
        work = captioned(ground, place)
        before = digests(place)
        trap = Trap(place, 1 + case, act, lasting=case % 3 == 2)
        outcome, wrong = attempt(work.write, trap)
        for path, digest in digests(place).items():
            if path.endswith(".png") and before[path] != digest:
                wrong = f"{name}: a picture was changed"
        tally.note(outcome if trap.sprung else "not reached", work.repeated() or wrong)
        shutil.rmtree(place)
    return tally


def attack(ground: Ground) -> list[Tally]:
    return [training(ground, 60), exports(ground, 21), captions(ground, 30)]
