"""The shipped graphs that make and mend datasets."""

from graphs.shipped import (
    AMBER,
    BLUE,
    GREEN,
    OWN_SIZE,
    OWN_SIZE_ZH,
    PURPLE,
    Group,
    Node,
    start,
)

PREPARE = (
    start(
        """
Check and cut pairs in four steps
*Load Paired Dataset*: name your two folders. **Before is control, after is target.**
**Run**, and read what *Check Pairs* found. Mend what it names, and run again.
*Crop & Resize Pairs*: choose the size. Before and after are always cut alike.
The cut pairs lie in **input/prepared_pairs**; your originals stay as they are.
""",
        """
四步检查和裁剪图片对
*加载图片对*：填写两个文件夹。**修改前是 control，修改后是 target。**
**运行**，看*检查图片对*的报告。改正它指出的问题，再运行一次。
*裁剪和缩放图片对*：选择尺寸。修改前后总是裁得一样。
裁好的图片在 **input/prepared_pairs**，原图不会被改动。
""",
        (320, 380),
    ),
    Group(
        "1 · Load 加载",
        BLUE,
        (
            Node(
                "pairs",
                "KontextLoadPairs",
                {
                    "control_folder": "sample_pairs/before",
                    "target_folder": "sample_pairs/after",
                    "default_caption": "Restore this old print.",
                    "holdout": 4,
                },
                size=(300, 175),
                room=230,
            ),
        ),
    ),
    Group(
        "2 · Check 检查",
        AMBER,
        (
            Node("check", "KontextCheckPairs", {}, {"pairs": "pairs.pairs"}, (360, 100), room=230),
            Node("findings", "PreviewImage", {}, {"images": "check.findings"}, (360, 330)),
        ),
    ),
    Group(
        "3 · Crop & resize 裁剪缩放",
        GREEN,
        (
            Node(
                "prepare",
                "KontextPreparePairs",
                {
                    "size": "512 x 512",
                    "output_folder": "prepared_pairs",
                    "crop_at": "edit",
                    "undo_shift": True,
                },
                {"pairs": "check.pairs"},
            ),
        ),
    ),
    Group(
        "4 · Result 结果",
        PURPLE,
        (
            Node("sheet", "PreviewImage", {}, {"images": "prepare.contact sheet"}, (360, 420)),
            Node("cuts", "PreviewAny", {}, {"source": "prepare.report"}, (360, 230)),
        ),
    ),
)

STYLES = {
    "line": ("Line art 线稿", "Turn this picture into clean black line art on white paper, keep "
             "the composition, the pose and every outline where they are."),
    "clay": ("Clay 黏土", "Turn this picture into a grey clay model without colour or texture, "
             "keep the composition and every shape where they are."),
    "water": ("Watercolour 水彩", "Turn this picture into a loose watercolour painting on rough "
              "paper, keep the composition and every shape where they are."),
    "real": ("Realistic 写实", "Turn this picture into a realistic photograph in natural light, "
             "keep the composition, the pose and every shape where they are."),
    "pixel": ("Pixel art 像素", "Turn this picture into pixel art with large square pixels and few "
              "colours, keep the composition and every shape where they are."),
}  # fmt: skip


def todo(pairs_folder: str) -> Group:
    return Group(
        "1 · Finished pictures 成品图",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node(
                "todo",
                "KontextUnpairedTargets",
                {"folder": "sample_pairs/after", "pairs_folder": pairs_folder, "at_a_time": 2},
            ),
            Node(
                "size",
                "ImageScale",
                {"upscale_method": "lanczos", "width": 128, "height": 128, "crop": "center"},
                {"image": "todo.targets"},
            ),
            Node("latent", "VAEEncode", {}, {"pixels": "size.IMAGE", "vae": "model.VAE"}),
        ),
    )


def sampler(denoise: float, steps: int) -> tuple[Node, ...]:
    return (
        Node(
            "sample",
            "KSampler",
            {
                "seed": 1,
                "control_after_generate": "fixed",
                "steps": steps,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "simple",
                "denoise": denoise,
            },
            {
                "model": "model.MODEL",
                "positive": "guidance.CONDITIONING",
                "negative": "nothing.CONDITIONING",
                "latent_image": "latent.LATENT",
            },
        ),
        Node("decode", "VAEDecode", {}, {"samples": "sample.LATENT", "vae": "model.VAE"}),
    )


def save(control: str, folder: str, caption: str) -> tuple[Node, ...]:
    return (
        Node(
            "save",
            "KontextSavePair",
            {"caption": caption, "folder": folder},
            {"control": control, "target": "size.IMAGE", "stem": "todo.stems"},
            (360, 240),
        ),
        Node("control", "PreviewImage", {}, {"images": control}, (360, 330)),
    )


CONTROL_GROUP = (
    start(
        f"""
Make the missing *before* in five steps
{OWN_SIZE} The demo model only shows that the graph runs; it cannot draw line art.
*Targets Without a Control*: the folder of your finished pictures.
Connect the instruction you want under 2, or write your own.
*Save Pair*: a folder for this kind, and the caption for training.
**Run** until all are done; what exists is skipped. Then another instruction, another folder.
""",
        f"""
五步补齐*修改前*的图
{OWN_SIZE_ZH}演示模型只能证明流程可以运行，画不了线稿。
*还缺修改前的图*：填写成品图的文件夹。
连接 2 中需要的指令，或自己写一条。
*保存图片对*：这一种的文件夹，以及训练用的打标文本。
反复**运行**直到全部完成；已有的会跳过。然后换一条指令、换一个文件夹。
""",
        (320, 500),
    ),
    todo("line_art_pairs"),
    Group(
        "2 · Instructions 指令（任选其一）",
        AMBER,
        tuple(
            Node(key, "PrimitiveStringMultiline", {"value": text}, {}, (320, 110), title)
            for key, (title, text) in STYLES.items()
        ),
    ),
    Group(
        "3 · Kontext",
        GREEN,
        (
            Node("text", "CLIPTextEncode", {}, {"clip": "model.CLIP", "text": "line.STRING"}),
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
            *sampler(1.0, 8),
        ),
    ),
    Group(
        "4 · Save pairs 保存配对",
        PURPLE,
        save("decode.IMAGE", "line_art_pairs", "Transfer into Animal Story Style."),
    ),
)

TEXTURE = (
    start(
        f"""
Pairs for a texture enhancer in four steps
{OWN_SIZE}
*Targets Without a Control*: the folder of your sharp pictures.
*Degrade Image*: how blurred the *before* may become; each picture gets a strength of its own. The \
repaint under 2 has already taken the finest texture away.
**Run** until all are done; what exists is skipped.
""",
        f"""
四步制作质感增强的图片对
{OWN_SIZE_ZH}
*还缺修改前的图*：填写清晰图片的文件夹。
*做旧图片*：*修改前*最多模糊到什么程度，每张图强度不同。2 中的低强度重绘已经去掉了最细的质感。
反复**运行**直到全部完成；已有的会跳过。
""",
        (320, 460),
    ),
    todo("texture_pairs"),
    Group(
        "2 · Low-strength repaint 低强度重绘",
        GREEN,
        (
            Node(
                "text",
                "CLIPTextEncode",
                {"text": "a smooth, soft picture with little texture"},
                {"clip": "model.CLIP"},
                (320, 120),
            ),
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
            *sampler(0.3, 20),
        ),
    ),
    Group(
        "3 · Blur 模糊",
        AMBER,
        (
            Node(
                "degrade",
                "KontextDegrade",
                {"recipe": "texture enhancer", "strength": 0.7, "seed": 1, "weakest": 0.15},
                {"image": "decode.IMAGE", "stem": "todo.stems"},
            ),
        ),
    ),
    Group(
        "4 · Save pairs 保存配对",
        PURPLE,
        save("degrade.control", "texture_pairs", "Enhance the texture, sharp fine detail."),
    ),
)

DATASET_GRAPHS = {
    "prepare_pairs": PREPARE,
    "make_control_group": CONTROL_GROUP,
    "texture_enhancer_pairs": TEXTURE,
}
