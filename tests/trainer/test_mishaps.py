"""What goes wrong inside a step: no memory, no finite loss, Cancel. No step is lost or spoilt."""

from dataclasses import replace

import comfy.model_management
import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.trainer import host, loop, session
from kontext.trainer.learner import Learner
from kontext.trainer.request import TrainingError
from kontext.trainer.runs.run import DIVERGED, Run

from .short_runs import SHORT, assert_same, break_backward, explode, last_lora


@pytest.mark.slow
def test_out_of_memory_repeats_the_step_with_checkpointing(run_training, monkeypatch):
    """The same draw again: the LoRA is that of a run with enough memory."""
    plain = run_training(name="plain")
    break_backward(monkeypatch, host.OutOfMemory())
    spared = run_training(name="spared")
    assert_same(last_lora(spared), last_lora(plain))
    assert [entry["step"] for entry in spared.logged()] == [1, 2, 3, 4, 5, 6]
    words = spared.logged()[0]["note"]
    assert words.startswith("out of memory at step 1: ") and "1 of 4 blocks checkpointed" in words


def test_out_of_memory_is_told_once_nothing_is_left_to_spare(run_training, monkeypatch):
    """Four blocks are checkpointed one after the other; the fifth time there is no way out."""
    break_backward(monkeypatch, host.OutOfMemory(), calls=5)
    with pytest.raises(host.OutOfMemory):
        run_training()


def test_out_of_memory_in_the_update_spoils_nothing(run_training, monkeypatch, tmp_path):
    """Half of the weights had moved. The run goes back to its save and ends as if undisturbed."""
    plain = run_training(name="plain")
    real, calls = Learner.update, []

    def update(self, step):
        calls.append(step)
        if len(calls) == 4:
            with torch.no_grad():
                self.lora.parameters()[0].add_(1.0)
            raise host.OutOfMemory()
        real(self, step)

    monkeypatch.setattr(Learner, "update", update)
    spared = run_training(name="spared")
    assert calls == [0, 1, 2, 3, 2, 3, 4, 5]
    assert_same(last_lora(spared), last_lora(plain))


def test_out_of_memory_in_measuring_loses_no_step(run_training, make_pairs, monkeypatch, tmp_path):
    """Steps 4 and 6 are measured, step 2 is not; the log has a line for each and says why."""
    real, calls = session.held_out_losses, []

    def losses(*arguments):
        calls.append(1)
        if len(calls) == 2:  # the first is the base alone
            raise host.OutOfMemory()
        return real(*arguments)

    last = replace(make_pairs(tmp_path / "pairs", 5).pairs[4], split="holdout")
    pairs = PairedDataset((*make_pairs(tmp_path / "pairs", 4), last))
    monkeypatch.setattr(session, "held_out_losses", losses)
    log = run_training(pairs=pairs).logged()
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in log if "holdout" in entry] == [4, 6]
    assert "not measured at step 2: out of memory" in log[1]["note"]


def test_losses_are_left_out_where_another_process_had_no_memory_for_its_share(
    run_training, make_pairs, monkeypatch, tmp_path
):
    """All processes see the share that was not measured, and go on together."""
    real, calls = session.parallel.gathered, []

    def gathered(told, count):
        calls.append(1)
        if len(calls) == 3:  # the base alone, step 2, step 4
            told[-1] = 0.0
        return real(told, count)

    first, *rest = make_pairs(tmp_path / "pairs", 5).pairs
    pairs = PairedDataset((replace(first, split="holdout"), *rest))
    monkeypatch.setattr(session.parallel, "gathered", gathered)
    log = run_training(pairs=pairs).logged()
    assert [entry["step"] for entry in log if "holdout" in entry] == [2, 6]
    assert "not measured at step 4: out of memory" in log[3]["note"]


def test_a_failure_in_the_update_saves_nothing_half_done(run_training, monkeypatch, tmp_path):
    real = Learner.update

    def update(self, step):
        real(self, step)
        if step == 3:
            raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "update", update)
        with pytest.raises(ZeroDivisionError):
            run_training()
    run = Run.open("test", tmp_path / "out")
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2]
    assert not run.finished and run_training().finished


@pytest.mark.slow
def test_a_learning_rate_chosen_after_diverging_is_taken_as_it_is(run_training, monkeypatch):
    """Halved once and stopped at the second time: the next attempt begins with the new number."""
    config = SHORT.replace(schedule="constant")
    with monkeypatch.context() as patch:
        explode(patch, 2, 6)
        with pytest.raises(TrainingError, match="step 4"):
            run_training(config)
    rates = [entry["learning_rate"] for entry in run_training(config).logged()]
    assert rates == [5e-3] * 6
    longer = run_training(config.replace(steps=8, learning_rate=1e-3))
    assert not (longer.folder / DIVERGED).exists()
    rates = [entry["learning_rate"] for entry in longer.logged()]
    assert rates == [5e-3] * 6 + [1e-3] * 2


def test_what_happened_is_in_the_log(run_training, monkeypatch):
    explode(monkeypatch, 4)
    notes = [entry.get("note") for entry in run_training().logged()]
    assert notes == [None, None, "loss nan at step 4: back to step 2", None, None, None]


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
    assert (run.folder / DIVERGED).read_text(encoding="utf-8").startswith("Training diverged")


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_checkpoint_comfyui_would_not_read_replaces_none(run_training, monkeypatch, tmp_path):
    """The run stops; of `keep` 1 the older one is still there, and the run goes on from it."""
    real, read = host.unmapped_keys, []

    def unmapped(model, tensors):
        read.append(1)
        odd = {f"odd.{name}": tensor for name, tensor in tensors.items()}
        return real(model, odd if len(read) == 2 else tensors)

    config = SHORT.replace(keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(host, "unmapped_keys", unmapped)
        with pytest.raises(TrainingError, match="ComfyUI would ignore .*odd"):
            run_training(config)
    run = Run.open("test", tmp_path / "out")
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2] and not run.finished
    assert_same(last_lora(run_training(config)), last_lora(run_training(name="plain")))


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
