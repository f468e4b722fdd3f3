"""A run's own file is enough to repeat it; files by hand, and what is wrong with them."""

import folder_paths
import pytest
import torch
import yaml
from kontext.dataset.pair import DatasetError, PairedDataset
from kontext.trainer import families, host, loop
from kontext.trainer.config import ConfigError, TrainConfig
from kontext.trainer.host import files as host_files
from kontext.trainer.runs.identity import RunError
from kontext.trainer.runs.job import Job, JobError, Places, SamplePlan, pair_rows
from PIL import Image
from safetensors.torch import save_file

import nodes

from ..short_runs import SHORT, assert_same, last_lora

FOLDERS = {"control_folder": "before", "target_folder": "after"}


def parse(text: str) -> Job:
    return Job.parse(yaml.safe_load(text))


@pytest.mark.slow
def test_a_run_is_repeated_from_its_file(run_training, pairs, tmp_path):
    """With its captions and hold-out as they were in the graph."""
    held = [pairs.pairs[0], *pairs.pairs[2:]]
    last = type(pairs.pairs[1])(**{**vars(pairs.pairs[1]), "split": "holdout", "repeats": 3})
    dataset = PairedDataset((*held, last))
    first = run_training(pairs=dataset, name="first")
    begun = run_training(pairs=dataset, name="begun", start=last_lora(first))

    content = yaml.safe_load((begun.folder / "run.yaml").read_text("utf-8"))
    job = Job.parse(content)
    places = Places((begun.folder,), tmp_path / "scratch")
    again, _ = job.load_pairs(places)
    assert again == dataset
    assert job.settled(again) == begun.config == SHORT.replace(alpha=4.0, stop="last_step")
    assert job.base_hash == begun.identity().base_hash
    start = host.load_lora_file(places.find(job.start))
    repeated = run_training(job.config, pairs=again, name="repeated", start=start)
    assert_same(last_lora(repeated), last_lora(begun))


@pytest.mark.slow
def test_samples_are_repeated_from_the_file(run_training, tmp_path):
    """Prompts, pictures to edit, seed and steps: the same strips, byte for byte."""
    config = SHORT.replace(steps=2)
    noise = torch.rand(64, 96, 3, generator=torch.Generator().manual_seed(1)).mul(255).byte()
    red = Image.new("RGB", (64, 64), "red")
    plan = SamplePlan(("交换", "keep"), (Image.fromarray(noise.numpy()), red), 1, 7, 2)
    run = run_training(config, "shown", samples=plan)
    content = yaml.safe_load((run.folder / "run.yaml").read_text("utf-8"))
    again = Job.parse(content).sample_plan(Places((run.folder,), tmp_path))
    repeated = run_training(config, "repeated", samples=again)
    strips = [sorted((each.folder / "samples").iterdir()) for each in (run, repeated)]
    assert [path.name for path in strips[0]] == [path.name for path in strips[1]]
    assert len(strips[0]) == 8
    for one, other in zip(*strips, strict=True):
        assert one.read_bytes() == other.read_bytes()

    run_training(config, "shown")
    content = yaml.safe_load((run.folder / "run.yaml").read_text("utf-8"))
    assert "samples" not in content, "this time without"


def test_a_file_says_what_to_sample(tmp_path):
    places = Places((tmp_path,), tmp_path)
    Image.new("L", (40, 30), 90).save(tmp_path / "cat.png")
    job = parse("{name: a, pairs: p, samples: {prompts: swap, controls: [cat.png], every: 5}}")
    plan = job.sample_plan(places)
    assert (plan.prompts, plan.every, plan.steps) == (("swap",), 5, 20)
    assert plan.controls[0].size == (40, 30) and plan.controls[0].mode == "RGB"
    assert Job.parse(yaml.safe_load(yaml.safe_dump(job.content()))) == job
    assert parse("{name: a, pairs: p}").sample_plan(places) is None
    with pytest.raises(JobError, match="samples: there is no .*dog.png"):
        parse("{name: a, pairs: p, samples: {controls: [dog.png]}}").sample_plan(places)


def test_a_run_killed_while_it_is_opened_keeps_its_file(run_training, monkeypatch):
    """Between noting what it is made from and what repeating it needs."""
    run = run_training(SHORT.replace(steps=1))
    before = yaml.safe_load((run.folder / "run.yaml").read_text("utf-8"))

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "write_job", killed)
    with pytest.raises(KeyboardInterrupt):
        run_training(SHORT.replace(steps=1))
    after = yaml.safe_load((run.folder / "run.yaml").read_text("utf-8"))
    assert {**before, "changed": ""} == {**after, "changed": ""}
    assert Job.parse(after).pairs and after["memory_plan"]


def test_pictures_may_move(run_training, pairs, tmp_path):
    run = run_training(SHORT.replace(steps=1))
    content = yaml.safe_load((run.folder / "run.yaml").read_text("utf-8"))
    (tmp_path / "pairs").rename(tmp_path / "moved")
    places = Places((run.folder,), tmp_path)
    with pytest.raises(DatasetError, match="8 of 8 pictures are not here.*`folder`"):
        Job.parse(content).load_pairs(places)
    content["pairs"]["folder"] = str(tmp_path / "moved")
    found, _ = Job.parse(content).load_pairs(places)
    assert [pair.stem for pair in found] == [pair.stem for pair in pairs]


def test_rows_hold_paths_below_one_folder(pairs, tmp_path):
    rows, folder = pair_rows(pairs)
    assert folder == str(tmp_path / "pairs")
    assert rows[0]["target"] == "target/000.png" and rows[0]["control"] == ["control/000.png"]


def test_numbers_as_yaml_reads_them():
    """YAML 1.1 takes 1e-4 for a text."""
    job = parse("{name: a, model: demo, pairs: p, config: {learning_rate: 1e-4, steps: 2e3}}")
    assert job.config.learning_rate == 0.0001
    assert job.config.steps == 2000 and isinstance(job.config.steps, int)
    assert parse("{name: a, pairs: p, config: {resolutions: [512, 768]}}").config.sides == (
        512,
        768,
    )


@pytest.mark.parametrize(
    "text, error, words",
    [
        ("{name: a, pairs: p, setings: {}}", JobError, "unknown setings.*Known: .*config"),
        ("{name: a, pairs: p, config: {step: 3}}", ConfigError, "config: unknown step"),
        ("{name: a, pairs: {folder_path: x}}", JobError, "pairs: unknown folder_path"),
        ("{name: a}", JobError, "`pairs` is missing"),
        ("{pairs: p}", RunError, "Give the run a name"),
        ("{name: a, pairs: p, config: {steps: many}}", ConfigError, "'many'.*a whole number"),
        ("{name: a, pairs: p, config: {steps: 1.5}}", ConfigError, "1.5.*a whole number"),
        ("{name: a, pairs: p, config: {flip: 'yes'}}", ConfigError, "'yes'.*true or false"),
        ("{name: a, pairs: p, samples: {prompt: x}}", JobError, "samples: unknown prompt"),
        ("{name: a, pairs: p, samples: {every: 1.5}}", JobError, "every is 1.5.*whole number"),
        ("{name: a, pairs: p, samples: {most: 0}}", JobError, "most is 0.*from 1 on"),
        ("{name: a, pairs: p, samples: {prompts: 5}}", JobError, "prompts is 5.*text"),
        ("{name: a, pairs: p, config: {rank: 999}}", ConfigError, "999.*1 to 256"),
    ],
)
def test_what_is_wrong_is_named(text, error, words):
    with pytest.raises(error, match=words):
        parse(text)


def test_epochs_are_counted_in_steps(make_pairs, tmp_path):
    """10 pairs three times each, in batches of 4: 8 steps an epoch, by hand."""
    job = parse("{name: a, pairs: p, epochs: 5, save_every_epochs: 2, config: {batch_size: 4}}")
    pairs = make_pairs(tmp_path / "pairs", 10)
    three = PairedDataset(tuple(type(p)(**{**vars(p), "repeats": 3}) for p in pairs))
    config = job.settled(three)
    assert (config.steps, config.save_every) == (40, 16)
    job = parse("{name: a, pairs: p, epochs: 1, config: {flip: true, resolutions: '512, 768'}}")
    assert job.settled(pairs).steps == 40, "10 pairs, mirrored too, at two resolutions"


def test_content_is_what_parse_reads():
    job = Job("edit", "demo", [FOLDERS], TrainConfig(steps=7, flip=True), epochs=2)
    assert Job.parse(yaml.safe_load(yaml.safe_dump(job.content()))) == job


def test_several_folders_are_one_dataset(make_pairs, tmp_path):
    for name in ("one", "two"):
        make_pairs(tmp_path / name, 2)
    sources = [
        {"control_folder": f"{name}/control", "target_folder": f"{name}/target", "holdout": 0,
         "repeats": number}
        for number, name in enumerate(("one", "two"), 1)
    ]  # fmt: skip
    found, _ = Job("edit", "demo", sources).load_pairs(Places((tmp_path,), tmp_path / "scratch"))
    assert [pair.stem for pair in found] == ["000", "001", "2_000", "2_001"]
    assert [pair.repeats for pair in found] == [1, 1, 2, 2]


# ---- model files ---------------------------------------------------------------------------


@pytest.fixture
def model_folder(tmp_path, weights, monkeypatch):
    """A diffusion model and a VAE where ComfyUI looks for them."""
    for kind in ("diffusion_models", "vae"):
        folder = tmp_path / kind / "flux"
        folder.mkdir(parents=True)
        paths = ([str(tmp_path / kind)], {".safetensors"})
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, paths)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    save_file(weights, tmp_path / "diffusion_models" / "flux" / "tiny.safetensors")
    return tmp_path


def test_a_graph_tells_the_files_its_loaders_read(model_folder, clip, vae):
    """Through ComfyUI's own loader node."""
    name = folder_paths.get_filename_list("diffusion_models")[0]
    with torch.inference_mode():
        (model,) = nodes.UNETLoader().load_unet(name, "fp8_e4m3fn")
    files = host_files.model_files(host.Base(model.clone(), clip, vae))
    expected = {"diffusion_model": name, "weight_dtype": "fp8_e4m3fn"}
    assert files == {**expected, "text_encoders": None, "vae": None}
    problems = host_files.lacking(files)
    assert [problem.partition(" is ")[0] for problem in problems] == [
        "model: text_encoders", "model: vae",
    ]  # fmt: skip
    assert "vae: ae.safetensors" in problems[1]


def test_a_file_that_is_not_there_is_named_with_those_that_are(model_folder):
    files = {"diffusion_model": "flux1.safetensors", "vae": "ae.safetensors"}
    first, *_ = host_files.lacking({**files, "text_encoders": ["clip_l.safetensors", "t5"]})
    assert "flux1.safetensors is not in models/diffusion_models" in first
    assert "tiny.safetensors" in first
    with pytest.raises(host.BaseModelError, match="t5 is not in"):
        named = {**files, "text_encoders": ["clip_l.safetensors", "t5"]}
        host_files.load_base(named, families.text_encoders)


def test_a_whole_path_is_as_good_as_a_name(model_folder, tmp_path, weights):
    elsewhere = tmp_path / "elsewhere.safetensors"
    save_file(weights, elsewhere)
    problems = host_files.lacking({"diffusion_model": str(elsewhere)})
    assert not any("diffusion_model" in problem for problem in problems)
