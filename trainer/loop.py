"""Training a LoRA on the loaded weights."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..dataset.pair import DatasetError, Pair, PairedDataset
from . import host
from .attach import attached
from .batches import Batches, EncodedPair, load_batch, seeded
from .cache import Cache
from .config import TrainConfig
from .flow import draw_quantiles, sigma_quantiles
from .learner import Learner
from .lora import Lora, targeted
from .memory import activation_bytes
from .objective import sample_losses
from .preview import Preview
from .run import Identity, Run


class TrainingError(RuntimeError):
    """Training cannot go on."""


def train(
    base: host.Base,
    pairs: PairedDataset,
    config: TrainConfig,
    name: str,
    output: Path,
    cache_folder: Path,
    replace: bool = False,
    node_id: str | None = None,
) -> Run:
    """Train a LoRA on `pairs.train`, saving checkpoints under `output` as it goes.

    A run of this name that was cancelled or killed is continued from its last checkpoint, one
    that has finished is returned as it is; both must have been made from the same pairs, model and
    settings. Raises BaseModelError, DatasetError, RunError, StorageError, TrainingError, and
    Interrupted (after saving) when the user cancels.
    """
    host.check_base(base)
    if not pairs.train:
        raise DatasetError("There is no pair to train on: all are held out. Lower `holdout`.")
    config = config.settled(len(pairs.train), host.is_full_model(base))
    identity = Identity(config, host.base_hash(base.model), pairs.digest())
    run = Run.create(name, output, identity, replace)
    if run.finished:
        return run

    progress = host.Progress(config.steps, node_id)
    progress.say(f"{config.steps} steps on {len(pairs.train)} pairs")
    cache = Cache(cache_folder, base, config)
    with torch.inference_mode():
        encoded = encode_all(cache, pairs.train, progress)
        blank = cache.encode_text("")
        shown = (pairs.holdout or pairs.train)[0]
        preview = Preview(base, cache, shown, run) if config.preview_steps else None
    repeats = [pair.repeats for pair in pairs.train]
    batches = Batches(encoded, repeats, config.batch_size, config.seed)
    fit(base, batches, blank, run, identity, progress, preview)
    return run


def encode_all(cache: Cache, pairs: Sequence[Pair], progress: host.Progress) -> list[EncodedPair]:
    encoded = []
    for number, pair in enumerate(pairs, start=1):
        progress.update(0, f"encoding pair {number} of {len(pairs)}")
        encoded.append(cache.encode(pair))
    return encoded


def fit(
    base: host.Base,
    batches: Batches,
    blank: Path,
    run: Run,
    identity: Identity,
    progress: host.Progress,
    preview: Preview | None,
) -> None:
    """The training loop, from where the run stands to its last step."""
    config = identity.config
    model = host.for_training(base.model)
    flux, device = base.flux, model.load_device
    dtype = host.training_dtype(model, config.dtype)
    checkpointed, reserve = memory_plan(flux, batches, config, dtype, device)
    host.load_alone(model, reserve)

    with host.differentiable():
        linears = {name: part for name, part in flux.named_modules() if host.is_linear(part)}
        adapted = {name: linears[name] for name in targeted(linears, config.targets)}
        lora = Lora.create(adapted, config.rank, config.alpha, config.seed).to(device)
        learner = Learner(lora, config, device, dtype)
        done = saved = learner.restore(run)
        started, first = time.monotonic(), done

        def save() -> None:
            checkpoint = run.write_checkpoint(done, lora.state_dict(), identity)
            ignored = host.unmapped_keys(model, host.load_lora_file(checkpoint.path))
            if ignored:
                raise TrainingError(f"ComfyUI would ignore {ignored[:3]} in {checkpoint.path}.")
            run.write_state(done, learner.state_dict())
            run.drop_oldest(config.keep)

        with attached(flux, lora, host.FrozenLinear, host.is_linear, checkpointed):
            try:
                for step in range(done, config.steps):
                    # draw: which pairs, how noisy, which noise. All from (seed, step) alone, so
                    # that a continued run draws what an unbroken one would have drawn
                    generator = seeded(config.seed, step, "step")
                    groups = [
                        batches.at(step * config.accumulate + i) for i in range(config.accumulate)
                    ]
                    sizes = [len(group) for group in groups]
                    quantiles = draw_quantiles(sum(sizes), generator).split(sizes)
                    dropped = torch.rand((), generator=generator) < config.caption_dropout

                    # learn: the loss of each group, and its gradients
                    loss = 0.0
                    for group, quantile in zip(groups, quantiles, strict=True):
                        batch = load_batch(group, blank if dropped else None, device)
                        noise = torch.randn(batch.target.shape, generator=generator).to(device)
                        sigma = sigma_quantiles(quantile, config.timesteps, batch.target_tokens)
                        losses = sample_losses(
                            flux, batch, sigma.to(device), noise, config.guidance, dtype
                        )
                        group_loss = losses.sum() / sum(sizes)
                        learner.backward(group_loss)
                        loss += group_loss.item()
                    if not math.isfinite(loss):
                        raise TrainingError(
                            f"The loss at step {step + 1} is {loss}. The last good checkpoint is "
                            f"kept; train again with half the learning rate or dtype bf16."
                        )
                    grad_norm = learner.update(step)
                    done = step + 1

                    # report
                    now = time.monotonic()
                    pace = (now - started) / (done - first)
                    run.log(
                        step=done,
                        loss=loss,
                        learning_rate=config.learning_rate_at(step),
                        grad_norm=grad_norm,
                        seconds=round(now - started, 3),
                        memory=host.peak_bytes(device),
                    )
                    progress.update(done, status(done, config.steps, loss, pace))
                    if done % config.save_every == 0 or done == config.steps:
                        saved = done
                        save()
                        if preview:
                            progress.update(done, preview=preview.sample(model, done))
                            host.load_alone(model, reserve)
            finally:  # however it ended, the steps done are kept
                if done > saved:
                    save()


def memory_plan(
    flux: host.Flux, batches: Batches, config: TrainConfig, dtype: torch.dtype, device: torch.device
) -> tuple[list[torch.nn.Module], int]:
    """Which blocks to checkpoint, and how many bytes to keep free for activations.

    Automatic checkpointing is off where everything fits in half of the free memory.
    """
    blocks = host.blocks(flux)
    tokens = config.batch_size * max(batches.tokens())
    size = (tokens, flux.params.hidden_size, len(blocks), dtype.itemsize)
    kept = activation_bytes(*size, checkpointing=False)
    too_large = kept > host.free_bytes(device) / 2
    if config.checkpointing == "off" or (config.checkpointing == "auto" and not too_large):
        return [], kept
    return blocks, activation_bytes(*size, checkpointing=True)


def status(done: int, steps: int, loss: float, pace: float) -> str:
    minutes, seconds = divmod(round(pace * (steps - done)), 60)
    return (
        f"step {done}/{steps} · loss {loss:.3f} · {pace:.2f} s/step · {minutes}:{seconds:02} left"
    )
