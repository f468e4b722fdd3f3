"""The shipped graphs that help to choose a checkpoint, all pictures, or scores."""

from __future__ import annotations

from graphs.shipped import (
    AMBER,
    BLUE,
    INSTRUCTION,
    PURPLE,
    RUN,
    SETTINGS,
    TRAIN,
    Group,
    Node,
    start,
)

MODEL = {"model": "model.MODEL", "clip": "model.CLIP", "vae": "model.VAE"}

COMPARE = (
    start(
        """
Compare checkpoints in four steps
*Open Training Run*: the name of a run you have trained.
*Load Paired Dataset*: a folder of test pictures. Disconnect it to see the run's own held-out pairs.
**Run.** *Compare Checkpoints* shows every checkpoint at every strength, from the same seed.
**Look down a column:** one LoRA on every picture. **Along a row:** too little at the left, too \
much at the right. *Open viewer* compares two at full size, and lets you vote blind.
""",
        """
四步对比检查点
*打开训练记录*：填写一次训练的名称。
*加载图片对*：一个测试图文件夹。断开它，就用训练时留出的验证图片对。
**运行。** *对比检查点*会展示每个检查点、每个强度，都用同一个种子。
**竖着看：** 同一个 LoRA 在不同图片上的效果。**横着看：** 左边不足，右边过头。\
*打开对比查看器*可以放大对比两张，并盲选投票。
""",
        (340, 430),
    ),
    Group(
        "1 · Run and pictures 训练与测试图",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node("run", "KontextOpenRun", {"name": RUN}),
            Node(
                "pairs",
                "KontextLoadPairs",
                {"control_folder": "sample_pairs/test", "target_folder": "", "holdout": 0},
            ),
        ),
    ),
    Group(
        "2 · Compare 对比",
        AMBER,
        (
            Node(
                "compare",
                "KontextCompareCheckpoints",
                {"prompt": INSTRUCTION, "strengths": "0.6, 0.8, 1.0"},
                {**MODEL, "run": "run.run", "pairs": "pairs.pairs"},
                (380, 400),
            ),
        ),
    ),
    Group(
        "3 · Grid 对比图",
        PURPLE,
        (Node("grid", "PreviewImage", {}, {"images": "compare.grid"}, (690, 720)),),
    ),
)

CHOOSE = (
    start(
        """
Which checkpoint to keep, in four steps
*Open Training Run*: the name of a run you have trained. Its own held-out pairs are used: pictures \
it has never seen.
**Run.** *Score Checkpoints* measures all of them and looks at the best few.
Read the verdicts: under-fitted, good, over-fitted, and why.
*Keep This Checkpoint* copies the recommended LoRA into ComfyUI's list. Give it a name first.
""",
        """
四步选出要保留的检查点
*打开训练记录*：填写一次训练的名称。用的是训练时留出的验证图片对：训练中从没见过的图片。
**运行。** *检查点评分*会评估全部检查点，并细看最好的几个。
看结论：欠拟合、拟合良好还是过拟合，以及原因。
*保留检查点*把推荐的 LoRA 复制到 ComfyUI 的列表里。先给它起个名字。
""",
        (340, 400),
    ),
    Group(
        "1 · Run 训练",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node("run", "KontextOpenRun", {"name": RUN}),
        ),
    ),
    Group(
        "2 · Score and keep 评分并保留",
        AMBER,
        (
            Node(
                "score",
                "KontextScoreCheckpoints",
                {},
                {**MODEL, "run": "run.run"},
                (370, 350),
                room=60,
            ),
            Node(
                "keep",
                "KontextPickCheckpoint",
                {"name": f"{RUN}_best", "instruction": INSTRUCTION},
                {"run": "run.run", "choice": "score.best"},
                (370, 200),
            ),
        ),
    ),
    Group(
        "3 · Verdict 结论",
        PURPLE,
        (
            Node("chart", "PreviewImage", {}, {"images": "score.chart"}, (640, 400)),
            Node("verdicts", "PreviewAny", {}, {"source": "score.verdicts"}, (640, 240)),
            Node("kept", "PreviewAny", {}, {"source": "keep.path"}, (640, 80)),
        ),
    ),
)

KEEP = (
    start(
        """
Pairs in, one LoRA out, in four steps
*Load Paired Dataset*: name your two folders. At least 4 pairs must be held out, better 8.
*Training Preset*, under *more*: *stop: levelled_off* ends the training when the held-out pairs \
gain hardly anything more (*steps* is the most); *choose: mark* then scores the checkpoints, and \
marks the one to keep.
*Train Kontext LoRA*: give it a name.
**Run.** *Keep This Checkpoint* puts the marked one into ComfyUI's list of LoRAs.
""",
        """
四步：图片对进，LoRA 出
*加载图片对*：填写两个文件夹。至少留出 4 对验证图片，最好 8 对。
*训练预设*的*更多设置*：*stop: levelled_off* 在验证图片对几乎不再进步时结束训练（步数是上限）；\
*choose: mark* 随后给检查点评分，并标出该保留的那一个。
*训练 Kontext LoRA*：起一个名称。
**运行。** *保留检查点*把标出的那一个放进 ComfyUI 的 LoRA 列表。
""",
        (310, 560),
        tall=True,
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
                (365, 360),
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
                (365, 250),
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
