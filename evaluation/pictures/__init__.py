"""What LoRAs make of pictures.

`loras` (which files), `run_pairs` (on which pairs), `axes` (steps, strengths, seeds as text),
`generate` (sampling), `samples` (kept on disk, never drawn twice), `cost` (what a switch costs).
"""
