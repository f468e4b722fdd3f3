"""The captioning graphs in `workflows/`, as `draw_graphs.py` builds them."""

from graphs.shipped import AMBER, BLUE, GREEN, INSTRUCTION, PURPLE, Group, Node

LOAD = Group(
    "1 · Load 加载",
    BLUE,
    (
        Node(
            "pairs",
            "KontextLoadPairs",
            {"control_folder": "sample_pairs/before", "target_folder": "sample_pairs/after"},
        ),
        Node("sheet", "PreviewImage", {}, {"images": "pairs.contact sheet"}, (330, 400)),
    ),
)

PAIRS = (
    LOAD,
    Group(
        "2 · Captioner 打标模型",
        GREEN,
        (
            Node(
                "captioner",
                "KontextFlorenceCaptioner",
                {"model": "LLM/Florence-2-large (Florence-2)", "task": "caption", "max_tokens": 64},
            ),
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "Choose your own model here. Instead of Florence-2 you can connect any "
                    "other **Captioner** node: BLIP, JoyCaption, WD14 tags, or a vision-language "
                    "model (Qwen3-VL, Gemma) that ComfyUI loads itself.\n\nSwitch **save_txt** on "
                    "to write the captions beside your targets, correct them there, and run again "
                    "with **existing: keep**.\n\n"
                    "在这里选择自己的模型。也可以连接其他 **Captioner** 节点：BLIP、JoyCaption、"
                    "WD14 标签，或由 ComfyUI 直接加载的视觉语言模型。\n\n打开 **save_txt** "
                    "会把打标文本写到修改后图片旁边；手工修改后用 **existing: keep** 再次运行。"
                },
                {},
                (400, 330),
            ),
        ),
    ),
    Group(
        "3 · Caption 打标",
        AMBER,
        (
            Node(
                "captions",
                "KontextCaptionPairs",
                {"instruction": INSTRUCTION, "limit": 30},
                {"pairs": "pairs.pairs", "captioner": "captioner.captioner"},
                (460, 760),
            ),
            Node("preview", "PreviewAny", {}, {"source": "captions.preview"}, (460, 320)),
        ),
    ),
    Group(
        "4 · Check 检查",
        PURPLE,
        (
            Node(
                "statistics",
                "KontextCaptionStats",
                {"count": "words"},
                {"pairs": "captions.pairs"},
                (460, 620),
            ),
        ),
    ),
)

TAGS = (
    LOAD,
    Group(
        "2 · Tagger 标签模型",
        GREEN,
        (
            Node(
                "captioner",
                "KontextTagCaptioner",
                {"model": "wd-eva02-large-tagger-v3", "character_threshold": 0.9},
            ),
            Node(
                "captions",
                "KontextCaptionPairs",
                {"trigger": "oldprint", "existing": "replace"},
                {"pairs": "pairs.pairs", "captioner": "captioner.captioner"},
                (460, 760),
            ),
        ),
    ),
    Group(
        "3 · Edit 编辑",
        AMBER,
        (
            Node(
                "edit",
                "KontextEditCaptions",
                {"remove_tags": "no humans", "deduplicate": True, "keep_first": 1},
                {"pairs": "captions.pairs"},
                (420, 780),
            ),
            Node("changes", "PreviewAny", {}, {"source": "edit.before and after"}, (420, 320)),
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "**Delete a tag** and what it names binds to the LoRA: it comes "
                    "always. **Keep a tag** and it stays promptable. List what shall always come "
                    "under remove_tags.\n\n**删除标签**：该特征会绑定到 LoRA，每次都会出现。"
                    "**保留标签**：仍可用提示词控制。把要绑定的标签写进 remove_tags。"
                },
                {},
                (420, 200),
            ),
        ),
    ),
    Group(
        "4 · Check 检查",
        PURPLE,
        (
            Node(
                "statistics",
                "KontextCaptionStats",
                {"trigger": "oldprint"},
                {"pairs": "edit.pairs"},
                (460, 620),
            ),
        ),
    ),
)

CAPTION_GRAPHS = {"caption_pairs": PAIRS, "caption_tags": TAGS}
