"""Two processes of torchrun on the CPU, through the command line, on the demo model.

Reference: the same training in one process, in this one.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from kontext.trainer import host, parallel
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.host.demo import load_demo_model
from kontext.trainer.loop import train
from kontext.trainer.request import TrainingRequest
from kontext.trainer.runs.job import Job, Places
from kontext.trainer.runs.run import Run

PACK = Path(__file__).resolve().parents[2]
COMFYUI = Path(host.device.memory.__file__).parents[1]
JOB = {
    "name": "alone",
    "model": "demo",
    "pairs": {"control_folder": "control", "target_folder": "target", "holdout": 3},
    "config": {
        "steps": 6, "rank": 4, "batch_size": 3, "save_every": 2, "keep": 0, "learning_rate": 1e-4,
        "warmup_steps": 0, "preview_steps": 0, "save_dtype": "fp32", "schedule": "constant",
    },
}  # fmt: skip


def torchrun(folder: Path, name: str, *options: str, **settings) -> subprocess.Popen:
    """Train in two processes, one thread each."""
    text = yaml.safe_dump({**JOB, "name": name, "config": {**JOB["config"], **settings}})
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [*options, str(PACK / "__main__.py"), "train", f"{name}.yaml", "--cpu", "--quiet"]
    command += ["--comfyui", str(COMFYUI), "--base-directory", str(folder)]
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=threads,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def alone(folder: Path, name: str = "alone", **settings) -> Run:
    job = Job.parse({**JOB, "config": {**JOB["config"], **settings}})
    pairs, _ = job.load_pairs(Places((folder,), folder / "scratch"))
    with torch.inference_mode():
        base = host.Base(*load_demo_model())
        places = folder / "reference", folder / "cache"
        return train(TrainingRequest(base, pairs, job.config, name, *places))


def loras(run: Run) -> list[dict[str, torch.Tensor]]:
    return [host.load_lora_file(checkpoint.path) for checkpoint in run.checkpoints()]


@pytest.fixture
def folder(tmp_path, make_pairs) -> Path:
    make_pairs(tmp_path, 9)
    (tmp_path / "custom_nodes").mkdir()
    return tmp_path


@pytest.mark.slow
def test_two_processes_train_as_one_does(folder):
    """A batch of 3: one process learns from 2 pairs of it, the other from 1; of 3 held-out pairs
    alike. Only the order of sums differs, so the averages of the gradients agree everywhere.

    Adam divides a gradient by its own size, so where one is nothing but rounding it still takes
    whole steps (Kingma & Ba 2015, section 2.1): of 10,000 weights one may differ by such.
    """
    started = torchrun(folder, "two")
    ours = alone(folder)
    told, _ = started.communicate(timeout=500)
    assert started.returncode == 0, told
    two = Run.open("two", folder / "output")
    assert two.identity().differences(ours.identity()) == {}
    ours_state, two_state = ours.state.read()[1], two.state.read()[1]
    gradients = [name for name in ours_state if name.endswith("exp_avg")]
    assert len(gradients) == len(loras(ours)[0]) * 2 // 3, "of each down and up, not of alpha"
    for name in gradients:
        close = 1e-4 * ours_state[name].abs().max().item()
        torch.testing.assert_close(two_state[name], ours_state[name], rtol=0, atol=close)
    for one, other in zip(loras(ours), loras(two), strict=True):
        apart = torch.cat([(one[name] - other[name]).abs().flatten() for name in one])
        assert apart.quantile(0.9999) < 1e-6 and apart.max() < JOB["config"]["learning_rate"]
    for one, other in zip(ours.logged(), two.logged(), strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() & {"loss", "holdout", "holdout_base"}:
            assert other[name] == pytest.approx(one[name], rel=1e-5)
    assert told.count("two: step 6 of 6") == 1, "only the first process reports"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_costs_the_steps_since_the_last_save(folder):
    """torchrun starts both again. With a pair for each there is one order of sums only, so the
    result is that of an unbroken run in one process of as many threads, bit for bit."""
    one_each = dict(batch_size=1, accumulate=2, steps=12, save_every=5)
    started = torchrun(folder, "killed", "--max-restarts=2", **one_each)
    with host.computing_with(1):
        ours = alone(folder, **one_each)
    log = folder / "output" / "kontext_runs" / "killed" / "log.jsonl"
    while started.poll() is None and not (log.exists() and log.read_text().count("\n") >= 7):
        time.sleep(0.01)
    workers = psutil.Process(started.pid).children(recursive=True)
    first = next(worker for worker in workers if worker.environ().get("RANK") == "0")
    os.kill(first.pid, signal.SIGKILL)
    told, _ = started.communicate(timeout=500)
    assert started.returncode == 0, told
    killed = Run.open("killed", folder / "output")
    assert [entry["step"] for entry in killed.logged()] == list(range(1, 13))
    for one, other in zip(loras(ours)[-1:], loras(killed)[-1:], strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


# ---- without processes ---------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("sizes", [[1], [4], [3, 3], [1, 1, 1, 1], [2, 5, 1]])
def test_every_sample_of_a_step_has_one_process(monkeypatch, processes, sizes):
    """And no process has two more than another."""
    monkeypatch.setattr(parallel, "processes", lambda: processes)
    dealt, counts = [[] for _ in sizes], []
    for rank in range(processes):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        shares = parallel.shares(sizes)
        counts.append(sum(map(len, shares)))
        for group, share in zip(dealt, shares, strict=True):
            group += share
    assert [sorted(group) for group in dealt] == [list(range(size)) for size in sizes]
    assert max(counts) - min(counts) <= 1


def test_a_batch_too_small_to_share_is_refused(monkeypatch):
    monkeypatch.setattr(parallel, "processes", lambda: 4)
    parallel.check_batch(TrainConfig(batch_size=2, accumulate=2))
    with pytest.raises(ConfigError, match="4 processes.*3 pairs.*Set batch_size to 4"):
        parallel.check_batch(TrainConfig(batch_size=3))
