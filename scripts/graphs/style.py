"""The shipped graphs of a style: train it, apply it straight or by way of line art, stack LoRAs."""

from __future__ import annotations

from dataclasses import replace

from graphs.dataset import STYLES
from graphs.shipped import (
    AMBER,
    BLUE,
    GREEN,
    INSTRUCTION,
    OWN_LOADERS,
    OWN_LOADERS_ZH,
    OWN_SIZE,
    OWN_SIZE_ZH,
    PURPLE,
    RUN,
    SETTINGS,
    Group,
    Node,
    start,
)

STYLE = "two_inks"
STYLE_INSTRUCTION = "Print in two inks."
STEPS = 300  # at ten times the usual rate: enough for the demo model


def lora(key: str, name: str, strength: float, model: str) -> Node:
    widgets = {"lora_name": f"{name}.safetensors", "strength_model": strength}
    return Node(key, "LoraLoaderModelOnly", widgets, {"model": model})


IMAGE = Node("image", "LoadImage", {"image": "example.png"}, {}, (250, 330), beside=True)
SIZE = Node(
    "size",
    "ImageScale",
    {"upscale_method": "lanczos", "width": 128, "height": 128, "crop": "center"},
    {"image": "image.IMAGE"},
)


def instruction(key: str, text: str, latent: str, beside: bool = False) -> tuple[Node, ...]:
    """What Kontext is told: the text, and the picture it is to edit; in one column or in two."""
    return (
        Node(f"{key}_text", "CLIPTextEncode", {"text": text}, {"clip": "model.CLIP"}, (300, 80)),
        Node(
            f"{key}_reference",
            "ReferenceLatent",
            {},
            {"conditioning": f"{key}_text.CONDITIONING", "latent": latent},
            beside=beside,
        ),
        Node(
            f"{key}_guidance",
            "FluxGuidance",
            {"guidance": 2.5},
            {"conditioning": f"{key}_reference.CONDITIONING"},
        ),
        Node(
            f"{key}_nothing",
            "ConditioningZeroOut",
            {},
            {"conditioning": f"{key}_text.CONDITIONING"},
        ),
    )


def sampler(key: str, model: str, latent: str) -> tuple[Node, ...]:
    widgets = {
        "seed": 1,
        "control_after_generate": "fixed",
        "steps": 20,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "simple",
    }
    inputs = {
        "model": model,
        "positive": f"{key}_guidance.CONDITIONING",
        "negative": f"{key}_nothing.CONDITIONING",
        "latent_image": latent,
    }
    return (
        Node(f"{key}_sample", "KSampler", widgets, inputs),
        Node(
            f"{key}_decode",
            "VAEDecode",
            {},
            {"samples": f"{key}_sample.LATENT", "vae": "model.VAE"},
        ),
    )


def saved(key: str) -> Node:
    prefix = {"filename_prefix": "kontext_style"}
    return Node("result", "SaveImage", prefix, {"images": f"{key}_decode.IMAGE"}, (250, 330))


ENCODE = Node("latent", "VAEEncode", {}, {"pixels": "size.IMAGE", "vae": "model.VAE"})

TRAIN_STYLE = (
    start(
        f"""
Train a style in four steps
**Your own style:** put *Load Paired Dataset* in place of 1 to 3: photographs as before, the same \
pictures in your style as after, 20 to 50 pairs, one short instruction for all. Here it is made: \
*Targets Without a Control* hands on all of a *folder* (*at_a_time* 24, none in *pairs_folder*), \
*Pairs from Images* gives them their *captions*.
*Training Preset*: *resolution* 0 for a real model; 128 is the demo model's.
*Train Kontext LoRA*: give it a *name*; *steps* and *learning_rate* 0. {OWN_LOADERS}.
**Run.** *Save Kontext LoRA* puts the last checkpoint into ComfyUI's list.
""",
        f"""
四步训练风格
**训练自己的风格：** 用*加载图片对*换掉 1 到 3：照片作为修改前，同一张图的风格化版本作为修改后，\
20 到 50 对，共用一句简短的指令。这里的图是现做的：*还缺修改前的图*交出*成品文件夹*的全部图片\
（*每次张数* 24，*图片对文件夹*是空的），*由图片组成图片对*给它们加上*打标文本*。
*训练预设*：真正的模型*分辨率*填 0；128 是演示模型用的。
*训练 Kontext LoRA*：起一个*名称*；*步数*和*学习率*填 0。{OWN_LOADERS_ZH}。
**运行。** *保存 Kontext LoRA* 把最后的检查点放进 ComfyUI 的列表。
""",
        (310, 560),
        tall=True,
    ),
    Group(
        "1 · Pictures",
        "1 · 图片",
        BLUE,
        (
            Node(
                "todo",
                "KontextUnpairedTargets",
                {"folder": "sample_pairs/after", "pairs_folder": "no_pairs_yet", "at_a_time": 24},
                {},
                (235, 0),
            ),
            Node(
                "size",
                "ImageScale",
                {"upscale_method": "lanczos", "width": 128, "height": 128, "crop": "center"},
                {"image": "todo.targets"},
                (235, 0),
                beside=True,
            ),
        ),
    ),
    Group(
        "2 · The style",
        "2 · 风格",
        GREEN,
        (
            Node("grey", "ImageToMask", {"channel": "green"}, {"image": "size.IMAGE"}, (225, 0)),
            Node("light", "MaskToImage", {}, {"mask": "grey.MASK"}, (225, 0)),
            Node(
                "paper",
                "EmptyImage",
                {"width": 128, "height": 128, "color": 0xFFC060},
                {},
                (225, 0),
                beside=True,
            ),
            Node(
                "on_paper",
                "ImageBlend",
                {"blend_factor": 1.0, "blend_mode": "multiply"},
                {"image1": "light.IMAGE", "image2": "paper.IMAGE"},
                (225, 0),
            ),
            Node(
                "ink",
                "EmptyImage",
                {"width": 128, "height": 128, "color": 0x003872},
                {},
                (225, 0),
                beside=True,
            ),
            Node(
                "inked",
                "ImageBlend",
                {"blend_factor": 1.0, "blend_mode": "screen"},
                {"image1": "on_paper.IMAGE", "image2": "ink.IMAGE"},
                (225, 0),
            ),
        ),
    ),
    Group(
        "3 · Pairs",
        "3 · 图片对",
        BLUE,
        (
            Node(
                "pairs",
                "KontextPairsFromImages",
                {"captions": STYLE_INSTRUCTION},
                {"control": "size.IMAGE", "target": "inked.IMAGE"},
                (260, 150),
                room=100,
            ),
            Node(
                "sheet",
                "PreviewImage",
                {},
                {"images": "pairs.contact sheet"},
                (225, 270),
                beside=True,
                down=60,
            ),
        ),
        row=1,
    ),
    Group(
        "4 · Set up",
        "4 · 准备",
        AMBER,
        (
            Node("model", "KontextDemoModel", size=(240, 0)),
            Node("preset", "KontextTrainingPreset", SETTINGS, {"pairs": "pairs.pairs"}, (240, 0)),
        ),
        row=1,
    ),
    Group(
        "5 · Train",
        "5 · 训练",
        AMBER,
        (
            Node(
                "train",
                "KontextTrainLora",
                {"name": STYLE, "steps": STEPS, "learning_rate": 1e-3},
                {
                    "model": "model.MODEL",
                    "clip": "model.CLIP",
                    "vae": "model.VAE",
                    "pairs": "pairs.pairs",
                    "settings": "preset.settings",
                },
                (300, 340),
            ),
        ),
        row=1,
    ),
    Group(
        "6 · Save",
        "6 · 保存",
        PURPLE,
        (Node("save", "KontextSaveCheckpoint", {}, {"run": "train.run"}, (240, 0)),),
        row=1,
    ),
)

DIRECT = (
    start(
        f"""
Apply a style in four steps
*Load LoRA*: choose your style (*train_style_lora* makes this one).
*Load Image*: choose your picture; the demo model knows photographs only.
*CLIP Text Encode (Prompt)*: the instruction it was trained with. Too weak on photographs? Try \
*indirect_style_transfer*.
{OWN_SIZE}
""",
        f"""
四步应用风格
*LoRA加载器（仅模型）*：选择风格（这一个由 *train_style_lora* 训练）。
*加载图像*：选择图片；演示模型只认识照片。
*CLIP文本编码*：写上训练时用的指令。在照片上效果太弱？试试 *indirect_style_transfer*。
{OWN_SIZE_ZH}
""",
        (320, 470),
    ),
    Group(
        "1 · Picture",
        "1 · 图片",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            lora("style", f"{STYLE}_{STEPS:06}", 1.0, "model.MODEL"),
            IMAGE,
            SIZE,
        ),
    ),
    Group(
        "2 · Instruction",
        "2 · 指令",
        GREEN,
        (
            ENCODE,
            *instruction("style", STYLE_INSTRUCTION, "latent.LATENT"),
        ),
    ),
    Group(
        "3 · Style",
        "3 · 风格化",
        PURPLE,
        (*sampler("style", "style.MODEL", "latent.LATENT"), saved("style")),
    ),
)

sample, decode = sampler("style", "style.MODEL", "line_sample.LATENT")
*line, line_nothing = instruction("line", "turn it black and white", "latent.LATENT")
line_sample, line_decode = sampler("line", "model.MODEL", "latent.LATENT")
INDIRECT = (
    start(
        f"""
A style by way of line art, in four steps
*Load Image*: a photograph on which the style comes out weak. What is left of it is its drawing, \
and the LoRA supplies the rest.
{OWN_SIZE}
*CLIP Text Encode (Prompt)*: write under 2 (the demo model can only take the colour away): \
{STYLES["line"][1]} Watercolour or clay work as well.
*Load LoRA*: choose your style, and write its instruction under 3.
""",
        f"""
四步：先转线稿，再用风格
*加载图像*：一张直接用风格效果太弱的照片。照片只留下线条，其余由 LoRA 补上。
{OWN_SIZE_ZH}
*CLIP文本编码*：在 2 中写（演示模型只能去掉颜色）：{STYLES["line"][1]} 也可以先转水彩或黏土。
*LoRA加载器（仅模型）*：选择风格，并在 3 中写上它的指令。
""",
        (310, 560),
        tall=True,
    ),
    Group(
        "1 · Picture",
        "1 · 图片",
        BLUE,
        (Node("model", "KontextDemoModel"), SIZE, ENCODE, replace(IMAGE, size=(210, 330))),
    ),
    Group(
        "2 · To line art",
        "2 · 转线稿",
        GREEN,
        (
            *line,
            replace(line_sample, beside=True),
            line_nothing,
            replace(line_decode, beside=True),
            Node("lines", "PreviewImage", {}, {"images": "line_decode.IMAGE"}, (225, 240)),
        ),
    ),
    Group(
        "3 · Style on the lines",
        "3 · 对线稿用风格",
        AMBER,
        (
            lora("style", f"{STYLE}_{STEPS:06}", 1.0, "model.MODEL"),
            *instruction("style", STYLE_INSTRUCTION, "line_sample.LATENT", beside=True),
        ),
        row=1,
    ),
    Group(
        "4 · Result",
        "4 · 结果",
        PURPLE,
        (sample, replace(decode, beside=True), replace(saved("style"), size=(250, 215))),
        row=1,
    ),
)

STACK = (
    start(
        f"""
Two LoRAs at once, in four steps
*Load LoRA*: choose both. A third one is one more loader in the row.
Two at full strength are often too much: start at 0.8 and 0.7, and lower the one that is too loud.
*CLIP Text Encode (Prompt)*: write both instructions. *Load Image*: choose your \
picture; the demo model knows photographs only.
{OWN_SIZE}
""",
        f"""
四步叠加两个 LoRA
*LoRA加载器（仅模型）*：选择两个 LoRA。第三个就再接一个加载节点。
两个都用满强度往往过头：从 0.8 和 0.7 开始，哪个太强就降哪个。
*CLIP文本编码*：两条指令都要写。*加载图像*：选择图片；演示模型只认识照片。
{OWN_SIZE_ZH}
""",
        (320, 470),
    ),
    Group(
        "1 · Two LoRAs",
        "1 · 两个 LoRA",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            lora("restore", f"{RUN}_000600", 0.8, "model.MODEL"),
            lora("style", f"{STYLE}_{STEPS:06}", 0.7, "restore.MODEL"),
            IMAGE,
            SIZE,
        ),
    ),
    Group(
        "2 · Instructions",
        "2 · 指令",
        GREEN,
        (
            ENCODE,
            *instruction("both", f"{INSTRUCTION} {STYLE_INSTRUCTION}", "latent.LATENT"),
        ),
    ),
    Group(
        "3 · Edit",
        "3 · 编辑",
        PURPLE,
        (*sampler("both", "style.MODEL", "latent.LATENT"), saved("both")),
    ),
)

STYLE_GRAPHS = {
    "train_style_lora": TRAIN_STYLE,
    "direct_style_transfer": DIRECT,
    "indirect_style_transfer": INDIRECT,
    "stack_loras": STACK,
}
