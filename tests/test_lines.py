"""The one store of lines: what was written whole is read, whatever happened around it."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kontext.lines import BLOCK, Lines

ENTRIES = [{"number": n, "text": "戒指\n{}\u2028" * (n % 3)} for n in range(8)]


def lines_at(path) -> Lines[dict]:
    def entry_of(entry):
        return {"number": int(entry["number"]), "text": str(entry["text"])}

    return Lines(path, entry_of)


def added(lines: Lines[dict]) -> tuple[bool, list[dict]]:
    anew, entries = lines.added()
    return anew, list(entries)


@pytest.fixture
def lines(tmp_path):
    lines = lines_at(tmp_path / "log.jsonl")
    for entry in ENTRIES:
        lines.append(entry, durable=False)
    return lines


def test_entries_read_back_one_a_line(lines):
    assert lines.read() == ENTRIES
    assert [json.loads(line) for line in lines.path.read_bytes().split(b"\n")[:-1]] == ENTRIES
    lines.rewrite(ENTRIES[:3])
    assert lines.read() == ENTRIES[:3]


def test_without_a_file_there_are_none(tmp_path):
    lines = lines_at(tmp_path / "log.jsonl")
    assert (lines.read(), lines.tail(5), added(lines)) == ([], [], (False, []))


def test_a_name_that_is_not_unicode_reads_back(tmp_path):
    lines = lines_at(tmp_path / "log.jsonl")
    name = b"ring_\xff.png".decode("utf-8", "surrogateescape")
    lines.append({"number": 0, "text": name})
    assert lines.read()[0]["text"] == name


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damage_costs_only_the_lines_it_touches(tmp_path_factory, data):
    """Bytes set to anything, NULs, and a cut anywhere, then written on."""
    lines = lines_at(tmp_path_factory.mktemp("damage") / "log.jsonl")
    lines.rewrite(ENTRIES)
    content = bytearray(lines.path.read_bytes())
    starts = [0]
    for line in bytes(content).split(b"\n")[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    touched = set()
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        spoilt = data.draw(st.sampled_from([b"\0" * 9, b"\xff", b"\n", b"{}", b'"', b"[" * 5000]))
        content[at : at + len(spoilt)] = spoilt[: len(content) - at]
        touched |= {
            place
            for place in range(8)
            if starts[place] < at + len(spoilt) and at < starts[place + 1]
        }
    cut = data.draw(st.integers(0, len(content)))
    touched |= {place for place in range(8) if starts[place + 1] > cut}
    lines.path.write_bytes(content[:cut])
    lines.append({"number": 100, "text": "after"})
    found = lines.read()
    untouched = [entry for place, entry in enumerate(ENTRIES) if place not in touched]
    assert [entry for entry in found if entry in untouched or entry["number"] == 100] == [
        *untouched,
        {"number": 100, "text": "after"},
    ]
    assert added(lines_at(lines.path)) == (False, found)
    assert lines.tail(20) == found and lines.tail(2) == found[-2:]


def test_a_damaged_line_is_named_once(lines, caplog):
    content = lines.path.read_bytes().split(b"\n")
    lines.path.write_bytes(b"\n".join([*content[:3], b"\0" * 40, *content[3:]]))
    for _ in range(2):
        assert lines.read() == ENTRIES
    assert caplog.text.count("log.jsonl: line 4 is damaged and left out") == 1


def test_only_what_was_added_is_read(lines):
    assert added(lines) == (False, ENTRIES)
    assert added(lines) == (False, [])
    lines.append({"number": 8, "text": ""})
    with lines.path.open("ab") as file:
        file.write(b'{"number": 9, ')  # another process is still writing
    assert added(lines) == (False, [{"number": 8, "text": ""}])
    with lines.path.open("ab") as file:
        file.write(b'"text": ""}\n')
    assert added(lines) == (False, [{"number": 9, "text": ""}])


def test_a_file_written_anew_is_read_anew(lines):
    added(lines)
    lines.rewrite([{"number": 50 + n, "text": "another" * 9} for n in range(20)])
    anew, entries = added(lines)
    assert anew and len(entries) == 20
    lines.path.unlink()
    assert added(lines) == (True, [])


def test_the_end_is_found_across_blocks(tmp_path):
    lines = lines_at(tmp_path / "log.jsonl")
    texts = ["x" * length for length in (5, BLOCK - 3, BLOCK, 4 * BLOCK + 1, 7, 0)]
    lines.rewrite({"number": n, "text": text} for n, text in enumerate(texts))
    for count in range(8):
        assert lines.tail(count) == lines.read()[max(0, 6 - count) :]


def test_the_end_of_a_long_file_is_found_without_reading_it(tmp_path):
    lines = lines_at(tmp_path / "log.jsonl")
    line = json.dumps(ENTRIES[0]).encode() + b"\n"
    lines.path.write_bytes(line * 500_000)  # 14 MB
    started = time.perf_counter()
    assert lines.tail(2) == [ENTRIES[0]] * 2
    end = time.perf_counter() - started
    assert sum(1 for _ in lines) == 500_000
    assert 20 * end < time.perf_counter() - started


def test_lines_without_the_bytes_looked_for_are_not_parsed(tmp_path):
    path, parsed = tmp_path / "log.jsonl", []
    path.write_text('{"a": 1}\n{"b": 2}\nnonsense\n{"b": 3}\n')
    lines = Lines(path, lambda entry: parsed.append(entry) or entry, only=b'"b"')
    assert list(lines) == parsed == [{"b": 2}, {"b": 3}]
