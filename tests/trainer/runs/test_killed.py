"""A run killed at any moment opens again, with whole checkpoints only."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from kontext.trainer import host
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.run import Run
from safetensors.torch import load_file

from ..short_runs import SHORT, assert_same, last_lora

IDENTITY = Identity(TrainConfig(steps=10_000, alpha=16.0, save_dtype="fp32"), "base", "pairs")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork and SIGKILL")


def lora_of(step: int) -> dict[str, torch.Tensor]:
    """A megabyte whose every value tells the step, so that a mixed-up file shows."""
    return {
        "single_blocks.0.linear1.down": torch.full((16, 8192), float(step)),
        "single_blocks.0.linear1.up": torch.full((8192, 16), float(step)),
    }


def save_for_ever(run: Run, done: int) -> None:
    """What Session does after every step, and nothing else: most kills hit a save."""
    torch.set_num_threads(1)  # the parent's threads have not been forked with it
    while True:
        done += 1
        run.log(step=done, loss=0.5)
        run.write_checkpoint(done, lora_of(done), IDENTITY)
        run.write_state(done, lora_of(done))
        run.drop_oldest(3)


def wait_for_work(output: Path) -> None:
    """Return once the child has logged a step: a busy machine may start it late."""
    log = output / "kontext_runs" / "killed" / "log.jsonl"
    size = log.stat().st_size if log.exists() else 0
    while not log.exists() or log.stat().st_size == size:
        time.sleep(0.001)


@pytest.mark.slow
def test_a_hundred_kills(tmp_path):
    clock = random.Random(0)
    Run.create("killed", tmp_path, IDENTITY).write_state(0, lora_of(0))
    done, in_a_save = 0, 0
    for _ in range(100):
        child = os.fork()
        if child == 0:
            save_for_ever(Run.open("killed", tmp_path), done)
        wait_for_work(tmp_path)
        time.sleep(clock.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

        run = Run.open("killed", tmp_path)
        assert run.identity() == IDENTITY
        in_a_save += bool([*run.lora_folder.glob("*.tmp"), *run.state.path.parent.glob("*.tmp")])
        for checkpoint in run.checkpoints():
            values = load_file(checkpoint.path)["lora_unet_single_blocks_0_linear1.lora_up.weight"]
            assert (values == checkpoint.step).all()
        step, state, _ = run.state.read()
        assert (state["single_blocks.0.linear1.up"] == step).all()
        assert step >= done, "a save that had been finished was lost"
        run.rewind_log(step)
        assert [entry["step"] for entry in run.logged()] == list(range(1, step + 1))
        done = step
    assert in_a_save > 10 and done > 0
    Run.create("killed", tmp_path, IDENTITY)
    assert not [*tmp_path.rglob("*.tmp")]


def steps_logged(run: Run) -> int:
    log = run.folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_as_if_it_never_was(run_training):
    """SIGKILL of `train` itself: at the start, or some steps later, at any moment of a step."""
    config = SHORT.replace(steps=40, save_every=1, keep=2)
    with host.computing_with(1):  # as the children compute
        unbroken = run_training(config, name="unbroken")
    clock, kills = random.Random(1), 0
    run = Run("killed", unbroken.output)
    while not (run.exists() and run.finished):
        done = run.state.read()[0] if run.state.exists() else 0
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            try:
                run_training(config, name="killed")
            finally:
                os._exit(0)
        # the second step is logged when the first has been saved: every child gets further
        awaited = 0 if clock.random() < 0.2 else min(done + clock.randint(2, 4), config.steps)
        deadline = time.monotonic() + 120
        while steps_logged(run) < awaited:
            assert time.monotonic() < deadline, "the child does not get on"
            time.sleep(0.001)
        time.sleep(clock.uniform(0.0, 0.05))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
    assert kills >= 10
    assert [entry["step"] for entry in run.logged()] == list(range(1, 41))
    assert_same(last_lora(run), last_lora(unbroken))
