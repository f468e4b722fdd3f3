"""Every setting of a training run, defined once.

To add a setting, add one field here, its Chinese in `locales/zh/nodeDefs.json` if it is on a node,
and run `scripts/settings_tables.py` for the docs. Topics appear in the order of the fields: `basic`
is always visible on the settings node, the rest unfolds, and `run` is on the train node itself.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..dataset.split import FEWEST_FOR_VERDICT
from ..language import say
from ..patterns import PatternError, compiled
from .setting import ConfigError, Setting, choice, parts_of, setting, settings_of
from .setting_words import value_and_id
from .statistics import FEWEST_PAIRS

GB = 10**9  # as on the box of a graphics card
STEPS_PER_PAIR = 100
MEASUREMENTS = 20  # of the held-out pairs over a run that may end early
FEWEST_STEPS = 1500
HIGHEST_LOHA_RANK = 32

TIMESTEPS = {
    "balanced": "logit-normal, shifted by the picture's size as the model's own sampler is.",
    "structure": "logit-normal, shifted by 3, for composition, shape, light. More high noise.",
    "detail": "uniform, for texture and fine flaws. As much low noise as high.",
    "logit_normal": "with sigma_mean, sigma_spread and sigma_shift.",
    "uniform": "with sigma_shift.",
}
OPTIMIZERS = {
    "adamw": "torch's AdamW, the safe choice.",
    "adamw8bit": "AdamW with its state in 8 bits. A quarter of the memory, the same result.",
    "prodigy": "finds the learning rate itself; set it to 1.",
    "adafactor": "hardly any state, for very large ranks.",
    "lion": "sign of the momentum; a third to a tenth of AdamW's learning rate.",
    "came": "Adafactor's memory, AdamW's stability.",
    "schedulefree": "AdamW that needs no schedule; use constant.",
    "prodigyplus": "Prodigy without a schedule; learning rate 1, constant.",
}
ADAPTERS = {
    "lora": "two thin matrices. The fastest, and every program reads it.",
    "dora": "a LoRA with direction and strength learnt apart. Closer to full training, slower.",
    "lokr": "a Kronecker product. Files are many times smaller.",
    "loha": "a product of two LoRAs, whose rank counts squared, up to 32.",
}
SCHEDULES = {
    "cosine": "half a wave, to 0.",
    "constant": "not at all.",
    "linear": "a straight line, to 0.",
    "cosine_restarts": "several waves, see restarts.",
    "polynomial": "a parabola, to 0.",
}
STOPS = {
    "auto": "with automatic steps as levelled_off, else as last_step.",
    "last_step": "at the last step.",
    "levelled_off": "when the held-out pairs hardly gain any more.",
    "past_best": "when the held-out loss has clearly risen from its lowest.",
}
CHOOSING = {
    "off": "no; Score Checkpoints can do it later.",
    "mark": "marked on the run's page, and never deleted.",
    "name": "marked, and saved once more as <run>_best.",
}
LOSSES = {"mse": "mean squared error.", "huber": "forgives pixels that cannot be learnt."}
DTYPES = {"auto": "what ComfyUI samples in.", "bf16": "", "fp16": "", "fp32": ""}
SAVE_DTYPES = {"bf16": "half as large as fp32.", "fp16": "", "fp32": ""}
ASPECTS = {
    "bucket": "each pair keeps its own shape.",
    "square": "the central square of every picture.",
}
CHECKPOINTING = {"auto": "only where they don't fit.", "on": "always.", "off": "never."}
MATMULS = {"exact": "", "int8": "RTX 30 and newer.", "fp8": "RTX 40, H100.", "mxfp8": "RTX 50."}
COMPILING = {
    "off": "",
    "blocks": "torch compiles the blocks at the start, which takes minutes, compares them with the "
    "uncompiled ones, and says after how many steps that pays off.",
}
# Instructions unrelated to most edits, for `preserve`
OFF_TASK = """\
Keep the picture exactly as it is.
Make the sky darker.
Put a red ball into the picture.
Replace the background with a plain wall.
Add snow to the scene."""


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run. Raises ConfigError for a value that a setting cannot have."""

    # ---- on the train node
    steps: int = setting(
        0, 0, 1_000_000, topic="run", zero="automatic", change="unfinished",
        help="Training steps. Automatic: 100 per pair, at least 1,500 on the full model; with 3 or "
        "more held-out pairs, training ends as soon as they gain no more.",
    )  # fmt: skip
    rank: int = setting(
        16, 1, 256, topic="run",
        help="Size of the LoRA: 8 for styles, 16 to 64 for fine retouching.",
    )  # fmt: skip
    learning_rate: float = setting(
        1e-4, 0, 1, step=1e-6, topic="run", change="unfinished",
        help="1e-4 suits most edits. Halve it when the loss oscillates.",
    )  # fmt: skip
    save_every: int = setting(
        250, 1, 1_000_000, topic="run", change="always", help="Steps between two checkpoints."
    )
    keep: int = setting(
        4, 0, 10_000, topic="run", zero="all", change="always",
        help="Number of latest checkpoints to keep. The best on held-out pairs and those that you "
        "pinned or kept are never deleted.",
    )  # fmt: skip
    seed: int = setting(
        0, -(2**63), 2**64 - 1, topic="run",
        help="Same seed, same pairs, same machine: the same LoRA; on a GPU up to rounding.",
    )  # fmt: skip

    # ---- shown at once
    resolution: int | str = setting(
        512, 64, 2048, several=True, topic="basic",
        help="Largest area of a target, as the side of a square: 512, 768 or 1024. Pictures keep "
        "their shape and are never enlarged. Several, as in 512, 768: every pair is seen at each, "
        "so that the edit works at all sizes.",
    )  # fmt: skip
    reference_resolution: int = setting(
        0, 0, 2048, step=16, topic="basic", zero="as the target",
        help="The same for the control picture. At 1024, half of it makes a step almost twice as "
        "fast.",
    )  # fmt: skip
    batch_size: int = setting(
        1, 1, 64, topic="basic", help="Pairs per step. 1 is right for most; more needs more memory."
    )
    timesteps: str = choice(TIMESTEPS, topic="basic", help="How noisy the training pictures are.")
    optimizer: str = choice(
        OPTIMIZERS, topic="basic", help="The method that turns gradients into steps."
    )
    edit_weight: float = setting(
        0.0, 0, 100, step=0.5, topic="basic", zero="the same everywhere",
        help="How much more the loss counts where target and control differ: 2 to 5 for edits of "
        "small areas.",
    )  # fmt: skip
    flip: bool = setting(
        False, topic="basic",
        help="Also train on mirror images of the pairs. Not for text, nor where left and right "
        "matter.",
    )  # fmt: skip
    preserve: float = setting(
        0.0, 0, 100, step=0.1, topic="basic", zero="not at all",
        help="How firmly the model keeps its answers to other instructions, so that the LoRA does "
        "not leak into unrelated prompts: 1 is firm. A third slower.",
    )  # fmt: skip

    stop: str = choice(
        STOPS, topic="basic", change="always",
        help="When training ends. Before an early end, the learning rate falls to 0 over the last "
        "tenth. Needs 3 held-out pairs, better 8, which are measured 20 times in all the steps.",
    )  # fmt: skip

    choose: str = choice(
        CHOOSING, topic="basic", change="always",
        help="Whether training ends with the verdict of Score Checkpoints: which of the saved "
        "LoRAs to keep. Needs 4 held-out pairs, better 8, and takes a few minutes.",
    )  # fmt: skip

    # ---- the LoRA itself
    adapter: str = choice(ADAPTERS, topic="lora", help="Kind of LoRA trained on each layer.")
    alpha: float = setting(
        0.0, 0, 16_384, step=0.5, topic="lora", zero="equal to the rank",
        help="Strength of the LoRA relative to its rank. For a rank-stabilised LoRA multiply it by "
        "the root of the rank: 64 for rank 16.",
    )  # fmt: skip
    targets: str = setting(
        "blocks", topic="lora",
        help="Layers to train. blocks: attention and MLP of every block. attention: without the "
        "MLPs. all: with the modulation too. Or a regular expression of layer names.",
    )  # fmt: skip
    dropout: float = setting(
        0.0, 0, 0.9, step=0.01, topic="lora", zero="none",
        help="Share of each layer's inputs that the LoRA does not see in a training step: 0.05 to "
        "0.1 against memorising few pairs.",
    )  # fmt: skip
    ema: float = setting(
        0.0, 0, 0.99999, step=0.001, topic="lora", zero="off",
        help="Save a moving average of the weights with this decay: 0.99 smooths a run that "
        "oscillates.",
    )  # fmt: skip
    lora_plus: float = setting(
        1.0, 1, 64, topic="lora", on_node=False,
        help="How many times faster the second matrix learns (LoRA+).",
    )  # fmt: skip
    lokr_factor: int = setting(
        8, 0, 256, topic="lora", on_node=False, zero="the smallest",
        help="Size of LoKr's small matrix. 4: large files that learn more; 16: small ones.",
    )  # fmt: skip

    # ---- how it learns
    schedule: str = choice(
        SCHEDULES, topic="learning", change="unfinished",
        help="How the learning rate falls after the warm-up.",
    )  # fmt: skip
    warmup_steps: int = setting(
        50, 0, 1_000_000, topic="learning",
        help="Steps over which the learning rate rises; at most a tenth of all.",
    )  # fmt: skip
    accumulate: int = setting(
        1, 1, 256, topic="learning", help="Batches whose gradients are added up for one step."
    )
    loss: str = choice(LOSSES, topic="learning", help="Measure of the prediction's error.")
    huber_delta: float = setting(
        0.1, 0.001, 10, step=0.01, topic="learning", on_node=False,
        help="Errors larger than this count less with huber.",
    )  # fmt: skip
    restarts: int = setting(
        3, 1, 100, topic="learning", on_node=False, help="Waves of the schedule cosine_restarts."
    )
    weight_decay: float = setting(
        0.01, 0, 1, step=0.001, topic="learning", on_node=False,
        help="AdamW's pull of the LoRA towards zero.",
    )  # fmt: skip
    max_grad_norm: float = setting(
        1.0, 0, 1000, step=0.1, topic="learning", on_node=False, zero="never",
        help="Gradients of a larger norm are clipped to this norm.",
    )  # fmt: skip
    beta1: float = setting(
        0.9, 0, 0.9999, step=0.01, topic="learning", on_node=False,
        help="Momentum of the optimiser.",
    )  # fmt: skip
    beta2: float = setting(
        0.999, 0, 0.99999, step=0.001, topic="learning", on_node=False,
        help="Memory of the optimiser for the size of gradients.",
    )  # fmt: skip

    # ---- what it sees
    caption_dropout: float = setting(
        0.05, 0, 1, step=0.01, topic="data",
        help="Share of steps without a caption, so that the edit also works without one.",
    )  # fmt: skip
    outside_mask: float = setting(
        0.1, 0, 1, step=0.05, topic="data",
        help="Weight of the black part of a pair's mask; white counts in full. 1 = masks are not "
        "used. A mask lies beside its target, 001_mask.png, or in a folder named masks.",
    )  # fmt: skip
    preserve_prompts: str = setting(
        OFF_TASK, topic="data", lines=True,
        help="Instructions that preserve keeps, one a line. Remove any that is close to your own. "
        "Without caption dropout, an empty prompt is kept too.",
    )  # fmt: skip
    preserve_every: int = setting(
        4, 1, 1000, topic="data", on_node=False,
        help="Steps between two pulls of preserve. More is faster and weaker.",
    )  # fmt: skip
    reference_dropout: float = setting(
        0.0, 0, 1, step=0.01, topic="data", on_node=False,
        help="Share of steps without a control picture.",
    )  # fmt: skip
    aspect: str = choice(ASPECTS, topic="data", on_node=False, help="Shape of the pictures.")
    guidance: float = setting(
        1.0, 0, 100, step=0.1, topic="data", on_node=False,
        help="Guidance value given to the model in training.",
    )  # fmt: skip
    sigma_mean: float = setting(
        0.0, -3, 3, step=0.1, topic="data", on_node=False,
        help="Mean of logit_normal timesteps; higher is noisier.",
    )  # fmt: skip
    sigma_spread: float = setting(
        1.0, 0.1, 3, step=0.1, topic="data", on_node=False,
        help="Standard deviation of logit_normal timesteps.",
    )  # fmt: skip
    sigma_shift: float = setting(
        0.0, 0, 20, step=0.1, topic="data", on_node=False, zero="by the picture's size",
        help="Shift of logit_normal and uniform timesteps towards noise; 1 = none.",
    )  # fmt: skip

    # ---- memory and speed
    dtype: str = choice(
        DTYPES, topic="memory",
        help="Precision of the computation. The LoRA itself is always trained in fp32.",
    )  # fmt: skip
    checkpointing: str = choice(
        CHECKPOINTING, topic="memory", change="always",
        help="Compute activations twice instead of keeping them: a third slower, much less memory.",
    )  # fmt: skip
    max_vram: float = setting(
        0.0, 0, 1024, step=0.5, topic="memory", zero="what is free", change="always",
        help="GB of the card that training may use. Less is slower: more is computed twice, then "
        "weights are streamed.",
    )  # fmt: skip
    matmul: str = choice(
        MATMULS, topic="memory",
        help="How the frozen layers multiply. All but exact round activations and weights to 8 "
        "bits where the first step shows that it makes little difference: faster, not exact.",
    )  # fmt: skip
    compile: str = choice(
        COMPILING, topic="memory",
        help="Compiled blocks take less time. Needs Triton (Windows: triton-windows); without it, "
        "nothing is compiled.",
    )  # fmt: skip

    # ---- extra records
    tensorboard: bool = setting(
        False, topic="record", change="always",
        help="Also log for TensorBoard, into the run's folder tensorboard.",
    )  # fmt: skip
    validate_every: int = setting(
        0, 0, 1_000_000, topic="record", on_node=False, zero="at checkpoints only", change="always",
        help="Steps between two measurements of the held-out pairs, besides those at checkpoints.",
    )  # fmt: skip
    preview_steps: int = setting(
        20, 0, 100, topic="record", on_node=False, zero="no preview", change="always",
        help="Sampling steps of the preview made at every checkpoint, if no samples are specified.",
    )  # fmt: skip
    save_dtype: str = choice(
        SAVE_DTYPES, topic="record", on_node=False, help="Precision of the saved LoRA."
    )

    def __post_init__(self) -> None:
        for name, of in SETTINGS.items():
            object.__setattr__(self, name, of.read(getattr(self, name)))
        try:
            compiled(self.targets)
        except PatternError as error:
            raise ConfigError(
                say(
                    "targets is {value}, which is not a regular expression: {error}.",
                    value=repr(self.targets), error=error,
                )
            ) from error  # fmt: skip
        if self.preserve and not self.preserved:
            raise ConfigError(
                say(
                    "preserve needs instructions to preserve: write one per line in "
                    "preserve_prompts."
                )
            )
        if self.adapter == "loha" and self.rank > HIGHEST_LOHA_RANK:
            raise ConfigError(
                say(
                    "rank is {rank}; a LoHa's is at most {highest}, because it counts squared: "
                    "{highest} is like a LoRA of rank {squared}.",
                    rank=self.rank, highest=HIGHEST_LOHA_RANK, squared=HIGHEST_LOHA_RANK**2,
                )
            )  # fmt: skip
        if self.lora_plus > 1 and self.optimizer in ("prodigy", "prodigyplus"):
            raise ConfigError(
                say("lora_plus needs an optimiser that uses the learning rate as it is given.")
            )
        if self.edit_weight and self.reference_resolution:
            raise ConfigError(
                say("edit_weight compares target and control: it needs reference_resolution 0.")
            )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Settings from a file or a text, including those of earlier versions.

        Raises ConfigError for an unknown name.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(
                say("config is {value}; it must hold name: value lines.", value=repr(values))
            )
        unknown = [str(name) for name in values if name not in KNOWN]
        if unknown:
            raise ConfigError(
                say(
                    "config: unknown {names}. Known: {known}.",
                    names=", ".join(unknown), known=", ".join(sorted(SETTINGS)),
                )
            )  # fmt: skip
        today = {name: value for name, value in values.items() if name in SETTINGS}
        if values.get("resolutions"):
            today["resolution"] = values["resolutions"]
        if values.get("pattern"):
            today["targets"] = values["pattern"]
        config = cls(**today)
        if STABILISED.read(values.get(STABILISED.name, False)):
            config = config.replace(alpha=(config.alpha or config.rank) * math.sqrt(config.rank))
        return config

    def replace(self, **changes: Any) -> TrainConfig:
        return dataclasses.replace(self, **changes)

    def settled(self, pairs: int, full_model: bool, held_out: int | None = None) -> TrainConfig:
        """These settings with every automatic value filled in: steps, alpha and `stop`.

        Steps are 100 per training pair, but at least 1,500 on a full-size model, which fewer steps
        barely move. With automatic steps, the run may end early if there are enough `held_out`
        pairs to decide that (None: number unknown). Raises ConfigError for a learning rate of 0,
        and for an early end or a verdict that too few held-out pairs would have to decide.
        """
        if not self.learning_rate:
            raise ConfigError(
                say(
                    "learning_rate is 0: the LoRA would learn nothing. 0.0001 suits most edits, 1 "
                    "the prodigy optimisers."
                )
            )
        stop, decidable = self.stop, held_out is None or held_out >= FEWEST_PAIRS
        if stop == "auto":
            stop = "last_step" if self.steps or not decidable else "levelled_off"
        elif stop != "last_step" and not decidable:
            raise ConfigError(
                say(
                    "stop is {stop}, which needs at least {least} held-out pairs, but there are "
                    "{count}. Raise `holdout`, or set stop to last_step.",
                    stop=value_and_id("stop", stop), least=FEWEST_PAIRS, count=held_out,
                )
            )  # fmt: skip
        if self.choose != "off" and held_out is not None and held_out < FEWEST_FOR_VERDICT:
            raise ConfigError(
                say(
                    "choose is {choose}: a verdict needs at least {least} held-out pairs, but "
                    "there are {count}. Raise `holdout`, or set choose to off.",
                    choose=value_and_id("choose", self.choose), least=FEWEST_FOR_VERDICT,
                    count=held_out,
                )
            )  # fmt: skip
        steps = self.steps or max(STEPS_PER_PAIR * pairs, FEWEST_STEPS if full_model else 0)
        return self.replace(steps=steps, stop=stop, alpha=self.alpha or float(self.rank))

    @property
    def measured_every(self) -> int:
        """Steps between two measurements of the held-out pairs, besides those at checkpoints.

        0 measures at checkpoints only.
        """
        often = max(1, self.steps // MEASUREMENTS) if self.stop != "last_step" else 0
        return self.validate_every or often

    @property
    def sides(self) -> tuple[int, ...]:
        """The resolutions trained at; held-out pairs and previews use the first."""
        return tuple(map(int, parts_of(self.resolution)))

    @property
    def preserved(self) -> tuple[str, ...]:
        """The off-task instructions, and the empty one unless caption dropout trains on it."""
        lines = [line.strip() for line in self.preserve_prompts.splitlines() if line.strip()]
        return (*lines, *(() if self.caption_dropout else ("",)))

    @property
    def scale(self) -> float:
        """The factor of `up @ down`."""
        return self.alpha / self.rank

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, …: linear warm-up, then the schedule, to 0 at the end."""
        warmup = min(self.warmup_steps, self.steps // 10)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.steps - warmup)
        decay = {
            "constant": 1.0,
            "linear": 1 - progress,
            "polynomial": (1 - progress) ** 2,
            "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
            "cosine_restarts": 0.5 * (1 + math.cos(math.pi * (progress * self.restarts % 1))),
        }
        return self.learning_rate * decay[self.schedule]


SETTINGS = settings_of(TrainConfig)
# Rank-stabilised scaling (Kalajdzievski 2023) divided alpha by the root of the rank
STABILISED = Setting("rank_stabilised", False, topic="lora", help="")
# Also settings of earlier versions, merged since into resolution, targets and alpha
KNOWN = {*SETTINGS, "resolutions", "pattern", STABILISED.name}
# Settings that a run may be continued with another value of: while steps are left, and always
CHANGEABLE_UNFINISHED = {name for name, of in SETTINGS.items() if of.change == "unfinished"}
CHANGEABLE_ALWAYS = {name for name, of in SETTINGS.items() if of.change == "always"}
