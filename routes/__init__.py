"""The pack's own pages, on ComfyUI's server: one file per page, all behind `guard`.

They serve files inside run folders only, addressed by name, and only to ComfyUI's own pages.
"""

from aiohttp import web

from . import bring, compare, files, folders, language, pair_captions, pairs, runs


def register(routes: web.RouteTableDef) -> None:
    """Add every page to ComfyUI's routes."""
    language.register(routes)
    files.register(routes)
    folders.register(routes)
    compare.register(routes)
    runs.register(routes)
    bring.register(routes)
    pairs.register(routes)
    pair_captions.register(routes)
