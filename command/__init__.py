"""The same trainer from a terminal.

Read `main` (the arguments), `actions` (what each command does), `foreign` (other trainers' files),
`show` (progress on a terminal) and `comfyui` (starting ComfyUI's modules without its server).
"""
