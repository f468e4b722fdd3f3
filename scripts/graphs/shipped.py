"""What the graphs in `workflows/` are made of, and the first two: train a LoRA, and use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """One node: its type, its widgets' values by name, what feeds its inputs ("key.OUTPUT").

    `files` are those a loader needs, by the address that ComfyUI's own graphs name: its page offers
    to fetch what is missing.
    `beside` begins a new column of its group, `down` lower than the others, so that wires to the
    next group pass above it; `room` is kept free below, for what it will say.
    """

    key: str
    type: str
    widgets: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    title: str | None = None
    files: tuple[str, ...] = ()
    beside: bool = False
    down: int = 0
    room: int = 0


@dataclass(frozen=True)
class Group:
    title: str
    title_zh: str
    colour: str
    nodes: tuple[Node, ...]
    row: int = 0
    tall: bool = False  # the rows begin at its right


GREY, BLUE, GREEN = "#888888", "#3f789e", "#6b9e3f"
AMBER, PURPLE = "#b58b2a", "#8a5fa8"


INSTRUCTION = "Restore this old print: fresh, natural colours."
RUN = "old_print"


def start(english: str, chinese: str, size: tuple[int, int], tall: bool = False) -> Group:
    """The check list at the left of a graph, in both languages: a title, and a step a line."""
    text = "\n\n".join(map(check_list, (english, chinese)))
    note = Node("start", "MarkdownNote", {"text": text}, {}, size)
    return Group("Start here", "从这里开始", GREY, (note,), tall=tall)


def check_list(text: str) -> str:
    title, *steps = text.strip().splitlines()
    return "\n".join([f"# {title}", "", *(f"{n}. {step}" for n, step in enumerate(steps, 1))])


OWN_PAIRS = (
    "*Load Paired Dataset*: your two folders, the pictures before in *control_folder*, those after "
    "in *target_folder*, under the same file names."
)
OWN_PAIRS_ZH = (
    "*加载图片对*：两个文件夹，修改前的图片填在*修改前文件夹（control）*，修改后的填在"
    "*修改后文件夹（target）*，两边文件名相同。"
)
OWN_LOADERS = (
    "Your own model: put *Load Diffusion Model*, *Load CLIP (Dual)* and *Load VAE* in place of "
    "*Load Demo Kontext*"
)
OWN_LOADERS_ZH = (
    "使用自己的模型：用 *UNet加载器*、*双CLIP加载器* 和 *加载VAE* 换掉 *加载演示 Kontext*"
)
OWN_SIZE = f"{OWN_LOADERS}, and *FluxKontextImageScale* in place of *Upscale Image*."
OWN_SIZE_ZH = f"{OWN_LOADERS_ZH}，用 *图像缩放为FluxKontext* 换掉 *缩放图像*。"

SETTINGS = {"preset": "style transfer", "resolution": 128}

TRAIN = (
    start(
        f"""
Your own LoRA in seven steps
{OWN_PAIRS}
*Caption Pairs*: write one *instruction* for all pairs.
*Training Preset*: choose your kind of edit in *preset*; *resolution* 0.
{OWN_LOADERS}.
*Train Kontext LoRA*: give it a *name*; *steps* 0.
**Run.** Cancel whenever you like: run again, and it continues.
*Open viewer*: compare, vote, and keep the best one. Then *use_kontext_lora*.
""",
        f"""
七步训练自己的 LoRA
{OWN_PAIRS_ZH}
*图片对打标*：为所有图片写一句*总指令*。
*训练预设*：在*预设*中选择修改的种类；*分辨率*填 0。
{OWN_LOADERS_ZH}。
*训练 Kontext LoRA*：起一个*名称*；*步数*填 0。
**运行。** 随时可以取消，再次运行会接着训练。
*打开对比查看器*：对比、投票，保留最好的一个。然后用 *use_kontext_lora*。
""",
        (310, 560),
        tall=True,
    ),
    Group(
        "1 · Pairs",
        "1 · 图片对",
        BLUE,
        (
            Node(
                "pairs",
                "KontextLoadPairs",
                {
                    "control_folder": "sample_pairs/before",
                    "target_folder": "sample_pairs/after",
                },
                size=(450, 175),
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
    ),
    Group(
        "2 · Instruction",
        "2 · 指令",
        GREEN,
        (
            Node(
                "captions",
                "KontextCaptionPairs",
                {"instruction": INSTRUCTION},
                {"pairs": "pairs.pairs"},
                (340, 0),
                room=12,
            ),
        ),
    ),
    Group(
        "3 · Settings",
        "3 · 设置",
        AMBER,
        (Node("preset", "KontextTrainingPreset", SETTINGS, {"pairs": "captions.pairs"}),),
    ),
    Group(
        "4 · Model", "4 · 模型", BLUE, (Node("model", "KontextDemoModel", size=(210, 0)),), row=1
    ),
    Group(
        "5 · Train",
        "5 · 训练",
        AMBER,
        (
            Node(
                "train",
                "KontextTrainLora",
                {"name": RUN, "steps": 600},
                {
                    "model": "model.MODEL",
                    "clip": "model.CLIP",
                    "vae": "model.VAE",
                    "pairs": "captions.pairs",
                    "settings": "preset.settings",
                },
                (340, 340),
            ),
        ),
        row=1,
    ),
    Group(
        "6 · Compare",
        "6 · 对比",
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
                (340, 340),
            ),
        ),
        row=1,
    ),
    Group(
        "7 · Choose",
        "7 · 选择",
        PURPLE,
        (
            Node("save", "KontextSaveCheckpoint", {}, {"run": "train.run"}, room=36),
            Node("grid", "PreviewImage", {}, {"images": "compare.grid"}, (340, 110)),
        ),
        row=1,
    ),
)

USE = (
    start(
        f"""
Use your LoRA in four steps
*Load LoRA*: choose your LoRA.
*Load Image*: choose your picture; the demo model knows photographs only.
*CLIP Text Encode (Prompt)*: write the instruction it was trained with.
{OWN_SIZE}
""",
        f"""
四步使用自己的 LoRA
*LoRA加载器（仅模型）*：选择 LoRA。
*加载图像*：选择图片；演示模型只认识照片。
*CLIP文本编码*：写上训练时用的指令。
{OWN_SIZE_ZH}
""",
        (340, 400),
    ),
    Group(
        "1 · Load",
        "1 · 加载",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node(
                "lora",
                "LoraLoaderModelOnly",
                {"lora_name": f"{RUN}_000600.safetensors"},
                {"model": "model.MODEL"},
            ),
            Node("image", "LoadImage", {"image": "example.png"}, {}, (300, 330), beside=True),
            Node(
                "size",
                "ImageScale",
                {"upscale_method": "lanczos", "width": 128, "height": 128, "crop": "center"},
                {"image": "image.IMAGE"},
            ),
        ),
    ),
    Group(
        "2 · Instruction",
        "2 · 指令",
        GREEN,
        (
            Node(
                "text", "CLIPTextEncode", {"text": INSTRUCTION}, {"clip": "model.CLIP"}, (340, 120)
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
        ),
    ),
    Group(
        "3 · Edit",
        "3 · 编辑",
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
