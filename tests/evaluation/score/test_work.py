"""One bar for all of scoring: it never goes back, and its end is the end."""

import pytest
from kontext.evaluation.score import work as module
from kontext.evaluation.score.work import PARTS, PictureWork, Work


@pytest.fixture
def shown(monkeypatch):
    """Every (part of the bar, text) that a page would be shown."""
    moves = []

    class Shown:
        def __init__(self, total, node_id):
            assert total == PARTS

        def update(self, part, text="", preview=None):
            moves.append((part, text))

    monkeypatch.setattr(module, "Progress", Shown)
    return moves


def test_the_bar_never_goes_back(shown):
    work = Work(100)  # 40 to screen, 20 of finalists, 40 of pictures
    work.expect(40, 30)  # ten are kept from the last time
    for _ in range(30):
        work.advance(1, "screening")
    work.expect(60, 10 + 20)  # fewer finalists
    for _ in range(10):
        work.advance(1, "finalists")
    pictures = PictureWork(work, count=4, steps=5)
    for made in (1, 1, 2, 3, 4):  # one of them is there
        pictures.update(made)
    parts = [part for part, _ in shown]
    assert parts == sorted(parts) and parts[-1] == PARTS
    assert work.done == work.total == 30 + 10 + 15


def test_the_time_left_is_of_the_whole(shown, monkeypatch):
    clock = iter([0.0, 60.0, 120.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    work = Work(10)
    work.advance(1, "first")
    work.advance(1, "first")
    assert [text for _, text in shown] == [
        "first: 1 of 10 forward passes, 9.0 min left",
        "first: 2 of 10 forward passes, 8.0 min left",
    ]
