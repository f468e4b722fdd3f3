"""Tiny captioners under the names that the shipped graphs use, in a server's models folder."""

from pathlib import Path

from PIL import Image

from . import tiny_models, tiny_tagger


def put_captioners(models: Path) -> None:
    """Florence-2 and a WD14 tagger, as a user would have put them.

    This Florence has also seen noise and dull colours, so that photographs get a sentence too.
    """
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    dull = [tiny_models.picture(colour) for colour in ((150, 120, 80), (60, 80, 120))]
    more = (([picture], "an old print") for picture in (noise, *dull))
    tiny_models.build("florence", models / "LLM" / "Florence-2-large", tuple(more))
    tagger = models / "wd14_tagger" / "wd-eva02-large-tagger-v3"
    tiny_tagger.build(tagger / "model.onnx", tagger / "selected_tags.csv")
