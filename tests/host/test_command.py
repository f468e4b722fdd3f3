"""A run made in a graph, repeated from a terminal."""

import subprocess
import sys

import torch
from safetensors.torch import load_file

from host import PACK_FOLDER

from .test_long_runs import PROMPTS, sampled


def test_a_graphs_run_is_repeated_from_a_terminal(server, run, train):
    """Its own file, another name: the same LoRA and samples, bit for bit."""
    run(sampled(train("in_graph"), prompts=PROMPTS, every=3, seed=5))
    pack = server.base / "custom_nodes" / PACK_FOLDER
    file = server.base / "output" / "kontext_runs" / "in_graph" / "run.yaml"
    done = subprocess.run(
        [sys.executable, str(pack), "train", str(file), "--set", "name=in_terminal", "--cpu",
         "--comfyui", str(server.host.comfyui), "--base-directory", str(server.base)],
        cwd=server.base, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("in_terminal: step 6 of 6")
    one, other = (
        load_file(server.base / "output" / "loras" / name / f"{name}_000006.safetensors")
        for name in ("in_graph", "in_terminal")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    runs = server.base / "output" / "kontext_runs"
    strips = sorted((runs / "in_graph" / "samples").iterdir())
    assert len(strips) == 4
    for strip in strips:
        assert (runs / "in_terminal" / "samples" / strip.name).read_bytes() == strip.read_bytes()
