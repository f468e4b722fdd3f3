"""The list of all runs: one that is broken never hides the others."""

import json

import kontext.lines
import pytest
import torch
from kontext.command.actions import state_of
from kontext.evaluation.keep import choose
from kontext.evaluation.pictures.loras import loras_of_run
from kontext.evaluation.progress.curves import Course
from kontext.evaluation.progress.overview import summaries, summary
from kontext.files import parsed
from kontext.routes.runs import about, chart_of, latest_chart
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs import run_file
from kontext.trainer.runs.identity import Identity, RunError
from kontext.trainer.runs.metadata import save_lora
from kontext.trainer.runs.run import Run

from ..runs import known_run


@pytest.mark.slow
@pytest.mark.parametrize("file", ["run.yaml", "lock.json", "log.jsonl"])
@pytest.mark.parametrize(
    "content", [b"[" * 50_000, b"{" * 50_000, b"\0" * 900, b"\xff\xfe", b"3", b'{"config": 3}']
)
def test_whatever_stands_in_the_files_of_one_run(tmp_path, file, content):
    for name in ("broken", "whole"):
        Run.create(name, tmp_path, Identity(TrainConfig(steps=9, alpha=16.0), "base", "pairs"))
    (tmp_path / "kontext_runs" / "broken" / file).write_bytes(content)
    found = {each.name: each for each in summaries(tmp_path)}
    assert found["whole"].state == "stopped" and found["whole"].steps == 9
    assert found["broken"].state == ("damaged" if file == "run.yaml" else "stopped")


BREAKS = {
    "nothing": lambda content, start: b"",
    "half": lambda content, start: content[: len(content) // 2],
    "only zeros": lambda content, start: content[:start].ljust(len(content), b"\0"),
    "its end zeros": lambda content, start: content[:-5000].ljust(len(content), b"\0"),
    "erased flash": lambda content, start: content[:start].ljust(len(content), b"\xff"),
    "a LoRA of other keys": lambda content, start: content.replace(b".alpha", b".omega"),
    "text": lambda content, start: b"ring" * 5000,
}


@pytest.fixture
def finished(tmp_path) -> Run:
    """A run of 20 steps with two LoRAs of 36 kB."""
    config = TrainConfig(steps=20, alpha=16.0)
    run = Run.create("ring", tmp_path, Identity(config, "base", "pairs"))
    layer = "lora_unet_single_blocks_0_linear1"
    tensors = {f"{layer}.lora_{part}.weight": torch.randn(64, 64) for part in ("up", "down")}
    tensors[f"{layer}.alpha"] = torch.tensor(16.0)
    for step in (10, 20):
        run.log(step=step, loss=1.0, seconds=float(step))
        save_lora(tensors, run.lora_folder / f"ring_{step:06d}.safetensors", {})
    return run


@pytest.mark.parametrize("how", BREAKS)
def test_a_last_lora_that_is_damaged_counts_nowhere(finished, how):
    assert finished.finished and summary(finished).state == "finished"
    path = finished.checkpoints()[-1].path
    content = path.read_bytes()
    path.write_bytes(BREAKS[how](content, 8 + int.from_bytes(content[:8], "little")))

    listed = summary(finished)
    assert (listed.state, listed.done, listed.checkpoints) == ("stopped", 10, 1)
    assert [row["step"] for row in about(finished)["rows"]] == [10]
    for thorough in (True, False):
        assert not state_of(finished, thorough)["finished"]
    assert not finished.finished and finished.steps_done() == 10
    assert [each.step for each in loras_of_run(finished)] == [10]
    assert choose(finished, "last").checkpoint.step == 10
    for door in (finished.checkpoint_at, finished.pin, lambda step: choose(finished, str(step))):
        with pytest.raises(RunError, match="ring_000020.safetensors is damaged"):
            door(20)


def test_a_flipped_bit_is_found_wherever_the_lora_is_used(finished):
    """The list reads only a little of each file, and says what it knows: all steps are saved."""
    path = finished.checkpoints()[-1].path
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert summary(finished).state == "finished"
    assert not finished.finished and not state_of(finished)["finished"]
    assert [each.step for each in loras_of_run(finished)] == [10]
    with pytest.raises(RunError, match="ring_000020.safetensors is damaged"):
        choose(finished, "20")


def test_a_lora_that_has_learned_nothing_is_whole(tmp_path):
    run = Run.create("ring", tmp_path, Identity(TrainConfig(steps=20, alpha=16.0), "a", "b"))
    layer = "lora_unet_single_blocks_0_linear1"
    tensors = {f"{layer}.lora_{part}.weight": torch.zeros(64, 64) for part in ("up", "down")}
    tensors[f"{layer}.alpha"] = torch.tensor(16.0)
    save_lora(tensors, run.lora_folder / "ring_000020.safetensors", {})
    assert run.finished and summary(run).state == "finished"


@pytest.fixture
def read_lines(monkeypatch) -> list[bytes]:
    """Every line of a log that is parsed from now on."""
    read: list[bytes] = []

    def counted(line: bytes):
        read.append(line)
        return parsed(line)

    monkeypatch.setattr(kontext.lines, "parsed", counted)
    return read


def test_a_page_that_follows_a_run_reads_each_step_once(finished, read_lines):
    for entry in known_run("improving"):
        finished.log(**entry)
    first = about(finished)
    read_lines.clear()
    assert about(finished) == first and latest_chart(finished) == first["chart"]
    assert read_lines == []
    finished.log(step=1501, loss=0.5, seconds=9.0)
    assert about(finished)["chart"]["step"] == 1501 and len(read_lines) == 1
    finished.rewind_log(700)  # as a training that continues does
    assert about(finished)["chart"] == chart_of(finished, Course(finished.lines))


def test_the_list_of_many_runs_reads_no_log_twice(finished, read_lines, monkeypatch):
    held_out = {"step": 20, "loss": 1.0, "holdout": [1.0] * 3, "holdout_base": [2.0] * 3}
    for number in range(300):
        folder = finished.folder.with_name(f"run_{number}")
        folder.mkdir()
        (folder / "run.yaml").write_bytes(finished.file.path.read_bytes())
        (folder / "log.jsonl").write_text(json.dumps(held_out) + "\n")
    summaries(finished.output)
    assert len(read_lines) == 300  # of the two without a measurement, none
    read_lines.clear()
    monkeypatch.setattr(run_file, "read_yaml", None)
    assert len(summaries(finished.output)) == 301 and read_lines == []


@pytest.mark.parametrize("name", ["a:b", "con", "x" * 200, "..ring", " ", "a\tb", "a\udcff"])
def test_a_folder_that_is_no_run_hides_none(finished, name):
    folder = finished.folder.with_name(name)
    folder.mkdir()
    (folder / "run.yaml").write_text("config: {steps: 3}")
    assert "ring" in {each.name for each in summaries(finished.output)}
    assert "ring" in Run.names(finished.output)
