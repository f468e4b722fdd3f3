"""Kontext LoRA Trainer: train FLUX.1-Kontext edit LoRAs inside ComfyUI."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    from .nodes import KontextExtension

    return KontextExtension()
