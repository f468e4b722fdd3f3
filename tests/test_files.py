"""The one writer and the one reader of small files: whole or not at all, damage named or mended."""

import os
import re
import time

import pytest
from kontext.files import DamagedFileError, StorageError, read_json, remove_leftovers
from kontext.files import write_atomically as write

REMEDY = "Delete it; it is made again."


def test_a_name_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("修" * 85)  # 255 bytes on Linux, 85 letters on Windows
    write(path, b"content")
    assert path.read_bytes() == b"content" and list(tmp_path.iterdir()) == [path]


def test_what_the_system_refuses_is_named_with_the_file_meant(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match=r"other\.json: Permission denied\. Free disk") as raised:
        write(tmp_path / "other.json", b"")
    assert raised.value.strerror == "Permission denied"
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_was_writing_goes_after_a_day(tmp_path, monkeypatch):
    """What another process may still be writing stays, and so does what is not ours."""
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for name in ("old", "young"):
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path / name, b"half")
    old, young = sorted(tmp_path.iterdir())
    theirs = tmp_path / "download.tmp"
    theirs.write_bytes(b"theirs")
    for path in (old, theirs):
        os.utime(path, (time.time() - 90_000,) * 2)
    remove_leftovers.cache_clear()  # as in another process
    monkeypatch.undo()
    write(tmp_path / "new", b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([young, theirs, tmp_path / "new"])


def test_a_file_that_is_not_there_is_empty(tmp_path):
    assert read_json(tmp_path / "a.json", {}, REMEDY) == {}
    assert read_json(tmp_path / "a.json", [], REMEDY) == []


@pytest.mark.parametrize(
    "content", [b'\xef\xbb\xbf{"a": 1}', b'\0\0{"a": 1}\0\0\0', b'{"a": 1}\r\n\r\n']
)
def test_what_editors_and_power_cuts_add_is_ignored(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert read_json(path, {}, REMEDY) == {"a": 1}


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "Expecting value"),
        (b"\0" * 300, "Expecting value"),
        (b'{"a": 1', "delimiter"),
        (b"[1, 2]", "list instead of dict"),
        (b"null", "NoneType instead of dict"),
        (b'{"a": "\xff\xfe"}', "can't decode"),
        ("戒指".encode("gbk"), "can't decode"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
    ],
)
def test_every_other_damage_is_named_with_the_remedy(tmp_path, content, reason):
    path = tmp_path / "hashes.json"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"hashes.json is damaged .*{reason}") as raised:
        read_json(path, {}, REMEDY)
    assert str(raised.value).endswith(REMEDY)


def test_a_folder_in_its_place_is_named(tmp_path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(DamagedFileError, match=re.escape(str(tmp_path / "a.json"))):
        read_json(tmp_path / "a.json", {}, REMEDY)
