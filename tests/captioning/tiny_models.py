"""Tiny captioners of every family, over-fitted on two colours and saved as a user's folder is.

Each takes one to a few seconds to build and says RED_TEXT about red pictures and BLUE_TEXT about
blue ones, so a test can tell whether the picture was seen and the text came through whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as T
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

RED, BLUE = (220, 20, 20), (20, 20, 220)
RED_TEXT, BLUE_TEXT = "a photo of a cat", "a man wearing a blue hat"
PAIR_TEXT = "turn it blue"
PROMPT = "Describe this image."

_CORPUS = [
    RED_TEXT,
    BLUE_TEXT,
    PAIR_TEXT,
    PROMPT,
    "What does the image describe?",
    "Describe with a paragraph what is shown in the image.",
    "Write a detailed description for this image.",
    "You are a helpful assistant and help users with any queries they may have",
] * 4


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


# ---- tokenizers ----------------------------------------------------------------------------


def byte_pairs(
    special: list[str], start: str = "", added: tuple[str, ...] = (), **names: Any
) -> T.PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on a few sentences; `start` opens every text."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    if start:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
        )
    tokenizer.add_tokens(list(added))
    return T.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def word_pieces() -> T.BertTokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word.strip(".,?").lower() for text in _CORPUS for word in text.split()})
    tokens = dict.fromkeys([*special, *"abcdefghijklmnopqrstuvwxyz.,?", *words])
    return T.BertTokenizer(vocab={token: i for i, token in enumerate(tokens)})


# ---- one builder per family: model and processor ---------------------------------------------

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
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [0],
        },
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
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0],
        },
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


# ---- over-fitting ------------------------------------------------------------------------------


Lesson = tuple[list[Image.Image], str]


def build(name: str, folder: Path, more: tuple[Lesson, ...] = ()) -> Path:
    """Build, teach and save one family; returns the model's folder."""
    torch.manual_seed(0)
    model, processor = BUILDERS[name]()
    teach(model, [example(name, processor, *lesson) for lesson in (*lessons(name), *more)])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def lessons(name: str) -> list[Lesson]:
    taught = [([picture(RED)], RED_TEXT), ([picture(BLUE)], BLUE_TEXT)]
    if name.startswith("qwen"):
        taught.append(([picture(RED), picture(BLUE)], PAIR_TEXT))
    return taught


def teach(model: Any, examples: list[dict[str, torch.Tensor]], limit: int = 400) -> None:
    """Train on the examples until every one of their tokens is all but certain."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(limit):
        losses = [model(**example).loss for example in examples]
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
        if max(loss.item() for loss in losses) < 0.03:
            break
    model.eval()


def example(name: str, processor: Any, pictures: list[Image.Image], text: str) -> dict[str, Any]:
    """Model inputs with labels for one picture list and its text, as the family is trained."""
    tokenizer = processor.tokenizer
    if name in ("blip", "git"):
        inputs = processor(images=pictures[0], text=text, return_tensors="pt")
        return dict(inputs) | {"labels": inputs["input_ids"].clone()}
    answer = torch.tensor(
        [tokenizer(text, add_special_tokens=False).input_ids + [tokenizer.eos_token_id]]
    )
    if name.startswith("florence"):
        inputs = processor(images=pictures[0], text="<CAPTION>", return_tensors="pt")
        return dict(inputs) | {"labels": answer}
    return _continued(dict(_question(name, processor, pictures)), answer)


def _question(name: str, processor: Any, pictures: list[Image.Image]) -> Any:
    if name == "blip2":
        return processor(images=pictures[0], text="", return_tensors="pt")
    if name == "paligemma":
        return processor(images=pictures[0], text="<image>caption en", return_tensors="pt")
    if name == "joycaption":
        from kontext.captioning.joycaption import SYSTEM, joycaption_prompt

        messages = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": joycaption_prompt("Descriptive", "any")},
        ]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return processor(images=pictures, text=[text], return_tensors="pt")
    content = [{"type": "image", "image": p} for p in pictures] + [{"type": "text", "text": PROMPT}]
    return processor.apply_chat_template(
        [[{"role": "user", "content": content}]],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )


def _continued(inputs: dict[str, torch.Tensor], answer: torch.Tensor) -> dict[str, torch.Tensor]:
    """The question followed by its answer; only the answer is learnt."""
    length = inputs["input_ids"].shape[1]
    if "token_type_ids" in inputs:  # PaliGemma sees all of what is marked 0 at once
        inputs["token_type_ids"] = torch.cat([inputs["token_type_ids"], torch.ones_like(answer)], 1)
    if "mm_token_type_ids" in inputs:  # Qwen: 0 is text
        marks = inputs["mm_token_type_ids"]
        inputs["mm_token_type_ids"] = torch.cat([marks, torch.zeros_like(answer)], 1)
    inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["labels"] = inputs["input_ids"].clone()
    inputs["labels"][:, :length] = -100
    return inputs


# ---- the old Florence-2 layout -------------------------------------------------------------------

_OLD_BLOCKS = {
    "conv1": "conv1.fn.dw",
    "norm1": "{attention}.norm",
    "window_attn": "window_attn.fn",
    "channel_attn": "channel_attn.fn",
    "conv2": "conv2.fn.dw",
    "norm2": "ffn.norm",
    "ffn": "ffn.fn.net",
}
_OLD_PROJECTOR = {
    "image_projection.weight": "image_projection",
    "image_proj_norm": "image_proj_norm",
    "image_position_embed": "image_pos_embed",
    "visual_temporal_embed": "visual_temporal_embed",
}


def old_florence(native: Path, folder: Path) -> Path:
    """A native Florence-2 folder rewritten as microsoft/Florence-2-* is laid out."""
    folder.mkdir(parents=True)
    config = json.loads((native / "config.json").read_text(encoding="utf-8"))
    text, vision = config["text_config"], config["vision_config"]
    rows = config["image_token_id"]
    old_vision = {
        "model_type": "davit",
        "dim_embed": vision["embed_dim"],
        "visual_temporal_embedding": {
            "type": "COSINE",
            "max_temporal_embeddings": vision["max_temporal_embeddings"],
        },
        "image_pos_embed": {
            "type": "learned_abs_2d",
            "max_pos_embeddings": vision["max_position_embeddings"],
        },
        "image_feature_source": ["spatial_avg_pool", "temporal_avg_pool"],
    }
    for name in ("num_heads", "num_groups", "depths", "window_size", "projection_dim"):
        old_vision[name] = vision[name]
    for name in ("patch_size", "patch_stride", "patch_padding", "patch_prenorm"):
        old_vision[name] = vision[name]
    old = {
        "model_type": "florence2",
        "architectures": ["Florence2ForConditionalGeneration"],
        "auto_map": {"AutoConfig": "configuration_florence2.Florence2Config"},
        "vocab_size": rows,
        "projection_dim": vision["projection_dim"],
        "text_config": text | {"model_type": "florence2_language", "vocab_size": rows},
        "vision_config": old_vision,
    }
    (folder / "config.json").write_text(json.dumps(old), encoding="utf-8")
    weights = {}
    for name, tensor in load_file(native / "model.safetensors").items():
        if name.endswith(("shared.weight", "lm_head.weight", "embed_tokens.weight")):
            tensor = tensor[:rows]
        if name.endswith("image_projection.weight"):
            tensor = tensor.T
        weights[old_name(name)] = tensor.contiguous()
    bias = torch.zeros(1, rows)
    save_file(weights | {"language_model.final_logits_bias": bias}, folder / "model.safetensors")
    _old_processor(native, folder)
    return folder


def old_name(native: str) -> str:
    """The name of a weight in the old layout, piece by piece."""
    parts = native.removeprefix("model.").split(".")
    if parts[0] == "language_model":
        return "language_model.model." + ".".join(parts[1:])
    if parts[0] == "lm_head":
        return "language_model." + ".".join(parts)
    if parts[0] == "multi_modal_projector":
        rest = ".".join(parts[1:])
        new = next(key for key in _OLD_PROJECTOR if rest.startswith(key))
        return _OLD_PROJECTOR[new] + rest.removeprefix(new)
    if parts[1] == "convs":
        return ".".join(parts).replace(".conv.", ".proj.")
    # vision_tower.blocks.0.0.spatial_block.window_attn.qkv.weight
    block, inner, rest = parts[:5], parts[5], parts[6:]
    attention = "window_attn" if block[-1] == "spatial_block" else "channel_attn"
    return ".".join([*block, _OLD_BLOCKS[inner].format(attention=attention), *rest])


def _old_processor(native: Path, folder: Path) -> None:
    """BART's own tokenizer without the added tokens, and a plain CLIP image processor."""
    tokenizer = json.loads((native / "tokenizer.json").read_text(encoding="utf-8"))
    first = tokenizer["added_tokens"][:5]
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer | {"added_tokens": first}), encoding="utf-8"
    )
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 1024}', encoding="utf-8")
    pictures = json.loads((native / "processor_config.json").read_text(encoding="utf-8"))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(pictures["image_processor"]), encoding="utf-8"
    )
