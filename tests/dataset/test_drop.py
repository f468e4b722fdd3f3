"""Names of two sets of files that belong together."""

import pytest
from kontext.dataset.drop import match_names


@pytest.mark.parametrize(
    "before, after, expected",
    [
        (["a.png", "b.jpg"], ["b.png", "a.webp"], [(1, 0, "b"), (0, 1, "a")]),
        (["Ring.PNG"], ["ring.jpg"], [(0, 0, "ring")]),
        (["ring_before.png"], ["ring_after.png"], [(0, 0, "ring")]),
        (["戒指修前.png"], ["戒指修后.png"], [(0, 0, "戒指")]),
        (["ring_before.png"], ["ring.png"], [(0, 0, "ring")]),
        (["ring.png", "ring_before.png"], ["ring.png"], [(0, 0, "ring")]),
        (["ring_before_2.png", "ring_before.png"], ["ring_after_2.png"], [(0, 0, "ring_2")]),
        (["a.png"], ["b.png"], []),
        (["a.png", "A.jpg"], ["a.png"], [(0, 0, "a")]),
        (["ring_after.png"], ["ring_before.png"], []),  # the sides are the wrong way round
        (["x/../a.png"], ["a.png"], [(0, 0, "a")]),
        ([], ["a.png"], []),
    ],
)
def test_pairs_by_name(before, after, expected):
    found = [(pair.control, pair.target, pair.name) for pair in match_names(before, after)]
    assert found == expected
