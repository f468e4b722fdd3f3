"""What is noted in a picture: nothing, where it cannot be read."""

import struct

import pytest
from kontext.evaluation.pictures.samples import noted_in
from PIL import Image
from PIL.PngImagePlugin import PngInfo


def test_a_note_is_read(tmp_path):
    texts = PngInfo()
    texts.add_text("kontext", '{"label": "戒指"}')
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=texts)
    assert noted_in(tmp_path / "a.png", "kontext") == {"label": "戒指"}
    assert noted_in(tmp_path / "a.png", "other") == {}


@pytest.mark.parametrize(
    "name, content",
    [
        ("huge.qoi", b"qoif" + struct.pack(">II", 40_000, 40_000) + b"\3\0" + b"\0" * 64),
        ("items.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + b"\0\0\0\x08meta" * 4),
        ("empty.png", b""),
        ("page.png", b"<html></html>"),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    ],
)
def test_a_damaged_picture_notes_nothing(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert noted_in(tmp_path / name, "kontext") == {}
    assert noted_in(tmp_path / "gone.png", "kontext") == {}
