"""The shipped graphs that help to choose a checkpoint, as `draw_graphs.py` builds them."""

from __future__ import annotations

from graphs.shipped import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    INSTRUCTION,
    PURPLE,
    RUN,
    SETTINGS,
    TRAIN,
    Group,
    Node,
)

MODEL = {"model": "model.MODEL", "clip": "model.CLIP", "vae": "model.VAE"}

COMPARE = (
    Group(
        "1 · Model and run 模型与训练",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node("run", "KontextOpenRun", {"name": RUN}),
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "Choose a run you have trained. Every checkpoint is shown at every "
                    "strength, from the same seed. **Look down a column:** the same LoRA on every "
                    "picture. **Look along a row:** too little on the left, too much on the right."
                    "\n\n选择一次训练。每个检查点、每个强度都用同一个种子出图。"
                    "**竖着看：** 同一个 LoRA 在不同图片上的效果。"
                    "**横着看：** 左边不足，右边过头。"
                },
                {},
                (400, 260),
            ),
        ),
    ),
    Group(
        "2 · Test pictures 测试图",
        GREEN,
        (
            Node(
                "pairs",
                "KontextLoadPairs",
                {"control_folder": "sample_pairs/test", "target_folder": "", "holdout": 0},
            ),
        ),
    ),
    Group(
        "3 · Compare 对比",
        AMBER,
        (
            Node(
                "compare",
                "KontextCompareCheckpoints",
                {"prompt": INSTRUCTION, "strengths": "0.6, 0.8, 1.0"},
                {**MODEL, "run": "run.run", "pairs": "pairs.pairs"},
                (360, 660),
            ),
        ),
    ),
    Group(
        "4 · Grid 对比图",
        PURPLE,
        (Node("grid", "PreviewImage", {}, {"images": "compare.grid"}, (1500, 900)),),
    ),
)

CHOOSE = (
    Group(
        "1 · Model and run 模型与训练",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node("run", "KontextOpenRun", {"name": RUN}),
            Node(
                "note",
                "MarkdownNote",
                {
                    "text": "Load the pairs **exactly as for the training**, with the same "
                    "`holdout`: the checkpoints are measured on pairs they have never seen.\n\n"
                    "数据集和 `holdout` 要与训练时**完全相同**：用训练中没见过的图像对来评估。"
                },
                {},
                (400, 180),
            ),
        ),
    ),
    Group(
        "2 · The training's pairs 训练数据",
        GREEN,
        (
            Node(
                "pairs",
                "KontextLoadPairs",
                {
                    "control_folder": "sample_pairs/before",
                    "target_folder": "sample_pairs/after",
                    "holdout": 4,
                },
            ),
            Node(
                "captions",
                "KontextCaptionPairs",
                {"instruction": INSTRUCTION},
                {"pairs": "pairs.pairs"},
            ),
        ),
    ),
    Group(
        "3 · Score and keep 评估并保存",
        AMBER,
        (
            Node(
                "score",
                "KontextScoreCheckpoints",
                {},
                {**MODEL, "run": "run.run", "pairs": "captions.pairs"},
                (360, 660),
            ),
            Node(
                "keep",
                "KontextPickCheckpoint",
                {"name": f"{RUN}_best", "instruction": INSTRUCTION},
                {"run": "run.run", "choice": "score.best"},
                (360, 260),
            ),
        ),
    ),
    Group(
        "4 · Verdict 结论",
        PURPLE,
        (
            Node("chart", "PreviewImage", {}, {"images": "score.chart"}, (900, 560)),
            Node("verdicts", "PreviewAny", {}, {"source": "score.verdicts"}, (900, 260)),
            Node("kept", "PreviewAny", {}, {"source": "keep.path"}, (900, 100)),
        ),
    ),
)

AUTOMATIC = """\
# Pairs in, one LoRA out

Two lines of *more* on *Training Preset* do it:

* `stop: levelled_off`: training ends when the held-out pairs gain hardly anything more; \
`steps` is the most.
* `choose: mark`: it then scores its checkpoints, and marks the one to keep.

*Keep This Checkpoint* puts that one into `models/loras`. At least 4 pairs must be held out, \
better 8.

# 图片对进，LoRA 出

*训练预设* 的 *更多设置* 里有两行：

* `stop: levelled_off`：验证图片对几乎不再进步时结束训练；步数是上限。
* `choose: mark`：随后给检查点评分，并标出该保留的那一个。

*保留检查点* 把它放进 `models/loras`。至少留出 4 对验证图片，最好 8 对。
"""

KEEP = (
    Group(
        "Start here 从这里开始",
        GREY,
        (Node("note", "MarkdownNote", {"text": AUTOMATIC}, {}, (400, 365)),),
    ),
    *TRAIN[1:3],
    Group(
        "3 · Settings 设置",
        AMBER,
        (
            Node(
                "preset",
                "KontextTrainingPreset",
                {**SETTINGS, "more": "stop: levelled_off\nchoose: mark"},
                {"pairs": "captions.pairs"},
            ),
        ),
    ),
    TRAIN[4],
    Group(
        "5 · Train 训练",
        AMBER,
        (
            Node(
                "train",
                "KontextTrainLora",
                {"name": f"{RUN}_auto", "steps": 600, "save_every": 50, "keep": 0},
                {**MODEL, "pairs": "captions.pairs", "settings": "preset.settings"},
                (400, 395),
            ),
        ),
        row=1,
    ),
    Group(
        "6 · Keep 保留",
        PURPLE,
        (
            Node(
                "keep",
                "KontextPickCheckpoint",
                {"choice": "best", "name": f"{RUN}_kept"},
                {"run": "train.run"},
                (400, 395),
            ),
        ),
        row=1,
    ),
)

CHOOSING_GRAPHS = {
    "train_and_keep": KEEP,
    "compare_checkpoints": COMPARE,
    "choose_checkpoint": CHOOSE,
}
