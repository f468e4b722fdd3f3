"""The same trainer from a terminal.

Read `main` (the arguments), `jobs` (which jobs they ask for), `actions` (what each command does),
`foreign` (other trainers' files), `show` (progress on a terminal), `terminal_language`, and
`comfyui` (starting ComfyUI's modules without its server).
"""
