"""Training a LoRA on the loaded weights."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..dataset.pair import DatasetError, PairedDataset
from . import host, parallel
from .config import TrainConfig
from .data.cache import Cache
from .data.encode import encode_dataset
from .data.prefetch import Ahead
from .loss.objective import sample_losses
from .loss.preserve import Preservation, require_off_task
from .network.matmul8 import check_device
from .optimizers import check_optimizer
from .preview import Preview
from .runs.identity import identity_of
from .runs.job import SamplePlan, write_job
from .runs.rescue import bring_back
from .runs.run import Identity, Run, RunError
from .session import Session
from .watcher import Watcher


def train(
    base: host.Base,
    pairs: PairedDataset,
    config: TrainConfig,
    name: str,
    output: Path,
    cache_folder: Path,
    replace: bool = False,
    start: Mapping[str, Tensor] | None = None,
    node_id: str | None = None,
    watcher: Watcher | None = None,
    samples: SamplePlan | None = None,
    rescue_places: Sequence[Path] = (),
) -> Run:
    """Train a LoRA on `pairs.train`, saving checkpoints under `output` as it goes.

    A run of this name that was cancelled or killed is continued from its last checkpoint, one
    that has finished is returned as it is; both must have been made from the same pairs, model and
    settings. Raises BaseModelError, DatasetError, RunError, StorageError, TrainingError, and
    Interrupted (after saving) when the user cancels. `replace` deletes a run that was made from
    something else; `start` is a LoRA to begin with, in kohya's or ComfyUI's names. `watcher` is
    told of every step; `samples` says what to show meanwhile. What `output` refuses is saved in one
    of `rescue_places`.
    """
    host.without_object_patches(base.model)
    host.check_base(base)
    check_optimizer(config)
    check_device(config.matmul, base.model.load_device)
    parallel.check_batch(config)
    if not pairs.train:
        raise DatasetError("There is no pair to train on: all are held out. Lower `holdout`.")
    require_off_task(config, pairs.train)
    config = config.settled(len(pairs.train), host.is_full_model(base))
    start_hash = host.fingerprint(start) if start else ""
    cache = Cache(cache_folder, base, config)
    encoders = cache.clip_hash, cache.vae_hash
    identity = identity_of(config, pairs, host.base_hash(base.model), *encoders, start_hash)
    run = shared_run(name, output, identity, replace, rescue_places)
    if parallel.is_first():
        write_job(run, base, pairs, start, samples)
    if run.finished:
        return run

    with host.computing_with(run.threads()):
        progress = host.Progress(config.steps, node_id)
        with torch.inference_mode():
            batches, held_out, blank, kept = encode_dataset(cache, pairs, progress)
            plan = samples or SamplePlan(seed=config.seed, steps=config.preview_steps, most=1)
            shows = plan.steps and parallel.is_first()
            preview = Preview(base, cache, pairs, plan, run) if shows else None
        preservation = Preservation(kept, config)
        longest = -(-config.batch_size // parallel.processes()) * max(batches.tokens())
        session = Session(base, run, identity, longest, held_out, start, rescue_places, watcher)
        for note in cache.notes():
            session.note(note)
        try:
            while session.saved < config.steps:
                try:
                    coming = Ahead(batches, blank, config, session.device)
                    with session.running(), coming as ahead:
                        fit(session, ahead, preservation, progress, preview)
                    parallel.wait()  # until the first process has saved the last step
                except host.OutOfMemory:
                    if not session.spare_memory():
                        raise
                    thrift = f"out of memory at step {session.done + 1}: {session.plan.words()}"
                    session.note(thrift)
                    progress.say(thrift)
        finally:
            if session.saved < config.steps:
                progress.say(session.standing())
    return run


def shared_run(
    name: str, output: Path, identity: Identity, replace: bool, rescue_places: Sequence[Path]
) -> Run:
    """`Run.create` by the first process; the others open its run, made from the very same."""
    if parallel.is_first():
        bring_back(name, output, identity, rescue_places)
        run = Run.create(name, output, identity, replace)
    parallel.wait()
    if not parallel.is_first():
        run = Run.open(name, output)
        changed = run.identity().differences(identity)
        if changed:
            raise RunError(f"Process {parallel.rank()} has {'; '.join(changed.values())}.")
    return run


def fit(
    session: Session,
    ahead: Ahead,
    preservation: Preservation,
    progress: host.Progress,
    preview: Preview | None,
) -> None:
    """The training loop, from where the session stands to its last step."""
    config, device = session.config, session.device
    session.try_products(ahead.batches.at(0)[0])
    session.try_compiling(ahead.batches, [ahead.blank, *preservation.texts], progress)
    pace = Pace(session.done, config.steps)
    while session.done < config.steps:
        # learn: the velocity loss of this process's share of the step, and its gradients
        step = session.done
        drawn = ahead.at(step)
        loss = 0.0
        for ready in drawn.shares:
            given = ready.batch, ready.sigma, ready.noise
            with session.lora.dropping(config.dropout, ready.share.seeds):
                losses = sample_losses(session.flux, *given, config, session.dtype)
                part = losses.sum() / drawn.samples
                session.learner.backward(part)
            loss += part.item()

        # keep: what the base makes of other instructions
        drift: dict[str, float] = {}
        if preservation.due(step) and parallel.is_first():
            pair = drawn.shares[0].share.pairs[0]
            pull = preservation.drift(session.flux, session.lora, pair, step, device, session.dtype)
            session.learner.backward(config.preserve * pull)
            drift["drift"] = pull.item()

        # step, unless the loss has exploded
        loss = parallel.add_up(session.lora.parameters(), loss)
        norm = session.learner.gradient_norm()
        if session.learner.exploded(loss, norm):
            session.roll_back(loss)
            progress.say(f"loss {loss:.3g}: back to step {session.done}, half the learning rate")
            continue
        session.step()
        done = session.done

        # report, and every so often test, save and show
        saving = done % config.save_every == 0 or done == config.steps
        testing = saving or bool(config.validate_every and done % config.validate_every == 0)
        pace.tick(done)
        entry = {
            "step": done,
            "loss": loss,
            "learning_rate": session.learner.learning_rate(step),
            "grad_norm": norm if math.isfinite(norm) else None,
            "seconds": round(pace.seconds, 3),
            "memory": host.peak_bytes(device),
            **drift,
            **(session.validate() if testing else {}),
        }
        session.log(entry)
        text = f"step {done}/{config.steps} · loss {loss:.3f} · {pace.left()}"
        progress.update(done, f"{text}\n{session.plan.words()}")
        if saving:
            session.save()
        if preview and preview.due(done, saving):
            progress.update(done, preview=session.preview(preview, progress))
        if saving:
            session.watcher.saved()


class Pace:
    """How long steps take."""

    def __init__(self, done: int, steps: int) -> None:
        self.first = self.done = done
        self.steps, self.started, self.seconds = steps, time.monotonic(), 0.0

    def tick(self, done: int) -> None:
        self.done, self.seconds = done, time.monotonic() - self.started

    def left(self) -> str:
        per_step = self.seconds / max(1, self.done - self.first)
        minutes, seconds = divmod(round(per_step * (self.steps - self.done)), 60)
        return f"{per_step:.2f} s/step · {minutes}:{seconds:02} left"
