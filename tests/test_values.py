"""Every file with values that the pack reads, with content that nobody would expect."""

import ast
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kontext.captioning.captioner import CaptionError
from kontext.captioning.folders import check_complete, find_models
from kontext.captioning.tagger import _labels
from kontext.command.foreign.contents import read_mapping
from kontext.dataset.alike import HashStore
from kontext.dataset.captions import read_captions
from kontext.dataset.choices import read_choices
from kontext.dataset.pair import DatasetError
from kontext.dataset.records import read_records
from kontext.dataset.rows import read_rows
from kontext.dataset.table import table_captions
from kontext.evaluation.compare.comparison import Comparison, ComparisonError
from kontext.evaluation.compare.vote import Ballot
from kontext.evaluation.pictures.run_pairs import pairs_of_run
from kontext.evaluation.progress.curves import Course
from kontext.evaluation.progress.overview import summary
from kontext.evaluation.score.outcome import outcome_of
from kontext.files import DamagedFileError
from kontext.language import chosen
from kontext.trainer.host.sharing import owners_choice
from kontext.trainer.runs.ending import ending_of
from kontext.trainer.runs.identity import RunError
from kontext.trainer.runs.job import Job, JobError
from kontext.trainer.runs.log import log_lines
from kontext.trainer.runs.run import Run
from kontext.trainer.setting import ConfigError
from kontext.values import read_json, read_texts, read_yaml

ROOT = Path(__file__).resolve().parents[1]
SAID = (
    DamagedFileError, DatasetError, JobError, ConfigError, RunError, CaptionError, ComparisonError,
)  # fmt: skip


def bomb(key: str) -> str:
    """Thirty lines that stand for 2³⁰ words, under a key that is read."""
    lines = [f"x{n}: &x{n} [*x{n - 1}, *x{n - 1}]" for n in range(1, 31)]
    return "\n".join(["x0: &x0 word", *lines, f"{key}: *x30", ""])


LONG = "w" * 100_000
TEXTS = {
    "brackets": "[" * 100_000,
    "braces": '{"a":' * 100_000,
    "900 levels": "[" * 900 + "]" * 900,
    "900 levels in a row": '{"file_name": ' + "[" * 900 + "]" * 900 + "}",
    "900 levels in a caption": '{"caption": ' * 900 + '"x"' + "}" * 900,
    "list": "[1, 2]",
    "list of lists": "[[1], [2]]",
    "number": "1",
    "null": "null",
    "text": '"word"',
    "NaN": '{"step": NaN, "loss": NaN, "config": NaN, "pairs": Infinity, "best_strength": NaN}',
    "huge": '{"step": 1' + "0" * 400 + ', "loss": 1' + "0" * 400 + "}",
    "huge loss": '{"step": 1, "loss": 1' + "0" * 400 + "}",
    "huge hexadecimal": "config: {steps: 0x" + "f" * 40_000 + "}",
    "huge in base 60": "config: {steps: 1" + ":59" * 40_000 + "}",
    "4301 digits": '{"step": ' + "9" * 4301 + "}",
    "numbers as texts": '{"step": "1", "loss": "2", "config": "3", "pairs": "4", "folders": "5"}',
    "bomb of settings": bomb("config"),
    "bomb of pairs": bomb("pairs") + "config: {}\n",
    "bomb of folders": bomb("folders"),
    "bomb of exclusions": bomb("excluded"),
    "long word, often": f"a: &a {LONG}\nconfig: [{', '.join(['*a'] * 5000)}]\n",
    "merges": "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nconfig: {<<: *b}\n",
    "twice": "excluded: [a]\nexcluded: [b]\nconfig: {}\nconfig: {}\nfolders: []\nfolders: []\n",
    "itself": "config: &a [*a]",
    "tags": "config: !!timestamp x\n",
    "odd tags": 'config: !!int ""\n',
    "keys of lists": "? [a, b]\n: c\n",
    "dates": "config: 2024-13-45\n",
    "control characters": "config: \x01\x02\n",
    "table": "name,category,file_name\n" + '"' * 3,
}
CONTENTS = {name: text.encode() for name, text in TEXTS.items()} | {
    "nothing": b"",
    "NULs": b"\0" * 5000,
    "NULs within": b'{"step": 1,\0\0 "loss": 2}',
    "not UTF-8": b"\xff\xfe\xfd\x80: \x81",
    "GBK": "config: 戒指".encode("gbk"),
    "half a UTF-16": b"\xff\xfea",
    "UTF-16": "config: {}".encode("utf-16"),
    "mark": b"\xef\xbb\xbf{}",
}


def weights_index(path: Path) -> None:
    for name in ("tokenizer.json", "preprocessor_config.json"):
        (path.parent / name).write_bytes(b"{}")
    check_complete(path.parent, "a/b")


def job(path: Path) -> None:
    Job.parse(read_mapping(path))


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "run.yaml of a terminal": ("job.yaml", job),
    "job in JSON": ("job.json", job),
    "run.yaml": ("run.yaml", lambda path: run_at(path).identity()),
    "run.yaml's pairs": ("run.yaml", lambda path: pairs_of_run(run_at(path))),
    "pairs.json": ("pairs.json", lambda path: run_at(path).file.pair_marks()),
    "pinned.json": ("pinned.json", lambda path: run_at(path).pinned()),
    "ending.json": ("ending.json", lambda path: ending_of(path.parent)),
    "scores.json": ("scores/scores.json", lambda path: outcome_of(path.parents[1])),
    "comparison": (
        "comparisons/0123456789.json",
        lambda path: Comparison.read(path.parents[1], path.stem),
    ),
    "log.jsonl": ("log.jsonl", lambda path: Course(log_lines(path.parent))),
    "log.jsonl in the list": ("log.jsonl", lambda path: listed(path)),
    "votes.jsonl": ("votes.jsonl", lambda path: Ballot(path).votes(["a", "b"])),
    "dataset.jsonl": ("dataset.jsonl", lambda path: read_records(path, path.parent)),
    "table, JSON Lines": ("metadata.jsonl", lambda path: columns_of(path)),
    "table, CSV": ("metadata.csv", lambda path: columns_of(path)),
    "caption": ("a.json", lambda path: read_captions([path])),
    "pairs.yaml": ("pairs.yaml", lambda path: read_choices(path.parent)),
    "hashes.json": ("hashes.json", lambda path: HashStore(path).hashes([])),
    "owner's list": ("folders.yaml", lambda path: owners_choice(path, path.stat().st_mtime_ns)),
    "ComfyUI's settings": ("comfy.settings.json", chosen),
    "a model's config.json": ("model/config.json", lambda path: find_models([path.parents[1]])),
    "a model's index": ("model/model.safetensors.index.json", weights_index),
    "a tagger's list": ("selected_tags.csv", lambda path: _labels(path.with_name("a.onnx"), 2)),
}


def run_at(path: Path) -> Run:
    return Run(path.parent.name, path.parents[2])


def listed(path: Path) -> None:
    path.with_name("run.yaml").write_text("config: {steps: 5}")
    summary(run_at(path))


def columns_of(path: Path) -> None:
    from kontext.dataset.columns import cell_of, find_columns, pictures_in

    rows = read_rows(path)
    columns = find_columns(rows)
    for _, row in rows:
        pictures_in(cell_of(row, columns.target))
    table_captions(path)


@pytest.fixture
def little_memory():
    """Two gigabytes more than now, where the system can limit it."""
    resource = pytest.importorskip("resource")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * 2**30, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory by /proc")
@pytest.mark.parametrize("reader", READERS)
def test_only_what_a_user_can_read_is_raised(reader, tmp_path, little_memory):
    name, read = READERS[reader]
    path = tmp_path / "kontext_runs" / "ring" / name
    path.parent.mkdir(parents=True)
    for content in CONTENTS.values():
        path.write_bytes(content)
        try:
            read(path)
        except SAID as error:
            assert len(str(error)) < 5000
    path.unlink()
    path.mkdir()
    if reader not in ("ComfyUI's settings", "a model's index"):  # asked for where it is a file
        try:
            read(path)
        except SAID as error:
            assert len(str(error)) < 5000


@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory by /proc")
@pytest.mark.parametrize("name", CONTENTS)
def test_a_text_gives_values_or_a_value_error(name, little_memory):
    text = CONTENTS[name].decode("latin-1")
    for read in (read_json, read_yaml, read_texts):
        try:
            reprlib.repr(read(text))
        except ValueError:
            continue


@pytest.mark.parametrize(
    "name, words",
    [
        ("bomb of pairs", "too many values"),
        ("long word, often", "too many values"),
        ("900 levels", "nested too deeply"),
        ("huge hexadecimal", "a number of 40,002 digits"),
        ("huge in base 60", "digits"),
        ("twice", "excluded is set twice"),
        ("itself", "an alias of itself"),
    ],
)
def test_what_has_no_end_is_named(name, words):
    with pytest.raises(ValueError, match=words):
        read_yaml(TEXTS[name])


def test_nothing_else_parses_files():
    """Another parser would have other limits. Exempt: files of the pack itself, and texts that
    this process wrote."""
    exempt = {
        "values.py", "language.py", "trainer/presets.py", "command/foreign/models.py",
        "trainer/files.py", "trainer/learner.py",
    }  # fmt: skip
    found = set()
    for path in ROOT.rglob("*.py"):
        here = path.relative_to(ROOT).as_posix()
        if here.split("/")[0] in ("tests", "scripts", ".host", "shared") or here in exempt:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if (node.value.id, node.attr) in {
                    ("json", "load"), ("json", "loads"), ("yaml", "load"), ("yaml", "safe_load"),
                }:  # fmt: skip
                    found.add(here)
    assert found == set()
