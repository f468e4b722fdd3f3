"""The graphs in `workflows/`, as `draw_graphs.py` builds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """One node: its type, its widgets' values by name, what feeds its inputs ("key.OUTPUT")."""

    key: str
    type: str
    widgets: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    title: str | None = None


@dataclass(frozen=True)
class Group:
    title: str
    colour: str
    nodes: tuple[Node, ...]


BLUE, GREEN, AMBER, PURPLE = "#3f789e", "#6b9e3f", "#b58b2a", "#8a5fa8"


INSTRUCTION = "Restore this old print: fresh, natural colours."
RUN = "old_print"

TRAIN = (
    Group(
        "1 · Load 读取",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node(
                "pairs",
                "KontextLoadPairs",
                {
                    "control_folder": "sample_pairs/before",
                    "target_folder": "sample_pairs/after",
                    "holdout": 4,
                },
            ),
            Node("sheet", "PreviewImage", {}, {"images": "pairs.contact sheet"}, (330, 400)),
        ),
    ),
    Group(
        "2 · Caption 打标",
        GREEN,
        (
            Node(
                "captions",
                "KontextCaptionPairs",
                {"instruction": INSTRUCTION},
                {"pairs": "pairs.pairs"},
                (400, 480),
            ),
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "**Your own LoRA:** name your two folders under 1 and write your own "
                    "instruction above. Then put Load Diffusion Model, DualCLIPLoader and Load VAE "
                    "in place of Load Demo Kontext, choose a preset for your kind of edit under 3, "
                    "and set its resolution to 0, or to 512 where memory is short."
                    "\n\n**训练自己的 LoRA：** 在 1 中填写修改前和修改后的两个文件夹，"
                    "在上面写自己的指令。然后用 Load Diffusion Model、DualCLIPLoader 和 Load VAE "
                    "换掉 Load Demo Kontext，在 3 中按修改的种类选择预设，"
                    "并把 resolution 改为 0（用预设自己的），显存不够就用 512。"
                },
                {},
                (400, 260),
            ),
        ),
    ),
    Group(
        "3 · Settings 设置",
        AMBER,
        (
            Node(
                "preset",
                "KontextTrainingPreset",
                {"preset": "style transfer", "resolution": 128},
                {"pairs": "captions.pairs"},
            ),
        ),
    ),
    Group(
        "3 · Train 训练",
        AMBER,
        (
            Node(
                "train",
                "KontextTrainLora",
                {"name": RUN, "save_every": 500},
                {
                    "model": "model.MODEL",
                    "clip": "model.CLIP",
                    "vae": "model.VAE",
                    "pairs": "captions.pairs",
                    "settings": "preset.settings",
                },
                (360, 900),  # the chart and a sample find room while it trains
            ),
            Node(
                "save",
                "KontextSaveCheckpoint",
                {"name": f"{RUN}_restored", "overwrite": True},
                {"run": "train.run"},
            ),
        ),
    ),
    Group(
        "4 · Compare 对比",
        PURPLE,
        (
            Node(
                "test",
                "KontextLoadPairs",
                {
                    "control_folder": "sample_pairs/test",
                    "target_folder": "",
                    "holdout": 0,
                },
                title="Test Pictures 测试图",
            ),
            Node(
                "compare",
                "KontextCompareCheckpoints",
                {"prompt": INSTRUCTION},
                {
                    "model": "model.MODEL",
                    "clip": "model.CLIP",
                    "vae": "model.VAE",
                    "run": "train.run",
                    "pairs": "test.pairs",
                },
                (360, 660),
            ),
        ),
    ),
    Group(
        "5 · Choose 选择",
        PURPLE,
        (Node("grid", "PreviewImage", {}, {"images": "compare.grid"}, (1100, 720)),),
    ),
)

USE = (
    Group(
        "1 · Load 读取",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node(
                "lora",
                "LoraLoaderModelOnly",
                {"lora_name": f"{RUN}_restored.safetensors"},
                {"model": "model.MODEL"},
            ),
            Node("image", "LoadImage", {"image": "example.png"}, {}, (330, 330)),
            Node(
                "size",
                "ImageScale",
                {"upscale_method": "lanczos", "width": 128, "height": 128, "crop": "center"},
                {"image": "image.IMAGE"},
            ),
        ),
    ),
    Group(
        "2 · Instruction 指令",
        GREEN,
        (
            Node(
                "text", "CLIPTextEncode", {"text": INSTRUCTION}, {"clip": "model.CLIP"}, (400, 120)
            ),
            Node("latent", "VAEEncode", {}, {"pixels": "size.IMAGE", "vae": "model.VAE"}),
            Node(
                "reference",
                "ReferenceLatent",
                {},
                {"conditioning": "text.CONDITIONING", "latent": "latent.LATENT"},
            ),
            Node(
                "guidance",
                "FluxGuidance",
                {"guidance": 2.5},
                {"conditioning": "reference.CONDITIONING"},
            ),
            Node("nothing", "ConditioningZeroOut", {}, {"conditioning": "text.CONDITIONING"}),
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "Choose your picture and your LoRA under 1 and write the instruction "
                    "it was trained with. With FLUX.1-Kontext, put its three loaders in place of "
                    "Load Demo Kontext and FluxKontextImageScale in place of Upscale Image.\n\n"
                    "在 1 中选择图片和 LoRA，并写上训练时用的指令。使用 FLUX.1-Kontext 时，"
                    "用它的三个加载节点换掉 Load Demo Kontext，"
                    "用 FluxKontextImageScale 换掉 Upscale Image。"
                },
                {},
                (400, 250),
            ),
        ),
    ),
    Group(
        "3 · Edit 编辑",
        PURPLE,
        (
            Node(
                "sample",
                "KSampler",
                {
                    "seed": 1,
                    "control_after_generate": "fixed",
                    "steps": 20,
                    "cfg": 1.0,
                    "sampler_name": "euler",
                    "scheduler": "simple",
                },
                {
                    "model": "lora.MODEL",
                    "positive": "guidance.CONDITIONING",
                    "negative": "nothing.CONDITIONING",
                    "latent_image": "latent.LATENT",
                },
            ),
            Node("decode", "VAEDecode", {}, {"samples": "sample.LATENT", "vae": "model.VAE"}),
            Node(
                "result",
                "SaveImage",
                {"filename_prefix": "kontext"},
                {"images": "decode.IMAGE"},
                (330, 330),
            ),
        ),
    ),
)

GRAPHS = {"train_kontext_lora": TRAIN, "use_kontext_lora": USE}

# In the picture only: a print to restore, in place of the one every ComfyUI has.
SHOWN = {"use_kontext_lora": {"image": "coffee_1.jpg"}}
