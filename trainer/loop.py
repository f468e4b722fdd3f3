"""Training a LoRA on the loaded weights."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext

import torch

from ..dataset.pair import DatasetError
from ..dataset.quick import doubts, require_sound
from ..files import storing
from ..language import say
from . import host, parallel
from .data.cache import Cache
from .data.encode import encode_dataset
from .data.prefetch import Prefetch
from .data.sizes import too_small
from .families import family_of, recognise
from .loss.objective import sample_losses
from .loss.preserve import Preservation, require_off_task
from .network.matmul8 import check_device
from .optimizers import check_optimizer
from .preview import Preview
from .request import TrainingRequest
from .runs.ending import ending_of
from .runs.identity import Identity, RunError, identity_of
from .runs.job import SamplePlan, write_job
from .runs.lock import Lock, holding
from .runs.rescue import bring_back
from .runs.run import DIVERGED, Run
from .session import Session


def train(request: TrainingRequest) -> Run:
    """Train a LoRA on the pairs of `request`, saving checkpoints as it goes.

    A run of this name that was cancelled or killed is resumed from its last checkpoint; a finished
    one is returned as it is. Both must have been made from the same pairs, model and settings.
    Raises BaseModelError, ConfigError, DatasetError, RunError, StorageError,
    LockedError, TrainingError, and Interrupted (after saving) when the user cancels.
    """
    host.require_names()
    check(request)
    run = Run(request.name, request.output)
    with holding(run.folder, run.name) if parallel.is_first() else nullcontext() as lock:
        return train_locked(request, lock)


def train_locked(request: TrainingRequest, lock: Lock | None) -> Run:
    """Train while this run's lock is held; under torchrun the first process holds it."""
    base, pairs, samples = request.base, request.pairs, request.samples
    family = family_of(base.model)
    config = request.config.settled(len(pairs.train), family.full_size, len(pairs.holdout))
    cache = Cache(request.cache_folder, base, config)
    identity = identify(request, cache)
    run = shared_run(request, identity)
    run.lock = lock
    if parallel.is_first():
        write_job(run, base, pairs, request.start, samples, request.resize_start)
    if run.finished:
        tell_ending(request, run)
        return run

    if parallel.is_first():
        with storing(run.folder / DIVERGED):
            (run.folder / DIVERGED).unlink(missing_ok=True)
    with host.computing_with(run.state.threads()):
        progress = host.Progress(config.steps, request.node_id)
        progress.standing = tuple(filter(None, [request.heading]))
        progress.say(family.description())
        with torch.inference_mode():
            batches, held_out = encode_dataset(cache, pairs, progress)
            plan = samples or SamplePlan(seed=config.seed, steps=config.preview_steps, most=1)
            sampling = plan.steps and parallel.is_first()
            preview = Preview(base, cache, pairs, plan, run) if sampling else None
        if request.alone:
            base.drop_encoders(keep_vae=preview is not None)
        preservation = Preservation(config)
        lengths = (family.sequence_length(pair.shape) for pair in batches.pairs())
        longest = -(-config.batch_size // parallel.processes()) * max(lengths)
        session = Session.begin(request, run, identity, longest, held_out)
        progress.end_at(session.last_step)
        if session.done:
            progress.say(say("Continuing from step {step}.", step=session.done))
        notes = [*family.notes(), *cache.notes(), *doubts(pairs, without=family.undoubted)]
        if family.full_size:  # the demo model is meant for small pictures
            notes += too_small(pairs.train, config)
        for note in notes:
            session.journal.note(note)
        progress.standing += tuple(f"⚠ {note}" for note in notes)
        try:
            while session.saving.saved < session.last_step:
                try:
                    steps = Prefetch(batches, family, config, session.device)
                    with session.running(), steps:
                        fit(session, steps, preservation, progress, preview)
                    parallel.wait()  # until the first process has saved the last step
                except host.OutOfMemory:
                    if not session.memory.tighten():
                        raise
                    tighter, step = session.memory.plan.summary(), session.done + 1
                    words = say("out of memory at step {step}: {plan}", step=step, plan=tighter)
                    session.journal.note(words)
                    progress.say(words)
        finally:
            if session.saving.saved < session.last_step:
                progress.say(session.saving.summary(session.done))
    tell_ending(request, run)
    return run


def tell_ending(request: TrainingRequest, run: Run) -> None:
    """Show on the node that the run ended early, and why."""
    ending = ending_of(run.folder)
    if ending:
        host.Progress(1, request.node_id).say(ending.text)


def check(request: TrainingRequest) -> None:
    """Raise every error that can be found before anything is encoded or written."""
    config, pairs, model = request.config, request.pairs, request.base.model
    host.without_object_patches(model)
    recognise(request.base)
    check_optimizer(config)
    check_device(config.matmul, model.load_device)
    parallel.check_batch(config)
    if not pairs.train:
        raise DatasetError(say("There is no pair to train on: all are held out. Lower `holdout`."))
    require_sound(pairs.pairs)
    require_off_task(config, pairs.train)


def identify(request: TrainingRequest, cache: Cache) -> Identity:
    """The hashes of everything that determines the run's result."""
    start_hash = host.fingerprint(request.start) if request.start else ""
    hashes = host.base_hash(request.base.model), cache.clip_hash, cache.vae_hash, start_hash
    return identity_of(cache.config, request.pairs, *hashes)


def shared_run(request: TrainingRequest, identity: Identity) -> Run:
    """The run, created by the first process and opened by the others.

    Raises RunError as `Run.create` does, and in a process whose pairs, model or settings differ.
    """
    name, output = request.name, request.output
    if parallel.is_first():
        bring_back(name, output, identity, request.rescue_places)
        run = Run.create(name, output, identity, request.replace)
    parallel.wait()
    if not parallel.is_first():
        run = Run.open(name, output)
        changed = run.identity().differences(identity)
        if changed:
            changes = say("; ").join(changed.values())
            raise RunError(
                say("Process {rank} has {changes}.", rank=parallel.rank(), changes=changes)
            )
    return run


def fit(
    session: Session,
    steps: Prefetch,
    preservation: Preservation,
    progress: host.Progress,
    preview: Preview | None,
) -> None:
    """The training loop, from the session's step to the last."""
    config, device, measured_every = session.config, session.device, session.config.measured_every
    session.trials.try_eight_bit(steps.batches.at(0)[0])
    session.trials.try_compiling(steps.batches, progress)
    pace = Pace(session.done)
    while session.done < session.last_step:
        # learn: the velocity loss of this process's share of the step, and its gradients
        step = session.done
        ready = steps.at(step)
        loss = 0.0
        for share in ready.shares:
            inputs = share.batch, share.sigma, share.noise
            with session.lora.dropping(config.dropout, share.plan.seeds):
                losses = sample_losses(session.family, *inputs, config, session.dtype)
                mean = losses.sum() / ready.samples
                session.learner.backward(mean)
            loss += mean.item()

        # preserve the base model's answers to other instructions
        drift: dict[str, float] = {}
        if preservation.due(step) and parallel.is_first():
            pair = ready.shares[0].plan.pairs[0]
            network = session.family, session.lora
            pull = preservation.drift(*network, pair, step, device, session.dtype)
            session.learner.backward(config.preserve * pull)
            drift["drift"] = pull.item()

        # step, unless the loss has exploded
        loss = parallel.add_up(session.lora.parameters(), loss)
        norm = session.learner.gradient_norm()
        if session.learner.exploded(loss, norm):
            session.roll_back(loss)
            progress.say(
                say(
                    "loss {loss}: back to step {step}, half the learning rate",
                    loss=f"{loss:.3g}",
                    step=session.done,
                )
            )
            continue
        session.step()
        done = session.done

        # report; when due, validate (which may bring the end nearer), save and sample
        save_due = done % config.save_every == 0 or done == session.last_step
        test_due = save_due or bool(measured_every and done % measured_every == 0)
        pace.tick(done)
        entry = {
            "step": done,
            "loss": loss,
            "learning_rate": session.learner.learning_rate(step),
            "grad_norm": norm if math.isfinite(norm) else None,
            "seconds": round(pace.seconds, 3),
            "memory": host.peak_bytes(device),
            **drift,
            **(session.validate() if test_due else {}),
        }
        session.judge(entry)
        session.journal.add(entry)
        save_due = save_due or done == session.last_step
        text = say(
            "step {step}/{steps} · loss {loss} · {pace}",
            step=done,
            steps=session.last_step,
            loss=f"{loss:.3f}",
            pace=pace.summary(session.last_step),
        )
        progress.end_at(session.last_step)
        progress.update(done, f"{text}\n{session.memory.plan.summary()}")
        if save_due:
            session.saving.save(done)
        if preview and preview.due(done, save_due, done == session.last_step):
            progress.update(done, preview=session.preview(preview, progress))
        if save_due:
            session.journal.watcher.saved()


class Pace:
    """The duration of steps, and the time left."""

    def __init__(self, done: int) -> None:
        self.first = self.done = done
        self.started, self.seconds = time.monotonic(), 0.0

    def tick(self, done: int) -> None:
        self.done, self.seconds = done, time.monotonic() - self.started

    def summary(self, last_step: int) -> str:
        per_step = self.seconds / max(1, self.done - self.first)
        minutes, seconds = divmod(round(per_step * (last_step - self.done)), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return say("{per_step} s/step · {time} left", per_step=f"{per_step:.2f}", time=left)
