import csv
import io

import numpy as np
import pytest
from kontext.evaluation.progress.curves import COLUMNS, Course, as_csv, thinned
from scipy import stats

from ..runs import known_run


def test_the_held_out_interval_is_scipys_t_test_of_relative_changes():
    log = known_run("improving", pairs=6)
    last = Course(log).tested[-1]
    changes = np.divide(log[-1]["holdout"], log[-1]["holdout_base"]) - 1
    theirs = stats.ttest_1samp(changes, 0).confidence_interval(0.95)
    assert last.change.mean == pytest.approx(changes.mean())
    assert (last.change.low, last.change.high) == pytest.approx(tuple(theirs))


def test_the_table_reads_back():
    log = known_run("improving", tests=3)
    rows = list(csv.DictReader(io.StringIO(as_csv(Course(log)))))
    assert tuple(rows[0]) == COLUMNS and len(rows) == len(log)
    assert [float(row["loss"]) for row in rows] == [entry["loss"] for entry in log]
    measured = [row for row in rows if row["holdout_pairs"]]
    assert [int(row["step"]) for row in measured] == [500, 1000, 1500]
    assert float(measured[-1]["holdout_loss"]) == pytest.approx(np.mean(log[-1]["holdout"]))
    assert float(measured[-1]["holdout_low_percent"]) < float(
        measured[-1]["holdout_change_percent"]
    )


def test_two_held_out_pairs_have_no_interval():
    rows = list(csv.DictReader(io.StringIO(as_csv(Course(known_run("improving", pairs=2))))))
    assert rows[-1]["holdout_change_percent"] and not rows[-1]["holdout_low_percent"]


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_too_few_held_out_pairs_are_no_evidence(pairs):
    """One pair was quoted as if it were."""
    last = Course(known_run("improving", pairs=pairs)).tested[-1]
    assert last.is_evidence == (pairs == 3) == ("no evidence" not in last.summary)


@pytest.mark.parametrize("length", [0, 1, 7, 10, 11, 1000])
def test_thinning_keeps_the_last(length):
    places = thinned(length, 10)
    assert len(places) <= 10 and places[-1:] == [length - 1][: length or 0]
