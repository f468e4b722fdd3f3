"""The training graphs of the other models: with loaders, files and addresses of ComfyUI's own."""

from __future__ import annotations

from graphs.shipped import (
    AMBER,
    BLUE,
    GREEN,
    INSTRUCTION,
    OWN_PAIRS,
    OWN_PAIRS_ZH,
    PURPLE,
    Group,
    Node,
    start,
)

HUB = "https://huggingface.co/{repository}/resolve/main/{file}"
MODEL = {"model": "model.MODEL", "clip": "clip.CLIP", "vae": "vae.VAE"}


def fetched(directory: str, repository: str, file: str) -> tuple[str, str]:
    """A file's address, and its folder below *models*."""
    return HUB.format(repository=repository, file=file), directory


def named(file: tuple[str, str]) -> str:
    return file[0].rsplit("/", 1)[1]


def loaders(
    model: tuple[str, str], texts: tuple[tuple[str, str], ...], kind: str, vae: tuple[str, str]
) -> Group:
    """The loaders of a model, its text encoders (one or two files of this *kind*), and its VAE."""
    one = len(texts) == 1
    widgets = {f"clip_name{'' if one else n}": named(text) for n, text in enumerate(texts, 1)}
    return Group(
        "4 · Model",
        "4 · 模型",
        BLUE,
        (
            Node("model", "UNETLoader", {"unet_name": named(model)}, {}, (250, 0), files=(model,)),
            Node(
                "clip",
                "CLIPLoader" if one else "DualCLIPLoader",
                {**widgets, "type": kind},
                {},
                (250, 0),
                files=texts,
            ),
            Node("vae", "VAELoader", {"vae_name": named(vae)}, {}, (250, 0), files=(vae,)),
        ),
        row=1,
    )


SHEET = Node(
    "sheet", "PreviewImage", {}, {"images": "pairs.contact sheet"}, (225, 270), beside=True, down=60
)
PAIRS = Group(
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
            {},
            (450, 175),
        ),
        SHEET,
    ),
)
PICTURES = Group(
    "1 · Pictures",
    "1 · 图片",
    BLUE,
    (
        Node(
            "pairs",
            "KontextLoadPictures",
            {"folder": "sample_pairs/after", "default_caption": "a photograph"},
            {},
            (450, 175),
        ),
        SHEET,
    ),
)


def captions(title: str, title_zh: str, **widgets: str) -> Group:
    return Group(
        title,
        title_zh,
        GREEN,
        (
            Node(
                "captions",
                "KontextCaptionPairs",
                widgets,
                {"pairs": "pairs.pairs"},
                (340, 0),
                room=4,
            ),
        ),
    )


def training(run: str, preset: str, model: Group) -> tuple[Group, ...]:
    """Settings, model, training, comparison and choice, for what "captions" hands on."""
    return (
        Group(
            "3 · Settings",
            "3 · 设置",
            AMBER,
            (
                Node(
                    "preset",
                    "KontextTrainingPreset",
                    {"preset": preset},
                    {"pairs": "captions.pairs"},
                ),
            ),
        ),
        model,
        Group(
            "5 · Train",
            "5 · 训练",
            AMBER,
            (
                Node(
                    "train",
                    "KontextTrainLora",
                    {"name": run},
                    {**MODEL, "pairs": "captions.pairs", "settings": "preset.settings"},
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
                    {**MODEL, "run": "train.run"},
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


FLUX2 = (
    start(
        f"""
An edit LoRA on FLUX.2 Klein, in five steps
{OWN_PAIRS}
*Caption Pairs*: write one *instruction* for all pairs. *Training Preset*: choose your kind of edit.
*Load Diffusion Model*: a **base** model, `flux-2-klein-base-4b` or `9b`, or `flux2_dev`. The 9B \
model takes the text encoder `qwen_3_8b`, dev takes `mistral_3_small`.
*Train Kontext LoRA*: give it a *name*.
**Run.** Use the LoRA on the base model, or on the distilled one (`flux-2-klein-4b`) for pictures \
in 4 steps.
""",
        f"""
五步：在 FLUX.2 Klein 上训练修图 LoRA
{OWN_PAIRS_ZH}
*图片对打标*：为所有图片写一句*总指令*。*训练预设*：选择修改的种类。
*UNet加载器*：选择**基础**模型，`flux-2-klein-base-4b`、`9b` 或 `flux2_dev`。9B 用文本编码器 \
`qwen_3_8b`，dev 用 `mistral_3_small`。
*训练 Kontext LoRA*：起一个*名称*。
**运行。** LoRA 可用在基础模型上，也可用在蒸馏模型（`flux-2-klein-4b`）上，4 步出图。
""",
        (310, 560),
        tall=True,
    ),
    PAIRS,
    captions("2 · Instruction", "2 · 指令", instruction=INSTRUCTION),
    *training(
        "klein_edit",
        "style transfer",
        loaders(
            fetched(
                "diffusion_models",
                "black-forest-labs/FLUX.2-klein-base-4b-fp8",
                "flux-2-klein-base-4b-fp8.safetensors",
            ),
            (
                fetched(
                    "text_encoders",
                    "Comfy-Org/z_image_turbo",
                    "split_files/text_encoders/qwen_3_4b.safetensors",
                ),
            ),
            "flux2",
            fetched(
                "vae",
                "black-forest-labs/FLUX.2-small-decoder",
                "full_encoder_small_decoder.safetensors",
            ),
        ),
    ),
)

QWEN = (
    start(
        f"""
An edit LoRA on Qwen-Image-Edit, in five steps
{OWN_PAIRS} Up to three controls for each target.
*Caption Pairs*: write one *instruction* for all pairs. *Training Preset*: choose your kind of edit.
*Load Diffusion Model*: Qwen-Image-Edit 2511, 2509 or the first, without a Lightning LoRA.
*Train Kontext LoRA*: give it a *name*.
**Run.** The text encoder sees your controls: use the LoRA in ComfyUI's own graph, with \
*TextEncodeQwenImageEditPlus*.
""",
        f"""
五步：在 Qwen-Image-Edit 上训练修图 LoRA
{OWN_PAIRS_ZH}每张修改后图片最多三张修改前图片。
*图片对打标*：为所有图片写一句*总指令*。*训练预设*：选择修改的种类。
*UNet加载器*：Qwen-Image-Edit 2511、2509 或最早的 Edit，不要叠加 Lightning LoRA。
*训练 Kontext LoRA*：起一个*名称*。
**运行。** 文本编码器会看修改前图片：在 ComfyUI 自带的工作流里用 \
*TextEncodeQwenImageEditPlus* 使用 LoRA。
""",
        (310, 560),
        tall=True,
    ),
    PAIRS,
    captions("2 · Instruction", "2 · 指令", instruction=INSTRUCTION),
    *training(
        "qwen_edit",
        "style transfer",
        loaders(
            fetched(
                "diffusion_models",
                "Comfy-Org/Qwen-Image-Edit_ComfyUI",
                "split_files/diffusion_models/qwen_image_edit_2511_fp8mixed.safetensors",
            ),
            (
                fetched(
                    "text_encoders",
                    "Comfy-Org/HunyuanVideo_1.5_repackaged",
                    "split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
                ),
            ),
            "qwen_image",
            fetched(
                "vae",
                "Comfy-Org/Qwen-Image_ComfyUI",
                "split_files/vae/qwen_image_vae.safetensors",
            ),
        ),
    ),
)

FLUX_TEXTS = "comfyanonymous/flux_text_encoders"
SINGLE = (
    start(
        """
A LoRA of a person, style or product, in five steps
*Load Pictures*: a *folder* of 15 to 20 pictures or more, with a `.txt` caption beside each; \
*default_caption* is for pictures without one.
*Caption Pairs*: a rare word as *trigger* that calls your LoRA. Describe what is to stay \
changeable; leave out what the LoRA is to bring.
*Load Diffusion Model*, *Load CLIP (Dual)*, *Load VAE*: FLUX.1 dev, or the loaders of FLUX.2 or \
Qwen-Image in their place.
*Train Kontext LoRA*: give it a *name*. *Training Preset*: leave *preset* at single pictures.
**Run.**
""",
        """
五步：人物、风格或产品的 LoRA
*加载图片集*：*图片文件夹*里至少 15 到 20 张，每张旁边放同名 `.txt` 打标文本；\
*默认打标文本*给没有打标文本的图片。
*图片对打标*：用一个少见的词作为*触发词*。想保持可控的内容写进描述，要由 LoRA 带来的不要写。
*UNet加载器*、*双CLIP加载器*、*加载VAE*：FLUX.1 dev，也可以换成 FLUX.2 或 Qwen-Image 的加载节点。
*训练 Kontext LoRA*：起一个*名称*。*训练预设*的*预设*保持“单张图片”。
**运行。**
""",
        (310, 560),
        tall=True,
    ),
    PICTURES,
    captions("2 · Captions", "2 · 打标", trigger="mylora"),
    *training(
        "my_pictures",
        "single pictures",
        loaders(
            fetched("diffusion_models", "Comfy-Org/flux1-dev", "flux1-dev.safetensors"),
            (
                fetched("text_encoders", FLUX_TEXTS, "clip_l.safetensors"),
                fetched("text_encoders", FLUX_TEXTS, "t5xxl_fp16.safetensors"),
            ),
            "flux",
            fetched(
                "vae",
                "Comfy-Org/Lumina_Image_2.0_Repackaged",
                "split_files/vae/ae.safetensors",
            ),
        ),
    ),
)

FAMILY_GRAPHS = {
    "train_flux2_klein": FLUX2,
    "train_qwen_image_edit": QWEN,
    "train_pictures": SINGLE,
}
