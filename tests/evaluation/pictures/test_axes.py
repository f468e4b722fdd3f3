"""The axis texts of the comparison: what the WebUI's X/Y/Z script accepts, and Chinese signs."""

import time

import pytest
from kontext.evaluation.pictures.axes import choose_steps, parse_numbers, parse_whole_numbers


@pytest.mark.parametrize(
    "text, expected",
    [
        ("1", (1,)),
        ("0.5, 0.75,1.0", (0.5, 0.75, 1.0)),
        ("1-4", (1, 2, 3, 4)),
        ("4-1", (4, 3, 2, 1)),
        ("500-3000 (+500)", (500, 1000, 1500, 2000, 2500, 3000)),
        ("0.5-1.0 [6]", (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
        ("0.5-1.0 (+0.1)", (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)),
        ("1-0 (-0.25)", (1, 0.75, 0.5, 0.25, 0)),
        ("-1, 0.5, -1", (-1, 0.5)),
        ("-1-1", (-1, 0, 1)),
        ("1–3", (1, 2, 3)),
        ("０．５，１．０、１－３", (0.5, 1, 2, 3)),
        ("500－1500（＋500）", (500, 1000, 1500)),
    ],
)
def test_axis_texts_expand_as_written(text, expected):
    assert parse_numbers(text, "strengths") == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "strengths is empty"),
        ("half", "'half' is neither a number nor a range"),
        ("0.5-1.0", r"needs a step or a count: 0.5-1.0 \(\+0.1\)"),
        ("1-9 (-2)", "never reaches 9 from 1"),
        ("1-9 (+0)", "never reaches"),
        ("0-1 [1]", "count of at least 2"),
        ("1-100000", "100000 values"),
    ],
)
def test_a_wrong_axis_text_is_named_before_anything_runs(text, message):
    with pytest.raises(ValueError, match=message):
        parse_numbers(text, "strengths")


def test_seeds_are_whole_numbers():
    assert parse_whole_numbers("1-3, 42", "seeds") == (1, 2, 3, 42)
    with pytest.raises(ValueError, match="whole numbers, not 1.5"):
        parse_whole_numbers("1.5", "seeds")


SAVED = (250, 500, 750, 1000)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", SAVED),
        ("500", (500,)),
        ("1000, 250", (250, 1000)),
        ("300-900", (500, 750)),
        ("500-1000 (+500)", (500, 1000)),
        ("last, 250", (250, 1000)),
    ],
)
def test_checkpoints_are_chosen_by_step(text, expected):
    assert choose_steps(text, SAVED) == expected


def test_a_checkpoint_that_was_not_saved_is_listed_with_those_that_were():
    with pytest.raises(
        ValueError, match="step 600 was not saved.*Saved steps: 250, 500, 750, 1000"
    ):
        choose_steps("600", SAVED)
    with pytest.raises(ValueError, match="nothing was saved there"):
        choose_steps("1-10", SAVED)


@pytest.mark.parametrize(
    "text",
    ["1" * 50_000, "0" * 50_000 + "x", "1-" + "9" * 400, "9" * 400 + "-1", "0.5-1" + "0" * 70],
)
def test_numbers_without_end_are_refused_at_once(text):
    started = time.monotonic()
    for parse in (parse_numbers, parse_whole_numbers):
        with pytest.raises(ValueError, match="neither a number nor a range"):
            parse(text, "strengths")
    assert time.monotonic() - started < 5
