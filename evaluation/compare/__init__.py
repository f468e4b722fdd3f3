"""Side by side: `compare` (draw every cell), `comparison` (the manifest that the viewer reads),
`grid` (one picture of all), `vote` (blind votes into a ranking)."""
