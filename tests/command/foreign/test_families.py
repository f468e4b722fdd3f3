"""Files for FLUX.2 and Qwen-Image, under the names that their trainers have for them."""

import pytest

AI_TOOLKIT = """
config:
  name: ring
  process:
    - type: sd_trainer
      network: {{type: lora, linear: 16, linear_alpha: 16}}
      datasets: [{{folder_path: after, control_path: before}}]
      train: {{steps: 100, lr: 1e-4}}
      model: {{name_or_path: "{path}", arch: {arch}}}
"""
MUSUBI = """
dit = "{file}"
text_encoder = "texts.safetensors"
network_module = "networks.{module}"
[[datasets]]
image_directory = "after"
control_directory = "before"
"""
QWEN = ["qwen_2.5_vl_7b_fp8_scaled.safetensors"]


@pytest.mark.parametrize(
    "path, arch, model, text",
    [
        ("black-forest-labs/FLUX.2-klein-base-4B", "flux2_klein_4b", "flux-2-klein-base-4b-fp8",
         ["qwen_3_4b.safetensors"]),
        ("black-forest-labs/FLUX.2-klein-base-9B", "flux2_klein_9b", "flux-2-klein-base-9b-fp8",
         ["qwen_3_8b_fp8mixed.safetensors"]),
        ("black-forest-labs/FLUX.2-dev", "flux2", "flux2_dev_fp8mixed",
         ["mistral_3_small_flux2_fp8.safetensors"]),
        ("Qwen/Qwen-Image-Edit-2509", "qwen_image_edit_plus", "qwen_image_edit_2509_fp8_e4m3fn",
         QWEN),
        ("Qwen/Qwen-Image-Edit-2511", "qwen_image_edit_plus", "qwen_image_edit_2511_fp8mixed",
         QWEN),
        ("Qwen/Qwen-Image-Edit", "qwen_image_edit", "qwen_image_edit_fp8_e4m3fn", QWEN),
    ],
)  # fmt: skip
def test_repositories_of_edit_models_become_comfyuis_files(read, path, arch, model, text):
    job, ignored = read(ring__yaml=AI_TOOLKIT.format(path=path, arch=arch))
    assert job.model["diffusion_model"] == f"{model}.safetensors"
    assert job.model["text_encoders"] == text
    (pairs,) = job.pairs
    assert (pairs["control_folder"], pairs["target_folder"]) == ("before", "after")
    assert any(path in line for line in ignored)  # it says what it is taken for


def test_qwen_image_without_edit_learns_from_single_pictures(read):
    text = AI_TOOLKIT.format(path="Qwen/Qwen-Image", arch="qwen_image")
    job, _ = read(ring__yaml=text.replace(", control_path: before", ""))
    assert job.pairs[0]["pictures_folder"] == "after"


def test_files_that_are_named_stay(read):
    module = "lora_qwen_image"
    job, _ = read(
        ring__toml=MUSUBI.format(file="qwen_image_edit_2509_bf16.safetensors", module=module)
    )
    assert job.model == {
        "diffusion_model": "qwen_image_edit_2509_bf16.safetensors",
        "text_encoders": ["texts.safetensors"],
        "vae": "qwen_image_vae.safetensors",
    }
