"""The data sets that nodes have read, by id, so that a page can name one without its path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from threading import Lock

from ..files import read_json, write_atomically
from ..language import say
from .access import AccessError
from .files import resolve
from .load import PairSource
from .pair import DatasetError

MOST = 200
FIELDS = ("control", "target", "pattern", "together", "masks", "single")
_writing = Lock()


class Register:
    """A small JSON file of sources, the latest last. Relative paths are below `base`."""

    def __init__(self, file: Path, base: Path, scratch: Path) -> None:
        self.file, self.base, self.scratch = file, base, scratch

    def remember(self, source: PairSource) -> str:
        """The id of a source; the same one each time."""
        row = {name: getattr(source, name) for name in FIELDS}
        content = json.dumps(row, sort_keys=True).encode("utf-8")
        identity = hashlib.sha256(content).hexdigest()[:12]
        with _writing:
            rows = self._rows()
            if list(rows)[-1:] != [identity]:
                rows.pop(identity, None)
                rows[identity] = row
                latest = dict(list(rows.items())[-MOST:])
                self.file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.file, json.dumps(latest, indent=1).encode("utf-8"))
        return identity

    def recall(self, identity: str) -> PairSource:
        """The source of an id. AccessError if it is unknown, or may not be read."""
        source = self._source(self._rows().get(identity))
        if source is None:
            raise AccessError(say("This data set is no longer known. Run its Load node again."))
        return source

    def known(self) -> dict[str, PairSource]:
        """All sources that this client may read, the latest first."""
        sources = {name: self._source(row) for name, row in reversed(self._rows().items())}
        return {name: source for name, source in sources.items() if source}

    def _source(self, row: object) -> PairSource | None:
        """The source of a row; None for an invalid row, or one that may not be read."""
        if not isinstance(row, dict) or row.keys() != set(FIELDS):
            return None
        texts = [row[name] for name in ("control", "target", "pattern", "masks")]
        switches = [row[name] for name in ("together", "single")]
        if not all(isinstance(text, str) for text in texts) or not all(
            isinstance(switch, bool) for switch in switches
        ):
            return None
        control, target, pattern, masks = map(str, texts)
        together, single = map(bool, switches)
        try:
            for place in (*control.split("|"), target, masks):
                if place.strip():
                    resolve(place, self.base)
        except DatasetError:
            return None
        return PairSource(
            control, target, self.base, self.scratch, pattern, together, True, masks, single
        )

    def _rows(self) -> dict[str, object]:
        return read_json(self.file, {}, say("Remove it, and run the Load node again."))
