"""The same trainer from a terminal.

Read `main` (the arguments), `jobs` (the jobs they name), `actions` (what each command does),
`foreign` (other trainers' files), `show` (progress on a terminal), `terminal_language`, and
`comfyui` (loading ComfyUI's modules without its server).
"""
