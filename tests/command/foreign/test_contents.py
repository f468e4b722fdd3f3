"""Files that are broken, endless or written in another way."""

import itertools
import sys
import time

import pytest
from kontext.command.foreign import contents
from kontext.command.foreign.contents import read_mapping, read_options
from kontext.trainer.runs.job import JobError


def bomb(first: str, each: str) -> str:
    """Eleven lines, of which each holds the one before four times."""
    lines = [each.replace("B", b).replace("A", a) for a, b in itertools.pairwise("abcdefghijkl")]
    return "\n".join([first, *lines])


LAUGHS = bomb("a: &a [lol, lol]", "B: &B [*A, *A, *A, *A]")
MERGES = bomb("a: &a {x: 1}", "B: &B {<<: [*A, *A, *A, *A]}")


def contents_of(tmp_path, name: str, text: str | bytes):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return read_mapping(path)


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a.yaml", LAUGHS, "too many values"),
        ("a.yaml", MERGES, "too many values"),
        ("a.yaml", "a: &a [*a]", "an alias of itself"),
        ("a.yaml", "a: " + "[" * 100_000, "nested too deeply"),
        ("a.yaml", "a: " + "{a: " * 100_000, "nested too deeply"),
        ("a.json", '{"a": ' + "[" * 100_000, "is broken"),
        ("a.yaml", '{"a": ' + "[" * 100_000, "is broken"),
        ("a.yaml", "steps: " + "1" * 5000, "is broken"),
        ("a.yaml", "day: 2024-13-45", "is broken: month"),
        ("a.yaml", "lr: 1\nb: 2\nlr: 3", "lr is set twice"),
        ("a.json", '{"lr": 1, "lr": 2}', "lr is set twice"),
        ("a.yaml", "a: !!python/object/apply:os.system [ls]", "is broken"),
        ("a.yaml", b"\x80\x81: 1", "cannot be read"),
        ("a.yaml", b"\x00" * 5_000_000, "not a settings file"),
        ("a.yaml", "", "holds no settings"),
        ("a.yaml", "1: 2", "holds no settings"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_it_is_refused_at_once(tmp_path, name, text, words):
    started = time.monotonic()
    with pytest.raises(JobError, match=words):
        contents_of(tmp_path, name, text)
    assert time.monotonic() - started < 20


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_brackets_without_end_in_toml(tmp_path):
    with pytest.raises(JobError, match="is broken"):
        contents_of(tmp_path, "a.toml", "a = " + "[" * 100_000)


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_json_indented_by_tabs(tmp_path, name):
    assert contents_of(tmp_path, name, '{\n\t"a": {\n\t\t"b": 1\n\t}\n}') == {"a": {"b": 1}}


def test_what_yaml_can_do_is_still_done(tmp_path):
    """Anchors and merges, as ai-toolkit's users write them; braces that are no JSON."""
    text = "base: &base {lr: 1e-4, rank: 16}\none: {<<: *base, rank: 32}\ntwo: *base"
    found = contents_of(tmp_path, "a.yaml", text)
    assert found["one"] == {"lr": "1e-4", "rank": 32} and found["two"] == found["base"]
    assert contents_of(tmp_path, "b.yaml", "{name: a, pairs: p}") == {"name": "a", "pairs": "p"}
    assert contents_of(tmp_path, "c.yaml", "a: 图".encode("utf-16")) == {"a": "图"}


def test_options_of_a_script():
    """As FluxGym writes them, for either system, and as tutorials have them."""
    shell = """#!/bin/bash
export NAME="ring v1"
accelerate launch \\
  --mixed_precision bf16 sd-scripts/flux_train_network.py \\
  --network_dim 16 --network_args "train_blocks=single" "split_qkv=True" \\
  --learning-rate=1e-4 --cache_latents \\
  --output_name "$NAME"  # a remark
"""
    expected = {
        "mixed_precision": "bf16", "script": "flux_train_network.py", "network_dim": "16",
        "network_args": ["train_blocks=single", "split_qkv=True"], "learning_rate": "1e-4",
        "cache_latents": True, "output_name": "ring v1",
    }  # fmt: skip
    assert read_options(shell, windows=False) == expected
    batch = (
        "rem a remark\r\nset NAME=ring v1\r\naccelerate launch ^\r\n  --mixed_precision bf16 "
        "sd-scripts\\flux_train_network.py ^\r\n --network_dim 16 --network_args "
        '"train_blocks=single" "split_qkv=True" --learning-rate=1e-4 --cache_latents ^\r\n'
        '  --output_name "%NAME%"\r\n'
    )
    assert read_options(batch, windows=True) == expected
    assert read_options(r"--train_data_dir D:\rings\after", windows=True) == {
        "train_data_dir": r"D:\rings\after"
    }


def test_toml_without_a_reader(tmp_path, monkeypatch):
    """As on Python 3.10, for which ComfyUI brings none."""

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(contents.importlib, "import_module", missing)
    with pytest.raises(JobError, match="Python 3.11, or the package tomli"):
        contents_of(tmp_path, "a.toml", "a = 1")


@pytest.mark.parametrize("piece", [" ", "\n", "\r\n", "\t", " \\", "--a 1 ", "1 ", "$a ", "#a\n"])
@pytest.mark.parametrize("windows", [False, True])
def test_scripts_are_read_in_one_pass(piece, windows):
    started = time.monotonic()
    read_options("python a.py --first" + piece * 60_000 + "x", windows)
    assert time.monotonic() - started < 20


@pytest.mark.slow
def test_variables_that_make_a_script_endless(tmp_path):
    """A megabyte, named a thousand times."""
    with pytest.raises(JobError, match="its variables expand to more text than any settings"):
        contents_of(tmp_path, "a.sh", "a=" + "x" * 1_000_000 + "\n--b " + "$a" * 1000)
