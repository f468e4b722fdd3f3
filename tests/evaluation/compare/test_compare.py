"""The comparison: the pictures are ComfyUI's, made once, kept, and laid out in the right place."""

import json
import time

import comfy.model_management
import comfy.utils
import numpy as np
import pytest
import torch
from kontext.evaluation.compare.compare import (
    compare,
    cost_table,
    legend,
    rows_of,
    settings_of,
    trials_of,
)
from kontext.evaluation.compare.comparison import ComparedRow, Comparison, ComparisonError, Shown
from kontext.evaluation.pictures.cost import Costs
from kontext.evaluation.pictures.generate import Setting, cell_of, generate
from kontext.evaluation.pictures.loras import LoraFile
from kontext.evaluation.pictures.samples import Samples
from kontext.trainer import host
from kontext.trainer.data.pixels import image_of, tensor_of
from kontext.trainer.data.subject import Subject
from PIL import Image
from safetensors.torch import save_file

SIZE = (64, 48)


class Steps:
    """A progress that remembers, and cancels after so many pictures."""

    def __init__(self, cancel_after=None):
        self.pictures, self.cancel_after = 0, cancel_after

    def say(self, text):
        pass

    def update(self, step, text="", preview=None):
        self.pictures += preview is not None
        if self.pictures == self.cancel_after:
            raise KeyboardInterrupt


def subject(name, seed, target=True):
    noise = np.random.default_rng(seed).integers(0, 255, (2, 6, 8, 3), dtype=np.uint8)
    control, result = (Image.fromarray(each).resize(SIZE) for each in noise)
    return Subject(name, f"edit {name}", (control,), result if target else None, SIZE)


@pytest.fixture
def loras(make_lora):
    return [LoraFile(f"step {n}", make_lora(f"run_{n:06d}", n), n) for n in (100, 200)]


def trials(*subjects):
    return trials_of(subjects, (), (1,), (2,), (2.5,))


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_cells_equal_what_the_sampler_gives_with_the_stock_loader(base, loras, tmp_path):
    one = trials(subject("a", 0))[0]
    settings = settings_of(loras, (0.5, 1.0))
    paths = generate(base, settings, [one], Samples(tmp_path), Steps())
    reference = host.encode_image(base.vae, tensor_of(one.subject.controls[0]))
    text = host.encode_text(base.clip, one.prompt)
    for setting in settings:
        model = base.model
        if setting.lora:
            tensors = host.load_lora_file(setting.lora.path)
            model = host.with_lora(base.model, tensors, setting.strength)
        latent = host.sample(model, text, [reference], *SIZE, seed=1, steps=2, guidance=2.5)
        expected = np.asarray(image_of(host.decode_latent(base.vae, latent)))
        np.testing.assert_array_equal(pixels(paths[setting, one]), expected)
    assert len({pixels(path).tobytes() for path in paths.values()}) == len(settings) == 5


def test_each_lora_is_applied_once_and_only_one_is_held(base, loras, tmp_path, monkeypatch):
    loaded = []
    load = host.load_lora_file
    monkeypatch.setattr(host, "load_lora_file", lambda path: loaded.append(path.name) or load(path))
    rows = trials(subject("a", 0), subject("b", 1))
    generate(base, settings_of(loras, (0.5, 1.0)), rows, Samples(tmp_path), Steps())
    assert loaded == ["run_000100.safetensors", "run_000200.safetensors"]


def test_a_cancelled_grid_goes_on_where_it_stopped(base, loras, tmp_path):
    settings, rows = settings_of(loras, (1.0,)), trials(subject("a", 0), subject("b", 1))
    with pytest.raises(KeyboardInterrupt):
        generate(base, settings, rows, Samples(tmp_path), Steps(cancel_after=4))
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    assert len(kept) == 4
    rest = Steps()
    paths = generate(base, settings, rows, Samples(tmp_path), rest)
    assert rest.pictures == 2
    assert len(set(paths.values())) == 6
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


def test_the_base_keeps_its_identity_while_a_lora_is_merged(base, loras, tmp_path):
    """Sampling leaves the last LoRA in the weights; the cells must still be found."""
    one = trials(subject("a", 0))
    generate(base, settings_of(loras, (1.0,)), one, Samples(tmp_path), Steps())
    again = Steps()
    generate(base, settings_of(loras, (1.0,)), one, Samples(tmp_path), again)
    assert again.pictures == 0


@pytest.mark.parametrize("change", ["prompt", "seed", "steps", "guidance"])
def test_a_cell_depends_on_every_setting(change):
    one = trials(subject("a", 0))[0]
    other = type(one)(**{**vars(one), change: "x" if change == "prompt" else 7})
    assert cell_of("base", Setting(), one).key() != cell_of("base", Setting(), other).key()


def test_a_cell_depends_on_the_loras_content_not_on_its_name(make_lora):
    one = trials(subject("a", 0))[0]
    first, renamed = make_lora("one", seed=1), make_lora("two", seed=1)
    other = make_lora("three", seed=2)
    keys = [cell_of("base", Setting(LoraFile("x", p)), one).key() for p in (first, renamed, other)]
    assert keys[0] == keys[1] != keys[2]


def test_pictures_carry_their_settings_and_the_graph(base, tmp_path):
    one = trials(subject("戒指", 0))[0]
    graph = {"prompt": {"1": {"class_type": "KontextCompareCheckpoints"}}}
    paths = generate(base, [Setting()], [one], Samples(tmp_path), Steps(), graph)
    with Image.open(paths[Setting(), one]) as picture:
        texts = picture.text
    assert json.loads(texts["prompt"]) == graph["prompt"]
    assert json.loads(texts["kontext"])["prompt"] == "edit 戒指"
    assert "戒指" in paths[Setting(), one].name


def test_columns_are_control_base_checkpoints_by_strength_and_target(base, loras, tmp_path):
    settings = settings_of(loras, (0.5, 1.0))
    rows = trials(subject("a", 0), subject("b", 1, target=False))
    grid, _ = compare(base, settings, rows, Samples(tmp_path), "run", Steps())
    assert [(column.group, column.label) for column in grid.columns] == [
        ("control", "before"),
        ("base model", "no LoRA"),
        ("step 100", "strength 0.5"),
        ("step 100", "strength 1"),
        ("step 200", "strength 0.5"),
        ("step 200", "strength 1"),
        ("target", "after"),
    ]
    assert [row.label for row in grid.rows] == ["a", "b"]
    assert grid.cells[0][0] is rows[0].subject.controls[0]
    assert grid.cells[0][-1] is rows[0].subject.target
    assert grid.cells[1][-1] is None


def test_rows_name_only_what_differs():
    several = trials_of([subject("a", 0)], ("make it gold",), (1, 2), (2,), (2.5,))
    assert [row.details for row in rows_of(several)] == [("seed 1",), ("seed 2",)]
    assert "make it gold" in legend(several) and "seed" not in legend(several)


def test_a_lora_for_another_model_is_refused_by_name(base, tmp_path):
    path = tmp_path / "sdxl.safetensors"
    save_file({"lora_unet_input_blocks_1_1_proj_in.lora_up.weight": torch.zeros(4, 4)}, path)
    settings = [Setting(), Setting(LoraFile("sdxl", path))]
    progress = Steps()
    with pytest.raises(ValueError, match="sdxl.safetensors is not a LoRA for FLUX.1"):
        generate(base, settings, trials(subject("a", 0)), Samples(tmp_path), progress)
    assert progress.pictures == 0


def test_switching_reads_only_loras_and_leaves_the_rest_of_the_base_where_it_is(
    base, loras, tmp_path, monkeypatch
):
    """The base is not read again, and no layer that a LoRA leaves alone is replaced."""
    samples = Samples(tmp_path / "samples")
    generate(base, [Setting()], trials(subject("c", 2)), samples, Steps())  # no LoRA is merged now
    touched = {key for lora in loras for key in host_keys(base, lora)}
    read = []
    load = comfy.utils.load_torch_file
    monkeypatch.setattr(
        comfy.utils,
        "load_torch_file",
        lambda path, *more, **options: read.append(path) or load(path, *more, **options),
    )
    before = {name: weight.data_ptr() for name, weight in base.network.named_parameters()}
    generate(base, settings_of(loras, (0.5, 1.0)), trials(subject("a", 0)), samples, Steps())
    assert read == [str(lora.path) for lora in loras]
    after = {name: weight.data_ptr() for name, weight in base.network.named_parameters()}
    moved = {name for name in before if before[name] != after[name]}
    assert moved and moved <= touched

    # sampling with the plain model brings the very same weights back
    generate(base, [Setting()], trials(subject("b", 1)), samples, Steps())
    assert {name: weight.data_ptr() for name, weight in base.network.named_parameters()} == before


def host_keys(base, lora):
    patches = host.with_lora(base.model, host.load_lora_file(lora.path), 1.0).patches
    return {key.removeprefix("diffusion_model.") for key in patches}


def test_what_each_lora_costs_is_kept_with_its_pictures(base, loras, tmp_path):
    settings, one = settings_of(loras, (0.5, 1.0)), trials(subject("a", 0))
    samples = tmp_path / "samples"
    _, first = compare(base, settings, one, Samples(samples), "run", Steps())
    costs = [column.cost for column in first.columns[1:-1]]
    assert len(costs) == 5
    assert all(cost["memory"] > 0 and cost["picture"] > 0 for cost in costs)
    assert all(cost["read"] > 0 and cost["apply"] > 0 for cost in costs[1:])
    _, again = compare(base, settings, one, Samples(samples), "run", Steps())
    assert again == first and again.id == first.id
    table = cost_table(first).splitlines()
    assert [line.split("  ")[0] for line in table[1:]] == [
        "base model", "step 100 x 0.5", "step 100 x 1", "step 200 x 0.5", "step 200 x 1"
    ]  # fmt: skip


def test_the_seconds_are_those_of_the_sampler(base, loras, tmp_path, monkeypatch):
    """Reference: a clock that goes on by one second a look, and by 100 when a LoRA is merged."""
    merging, now = comfy.model_management.load_models_gpu, [0.0]

    def clock():
        now[0] += 1
        return now[0]

    def slow(models, *more, **options):
        now[0] += 100 * any(model.patches for model in models)
        merging(models, *more, **options)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", slow)
    monkeypatch.setattr(time, "perf_counter", clock)
    samples = Samples(tmp_path)
    generate(base, [Setting(loras[0], 1.0)], trials(subject("a", 0)), samples, Steps())
    cost = Costs(tmp_path).get(loras[0].digest, 1.0)
    assert 100 < cost.apply < 130 and 0 < cost.read < 30 and 0 < cost.picture < 60


def test_a_comparison_is_read_as_it_was_written(base, loras, tmp_path):
    rows = trials(subject("戒指", 0), subject("b", 1, target=False))
    settings = settings_of(loras, (1.0,))
    _, made = compare(base, settings, rows, Samples(tmp_path / "samples"), "run", Steps())
    made.write(tmp_path)
    found = Comparison.read(tmp_path, made.id)
    assert found == made
    kinds = [column.kind for column in found.columns]
    assert kinds == ["control", "base", "lora", "lora", "target"]
    assert found.contestants == ["base", f"{loras[0].digest} 1", f"{loras[1].digest} 1"]
    for row, trial in enumerate(rows):
        np.testing.assert_array_equal(
            pixels(found.picture(tmp_path, row, 0)), np.asarray(trial.subject.controls[0])
        )
    np.testing.assert_array_equal(
        pixels(found.picture(tmp_path, 0, 4)), np.asarray(rows[0].subject.target)
    )
    with pytest.raises(ComparisonError, match="Row 1, column 4 shows no picture"):
        found.picture(tmp_path, 1, 4)


@pytest.mark.parametrize("cell", ["../secret.png", "samples/../../secret.png", "/etc/passwd"])
def test_a_comparison_shows_nothing_outside_its_run(tmp_path, cell):
    folder = tmp_path / "run"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    row = ComparedRow("r", "r", (), "", (8, 8))
    tampered = Comparison("t", "", (Shown("base", "base", ""),), (row,), ((cell,),))
    with pytest.raises(ComparisonError, match="not inside"):
        tampered.picture(folder, 0, 0)


def test_a_lora_that_is_there_under_two_names_is_voted_on_once():
    names = [Shown("lora", "digest 1", name) for name in ("step 100", "my copy")]
    columns = (Shown("base", "base", ""), *names)
    assert Comparison("", "", columns, (), ()).contestants == ["base", "digest 1"]
