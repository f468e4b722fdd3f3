import json
import time

import pytest
from kontext.dataset.pair import PairedDataset
from kontext.evaluation.progress import follow, run_page
from kontext.evaluation.progress.curves import Course, as_csv
from kontext.evaluation.progress.diagnosis import diagnose
from kontext.evaluation.progress.follow import Follower, progress
from kontext.files import StorageError
from kontext.trainer.config import TrainConfig
from kontext.trainer.runs.identity import Identity
from kontext.trainer.runs.run import Run

from ..runs import STEPS, known_run


@pytest.fixture
def run(tmp_path) -> Run:
    config = TrainConfig(steps=STEPS, alpha=16.0)
    return Run.create("环 & co", tmp_path, Identity(config, "base", "pairs"))


@pytest.fixture
def events(monkeypatch) -> list[dict]:
    sent: list[dict] = []
    monkeypatch.setattr(
        follow.host,
        "tell_pages",
        lambda event, content: sent.append(json.loads(json.dumps(content))),
    )
    return sent


def test_an_event_holds_the_whole_chart():
    log = known_run("memorising")
    course = Course(log)
    chart = progress(course, 0, 2 * STEPS, diagnose(course))
    chart = json.loads(json.dumps(chart, allow_nan=False))
    assert chart["step"] == STEPS and chart["steps"] == 2 * STEPS
    assert chart["loss"][-1][:2] == [STEPS, pytest.approx(log[-1]["loss"], rel=1e-3)]
    assert len(chart["loss"]) <= 200 and len(chart["held_out"]) == 10
    assert chart["held_out"][-1][2] < chart["held_out"][-1][1] < chart["held_out"][-1][3]
    assert chart["findings"][0]["kind"] == "memorising"
    assert chart["seconds_per_step"] == 0.5 and chart["seconds_left"] == pytest.approx(750, abs=1)
    assert len(json.dumps(chart)) < 10_000


def test_the_pace_is_known_from_the_first_steps():
    log = [dict(entry, seconds=0.5 * entry["step"]) for entry in known_run("memorising")[:5]]
    chart = progress(Course(log), 0, 15, [])
    assert chart["seconds_per_step"] == 0.5 and chart["seconds_left"] == 5


def test_what_was_not_measured_is_no_number_that_json_lacks():
    """A log of another program, or a line that was written by hand."""
    log = [{"step": step, "loss": 0.5} for step in range(1, 40)]
    for length in (1, 5, 39):
        chart = progress(Course(log[:length]), 0, 100, [])
        assert json.loads(json.dumps(chart, allow_nan=False))["seconds_left"] == 0


def test_two_pairs_have_null_for_bounds():
    course = Course(known_run("improving", pairs=2))
    chart = progress(course, 0, STEPS, diagnose(course))
    chart = json.loads(json.dumps(chart, allow_nan=False))
    assert chart["held_out"][-1][2:] == [None, None]


def test_events_are_few_and_come_at_the_moments_that_matter(run, events):
    follower = Follower(PairedDataset(()), "7")
    follower.begin(run)
    for entry in known_run("improving"):
        follower.add(entry)
    tested = {150 * i for i in range(1, 11)}
    assert {1, *tested} <= {event["step"] for event in events}
    assert {event["node"] for event in events} == {"7"} and {e["run"] for e in events} == {
        "环 & co"
    }
    assert len(events) < 60


def test_an_event_takes_the_same_time_however_long_the_run_is():
    """At a million steps it took 1.2 s, in the training thread."""

    def seconds(steps):
        entry = {"loss": 0.5, "learning_rate": 1e-4, "seconds": 1.0, "memory": 0}
        course = Course({**entry, "step": step} for step in range(1, steps + 1))
        started = time.perf_counter()
        for step in range(steps + 1, steps + 21):
            course.add({**entry, "step": step})
            progress(course, 0, 2 * steps, [])
        return time.perf_counter() - started

    assert seconds(100_000) < 10 * seconds(1000)  # a hundredfold, if it grew with the steps


@pytest.mark.slow
def test_the_table_is_continued_as_it_would_be_written(run):
    """Also where the log began earlier, went back, or the disk was full for a moment."""
    log = known_run("improving", tests=5)
    for entry in log[:400]:
        run.log(**entry)
    follower = Follower(PairedDataset(()))
    follower.begin(run)
    path = run.folder / "log.csv"
    for place, entry in enumerate(log[400:900], start=400):
        follower.add(entry)
        if place in (450, 451, 700):
            follower.saved()
            assert path.read_text("utf-8") == as_csv(Course(log[: place + 1]))
    follower.table.path = run.folder  # a folder, which no file replaces
    with pytest.raises(StorageError):
        follower.table.write()
    follower.table.path = path
    follower.table.write()
    assert path.read_text("utf-8") == as_csv(Course(log[:900]))
    for entry in log[400:1000]:
        run.log(**entry)
    follower.begin(run)  # as another process does
    assert follower.table.written == 900
    follower.saved()
    assert path.read_text("utf-8") == as_csv(Course(log[:1000]))
    run.rewind_log(300)
    follower.begin(run)
    follower.saved()
    assert path.read_text("utf-8") == as_csv(Course(log[:300]))


def after_a_step(run):
    follower = Follower(PairedDataset(()))
    follower.begin(run)
    follower.add(known_run("improving")[0])
    return follower


def test_without_a_node_there_are_no_events(run, events):
    after_a_step(run)
    assert events == []


def test_going_back_forgets_the_steps_that_were_undone(run, events):
    follower = Follower(PairedDataset(()), "7")
    follower.begin(run)
    for entry in known_run("improving")[:10]:
        follower.add(entry)
    follower.begin(run)  # its log is empty
    follower.add(known_run("improving")[0])
    assert [row[0] for row in events[-1]["loss"]] == [1]


def test_a_page_that_the_disk_refuses_does_not_end_the_training(run, monkeypatch, caplog):
    def fail(*_):
        raise StorageError("no room")

    monkeypatch.setattr(run_page, "write_atomically", fail)
    follower = after_a_step(run)
    follower.saved()
    assert "StorageError: no room" in caplog.text


def test_any_other_error_of_the_page_comes_out(run, monkeypatch):
    def fail(*_):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(run_page, "run_page", fail)
    follower = after_a_step(run)
    with pytest.raises(RuntimeError, match="a mistake"):
        follower.saved()
