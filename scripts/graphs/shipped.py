"""The graphs in `workflows/`, as `draw_graphs.py` builds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """One node: its type, its widgets' values by name, what feeds its inputs ("key.OUTPUT").

    `files` are those a loader needs, by the address that ComfyUI's own graphs name: its page offers
    to fetch what is missing.
    """

    key: str
    type: str
    widgets: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    title: str | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    title: str
    colour: str
    nodes: tuple[Node, ...]
    row: int = 0


GREY, BLUE, GREEN = "#555555", "#3f789e", "#6b9e3f"
AMBER, PURPLE = "#b58b2a", "#8a5fa8"


INSTRUCTION = "Restore this old print: fresh, natural colours."
RUN = "old_print"

CHECK_LIST = """\
# Your own LoRA in six steps

1. *Load Paired Dataset*: name your two folders. **Before is control, after is target**, the same \
file name on both sides.
2. *Caption Pairs*: write one instruction for all pairs.
3. *Training Preset*: choose your kind of edit; resolution 0.
4. *Train Kontext LoRA*: give it a name; steps 0.
5. In place of *Load Demo Kontext* put *Load Diffusion Model*, *DualCLIPLoader* and *Load VAE*.
6. **Run.** Cancel whenever you like: run again, and it continues.

# 六步训练自己的 LoRA

1. *加载图片对*：填写两个文件夹。**修改前是 control，修改后是 target**，两边文件名相同。
2. *图片对打标*：为所有图片写一句指令。
3. *训练预设*：选择修改的种类；resolution 填 0。
4. *训练 Kontext LoRA*：起一个名称；steps 填 0。
5. 用 *UNet加载器*、*双CLIP加载器* 和 *加载VAE* 换掉 *加载演示 Kontext*。
6. **运行。** 随时可以取消，再次运行会接着训练。
"""
SETTINGS = {"preset": "style transfer", "resolution": 128}

TRAIN = (
    Group(
        "Start here 从这里开始",
        GREY,
        (Node("note", "MarkdownNote", {"text": CHECK_LIST}, {}, (400, 365)),),
    ),
    Group(
        "1 · Pairs 图片对",
        BLUE,
        (
            Node(
                "pairs",
                "KontextLoadPairs",
                {
                    "control_folder": "sample_pairs/before",
                    "target_folder": "sample_pairs/after",
                    "holdout": 4,
                },
            ),
            Node("sheet", "PreviewImage", {}, {"images": "pairs.contact sheet"}, (330, 105)),
        ),
    ),
    Group(
        "2 · Instruction 指令",
        GREEN,
        (
            Node(
                "captions",
                "KontextCaptionPairs",
                {"instruction": INSTRUCTION},
                {"pairs": "pairs.pairs"},
                (400, 330),
            ),
        ),
    ),
    Group(
        "3 · Settings 设置",
        AMBER,
        (Node("preset", "KontextTrainingPreset", SETTINGS, {"pairs": "captions.pairs"}),),
    ),
    Group("4 · Model 模型", BLUE, (Node("model", "KontextDemoModel"),), row=1),
    Group(
        "5 · Train 训练",
        AMBER,
        (
            Node(
                "train",
                "KontextTrainLora",
                {"name": RUN, "steps": 600, "save_every": 150},
                {
                    "model": "model.MODEL",
                    "clip": "model.CLIP",
                    "vae": "model.VAE",
                    "pairs": "captions.pairs",
                    "settings": "preset.settings",
                },
                (400, 395),
            ),
        ),
        row=1,
    ),
    Group(
        "6 · Compare 对比",
        PURPLE,
        (
            Node(
                "compare",
                "KontextCompareCheckpoints",
                {},
                {
                    "model": "model.MODEL",
                    "clip": "model.CLIP",
                    "vae": "model.VAE",
                    "run": "train.run",
                },
                (400, 395),
            ),
        ),
        row=1,
    ),
    Group(
        "7 · Choose 选择",
        PURPLE,
        (
            Node("grid", "PreviewImage", {}, {"images": "compare.grid"}, (460, 195)),
            Node("save", "KontextSaveCheckpoint", {}, {"run": "train.run"}),
        ),
        row=1,
    ),
)

USE = (
    Group(
        "1 · Load 加载",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node(
                "lora",
                "LoraLoaderModelOnly",
                {"lora_name": f"{RUN}_000600.safetensors"},
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
