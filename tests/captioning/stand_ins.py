"""Tiny captioners under the names that the shipped graphs use, in a server's models folder."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

from . import tiny_models, tiny_tagger

PICTURES = Path(__file__).resolve().parents[2] / "sample_pairs" / "after"
SEEN = ("astronaut_1", "chelsea_1", "rocket_1")


@cache
def built() -> Path:
    """Where they lie, made once: this takes half a minute."""
    models = Path(tempfile.mkdtemp(prefix="kontext-captioners-"))
    seen = [Image.open(PICTURES / f"{name}.jpg").convert("RGB") for name in SEEN]
    more = (([picture], "an old print") for picture in seen)
    tiny_models.build("florence", models / "LLM" / "Florence-2-large", tuple(more))
    tagger = models / "wd14_tagger" / "wd-eva02-large-tagger-v3"
    tiny_tagger.build(tagger / "model.onnx", tagger / "selected_tags.csv")
    return models


def put_captioners(models: Path) -> None:
    """Florence-2 and a WD14 tagger, as a user would have put them.

    This Florence has also seen some of the sample pictures, so that it has a sentence for them.
    """
    shutil.copytree(built(), models, dirs_exist_ok=True)
