"""One process to a run: two real processes, dead ones, another machine, a race for a dead one's."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs import lock
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.lock import LockedError, holding
from kontext.trainer.runs.run import Run

from proofs.reliability.trap import Trap, kill, kill_after, trapped

PACK = Path(lock.__file__).parents[2]
CHILD = """
import importlib.util, sys, time
from pathlib import Path
spec = importlib.util.spec_from_loader("kontext", None)
package = importlib.util.module_from_spec(spec)
package.__path__ = [sys.argv[1]]
sys.modules["kontext"] = package
from kontext.trainer.runs.lock import LockedError, holding
print("ready", flush=True)
sys.stdin.readline()
try:
    with holding(Path(sys.argv[2]), "ring"):
        print("held", flush=True)
        sys.stdin.readline()
except LockedError:
    print("refused", flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """A function: another process that takes the lock of `tmp_path/ring` at a line of input."""
    children = []

    def child():
        command = [sys.executable, "-c", CHILD, str(PACK), str(tmp_path / "ring")]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        children.append(subprocess.Popen(command, **pipes))
        return children[-1]

    yield child
    for each in children:
        each.kill()
        each.communicate()


def take(*children):
    """What each says after it has tried."""
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    return [child.stdout.readline().strip() for child in children]


def old(path, seconds):
    moment = time.time() - seconds
    os.utime(path, (moment, moment))


def test_the_second_process_is_told_who_holds_the_run(start, tmp_path):
    """And gets it at once when the first one is killed."""
    first = start()
    assert take(first) == ["held"]
    with pytest.raises(LockedError, match=rf"“ring”.*number {first.pid} on .*last sign of life"):
        with holding(tmp_path / "ring", "ring"):
            pass
    first.kill()
    first.wait()
    with holding(tmp_path / "ring", "ring") as own:
        assert own.mine
    assert not (tmp_path / "ring").exists(), "of a run that came to nothing, nothing stays"


def test_one_of_many_gets_a_dead_ones_lock(start, tmp_path):
    first = start()
    take(first)
    first.kill()
    first.wait()
    others = [start() for _ in range(6)]
    assert sorted(take(*others)) == ["held", *["refused"] * 5]
    assert [path.name for path in (tmp_path / "ring").iterdir()] == ["lock.json"]


def test_a_process_does_not_hold_a_run_twice(tmp_path):
    with holding(tmp_path / "ring", "ring"):
        with pytest.raises(LockedError), holding(tmp_path / "ring", "ring"):
            pass
        assert (tmp_path / "ring" / "lock.json").exists()


def written(tmp_path, **changes):
    file = tmp_path / "ring" / "lock.json"
    file.parent.mkdir(exist_ok=True)
    owner = dict(token="a", user="mei", host="studio-2", process=4, born=0.0, since="09:12")
    file.write_text(json.dumps({**owner, **changes}), encoding="utf-8")
    return file


@pytest.mark.parametrize("silence, free", [(0, False), (60, False), (600, True)])
def test_another_machine_is_alive_as_long_as_it_gives_a_sign(tmp_path, silence, free):
    old(written(tmp_path), silence)
    if free:
        with holding(tmp_path / "ring", "ring"):
            pass
    else:
        with pytest.raises(LockedError, match="number 4 on studio-2, started by mei at 09:12"):
            with holding(tmp_path / "ring", "ring"):
                pass


@pytest.mark.parametrize(
    "changes",
    [
        {"process": os.getpid(), "born": 1.0},  # the number was given to this process since
        {"process": os.getppid(), "born": 1.0},
        {"process": 2**22 + 1},
    ],
)
def test_a_dead_process_of_this_machine_holds_nothing(tmp_path, changes):
    written(tmp_path, host=lock.machine(), **changes)
    with holding(tmp_path / "ring", "ring") as own:
        assert own.mine


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork and SIGKILL")
@pytest.mark.parametrize("act", [kill, kill_after])
@pytest.mark.parametrize("moment", range(1, 9))
def test_one_killed_while_it_takes_a_run_leaves_it_free(tmp_path, moment, act):
    child = os.fork()
    if child == 0:
        try:
            with trapped(Trap(tmp_path, moment, act)), holding(tmp_path / "ring", "ring"):
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    with holding(tmp_path / "ring", "ring") as own:
        assert own.mine


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork and SIGKILL")
@pytest.mark.parametrize("moment", range(1, 13))
def test_one_killed_while_it_removes_a_dead_ones_lock_leaves_it_free(tmp_path, moment):
    written(tmp_path, host=lock.machine(), process=2**22 + 1)
    child = os.fork()
    if child == 0:
        try:
            with trapped(Trap(tmp_path, moment, kill)), holding(tmp_path / "ring", "ring"):
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    with holding(tmp_path / "ring", "ring") as own:
        assert own.mine


def test_a_drive_without_links_has_locks_too(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", refused)
    with holding(tmp_path / "ring", "ring"):
        with pytest.raises(LockedError), holding(tmp_path / "ring", "ring"):
            pass


def test_a_damaged_lock_is_waited_for_and_then_replaced(tmp_path):
    file = written(tmp_path)
    file.write_bytes(b"\0" * 40)
    old(file, 30)
    with pytest.raises(LockedError), holding(tmp_path / "ring", "ring"):
        pass
    old(file, 600)
    with holding(tmp_path / "ring", "ring"):
        pass


def test_the_one_that_was_asleep_writes_no_more(tmp_path):
    """Its lock was taken for dead: what the other has saved meanwhile stays."""
    run = Run.create("ring", tmp_path, Identity(TrainConfig(alpha=16.0), "base", "pairs"))
    with holding(run.folder, run.name) as run.lock:
        run.write_state(0, {})
        other = {**json.loads(run.lock.file.read_text("utf-8")), "token": "b"}
        run.lock.file.write_text(json.dumps(other), encoding="utf-8")
        with pytest.raises(LockedError, match="taken over"):
            run.write_state(1, {})
        with pytest.raises(LockedError, match="taken over"):
            run.write_checkpoint(1, {}, run.identity())
    assert run.state.step() == 0
    assert json.loads((run.folder / "lock.json").read_text("utf-8"))["token"] == "b"


def test_a_lock_shows_that_it_is_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with holding(tmp_path / "ring", "ring") as own:
        old(own.file, 600)
        deadline = time.monotonic() + 60
        while time.time() - own.file.stat().st_mtime > 300:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_training_is_refused_while_another_process_trains(run_training, start, tmp_path):
    """And nothing of the run is touched, with `replace` neither."""
    run = run_training(name="ring")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    (tmp_path / "ring").symlink_to(run.folder) if os.name != "nt" else pytest.skip("no links")
    child = start()
    assert take(child) == ["held"]
    with pytest.raises(LockedError, match="being trained"):
        run_training(name="ring", replace=True)
    lock_file = run.folder / "lock.json"
    after = {path: path.read_bytes() for path in before}
    assert after == before and lock_file.exists()
