"""The training graphs of the other models: with loaders, files and addresses of ComfyUI's own."""

from __future__ import annotations

from graphs.shipped import AMBER, BLUE, GREEN, GREY, INSTRUCTION, PURPLE, Group, Node

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
        "4 · Model 模型",
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


def note(english: str, chinese: str) -> Group:
    text = {"text": f"{english}\n\n{chinese}"}
    check_list = Node("note", "MarkdownNote", text, {}, (300, 560))
    return Group("Start here 从这里开始", GREY, (check_list,), tall=True)


SHEET = Node(
    "sheet", "PreviewImage", {}, {"images": "pairs.contact sheet"}, (245, 330), beside=True
)
PAIRS = Group(
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
            {},
            (300, 175),
            room=50,
        ),
        SHEET,
    ),
)
PICTURES = Group(
    "1 · Pictures 图片",
    BLUE,
    (
        Node(
            "pairs",
            "KontextLoadPictures",
            {"folder": "sample_pairs/after", "default_caption": "a photograph", "holdout": 3},
            {},
            (300, 175),
            room=50,
        ),
        SHEET,
    ),
)


def captions(title: str, **widgets: str) -> Group:
    return Group(
        title,
        GREEN,
        (Node("captions", "KontextCaptionPairs", widgets, {"pairs": "pairs.pairs"}, (340, 0)),),
    )


def training(run: str, preset: str, model: Group) -> tuple[Group, ...]:
    """Settings, model, training, comparison and choice, for what "captions" hands on."""
    return (
        Group(
            "3 · Settings 设置",
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
            "5 · Train 训练",
            AMBER,
            (
                Node(
                    "train",
                    "KontextTrainLora",
                    {"name": run},
                    {**MODEL, "pairs": "captions.pairs", "settings": "preset.settings"},
                    (365, 360),
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
                    {**MODEL, "run": "train.run"},
                    (365, 360),
                ),
            ),
            row=1,
        ),
        Group(
            "7 · Choose 选择",
            PURPLE,
            (
                Node("grid", "PreviewImage", {}, {"images": "compare.grid"}, (370, 200)),
                Node("save", "KontextSaveCheckpoint", {}, {"run": "train.run"}),
            ),
            row=1,
        ),
    )


FLUX2 = (
    note(
        "# An edit LoRA on FLUX.2 Klein\n\n"
        "1. Name your two folders, **before is control, after is target**, and write one "
        "instruction.\n"
        "2. Load a **base** model: *flux-2-klein-base-4b* or *-9b*, or *flux2_dev*. The 9B model "
        "takes the text encoder *qwen_3_8b*, dev takes *mistral_3_small*.\n"
        "3. **Run.** Use the LoRA on the base model, or on the distilled one "
        "(*flux-2-klein-4b*) for pictures in 4 steps.",
        "# 在 FLUX.2 Klein 上训练修图 LoRA\n\n"
        "1. 填写两个文件夹，**修改前是 control，修改后是 target**，写一句指令。\n"
        "2. 加载**基础**模型：*flux-2-klein-base-4b*、*-9b* 或 *flux2_dev*。9B 用文本编码器 "
        "*qwen_3_8b*，dev 用 *mistral_3_small*。\n"
        "3. **运行。** LoRA 可用在基础模型上，也可用在蒸馏模型（*flux-2-klein-4b*）上，4 步出图。",
    ),
    PAIRS,
    captions("2 · Instruction 指令", instruction=INSTRUCTION),
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
    note(
        "# An edit LoRA on Qwen-Image-Edit\n\n"
        "1. Name your two folders, **before is control, after is target**, and write one "
        "instruction. Up to three controls for each target.\n"
        "2. Load Qwen-Image-Edit-2511, -2509 or the first Edit, without a Lightning LoRA.\n"
        "3. **Run.** The text encoder sees your controls: use the LoRA in ComfyUI's own graph, "
        "with *TextEncodeQwenImageEditPlus*.",
        "# 在 Qwen-Image-Edit 上训练修图 LoRA\n\n"
        "1. 填写两个文件夹，**修改前是 control，修改后是 target**，写一句指令。"
        "每张目标图最多三张参考图。\n"
        "2. 加载 Qwen-Image-Edit-2511、2509 或最早的 Edit，不要叠加 Lightning LoRA。\n"
        "3. **运行。** 文本编码器会看参考图：在 ComfyUI 自带的工作流里用 "
        "*TextEncodeQwenImageEditPlus* 加载你的 LoRA。",
    ),
    PAIRS,
    captions("2 · Instruction 指令", instruction=INSTRUCTION),
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
    note(
        "# A LoRA of a person, style or product\n\n"
        "1. *Load Pictures*: one folder, 15 to 20 pictures or more, a *.txt* caption beside each "
        "(or let *Caption Pairs* write them).\n"
        "2. **Trigger**: a rare word that calls your LoRA. Describe what is to stay changeable; "
        "leave out what the LoRA is to bring.\n"
        "3. **Run.** Works the same with FLUX.2 and Qwen-Image: put their loaders in group 4.",
        "# 人物、风格或产品的 LoRA\n\n"
        "1. *加载图片集*：一个文件夹，至少 15 到 20 张，每张旁边放同名 *.txt* 打标文本"
        "（或用 *图片对打标* 生成）。\n"
        "2. **trigger**：一个少见的触发词。想保持可控的内容写进描述，想绑定到 LoRA 的不要写。\n"
        "3. **运行。** FLUX.2 和 Qwen-Image 也一样，在 4 中换成它们的加载节点即可。",
    ),
    PICTURES,
    captions("2 · Captions 打标", trigger="mylora"),
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
