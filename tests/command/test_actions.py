"""The commands on the demo model, in this process; the door itself in one of its own."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import folder_paths
import numpy as np
import pytest
import torch
import yaml
from kontext.command import actions, comfyui, main
from kontext.command.show import Screen
from kontext.files import StorageError
from kontext.trainer import host
from kontext.trainer.request import TrainingError
from kontext.trainer.runs.run import Run
from PIL import Image

PACK = Path(__file__).resolve().parents[2]
COMFYUI = Path(host.device.memory.__file__).parents[1]
JOB = {
    "name": "edit",
    "model": "demo",
    "pairs": {"control_folder": "control", "target_folder": "target", "holdout": 1},
    "config": {
        "steps": 4, "rank": 2, "save_every": 2, "keep": 0, "preview_steps": 0, "save_dtype": "fp32",
        "warmup_steps": 0, "learning_rate": 1e-3,
    },
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A job with its pictures, and ComfyUI's output beside them."""
    random = np.random.default_rng(0)
    for side in ("control", "target"):
        (tmp_path / side).mkdir()
        for number in range(4):
            pixels = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"{number}.png")
    (tmp_path / "edit.yaml").write_text(yaml.safe_dump(JOB), encoding="utf-8")
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path


@pytest.fixture
def perform(folder, capsys):
    """perform("train", "edit.yaml", …) → exit code, and the last object on standard output."""

    def run(command: str, what: str, *arguments: str):
        what = str(folder / what) if what.endswith(".yaml") else what
        options = main.parser().parse_args([command, what, *arguments, "--json"])
        code = actions.perform(options, Screen("json"))
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return code, lines[-1], lines[:-1]

    return run


def loras(folder: Path, name: str) -> list[dict[str, torch.Tensor]]:
    run = Run.open(name, folder / "output")
    return [host.load_lora_file(checkpoint.path) for checkpoint in run.checkpoints()]


def test_train_then_status_then_export(folder, perform):
    code, told, before = perform("train", "edit.yaml")
    assert code == 0 and told["finished"] and (told["step"], told["steps"]) == (4, 4)
    names = [Path(path).name for path in told["checkpoints"]]
    assert names == ["edit_000002.safetensors", "edit_000004.safetensors"]
    assert any(line.get("step") == 4 and "loss" in line["text"] for line in before)
    run = Run.open("edit", folder / "output")
    assert yaml.safe_load((run.folder / "run.yaml").read_text("utf-8"))["model"] == "demo"
    log = run.logged()
    assert told["loss"] == pytest.approx(sum(entry["loss"] for entry in log) / 4)

    assert perform("status", "edit")[:2] == (0, told)
    assert perform("status", str(folder / "output" / "kontext_runs" / "edit"))[1] == told
    code, told, _ = perform("export", "edit", "--step", "2", "--format", "diffusers", "--to", "out")
    assert code == 0 and Path(told["path"]) == folder / "output" / "loras" / "out.safetensors"
    assert any(key.startswith("transformer.") for key in host.load_lora_file(Path(told["path"])))
    code, told, _ = perform("export", "edit", "--step", "3")
    assert code == 2 and "no checkpoint at step 3" in told["error"]


def test_ctrl_c_saves_and_resume_ends_as_if_nothing_had_been(folder, perform, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    assert perform("train", "edit.yaml", "--set", "name=whole")[0] == 0
    real = Run.log

    def log(run, **entry):
        real(run, **entry)
        if entry["step"] == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "log", log)
    code, told, _ = perform("train", "edit.yaml")
    assert code == 130 and "resume" in told["error"]
    assert Run.open("edit", folder / "output").steps_done() == 3
    monkeypatch.setattr(Run, "log", real)
    code, told, _ = perform("resume", "edit")
    assert code == 0 and told["step"] == 4
    one, other = loras(folder, "edit")[-1], loras(folder, "whole")[-1]
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert signal.getsignal(signal.SIGINT) is before

    assert perform("resume", "edit")[1]["step"] == 4, "a finished run is only reported"
    code, told, _ = perform("resume", "edit", "--set", "steps=6")
    assert code == 0 and told["step"] == 6


def test_samples_of_the_file_and_where_work_is_rescued(folder, perform, monkeypatch):
    """As the train node has it."""
    shown = {**JOB, "samples": {"prompts": ["swap"], "controls": "control/0.png", "steps": 2}}
    (folder / "shown.yaml").write_text(yaml.safe_dump(shown), encoding="utf-8")
    assert perform("train", "shown.yaml", "--set", "steps=2")[0] == 0
    run = Run.open("edit", folder / "output")
    (strip,) = (run.folder / "samples").iterdir()
    assert json.loads(Image.open(strip).info["kontext_sample"])["prompt"] == "swap"
    samples = yaml.safe_load((run.folder / "run.yaml").read_text("utf-8"))["samples"]
    assert samples["controls"] == ["sample_controls/1.png"]

    monkeypatch.setattr(folder_paths, "user_directory", str(folder / "user"))
    real = Run.write_checkpoint

    def full(run, *arguments):
        if run.output == folder / "output":
            raise StorageError("Could not write.")
        return real(run, *arguments)

    monkeypatch.setattr(Run, "write_checkpoint", full)
    code, told, _ = perform("resume", "edit", "--set", "steps=4")
    assert code == 4 and str(folder / "user" / "kontext_rescued") in told["error"]
    monkeypatch.setattr(Run, "write_checkpoint", real)
    code, told, _ = perform("resume", "edit", "--set", "steps=4")
    assert code == 0 and told["step"] == 4
    assert not [*(folder / "user" / "kontext_rescued").iterdir()]


def test_cache_leaves_nothing_to_encode(folder, perform, monkeypatch):
    code, told, _ = perform("cache", "edit.yaml")
    assert code == 0 and told["pairs"] == 4
    assert len([*Path(told["folder"]).glob("*.safetensors")]) == told["files"] > 8

    def encode(*arguments):
        raise AssertionError("encoded again")

    monkeypatch.setattr(host, "encode_image", encode)
    monkeypatch.setattr(host, "encode_text", encode)
    assert perform("train", "edit.yaml", "--set", "steps=1")[0] == 0
    monkeypatch.undo()


def test_validate_lists_everything_at_once(folder, perform):
    files = {"diffusion_model": "flux.safetensors", "vae": "ae.safetensors"}
    wrong = {
        **JOB,
        "model": files,
        "pairs": {"control_folder": "control", "target_folder": "aftre"},
    }
    (folder / "wrong.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    code, told, _ = perform("validate", "wrong.yaml")
    assert code == 2 and not told["ok"]
    found = "\n".join(told["problems"])
    for words in ("flux.safetensors is not in", "text_encoders is not named", "ae.safetensors",
                  "There is no folder"):  # fmt: skip
        assert words in found
    code, told, _ = perform("validate", "edit.yaml")
    assert (code, told["ok"], told["train"], told["holdout"]) == (0, True, 3, 1)
    assert told["config"]["steps"] == 4 and told["config"]["alpha"] == 2


def test_convert_writes_a_file_that_trains(folder, perform):
    text = f"train_data_dir: {folder.as_posix()}\nnetwork_dim: 2\nclip_skip: 2\noutput_name: theirs"
    (folder / "theirs.yaml").write_text(text, encoding="utf-8")
    code, told, _ = perform("convert", "theirs.yaml", "--to", str(folder / "ours.yaml"))
    assert code == 0 and "clip_skip: 2" in told["ignored"]
    content = yaml.safe_load((folder / "ours.yaml").read_text("utf-8"))
    assert content == told["job"] and content["config"]["rank"] == 2
    code, told, _ = perform("validate", "ours.yaml")
    assert told["name"] == "theirs" and told["train"] + told["holdout"] == 4


@pytest.mark.parametrize(
    "error, code",
    [
        (ValueError("a"), 1),
        (host.BaseModelError("a"), 2),
        (TrainingError("a"), 3),
        (StorageError("a"), 4),
        (host.Interrupted(), 130),
    ],
)
def test_exit_codes(perform, monkeypatch, error, code):
    def fail(options, screen):
        raise error

    monkeypatch.setitem(actions.COMMANDS, "validate", fail)
    told = perform("validate", "edit.yaml")
    assert told[0] == told[1]["exit_code"] == code


def test_what_the_command_line_has_wrong(folder, perform):
    for arguments, words in (
        (("validate", "edit.yaml", "--set", "steps"), "KEY=VALUE"),
        (("validate", "edit.yaml", "--set", "step=3"), "unknown step"),
        (("validate", "none.yaml"), "cannot be read"),
        (("resume", "nothing"), "no training run 'nothing'"),
        (("export", "edit", "--format", "zip"), "comfyui, diffusers, peft"),
    ):
        code, told, _ = perform(*arguments)
        assert code == 2 and words in told["error"], arguments


def test_the_door_opens_by_path_from_anywhere(folder):
    """Light commands import ComfyUI's folders only; the pack's `nodes` must not hide ComfyUI's."""
    command = [sys.executable, str(PACK), "status", "--json", "--comfyui", str(COMFYUI)]
    environment = {**os.environ, "COMFYUI_PATH": ""}
    done = subprocess.run(
        [*command, "--base-directory", str(folder)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"runs": []}


@pytest.mark.parametrize("mode, shown", [("bar", " 67%|"), ("lines", "step 2/3"), ("quiet", "")])
def test_progress_goes_to_the_terminal_itself(monkeypatch, mode, shown):
    """ComfyUI puts its own stream in the place of standard error, which a bar breaks."""
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    screen = Screen(mode)
    monkeypatch.setattr(sys, "stderr", None)
    with screen.progress():
        host.Progress(3).update(2, "step 2/3 · loss 0.5\nfits 24 GB")
    assert shown in terminal.getvalue()
    assert bool(terminal.getvalue()) == bool(shown)
    assert ("step 2/3 · loss 0.5" in terminal.getvalue()) == bool(shown)


def test_comfyui_is_found_or_asked_for(tmp_path, monkeypatch):
    assert comfyui.find(str(COMFYUI)) == COMFYUI
    with pytest.raises(comfyui.NotFound, match="--comfyui"):
        comfyui.find(str(tmp_path))


def test_each_process_sees_its_own_card(monkeypatch):
    for shown, own in ((None, "1"), ("4,7", "7")):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
        monkeypatch.setenv("LOCAL_RANK", "1")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown or "")
        comfyui.show_own_gpu()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == own
