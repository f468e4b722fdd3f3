"""The disk refuses a save: the work goes to a second place, and the run continues from there.

Reference: the run whose disk took everything.
"""

import builtins
import errno
import gc
import io
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import comfy.model_management as memory
import pytest
import torch
from kontext.dataset.pair import PairedDataset
from kontext.evaluation.progress.follow import Follower
from kontext.files import StorageError
from kontext.trainer import host
from kontext.trainer.loop import train
from kontext.trainer.request import TrainingRequest
from kontext.trainer.runs import rescue
from kontext.trainer.runs.run import Run
from kontext.trainer.watcher import Watcher

from ..short_runs import SHORT, assert_same, last_lora


@pytest.fixture(autouse=True)
def dead_models_are_gone():
    """ComfyUI counts on no model of an earlier test dying while it goes through its list."""
    gc.collect()
    memory.cleanup_models_gc()


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


@pytest.mark.slow
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
    assert Run.open("test", folder).state.read()[0] == 4

    continued = run_training(rescue_places=places)
    assert [checkpoint.step for checkpoint in continued.checkpoints()] == [2, 4, 6]
    assert [entry["loss"] for entry in continued.logged()] == [
        entry["loss"] for entry in whole.logged()
    ]
    assert_same(last_lora(continued), last_lora(whole))
    assert not [*places[0].iterdir()], "what was brought back is not kept twice"


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_second_place_is_full_as_well(run_training, places, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        folders = str(tmp_path / "out"), str(places[0])
        fault_after(patch, 4, Faulty("write", errno.ENOSPC, *folders, name="safetensors"))
        with pytest.raises(StorageError, match="safe in .*last"):
            run_training(rescue_places=places)
    assert run_training(rescue_places=places).finished


@pytest.mark.slow
def test_no_place_at_all(run_training, places, tmp_path, monkeypatch):
    """The message says what is lost; the run goes on from the save before."""
    with monkeypatch.context() as patch:
        fault_after(patch, 4, Faulty("write", errno.ENOSPC, str(tmp_path), name="safetensors"))
        with pytest.raises(StorageError, match="no room in .*up to 4, will be done again"):
            run_training(rescue_places=places)
    assert not [*tmp_path.rglob("*.tmp")]
    run = run_training(rescue_places=places)
    assert run.finished and [entry["step"] for entry in run.logged()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
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


@pytest.mark.slow
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


def stopped_at_4(run_training, places, tmp_path):
    """A run whose save of step 4 was refused, and the folder that took it."""
    with pytest.MonkeyPatch.context() as patch:
        fault_after(patch, 4, Faulty("open", errno.EACCES, str(tmp_path / "out"), name="_000004"))
        with pytest.raises(StorageError, match="safe in"):
            run_training(rescue_places=places)
    (folder,) = places[0].iterdir()
    return Run("test", tmp_path / "out"), folder


def assert_as_whole(run, whole):
    assert run.finished and [entry["loss"] for entry in run.logged()] == [
        entry["loss"] for entry in whole.logged()
    ]
    assert_same(last_lora(run), last_lora(whole))


@pytest.mark.slow
def test_a_drive_that_was_away_for_a_moment(run_training, whole, places, tmp_path, monkeypatch):
    """What was rescued without the log does not replace the log that is back."""
    real = host.Progress.update

    def update(self, done, *arguments, **options):
        if done == 3:
            os.replace(tmp_path / "out", tmp_path / "unplugged")
        real(self, done, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(host.Progress, "update", update)
        with pytest.raises(StorageError, match="step 4 is safe"):
            run_training(rescue_places=places)
    os.replace(tmp_path / "unplugged", tmp_path / "out")
    run = run_training(rescue_places=places)
    losses = {entry["step"]: entry["loss"] for entry in whole.logged()}
    kept = {entry["step"]: entry["loss"] for entry in run.logged()}
    assert {1, 2, 3, 5, 6} <= set(kept) and kept.items() <= losses.items()
    assert_same(last_lora(run), last_lora(whole))


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["state", "state.safetensors", "a damaged state", "run.yaml"])
def test_rescued_work_is_taken_up_where_the_run_itself_is_incomplete(
    run_training, whole, places, tmp_path, lost
):
    run, _ = stopped_at_4(run_training, places, tmp_path)
    if lost == "state":
        shutil.rmtree(run.state.path.parent)
    elif lost == "a damaged state":
        run.state.path.write_bytes(b"\0" * 1000)
    else:
        {"run.yaml": run.yaml_file}.get(lost, run.state.path).unlink()
    assert_as_whole(run_training(rescue_places=places), whole)


def plant(place, rescued, kind):
    """A folder such as somebody else, or a power cut, may leave in a rescue place."""
    folder = place / "2999-01-01_00-00-00"
    shutil.copytree(rescued, folder)
    run = Run("test", folder)
    if kind == "a link":
        shutil.rmtree(folder)
        folder.symlink_to(rescued, target_is_directory=True)
    elif kind == "a file":
        shutil.rmtree(folder)
        folder.write_bytes(b"x")
    elif kind == "a state from the future":
        run.state.path.write_bytes(b"\0" * 100)
    elif kind == "no state":
        run.state.path.unlink()
    else:
        content = {"zeros": b"\0" * 9, "a list": b"- 1", "odd": b"config: {x: 1}"}
        run.yaml_file.write_bytes(content[kind])
        for path in run.lora_folder.glob("*"):
            path.unlink()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["a link", "a file", "a state from the future", "no state", "zeros", "a list", "odd"]
)
def test_what_is_planted_in_a_rescue_place_blocks_nobody(
    run_training, whole, places, tmp_path, kind
):
    _, folder = stopped_at_4(run_training, places, tmp_path)
    planted = plant(places[0], folder, kind)
    assert_as_whole(run_training(rescue_places=places), whole)
    assert planted.exists() or planted.is_symlink()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no owners by number")
def test_the_work_of_another_user_is_not_taken_up(
    run_training, whole, places, tmp_path, monkeypatch
):
    _, folder = stopped_at_4(run_training, places, tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert_as_whole(run_training(rescue_places=places), whole)
    assert Run.open("test", folder).state.step() == 4


def test_the_last_resort_is_the_users_own():
    assert not rescue.personal_folder().is_relative_to(tempfile.gettempdir())


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 7, 0.5, 0.999])
def test_a_last_lora_that_is_not_whole_is_written_again(run_training, whole, left):
    """From the state, as it was, to the last bit."""
    run = run_training()
    path = run.checkpoint_at(6).path
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content)) if left < 1 else left])
    assert not run.finished
    assert run_training().finished and path.read_bytes() == content


class Failing(Watcher):
    def begin(self, run):
        self.steps = 0

    def add(self, entry):
        self.steps += 1
        raise ValueError("a picture that cannot be shown")

    def saved(self):
        raise KeyError("page")


@pytest.mark.slow
def test_what_is_only_shown_does_not_stop_the_training(run_training, whole):
    watcher = Failing()
    assert_as_whole(run_training(watcher=watcher), whole)
    assert watcher.steps == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_that_are_not_unicode(run_training, whole, pairs, tmp_path):
    """As a zip from an old Windows leaves them on Linux: trained, shown, continued."""
    odd = tmp_path / os.fsdecode(b"r\xffing")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    moved = []
    for pair in pairs:
        stem = os.fsdecode(b"\xd2\xf8") + pair.stem
        files = [odd / f"{stem}_{number}.png" for number in range(2)]
        for source, target in zip((pair.target, pair.controls[0]), files, strict=True):
            shutil.copy2(source, target)
        moved.append(replace(pair, stem=stem, target=files[0], controls=(files[1],)))
    named = PairedDataset(tuple(moved))
    run = run_training(pairs=named, watcher=Follower(named))
    assert run.finished and (run.folder / "run.html").exists()
    assert run_training(pairs=named).checkpoints() == run.checkpoints()
