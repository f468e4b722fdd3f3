"""The shipped graphs that help to choose a checkpoint, all pictures, or scores."""

from __future__ import annotations

from graphs.shipped import (
    AMBER,
    BLUE,
    OWN_LOADERS,
    OWN_LOADERS_ZH,
    OWN_PAIRS,
    OWN_PAIRS_ZH,
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
        f"""
Compare checkpoints in four steps
*Open Training Run*: the *name* of a run you have trained. {OWN_LOADERS}.
*Load Paired Dataset*: a folder of test pictures in *control_folder*, true results in \
*target_folder* if you have them; *holdout* 0 shows them all. Disconnect it to see the run's own \
held-out pairs.
**Run.** *Compare Checkpoints* shows every checkpoint at these *strengths*, from the same seed.
**Look down a column:** one LoRA on every picture. **Along a row:** too little at the left, too \
much at the right. *Open viewer* compares two at full size, and lets you vote blind.
""",
        f"""
四步对比检查点
*打开训练记录*：填写一次训练的*名称*。{OWN_LOADERS_ZH}。
*加载图片对*：*修改前文件夹（control）*填测试图；如果有正确结果，填在*修改后文件夹（target）*；\
*验证（holdout）*填 0 会全部显示。断开它，就用训练时留出的验证图片对。
**运行。** *对比检查点*会用这些*强度*展示每个检查点，都用同一个种子。
**竖着看：** 同一个 LoRA 在不同图片上的效果。**横着看：** 左边不足，右边过头。\
*打开对比查看器*可以放大对比两张，并盲选投票。
""",
        (330, 540),
    ),
    Group(
        "1 · Run",
        "1 · 训练",
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
        "2 · Compare",
        "2 · 对比",
        AMBER,
        (
            Node(
                "compare",
                "KontextCompareCheckpoints",
                {"strengths": "0.6, 0.8, 1.0"},
                {**MODEL, "run": "run.run", "pairs": "pairs.pairs"},
                (380, 400),
            ),
        ),
    ),
    Group(
        "3 · Grid",
        "3 · 对比图",
        PURPLE,
        (Node("grid", "PreviewImage", {}, {"images": "compare.grid"}, (640, 720)),),
    ),
)

CHOOSE = (
    start(
        f"""
Which checkpoint to keep, in four steps
*Open Training Run*: the *name* of a run you have trained. Its own held-out pairs are used: \
pictures it has never seen. {OWN_LOADERS}.
**Run.** *Score Checkpoints* measures all of them and looks at the best few.
Read the verdicts: under-fitted, good, over-fitted, and why.
*Keep This Checkpoint* copies the recommended LoRA into ComfyUI's list, under the run's name or \
the *name* you give it.
""",
        f"""
四步选出要保留的检查点
*打开训练记录*：填写一次训练的*名称*。用的是训练时留出的验证图片对：训练中从没见过的图片。\
{OWN_LOADERS_ZH}。
**运行。** *检查点评分*会评估全部检查点，并细看最好的几个。
看结论：欠拟合、拟合良好还是过拟合，以及原因。
*保留检查点*把推荐的 LoRA 复制到 ComfyUI 的列表里，用训练的名称，或你填的*名称*。
""",
        (310, 500),
    ),
    Group(
        "1 · Run",
        "1 · 训练",
        BLUE,
        (
            Node("model", "KontextDemoModel"),
            Node("run", "KontextOpenRun", {"name": RUN}),
        ),
    ),
    Group(
        "2 · Score",
        "2 · 评分",
        AMBER,
        (
            Node(
                "score",
                "KontextScoreCheckpoints",
                {},
                {**MODEL, "run": "run.run"},
                (370, 350),
            ),
        ),
    ),
    Group(
        "3 · Verdict",
        "3 · 结论",
        PURPLE,
        (
            Node("verdicts", "PreviewAny", {}, {"source": "score.verdicts"}, (340, 240)),
            Node("chart", "PreviewImage", {}, {"images": "score.chart"}, (340, 300)),
        ),
    ),
    Group(
        "4 · Keep",
        "4 · 保留",
        AMBER,
        (
            Node(
                "keep",
                "KontextPickCheckpoint",
                {},
                {"run": "run.run", "choice": "score.best"},
                (300, 200),
                room=100,
            ),
            Node("kept", "PreviewAny", {}, {"source": "keep.path"}, (300, 80)),
        ),
    ),
)

KEEP = (
    start(
        f"""
Pairs in, one LoRA out, in six steps
{OWN_PAIRS} At least 4 pairs must be held out (*holdout*), better 8.
*Caption Pairs*: write one *instruction* for all pairs.
*Training Preset*: choose your kind of edit in *preset*; *resolution* 0. *Show advanced inputs* \
opens *more*: `stop: levelled_off` ends the training when the held-out pairs hardly improve any \
more; `choose: mark` then scores the checkpoints and marks the best.
*Train Kontext LoRA*: give it a *name*; *steps* 0. *keep* 0 keeps all checkpoints to choose from.
{OWN_LOADERS}.
**Run.** *Keep This Checkpoint* puts the marked one into ComfyUI's list of LoRAs.
""",
        f"""
六步：图片对进，LoRA 出
{OWN_PAIRS_ZH}至少留出 4 对图片用于*验证（holdout）*，最好 8 对。
*图片对打标*：为所有图片写一句*总指令*。
*训练预设*：在*预设*中选择修改的种类；*分辨率*填 0。*显示高级输入*里有*其他设置*：\
`stop: levelled_off` 在验证图片对几乎不再进步时结束训练；`choose: mark` 随后给检查点评分，\
标出最好的一个。
*训练 Kontext LoRA*：起一个*名称*；*步数*填 0。*保留个数*填 0 会保留全部检查点，供最后选择。
{OWN_LOADERS_ZH}。
**运行。** *保留检查点*把标出的那一个放进 ComfyUI 的 LoRA 列表。
""",
        (310, 680),
        tall=True,
    ),
    *TRAIN[1:3],
    Group(
        "3 · Settings",
        "3 · 设置",
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
        "5 · Train",
        "5 · 训练",
        AMBER,
        (
            Node(
                "train",
                "KontextTrainLora",
                {"name": f"{RUN}_auto", "steps": 600, "keep": 0},
                {**MODEL, "pairs": "captions.pairs", "settings": "preset.settings"},
                (340, 340),
            ),
        ),
        row=1,
    ),
    Group(
        "6 · Keep",
        "6 · 保留",
        PURPLE,
        (
            Node(
                "keep",
                "KontextPickCheckpoint",
                {},
                {"run": "train.run"},
                (340, 250),
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
