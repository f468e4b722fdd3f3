"""Archives from strangers."""

import os
import stat
import zipfile
from pathlib import Path

import pytest
from folders import save, save_both
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kontext.dataset import archive as archive_module
from kontext.dataset.archive import unpack
from kontext.dataset.load import PairSource, find_pairs
from kontext.dataset.pair import DatasetError


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A zip of before/ and after/ inside one folder, with what macOS adds."""
    base = save_both(tmp_path / "data", ["a", "项链"])
    path = tmp_path / "pairs.zip"
    with zipfile.ZipFile(path, "w") as file:
        for picture in sorted(base.rglob("*.png")):
            file.write(picture, f"jewellery/{picture.relative_to(base).as_posix()}")
        file.writestr("jewellery/after/a.txt", "polish")
        file.writestr("__MACOSX/jewellery/after/._a.png", b"x")
        file.writestr("jewellery/run.exe", b"x")
    return path


def zip_of(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def test_a_zip_of_two_folders(packed: Path, tmp_path: Path):
    dataset = find_pairs(PairSource("pairs.zip", "", tmp_path, tmp_path / "scratch")).dataset
    assert {pair.stem: pair.caption for pair in dataset} == {"a": "polish", "项链": ""}
    assert all(path.suffix != ".exe" for path in (tmp_path / "scratch").rglob("*"))


def test_unpacking_again_gives_the_same_dataset(packed: Path, tmp_path: Path):
    source = PairSource("pairs.zip", "", tmp_path, tmp_path / "scratch")
    first = find_pairs(source).dataset.digest()
    for path in sorted((tmp_path / "scratch").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert find_pairs(source).dataset.digest() == first


def test_a_changed_archive_is_unpacked_anew(packed: Path, tmp_path: Path):
    first = unpack(packed, tmp_path / "scratch")
    os.utime(packed, (1_000_000_000, 1_000_000_000))
    assert unpack(packed, tmp_path / "scratch") != first


def test_chinese_names_from_windows(tmp_path: Path):
    """Explorer packs GBK bytes; readers take them for code page 437."""
    path = tmp_path / "win.zip"
    with zipfile.ZipFile(path, "w") as file:
        entry = zipfile.ZipInfo("placeholder.png")
        file.writestr(entry, save(tmp_path / "x.png").read_bytes())
    raw = "项链修前后图九.png".encode("gbk")[: len("placeholder.png")]
    name = "项链修前后_.png".encode("gbk")
    assert len(name) == len("placeholder.png") == len(raw)
    path.write_bytes(path.read_bytes().replace(b"placeholder.png", name))
    assert [p.name for p in unpack(path, tmp_path / "s").iterdir()] == ["项链修前后_.png"]


@pytest.mark.parametrize(
    "name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil.png", "..\\evil.png"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str):
    path = zip_of(tmp_path / "bad.zip", **{"good.png": b"x", name: b"x"})
    with pytest.raises(DatasetError, match="leads out of the archive"):
        unpack(path, tmp_path / "scratch")
    assert not list(tmp_path.rglob("*.png"))


def test_links_are_refused(tmp_path: Path):
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="leads out"):
        unpack(tmp_path / "link.zip", tmp_path / "scratch")


def test_a_bomb_is_refused_by_ratio(tmp_path: Path):
    path = zip_of(tmp_path / "bomb.zip", **{"a.bmp": bytes(101 * 2**20)})
    with pytest.raises(DatasetError, match=r"unpacks to \d+ times its size"):
        unpack(path, tmp_path / "scratch")
    assert not list((tmp_path / "scratch").iterdir())


def test_limits_on_number_and_size(packed: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive_module, "MOST_FILES", 2)
    with pytest.raises(DatasetError, match="holds 6 files; the limit is 2"):
        unpack(packed, tmp_path / "scratch")
    monkeypatch.undo()
    monkeypatch.setattr(archive_module, "MOST_BYTES", 100)
    with pytest.raises(DatasetError, match="the limit is"):
        unpack(packed, tmp_path / "scratch")


def test_an_entry_larger_than_it_declares_is_refused(tmp_path: Path):
    path = zip_of(tmp_path / "lie.zip", **{"a.png": b"y" * 5000})
    content = path.read_bytes().replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(DatasetError):
        unpack(path, tmp_path / "scratch")
    assert not list((tmp_path / "scratch").iterdir())


def test_a_locked_archive(tmp_path: Path):
    path = zip_of(tmp_path / "locked.zip", **{"a.png": b"x"})
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[central + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="locked with a password"):
        unpack(path, tmp_path / "scratch")


def test_names_that_one_disk_cannot_hold_apart(tmp_path: Path):
    path = zip_of(tmp_path / "case.zip", **{"A.png": b"x", "a.png": b"y"})
    with pytest.raises(DatasetError, match=r"A\.png and a\.png"):
        unpack(path, tmp_path / "scratch")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.integers(0, 200))
def test_no_damage_breaks_the_reader(packed: Path, position: int, value: int, cut: int):
    """Any byte changed, any tail lost: unpacked, or refused with a message of ours."""
    content = bytearray(packed.read_bytes())
    content[position % len(content)] = value
    damaged = packed.with_name("damaged.zip")
    damaged.write_bytes(content[: len(content) - cut])
    scratch = packed.with_name("scratch")
    try:
        unpack(damaged, scratch)
    except DatasetError as error:
        assert "damaged.zip" in str(error)
    outside = {path.name for path in packed.parent.iterdir()}
    assert outside <= {"data", "pairs.zip", "damaged.zip", "scratch"}
    assert not list(scratch.glob("partial_*"))


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_spoilt_stream_is_damage_whatever_packed_it(tmp_path: Path, packing: int):
    """zipfile itself checks names and sums; the decompressors have errors of their own."""
    path = tmp_path / "spoilt.zip"
    with zipfile.ZipFile(path, "w", packing) as file:
        file.writestr("a.png", os.urandom(5000))
    whole = path.read_bytes()
    for place in range(40, len(whole) - 200, 150):
        path.write_bytes(whole[:place] + bytes(b ^ 0x5A for b in whole[place : place + 8])
                         + whole[place + 8 :])  # fmt: skip
        with pytest.raises(DatasetError, match=r"spoilt\.zip"):
            unpack(path, tmp_path / "scratch")


def test_a_name_of_300_letters(tmp_path: Path):
    path = zip_of(tmp_path / "long.zip", **{"x" * 300 + ".png": b"x"})
    with pytest.raises(DatasetError, match=r"long\.zip holds a file whose name is too long"):
        unpack(path, tmp_path / "scratch")
