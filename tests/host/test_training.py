"""Training through the real server: what the user sees, Cancel, and what is left behind."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

import driver


def saved_picture(server, entry) -> np.ndarray:
    shown = entry["outputs"]["saved"]["images"][0]
    return np.asarray(Image.open(server.base / "output" / shown["subfolder"] / shown["filename"]))


def checkpoints(server, name) -> list[str]:
    return sorted(path.name for path in (server.base / "output/loras" / name).glob("*"))


def steps_logged(server, name) -> int:
    log = server.base / "output/kontext_runs" / name / "log.jsonl"
    return [json.loads(line)["step"] for line in log.read_text("utf-8").splitlines()][-1]


def test_progress_shows_step_loss_and_time_left(run, train):
    events = []
    run(train("progress"), events.append)

    texts = [event.content["text"] for event in events if event.kind == "text"]
    assert any(re.search(r"step \d+/6 · loss \d\.\d+ · .* left", text) for text in texts), texts
    bars = [
        event.content["nodes"].get("train") for event in events if event.kind == "progress_state"
    ]
    assert (6, 6) in {(bar["value"], bar["max"]) for bar in bars if bar}


def test_results_are_in_the_lora_list_without_a_restart(server, run, train):
    before = set(server.loras())
    run(train("listed"))
    new = {name.replace("\\", "/") for name in set(server.loras()) - before}
    assert new == {"listed/listed_000003.safetensors", "listed/listed_000006.safetensors"}


def test_cancel_stops_within_one_step_and_the_queue_goes_on(server, run, train, sample):
    untouched = saved_picture(server, run(sample))
    seen = []

    def cancel(event):
        bar = event.kind == "progress_state" and event.content["nodes"].get("train")
        if bar and bar["state"] == "running" and bar["value"] >= 5 and not seen:
            seen.append(bar["value"])
            server.interrupt()

    entry = run(train("cancelled", steps=5000, save_every=5000), cancel)
    assert "execution_interrupted" in dict(entry["status"]["messages"])

    done = steps_logged(server, "cancelled")
    assert seen[0] <= done <= seen[0] + slack(server, "cancelled")
    (only,) = checkpoints(server, "cancelled")
    assert only == f"cancelled_{done:06}.safetensors"
    with safe_open(server.base / "output/loras/cancelled" / only, "pt") as lora:
        assert all(lora.get_tensor(key).isfinite().all() for key in lora.keys())

    # The model is as it was: the same picture, to the last bit.
    sample["ksampler"]["inputs"]["seed"] = 6  # not from the cache
    run(sample)
    sample["ksampler"]["inputs"]["seed"] = 5
    np.testing.assert_array_equal(saved_picture(server, run(sample)), untouched)


def slack(server, name) -> int:
    """Steps that pass while the news of a step travels to the page and Cancel travels back."""
    log = server.base / "output/kontext_runs" / name / "log.jsonl"
    first, *_, last = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    pace = (last["seconds"] - first["seconds"]) / (last["step"] - first["step"])
    return 1 + round(0.5 / pace)


@pytest.mark.parametrize("adapter", ["lora", "dora", "lokr", "loha"])
def test_a_lora_from_the_list_changes_the_picture(server, run, train, sample, adapter):
    graph = train(adapter, learning_rate=0.01)
    graph["quick"]["inputs"] |= {"adapter": adapter, "dropout": 0.05}
    run(graph)
    plain = saved_picture(server, run(sample))
    name = next(name for name in server.loras() if name.endswith(f"{adapter}_000006.safetensors"))
    sample["lora"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": ["model", 0], "lora_name": name, "strength_model": 1.0},
    }
    sample["ksampler"]["inputs"]["model"] = ["lora", 0]
    edited = saved_picture(server, run(sample))
    sample["lora"]["inputs"]["strength_model"] = 0.0
    np.testing.assert_array_equal(saved_picture(server, run(sample)), plain)
    assert (edited != plain).mean() > 0.1


def test_two_trainings_in_one_graph(server, run, train):
    both = train("first")
    second = train("second", seed=2)["train"]
    run({**both, "second": second})
    assert checkpoints(server, "first") and checkpoints(server, "second")


def test_an_error_names_the_node_and_leaves_the_server_working(run, train, sample):
    with pytest.raises(driver.PromptError, match="KontextTrainLora"):
        run(train("../outside"))
    assert run(sample)["status"]["status_str"] == "success"
