"""One separator between the parts of a caption, whatever marks the user typed."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kontext.captioning.compose import (
    TemplateError,
    compose_caption,
    limit_length,
    strip_parts,
    word_spans,
)

SEPARATOR = re.compile(r"[,.，。、;；:：!！?？…]\s*")
words = st.text("abcXYZ019戒指修图光泽-_'é", min_size=1, max_size=12).filter(str.strip)
trailing = st.sampled_from(["", ",", ", ", "，", ".", "。", ",,", "， ", ". ", "；", " ", "\n"])
parts = st.tuples(words, trailing).map("".join) | st.just("")


@pytest.mark.parametrize(
    ("trigger", "instruction", "description", "suffix", "caption"),
    [
        ("sks", "Polish the ring", "a gold ring", "4k", "sks, Polish the ring, a gold ring, 4k"),
        ("sks,", "Polish the ring.", "a gold ring,", "4k", "sks, Polish the ring. a gold ring, 4k"),
        ("sks，", "精修珠宝。", "一枚戒指", "高清", "sks，精修珠宝。一枚戒指，高清"),
        ("珠宝精修", "提升光泽", "a ring", "", "珠宝精修，提升光泽, a ring"),
        ("", "Transfer into Animal Story Style.", "", "", "Transfer into Animal Story Style."),
        ("", "", ", a ring,\nwith a stone ", "", "a ring, with a stone"),
        ("", "", "", "", ""),
    ],
)
def test_parts_are_joined(trigger, instruction, description, suffix, caption):
    assert compose_caption(trigger, instruction, description, suffix) == caption


@given(parts, parts, parts, parts)
def test_exactly_one_separator_between_parts(trigger, instruction, description, suffix):
    caption = compose_caption(trigger, instruction, description, suffix)
    cores = [SEPARATOR.sub("", p).strip() for p in (trigger, instruction, description, suffix)]
    found = SEPARATOR.split(caption)
    if found[-1] == "":  # a stop after the last part stays
        found.pop()
    assert found == [core for core in cores if core]


@given(parts, parts, words, parts)
def test_stripping_undoes_composing(trigger, instruction, description, suffix):
    caption = compose_caption(trigger, instruction, description, suffix)
    kept = strip_parts(caption, trigger, instruction, suffix)
    assert compose_caption(trigger, instruction, kept, suffix) == caption


def test_text_of_other_origin_is_not_stripped():
    assert strip_parts("sksy cat, gold", "sks", "Polish", "old") == "sksy cat, gold"


@pytest.mark.parametrize(
    ("template", "caption"),
    [
        ("{description}. {trigger}", "a ring. sks"),
        ("{trigger} {missing_is_empty}", None),
        ("photo of {description}, {instruction}", "photo of a ring, Polish it"),
        ("[{stem}] {instruction}; {description}", "[ring_07] Polish it; a ring"),
        ("{trigger} {suffix} {description}", "sks, a ring"),
    ],
)
def test_templates(template, caption):
    if caption is None:
        with pytest.raises(TemplateError, match="missing_is_empty"):
            compose_caption("sks", "", "", "", template)
    else:
        assert compose_caption("sks", "Polish it", "a ring", "", template, "ring_07") == caption


def test_a_template_reads_fields_only():
    with pytest.raises(TemplateError):
        compose_caption("sks", "", "", "", "{trigger.__class__}")


def test_words_are_counted_in_both_scripts():
    assert len(word_spans("a gold-plated ring, 2 stones")) == 5
    assert len(word_spans("一枚gold戒指。")) == 5


@pytest.mark.parametrize(
    ("text", "limit", "short"),
    [
        ("a ring on a table, soft light", 0, "a ring on a table, soft light"),
        ("a ring on a table, soft light, white wall", 8, "a ring on a table, soft light"),
        ("a ring on a table", 3, "a ring on"),
        ("一枚金戒指，白色背景", 7, "一枚金戒指"),
    ],
)
def test_length_limit_prefers_whole_clauses(text, limit, short):
    assert limit_length(text, limit) == short


@given(st.text("ab ,.，金 ", max_size=60), st.integers(1, 8))
def test_length_limit_holds(text, limit):
    assert len(word_spans(limit_length(text, limit))) <= limit


spaced = st.text(" \t\n\u00a0\u3000ab戒.,，。(){\\*", max_size=14)
templates = st.permutations(["{trigger}", "{instruction}", "{description}", "{suffix}", "{stem}"])


@given(spaced, spaced, spaced, spaced, templates, st.sampled_from([" ", ", ", "。", " and ", ""]))
def test_composing_what_was_composed_changes_nothing(
    trigger, instruction, description, suffix, fields, between
):
    """Whatever the order of the parts, and line breaks or odd spaces in them: three times over."""
    template = between.join(fields)
    caption = compose_caption(trigger, instruction, description, suffix, template, "001")
    for _ in range(3):
        found = strip_parts(caption, trigger, instruction, suffix, template, "001")
        again = compose_caption(trigger, instruction, found, suffix, template, "001")
        assert again == caption


def test_a_description_stands_in_a_template_once():
    with pytest.raises(TemplateError, match="twice"):
        compose_caption("", "", "a ring", "", "{description} {description}")


def test_a_long_template_is_read_in_one_pass():
    started = time.perf_counter()
    compose_caption("", "", "a ring", "", "{" * 100_000)
    assert time.perf_counter() - started < 10
