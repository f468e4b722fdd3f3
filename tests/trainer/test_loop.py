"""A whole run on a tiny Flux: what it leaves on disk and gives back, and what it trains upon."""

import ctypes
import sys
import threading
import weakref

import comfy.model_management
import psutil
import pytest
import torch
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.trainer import host, loop
from kontext.trainer.batch import load_batch
from kontext.trainer.data import prefetch
from kontext.trainer.data.cache import Cache
from kontext.trainer.host.demo import load_text_encoder
from kontext.trainer.runs.export import comfyui_tensors

from .conftest import tiny_vae
from .short_runs import SHORT, assert_same, break_backward, interrupt_after, last_lora


def test_a_run_leaves_checkpoints_log_and_settings(run_training):
    run = run_training()
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2, 4, 6]
    assert [entry["step"] for entry in run.logged()] == [1, 2, 3, 4, 5, 6]
    assert run.config == SHORT.replace(alpha=4.0, stop="last_step")
    assert run.finished
    assert run.checkpoints()[0].path.name == "test_000002.safetensors"
    metadata = run.checkpoints()[0].metadata()
    assert metadata["ss_network_dim"] == "4" and metadata["ss_steps"] == "2"


def test_only_the_last_checkpoints_are_kept(run_training):
    run = run_training(SHORT.replace(keep=2))
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [4, 6]


@pytest.mark.slow
def test_same_seed_same_lora(run_training):
    first, second = run_training(name="first"), run_training(name="second")
    assert_same(last_lora(first), last_lora(second))
    other = last_lora(run_training(SHORT.replace(seed=1), name="third"))
    assert any(not torch.equal(other[name], last_lora(first)[name]) for name in other)


def test_a_finished_run_is_not_trained_again(run_training):
    first = run_training()
    times = [checkpoint.path.stat().st_mtime_ns for checkpoint in first.checkpoints()]
    again = run_training()
    assert [checkpoint.path.stat().st_mtime_ns for checkpoint in again.checkpoints()] == times


@pytest.mark.parametrize("ending", ["finished", "cancelled", "failed in backward"])
def test_the_model_is_left_as_it_was(run_training, base, digest, monkeypatch, ending):
    """Reference: sha256 of every byte of its state, and its own forwards."""
    before = digest(base.model.model)
    if ending == "cancelled":
        interrupt_after(monkeypatch, 3)
        with pytest.raises(host.Interrupted):
            run_training()
    elif ending == "failed in backward":
        break_backward(monkeypatch, ZeroDivisionError)
        with pytest.raises(ZeroDivisionError):
            run_training()
    else:
        run_training(SHORT.replace(preview_steps=2))
    assert digest(base.model.model) == before
    assert all("forward" not in part.__dict__ for part in base.model.model.modules())
    assert not comfy.model_management.in_training


def test_modules_replaced_by_other_nodes_are_trained_all_the_same(run_training, base):
    """As nodes do that compile single blocks."""
    plain = run_training(name="plain")

    class Compiled(torch.nn.Module):
        def __init__(self, block):
            super().__init__()
            self._orig_mod = block

        def forward(self, *arguments, **options):
            return self._orig_mod(*arguments, **options)

    patched = base.model.clone()
    block = base.network.single_blocks[0]
    patched.add_object_patch("diffusion_model.single_blocks.0", Compiled(block))
    with torch.inference_mode():
        host.device.memory.load_models_gpu([patched])
    assert isinstance(base.network.single_blocks[0], Compiled)
    compiled = run_training(base=host.Base(patched, base.clip, base.vae), name="compiled")
    assert_same(last_lora(compiled), last_lora(plain))


def test_a_lora_on_the_model_is_trained_upon(run_training, base, make_lora):
    """It counts as a part of the base: another result, another identity."""
    plain = run_training(name="plain")
    tensors = comfyui_tensors(make_lora(base.network).state_dict(), 8.0, torch.float32)
    with torch.inference_mode():
        model = host.with_lora(base.model, tensors, 1.0)
        host.device.memory.load_models_gpu([model])
    upon = run_training(base=host.Base(model, base.clip, base.vae), name="upon")
    assert upon.identity().base_hash != plain.identity().base_hash
    assert upon.logged()[0]["loss"] != plain.logged()[0]["loss"]
    model.unpatch_model()


@pytest.mark.slow
def test_a_run_starts_from_another_lora(run_training):
    """With next to no learning rate the result is what it started from; scale and all."""
    first = last_lora(run_training(name="first"))
    still = SHORT.replace(learning_rate=1e-30, alpha=2.0, weight_decay=0.0)
    second = last_lora(run_training(still, name="second", start=first))
    for name in first:
        if name.endswith("lora_up.weight"):
            prefix = name.removesuffix(".lora_up.weight")
            deltas = [
                tensors[name] @ tensors[f"{prefix}.lora_down.weight"] * tensors[f"{prefix}.alpha"]
                for tensors in (first, second)
            ]
            torch.testing.assert_close(*deltas, rtol=1e-5, atol=1e-9)
    assert run_training(SHORT.replace(rank=8), name="wider", start=first).finished
    with pytest.raises(ValueError, match="has rank 4, the run 2"):
        run_training(SHORT.replace(rank=2), name="third", start=first)


def test_tensorboard_reads_the_log(run_training):
    """Reference: TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_training(SHORT.replace(tensorboard=True))
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    read = [(scalar.step, scalar.value) for scalar in events.Scalars("train/loss")]
    assert read == [(entry["step"], pytest.approx(entry["loss"])) for entry in run.logged()]


def test_all_held_out_is_refused(run_training, pairs):
    held = PairedDataset(
        tuple(Pair(p.stem, p.controls, p.target, p.caption, "holdout") for p in pairs)
    )
    with pytest.raises(DatasetError, match="holdout"):
        run_training(pairs=held)


@pytest.mark.parametrize(
    "change, shapes",
    [
        ({}, [(16, 24), (16, 24)]),
        ({"resolution": 96}, [(10, 14), (10, 14)]),
        ({"resolution": 1024}, [(16, 24), (16, 24)]),  # never enlarged
        ({"aspect": "square"}, [(16, 16), (16, 16)]),
        ({"reference_resolution": 96}, [(16, 24), (10, 14)]),
    ],
)
def test_sizes_of_target_and_reference(base, make_pairs, tmp_path, change, shapes):
    pairs = make_pairs(tmp_path, 1, size=(192, 128))
    cache = Cache(tmp_path / "cache", base, SHORT.replace(**change))
    with torch.inference_mode():
        encoded = cache.encode(pairs.pairs[0])
    batch = load_batch([encoded], None, torch.device("cpu"))
    assert [tuple(t.shape[2:]) for t in (batch.target, *batch.references)] == shapes


def test_mixed_shapes_train_in_buckets(base, make_pairs, run_training, tmp_path):
    wide = make_pairs(tmp_path / "wide", 3, size=(96, 64))
    tall = make_pairs(tmp_path / "tall", 3, size=(64, 96))
    renamed = tuple(Pair(f"t{p.stem}", p.controls, p.target, p.caption) for p in tall)
    mixed = PairedDataset((*wide.pairs, *renamed))
    seen = []
    real = prefetch.load_batch

    def load(pairs, *rest):
        batch = real(pairs, *rest)
        seen.append(tuple(batch.target.shape))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "load_batch", load)
        run_training(SHORT.replace(batch_size=2, steps=4), pairs=mixed)
    assert sorted(seen) == sorted([(2, 16, 8, 12), (1, 16, 8, 12), (2, 16, 12, 8), (1, 16, 12, 8)])


class PeakMemory(threading.Thread):
    """Watches this process's resident memory while the block runs; `growth` in bytes."""

    def __enter__(self):
        if sys.platform == "linux":  # memory that was freed but not given back would hide growth
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        self.process, self.ended = psutil.Process(), threading.Event()
        self.start_bytes = self.peak = self.process.memory_info().rss
        self.start()
        return self

    def run(self):
        while not self.ended.wait(0.002):
            self.peak = max(self.peak, self.process.memory_info().rss)

    def __exit__(self, *_):
        self.ended.set()
        self.join()
        self.growth = self.peak - self.start_bytes


@pytest.mark.slow
def test_no_copy_of_the_base(run_training, make_flux, clip, vae):
    """Resident memory grows by less than half of the weights over a whole run."""
    config = SHORT.replace(rank=1, steps=2)
    run_training(config, name="warm-up")  # libraries and thread pools are not what is measured
    big = host.Base(make_flux(hidden_size=768, num_heads=6), clip, vae)
    weights = sum(tensor.nbytes for tensor in big.model.model.state_dict().values())
    assert weights > 200e6
    with PeakMemory() as memory:
        run_training(config, name="measured", base=big)
    assert memory.growth < weights / 2


@pytest.mark.slow
def test_text_encoder_and_vae_are_freed_where_nothing_else_uses_them(
    run_training, make_flux, weights, monkeypatch
):
    """As from a terminal: gone when the first step is taken, and the run ends as any other."""
    base = host.Base(make_flux(weights=weights), load_text_encoder(), tiny_vae())
    gone = [weakref.ref(base.clip.cond_stage_model), weakref.ref(base.vae.first_stage_model)]
    seen, real = [], loop.fit

    def fit(*given):
        seen.append([each() is None for each in gone])
        return real(*given)

    monkeypatch.setattr(loop, "fit", fit)
    alone = run_training(SHORT.replace(preview_steps=0), base=base, alone=True)
    assert seen == [[True, True]] and alone.finished
    assert not hasattr(base, "clip") and not hasattr(base, "vae")


@pytest.mark.slow
def test_samples_keep_the_vae(run_training, make_flux, weights):
    base = host.Base(make_flux(weights=weights), load_text_encoder(), tiny_vae())
    run = run_training(SHORT.replace(preview_steps=1), base=base, alone=True)
    assert list((run.folder / "samples").glob("*.png"))
    assert not hasattr(base, "clip") and hasattr(base, "vae")


@pytest.mark.parametrize("steps, left", [(9, "0:09"), (61, "1:01"), (3600 * 12 + 62, "12:01:02")])
def test_the_time_left_has_hours(steps, left):
    pace = loop.Pace(0)
    pace.done, pace.seconds = 1, 1.0
    assert pace.summary(1 + steps) == f"1.00 s/step · {left} left"
