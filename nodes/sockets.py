"""The pack's own socket types; everything else travels on ComfyUI's."""

from comfy_api.latest import io

Pairs = io.Custom("KONTEXT_PAIRS")
RunSocket = io.Custom("KONTEXT_RUN")
Settings = io.Custom("KONTEXT_SETTINGS")
SamplesSocket = io.Custom("KONTEXT_SAMPLES")
CaptionerSocket = io.Custom("KONTEXT_CAPTIONER")
