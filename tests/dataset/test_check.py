"""The checks find what was planted, and leave real pairs alone."""

import ast
import pickle
import tracemalloc
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from check_score import score, template_alarms
from folders import picture
from kontext import language
from kontext.dataset import check as dataset_check
from kontext.dataset.alike import distances, near_pairs
from kontext.dataset.check import check
from kontext.dataset.check_pair import Look, look_at
from kontext.dataset.finding import ERROR, NOTE, WARNING, Finding, kind_name, report
from kontext.dataset.pair import Pair, PairedDataset
from PIL import Image, ImageCms
from planted import grainy, middle, packed, photographs, soft, spotted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def tallies(tmp_path_factory):
    return score(tmp_path_factory.mktemp("planted"))


def test_there_are_enough_cases(tallies):
    assert sum(tally.planted for tally in tallies.values()) >= 150  # of 238 + 78 sets' pairs


@pytest.mark.parametrize("kind", ["swapped", "shifted", "duplicate", "identical", "orphan"])
def test_planted_defects_are_found_and_nothing_else(tallies, kind: str):
    assert tallies[kind].recall >= 0.95
    assert tallies[kind].precision >= 0.95


@pytest.mark.parametrize("kind", ["zoomed", "everything changed"])
def test_softer_findings(tallies, kind: str):
    assert tallies[kind].recall >= 0.85
    assert tallies[kind].precision >= 0.95


@pytest.mark.skipif(
    find_spec("comfyui_workflow_templates_json") is None, reason="no template packages"
)
def test_real_pairs_raise_few_false_alarms():
    pairs, alarms = template_alarms()
    assert pairs > 80
    assert len({stem for _, stem in alarms}) / pairs < 0.05


def dataset_of(folder: Path, *sides: tuple[Image.Image, Image.Image], **options) -> PairedDataset:
    pairs = []
    for number, (control, target) in enumerate(sides):
        paths = [folder / side / f"p{number}.png" for side in ("before", "after")]
        for path, image in zip(paths, (control, target), strict=True):
            path.parent.mkdir(exist_ok=True)
            image.save(path)
        pairs.append(Pair(f"p{number}", (paths[0],), paths[1], "polish", **options))
    return PairedDataset(tuple(pairs))


def found(dataset: PairedDataset, kind: str, **options) -> list[Finding]:
    return [finding for finding in check(dataset, **options) if finding.kind == kind]


PHOTOS = [middle(photo) for photo in photographs()[:4]]


@pytest.mark.parametrize(
    ("kind", "worsen"),
    [("blurred", lambda image, rng: soft(soft(image, rng), rng)), ("noisy", grainy),
     ("JPEG blocks", packed)],
)  # fmt: skip
def test_a_flawed_target_is_told(tmp_path: Path, kind: str, worsen):
    rng = np.random.default_rng(0)
    dataset = dataset_of(tmp_path, *((spotted(p, rng), worsen(p, rng)) for p in PHOTOS))
    assert [finding.stems[0] for finding in found(dataset, kind)] == ["p0", "p1", "p2", "p3"]


def test_a_flawed_control_is_the_edit(tmp_path: Path):
    rng = np.random.default_rng(0)
    dataset = dataset_of(tmp_path, *((worsen(PHOTOS[0], rng), PHOTOS[0])
                                     for worsen in (soft, grainy, packed)))  # fmt: skip
    assert not any(found(dataset, kind) for kind in ("blurred", "noisy", "JPEG blocks"))


def test_sizes(tmp_path: Path):
    photo = PHOTOS[0]
    dataset = dataset_of(
        tmp_path, (photo.resize((300, 200)), photo), (photo.resize((160, 160)), photo)
    )
    (aspect,) = found(dataset, "aspect")
    assert aspect.stems == ("p0",) and aspect.severity == ERROR
    assert "300×200" in aspect.message
    assert [finding.stems for finding in found(dataset, "size")] == [("p1",)]
    assert len(found(dataset, "low resolution")) == 2


def test_an_unreadable_picture_is_a_finding(tmp_path: Path):
    dataset = dataset_of(tmp_path, (PHOTOS[0], PHOTOS[1]))
    dataset.pairs[0].target.write_bytes(b"\x89PNG broken")
    (finding,) = found(dataset, "unreadable")
    assert "p0.png" in finding.message and finding.severity == ERROR


def test_what_the_loader_changes_is_told(tmp_path: Path):
    dataset = dataset_of(tmp_path, *[(PHOTOS[0], PHOTOS[1])] * 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    PHOTOS[1].save(dataset.pairs[0].target, exif=exif)
    PHOTOS[1].convert("RGBA").save(dataset.pairs[1].target)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    PHOTOS[1].save(dataset.pairs[2].target, icc_profile=lab)
    told = [finding.message for finding in found(dataset, "format")]
    assert ["rotated" in told[0], "transparency" in told[1], "profile" in told[2]] == [True] * 3


def test_copies_across_the_hold_out_are_an_error(tmp_path: Path):
    first = dataset_of(tmp_path, *((picture(i, (128, 128)), PHOTOS[i]) for i in range(3)))
    copy = Pair("copy", (), tmp_path / "copy.jpg", "polish", split="holdout")
    PHOTOS[1].save(copy.target, quality=60)
    (finding,) = found(PairedDataset((*first.pairs, copy)), "duplicate")
    assert finding.stems == ("p1", "copy") and finding.severity == ERROR


def captioned(folder: Path, *captions: str) -> PairedDataset:
    folder.mkdir(exist_ok=True)
    picture(0).save(folder / "a.png")
    return PairedDataset(
        tuple(Pair(f"p{i}", (), folder / "a.png", text) for i, text in enumerate(captions))
    )


def test_captions_without_the_common_instruction(tmp_path: Path):
    captions = ["Retouch, a ring", "retouch, a chain", "Retouch, gold", "a watch", "retouch, x"]
    (finding,) = found(captioned(tmp_path, *captions), "instruction missing")
    assert finding.stems == ("p3",) and "retouch" in finding.message
    assert not found(captioned(tmp_path, "a ring", "a chain", "gold"), "instruction missing")


def test_captions_read_in_the_wrong_encoding(tmp_path: Path):
    good = ["抛光戒指,去除划痕", "café crème", "联通", "Größe", "“quoted”"]
    bad = ["抛光戒指".encode().decode("gb18030", "ignore"), "café crème".encode().decode("cp1252"),
           "ring \ufffd\ufffd"]  # fmt: skip
    (finding,) = found(captioned(tmp_path, *good, *bad), "garbled caption")
    assert finding.stems == ("p5", "p6", "p7")


def test_long_and_missing_captions(tmp_path: Path):
    dataset = captioned(tmp_path, "polish", " ", "word " * 600)
    assert found(dataset, "no caption")[0].stems == ("p1",)
    (long,) = found(dataset, "long caption", count_tokens=lambda text: len(text.split()))
    assert long.stems == ("p2",) and "600" in long.message


def test_two_files_of_one_name(tmp_path: Path):
    dataset = dataset_of(tmp_path, (PHOTOS[0], PHOTOS[1]))
    PHOTOS[1].save(tmp_path / "after" / "p0.jpg")
    (finding,) = found(dataset, "double name")
    assert "p0.jpg" in finding.message


def test_few_and_uniform_pairs(tmp_path: Path):
    dataset = dataset_of(tmp_path, *[(PHOTOS[0], PHOTOS[1])] * 5)
    assert found(dataset, "few pairs") and found(dataset, "uniform")


def test_the_report_puts_errors_first():
    findings = [Finding("a", WARNING, "one.", "do."), Finding("b", ERROR, "two.", "mend.")]
    text = report(findings, 7)
    assert text.index("[error] b: two.") < text.index("[warning] a: one.")
    assert "7 pairs checked: 1 errors, 1 warnings, 0 notes." in text and "    → mend." in text


def test_a_report_of_a_large_set_can_be_read():
    many = [
        Finding("noisy", WARNING, f"{n} is noisy", "Replace it", (str(n),)) for n in range(1000)
    ]
    lines = report(many, 1000).splitlines()
    assert len(lines) == 203 and lines[-2:] == ["    and 800 more", "    → Replace it"]


def test_the_nearest_are_compared_first(monkeypatch):
    """Two pairs near by chance stand before two copies; there is time for one comparison."""
    hashes = {"a": 0, "b": 0b1111111111, "c": 2**63 + 2**40 - 1, "d": 2**63 + 2**40 - 1}
    pairs = [Pair(stem, (), Path(f"{stem}.png"), "") for stem in hashes]
    looks = {stem: Look((), (value,)) for stem, value in hashes.items()}
    compared = []
    monkeypatch.setattr(dataset_check, "MOST_COMPARED", 1)
    monkeypatch.setattr(
        dataset_check, "_agree", lambda one, other, _: compared.append(one.stem + other.stem)
    )
    found = dataset_check.duplicates(pairs, looks)
    assert compared == ["cd"] and [each.severity for each in found] == [NOTE]


def test_neighbours_are_found_without_a_square_of_memory():
    """Reference: the distances of all to all. And 20,000 at once within 100 MB."""
    rng = np.random.default_rng(0)
    some = [int(rng.integers(2**63)) for _ in range(300)]
    some += [one ^ int(1 << rng.integers(60)) for one in some[:40]]
    both = np.minimum(distances(some), distances(some[::-1])) <= 12
    expected = [(int(i), int(j)) for i, j in np.argwhere(np.triu(both, 1))]
    assert sorted(near_pairs(some, some[::-1], 12, rows=64)) == expected

    many = [int(one) for one in rng.integers(2**63, size=20_000)]
    many[19_999] = many[5] ^ 0b1011
    tracemalloc.start()
    found = list(near_pairs(many, many, 8))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (5, 19_999) in found and peak < 100e6


def test_what_is_kept_of_a_pair_is_small(tmp_path: Path):
    """20,000 pairs within 300 MB: at most 15 kB each, findings included."""
    dataset = dataset_of(tmp_path, *[(PHOTOS[0], PHOTOS[1])] * 4)
    look = look_at(dataset.pairs[0])
    assert len(pickle.dumps(look)) < 5_000
    one = [finding for finding in check(dataset) if finding.kind == "duplicate"]
    assert len(one) == 3, "four copies are three findings, not six"


def test_every_kind_of_finding_has_a_chinese_name(monkeypatch):
    """`kind` is an id in the code; the report and the sheet show its name."""
    monkeypatch.setattr(language, "_source", lambda: "zh")
    files = (Path(language.__file__).parent / "dataset").glob("*.py")
    written = {
        call.args[0].value
        for path in files
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Finding"
        if isinstance(call.args[0], ast.Constant)
    }
    assert len(written) > 20
    assert [kind for kind in written if kind_name(kind) == kind] == []
    text = report([Finding("mask", NOTE, "一。", "二。")], 1)
    assert text == "已检查 1 对：0 个错误，0 个警告，1 个提示。\n[提示] 遮罩：一。\n    → 二。"
