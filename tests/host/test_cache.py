"""ComfyUI re-runs a node when something on disk changed, and only then."""

import os


def again(run, graph) -> set[str]:
    """Run the graph; the nodes that ComfyUI did not take from its cache."""
    entry = run(graph)
    return set(graph) - set(dict(entry["status"]["messages"])["execution_cached"]["nodes"])


def graph_of(load_pairs) -> dict:
    captions = {"pairs": ["pairs", 0], "instruction": "Invert."}
    preview = {"class_type": "PreviewAny", "inputs": {"source": ["caption", 1]}}
    return {
        "pairs": load_pairs,
        "caption": {"class_type": "KontextCaptionPairs", "inputs": captions},
        "preview": preview,
    }


def test_nothing_changed_nothing_runs(run, load_pairs):
    run(graph_of(load_pairs))
    assert "pairs" not in again(run, graph_of(load_pairs))
    assert "caption" not in again(run, graph_of(load_pairs))


def test_a_changed_picture_runs_again(run, load_pairs, pair_folder):
    run(graph_of(load_pairs))
    picture = pair_folder / "after" / "ring.png"
    os.utime(picture, ns=(0, picture.stat().st_mtime_ns + 1_000_000_000))
    assert {"pairs", "caption"} <= again(run, graph_of(load_pairs))


def test_a_new_caption_file_runs_again(run, load_pairs, pair_folder):
    run(graph_of(load_pairs))
    (pair_folder / "after" / "ring.txt").write_text("a gold ring", encoding="utf-8")
    assert {"pairs", "caption"} <= again(run, graph_of(load_pairs))
