"""What LoRAs make of pictures: `subjects` (on which), `axes` (steps, strengths, seeds as text),
`generate` (sampling), `samples` (kept on disk, never drawn twice), `cost` (what a switch costs)."""
