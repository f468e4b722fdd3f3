"""The captions of a data set being edited: saved, undone, never overwriting others' changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock

from ..dataset.captions import read_captions
from ..dataset.choices import Choices, decided, read_choices, write_choices
from ..dataset.files import CAPTION_SUFFIXES
from ..dataset.load import PairSource
from ..dataset.opened import Opened, choose, open_pairs
from ..dataset.pair import DatasetError, Matching, Pair
from ..dataset.text import caption_of
from ..files import moment
from ..language import say
from .bulk import LONGEST_TEXT, Bulk, changed_all
from .compose import compose_caption, strip_parts
from .sidecars import write_caption

MOST_STEPS = 200  # that can be undone


class ConflictError(DatasetError):
    """A file has changed since the page read it. `found` has its caption by number."""

    def __init__(self, found: dict[int, str]) -> None:
        self.found = found
        super().__init__(say("The file was changed by something else."))


@dataclass(frozen=True)
class Change:
    """A caption before and after, with the number of its pair."""

    number: int
    before: str
    after: str


@dataclass(frozen=True)
class UndoStep:
    """One undoable step."""

    changes: tuple[Change, ...] = ()
    choices: tuple[Choices, Choices] | None = None


@dataclass
class Asking:
    """Machine descriptions by number, to be accepted by the user; and the captioner's progress."""

    texts: dict[int, str] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    done: int = 0
    total: int = 0
    working: bool = False


class Desk:
    """One data set, in one process; every method may be called from any thread.

    A caption is `instruction` + description + `ending`. The first version of every file that is
    written lies in `caption_backup/<the time this desk was opened>`.
    """

    opened: Opened

    def __init__(self, source: PairSource, matching: Matching | None = None) -> None:
        self.source, self.lock, self.backup = source, RLock(), moment()
        self.steps: list[UndoStep] = []
        self.asking = Asking()
        self.look_again(matching)

    def look_again(self, matching: Matching | None = None) -> None:
        """Read everything anew. Raises DatasetError."""
        with self.lock:
            self._take(open_pairs(self.source, matching))

    def _take(self, opened: Opened) -> None:
        before = self.opened.keys if self.steps or self.asking.texts or self.asking.problems else ()
        opened.listing  # noqa: B018  computed now, not while the page waits for it
        self.opened = opened
        self.pairs = [decided(pair, opened.choices) for pair in opened.pairs]
        self.captions = [pair.caption for pair in self.pairs]
        if before and before != opened.keys:
            self._renumber(before)

    def _renumber(self, before: Sequence[str]) -> None:
        """Pictures have come or gone: what is remembered of a pair follows it to its new number,
        and is forgotten with it. `before` are the keys as they were numbered.
        """
        numbers = {key: number for number, key in enumerate(self.opened.keys)}
        now = {old: numbers[key] for old, key in enumerate(before) if key in numbers}
        steps = []
        for step in self.steps:
            left = tuple(replace(c, number=now[c.number]) for c in step.changes if c.number in now)
            if left or step.choices:
                steps.append(replace(step, changes=left))
        self.steps = steps
        for texts in (self.asking.texts, self.asking.problems):
            kept = {now[number]: text for number, text in texts.items() if number in now}
            texts.clear()
            texts.update(kept)

    # ---- what is shown ---------------------------------------------------------------------

    @property
    def unwritable(self) -> str:
        """Why no caption can be written, in words; empty if captions can be written."""
        if self.opened.table:
            return say(
                "The captions are in {name}. Change them there.", name=self.opened.table.name
            )
        return self.packed

    @property
    def packed(self) -> str:
        """A message if the pictures come out of an archive, else empty."""
        if self.opened.folder.is_relative_to(self.source.scratch):
            return say(
                "These pictures are in an archive. Unpack it to make decisions and write "
                "captions here."
            )
        return ""

    @property
    def stamp(self) -> str:
        """Changes with everything that the page shows as text."""
        content = hashlib.sha256(repr((self.opened.listing, self.opened.choices)).encode())
        content.update("\0".join(self.captions).encode("utf-8", "surrogatepass"))
        return content.hexdigest()[:16]

    def description(self, number: int) -> str:
        choices = self.opened.choices
        return strip_parts(self.captions[number], "", choices.instruction, choices.ending)

    def joined(self, description: str) -> str:
        choices = self.opened.choices
        return joined(choices.instruction, description, choices.ending)

    def as_written(self) -> list[Pair]:
        """The pairs, each with its caption as it is by now."""
        with self.lock:
            both = zip(self.pairs, self.captions, strict=True)
            return [replace(pair, caption=caption) for pair, caption in both]

    # ---- captions --------------------------------------------------------------------------

    def write(self, number: int, key: str, before: str, description: str) -> Change:
        """Save a description, joined with the shared parts.

        ConflictError if the caption on disk is not `before`.
        """
        with self.lock:
            self.opened.pair(number, key)
            if len(description) > LONGEST_TEXT:
                raise DatasetError(
                    say("A caption would have more than {most} letters.", most=LONGEST_TEXT)
                )
            change = Change(number, before, self.joined(description))
            if conflicts := self._save([change]):
                raise ConflictError(conflicts)
            last = self.steps[-1].changes if self.steps else ()
            if len(last) == 1 and last[0].number == number and last[0].after == before:
                self.steps[-1] = UndoStep((replace(change, before=last[0].before),))  # typing on
            else:
                self._remember(UndoStep((change,)))
            return change

    def preview(self, numbers: Iterable[int], bulk: Bulk) -> list[Change]:
        """What a bulk edit would change. Raises CaptionError."""
        with self.lock:
            captions = {number: self.captions[number] for number in numbers}
            texts = {number: self.description(number) for number in captions}
        changed = changed_all(texts, bulk)  # slow, so outside the lock
        return [
            Change(number, captions[number], self.joined(text)) for number, text in changed.items()
        ]

    def preview_shared(self, numbers: Iterable[int], instruction: str, ending: str) -> list[Change]:
        """What another instruction and ending would change."""
        if len(instruction) + len(ending) > LONGEST_TEXT:
            raise DatasetError(
                say("A caption would have more than {most} letters.", most=LONGEST_TEXT)
            )
        with self.lock:
            changes = []
            for number in numbers:
                # parts that are already there are not written twice
                text = strip_parts(self.description(number), "", instruction, ending)
                after = joined(instruction, text, ending)
                if after != self.captions[number]:
                    changes.append(Change(number, self.captions[number], after))
            return changes

    def apply(
        self, changes: Sequence[Change], shared: tuple[str, str] | None = None
    ) -> dict[int, str]:
        """Save changes that the user has seen; with `shared`, also a new instruction and ending.

        Returns the captions that another program has changed meanwhile, which stay as they are.
        """
        with self.lock:
            self._require_writable()
            choices = None
            if shared:
                old = read_choices(self.opened.folder)
                instruction, ending = (" ".join(text.split()) for text in shared)
                new = replace(old, instruction=instruction, ending=ending)
                write_choices(self.opened.folder, new)
                self.opened, choices = replace(self.opened, choices=new), (old, new)
            conflicts = self._save(changes)
            saved = tuple(change for change in changes if change.number not in conflicts)
            if saved or choices:
                self._remember(UndoStep(saved, choices))
            return conflicts

    def choose(self, numbers: Iterable[int], what: str, value: bool | int) -> None:
        """Leave out, hold out, swap or repeat pairs, in `pairs.yaml`."""
        with self.lock:
            if self.packed:
                raise DatasetError(self.packed)
            old = read_choices(self.opened.folder)
            opened = choose(self.opened, numbers, what, value)
            if opened.choices != old:
                self._remember(UndoStep(choices=(old, opened.choices)))
            swapped = opened.choices.swapped != self.opened.choices.swapped
            self.opened = opened
            if swapped:
                self.look_again()
            else:
                self.pairs = [decided(pair, opened.choices) for pair in opened.pairs]

    def undo(self) -> tuple[Change, ...]:
        """Undo the last step; returns its captions as they are now.

        Raises ConflictError for captions that another program has changed since, and DatasetError
        if nothing is left to undo.
        """
        with self.lock:
            if not self.steps:
                raise DatasetError(say("There is nothing to undo."))
            step = self.steps.pop()
            if step.choices:
                before, after = step.choices
                if read_choices(self.opened.folder) != after:
                    raise DatasetError(say("pairs.yaml was changed by something else."))
                write_choices(self.opened.folder, before)
                self.look_again()
            back = tuple(Change(each.number, each.after, each.before) for each in step.changes)
            if conflicts := self._save(back) if back else {}:
                raise ConflictError(conflicts)
            return back

    def answer(self, key: str, text: str, problem: str) -> None:
        """Keep what a captioner said of a pair, whatever its number is by now."""
        with self.lock:
            if key in self.opened.keys:
                number = self.opened.keys.index(key)
                if problem:
                    self.asking.problems[number] = problem
                else:
                    self.asking.texts[number] = text

    # ---- on disk ---------------------------------------------------------------------------

    def _save(self, changes: Sequence[Change]) -> dict[int, str]:
        """Write captions whose files are unchanged; returns those that have changed, by number."""
        self._require_writable()
        self._gather()
        conflicts = {}
        sharing: dict[Path, list[int]] = {}
        for number, pair in enumerate(self.pairs):
            sharing.setdefault(pair.target, []).append(number)
        for change in changes:
            pair = self.pairs[change.number]
            found = on_disk(pair, self.captions[change.number])
            if found == change.after:
                pass
            elif found != change.before:
                conflicts[change.number] = found
                self.captions[change.number] = found
                continue
            else:
                write_caption(pair.target, change.after, self.backup)
            for number in sharing[pair.target]:
                self.captions[number] = change.after
        return conflicts

    def _gather(self) -> None:
        """Copy captions beside the controls to the targets: once a target has one, they are no
        longer read."""
        if any(text_beside(pair.target) for pair in self.pairs):
            return
        for pair, caption in zip(self.pairs, self.captions, strict=True):
            if caption and any(text_beside(control) for control in pair.controls):
                write_caption(pair.target, caption, self.backup)

    def _require_writable(self) -> None:
        if self.unwritable:
            raise DatasetError(self.unwritable)

    def _remember(self, step: UndoStep) -> None:
        self.steps = [*self.steps, step][-MOST_STEPS:]


def joined(instruction: str, description: str, ending: str) -> str:
    """The caption as it is read back from its file."""
    return caption_of(compose_caption("", instruction, description, ending))


def digest(changes: Sequence[Change]) -> str:
    """Equal for equal changes, so that exactly what was agreed to is saved."""
    rows = [(change.number, change.before, change.after) for change in changes]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def text_beside(picture: Path) -> Path | None:
    """The caption file beside a picture; None if there is none."""
    files = (picture.with_suffix(suffix) for suffix in CAPTION_SUFFIXES)
    return next((file for file in files if file.is_file()), None)


def on_disk(pair: Pair, known: str) -> str:
    """The caption beside a target; without one, what is `known` from elsewhere."""
    file = text_beside(pair.target)
    return read_captions([file])[0].get(file, known) if file else known
