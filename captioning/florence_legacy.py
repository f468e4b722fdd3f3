"""Reads Florence-2 folders of the old layout (microsoft/*, PromptGen) into the native classes.

Those repositories bring their own code, which is never run here. Their weights differ from the
native ones in names, in one transposed matrix and in a missing embedding row for `<image>`.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..language import say

_RENAMES = (
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^image_projection$", "model.multi_modal_projector.image_projection.weight"),
    (r"^image_proj_norm\.", "model.multi_modal_projector.image_proj_norm."),
    (r"^image_pos_embed\.", "model.multi_modal_projector.image_position_embed."),
    (r"^visual_temporal_embed\.", "model.multi_modal_projector.visual_temporal_embed."),
    (r"^vision_tower\.convs\.(\d+)\.proj\.", r"model.vision_tower.convs.\1.conv."),
    (r"^vision_tower\.", "model.vision_tower."),
    (r"\.(conv[12])\.fn\.dw\.", r".\1."),
    (r"\.(window_attn|channel_attn)\.norm\.", ".norm1."),
    (r"\.(window_attn|channel_attn)\.fn\.", r".\1."),
    (r"\.ffn\.norm\.", ".norm2."),
    (r"\.ffn\.fn\.net\.", ".ffn."),
)
_UNUSED = "language_model.final_logits_bias"  # zeros
_VOCABULARY = ("shared.weight", "embed_tokens.weight", "lm_head.weight")

# the tokens that the repositories' own processor adds to BART's, in this order
_ADDED_TOKENS = (
    ["<od>", "</od>", "<ocr>", "</ocr>"]
    + [f"<loc_{place}>" for place in range(1000)]
    + ["<cap>", "</cap>", "<ncap>", "</ncap>", "<dcap>", "</dcap>", "<grounding>", "</grounding>"]
    + ["<seg>", "</seg>", "<sep>", "<region_cap>", "</region_cap>", "<region_to_desciption>"]
    + ["</region_to_desciption>", "<proposal>", "</proposal>", "<poly>", "</poly>", "<and>"]
)

_TEXT_FIELDS = (
    "vocab_size d_model encoder_layers decoder_layers encoder_attention_heads "
    "decoder_attention_heads encoder_ffn_dim decoder_ffn_dim max_position_embeddings pad_token_id "
    "bos_token_id eos_token_id decoder_start_token_id activation_function scale_embedding "
    "forced_bos_token_id forced_eos_token_id"
).split()
_VISION_FIELDS = (
    "num_heads num_groups depths window_size patch_size patch_stride patch_padding patch_prenorm "
    "projection_dim"
).split()


def is_legacy(config: dict[str, Any]) -> bool:
    """Whether a config.json is of the layout that came with its own code."""
    return "dim_embed" in config.get("vision_config", {})


def read_legacy(folder: Path, config: dict[str, Any], options: dict[str, Any]) -> tuple[Any, Any]:
    """Native model and processor; `options` are for `from_pretrained`.

    Raises RuntimeError if a weight has no place or is missing.
    """
    from transformers import Florence2ForConditionalGeneration, Florence2Processor

    vocabulary = config["text_config"]["vocab_size"]
    loaded: Any = Florence2ForConditionalGeneration.from_pretrained(
        None,
        config=_native_config(config),
        state_dict=rename_weights(_weights(folder)),
        **options,
        output_loading_info=True,
    )
    model, report = loaded
    misfits = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if misfits:
        raise RuntimeError(
            say(
                "{count} weights are missing or unknown, the first is {name}",
                count=len(misfits),
                name=misfits[0],
            )
        )
    return model, Florence2Processor(_image_processor(folder), _tokenizer(folder, vocabulary))


def rename_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Native names and shapes; embeddings get a row of zeros for `<image>`."""
    renamed = {}
    for name, tensor in weights.items():
        if name == _UNUSED:
            continue
        if name == "image_projection":
            tensor = tensor.T.contiguous()
        if name.endswith(_VOCABULARY):
            tensor = torch.cat([tensor, tensor.new_zeros(1, tensor.shape[1])])
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _weights(folder: Path) -> dict[str, Tensor]:
    file = folder / "model.safetensors"
    if file.is_file():
        from safetensors.torch import load_file

        return load_file(file)
    return torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)


def _native_config(config: dict[str, Any]) -> Any:
    from transformers import Florence2Config

    vision, text = config["vision_config"], config["text_config"]
    return Florence2Config(
        text_config={"model_type": "bart"}
        | {field: text[field] for field in _TEXT_FIELDS if field in text}
        | {"vocab_size": text["vocab_size"] + 1},
        vision_config={field: vision[field] for field in _VISION_FIELDS}
        | {
            "embed_dim": vision["dim_embed"],
            "drop_path_rate": 0.0,
            "max_temporal_embeddings": vision["visual_temporal_embedding"][
                "max_temporal_embeddings"
            ],
            "max_position_embeddings": vision["image_pos_embed"]["max_pos_embeddings"],
        },
        image_token_id=text["vocab_size"],
    )


def _image_processor(folder: Path) -> Any:
    from transformers import CLIPImageProcessor

    processor: Any = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
    processor.image_seq_length = getattr(processor, "image_seq_length", 577)  # of 768 pixels
    return processor


def _tokenizer(folder: Path, vocabulary: int) -> Any:
    """The folder's BART tokenizer, grown as the old processor grew it, then by `<image>`.

    Fine-tunes with more embedding rows than tokens get fillers, so that `<image>` has the last row.
    """
    from transformers import BartTokenizer, PreTrainedTokenizerFast

    bart = BartTokenizer.from_pretrained(folder, local_files_only=True)
    bart.add_tokens(_ADDED_TOKENS)
    bart.add_tokens([f"<unused_{row}>" for row in range(len(bart), vocabulary)])
    return PreTrainedTokenizerFast(
        tokenizer_object=bart.backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )
