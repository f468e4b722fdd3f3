"""Check Pairs, called as ComfyUI calls it."""

from pathlib import Path

import numpy as np
import pytest
from kontext.dataset.pair import DatasetError, Pair, PairedDataset
from kontext.nodes.check_pairs import CheckPairs, token_counter
from PIL import Image
from skimage import data


@pytest.fixture
def dataset(tmp_path: Path) -> PairedDataset:
    """Two pairs; the second one's target is its control again."""
    photos = [Image.fromarray(image).resize((256, 256)) for image in (data.coffee(), data.cat())]
    pairs = []
    for number, photo in enumerate(photos):
        control, target = tmp_path / f"{number}_in.png", tmp_path / f"{number}_out.png"
        photo.save(target)
        (photo.convert("L") if number == 0 else photo).save(control)
        pairs.append(Pair(f"p{number}", (control,), target, "colour"))
    return PairedDataset(tuple(pairs))


def test_pairs_report_and_picture(dataset: PairedDataset):
    pairs, text, picture = CheckPairs.execute(dataset, "report", 48).args
    assert pairs is dataset
    assert "[error] identical: 1_in.png and 1_out.png" in text
    # The card of the error comes first and is edged in red.
    page = (picture[0].numpy() * 255).round().astype(np.uint8)
    assert tuple(page[10, 100]) == (0xC6, 0x28, 0x28)


def test_stop_on_errors(dataset: PairedDataset):
    with pytest.raises(DatasetError, match="identical"):
        CheckPairs.execute(dataset, "stop", 48)
    good = PairedDataset(dataset.pairs[:1])
    assert CheckPairs.execute(good, "stop", 48).args[0] is good


def test_tokens_are_counted_by_the_models_own_tokenizer():
    """Reference: T5's vocabulary has one piece each for these words, and an end mark."""
    from comfy.text_encoders.flux import FluxTokenizer

    class Clip:
        tokenize = FluxTokenizer().tokenize_with_weights

    count = token_counter(Clip())
    assert count("the house is red") == 5
    assert count("the house " * 200) == 401
