"""A builder for each family of captioners: a tiny random model, and its processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as T

from .tiny_tokenizers import byte_pairs, word_pieces

_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
_LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}
_SQUARE = {"height": 32, "width": 32}


def blip() -> tuple[Any, Any]:
    tokenizer = word_pieces()
    text = {k: v for k, v in _LANGUAGE.items() if k != "num_key_value_heads"} | {
        "vocab_size": len(tokenizer) + 2,
        "encoder_hidden_size": 32,
        "projection_dim": 32,
        "bos_token_id": len(tokenizer),
        "eos_token_id": tokenizer.sep_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = T.BlipConfig(
        text_config=text, vision_config=_VISION | {"projection_dim": 32}, projection_dim=32
    )
    pictures = T.BlipImageProcessor(size=_SQUARE)
    return T.BlipForConditionalGeneration(config), T.BlipProcessor(pictures, tokenizer)


def blip2() -> tuple[Any, Any]:
    tokenizer = byte_pairs(
        ["<s>", "<pad>", "</s>"],
        "</s>",
        bos_token="</s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="</s>",
    )
    processor = T.Blip2Processor(T.BlipImageProcessor(size=_SQUARE), tokenizer, num_query_tokens=2)
    qformer = {k: v for k, v in _LANGUAGE.items() if k != "num_key_value_heads"} | {
        "vocab_size": 8,
        "encoder_hidden_size": 32,
        "cross_attention_frequency": 1,
    }
    text = {
        "model_type": "opt",
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "ffn_dim": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
        "word_embed_proj_dim": 32,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    config = T.Blip2Config(
        vision_config=_VISION,
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=2,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return T.Blip2ForConditionalGeneration(config), processor


# what microsoft's processor adds to BART's vocabulary, in its order
FLORENCE_TOKENS = tuple(
    "<od> </od> <ocr> </ocr>".split()
    + [f"<loc_{place}>" for place in range(1000)]
    + "<cap> </cap> <ncap> </ncap> <dcap> </dcap> <grounding> </grounding> <seg> </seg>".split()
    + "<sep> <region_cap> </region_cap> <region_to_desciption> </region_to_desciption>".split()
    + "<proposal> </proposal> <poly> </poly> <and>".split()
)


def florence() -> tuple[Any, Any]:
    tokenizer = byte_pairs(
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        added=FLORENCE_TOKENS,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        extra_special_tokens={"image_token": "<image>"},
    )
    # 64 pixels / 32 = 2 x 2 tokens, and their mean
    pictures = T.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    pictures.image_seq_length = 5
    config = T.Florence2Config(
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 1024,
            "pad_token_id": 1,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
            "forced_eos_token_id": None,
        },
        vision_config={
            "embed_dim": (8, 16, 32, 32),
            "num_heads": (2, 2, 4, 4),
            "num_groups": (2, 2, 4, 4),
            "depths": (1, 1, 1, 1),
            "window_size": 4,
            "projection_dim": 32,
            "drop_path_rate": 0.0,
        },
        image_token_id=tokenizer.image_token_id,
    )
    return T.Florence2ForConditionalGeneration(config), T.Florence2Processor(pictures, tokenizer)


# list content, as most templates take it
_LLAMA_CHAT = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# string content, with the picture put in by the template itself
JOY_CHAT = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{% if loop.index0 == 1 %}<image>{% endif %}{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def llava(template: str = _LLAMA_CHAT) -> tuple[Any, Any]:
    """JoyCaption's parts: SigLIP and Llama inside LLaVA."""
    special = [
        "<|begin_of_text|>",
        "<|eot_id|>",
        "<|pad|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<image>",
    ]
    tokenizer = byte_pairs(
        special, bos_token=special[0], eos_token=special[1], pad_token=special[2]
    )
    processor = T.LlavaProcessor(
        T.SiglipImageProcessor(size=_SQUARE),
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="full",
        image_token="<image>",
        chat_template=template,
    )
    config = T.LlavaConfig(
        vision_config=_VISION | {"model_type": "siglip_vision_model", "vision_use_head": False},
        text_config=_LANGUAGE
        | {
            "model_type": "llama",
            "vocab_size": len(tokenizer),
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=4,
    )
    return T.LlavaForConditionalGeneration(config), processor


def joycaption() -> tuple[Any, Any]:
    return llava(JOY_CHAT)


_QWEN_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_QWEN_SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


def _qwen_text(vocabulary: int, **extra: Any) -> dict[str, Any]:
    ends = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}
    return _LANGUAGE | {"vocab_size": vocabulary, "num_attention_heads": 4} | ends | extra


_QWEN_IDS = {
    "vision_start_token_id": 3,
    "vision_end_token_id": 4,
    "image_token_id": 5,
    "video_token_id": 6,
}
_QWEN_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "out_hidden_size": 32,
}


def qwen2_5_vl() -> tuple[Any, Any]:
    tokenizer = byte_pairs(_QWEN_SPECIAL, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    pictures = T.Qwen2VLImageProcessor(
        patch_size=14, size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 4}
    )
    processor = T.Qwen2_5_VLProcessor(
        pictures, tokenizer, T.Qwen2VLVideoProcessor(), chat_template=_QWEN_CHAT
    )
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    config = T.Qwen2_5_VLConfig(
        text_config=_qwen_text(len(tokenizer), rope_parameters=rope),
        vision_config=_QWEN_VISION
        | {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [0]},
        **_QWEN_IDS,
    )
    return T.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_vl() -> tuple[Any, Any]:
    tokenizer = byte_pairs(_QWEN_SPECIAL, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    pictures = T.Qwen2VLImageProcessor(
        patch_size=16, size={"shortest_edge": 32 * 32, "longest_edge": 32 * 32 * 4}
    )
    processor = T.Qwen3VLProcessor(
        pictures, tokenizer, T.Qwen3VLVideoProcessor(), chat_template=_QWEN_CHAT
    )
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 1, 1]}
    config = T.Qwen3VLConfig(
        text_config=_qwen_text(
            len(tokenizer), head_dim=8, rope_parameters=rope | {"mrope_interleaved": True}
        ),
        vision_config=_QWEN_VISION
        | {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        **_QWEN_IDS,
    )
    return T.Qwen3VLForConditionalGeneration(config), processor


def paligemma() -> tuple[Any, Any]:
    tokenizer = byte_pairs(
        ["<pad>", "<eos>", "<bos>", "<unk>"],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
    )
    pictures = T.SiglipImageProcessor(size=_SQUARE)
    pictures.image_seq_length = 4
    processor = T.PaliGemmaProcessor(pictures, tokenizer)
    config = T.PaliGemmaConfig(
        vision_config=_VISION
        | {"model_type": "siglip_vision_model", "projection_dim": 32, "vision_use_head": False},
        text_config=_LANGUAGE
        | {
            "model_type": "gemma",
            "vocab_size": len(tokenizer),
            "head_dim": 16,
            "bos_token_id": 2,
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )
    return T.PaliGemmaForConditionalGeneration(config), processor


def git() -> tuple[Any, Any]:
    tokenizer = word_pieces()
    text = {k: v for k, v in _LANGUAGE.items() if k != "num_key_value_heads"}
    config = T.GitConfig(
        vision_config=_VISION,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        pad_token_id=0,
        **text,
    )
    pictures = T.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=_SQUARE)
    return T.GitForCausalLM(config), T.GitProcessor(pictures, tokenizer)


BUILDERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "blip": blip,
    "blip2": blip2,
    "florence": florence,
    "joycaption": joycaption,
    "llava": llava,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "paligemma": paligemma,
    "git": git,
}
