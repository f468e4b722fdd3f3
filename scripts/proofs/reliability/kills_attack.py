"""SIGKILL before, in the middle of, and after everything that is done to a file; then once more.

What is compared is the result of the run that nobody disturbed, bit for bit.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ground import SETTINGS, Ground, Tally, digests, in_child, loras
from kontext.captioning.journal import Journal
from kontext.captioning.recipe import Existing, Recipe
from kontext.captioning.run import Options, caption_pairs
from kontext.captioning.sidecars import BACKUPS
from kontext.dataset.pair import PairedDataset
from kontext.trainer import host
from kontext.trainer.runs.export import export_lora
from kontext.trainer.runs.run import Run
from trap import Trap, kill, kill_after, refuse, trapped

WORDS = "polish the ring"


def operations(work: Callable[[], object], root: Path) -> int:
    """How many things `work` does to files below `root`."""
    with trapped(Trap(root, 0, kill)) as trap:
        work()
    return trap.count


def training(ground: Ground, most: int) -> Tally:
    """A training is killed at any of its file operations, and continued."""
    tally, whole = Tally("kills in training and saving"), ground.place()
    expected = loras(ground.train(whole))
    places = ground.place()
    moments = operations(lambda: ground.train(places), places)
    ground.forget(places)
    chosen = random.Random(1).sample(range(1, moments + 1), min(most, moments))
    for number, moment in enumerate(sorted(chosen)):
        output = ground.place()
        act = kill_after if number % 3 == 0 else kill
        died = in_child(lambda at=moment, act=act, to=output: killed_at(ground, to, at, act))
        run = Run("ring", output)
        was_finished = run.exists() and run.finished and died
        before = {step: digest for step, digest in loras(run).items()} if run.exists() else {}
        found = loras(ground.train(output))
        wrong = ""
        if found != expected:
            wrong = f"killed at {moment}: another result"
        elif any(expected.get(step) != digest for step, digest in before.items()):
            wrong = f"killed at {moment}: a checkpoint that was no whole one"
        elif was_finished and before.keys() != expected.keys():
            wrong = f"killed at {moment}: called finished"
        steps = [entry["step"] for entry in run.logged()]
        if steps != list(range(1, SETTINGS.steps + 1)):
            wrong = f"killed at {moment}: the log has steps {steps}"
        tally.note("continued" if died else "ended before", wrong or ground.touched())
        ground.forget(output)
    return tally


def killed_at(ground: Ground, output: Path, moment: int, act: Callable[..., object]) -> None:
    with trapped(Trap(output, moment, act)):
        ground.train(output)


def rescues(ground: Ground, most: int) -> Tally:
    """The output folder is full from the first checkpoint on, and the rescue is killed."""
    tally, whole = Tally("kills in a rescue"), ground.place()
    expected = loras(ground.train(whole))
    for moment in range(1, most + 1):
        output, place = ground.place(), ground.place()
        in_child(lambda at=moment, to=output, place=place: rescued(ground, to, place, at))
        run = ground.train(output, rescue_places=[place])
        wrong = "" if loras(run) == expected else f"rescue killed at {moment}: another result"
        tally.note("continued", wrong or ground.touched())
        ground.forget(output)
        ground.forget(place)
    return tally


def rescued(ground: Ground, output: Path, place: Path, moment: int) -> None:
    full = Trap(output / "loras", 3, refuse("disk full"), lasting=True)
    with trapped(full), trapped(Trap(place, moment, kill)):
        ground.train(output, rescue_places=[place])


def exports(ground: Ground, most: int) -> Tally:
    """A LoRA is saved over another one, in three formats: the old or the new one is there."""
    tally, output = Tally("kills in an export"), ground.place()
    run = ground.train(output)
    last = run.checkpoint_at(0)
    tensors, metadata = host.load_lora_file(last.path), last.metadata()
    old = run.checkpoint_at(2).path.read_bytes()
    for format in ("comfyui", "diffusers", "peft"):
        new, moments = ground.place(), 0

        def export(to: Path, format: str = format) -> None:
            export_lora(tensors, metadata, to / "kept.safetensors", format, overwrite=True)

        moments = operations(lambda new=new: export(new), new)
        good = digests(new)
        for moment in range(1, moments + 1):
            for act in (kill, kill_after):
                if tally.cases >= most:
                    return tally
                place = ground.place()
                (place / "kept.safetensors").write_bytes(old)
                in_child(lambda at=moment, act=act, to=place: export_killed(export, to, at, act))
                whole = {p.read_bytes() == old or digest in good.values()
                         for (name, digest) in digests(place).items()
                         if not name.endswith(".tmp") for p in [place / name]}  # fmt: skip
                export(place)
                again = {n: d for n, d in digests(place).items() if not n.endswith(".tmp")}
                ended = {**({} if format != "peft" else {"kept.safetensors": None}), **good}
                same = all(again.get(name) == digest for name, digest in good.items())
                wrong = "" if whole <= {True} and same and again.keys() == ended.keys() else (
                    f"{format} killed at {moment}: {sorted(again)}"
                )  # fmt: skip
                tally.note("whole", wrong)
                shutil.rmtree(place)
    return tally


def export_killed(
    export: Callable[[Path], None], to: Path, moment: int, act: Callable[..., object]
) -> None:
    with trapped(Trap(to, moment, act)):
        export(to)


@dataclass
class Captioned:
    """Pairs in a folder of their own, each with a caption that is to be replaced."""

    pairs: PairedDataset
    journal: Journal
    old: dict[Path, str]

    def write(self) -> None:
        recipe = Recipe(instruction=WORDS, existing=Existing.REPLACE)
        options = Options(save=True, tables=True)
        caption_pairs(self.pairs, recipe, None, options, self.journal, lambda *_: None)

    def repeated(self) -> str:
        """What is wrong before and after writing once more: each caption is the old or the new
        one, and the old one is kept as a whole."""
        for file, words in self.old.items():
            if file.read_text("utf-8") not in (words, WORDS):
                return f"{file.name} is neither the old nor the new caption"
        self.write()
        for file, words in self.old.items():
            kept = [p.read_text("utf-8") for p in file.parent.glob(f"{BACKUPS}/*/{file.name}")]
            if words not in kept:
                return f"the old words of {file.name} are lost: {kept}"
            if file.read_text("utf-8") != WORDS:
                return f"{file.name} was not written again"
        return ""


def captioned(ground: Ground, place: Path) -> Captioned:
    shutil.copytree(ground.folder / "pairs", place / "pairs")
    pairs = moved(ground.pairs, place / "pairs")
    old = {pair.target.with_suffix(".txt"): f"my own words on {pair.stem}" for pair in pairs}
    for file, words in old.items():
        file.write_text(words, "utf-8")
    return Captioned(pairs, Journal(place / "journal.jsonl"), old)


def captions(ground: Ground, most: int) -> Tally:
    """Captions and tables are rewritten."""
    tally, place = Tally("kills in writing captions"), ground.place()
    moments = operations(captioned(ground, place).write, place)
    for case in range(most):
        place = ground.place()
        work, at, act = captioned(ground, place), 1 + case % moments, (kill, kill_after)[case % 2]

        def killed(work=work, place=place, at=at, act=act) -> None:
            with trapped(Trap(place, at, act)):
                work.write()

        in_child(killed)
        tally.note("written again", work.repeated())
        shutil.rmtree(place)
    return tally


def moved(pairs: PairedDataset, folder: Path) -> PairedDataset:
    """The pairs with their files in another folder."""

    def there(path: Path) -> Path:
        return folder / path.relative_to(path.parents[1])

    return PairedDataset(
        tuple(
            replace(pair, controls=tuple(map(there, pair.controls)), target=there(pair.target))
            for pair in pairs
        )
    )


def attack(ground: Ground) -> list[Tally]:
    return [
        training(ground, 66), rescues(ground, 24), exports(ground, 24), captions(ground, 31),
    ]  # fmt: skip
