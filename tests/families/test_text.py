"""What a text encoder is given, and what is kept of it."""

from dataclasses import replace

import pytest
import torch
from kontext.dataset.image import open_rgb
from kontext.dataset.pair import PairedDataset
from kontext.dataset.quick import doubts
from kontext.trainer.batch import load_batch
from kontext.trainer.config import TrainConfig
from kontext.trainer.data.cache import Cache
from kontext.trainer.data.pixels import tensor_of

from ..trainer.conftest import write_pairs

CPU = torch.device("cpu")


def test_the_cached_text_is_the_stock_nodes(base, family, miniature, tmp_path):
    """Reference: CLIPTextEncode, or TextEncodeQwenImageEditPlus with the control as it is."""
    from comfy_extras.nodes_qwen import TextEncodeQwenImageEditPlus

    import nodes

    (pair,) = write_pairs(tmp_path / "pairs", 1, size=(96, 64))
    cache = Cache(tmp_path / "cache", base, TrainConfig(dtype="fp32", resolution=64))
    with torch.inference_mode():
        ours = load_batch([cache.encode(pair)], None, CPU).text
        if family.sees_pictures:
            seen = tensor_of(open_rgb(pair.controls[0]))
            stock = TextEncodeQwenImageEditPlus.execute(base.clip, pair.caption, image1=seen)[0]
        else:
            stock = nodes.CLIPTextEncode().encode(base.clip, pair.caption)[0]
    torch.testing.assert_close(ours.cond, stock[0][0], rtol=0, atol=0)
    pooled = stock[0][1].get("pooled_output")
    assert (ours.pooled is None) == (pooled is None)
    if pooled is not None:
        torch.testing.assert_close(ours.pooled, pooled, rtol=0, atol=0)


def test_letters_are_doubted_only_where_they_are_unknown(base, family, tmp_path):
    """Reference: whether ComfyUI's own tokenizer has T5's unknown token for them."""
    pairs = write_pairs(tmp_path / "pairs", 2)
    chinese = PairedDataset(tuple(replace(pair, caption="专业珠宝精修") for pair in pairs))
    tokens = base.clip.tokenize(chinese.pairs[0].caption)
    unknown = any(token == 2 for row in tokens.get("t5xxl", ()) for token, *_ in row)
    said = [doubt for doubt in doubts(chinese, family.undoubted) if "T5" in doubt]
    assert bool(said) == unknown == (family.title == "FLUX.1")


def test_texts_of_pictures_lie_with_their_pictures(base, family, tmp_path):
    """The same caption on another control is another text where the encoder sees it, and so is its
    mirror image; where it does not, nothing is encoded twice."""
    if not family.sees_pictures:
        pytest.skip("its text encoder sees no pictures")
    one, other = write_pairs(tmp_path / "pairs", 2)
    config = TrainConfig(dtype="fp32", resolution=64, reference_dropout=0.1)
    cache = Cache(tmp_path / "cache", base, config)
    with torch.inference_mode():
        first = cache.encode(one)
        second = cache.encode(replace(other, caption=one.caption))
        mirrored = cache.encode(one, True)
    assert len({first.text, second.text, mirrored.text}) == 3
    assert first.texts["", False] != second.texts["", False]
    assert first.texts["", True] == second.texts["", True]  # neither the caption nor the picture
