"""Runs on disk: names, bad disks, interrupted writes."""

import signal
from contextlib import contextmanager
from dataclasses import replace as replace_in

import pytest
import torch
from kontext.trainer.config import TrainConfig
from kontext.trainer.files import StorageError, write_atomically
from kontext.trainer.run import Identity, Run, RunError
from safetensors.torch import load_file

IDENTITY = Identity(TrainConfig(steps=1000, alpha=16.0), "base", "pairs")
LORA = {
    "single_blocks.0.linear1.down": torch.randn(16, 64),
    "single_blocks.0.linear1.up": torch.randn(64, 16),
}


@contextmanager
def full_disk(after: int):
    """The system refuses to let any file grow beyond `after` bytes."""
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def run(tmp_path):
    return Run.create("edit", tmp_path, IDENTITY)


@pytest.mark.parametrize("name", ["my edit", "珠宝修图", "retouch 💍", "v1.5", "修" * 60, "a" * 80])
def test_names_that_are_fit(tmp_path, name):
    run = Run.create(name, tmp_path, IDENTITY)
    run.write_checkpoint(250, LORA, IDENTITY)
    assert [checkpoint.step for checkpoint in Run.open(name, tmp_path).checkpoints()] == [250]
    assert Run.names(tmp_path) == [name]


@pytest.mark.parametrize(
    "name",
    ["", "  ", "../escape", "a/b", "a\\b", "C:x", "con", "nul.txt", "a.", "a" * 81, "修" * 70],
)
def test_names_that_are_not(tmp_path, name):
    with pytest.raises(RunError, match="name"):
        Run.create(name, tmp_path, IDENTITY)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_run_lists_the_known(tmp_path):
    Run.create("first", tmp_path, IDENTITY)
    with pytest.raises(RunError, match="no training run 'second'.*first"):
        Run.open("second", tmp_path)


def test_a_full_disk_leaves_the_older_checkpoints_whole(run):
    first = run.write_checkpoint(250, LORA, IDENTITY)
    content = first.path.read_bytes()
    with full_disk(after=1000), pytest.raises(StorageError, match=r"edit_000500.*Free disk space"):
        run.write_checkpoint(500, LORA, IDENTITY)
    assert first.path.read_bytes() == content
    assert [path.name for path in run.lora_folder.iterdir()] == ["edit_000250.safetensors"]


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "loras").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"--output-directory"):
        Run.create("edit", tmp_path, IDENTITY)


def test_a_half_written_file_is_no_checkpoint(run):
    run.write_checkpoint(250, LORA, IDENTITY)
    (run.lora_folder / "edit_000500.safetensors.tmp").write_bytes(b"half")
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [250]


def test_replacing_a_file_is_all_or_nothing(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old" * 1000)
    with full_disk(after=1000), pytest.raises(StorageError):
        write_atomically(path, b"new" * 1000)
    assert path.read_bytes() == b"old" * 1000
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_cut_short_by_a_crash_is_read(run):
    run.log(step=1, loss=0.5)
    with (run.folder / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert run.logged() == [{"step": 1, "loss": 0.5}]


def test_state_reads_back(run):
    assert not run.has_state()
    run.write_state(250, LORA, "more")
    step, tensors, rest = run.read_state()
    assert (step, rest) == (250, "more") and torch.equal(
        tensors["single_blocks.0.linear1.up"], LORA["single_blocks.0.linear1.up"]
    )


def test_files_of_others_survive_replacing(run, tmp_path):
    run.write_checkpoint(250, LORA, IDENTITY)
    kept = run.lora_folder / "edit_best.safetensors"
    kept.write_bytes(b"the user's own copy")
    Run.create("edit", tmp_path, replace_in(IDENTITY, base_hash="other"), replace=True)
    assert [path.name for path in run.lora_folder.iterdir()] == ["edit_best.safetensors"]


def test_a_checkpoint_says_what_it_is(run):
    checkpoint = run.write_checkpoint(250, LORA, IDENTITY)
    metadata = checkpoint.metadata()
    assert metadata["modelspec.architecture"] == "flux-1-dev/lora"
    assert metadata["ss_network_alpha"] == "16.0"
    tensors = load_file(checkpoint.path)
    assert tensors["lora_unet_single_blocks_0_linear1.alpha"] == 16
    assert tensors["lora_unet_single_blocks_0_linear1.lora_up.weight"].dtype == torch.bfloat16
