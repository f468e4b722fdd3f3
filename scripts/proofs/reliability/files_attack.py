"""Pictures, archives, LoRAs, tables, settings and manifests with flipped bits, cuts and more.

Each is opened by all that opens such files. What may come of it: it is read, or an error of ours
that names the file, in a second and without a gigabyte.
"""

from __future__ import annotations

import io
import json
import random
import resource
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from ground import Ground, Tally, digests
from kontext.command.foreign.read import read_files
from kontext.dataset.archive import unpack
from kontext.dataset.captions import read_captions
from kontext.dataset.image import (
    oddities,
    open_grey,
    open_rgb,
    picture_size,
    readable_suffixes,
    thumbnail,
)
from kontext.dataset.metadata import table_content
from kontext.dataset.pair import DatasetError
from kontext.dataset.table import read_table
from kontext.evaluation.compare.comparison import Comparison, ComparisonError
from kontext.evaluation.compare.vote import Ballot
from kontext.evaluation.pictures.samples import noted_in
from kontext.evaluation.score.heldout import LossFile
from kontext.evaluation.score.outcome import outcome_of
from kontext.files import DamagedFileError
from kontext.trainer import host
from kontext.trainer.config import ConfigError
from kontext.trainer.files import LoraError
from kontext.trainer.runs.checkpoint import Checkpoint
from kontext.trainer.runs.identity import RunError
from kontext.trainer.runs.job import JobError
from pack_tests.compared import put_comparison
from PIL import Image

OURS = (
    DatasetError, LoraError, DamagedFileError, RunError, ComparisonError, JobError, ConfigError,
)  # fmt: skip
SECONDS, MEMORY = 5.0, 2**30
WRITTEN = set(".png .jpg .webp .tiff .gif .bmp .avif .qoi .tga .ppm .jp2".split())
CASES = {
    "pictures": 4000, "archives": 4100, "LoRA files": 2000, "manifests": 1600, "tables": 600,
    "captions": 400, "settings": 600,
}  # fmt: skip
Opener = Callable[[Path], Any]


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One of eight kinds of damage, at a random place."""
    place = chance.randrange(len(content) + 1)
    end = min(len(content), place + chance.choice((1, 2, 8, 64, 4096)))
    kind = chance.randrange(8)
    if kind == 0:  # a bit
        flipped = bytearray(content)
        flipped[place % len(content)] ^= 1 << chance.randrange(8)
        return bytes(flipped)
    if kind == 1:  # many bits
        flipped = bytearray(content)
        for _ in range(chance.choice((4, 40))):
            flipped[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        return bytes(flipped)
    middle = {
        2: b"",  # a hole
        3: b"\0" * (end - place),  # NULs, as after a power cut
        4: b"\xff" * (end - place),
        5: chance.randbytes(end - place),
        6: content[place:end] * chance.choice((2, 50)),  # repeated
    }
    return content[:place] + (middle[kind] + content[end:] if kind in middle else b"")  # cut


def seeds(folder: Path) -> Iterator[tuple[str, str, list[bytes], list[Opener]]]:
    """Kind of file, its name, whole ones, and what opens it."""
    chance = np.random.default_rng(0)
    picture = Image.fromarray(chance.integers(0, 255, (24, 32, 3), dtype=np.uint8))
    looks: list[Opener] = [open_rgb, open_grey, picture_size, oddities]
    looks += [lambda path: thumbnail(path, 16), lambda path: noted_in(path, "kontext_sample")]
    for suffix in sorted(readable_suffixes() & WRITTEN):
        whole = []
        for mode in ("RGB", "P") if suffix in (".png", ".gif", ".tiff") else ("RGB",):
            packed = io.BytesIO()
            packed.name = f"a{suffix}"
            try:
                picture.convert(mode).save(packed)
            except (KeyError, OSError):  # a format that is only read here
                continue
            whole.append(packed.getvalue())
        if whole:
            yield "pictures", f"ring{suffix}", whole, looks

    def packed_as(method: int) -> bytes:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive:
            for name in ("before/1.png", "after/1.png", "after/1.txt", "后/戒指.txt"):
                archive.writestr(name, b"\x89PNG\r\n\x1a\n" + b"polish the ring " * 20)
        return packed.getvalue()

    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    scratch = folder / "scratch"
    yield (
        "archives",
        "pairs.zip",
        [packed_as(m) for m in methods],
        [lambda path: (unpack(path, scratch), shutil.rmtree(scratch))],
    )

    layer = "lora_unet_single_blocks_0_linear1"
    tensors = {f"{layer}.lora_{part}.weight": torch.ones(4, 4) for part in ("up", "down")}
    tensors[f"{layer}.alpha"] = torch.tensor(4.0)
    lora = safetensors.torch.save(tensors, {"ss_steps": "4"})
    pickled = io.BytesIO()
    torch.save(tensors, pickled)
    yield "LoRA files", "ring.safetensors", [lora], [
        host.load_lora_file, lambda path: Checkpoint(4, path).damage
    ]  # fmt: skip
    yield "LoRA files", "ring.pt", [pickled.getvalue()], [host.load_lora_file]

    identity = put_comparison(folder / "run", steps=(500,))
    manifest = (folder / "run" / "comparisons" / f"{identity}.json").read_bytes()

    def compared(path: Path) -> None:
        shutil.copy(path, folder / "run" / "comparisons" / f"{identity}.json")
        made = Comparison.read(folder / "run", identity)
        for row in range(len(made.rows)):
            made.picture(folder / "run", row, 0)

    def scored(path: Path) -> None:
        (folder / "run" / "scores").mkdir(exist_ok=True)
        shutil.copy(path, folder / "run" / "scores" / "scores.json")
        outcome_of(folder / "run")

    names = {"verdict": "good", "gain": 0.1, "gain_low": None, "gain_high": 0.2}
    scores = {"best": "a.safetensors", "best_strength": 1.0, "note": "",
              "checkpoints": [{"file": "a.safetensors", **names}]}  # fmt: skip
    vote = {"row": "a", "left": "b", "right": "c", "choice": "left", "time": "2026"}
    yield "manifests", "comparison.json", [manifest], [compared]
    yield "manifests", "scores.json", [json.dumps(scores).encode()], [scored]
    yield (
        "manifests",
        "votes.jsonl",
        [(json.dumps(vote) + "\n").encode() * 5],
        [lambda path: Ballot(path).votes(["b", "c"])],
    )
    losses = json.dumps({"key": "a", "label": "b", "losses": [[1.0, 2.0]]}) + "\n"
    yield "manifests", "losses.jsonl", [losses.encode() * 3], [LossFile]

    table = b"file_name,control,text,split\n" + b'a.png,"b.png","Polish, it.",train\n' * 4
    rows = b'{"file_name": "a.png", "control": ["b.png"], "text": "Polish it."}\n' * 4
    read: list[Opener] = [read_table, lambda path: table_content(path, [])]
    yield "tables", "metadata.csv", [table], read
    yield "tables", "metadata.jsonl", [rows], read
    yield (
        "captions",
        "ring.json",
        [b'{"caption": ["Polish", "it"]}'],
        [lambda path: read_captions([path])],
    )
    yield (
        "captions",
        "ring.txt",
        ["Polish it. 抛光戒指".encode(), "抛光".encode("utf-16")],
        [lambda path: read_captions([path])],
    )
    ours = b"name: ring\nmodel: demo\npairs: {folder: pairs}\nconfig: {steps: 5, rank: 4}\n"
    theirs = b"[general]\nseed = 1\n[[datasets]]\nresolution = [512, 512]\nnum_repeats = 2\n"
    script = b"export A=1\npython flux_train_network.py --max_train_steps 5 \\\n --network_dim $A\n"
    for name, content in (("run.yaml", ours), ("set.toml", theirs), ("train.sh", script)):
        yield "settings", name, [content], [lambda path: read_files([path])]


def attack(ground: Ground) -> list[Tally]:
    tallies: dict[str, Tally] = {}
    folder, chance = ground.place(), random.Random(0)
    kinds = list(seeds(folder))
    for kind, name, whole, openers in kinds:
        tally = tallies.setdefault(kind, Tally(f"damaged {kind}"))
        of_kind = sum(other == kind for other, *_ in kinds)
        path, before = folder / name, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(-(-CASES[kind] // of_kind)):
            path.write_bytes(damaged(whole[number % len(whole)], chance))
            started, outcome, wrong = time.process_time(), "read", ""
            for opener in openers:
                try:
                    opener(path)
                except OURS as error:
                    outcome = "refused by name"
                    if not str(error):
                        wrong = f"{name} {number}: an error without words"
                except Exception as error:
                    wrong = f"{name} {number}: {type(error).__name__}: {error}"
                    shutil.copy(path, Path(tempfile.gettempdir(), f"wrong_{number}_{name}"))
            if time.process_time() - started > SECONDS:
                wrong = f"{name} {number}: took {time.process_time() - started:.0f} s"
            tally.note(outcome, wrong)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown * 1024 > MEMORY:
            tally.wrong.append(f"{name}: {grown >> 10} MB")
    ground.outside[ground.folder / "pairs"] = digests(ground.folder / "pairs")
    return list(tallies.values())
