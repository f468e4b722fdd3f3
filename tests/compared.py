"""A comparison on disk as Compare Checkpoints leaves it, for tests that need no model."""

import json
from pathlib import Path

import numpy as np
from kontext.evaluation.compare.comparison import ComparedRow, Comparison, Shown
from PIL import Image, ImageFilter

SIZE = (128, 96)


def put_comparison(folder: Path, rows: int = 3, steps: tuple[int, ...] = (500, 1000, 1500)) -> str:
    """Pictures that get sharper with the steps, the comparison of them, and scores. Its id."""
    columns = [Shown("control", "control", ""), Shown("base", "base", "", cost=cost(0))]
    for step in steps:
        file = f"rings_{step:06d}.safetensors"
        columns.append(Shown("lora", f"{step:08x} 1", f"step {step}", file, step, 1.0, cost(step)))
    columns.append(Shown("target", "target", ""))
    (folder / "samples" / "sources").mkdir(parents=True)
    cells = []
    for row in range(rows):
        sharp = picture(row)
        blurs = [5, 5, *(4 * (1 - step / max(steps)) for step in steps), 0]
        paths = [f"samples/sources/{row}a.png", *(f"samples/{row}-{n}.png" for n in steps)]
        paths = [paths[0], f"samples/{row}-base.png", *paths[1:], f"samples/sources/{row}b.png"]
        for path, blur in zip(paths, blurs, strict=True):
            sharp.filter(ImageFilter.GaussianBlur(blur)).save(folder / path)
        cells.append(tuple(paths))
    names = ("戒指 07", "brooch", "earrings")
    tried = tuple(
        ComparedRow(f"row{row}", names[row % 3], (f"seed {row}",), "Polish this <b>ring</b>.", SIZE)
        for row in range(rows)
    )
    legend = "20 sampling steps, guidance 2.5"
    comparison = Comparison(folder.name, legend, tuple(columns), tried, tuple(cells))
    comparison.write(folder)
    (folder / "scores").mkdir()
    scored = [score(step, steps) for step in steps]
    text = json.dumps({"best": None, "best_strength": 1.0, "checkpoints": scored})
    (folder / "scores" / "scores.json").write_text(text, "utf-8")
    return comparison.id


def cost(step: int) -> dict[str, float]:
    return {"read": 0.05 * bool(step), "apply": 0.4 + step / 1e4, "picture": 2.1, "memory": 14.2e9}


def score(step: int, steps: tuple[int, ...]) -> dict[str, object]:
    gain = 0.3 * step / max(steps)
    bounds = {"gain_low": gain - 0.05, "gain_high": gain + 0.05}
    verdict = "good" if step == steps[-1] else "under-fitted"
    file = f"rings_{step:06d}.safetensors"
    return {"file": file, "verdict": verdict, "gain": gain, **bounds, "reason": ""}


def picture(seed: int) -> Image.Image:
    """Rings and facets: something with edges, so that blur is seen."""
    down, across = np.mgrid[0 : SIZE[1], 0 : SIZE[0]].astype(np.float32)
    x, y = across - SIZE[0] / 2 - 6 * seed, down - SIZE[1] / 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    ring = np.exp(-(((radius - 30) / 7) ** 2))
    facets = 0.5 + 0.5 * np.sign(np.sin(angle * (8 + 4 * seed)) * np.sin(radius / 3))
    light = 0.15 + 0.3 * down / SIZE[1] + ring * (0.3 + 0.4 * facets)
    tint = np.array([[1.0, 0.82, 0.45], [0.8, 0.9, 1.0], [1.0, 0.7, 0.75]][seed % 3])
    return Image.fromarray((np.clip(light[..., None] * tint, 0, 1) * 255).astype(np.uint8))
