"""The commands on the demo model, in this process; the door itself in one of its own."""

import io
import json
import os
import re
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
from kontext.command.terminal_language import terminal_language
from kontext.dataset.load import LoadedPairs
from kontext.dataset.summary import describe
from kontext.files import StorageError
from kontext.trainer import host
from kontext.trainer.config import TrainConfig
from kontext.trainer.request import TrainingError
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.job import Job, Places
from kontext.trainer.runs.run import Run
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

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

    def run(command: str, *arguments: str):
        files = [str(folder / each) if each.endswith(".yaml") else each for each in arguments]
        options = main.parser().parse_args([command, *files, "--json"])
        code = actions.perform(options, Screen("json"))
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return code, lines[-1], lines[:-1]

    return run


def loras(folder: Path, name: str) -> list[dict[str, torch.Tensor]]:
    run = Run.open(name, folder / "output")
    return [host.load_lora_file(checkpoint.path) for checkpoint in run.checkpoints()]


@pytest.mark.parametrize(
    "pairs, words, change",
    [
        (1, r"edit: step 3000 of 4000, loss 0.5000, held-out pairs -50.0% \(on 1 of at least 3 "
            r"pairs: no evidence\)", None),
        (3, r"held-out pairs -50.0% \(-50.0 to -50.0\) against the base", -0.5),
        (0, r"edit: step 3000 of 4000, loss 0.5000$", None),
    ],
)  # fmt: skip
def test_status_reads_the_end_of_the_log_and_says_what_is_no_evidence(
    tmp_path, capsys, monkeypatch, pairs, words, change
):
    identity = Identity(TrainConfig(steps=4000, save_every=100, alpha=16.0), "base", "pairs")
    run, read = Run.create("edit", tmp_path, identity), []
    held = {"holdout": [0.5] * pairs, "holdout_base": [1.0] * pairs} if pairs else {}
    run.lines.rewrite(
        {"step": step, "loss": 0.5, **(held if step % 100 == 0 else {})} for step in range(1, 3001)
    )
    real = run.lines.entry_of
    monkeypatch.setattr(run.lines, "entry_of", lambda entry: read.append(1) or real(entry))
    actions.tell(run, Screen("bar"))
    assert re.search(words, capsys.readouterr().out.strip())
    assert actions.state_of(run)["holdout_change"] == change
    assert len(read) <= 200, "each time the last 100 lines"


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    assert told["name"] == "theirs" and told["train"] + told["holdout"] == 4, told["problems"]


@pytest.mark.slow
def test_files_one_after_the_other(folder, perform, monkeypatch):
    """All are checked before the first begins; one that stops does not stop those after it."""
    for name in ("one", "two", "three"):
        job = {**JOB, "name": name, "config": {**JOB["config"], "steps": 1}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    wrong = {**JOB, "name": "wrong", "pairs": {"control_folder": "gone", "target_folder": "target"}}
    (folder / "wrong.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    code, told, _ = perform("train", "one.yaml", "wrong.yaml")
    assert code == 2 and told["error"].startswith("wrong: ") and "gone" in told["error"]
    assert Run.names(folder / "output") == [], "nothing was begun"
    code, told, _ = perform("train", "one.yaml", "one.yaml")
    assert code == 2 and "Two jobs are called one" in told["error"]

    real = actions.train

    def diverging(request):
        if request.name == "two":
            raise TrainingError("it diverged")
        return real(request)

    monkeypatch.setattr(actions, "train", diverging)
    code, told, notes = perform("train", "one.yaml", "two.yaml", "three.yaml")
    assert code == 3 and told["run"] == "three" and told["finished"]
    said = [line["note"] for line in notes if "note" in line]
    assert "two: it diverged" in said and "Job 3 of 3: three" in said
    assert set(Run.names(folder / "output")) == {"one", "three"}


@pytest.mark.slow
def test_it_says_what_the_graph_says(folder, perform):
    """The report of Load Paired Dataset: notes, captions, repeats, who is held out."""
    (folder / "target" / "1.txt").write_text("swap", encoding="utf-8")
    job = {**JOB, "pairs": {**JOB["pairs"], "repeats": 3}}
    (folder / "edit.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    _, told, _ = perform("validate", "edit.yaml")
    loaded = LoadedPairs(*Job.parse(job).load_pairs(Places((folder,), folder / "scratch")))
    assert set(describe(loaded).splitlines()) <= set(told["report"])
    words = "\n".join(told["report"])
    for expected in ("3 to train on, 1 held out", "no caption", "Repeats: 3× (4)"):
        assert expected in words
    _, _, notes = perform("train", "edit.yaml", "--set", "steps=1")
    assert set(told["report"][1:]) <= {line.get("note") for line in notes}


@pytest.mark.slow
def test_what_is_doubtful_is_said_before_training_and_when_it_starts(folder, perform):
    for number in (0, 1):
        (folder / "target" / f"{number}.png").unlink()
    job = {**JOB, "pairs": {**JOB["pairs"], "holdout": 0, "unmatched": "skip"}}
    (folder / "edit.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    left_out = "2 pictures are left out, and only 2 pairs remain."
    _, told, _ = perform("validate", "edit.yaml")
    assert any(line.startswith(f"⚠ {left_out}") for line in told["report"])
    perform("train", "edit.yaml", "--set", "steps=1")
    (first,) = Run.open("edit", folder / "output").logged()
    assert left_out in first["note"]


def damaged(folder: Path, how: str) -> None:
    """Puts something else in the place of a picture after the edit."""
    path = folder / "target" / "1.png"
    if how == "text":  # as some editors keep their history: Pillow stops at 1 MB of it
        info = PngInfo()
        info.add_text("history", "x" * 3_000_000, zip=True)
        Image.open(path).save(path, pnginfo=info)
        return
    if how == "link":
        path.unlink()
        path.symlink_to(folder / "gone.png")
    else:
        content = {"html": b"<!DOCTYPE html><html>Sign in</html>", "cut": path.read_bytes()[:900]}
        path.write_bytes(content[how])


@pytest.mark.parametrize("how", ["html", "link", "cut"])
def test_a_picture_that_is_none_is_named(folder, perform, how):
    damaged(folder, how)
    code, told, _ = perform("train", "edit.yaml")
    assert code == 2 and "1.png" in told["error"] and "\n  File" not in told["error"]
    assert Run.names(folder / "output") == [] or not Run.open("edit", folder / "output").logged()


def test_a_picture_with_much_text_is_read_or_named(folder, perform):
    damaged(folder, "text")
    code, told, _ = perform("train", "edit.yaml", "--set", "steps=1")
    assert code == 0 or (code == 2 and "1.png" in told["error"])


@pytest.mark.slow
def test_a_cut_checkpoint_is_not_exported(folder, perform):
    assert perform("train", "edit.yaml")[0] == 0
    path = Run.open("edit", folder / "output").checkpoint_at(0).path
    path.write_bytes(path.read_bytes()[:-100])
    code, told, _ = perform("export", "edit", "--step", "4", "--to", "out")
    assert code == 2 and "edit" in told["error"]
    assert not (folder / "output" / "loras" / "out.safetensors").exists()


@pytest.mark.slow
def test_a_lora_to_start_from_is_refused_by_name(folder, perform):
    (folder / "cut.safetensors").write_bytes(b"<html>Sign in to download</html>")
    job = {**JOB, "start": "cut.safetensors"}
    (folder / "edit.yaml").write_text(yaml.safe_dump(job), encoding="utf-8")
    code, told, _ = perform("train", "edit.yaml")
    assert code == 2 and "cut.safetensors cannot be read as a LoRA" in told["error"]
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, folder / "cut.safetensors")
    code, told, _ = perform("train", "edit.yaml")
    assert code == 2 and "not a LoRA for the loaded model" in told["error"]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"pairs": {**JOB["pairs"], "holdout": "15%"}}, "pairs: holdout is '15%'"),
        ({"pairs": {**JOB["pairs"], "repeats": "many"}}, "pairs: repeats is 'many'"),
        ({"pairs": {**JOB["pairs"], "unmatched": "maybe"}}, "unmatched is 'maybe'; choose one of"),
        ({"pairs": [5]}, "pairs is 5"),
        ({"epochs": "ten"}, "epochs is 'ten'"),
        ({"start": {"file": "a", "resize": "yes"}}, "start: resize is 'yes'"),
        ({"start": ["a"]}, "start is"),
    ],
)
def test_a_value_of_another_kind_is_named(folder, perform, change, words):
    (folder / "edit.yaml").write_text(yaml.safe_dump({**JOB, **change}), encoding="utf-8")
    code, told, _ = perform("validate", "edit.yaml")
    assert code == 2 and words in told["error"]


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LC_ALL": "en_US.UTF-8", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_ALL": "C", "LANG": "zh_TW"}, "zh"),
        ({"LC_ALL": "C.UTF-8"}, "fr"),  # then as in ComfyUI
    ],
)
def test_the_language_of_a_terminal(monkeypatch, tmp_path, variables, expected):
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path))
    (tmp_path / "default").mkdir()
    settings = tmp_path / "default" / "comfy.settings.json"
    settings.write_text('{"Comfy.Locale": "fr"}', encoding="utf-8")
    assert terminal_language(variables).startswith(expected)


@pytest.mark.parametrize(
    "error, code",
    [
        (ValueError("a"), 1),
        (host.BaseModelError("a"), 2),
        (host.HostError("a"), 2),
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
        (("validate", "edit.yaml", "--set", "steps"), "--set steps: write it as KEY=VALUE"),
        (("validate", "edit.yaml", "--set", "steps=[1"), "--set steps=[1: write it as KEY=VALUE"),
        (("validate", "edit.yaml", "--set", "steps=many"), "steps is 'many'"),
        (("validate", "edit.yaml", "--set", "step=3"), "unknown step"),
        (("validate", "none.yaml"), "cannot be read"),
        (("resume", "nothing"), "no training run 'nothing'"),
        (("export", "edit", "--format", "zip"), "comfyui, diffusers, peft"),
    ):
        code, told, _ = perform(*arguments)
        assert code == 2 and words in told["error"], arguments


@pytest.mark.slow
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
