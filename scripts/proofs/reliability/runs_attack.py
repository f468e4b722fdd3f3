"""The files of a run are broken, one after the other; then it is looked at, and continued.

It continues to the result of the run that nobody broke, or an error names the file.
"""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

import safetensors.torch
import torch
from ground import SETTINGS, Ground, Tally, loras
from kontext.command.actions import state_of
from kontext.evaluation.progress.follow import Follower
from kontext.evaluation.progress.overview import summaries, summary
from kontext.files import DamagedFileError, StorageError
from kontext.routes.runs import about
from kontext.trainer import host
from kontext.trainer.runs.identity import RunError
from kontext.trainer.runs.run import Run

Break = Callable[[bytes], bytes]
ANY: dict[str, Break] = {
    "empty": lambda content: b"",
    "NULs": lambda content: b"\0" * len(content),
    "its second half NULs": lambda content: content[: len(content) // 2].ljust(len(content), b"\0"),
    "cut in half": lambda content: content[: len(content) // 2],
    "another file's": lambda content: b"GIF89a" + content[::-1],
}
TEXT: dict[str, Break] = {
    "nested without end": lambda content: b"[" * 50_000,
    "another kind of value": lambda content: b"3",
    "half a letter in front": lambda content: b"\xff\xfe" + content,
    "a byte order mark in front": lambda content: b"\xef\xbb\xbf" + content,
}


def line(text: str) -> Break:
    return lambda content: content + text.encode() + b"\n"


def yaml_with(**changes: object) -> Break:
    import yaml

    def act(content: bytes) -> bytes:
        return yaml.safe_dump({**yaml.safe_load(content), **changes}).encode()

    return act


def tensors_with(change: Callable[[dict[str, torch.Tensor]], object], **notes: str) -> Break:
    def act(content: bytes) -> bytes:
        tensors = safetensors.torch.load(content)
        change(tensors)
        return safetensors.torch.save(tensors, {"step": "2", "rest": "", "threads": "1", **notes})

    return act


OWN: dict[str, dict[str, Break]] = {
    "kontext_runs/ring/log.jsonl": {
        "a line torn": lambda content: content[:-20],
        "a line of NULs": lambda content: content + b"\0" * 300 + b"\n",
        "a list": line("[1, 2]"),
        "a step that is a text": line('{"step": "2", "loss": 1.0}'),
        "no loss": line('{"step": 3}'),
        "a number too long": line('{"step": ' + "9" * 5000 + ', "loss": 1.0}'),
        "not a number": line('{"step": 3, "loss": NaN, "holdout": [NaN], "holdout_base": [0]}'),
        "steps twice": lambda content: content * 2,
        "a step of the far future": line('{"step": 99999999, "loss": 1.0}'),
    },
    "kontext_runs/ring/run.yaml": {
        "of another version": yaml_with(config={**asdict(SETTINGS), "warp": 9}),
        "settings out of range": yaml_with(config={**asdict(SETTINGS), "rank": -1}),
        "no settings": yaml_with(config={}),
        "settings that are a list": yaml_with(config=[1]),
        "tags of Python": lambda content: b"!!python/object/apply:os.system [ls]\n" + content,
        "tabs": lambda content: content.replace(b"  ", b"\t"),
    },
    "kontext_runs/ring/state/state.safetensors": {
        "no tensors": tensors_with(dict.clear),
        "a tensor of another shape": tensors_with(
            lambda tensors: tensors.update({k: v[:1] for k, v in [*tensors.items()][:1] if v.ndim})
        ),
        "no step": tensors_with(lambda tensors: None, step="two"),
        "a rest of another kind": tensors_with(lambda tensors: None, rest="[1, 2"),
        "names of another version": tensors_with(
            lambda tensors: tensors.update({f"new.{k}": tensors.pop(k) for k in [*tensors]})
        ),
    },
    "kontext_runs/ring/pairs.json": {
        "a list": lambda content: b"[]",
        "numbers": lambda content: b'{"000": 3, "001": {"target": 4}}',
    },
    "kontext_runs/ring/pinned.json": {
        "texts": lambda content: b'["2"]',
        "no steps": lambda content: b'[true, "two", null, -1, 1.5]',
    },
    "kontext_runs/ring/dataset.jsonl": {},
    "kontext_runs/ring/log.csv": {},
    "kontext_runs/ring/run.html": {},
    "kontext_runs/ring/lock.json": {
        "of a dead process": lambda content: json.dumps(
            {"token": "a", "user": "b", "host": "c", "process": 4194999, "born": 0.0, "since": "1"}
        ).encode(),
    },
    "loras/ring/ring_000002.safetensors": {"no tensors": tensors_with(dict.clear)},
    "cache": {
        "no tensors": tensors_with(dict.clear),
        "another name": tensors_with(
            lambda tensors: tensors.update({f"x.{k}": tensors.pop(k) for k in [*tensors]})
        ),
    },
}
STRUCTURED = ("log.jsonl", "run.yaml", "pairs.json", "pinned.json", "lock.json")


def breaks() -> Iterator[tuple[str, str, Break]]:
    for file, own in OWN.items():
        text = TEXT if file.endswith(STRUCTURED) else {}
        for how, act in {**ANY, **text, **own}.items():
            yield file, how, act


def begun(ground: Ground) -> Path:
    """An output folder with a training that was cancelled after two of four steps."""
    import comfy.model_management

    output, real = ground.place(), host.Progress.update

    def update(self: host.Progress, done: int, *rest: object, **named: object) -> None:
        if done == 2:
            comfy.model_management.interrupt_current_processing()
        real(self, done, *rest, **named)

    with patch.object(host.Progress, "update", update):
        try:
            ground.train(output, cache_folder=output / "cache", watcher=Follower(ground.pairs))
        except host.Interrupted:
            pass
    run = Run("ring", output)
    run.pin(2)
    Run.create("another", output, run.identity())
    return output


def look(output: Path) -> str:
    """What every page and the terminal say of the runs; what goes wrong in it in words."""
    run, names = Run("ring", output), {each.name for each in summaries(output)}
    if "another" not in names:
        return "it hides the others"
    for show in (summary, about, state_of):
        try:
            show(run)
        except (RunError, DamagedFileError) as error:
            if not str(error):
                return f"{show.__name__} says nothing"
        except Exception as error:
            traceback.print_exc()
            return f"{show.__name__}: {type(error).__name__}: {error}"
    return ""


def attack(ground: Ground) -> list[Tally]:
    tally, whole = Tally("broken files of a run"), ground.place()
    expected, start = loras(ground.train(whole)), begun(ground)
    for file, how, act in breaks():
        output = ground.place()
        shutil.copytree(start, output, dirs_exist_ok=True)
        for path in sorted(output.glob("cache/*")) if file == "cache" else [output / file]:
            path.write_bytes(act(path.read_bytes() if path.exists() else b"{}"))
        if file.endswith("lock.json") and how not in OWN[file]:
            os.utime(output / file, (0, 0))
        wrong, outcome = look(output), "continued to the same LoRA"
        run = Run("ring", output)
        try:
            options = {"cache_folder": output / "cache", "watcher": Follower(ground.pairs)}
            run = ground.train(output, **options)
            if loras(run)[SETTINGS.steps] != expected[SETTINGS.steps]:
                wrong = wrong or "another result"
            if file.endswith("pinned.json") and not run.has_checkpoint(2):
                wrong = "the pinned LoRA is gone"
        except (RunError, DamagedFileError, StorageError) as error:
            outcome = "refused by name"
            if Path(file).name not in str(error) and "ring" not in str(error):
                wrong = f"does not name the file: {error}"
            if run.exists() and run.yaml_file.read_bytes() and _finished(run):
                wrong = "called finished"
        except Exception as error:
            traceback.print_exc()
            outcome, wrong = "traceback", f"{type(error).__name__}: {error}"
        tally.note(outcome, wrong and f"{Path(file).name}, {how}: {wrong}")
        ground.forget(output)
    return [tally]


def _finished(run: Run) -> bool:
    try:
        return run.finished
    except (RunError, DamagedFileError):
        return False
