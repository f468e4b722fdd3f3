"""Checkpoints side by side: `compare` (sample every cell), `comparison` (the manifest for the viewer),
`grid` (one picture of all), `vote` (blind votes into a ranking)."""
