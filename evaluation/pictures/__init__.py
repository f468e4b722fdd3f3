"""Test pictures edited with LoRAs.

`loras` (which files), `run_pairs` (on which pairs), `axes` (steps, strengths, seeds as text),
`generate` (sampling), `samples` (kept on disk, never made twice), `cost` (of switching LoRAs).
"""
