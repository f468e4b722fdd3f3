"""Which pictures are versions of one another, by perceptual hash."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..files import DamagedFileError, file_mark, read_json, write_atomically
from .image import read_all, thumbnail
from .pair import Pair

SAME, NEAR = 6, 12
"""Hamming distances of 64-bit perceptual hashes: the same picture; perhaps a version of it."""

HASH = re.compile("[0-9a-f]{16}")

LOOKED_AT = 2000
"""Sets up to this size are grouped by appearance; larger ones by shared files alone."""


class HashStore:
    """Perceptual hashes of files, kept in one small file so that each is decoded once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, str] = {}
        try:
            known = read_json(path, {}, "Every picture is looked at again.")
            self.known = {mark: text for mark, text in known.items() if HASH.fullmatch(str(text))}
        except DamagedFileError as error:
            logging.warning("%s", error)

    def hashes(self, paths: Iterable[Path]) -> dict[Path, int]:
        """64-bit hash of every path; decodes those that are new or have changed."""
        import imagehash

        marks = {path: file_mark(path) for path in paths}
        fresh = {mark: path for path, mark in marks.items() if mark not in self.known}
        made = read_all(fresh.values(), lambda path: str(imagehash.phash(thumbnail(path, 256))))
        self.known |= {mark: made[path] for mark, path in fresh.items()}
        if fresh:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps(self.known).encode("utf-8", "surrogatepass")
            write_atomically(self.path, content)
        return {path: int(self.known[mark], 16) for path, mark in marks.items()}


def distances(hashes: Sequence[int]) -> np.ndarray:
    """[N, N] Hamming distances of 64-bit hashes."""
    signs = _signs(hashes)
    return np.rint((64 - signs @ signs.T) / 2).astype(np.uint8)


def near_pairs(
    first: Sequence[int], second: Sequence[int], within: int, rows: int = 128
) -> Iterator[tuple[int, int]]:
    """Indices i < j whose hashes differ by at most `within` bits in `first` or in `second`.

    Compares `rows` of them with all others at a time: memory grows with their number, not with
    its square.
    """
    sides = [_signs(hashes) for hashes in (first, second)]
    for start in range(0, len(first), rows):
        nearest = np.maximum(*(side[start : start + rows] @ side.T for side in sides))
        for i, j in np.argwhere(nearest >= 64 - 2 * within):
            if start + i < j:
                yield int(start + i), int(j)


def _signs(hashes: Sequence[int]) -> np.ndarray:
    """[N, 64] of ±1: the product of two rows is 64 − 2 × their Hamming distance."""
    bits = np.unpackbits(np.array(hashes, np.uint64).view(np.uint8).reshape(-1, 8), axis=1)
    return bits.astype(np.float32) * 2 - 1


def alike(pairs: Sequence[Pair], store: HashStore) -> list[tuple[int, int]]:
    """Indices of pairs made from the same picture: one side the same, or both sides near."""
    found = store.hashes(path for pair in pairs for path in (*pair.controls[:1], pair.target))
    targets = distances([found[pair.target] for pair in pairs])
    controls = distances([found[(*pair.controls, pair.target)[0]] for pair in pairs])
    close = np.minimum(targets, controls) <= SAME
    close |= np.maximum(targets, controls) <= NEAR
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(close, 1))]


def source_groups(pairs: Sequence[Pair], store: HashStore) -> dict[str, str]:
    """Stem → name of its source picture: pairs that share a file, or look alike."""
    groups = Groups(pair.stem for pair in pairs)
    first_use: dict[Path, str] = {}
    for pair in pairs:
        for path in (*pair.controls, pair.target):
            groups.join(pair.stem, first_use.setdefault(path, pair.stem))
    if len(pairs) <= LOOKED_AT:
        for i, j in alike(pairs, store):
            groups.join(pairs[i].stem, pairs[j].stem)
    return {pair.stem: groups.root(pair.stem) for pair in pairs}


class Groups:
    """Union-find over names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.parent = {name: name for name in names}

    def root(self, name: str) -> str:
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self.parent[second] = first
