"""Lengths and token counts, against ComfyUI's own FLUX tokenizer."""

import pytest
from comfy.text_encoders.flux import FluxTokenizer
from kontext.captioning.compose import word_spans
from kontext.captioning.report import histogram, length_report, token_report
from kontext.captioning.tokens import count_tokens, limit_tokens


@pytest.mark.parametrize(
    "text", ["a gold ring on a table", "", "精修珠宝，一枚戒指 ring", "word " * 300]
)
def test_counts_are_those_of_comfyuis_tokenizer(text):
    tokens = FluxTokenizer().tokenize_with_weights(text)
    count = count_tokens(text)
    assert count.t5 == len([t for t, _ in tokens["t5xxl"][0] if t != 0])  # 0 is padding
    ends = (49406, 49407)
    assert count.clip == len([t for row in tokens["l"] for t, _ in row if t not in ends])


def test_a_token_limit_holds_and_keeps_whole_words():
    text = "a shiny gold ring on a dark wooden table in soft window light " * 3
    short = limit_tokens(text, 20)
    assert count_tokens(short).t5 <= 20 < count_tokens(f"{short} {text.split()[15]} x y z").t5
    assert text.startswith(short) and text[len(short)] == " "


def test_every_caption_is_in_one_bar():
    counts = [0, 4, 5, 12, 12, 99, 100, 400]
    bars = histogram(counts)
    assert sum(int(bar.split()[-1]) for bar in bars) == len(counts)
    assert histogram([7]) == ["     5–9 ████████████████████████ 1"]


def test_the_extremes_are_named():
    lines = length_report({"a": "one two", "b": "一枚金戒指", "c": "x " * 40})
    assert lines[0] == "Words: shortest 2 (a), median 5, longest 40 (c)"
    assert len(word_spans("一枚金戒指")) == 5


@pytest.mark.parametrize(
    ("caption", "warning"),
    [
        ("word " * 600, "more than 512 T5 tokens"),
        ("word " * 80, "more than 75 CLIP tokens"),
        ("精修珠宝", "letters that T5 does not know"),
    ],
)
def test_what_flux_would_not_see_is_said(caption, warning):
    lines = token_report({"good": "a ring", "bad": caption})
    assert any(warning in line and line.endswith(": bad.") for line in lines)
    assert len(token_report({"good": "a ring"})) == 1
