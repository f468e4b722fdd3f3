"""Checkpoints side by side: `compare` (sample every cell), `comparison` (the viewer's manifest),
`grid` (all cells in one picture), `vote` (blind votes into a ranking)."""
