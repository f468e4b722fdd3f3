"""Training a LoRA on the loaded weights."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from ..dataset.pair import DatasetError, Pair, PairedDataset
from . import host, parallel
from .batches import Batches, EncodedPair, load_batch, seeded
from .cache import Cache
from .config import TrainConfig
from .flow import draw_quantiles, sigma_quantiles
from .holdout import MOST_PAIRS
from .objective import sample_losses
from .optimizers import check_optimizer
from .preview import Preview
from .run import Identity, Run, RunError
from .session import Session


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
) -> Run:
    """Train a LoRA on `pairs.train`, saving checkpoints under `output` as it goes.

    A run of this name that was cancelled or killed is continued from its last checkpoint, one
    that has finished is returned as it is; both must have been made from the same pairs, model and
    settings. Raises BaseModelError, DatasetError, RunError, StorageError, TrainingError, and
    Interrupted (after saving) when the user cancels. `replace` deletes a run that was made from
    something else; `start` is a LoRA to begin with, in kohya's or ComfyUI's names.
    """
    host.without_object_patches(base.model)
    host.check_base(base)
    check_optimizer(config)
    parallel.check_batch(config)
    if not pairs.train:
        raise DatasetError("There is no pair to train on: all are held out. Lower `holdout`.")
    config = config.settled(len(pairs.train), host.is_full_model(base))
    start_hash = host.fingerprint(start) if start else ""
    identity = Identity(config, host.base_hash(base.model), pairs.digest(), start_hash)
    run = shared_run(name, output, identity, replace)
    if run.finished:
        return run

    progress = host.Progress(config.steps, node_id)
    cache = Cache(cache_folder, base, config)
    views = [*product(pairs.train, (False, True) if config.flip else (False,))]
    with torch.inference_mode():
        encoded = encode_all(cache, views, progress)
        held_out = encode_all(cache, [*product(pairs.holdout[:MOST_PAIRS], (False,))], progress)
        blank = cache.encode_text("")
        shows = config.preview_steps and parallel.is_first()
        shown = (pairs.holdout or pairs.train)[0]
        preview = Preview(base, cache, shown, run) if shows else None
    repeats = [pair.repeats for pair, _ in views]
    batches = Batches(encoded, repeats, config.batch_size, config.seed)
    longest = -(-config.batch_size // parallel.processes()) * max(batches.tokens())
    session = Session(base, run, identity, longest, held_out, start)
    while not run.finished:
        try:
            with session.running():
                fit(session, batches, blank, progress, preview)
            parallel.wait()  # until the first process has saved the last step
        except host.OutOfMemory:
            if not session.spare_memory():
                raise
            progress.say(f"out of memory at step {session.done + 1}: computing activations twice")
    return run


def shared_run(name: str, output: Path, identity: Identity, replace: bool) -> Run:
    """`Run.create` by the first process; the others open its run, made from the very same."""
    if parallel.is_first():
        run = Run.create(name, output, identity, replace)
    parallel.wait()
    if not parallel.is_first():
        run = Run.open(name, output)
        changed = run.identity().differences(identity)
        if changed:
            raise RunError(f"Process {parallel.rank()} has {'; '.join(changed.values())}.")
    return run


def encode_all(
    cache: Cache, views: Sequence[tuple[Pair, bool]], progress: host.Progress
) -> list[EncodedPair]:
    """Encode pairs, mirrored where the flag says so: all images first, then all captions, so that
    the VAE and the text encoders are loaded once. Several processes share the work."""
    share = parallel.mine(views)
    steps, count = cache.config.steps, len(share)
    for number, (pair, flip) in enumerate(share, start=1):
        progress.update(0, f"{steps} steps to come · encoding picture {number} of {count}")
        cache.encode_images(pair, flip)
    encoded = []
    for number, (pair, flip) in enumerate(share, start=1):
        progress.update(0, f"{steps} steps to come · encoding caption {number} of {count}")
        encoded.append(cache.encode(pair, flip))
    parallel.wait()
    # what the others have encoded is on disk now, and only looked up
    return encoded if share == views else [cache.encode(pair, flip) for pair, flip in views]


def fit(
    session: Session,
    batches: Batches,
    blank: Path,
    progress: host.Progress,
    preview: Preview | None,
) -> None:
    """The training loop, from where the session stands to its last step."""
    config, device = session.config, session.device
    pace = Pace(session.done, config.steps)
    while session.done < config.steps:
        # draw: which pairs, how noisy, which noise. All from (seed, step) alone, so that a
        # continued run draws what an unbroken one would have drawn
        step = session.done
        generator = seeded(config.seed, step, "step")
        groups = [batches.at(step * config.accumulate + i) for i in range(config.accumulate)]
        sizes = [len(group) for group in groups]
        quantiles = draw_quantiles(sum(sizes), generator).split(sizes)
        dropped = torch.rand((), generator=generator) < config.caption_dropout
        blind = torch.rand((), generator=generator) < config.reference_dropout

        # learn: the velocity loss of this process's share of each group, and its gradients
        loss, shares = 0.0, parallel.shares(sizes)
        for group, quantile, share in zip(groups, quantiles, shares, strict=True):
            noise = torch.randn(len(group), *group[0].shape[0][1:], generator=generator)
            if not share:
                continue
            noise, quantile = noise[share].to(device), quantile[share]
            batch = load_batch([group[i] for i in share], blank if dropped else None, device)
            if blind:
                batch = dataclasses.replace(batch, references=())
            sigma = sigma_quantiles(quantile, config, batch.target_tokens).to(device)
            losses = sample_losses(session.flux, batch, sigma, noise, config, session.dtype)
            group_loss = losses.sum() / sum(sizes)
            session.learner.backward(group_loss)
            loss += group_loss.item()
        loss = parallel.add_up(session.lora.parameters(), loss)
        norm = session.learner.gradient_norm()
        if session.learner.exploded(loss, norm):
            session.roll_back(loss)
            progress.say(f"loss {loss:.3g}: back to step {session.done}, half the learning rate")
            continue
        session.learner.update(step)
        session.done = done = step + 1

        # report, and every so often test, save and show
        saving = done % config.save_every == 0 or done == config.steps
        testing = done % config.validate_every == 0 if config.validate_every else saving
        pace.tick(done)
        entry = {
            "step": done,
            "loss": loss,
            "learning_rate": session.learner.learning_rate(step),
            "grad_norm": norm if math.isfinite(norm) else None,
            "seconds": round(pace.seconds, 3),
            "memory": host.peak_bytes(device),
            **(session.validate() if testing else {}),
        }
        session.log(entry)
        progress.update(done, f"step {done}/{config.steps} · loss {loss:.3f} · {pace.left()}")
        if saving:
            session.save()
            if preview:
                progress.update(done, preview=session.preview(preview))


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
