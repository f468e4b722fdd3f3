"""The shipped graphs that caption pairs, by descriptions and by tags."""

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


def load(beside: bool) -> Group:
    """The pairs and their contact sheet, in one column or in two."""
    folders = {"control_folder": "sample_pairs/before", "target_folder": "sample_pairs/after"}
    sheet = {"images": "pairs.contact sheet"}
    return Group(
        "1 · Load",
        "1 · 加载",
        BLUE,
        (
            Node("pairs", "KontextLoadPairs", folders, size=(380, 175), room=70),
            Node("sheet", "PreviewImage", {}, sheet, (300, 310), beside=beside, down=60 * beside),
        ),
    )


PAIRS = (
    start(
        f"""
Captions in four steps
{OWN_PAIRS}
*Captioner: Florence-2*: choose your *model*, or connect another captioner: BLIP, JoyCaption, \
WD14 tags, or a model that ComfyUI loads itself (Qwen3-VL, Gemma).
*Caption Pairs*: write one *instruction* for all pairs; *limit* keeps descriptions short. **Run**, \
and read the preview.
Switch *save_txt* on: the captions lie beside your targets. Correct them there, and run again: \
with *existing* keep, your text stays.
""",
        f"""
四步打标
{OWN_PAIRS_ZH}
*打标：Florence-2*：选择*模型*，也可以换成其他打标节点：BLIP、JoyCaption、WD14 标签，\
或 ComfyUI 自己加载的模型（Qwen3-VL、Gemma）。
*图片对打标*：为所有图片写一句*总指令*；*描述长度上限*让描述保持简短。**运行**，看预览。
打开*保存 .txt*：打标文本会写到修改后图片旁边。在那里修改，再运行一次：\
*已有的打标文本*选“保留”，你写的会保留。
""",
        (310, 560),
        tall=True,
    ),
    load(beside=True),
    Group(
        "2 · Captioner",
        "2 · 打标模型",
        GREEN,
        (
            Node(
                "captioner",
                "KontextFlorenceCaptioner",
                {"model": "LLM/Florence-2-large (Florence-2)", "task": "caption"},
            ),
        ),
    ),
    Group(
        "3 · Caption",
        "3 · 打标",
        AMBER,
        (
            Node(
                "captions",
                "KontextCaptionPairs",
                {"instruction": INSTRUCTION, "limit": 30},
                {"pairs": "pairs.pairs", "captioner": "captioner.captioner"},
                (400, 300),
            ),
            Node(
                "preview",
                "PreviewAny",
                {},
                {"source": "captions.preview"},
                (460, 320),
                beside=True,
            ),
        ),
        row=1,
    ),
    Group(
        "4 · Check",
        "4 · 检查",
        PURPLE,
        (
            Node(
                "statistics",
                "KontextCaptionStats",
                {"count": "words"},
                {"pairs": "captions.pairs"},
                (420, 300),
            ),
        ),
        row=1,
    ),
)

TAGS = (
    start(
        f"""
Tags in four steps
{OWN_PAIRS}
*Captioner: WD14 Tags*: choose your *model*. *Caption Pairs*: a rare word as *trigger*, here and \
in *Caption Statistics*; *existing* replace writes all captions anew.
*Edit Captions*: **delete a tag** and what it names comes always; **keep a tag** and a prompt \
decides. List under *remove_tags* what shall always come. *deduplicate* takes doubles out, \
*keep_first* 1 protects the trigger.
**Run**, read *before and after* and the statistics, and correct the list.
""",
        f"""
四步打标签
{OWN_PAIRS_ZH}
*打标：WD14 标签*：选择*模型*。*图片对打标*：用一个少见的词作为*触发词*，*打标文本统计*里也填上；\
*已有的打标文本*选“替换”会全部重写。
*批量修改打标文本*：**删除标签**，该特征会随 LoRA 每次出现；**保留标签**，由提示词决定。\
把每次都要出现的写进*删除标签*。*去重*删掉重复的，*保护前几个*填 1 保护触发词。
**运行**，看修改前后和统计，再调整列表。
""",
        (290, 560),
    ),
    load(beside=False),
    Group(
        "2 · Tagger",
        "2 · 标签模型",
        GREEN,
        (
            Node(
                "captioner",
                "KontextTagCaptioner",
                {"model": "wd-eva02-large-tagger-v3"},
            ),
            Node(
                "captions",
                "KontextCaptionPairs",
                {"trigger": "oldprint", "existing": "replace"},
                {"pairs": "pairs.pairs", "captioner": "captioner.captioner"},
                (330, 240),
            ),
        ),
    ),
    Group(
        "3 · Edit",
        "3 · 编辑",
        AMBER,
        (
            Node(
                "edit",
                "KontextEditCaptions",
                {"remove_tags": "no humans", "deduplicate": True, "keep_first": 1},
                {"pairs": "captions.pairs"},
                (330, 330),
            ),
        ),
    ),
    Group(
        "4 · Check",
        "4 · 检查",
        PURPLE,
        (
            Node("changes", "PreviewAny", {}, {"source": "edit.before and after"}, (330, 330)),
            Node(
                "statistics",
                "KontextCaptionStats",
                {"trigger": "oldprint"},
                {"pairs": "edit.pairs"},
                (330, 330),
            ),
        ),
    ),
)

CAPTION_GRAPHS = {"caption_pairs": PAIRS, "caption_tags": TAGS}
