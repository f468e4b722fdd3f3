"""A training run described in YAML: a file written by hand, or the run.yaml of a run.

By hand it is short; everything left out has its default:

    name: my_edit
    model:                # or `model: demo`
      diffusion_model: flux1-dev-kontext_fp8_scaled.safetensors
      text_encoders: [clip_l.safetensors, t5xxl_fp8_e4m3fn_scaled.safetensors]
      vae: ae.safetensors
    pairs:
      control_folder: before
      target_folder: after
    config:
      steps: 2000
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ...dataset.image import open_rgb
from ...dataset.load import (
    SKIP,
    TOGETHER,
    LoadedPairs,
    PairSource,
    SourcePairs,
    find_pairs,
    split_pairs,
)
from ...dataset.pair import PairedDataset
from ...dataset.quick import doubts
from ...dataset.records import json_lines, pair_rows, read_records
from ...dataset.split import HOLDOUT
from ...files import storing, write_atomically
from ...language import say
from .. import host
from ..config import TrainConfig
from ..files import save_tensors
from ..host import demo
from ..host import files as host_files
from .job_values import (
    SAMPLE_NUMBERS,
    JobError,
    read_samples,
    read_source,
    read_start,
    read_whole,
    require_known,
)
from .name import checked_name
from .run import Run

KEYS = {"name", "model", "pairs", "config", "start", "samples", "epochs", "save_every_epochs"}
MODEL_KEYS = {"diffusion_model", "weight_dtype", "text_encoders", "vae", "checkpoint"}


@dataclass(frozen=True)
class SamplePlan:
    """What to sample while a run trains, and how often: every prompt on every control.

    Without controls, those of the first `most` held-out pairs, or of training pairs if none is held
    out; without prompts, the captions of these pairs. `every` 0 is at each checkpoint.
    """

    prompts: tuple[str, ...] = ()
    controls: tuple[Image.Image, ...] = ()
    every: int = 0
    seed: int = 0
    steps: int = 20
    most: int = 4


@dataclass(frozen=True)
class Places:
    """The folders that a job's relative paths are looked for in, in order; `scratch` holds what is
    made on the way, such as unpacked archives."""

    folders: tuple[Path, ...]
    scratch: Path

    def find(self, text: str) -> Path:
        """The path a user wrote; in the first folder if it is in none."""
        path = Path(text.strip()).expanduser()
        found = (folder / path for folder in self.folders if (folder / path).exists())
        return next(found, self.folders[0] / path)


@dataclass(frozen=True)
class Job:
    """One training run to do. `model` is "demo" or names the files, `pairs` the folders.

    `start` is a LoRA's file, cut down to the run's rank with `resize_start`. `epochs` 0 means that
    `config.steps` counts; `save_every_epochs` likewise. `samples` are the fields of a SamplePlan,
    controls by their files; empty, the first held-out pair is shown.
    """

    name: str
    model: str | Mapping[str, Any]
    pairs: Sequence[Mapping[str, Any]]
    config: TrainConfig = TrainConfig()
    start: str = ""
    resize_start: bool = False
    epochs: int = 0
    save_every_epochs: int = 0
    base_hash: str = field(default="", compare=False)
    samples: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> Job:
        """A job from a file's content. Raises JobError or ConfigError, naming what is wrong."""
        if "base_hash" not in content:  # a run notes more in its own file
            require_known(say("The file"), content, KEYS)
        sources = content.get("pairs") or []
        sources = sources if isinstance(sources, list) else [sources]
        sources = [{"control_folder": s} if isinstance(s, str) else s for s in sources]
        if not sources:
            raise JobError(say("`pairs` is missing: name control_folder and target_folder there."))
        several = len(sources) > 1
        sources = [
            read_source(f"pairs[{number}]" if several else "pairs", source)
            for number, source in enumerate(sources, 1)
        ]
        model = content.get("model") or {}
        if model != "demo":
            require_known("model", model, MODEL_KEYS)
        start = read_start(content.get("start") or "")
        return cls(
            checked_name(str(content.get("name") or "")),
            model,
            sources,
            TrainConfig.parse(content.get("config") or {}),
            start.get("file", ""),
            start.get("resize", False),
            read_whole("epochs", content.get("epochs") or 0),
            read_whole("save_every_epochs", content.get("save_every_epochs") or 0),
            str(content.get("base_hash") or ""),
            read_samples(content.get("samples") or {}),
        )

    def content(self) -> dict[str, Any]:
        """The inverse of `parse`, without default settings and empty entries."""
        plain = asdict(TrainConfig())
        settings = {k: v for k, v in asdict(self.config).items() if v != plain[k]}
        sources = [dict(source) for source in self.pairs]
        parts = {
            "name": self.name,
            "model": self.model if self.model == "demo" else dict(self.model),  # type: ignore[arg-type]
            "pairs": sources[0] if len(sources) == 1 else sources,
            "start": written_start(self.start, self.resize_start),
            "epochs": self.epochs,
            "save_every_epochs": self.save_every_epochs,
            "samples": dict(self.samples),
            "config": settings,
        }
        return {key: value for key, value in parts.items() if value}

    def load_pairs(self, places: Places) -> tuple[PairedDataset, tuple[str, ...]]:
        """All pairs, held out as asked, and what the user should know about them.

        A picture that several sources have is held out in all of them or in none.
        """
        loaded = [found_in(source, places) for source in self.pairs]
        sources = [
            # the records of a run contain its hold-out
            SourcePairs(found.dataset.pairs, 0 if "file" in each else each.get("holdout", HOLDOUT))
            for each, found in zip(self.pairs, loaded, strict=True)
        ]
        pairs, warnings = split_pairs(sources, places.scratch / "hashes.json")
        notes = [note for found in loaded for note in found.notes]
        made = [doubt for found in loaded for doubt in found.dataset.doubts]
        dataset = PairedDataset(pairs, tuple(made))
        return dataset, (*(f"⚠ {doubt}" for doubt in doubts(dataset)), *notes, *warnings)

    def sample_plan(self, places: Places) -> SamplePlan | None:
        """The samples to make during training; None if the file names none. Reads the controls."""
        if not self.samples:
            return None
        files = [places.find(name) for name in self.samples.get("controls", ())]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise JobError(
                say(
                    "samples: there is no {files}, which `controls` names.",
                    files=", ".join(missing),
                )
            )
        return SamplePlan(**{**self.samples, "controls": tuple(map(open_rgb, files))})

    def settled(self, pairs: PairedDataset) -> TrainConfig:
        """The settings, with epochs as steps."""
        config = self.config
        views = (2 if config.flip else 1) * len(config.sides)  # of each pair, in an epoch
        counted = sum(pair.repeats for pair in pairs.train) * views
        per_epoch = math.ceil(counted / (config.batch_size * config.accumulate))
        if self.epochs:
            config = config.replace(steps=self.epochs * per_epoch)
        if self.save_every_epochs:
            config = config.replace(save_every=self.save_every_epochs * per_epoch)
        return config


def write_job(
    run: Run,
    base: host.Base,
    pairs: PairedDataset,
    start: Mapping[str, Tensor] | None,
    plan: SamplePlan | None = None,
    resize_start: bool = False,
) -> None:
    """Add everything to the run's run.yaml that repeating it from a terminal needs.

    Pairs go into dataset.jsonl beside it, with their present captions and split, and the pictures
    to sample from into sample_controls.
    """
    content = run.file.read()
    model: Any = host_files.model_files(base)
    name = model.get("diffusion_model")
    rows, folder = pair_rows(pairs)
    job = {
        "model": "demo" if name and Path(name).parent == demo.FOLDER else model,
        "pairs": {"file": "dataset.jsonl", "folder": folder},
    }
    if start:
        save_tensors(start, run.folder / "start.safetensors")
        job["start"] = written_start("start.safetensors", resize_start)
    content.pop("samples", None)  # of an earlier start, which may have had another plan
    if plan:
        job["samples"] = written_samples(plan, run)
    write_atomically(run.folder / "dataset.jsonl", json_lines(rows))
    config = content.pop("config")
    run.file.write({**content, **job, "config": config})


def written_samples(plan: SamplePlan, run: Run) -> dict[str, Any]:
    """The plan as a job's `samples`; writes its controls."""
    names = [f"sample_controls/{number}.png" for number in range(1, len(plan.controls) + 1)]
    for name, picture in zip(names, plan.controls, strict=True):
        path, content = run.folder / name, io.BytesIO()
        picture.save(content, "png")
        with storing(path):
            path.parent.mkdir(exist_ok=True)
        write_atomically(path, content.getvalue())
    numbers = {name: getattr(plan, name) for name in SAMPLE_NUMBERS}
    return {"prompts": list(plan.prompts), "controls": names, **numbers}


def found_in(source: Mapping[str, Any], places: Places) -> LoadedPairs:
    """The pairs of one entry of `pairs`, with notes; held out are only those it marks itself."""
    if "file" in source:
        folder = places.find(source.get("folder", "."))
        return LoadedPairs(PairedDataset(read_records(places.find(source["file"]), folder)), ())
    single = source.get("pictures_folder", "")
    controls = (single or source.get("control_folder", "")).split("|")
    target, masks = source.get("target_folder", ""), source.get("mask_folder", "")
    found = find_pairs(
        PairSource(
            control="|".join(str(places.find(part)) for part in controls if part.strip()),
            target=str(places.find(target)) if target else "",
            base=places.folders[0],
            scratch=places.scratch / "unpacked",
            pattern=source.get("pattern", ""),
            together=source.get("several_controls") == TOGETHER,
            skip_unmatched=source.get("unmatched") == SKIP,
            masks=str(places.find(masks)) if masks else "",
            single=bool(single),
        ),
        source.get("default_caption", ""),
    )
    repeats, trigger = source.get("repeats", 1), source.get("trigger", "")
    pairs = tuple(
        replace(pair, repeats=pair.repeats * repeats, caption=with_trigger(pair.caption, trigger))
        for pair in found.dataset
    )
    return LoadedPairs(replace(found.dataset, pairs=pairs), found.notes)


def with_trigger(caption: str, trigger: str) -> str:
    """The caption with the trigger word where it says [trigger], else before it, as ai-toolkit
    has it. Without a trigger word as it is."""
    if not trigger:
        return caption
    worded = caption.replace("[trigger]", trigger).replace("[name]", trigger)
    return worded if trigger in worded else f"{trigger}, {worded}".removesuffix(", ")


def written_start(file: str, resize: bool) -> str | dict[str, Any]:
    return {"file": file, "resize": True} if resize else file
