"""Continuing a run: exactly as if it had not been stopped, or refused with the differences."""

from dataclasses import replace

import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.trainer import host
from kontext.trainer.config import OPTIMIZERS
from kontext.trainer.runs.identity import RunError
from kontext.trainer.runs.run import Run
from PIL import Image

from ..short_runs import SHORT, assert_same, interrupt_after, last_lora


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"accumulate": 2, "caption_dropout": 0.5},
        {"schedule": "constant", "ema": 0.9, "dtype": "fp16"},
        {"adapter": "dora", "dropout": 0.2, "checkpointing": "on"},
        {"adapter": "lokr", "dropout": 0.2, "accumulate": 2, "lora_plus": 4.0},
        {"adapter": "loha", "dropout": 0.2, "ema": 0.9},
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


@pytest.mark.slow
def test_a_run_is_continued_with_the_threads_it_was_begun_with(run_training, monkeypatch):
    """Sums over other numbers of threads round differently: the run's own number is used again."""
    with host.computing_with(2):
        unbroken = run_training(name="unbroken")
        with monkeypatch.context() as patch:
            interrupt_after(patch, 3)
            with pytest.raises(host.Interrupted):
                run_training(name="broken")
    with host.computing_with(1):
        continued = run_training(name="broken")
        assert torch.get_num_threads() == 1, "other nodes keep theirs"
        fresh = run_training(name="fresh")
    assert_same(last_lora(continued), last_lora(unbroken))
    assert (continued.state.threads(), fresh.state.threads()) == (2, 1)


def test_a_run_can_go_on_for_longer(run_training, caplog):
    caplog.set_level("INFO", "kontext.progress")
    run_training(SHORT.replace(steps=4, schedule="constant"))
    assert "Continuing" not in caplog.text
    longer = run_training(SHORT.replace(steps=6, schedule="constant", learning_rate=5e-3))
    assert "Continuing from step 4." in caplog.text
    assert [checkpoint.step for checkpoint in longer.checkpoints()] == [2, 4, 6]
    assert longer.logged()[-1]["learning_rate"] == 5e-3
    with pytest.raises(RunError, match="learning_rate was 0.005, now 0.01"):
        run_training(SHORT.replace(steps=6, schedule="constant"))


def test_what_is_doubtful_stands_on_the_node_while_it_trains(run_training, pairs, monkeypatch):
    shown = []
    monkeypatch.setattr(host.progress, "tell_pages", lambda _, content: shown.append(content))
    half = [replace(p, split="holdout") if i < 2 else p for i, p in enumerate(pairs)]
    run_training(pairs=PairedDataset(tuple(half)), node_id="7")
    steps = [each["text"] for each in shown if "step 6/6" in each["text"]]
    assert steps and "\n⚠ 2 of 4 pairs are held out" in steps[-1]
    assert "Lower holdout" in steps[-1], "with the way out"


def test_a_taken_name_is_refused_with_the_differences(run_training):
    run_training()
    with pytest.raises(RunError, match=r"rank was 4, now 8.*`replace`"):
        run_training(SHORT.replace(rank=8))
    run = run_training(SHORT.replace(rank=8, steps=2), replace=True)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2]


def test_the_same_pictures_elsewhere_are_the_same(run_training, make_pairs, tmp_path):
    """As after a crash, when nodes write their pictures anew; other pictures are named."""
    first = run_training()
    moved = make_pairs(tmp_path / "moved", 4)
    assert run_training(pairs=moved).checkpoints() == first.checkpoints()
    Image.new("RGB", (64, 64), "red").save(moved.pairs[2].target)
    with pytest.raises(RunError, match="other target pictures: 002"):
        run_training(pairs=moved)


def test_another_text_encoder_is_told(run_training, base, make_lora):
    run_training()
    clip = base.clip.clone()
    clip.clip_layer(-2)
    with pytest.raises(RunError, match="differs: other text encoders"):
        run_training(base=host.Base(base.model, clip, base.vae))


def test_cancel_says_where(run_training, monkeypatch, tmp_path):
    said = []
    monkeypatch.setattr(host.Progress, "say", lambda self, text: said.append(text))
    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        with pytest.raises(host.Interrupted):
            run_training()
    folder = tmp_path / "out" / "loras" / "test"
    kept = f"stopped at step 3/6 · step 3 is kept in {folder}."
    assert said[-1] == f"{kept} Run again with the same name to continue."


def test_replace_leaves_nothing_of_another_run(run_training):
    """Checkpoints are named alike again: the old scores would be taken for theirs."""
    scores = run_training().folder / "scores" / "scores.json"
    scores.parent.mkdir()
    scores.write_text("{}", encoding="utf-8")
    run_training(SHORT.replace(rank=8), replace=True)
    assert not scores.exists()


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


def test_a_last_lora_of_nuls_is_written_again(run_training):
    """Its header is whole: what a power cut leaves of a file that was copied back."""
    run = run_training()
    path = run.checkpoints()[-1].path
    good = last_lora(run)
    path.write_bytes(path.read_bytes()[:-5000] + b"\0" * 5000)
    assert not run.finished
    assert_same(last_lora(run_training()), good)
    assert run.finished
