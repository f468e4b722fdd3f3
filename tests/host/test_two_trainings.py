"""Two whole trainings under one name at once, in real processes: one trains, the other is told."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from driver import PromptError
from host import PACK_FOLDER

STEPS = 100_000  # more than any test waits for
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")


@pytest.fixture
def terminal(server, pair_folder, tmp_path):
    """A function: the command line, training under this name in a process of its own."""
    pack = server.base / "custom_nodes" / PACK_FOLDER
    children = []

    def start(name):
        job = {
            "name": name, "model": "demo",
            "pairs": {"control_folder": str(pair_folder / "before"),
                      "target_folder": str(pair_folder / "after"), "holdout": 0},
            "config": {"steps": STEPS, "rank": 4, "save_every": 50, "preview_steps": 0},
        }  # fmt: skip
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(job), encoding="utf-8")
        command = [sys.executable, str(pack), "train", str(file), "--cpu", "--comfyui",
                   str(server.host.comfyui), "--base-directory", str(server.base)]  # fmt: skip
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        english = {**os.environ, "LC_ALL": "en_US.UTF-8"}
        children.append(subprocess.Popen(command, cwd=server.base, env=english, **pipes))
        return children[-1]

    yield start
    for each in children:
        each.kill()
        each.communicate()


@pytest.fixture
def trains(server):
    """A function: wait until a run has logged some steps."""

    def wait(name, steps=3):
        log = server.base / "output" / "kontext_runs" / name / "log.jsonl"
        deadline = time.monotonic() + 300
        while not log.exists() or log.read_bytes().count(b"\n") < steps:
            assert time.monotonic() < deadline, "it does not begin"
            time.sleep(0.1)

    return wait


def steps_of(server, name):
    """The steps in the log, and that of the last LoRA."""
    log = server.base / "output" / "kontext_runs" / name / "log.jsonl"
    steps = [json.loads(line)["step"] for line in log.read_text("utf-8").splitlines()]
    files = sorted((server.base / "output" / "loras" / name).glob("*.safetensors"))
    return steps, int(files[-1].stem.rpartition("_")[2])


def test_a_terminal_trains_and_a_server_and_a_terminal_are_told(
    server, run, train, terminal, trains
):
    first = terminal("at_once")
    trains("at_once")
    told = f"being trained by another process: number {first.pid} on .*last sign of life"
    with pytest.raises(PromptError, match=told):
        run(train("at_once", steps=4))
    second = terminal("at_once")
    _, words = second.communicate(timeout=300)
    assert second.returncode == 2 and f"number {first.pid} on " in words
    assert first.poll() is None, "the first one goes on"
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=300)
    assert first.returncode == 130
    steps, saved = steps_of(server, "at_once")
    assert steps == list(range(1, saved + 1))


def test_a_server_trains_and_a_terminal_is_told(server, run, train, terminal, trains):
    entries = []
    graph = train("in_server", steps=STEPS, save_every=50)
    graph["pairs"]["inputs"]["holdout"] = 0.0
    work = threading.Thread(target=lambda: entries.append(run(graph)))
    work.start()
    try:
        trains("in_server")
        second = terminal("in_server")
        _, words = second.communicate(timeout=300)
        assert second.returncode == 2 and f"number {server.process.pid} on " in words
        assert work.is_alive(), "the server goes on"
    finally:
        server.interrupt()
        work.join(timeout=120)
    assert entries[0]["status"]["status_str"] == "error"  # cancelled
    steps, saved = steps_of(server, "in_server")
    assert steps == list(range(1, saved + 1))
