"""The comparison: the pictures are ComfyUI's, made once, kept, and laid out in the right place."""

import json

import numpy as np
import pytest
import torch
from kontext.evaluation.compare import compare, legend, rows_of, settings_of, trials_of
from kontext.evaluation.generate import Setting, cell_of, generate
from kontext.evaluation.samples import Samples
from kontext.evaluation.subjects import LoraFile, Subject
from kontext.trainer import host
from kontext.trainer.pixels import image_of, tensor_of
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
    grid = compare(base, settings, rows, Samples(tmp_path), "run", Steps())
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
    settings = [Setting(LoraFile("sdxl", path))]
    with pytest.raises(ValueError, match="sdxl.safetensors is no LoRA for FLUX.1"):
        generate(base, settings, trials(subject("a", 0)), Samples(tmp_path), Steps())
