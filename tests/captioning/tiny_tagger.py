"""A WD14 tagger of 404 bytes, with the real one's inputs, outputs and tag list."""

import base64
import zlib
from pathlib import Path

# input [batch, 448, 448, 3] -> mean over the picture -> 3 x 10 matrix -> sigmoid. The tags answer
# to the third channel (red_theme, rin_(ring)) and the first (blue_theme), in BGR order.
_GRAPH = (
    "eNrj4LTqZObS5WLNzCsoLeFiSaxILRZizFXiCkpNKU1O9U1NzNPi5+LITk0tSMnMLZZgWMDIxCXIxZjLxRguxFil"
    "xOabWOJbmsPFx8VYxcXoJMSYo8TsmJLCJcLFmCPEll9aAjRViT04Mz03PzNFiLFEq5mRg5mDS4DRiTHcq4IBD+g/"
    "VGrLQCWAbNbZMz62WoYQJzh5aQBFHBgYGvYzMBw4AMEN9hCa4SAU24NoLRkOJgF2J3AAeQkwQg1jgtJRatAQFJLl"
    "kuZgFBLnYhdiTUosSc7gYuY4wAwhmDiYk2S5oIEiJMwlCFTIi1DIxMHlxMLFICAEABVrPr0="
)
_NAMES = "general sensitive questionable explicit 1girl solo red_theme blue_theme ^_^ rin_(ring)"
_CATEGORIES = "9999000004"


def build(model: Path, tags: Path) -> None:
    """Write the ONNX graph and the CSV that names its outputs."""
    model.parent.mkdir(parents=True, exist_ok=True)
    model.write_bytes(zlib.decompress(base64.b64decode(_GRAPH)))
    entries = enumerate(zip(_NAMES.split(), _CATEGORIES, strict=True))
    rows = [f"{number},{name},{category},1" for number, (name, category) in entries]
    tags.write_text("\n".join(["tag_id,name,category,count", *rows]), encoding="utf-8")
