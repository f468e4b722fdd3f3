"""Kontext LoRA Trainer: train FLUX.1-Kontext edit LoRAs inside ComfyUI."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    try:
        from .nodes import KontextExtension
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("comfy", "comfy_api", "comfy_execution"):
            raise
        raise ImportError(
            f"Kontext LoRA Trainer needs ComfyUI 0.18.2 or newer ({error}). "
            "Update ComfyUI or the pack."
        ) from error
    return KontextExtension()
