"""Train a Kontext LoRA in a real ComfyUI, with the shipped graph and example pictures.

    python scripts/demo.py
    python scripts/demo.py --comfyui D:\\ComfyUI --model flux1-dev-kontext_fp8_scaled.safetensors ^
        --vae ae.safetensors --clip clip_l.safetensors t5xxl_fp8_e4m3fn.safetensors

Runs with any Python from 3.10 on; without --comfyui it sets up ComfyUI in `.host/` first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import api_form
import host as hosts

if TYPE_CHECKING:
    from driver import Event, Server

WORKFLOW = hosts.ROOT / "workflows" / "train_kontext_lora.json"
BASE = hosts.HOME / "base"
REAL_MODEL_SIDE = 512  # pixels; the graph's own 128 is for the demo model

WHAT_IS_TRAINED = {
    "demo": (
        "The model is the pack's demo model: a genuine FLUX of 9 million weights (FLUX.1-Kontext "
        "has 12 billion), made for\n128-pixel pictures. It shows that the training works, not how "
        "good FLUX looks: its pictures are small and soft."
    ),
    "real": "The model is yours: {}.",
}


def main() -> int:
    options = parse()
    host = hosts.find_or_set_up(options.comfyui, options.python)
    finished = hosts.continue_under(host.python, __file__, sys.argv[1:])
    if finished is not None:
        return finished
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped too
    from driver import Server

    models = Models.of(options, host)

    print(f"Starting ComfyUI from {host.comfyui} …", flush=True)
    arguments = models.write_search_path(BASE) if models else ()
    with Server(host, BASE, options.port, arguments) as server:
        nodes = server.get("/object_info")
        prompt = api_form.api_form(json.loads(WORKFLOW.read_text(encoding="utf-8")), nodes)
        adapt(prompt, options.steps, models)
        print(f"It answers at {server.url}. " + introduction(prompt, models), flush=True)
        began = time.monotonic()
        entry = server.run(prompt, Screen(prompt, nodes))
        if "execution_interrupted" in dict(entry["status"]["messages"]):
            print("\nCancelled. What was trained until then is kept; run again to start anew.")
            return 130
        report(server, prompt, time.monotonic() - began)
        if options.serve:
            print(f"ComfyUI stays open at {server.url} until you press Ctrl-C. Drag {WORKFLOW} in.")
            server.process.wait()
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    hosts.add_arguments(parser)
    parser.add_argument("--port", type=int, help="of the server; any free one if left out")
    parser.add_argument("--steps", type=int, help="training steps; else what the graph says")
    parser.add_argument("--serve", action="store_true", help="leave ComfyUI open at the end")
    real = parser.add_argument_group(
        "the real model", "paths, or names of files in ComfyUI's model folders; all three together"
    )
    real.add_argument("--model", help="flux1-dev-kontext_fp8_scaled.safetensors, for example")
    real.add_argument("--vae", help="ae.safetensors")
    real.add_argument("--clip", nargs=2, metavar=("CLIP_L", "T5XXL"), help="both text encoders")
    options = parser.parse_args()
    if len({bool(options.model), bool(options.vae), bool(options.clip)}) > 1:
        parser.error("--model, --vae and --clip belong together: name all three, or none.")
    return options


class Models:
    """The user's FLUX.1-Kontext files, in place of the demo model."""

    def __init__(self, model: Path, vae: Path, clips: tuple[Path, Path]) -> None:
        self.model, self.vae, self.clips = model, vae, clips

    @classmethod
    def of(cls, options: argparse.Namespace, host: hosts.Host) -> Models | None:
        if not options.model:
            return None
        folder = host.comfyui / "models"
        clips = tuple(find_model(name, folder) for name in options.clip)
        return cls(find_model(options.model, folder), find_model(options.vae, folder), clips)

    def write_search_path(self, base: Path) -> tuple[str, ...]:
        """Tell ComfyUI which folders these files are in. JSON is YAML."""
        folders = {
            "diffusion_models": str(self.model.parent),
            "vae": str(self.vae.parent),
            "text_encoders": "\n".join(str(clip.parent) for clip in self.clips),
        }
        path = base / "extra_model_paths.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"demo": folders}), encoding="utf-8")
        return ("--extra-model-paths-config", str(path))

    def loaders(self) -> dict[str, dict[str, Any]]:
        """The stock loader nodes, in the order of the demo loader's outputs."""
        one, two = self.clips
        clips = {"clip_name1": one.name, "clip_name2": two.name, "type": "flux"}
        unet = {"unet_name": self.model.name, "weight_dtype": "default"}
        return {
            "real_model": loader("UNETLoader", unet),
            "real_clip": loader("DualCLIPLoader", clips),
            "real_vae": loader("VAELoader", {"vae_name": self.vae.name}),
        }


def loader(class_type: str, inputs: dict[str, str]) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def find_model(name: str, folder: Path) -> Path:
    """A path as given, else the file of that name below ComfyUI's models folder."""
    if Path(name).is_file():
        return Path(name).resolve()
    found = next(iter(sorted(folder.rglob(Path(name).name))), None) if folder.exists() else None
    if found is None:
        raise hosts.SetupError(
            f"There is no file {name}, here or below {folder}: give its full path, or --comfyui."
        )
    return found


def adapt(prompt: dict[str, Any], steps: int | None, models: Models | None) -> None:
    """Make the shipped graph start anew, and run on the user's model if there is one."""
    changes: dict[str, dict[str, Any]] = {
        "KontextTrainLora": {"replace": True},
        "KontextSaveCheckpoint": {"overwrite": True},
    }
    if steps is not None:
        changes["KontextTrainLora"] |= {"steps": steps, "save_every": max(1, steps // 4)}
    if models:
        changes["KontextTrainingPreset"] = {"resolution": REAL_MODEL_SIDE}
        for key, node in list(prompt.items()):
            if node["class_type"] == "KontextDemoModel":
                replace_node(prompt, key, models.loaders())
    api_form.substitute(prompt, changes)


def replace_node(prompt: dict[str, Any], key: str, loaders: dict[str, dict[str, Any]]) -> None:
    """Output 0, 1, 2 … of node `key` now come from output 0 of the loaders."""
    del prompt[key]
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == key:
                node["inputs"][name] = [list(loaders)[value[1]], 0]
    prompt.update(loaders)


def introduction(prompt: dict[str, Any], models: Models | None) -> str:
    (captions,) = api_form.nodes_of(prompt, "KontextCaptionPairs")
    samples = hosts.ROOT / "sample_pairs"
    pairs = len(list((samples / "after").iterdir()))
    kind = WHAT_IS_TRAINED["real"].format(models.model.name) if models else WHAT_IS_TRAINED["demo"]
    return (
        f"Running {WORKFLOW.relative_to(hosts.ROOT)}.\n{kind}\n"
        f"The pairs: {pairs} photographs in {samples / 'after'}, and the same as\n"
        f"faded, yellowed prints in {samples / 'before'}.\n"
        "Four pairs are kept out of training, for the comparison.\n"
        f"The instruction: {captions['inputs']['instruction']}\n"
    )


class Screen:
    """Shows on the terminal which node works, and what it says about itself."""

    def __init__(self, prompt: dict[str, Any], nodes: dict[str, Any]) -> None:
        self.titles = {
            key: nodes[node["class_type"]]["display_name"] for key, node in prompt.items()
        }
        self.live = sys.stdout.isatty()
        self.shown_at = 0.0

    def __call__(self, event: Event) -> None:
        if event.kind == "executing" and event.content.get("node"):
            self.line(f"▸ {self.titles[event.content['node']]}")
        elif event.kind == "text":
            self.update("  " + event.content["text"].splitlines()[0])

    def line(self, text: str) -> None:
        print(("\r\033[K" if self.live else "") + text, flush=True)

    def update(self, text: str) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns
            print("\r\033[K" + text[: width - 1], end="", flush=True)
        elif time.monotonic() - self.shown_at > 5:
            self.shown_at = time.monotonic()
            print(text, flush=True)


def report(server: Server, prompt: dict[str, Any], seconds: float) -> None:
    """Where everything is that the run has made."""
    (train,) = api_form.nodes_of(prompt, "KontextTrainLora")
    name, output = train["inputs"]["name"], server.base / "output"
    run = output / "kontext_runs" / name
    checkpoints = sorted((output / "loras" / name).glob("*.safetensors"))
    grids = sorted((run / "samples" / "grids").iterdir(), key=lambda path: path.stat().st_mtime)
    print(f"\n\nDone in {seconds:.0f} seconds.\n\nCheckpoints      {checkpoints[0].parent}")
    for checkpoint in checkpoints:
        print(f"                   {checkpoint.name}")
    print(f"Loss plot        {run / 'loss.png'}\nComparison grid  {grids[-1]}\n")


if __name__ == "__main__":
    if os.name == "nt":
        os.system("")  # lets old Windows consoles understand the line-clearing code
    try:
        sys.exit(main())
    except hosts.Failure as error:
        sys.exit(f"\n{error}")
    except KeyboardInterrupt:
        print("\nStopped, ComfyUI too.")
        sys.exit(130)
