"""The shipped graphs of a style: train it, apply it straight or by way of line art, stack LoRAs."""

from __future__ import annotations

from graphs.dataset import STYLES
from graphs.shipped import AMBER, BLUE, GREEN, INSTRUCTION, PURPLE, RUN, Group, Node

STYLE = "two_inks"
STYLE_INSTRUCTION = "Print in two inks."
OWN_MODEL = (
    "With FLUX.1-Kontext, put its three loaders in place of Load Demo Kontext and "
    "FluxKontextImageScale in place of Upscale Image."
)
OWN_MODEL_ZH = (
    "使用 FLUX.1-Kontext 时，用它的三个加载节点换掉 Load Demo Kontext，"
    "用 FluxKontextImageScale 换掉 Upscale Image。"
)


def note(english: str, chinese: str, height: int) -> Node:
    return Node("note", "MarkdownNote", {"text": f"{english}\n\n{chinese}"}, {}, (400, height))


def lora(key: str, name: str, strength: float, model: str) -> Node:
    widgets = {"lora_name": f"{name}.safetensors", "strength_model": strength}
    return Node(key, "LoraLoaderModelOnly", widgets, {"model": model})


def picture() -> tuple[Node, ...]:
    size = {"upscale_method": "lanczos", "width": 128, "height": 128, "crop": "center"}
    return (
        Node("image", "LoadImage", {"image": "example.png"}, {}, (330, 330)),
        Node("size", "ImageScale", size, {"image": "image.IMAGE"}),
    )


def instruction(key: str, text: str, latent: str) -> tuple[Node, ...]:
    """What Kontext is told: the text, and the picture it is to edit."""
    return (
        Node(f"{key}_text", "CLIPTextEncode", {"text": text}, {"clip": "model.CLIP"}, (400, 120)),
        Node(
            f"{key}_reference",
            "ReferenceLatent",
            {},
            {"conditioning": f"{key}_text.CONDITIONING", "latent": latent},
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
    return Node("result", "SaveImage", prefix, {"images": f"{key}_decode.IMAGE"}, (330, 360))


ENCODE = Node("latent", "VAEEncode", {}, {"pixels": "size.IMAGE", "vae": "model.VAE"})

TRAIN_STYLE = (
    Group(
        "1 · Pictures 图片",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node(
                "todo",
                "KontextUnpairedTargets",
                {"folder": "sample_pairs/after", "pairs_folder": "no_pairs_yet", "at_a_time": 24},
            ),
            Node(
                "size",
                "ImageScale",
                {"upscale_method": "lanczos", "width": 128, "height": 128, "crop": "center"},
                {"image": "todo.targets"},
            ),
        ),
    ),
    Group(
        "2 · The style 风格",
        GREEN,
        (
            Node("grey", "ImageToMask", {"channel": "green"}, {"image": "size.IMAGE"}),
            Node("light", "MaskToImage", {}, {"mask": "grey.MASK"}),
            Node("paper", "EmptyImage", {"width": 128, "height": 128, "color": 0xFFC060}),
            Node(
                "on_paper",
                "ImageBlend",
                {"blend_factor": 1.0, "blend_mode": "multiply"},
                {"image1": "light.IMAGE", "image2": "paper.IMAGE"},
            ),
            Node("ink", "EmptyImage", {"width": 128, "height": 128, "color": 0x003872}),
            Node(
                "inked",
                "ImageBlend",
                {"blend_factor": 1.0, "blend_mode": "screen"},
                {"image1": "on_paper.IMAGE", "image2": "ink.IMAGE"},
            ),
        ),
    ),
    Group(
        "3 · Pairs 图片对",
        GREEN,
        (
            Node(
                "pairs",
                "KontextPairsFromImages",
                {"captions": STYLE_INSTRUCTION, "holdout": 4},
                {"control": "size.IMAGE", "target": "inked.IMAGE"},
                (400, 220),
            ),
            Node("sheet", "PreviewImage", {}, {"images": "pairs.contact sheet"}, (400, 400)),
            note(
                "**Your own style:** put Load Paired Dataset in place of 1 to 3: photographs as "
                "before, the same pictures in your style as after, 20 to 50 pairs, one short "
                "instruction for all.",
                "**训练自己的风格：** 用 Load Paired Dataset 换掉 1 到 3：照片作为修改前，"
                "同一张图的风格化版本作为修改后，20 到 50 对，共用一句简短的指令。",
                200,
            ),
        ),
    ),
    Group(
        "4 · Settings 设置",
        AMBER,
        (Node("settings", "KontextTrainingSettings", {"resolution": "128"}),),
    ),
    Group(
        "4 · Train 训练",
        AMBER,
        (
            Node(
                "train",
                "KontextTrainLora",
                {"name": STYLE, "steps": 200, "learning_rate": 1e-3, "save_every": 100},
                {
                    "model": "model.MODEL",
                    "clip": "model.CLIP",
                    "vae": "model.VAE",
                    "pairs": "pairs.pairs",
                    "settings": "settings.settings",
                },
                (360, 900),
            ),
            Node(
                "save",
                "KontextSaveCheckpoint",
                {"name": STYLE},
                {"run": "train.run"},
            ),
        ),
    ),
)

DIRECT = (
    Group(
        "1 · Picture and style 图片与风格",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            lora("style", STYLE, 1.0, "model.MODEL"),
            *picture(),
        ),
    ),
    Group(
        "2 · Instruction 指令",
        GREEN,
        (
            ENCODE,
            *instruction("style", STYLE_INSTRUCTION, "latent.LATENT"),
            note(
                "Choose your style LoRA and write the instruction it was trained with "
                "(`train_style_lora` makes this one). Too weak on photographs? Try "
                f"`indirect_style_transfer`. {OWN_MODEL}",
                "选择你的风格 LoRA，写上训练时用的指令（这一个由 `train_style_lora` 训练）。"
                f"在照片上效果太弱？试试 `indirect_style_transfer`。{OWN_MODEL_ZH}",
                230,
            ),
        ),
    ),
    Group(
        "3 · Style 风格化",
        PURPLE,
        (*sampler("style", "style.MODEL", "latent.LATENT"), saved("style")),
    ),
)

INDIRECT = (
    Group("1 · Picture 图片", BLUE, (Node("model", "KontextDemoModel"), *picture(), ENCODE)),
    Group(
        "2 · To line art, no LoRA 转线稿",
        GREEN,
        (
            *instruction("line", "turn it black and white", "latent.LATENT"),
            note(
                "The demo model cannot draw lines: it takes the colour away. **With FLUX.1-Kontext "
                f"write here:** {STYLES['line'][1]}",
                "演示模型画不了线稿，只能去掉颜色。**使用 FLUX.1-Kontext 时，在上面写：** "
                f"{STYLES['line'][1]}",
                190,
            ),
        ),
    ),
    Group(
        "3 · Line art 线稿",
        GREEN,
        (
            *sampler("line", "model.MODEL", "latent.LATENT"),
            Node("lines", "PreviewImage", {}, {"images": "line_decode.IMAGE"}, (330, 360)),
        ),
    ),
    Group(
        "4 · Style on the lines 对线稿用风格",
        AMBER,
        (
            lora("style", STYLE, 1.0, "model.MODEL"),
            *instruction("style", STYLE_INSTRUCTION, "line_sample.LATENT"),
            Node(
                "about",
                "MarkdownNote",
                {
                    "text": "For a style that comes out weak on a photograph: what is left of the "
                    "photograph is its drawing, and the LoRA supplies the rest. Watercolour or "
                    f"clay work as well. {OWN_MODEL}\n\n"
                    "适用于直接用在照片上效果太弱的风格：照片只留下线条，其余由 LoRA 补上。"
                    f"也可以先转水彩或黏土。{OWN_MODEL_ZH}"
                },
                {},
                (400, 230),
            ),
        ),
    ),
    Group(
        "5 · Result 结果",
        PURPLE,
        (*sampler("style", "style.MODEL", "latent.LATENT"), saved("style")),
    ),
)

STACK = (
    Group(
        "1 · Two LoRAs 两个 LoRA",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            lora("restore", f"{RUN}_000600", 0.8, "model.MODEL"),
            lora("style", STYLE, 0.7, "restore.MODEL"),
            *picture(),
        ),
    ),
    Group(
        "2 · Both instructions 两条指令",
        GREEN,
        (
            ENCODE,
            *instruction("both", f"{INSTRUCTION} {STYLE_INSTRUCTION}", "latent.LATENT"),
            note(
                "Each LoRA changes the same weights, so two at full strength are often too much: "
                "start at 0.7 and 0.8, and lower the one that is too loud. Write both "
                f"instructions. A third LoRA is one more loader in the row. {OWN_MODEL}",
                "两个 LoRA 改动同样的权重，都用满强度往往过头：从 0.7 和 0.8 开始，"
                f"哪个太强就降哪个。两条指令都要写。第三个 LoRA 就再接一个加载节点。{OWN_MODEL_ZH}",
                230,
            ),
        ),
    ),
    Group(
        "3 · Edit 编辑",
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
