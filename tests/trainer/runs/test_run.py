"""Runs on disk: names, bad disks, interrupted writes."""

import shutil
import signal
from contextlib import contextmanager
from dataclasses import replace as replace_in
from datetime import datetime

import pytest
import torch
from kontext.files import DamagedFileError, StorageError, write_atomically
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.identity import Identity, RunError
from kontext.trainer.runs.run import Run
from kontext.trainer.runs.state import State
from safetensors.torch import load_file, save_file

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
    assert not run.state.exists()
    run.write_state(250, LORA, "more")
    step, tensors, rest = run.state.read()
    assert (step, rest) == (250, "more") and torch.equal(
        tensors["single_blocks.0.linear1.up"], LORA["single_blocks.0.linear1.up"]
    )


def test_files_of_others_survive_replacing(run, tmp_path):
    run.write_checkpoint(250, LORA, IDENTITY)
    kept = run.lora_folder / "edit_best.safetensors"
    kept.write_bytes(b"the user's own copy")
    Run.create("edit", tmp_path, replace_in(IDENTITY, base_hash="other"), replace=True)
    assert [path.name for path in run.lora_folder.iterdir()] == ["edit_best.safetensors"]


def saved(run, *steps, held_out=None):
    """Checkpoints at these steps, and the held-out losses that the log tells of them."""
    for step in steps:
        run.write_checkpoint(step, LORA, IDENTITY)
        each = (held_out or {}).get(step)
        losses = {"holdout": each, "holdout_base": [1.0] * len(each)} if each else {}
        run.log(step=step, loss=0.5, **losses)


def kept(run):
    return [checkpoint.step for checkpoint in run.checkpoints()]


def test_the_last_the_best_and_the_pinned_stay(run):
    losses = {1: [0.9, 0.9], 2: [0.2, 0.4], 3: [0.1, 0.6], 4: [0.5, 0.5], 6: [0.6, 0.6]}
    saved(run, 1, 2, 3, 4, 5, 6, 7, held_out=losses)
    run.pin(1)
    assert run.best().step == 2
    assert run.drop_oldest(2) == []
    assert kept(run) == [1, 2, 6, 7]
    run.pin(1, pinned=False)
    run.drop_oldest(1)
    assert kept(run) == [2, 7]
    assert run.drop_oldest(0) == [] and kept(run) == [2, 7]


def test_the_best_is_of_those_that_are_there_and_measured(run):
    """A loss that is not finite, of another step, or of a deleted checkpoint does not count."""
    saved(run, 1, 2, 3, held_out={1: [float("nan")], 2: [0.5], 3: [0.4]})
    run.log(step=4, loss=0.5, holdout=[0.1], holdout_base=[1.0])
    assert run.best().step == 3
    run.checkpoint_at(3).path.unlink()
    assert run.best().step == 2
    run.checkpoint_at(2).path.unlink()
    assert run.best() is None


def test_the_best_is_known_without_reading_the_log_again(run, monkeypatch):
    """Of 20,000 steps and 100 saves, each line is read once; what is logged anew counts anew."""
    lines, real = [], run.lines.entry_of
    run.lines.rewrite({"step": step, "loss": 0.5} for step in range(1, 20_001))
    monkeypatch.setattr(run.lines, "entry_of", lambda entry: lines.append(1) or real(entry))
    for step in range(20_001, 20_101):
        run.log(step=step, loss=0.5, holdout=[1 / step], holdout_base=[1.0])
        if step % 10 == 0:
            run.write_checkpoint(step, LORA, IDENTITY)
        run.drop_oldest(2)
    assert len(lines) == 20_100
    assert run.best().step == 20_100
    run.rewind_log(20_050)
    run.log(step=20_090, loss=0.5, holdout=[1e-9], holdout_base=[1.0])
    assert run.best().step == 20_090


@pytest.mark.parametrize(
    "torn", [{"holdout": [0.1]}, {"holdout": [0.1, 0.2], "holdout_base": [1.0]}]
)
def test_half_a_measurement_is_none(run, torn):
    saved(run, 1, 2, held_out={1: [0.5]})
    run.lines.append({"step": 2, "loss": 0.5, **torn})
    assert run.best().step == 1 and run.drop_oldest(1) == []


def test_pins_are_kept_in_a_file_and_need_a_checkpoint(run, tmp_path):
    saved(run, 1, 2)
    run.pin(2)
    run.pin(1)
    assert Run.open("edit", tmp_path).pinned() == {1, 2}
    assert (run.folder / "pinned.json").read_text() == "[1, 2]"
    with pytest.raises(RunError, match="no checkpoint at step 3. It has: 1, 2"):
        run.pin(3)


PAIR = {"target": "a", "controls": "b", "caption": "polish", "split": "train", "repeats": "1"}


def test_what_differs_is_listed(tmp_path):
    """Everything at once, each thing by name."""
    config = TrainConfig(steps=1000, alpha=16.0)
    pairs = {name: dict(PAIR) for name in ("ring", "pin", "clasp")}
    first = Identity(config, "base", "1", "", "t5", "vae", pairs)
    others = {
        "ring": {**PAIR, "caption": "polish it"},
        "clasp": {**PAIR, "target": "c", "mask": "d"},
        **{f"new{i}": PAIR for i in range(7)},
    }
    other = Identity(
        config.replace(rank=8, targets="linear1"), "other", "2", "lora", "fp8", "other", others
    )
    run = Run.create("edit", tmp_path, first)
    saved(run, 1)
    run.write_state(1, LORA)
    assert run.obstacles(replace_in(first, config=config.replace(learning_rate=1e-5))) == []
    assert run.obstacles(other) == [
        "rank was 16, now 8",
        "targets was blocks, now linear1",
        "another base model, or other LoRAs on it",
        "pairs added: new0 new1 new2 new3 new4 and 2 more, pairs removed: pin, "
        "other captions: ring, other masks: clasp, other target pictures: clasp",
        "another LoRA to start from",
        "other text encoders",
        "another VAE",
    ]


def test_a_run_without_its_state_is_not_begun_anew(run, tmp_path):
    """Its checkpoints would be overwritten one by one."""
    saved(run, 250)
    with pytest.raises(
        RunError, match="state.safetensors, which is needed to continue, is missing"
    ):
        Run.create("edit", tmp_path, IDENTITY)
    assert kept(run) == [250]


DAMAGE = {
    "cut": lambda content: content[:-100],
    "NULs": lambda content: content[:-100] + b"\0" * 100,
    "a bit": lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_is_told(run, damage):
    run.write_state(250, LORA)
    run.state.path.write_bytes(damage(run.state.path.read_bytes()))
    with pytest.raises(RunError, match="damaged.*`start_from`"):
        run.state.read()


def test_settings_out_of_range_are_told_with_their_file(run, tmp_path):
    path = run.folder / "run.yaml"
    path.write_text(path.read_text("utf-8").replace("rank: 16", "rank: -1"), "utf-8")
    with pytest.raises(RunError, match="run.yaml: rank is -1; it goes from 1 to 256. Correct it"):
        Run.open("edit", tmp_path).identity()


@pytest.mark.parametrize("notes", ["[1", "3", "[" * 50_000])
def test_a_lora_whose_notes_are_spoilt_is_no_help(run, notes):
    checkpoint = run.write_checkpoint(250, LORA, IDENTITY)
    save_file(load_file(checkpoint.path), checkpoint.path, {"ss_training_config": notes})
    run.yaml_file.write_bytes(b"")
    with pytest.raises(RunError, match="run.yaml is damaged"):
        run.identity()


def test_a_run_of_a_newer_version_is_told(run, tmp_path):
    path = run.folder / "run.yaml"
    path.write_text(path.read_text("utf-8").replace("config:", "config:\n  magic: 3"), "utf-8")
    with pytest.raises(RunError, match="magic.*Update the trainer"):
        Run.open("edit", tmp_path).identity()


def test_a_checkpoint_says_what_it_is(run):
    checkpoint = run.write_checkpoint(250, LORA, IDENTITY)
    metadata = checkpoint.metadata()
    assert metadata["modelspec.architecture"] == "flux-1-dev/lora"
    assert metadata["ss_network_alpha"] == "16.0"
    tensors = load_file(checkpoint.path)
    assert tensors["lora_unet_single_blocks_0_linear1.alpha"] == 16
    assert tensors["lora_unet_single_blocks_0_linear1.lora_up.weight"].dtype == torch.bfloat16


# ---- nothing is lost, nothing is called finished that is not -------------------------------

OTHER = replace_in(IDENTITY, base_hash="other")


def worked(tmp_path, name="edit", steps=(250, 1000)):
    run = Run.create(name, tmp_path, IDENTITY)
    saved(run, *steps)
    run.write_state(steps[-1], LORA)
    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("left", ["state", "log", "loras", "a damaged state", "all but run.yaml"])
def test_whatever_is_left_of_a_run_is_work(tmp_path, left):
    """Its LoRAs were moved away, say. It is not deleted, and with `replace` it is moved aside."""
    run = worked(tmp_path)
    if left != "loras" and left != "all but run.yaml":
        shutil.rmtree(run.lora_folder)
    if left != "log" and left != "all but run.yaml":
        run.lines.path.unlink()
    if left in ("log", "loras"):
        run.state.path.unlink()
    if left == "a damaged state":
        run.state.path.write_bytes(b"\0" * 100)
    if left == "all but run.yaml":
        run.yaml_file.unlink()
    before = contents(tmp_path)
    with pytest.raises(RunError, match="exists and differs.*`replace` to move.*kontext_trash"):
        Run.create("edit", tmp_path, OTHER)
    assert contents(tmp_path) == before
    new = Run.create("edit", tmp_path, OTHER, replace=True)
    assert not new.has_work() and new.identity() == OTHER
    (trash,) = (tmp_path / "kontext_trash").iterdir()
    assert contents(trash) == before
    if left != "all but run.yaml":
        assert Run.open("edit", trash).identity() == IDENTITY


@pytest.mark.parametrize("name, twin", [("Ring", "ring"), ("RING", "ring"), ("é", "e\u0301")])
def test_names_that_are_one_folder_elsewhere(tmp_path, name, twin):
    worked(tmp_path, name)
    before = contents(tmp_path)
    for replace in (False, True):
        with pytest.raises(RunError, match=f"There is a run named '{name}'"):
            Run.create(twin, tmp_path, OTHER, replace)
    with pytest.raises(RunError, match="no training run"):
        Run.open(twin, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"\0" * len(content),
        lambda content: content + b"more",
        lambda content: content.replace(b"lora_up.weight", b"lora_xx.weight"),
        lambda content: content.replace(b".alpha", b".alpfa"),
    ],
    ids=["empty", "5 bytes", "half", "all but one", "zeros", "longer", "names", "no alpha"],
)
def test_a_run_is_finished_with_a_whole_file_only(tmp_path, damage):
    run = worked(tmp_path)
    assert run.finished
    path = run.checkpoint_at(0).path
    path.write_bytes(damage(path.read_bytes()))
    assert not run.finished and kept(run) == [250]
    with pytest.raises(RunError, match="edit_001000.safetensors is damaged"):
        run.checkpoint_at(1000)
    Run.create("edit", tmp_path, IDENTITY)
    assert path.exists(), "it is written again, not deleted"


@pytest.mark.parametrize("how", ["NULs", "a bit"])
def test_a_run_is_finished_with_the_tensors_that_were_saved_only(tmp_path, how):
    """A header that fits is not enough."""
    run = worked(tmp_path)
    path = run.checkpoint_at(0).path
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    assert not run.finished
    with pytest.raises(RunError, match="edit_001000.safetensors is damaged"):
        run.checkpoint_at(1000)


@pytest.mark.parametrize("text, steps", [('["1"]', {1}), ("[1, 2]", {1, 2}), ("[]", set())])
def test_pins_written_by_hand(run, text, steps):
    saved(run, 1, 2, 3)
    (run.folder / "pinned.json").write_text(text, encoding="utf-8")
    assert run.pinned() == steps
    run.drop_oldest(1)
    assert set(kept(run)) == steps | {3}


@pytest.mark.parametrize("text", ["[1", "{}", '["last"]', "[1.5]", "\0\0", "[null]", "[[1]]"])
def test_with_pins_that_cannot_be_read_nothing_is_deleted(run, text):
    saved(run, 1, 2, 3)
    (run.folder / "pinned.json").write_text(text, encoding="utf-8")
    with pytest.raises(DamagedFileError, match="pinned.json is damaged.*list of steps"):
        run.pinned()
    assert "pinned.json is damaged" in run.drop_oldest(1)[0]
    assert kept(run) == [1, 2, 3]


BROKEN = [
    b"",
    b"\0" * 50,
    b"a: [",
    b"- 1",
    b"config: 3",
    b"\xff\xfe\x00",
    b"name: edit\n",
    b"[" * 9000,
]


@pytest.mark.slow
@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_run_yaml_is_taken_from_the_last_lora(tmp_path, content):
    run = worked(tmp_path)
    run.yaml_file.write_bytes(content)
    worked(tmp_path, "other")
    assert set(Run.names(tmp_path)) == {"edit", "other"}
    assert run.config == IDENTITY.config and run.finished
    Run.create("edit", tmp_path, IDENTITY)
    assert run.file.read()["config"]["steps"] == 1000
    with pytest.raises(RunError, match="differs"):
        Run.create("edit", tmp_path, replace_in(OTHER, config=TrainConfig(steps=1000, rank=7)))


def test_a_broken_run_yaml_without_a_lora_is_named(run):
    run.yaml_file.write_bytes(b"a: [")
    with pytest.raises(RunError, match="run.yaml is damaged"):
        run.identity()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 3}', "\0"])
def test_a_broken_pairs_json_does_not_matter(run, tmp_path, text):
    saved(run, 1)
    run.write_state(1, LORA)
    (run.folder / "pairs.json").write_text(text, encoding="utf-8")
    assert Run.create("edit", tmp_path, IDENTITY).identity() == IDENTITY


@pytest.mark.parametrize("metadata", [None, {}, {"step": "many"}, {"rest": ""}])
def test_a_state_of_another_version_is_named(run, metadata):
    save_file({"a": torch.zeros(1)}, run.state.path, metadata)
    with pytest.raises(RunError, match="state.safetensors.*damaged.*`start_from`"):
        run.state.read()


def test_the_same_checkpoint_has_the_same_bytes(run):
    first = run.write_checkpoint(1, LORA, IDENTITY).path.read_bytes()
    assert {run.write_checkpoint(1, LORA, IDENTITY).path.read_bytes() for _ in range(8)} == {first}


def test_a_state_with_one_changed_digit_is_not_continued(tmp_path):
    """In what is not a tensor, too: such as the learning rate's factor."""
    state = State(tmp_path / "state.safetensors")
    state.write(7, {"a": torch.ones(2)}, '{"rate": 0.5}')
    assert state.read()[2] == '{"rate": 0.5}'
    content = state.path.read_bytes()
    state.path.write_bytes(content.replace(b"0.5", b"0.9"))
    with pytest.raises(RunError, match="is damaged .its content is not what was written"):
        state.read()


def test_two_runs_of_a_name_lie_in_the_trash_even_within_one_tick(tmp_path, monkeypatch):
    monkeypatch.setattr("kontext.files.now", lambda: datetime(2026, 1, 1))
    before = []
    for _ in range(2):
        worked(tmp_path, "edit")
        before.append(contents(tmp_path / "loras"))
        Run("edit", tmp_path).put_aside()
    first, second = sorted((tmp_path / "kontext_trash").iterdir())
    assert [contents(first / "loras"), contents(second / "loras")] == before
