"""A whole run on a tiny Flux: what it leaves on disk, continues, and gives back."""

import ctypes
import sys
import threading
from dataclasses import replace

import comfy.model_management
import psutil
import pytest
import torch
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.trainer import host, loop
from kontext.trainer.cache import Cache
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.export import comfyui_tensors
from kontext.trainer.learner import Learner
from kontext.trainer.loop import train
from kontext.trainer.lora import LoraLinear
from kontext.trainer.optimizers import OPTIMIZERS
from kontext.trainer.run import Run, RunError
from kontext.trainer.session import TrainingError

SHORT = TrainConfig(
    steps=6, rank=4, learning_rate=1e-2, save_every=2, keep=0, dtype="fp32", save_dtype="fp32",
    preview_steps=0,
)  # fmt: skip


@pytest.fixture
def run_training(base, pairs, tmp_path):
    def run(config=SHORT, name="test", **options):
        with torch.inference_mode():  # as ComfyUI runs every node
            options = {"base": base, "pairs": pairs, **options}
            return train(
                config=config, name=name, output=tmp_path / "out", cache_folder=tmp_path / "cache",
                **options,
            )  # fmt: skip

    return run


def last_lora(run):
    return host.load_lora_file(run.checkpoints()[-1].path)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_a_run_leaves_checkpoints_log_and_settings(run_training):
    run = run_training()
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2, 4, 6]
    assert [entry["step"] for entry in run.logged()] == [1, 2, 3, 4, 5, 6]
    assert run.config == SHORT.replace(alpha=4.0)
    assert run.finished
    assert run.checkpoints()[0].path.name == "test_000002.safetensors"
    metadata = run.checkpoints()[0].metadata()
    assert metadata["ss_network_dim"] == "4" and metadata["ss_steps"] == "2"


def test_only_the_last_checkpoints_are_kept(run_training):
    run = run_training(SHORT.replace(keep=2))
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [4, 6]


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


def interrupt_after(monkeypatch, step):
    """Press Cancel when a step has been reported."""
    real = host.Progress.update

    def update(self, done, *arguments, **options):
        if done == step:
            comfy.model_management.interrupt_current_processing()
        real(self, done, *arguments, **options)

    monkeypatch.setattr(host.Progress, "update", update)


@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 2, "caption_dropout": 0.5},
        {"schedule": "constant", "ema": 0.9, "dtype": "fp16"},
        *({"optimizer": name} for name in OPTIMIZERS),
    ],
    ids=str,
)
def test_a_cancelled_run_continues_bit_for_bit(run_training, monkeypatch, tmp_path, change):
    """Reference: the run that nobody stopped. Cancel saves at a step where that one doesn't."""
    config = SHORT.replace(**change)
    unbroken = run_training(config, name="unbroken")
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(host.Interrupted):
            run_training(config, name="broken")
    run = Run.open("broken", tmp_path / "out")
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2, 3]
    assert not run.finished
    continued = run_training(config, name="broken")
    assert_same(last_lora(continued), last_lora(unbroken))
    losses = [[entry["loss"] for entry in run.logged()] for run in (continued, unbroken)]
    assert losses[0] == losses[1]


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


def break_backward(monkeypatch, error, calls=1):
    """Raise in the middle of the first `calls` backward passes."""
    real, left = LoraLinear.backward, [calls]

    def backward(ctx, gradient):
        if left[0] and gradient.shape[-1] == 128:
            left[0] -= 1
            raise error
        return real(ctx, gradient)

    monkeypatch.setattr(LoraLinear, "backward", staticmethod(backward))


def test_out_of_memory_repeats_the_step_with_checkpointing(run_training, monkeypatch):
    """The same draw again: the LoRA is that of a run with enough memory."""
    plain = run_training(name="plain")
    break_backward(monkeypatch, host.OutOfMemory())
    spared = run_training(name="spared")
    assert_same(last_lora(spared), last_lora(plain))
    assert [entry["step"] for entry in spared.logged()] == [1, 2, 3, 4, 5, 6]


def test_out_of_memory_again_is_told(run_training, monkeypatch):
    break_backward(monkeypatch, host.OutOfMemory(), calls=2)
    with pytest.raises(host.OutOfMemory):
        run_training()


def test_cancel_inside_a_step_keeps_the_steps_before(run_training, monkeypatch, tmp_path):
    """ComfyUI interrupts in the middle of a forward pass."""
    real, calls = loop.sample_losses, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            comfy.model_management.interrupt_current_processing()
        return real(*arguments)

    monkeypatch.setattr(loop, "sample_losses", interrupted)
    with pytest.raises(host.Interrupted):
        run_training()
    assert [c.step for c in Run.open("test", tmp_path / "out").checkpoints()] == [2, 3]


def explode(monkeypatch, *calls, value=float("nan")):
    """Make the loss of these calls, counted from 1, what it is when training diverges."""
    real, seen = loop.sample_losses, []

    def exploding(*arguments):
        seen.append(1)
        return real(*arguments) * (value if len(seen) in calls else 1)

    monkeypatch.setattr(loop, "sample_losses", exploding)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e3])
def test_an_exploding_loss_is_rolled_back_once(run_training, monkeypatch, value):
    """Step 4 explodes: back to the save at step 2, and on with half the learning rate."""
    explode(monkeypatch, 4, value=value)
    run = run_training(SHORT.replace(schedule="constant"))
    rates = [(entry["step"], entry["learning_rate"]) for entry in run.logged()]
    assert rates == [(1, 1e-2), (2, 1e-2), (3, 5e-3), (4, 5e-3), (5, 5e-3), (6, 5e-3)]
    assert run.finished


def test_an_exploding_loss_stops_the_run_the_second_time(run_training, monkeypatch, tmp_path):
    explode(monkeypatch, 4, 6)
    with pytest.raises(TrainingError, match="step 4.*checkpoint of step 2 is kept"):
        run_training()
    run = Run.open("test", tmp_path / "out")
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_gradient_that_is_not_finite_is_never_applied(run_training, monkeypatch, dtype):
    """The third step has an infinite gradient under a finite loss, and has it again."""
    real = Learner.gradient_norm

    def norm(self):
        if self.optimizer.state and next(iter(self.optimizer.state.values()))["step"] == 2:
            self.lora.parameters()[0].grad[0, 0] = float("inf")
        return real(self)

    config = SHORT.replace(dtype=dtype)
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "gradient_norm", norm)
        with pytest.raises(TrainingError, match="step 3"):
            run_training(config)
    run = run_training(config)
    assert run.finished
    for checkpoint in run.checkpoints():
        tensors = host.load_lora_file(checkpoint.path)
        assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


def test_float16_overflow_skips_the_step_and_goes_on(run_training, monkeypatch):
    """The scaler starts high and finds its level by such overflows."""
    real, seen = Learner.gradient_norm, []

    def norm(self):
        seen.append(1)
        if len(seen) == 3:
            self.lora.parameters()[0].grad[0, 0] = float("inf")
        return real(self)

    monkeypatch.setattr(Learner, "gradient_norm", norm)
    run = run_training(SHORT.replace(dtype="fp16"))
    assert run.finished and run.logged()[2]["grad_norm"] is None


def test_a_run_can_go_on_for_longer(run_training):
    run_training(SHORT.replace(steps=4, schedule="constant"))
    longer = run_training(SHORT.replace(steps=6, schedule="constant", learning_rate=5e-3))
    assert [checkpoint.step for checkpoint in longer.checkpoints()] == [2, 4, 6]
    assert longer.logged()[-1]["learning_rate"] == 5e-3
    with pytest.raises(RunError, match="learning_rate was 0.005, now 0.01"):
        run_training(SHORT.replace(steps=6, schedule="constant"))


def test_validating_does_not_change_training(run_training, pairs, make_pairs, tmp_path):
    """Held-out loss is logged, against the base; the LoRA is the same bit for bit."""
    more = make_pairs(tmp_path / "pairs", 6).pairs
    held = [replace(pair, split="holdout") for pair in more[4:]]
    split = PairedDataset((*more[:4], *held))
    rarely = run_training(SHORT.replace(validate_every=100), pairs=split, name="rarely")
    often = run_training(SHORT.replace(validate_every=1), pairs=split, name="often")
    assert_same(last_lora(often), last_lora(rarely))
    assert not any("holdout" in entry for entry in rarely.logged())
    first, *_, last = often.logged()
    assert len(first["holdout"]) == len(first["holdout_base"]) == 2
    assert first["holdout_base"] == last["holdout_base"] != last["holdout"]


def test_a_taken_name_is_refused_with_the_differences(run_training):
    run_training()
    with pytest.raises(RunError, match=r"rank was 4, now 8.*`replace`"):
        run_training(SHORT.replace(rank=8))
    run = run_training(SHORT.replace(rank=8, steps=2), replace=True)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2]


def test_replace_spares_the_same_run(run_training, monkeypatch):
    """Cancel and press Run again with `replace` on: it continues."""
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(host.Interrupted):
            run_training(replace=True)
    run = run_training(replace=True)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2, 3, 4, 6]


def test_a_name_is_free_until_a_step_is_done(run_training, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_after(patch, 0)  # while encoding
        with pytest.raises(host.Interrupted):
            run_training()
    assert run_training(SHORT.replace(rank=8)).config.rank == 8


def test_settings_that_do_not_matter_may_change_afterwards(run_training):
    first = last_lora(run_training())
    assert_same(last_lora(run_training(SHORT.replace(keep=1, save_every=5))), first)


def test_a_checkpoint_that_was_moved_away_is_written_again(run_training):
    run = run_training()
    content = last_lora(run)
    run.checkpoints()[-1].path.unlink()
    again = run_training()
    assert again.finished
    assert_same(last_lora(again), content)


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
    block = base.flux.single_blocks[0]
    patched.add_object_patch("diffusion_model.single_blocks.0", Compiled(block))
    with torch.inference_mode():
        host.memory.load_models_gpu([patched])
    assert isinstance(base.flux.single_blocks[0], Compiled)
    compiled = run_training(base=host.Base(patched, base.clip, base.vae), name="compiled")
    assert_same(last_lora(compiled), last_lora(plain))


def test_a_lora_on_the_model_is_trained_upon(run_training, base, make_lora):
    """It counts as a part of the base: another result, another identity."""
    plain = run_training(name="plain")
    tensors = comfyui_tensors(make_lora(base.flux).state_dict(), 8.0, torch.float32)
    with torch.inference_mode():
        model = host.with_lora(base.model, tensors, 1.0)
        host.memory.load_models_gpu([model])
    upon = run_training(base=host.Base(model, base.clip, base.vae), name="upon")
    assert upon.identity().base_hash != plain.identity().base_hash
    assert upon.logged()[0]["loss"] != plain.logged()[0]["loss"]
    model.unpatch_model()


def test_a_run_starts_from_another_lora(run_training):
    """With no learning rate the result is what it started from; scale and all."""
    first = last_lora(run_training(name="first"))
    still = SHORT.replace(learning_rate=0.0, alpha=2.0, weight_decay=0.0)
    second = last_lora(run_training(still, name="second", start=first))
    for name in first:
        if name.endswith("lora_up.weight"):
            prefix = name.removesuffix(".lora_up.weight")
            deltas = [
                tensors[name] @ tensors[f"{prefix}.lora_down.weight"] * tensors[f"{prefix}.alpha"]
                for tensors in (first, second)
            ]
            torch.testing.assert_close(*deltas, rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="rank"):
        run_training(SHORT.replace(rank=8), name="third", start=first)


def test_tensorboard_reads_the_log(run_training):
    """Reference: TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = run_training(SHORT.replace(tensorboard=True))
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    read = [(scalar.step, scalar.value) for scalar in events.Scalars("train/loss")]
    assert read == [(entry["step"], pytest.approx(entry["loss"])) for entry in run.logged()]


def test_every_optimizer_learns(run_training):
    """The mean loss of the last steps is below that of the first, on two pairs seen often."""
    rates = {"prodigy": 1.0, "prodigyplus": 1.0, "lion": 1e-3}
    for name in OPTIMIZERS:
        config = SHORT.replace(
            optimizer=name, steps=80, save_every=80, learning_rate=rates.get(name, 1e-2),
            schedule="constant", timesteps="structure", rank=16, targets="all",
        )  # fmt: skip
        losses = [entry["loss"] for entry in run_training(config, name=name).logged()]
        assert sum(losses[-20:]) < 0.95 * sum(losses[:20]), name


def test_a_missing_optimizer_package_is_named(run_training, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        run_training(SHORT.replace(optimizer="adamw8bit"))


def test_all_held_out_is_refused(run_training, pairs):
    held = PairedDataset(
        tuple(Pair(p.stem, p.controls, p.target, p.caption, "holdout") for p in pairs)
    )
    with pytest.raises(DatasetError, match="holdout"):
        run_training(pairs=held)


@pytest.fixture(scope="module")
def train_beside(weights, make_flux, make_pairs, clip, vae, tmp_path_factory):
    """The LoRA of a run that differs by a few settings; the plain one is trained once."""
    folder = tmp_path_factory.mktemp("settings")
    base, pairs = host.Base(make_flux(weights=weights), clip, vae), make_pairs(folder, 4)

    def lora(change):
        config = SHORT.replace(keep=1, save_every=SHORT.steps, **change)
        name = " ".join(f"{key} {value}" for key, value in change.items()) or "plain"
        with torch.inference_mode():
            run = train(base, pairs, config, name, folder / "out", folder / "cache")
        return last_lora(run)

    return lora


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 2e-2},
        {"rank": 8},
        {"alpha": 8.0},
        {"batch_size": 2},
        {"accumulate": 2},
        {"reference_resolution": 32},
        {"targets": "attention"},
        {"targets": "all"},
        {"timesteps": "structure"},
        {"timesteps": "detail"},
        {"schedule": "constant"},
        {"weight_decay": 0.5},
        {"max_grad_norm": 1e-4},
        {"caption_dropout": 1.0},
        {"guidance": 4.0},
        {"dtype": "bf16"},
        {"dtype": "fp16"},
        {"save_dtype": "bf16"},
        {"schedule": "polynomial"},
        {"schedule": "cosine_restarts", "restarts": 2},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"ema": 0.9},
        {"rank_stabilised": True},
        {"lora_plus": 4.0},
        {"pattern": "single_blocks.0.linear2"},
        {"loss": "huber"},
        {"edit_weight": 5.0},
        {"reference_dropout": 1.0},
        {"flip": True},
        {"timesteps": "uniform", "sigma_shift": 2.0},
        {"timesteps": "logit_normal", "sigma_mean": 1.0},
        {"timesteps": "logit_normal", "sigma_spread": 2.0},
    ],
    ids=str,
)
def test_every_setting_changes_the_lora(train_beside, change):
    plain, changed = train_beside({}), train_beside(change)
    same = plain.keys() == changed.keys() and all(
        torch.equal(plain[name], changed[name]) for name in plain
    )
    assert not same


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
    batch = loop.load_batch([encoded], None, torch.device("cpu"))
    assert [tuple(t.shape[2:]) for t in (batch.target, *batch.references)] == shapes


def test_mixed_shapes_train_in_buckets(base, make_pairs, run_training, tmp_path):
    wide = make_pairs(tmp_path / "wide", 3, size=(96, 64))
    tall = make_pairs(tmp_path / "tall", 3, size=(64, 96))
    renamed = tuple(Pair(f"t{p.stem}", p.controls, p.target, p.caption) for p in tall)
    mixed = PairedDataset((*wide.pairs, *renamed))
    seen = []
    real = loop.load_batch

    def load(pairs, *rest):
        batch = real(pairs, *rest)
        seen.append(tuple(batch.target.shape))
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "load_batch", load)
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
