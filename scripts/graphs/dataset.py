"""The graphs in `workflows/` that make and mend datasets, as `draw_graphs.py` builds them."""

from graphs.shipped import AMBER, BLUE, GREEN, PURPLE, Group, Node

PREPARE = (
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
            ),
            Node("numbers", "PreviewAny", {}, {"source": "pairs.report"}, (400, 260)),
        ),
    ),
    Group(
        "2 · Check 检查",
        AMBER,
        (
            Node("check", "KontextCheckPairs", {}, {"pairs": "pairs.pairs"}),
            Node("told", "PreviewAny", {}, {"source": "check.report"}, (460, 230)),
            Node("findings", "PreviewImage", {}, {"images": "check.findings"}, (460, 400)),
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
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "Read the report under 2, mend what it names, and run again. The cut "
                    "pairs lie in **input/prepared_pairs**; your originals stay as they are."
                    "\n\n先看 2 的检查报告，改正后再运行一次。裁好的图片在 "
                    "**input/prepared_pairs**，原图不会被改动。"
                },
                {},
                (400, 190),
            ),
        ),
    ),
    Group(
        "4 · Result 结果",
        PURPLE,
        (
            Node("sheet", "PreviewImage", {}, {"images": "prepare.contact sheet"}, (400, 420)),
            Node("cuts", "PreviewAny", {}, {"source": "prepare.report"}, (400, 260)),
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
            (400, 260),
        ),
        Node("control", "PreviewImage", {}, {"images": control}, (400, 330)),
    )


CONTROL_GROUP = (
    todo("line_art_pairs"),
    Group(
        "2 · Instructions 指令（任选其一）",
        AMBER,
        tuple(
            Node(key, "PrimitiveStringMultiline", {"value": text}, {}, (400, 110), title)
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
        (
            *save("decode.IMAGE", "line_art_pairs", "Transfer into Animal Story Style."),
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "Needs the real FLUX.1-Kontext: put its three loaders in place of Load "
                    "Demo Kontext (which only shows that the graph runs; it cannot draw line art) "
                    "and FluxKontextImageScale in place of Upscale Image. Connect the instruction "
                    "you want, name a folder for each, and press Run until all are done: what "
                    "exists is skipped.\n\n需要真正的 FLUX.1-Kontext：用它的三个加载节点换掉 Load "
                    "Demo Kontext（演示模型不会画线稿），用 FluxKontextImageScale 换掉 Upscale "
                    "Image。连接需要的指令，反复运行直到全部完成；已有的会跳过。"
                },
                {},
                (400, 300),
            ),
        ),
    ),
)

TEXTURE = (
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
                (400, 120),
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
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "The repaint takes fine texture away, Degrade Image blurs what is "
                    "left, each picture by its own strength. Put the loaders of FLUX.1-Kontext in "
                    "place of Load Demo Kontext, and FluxKontextImageScale in place of Upscale "
                    "Image.\n\n低强度重绘去掉细节，Degrade Image 再模糊，每张强度不同。请用 "
                    "FLUX.1-Kontext 的加载节点换掉 Load Demo Kontext，用 FluxKontextImageScale "
                    "换掉 Upscale Image。"
                },
                {},
                (400, 260),
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
