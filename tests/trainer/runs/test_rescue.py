"""The disk refuses a save: the work goes to a second place, and the run continues from there.

Reference: the run whose disk took everything.
"""

import builtins
import errno
import io
import os
import sys
from pathlib import Path

import pytest
import torch
from kontext.files import StorageError
from kontext.trainer import host
from kontext.trainer.loop import train
from kontext.trainer.request import TrainingRequest
from kontext.trainer.runs import rescue
from kontext.trainer.runs.run import Run

from ..short_runs import SHORT, assert_same, last_lora

CODES = {
    "disk full": errno.ENOSPC,
    "read-only": errno.EROFS,
    "vanished": errno.ENOENT,
    "permission lost": errno.EACCES,
}
STAGES = ["open", "write", "fsync", "replace"]


@pytest.fixture(scope="module")
def whole(weights, make_flux, make_pairs, clip, vae, tmp_path_factory):
    """The run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    base, pairs = host.Base(make_flux(weights=weights), clip, vae), make_pairs(folder, 4)
    with torch.inference_mode():
        places = folder / "out", folder / "cache"
        return train(TrainingRequest(base, pairs, SHORT, "whole", *places))


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(rescue, "LAST_RESORT", tmp_path / "last")
    return [tmp_path / "user"]


def being_written():
    """The file that a temporary one is for; its own name does not say."""
    frame = sys._getframe()
    while frame and frame.f_code.co_name != "write_atomically":
        frame = frame.f_back
    return frame and frame.f_locals["path"]


class Faulty:
    """Raises the system's error for files below some folders, at one stage of writing them."""

    def __init__(self, stage, code, *folders, name=""):
        self.stage, self.code, self.folders, self.name = stage, code, folders, name
        self.hits = 0

    def strike(self, stage, path):
        path = str(being_written() or path)
        if stage == self.stage and self.name in path and path.startswith(self.folders):
            self.hits += 1
            raise OSError(self.code, os.strerror(self.code), path)

    def install(self, patch):
        real_open, real_replace, real_fsync = io.open, os.replace, os.fsync
        names = {}
        fault = self

        class Written(io.FileIO):
            def write(self, content):
                fault.strike("write", self.name)
                return super().write(content)

        def opened(file, mode="r", *rest, **options):
            if "w" not in mode and "a" not in mode:
                return real_open(file, mode, *rest, **options)
            fault.strike("open", file)
            if mode != "wb":
                return real_open(file, mode, *rest, **options)
            handle = Written(file, "wb")
            names[handle.fileno()] = file
            return handle

        def flushed(descriptor):
            fault.strike("fsync", names.get(descriptor, ""))
            real_fsync(descriptor)

        def replaced(source, target):
            fault.strike("replace", target)
            real_replace(source, target)

        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        patch.setattr(os, "fsync", flushed)
        patch.setattr(os, "replace", replaced)


def fault_after(monkeypatch, step, fault):
    """Strike from the save after this step on."""
    real = host.Progress.update

    def update(self, done, *arguments, **options):
        if done == step and options.get("preview") is None and not fault.hits:
            fault.install(monkeypatch)
        real(self, done, *arguments, **options)

    monkeypatch.setattr(host.Progress, "update", update)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("reason", CODES)
def test_a_refused_save_goes_elsewhere_and_continues(
    run_training, whole, places, tmp_path, monkeypatch, reason, stage
):
    """Every way for the system to say no, at every point of the save of step 4."""
    output = str(tmp_path / "out")
    with monkeypatch.context() as patch:
        fault = Faulty(stage, CODES[reason], output, name="test_000004")
        fault_after(patch, 4, fault)
        with pytest.raises(StorageError, match=r"up to step 4 is safe in .*user") as raised:
            run_training(rescue_places=places)
    assert fault.hits == 1
    assert os.strerror(CODES[reason]) in str(raised.value)

    run = Run.open("test", tmp_path / "out")
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2] and not run.finished
    assert_same(
        host.load_lora_file(run.checkpoint_at(2).path),
        host.load_lora_file(whole.checkpoint_at(2).path),
    )
    assert not [*tmp_path.rglob("*.tmp")]
    (folder,) = places[0].iterdir()
    assert Run.open("test", folder).read_state()[0] == 4

    continued = run_training(rescue_places=places)
    assert [checkpoint.step for checkpoint in continued.checkpoints()] == [2, 4, 6]
    assert [entry["loss"] for entry in continued.logged()] == [
        entry["loss"] for entry in whole.logged()
    ]
    assert_same(last_lora(continued), last_lora(whole))
    assert not [*places[0].iterdir()], "what was brought back is not kept twice"


@pytest.mark.parametrize("name", ["state.safetensors", "log.jsonl", "test_000006", "samples"])
def test_whatever_file_is_refused(run_training, whole, places, tmp_path, monkeypatch, name):
    """The state after its checkpoint, the log between saves, the last checkpoint, a sample."""
    config = SHORT.replace(preview_steps=1 if name == "samples" else 0)
    stage = "open" if name == "log.jsonl" else "replace"
    with monkeypatch.context() as patch:
        fault = Faulty(stage, errno.ENOSPC, str(tmp_path / "out"), name=name)
        fault_after(patch, 4, fault)
        with pytest.raises(StorageError, match="No space left"):
            run_training(config, rescue_places=places)
    assert fault.hits
    run = run_training(config, rescue_places=places)
    steps = [entry["step"] for entry in run.logged()]
    assert run.finished and steps == [1, 2, 3, 4, *([] if name == "log.jsonl" else [5]), 6]
    assert_same(last_lora(run), last_lora(whole))


def test_the_folder_is_gone(run_training, whole, places, tmp_path, monkeypatch):
    """A drive was unplugged, really: no error is made up. The run comes back on a new one."""
    real = host.Progress.update

    def update(self, done, *arguments, **options):
        if done == 3:
            os.replace(tmp_path / "out", tmp_path / "unplugged")
        real(self, done, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(host.Progress, "update", update)
        with pytest.raises(StorageError, match="step 4 is safe"):
            run_training(rescue_places=places)
    assert not (tmp_path / "out").exists()
    run = run_training(rescue_places=places)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [4, 6]
    assert_same(last_lora(run), last_lora(whole))


def test_the_second_place_is_full_as_well(run_training, places, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        folders = str(tmp_path / "out"), str(places[0])
        fault_after(patch, 4, Faulty("write", errno.ENOSPC, *folders, name="safetensors"))
        with pytest.raises(StorageError, match="safe in .*last"):
            run_training(rescue_places=places)
    assert run_training(rescue_places=places).finished


def test_no_place_at_all(run_training, places, tmp_path, monkeypatch):
    """The message says what is lost; the run goes on from the save before."""
    with monkeypatch.context() as patch:
        fault_after(patch, 4, Faulty("write", errno.ENOSPC, str(tmp_path), name="safetensors"))
        with pytest.raises(StorageError, match="no room in .*up to 4, will be done again"):
            run_training(rescue_places=places)
    assert not [*tmp_path.rglob("*.tmp")]
    run = run_training(rescue_places=places)
    assert run.finished and [entry["step"] for entry in run.logged()] == [1, 2, 3, 4, 5, 6]


def test_rescued_work_of_another_run_is_left_alone(run_training, places, tmp_path, monkeypatch):
    """Same name, other settings: it is neither taken up nor deleted."""
    with monkeypatch.context() as patch:
        fault_after(patch, 4, Faulty("open", errno.EACCES, str(tmp_path / "out"), name="_000004"))
        with pytest.raises(StorageError, match="safe in"):
            run_training(rescue_places=places)
    other = run_training(SHORT.replace(seed=1), rescue_places=places, replace=True)
    assert [checkpoint.step for checkpoint in other.checkpoints()] == [2, 4, 6]
    (folder,) = places[0].iterdir()
    assert Run.open("test", folder).config.seed == 0


def test_an_old_checkpoint_that_is_in_use_does_not_stop_the_run(run_training, monkeypatch):
    """As on Windows, where a loader may have it open."""
    real = Path.unlink

    def unlink(self, *arguments, **options):
        if self.name == "test_000002.safetensors":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        real(self, *arguments, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    run = run_training(SHORT.replace(keep=1))
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [2, 6]
    assert any("could not be deleted" in entry.get("note", "") for entry in run.logged())
