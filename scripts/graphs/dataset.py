"""The shipped graphs that make and mend datasets."""

from graphs.shipped import (
    AMBER,
    BLUE,
    GREEN,
    OWN_PAIRS,
    OWN_PAIRS_ZH,
    OWN_SIZE,
    OWN_SIZE_ZH,
    PURPLE,
    Group,
    Node,
    start,
)

PREPARE = (
    start(
        f"""
Check and cut pairs in four steps
{OWN_PAIRS} *default_caption* is for pairs without one.
**Run**, and read what *Check Pairs* found. Mend what it names, and run again.
*Crop & Resize Pairs*: choose the *size*. Before and after are always cut alike, *crop_at* edit \
where they differ; *undo_shift* moves them onto each other.
The cut pairs lie in ComfyUI's input folder, in *output_folder*; your originals stay as they are.
""",
        f"""
四步检查和裁剪图片对
{OWN_PAIRS_ZH}*默认打标文本*给没有打标文本的图片对。
**运行**，看*检查图片对*的报告。改正它指出的问题，再运行一次。
*裁剪和缩放图片对*：选择*尺寸*。修改前后总是裁得一样，*裁剪位置*选“被修改处”时对准有修改的地方；\
*消除错位*把两边对齐。
裁好的图片在 ComfyUI 的 input 文件夹里，见*输出文件夹*；原图不会被改动。
""",
        (300, 500),
    ),
    Group(
        "1 · Load",
        "1 · 加载",
        BLUE,
        (
            Node(
                "pairs",
                "KontextLoadPairs",
                {
                    "control_folder": "sample_pairs/before",
                    "target_folder": "sample_pairs/after",
                    "default_caption": "Restore this old print.",
                },
                size=(300, 175),
                room=230,
            ),
        ),
    ),
    Group(
        "2 · Check",
        "2 · 检查",
        AMBER,
        (
            Node("check", "KontextCheckPairs", {}, {"pairs": "pairs.pairs"}, (360, 100), room=230),
            Node("findings", "PreviewImage", {}, {"images": "check.findings"}, (360, 330)),
        ),
    ),
    Group(
        "3 · Crop",
        "3 · 裁剪",
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
        "4 · Result",
        "4 · 结果",
        PURPLE,
        (
            Node("sheet", "PreviewImage", {}, {"images": "prepare.contact sheet"}, (350, 420)),
            Node("cuts", "PreviewAny", {}, {"source": "prepare.report"}, (350, 230)),
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


def todo(number: int, pairs_folder: str) -> Group:
    return Group(
        f"{number} · Pictures",
        f"{number} · 成品图",
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
Make the missing pictures before, in five steps
{OWN_SIZE} The demo model only shows that the graph runs; it cannot draw line art.
*Targets Without a Control*: the *folder* of your finished pictures; *at_a_time*, how many in a run.
Connect the instruction you want under 1, or write your own.
*Save Pair*: a *folder* for this kind, the same as *pairs_folder*, and the *caption* for training.
**Run** until all are done; what exists is skipped. Then another instruction, another folder.
""",
        f"""
五步补齐修改前的图
{OWN_SIZE_ZH}演示模型只能证明流程可以运行，画不了线稿。
*还缺修改前的图*：在*成品文件夹*填写成品图所在的文件夹；*每次张数*是每次运行做几张。
连接 1 中需要的指令，或自己写一条。
*保存图片对*：这一种的*文件夹*（与*图片对文件夹*相同），以及训练用的*打标文本*。
反复**运行**直到全部完成；已有的会跳过。然后换一条指令、换一个文件夹。
""",
        (320, 500),
    ),
    Group(
        "1 · Instruction",
        "1 · 指令",
        AMBER,
        tuple(
            Node(key, "PrimitiveStringMultiline", {"value": text}, {}, (320, 110), title)
            for key, (title, text) in STYLES.items()
        ),
    ),
    todo(2, "line_art_pairs"),
    Group(
        "3 · Kontext",
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
        "4 · Save pairs",
        "4 · 保存配对",
        PURPLE,
        save("decode.IMAGE", "line_art_pairs", "Transfer into Animal Story Style."),
    ),
)

TEXTURE = (
    start(
        f"""
Pairs for a texture enhancer in four steps
{OWN_SIZE}
*Targets Without a Control*: the *folder* of your sharp pictures; *at_a_time*, how many in a run.
*Degrade Image*: this *recipe* blurs, at most with *strength*; each picture gets its own. The \
repaint under 2 has already taken the finest texture away.
*Save Pair*: the *folder*, the same as *pairs_folder*, and the *caption* for training. **Run** \
until all are done; what exists is skipped.
""",
        f"""
四步制作质感增强的图片对
{OWN_SIZE_ZH}
*还缺修改前的图*：在*成品文件夹*填写清晰图片所在的文件夹；*每次张数*是每次运行做几张。
*做旧图片*：这个*配方*把图变模糊，*最强*是上限，每张图强度不同。\
2 中的低强度重绘已经去掉了最细的质感。
*保存图片对*：*文件夹*（与*图片对文件夹*相同），以及训练用的*打标文本*。反复**运行**直到全部完成；\
已有的会跳过。
""",
        (320, 460),
    ),
    todo(1, "texture_pairs"),
    Group(
        "2 · Repaint",
        "2 · 重绘",
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
        "3 · Blur",
        "3 · 模糊",
        AMBER,
        (
            Node(
                "degrade",
                "KontextDegrade",
                {"recipe": "texture enhancer", "strength": 0.7},
                {"image": "decode.IMAGE", "stem": "todo.stems"},
            ),
        ),
    ),
    Group(
        "4 · Save pairs",
        "4 · 保存配对",
        PURPLE,
        save("degrade.control", "texture_pairs", "Enhance the texture, sharp fine detail."),
    ),
)

DATASET_GRAPHS = {
    "prepare_pairs": PREPARE,
    "make_control_group": CONTROL_GROUP,
    "texture_enhancer_pairs": TEXTURE,
}
