"""The pack's nodes, one file per stage of the work."""

from functools import wraps

from comfy_api.latest import ComfyExtension, io

from ..dataset import access
from ..trainer import host
from ..trainer.host import sharing
from . import (
    captioners,
    captions,
    check_pairs,
    compare,
    degrade,
    demo_model,
    describe_pairs,
    edit_captions,
    keep_checkpoint,
    load_pairs,
    load_pictures,
    prepare_pairs,
    save,
    score,
    train,
    training_preset,
    training_samples,
    training_settings,
    try_settings,
    unpaired,
)

STAGES = (
    demo_model,
    load_pairs,
    load_pictures,
    check_pairs,
    prepare_pairs,
    unpaired,
    degrade,
    captioners,
    captions,
    describe_pairs,
    edit_captions,
    training_preset,
    training_settings,
    training_samples,
    try_settings,
    train,
    save,
    compare,
    score,
    keep_checkpoint,
)


def without_path(kind: type[Exception]) -> None:
    """Hide the module of the pack's own errors: ComfyUI shows it, and here it is a path on disk."""
    if kind.__module__.startswith(__package__.rpartition(".")[0]):
        kind.__module__ = "builtins"


def showing_errors(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The node, changed so that the message of an error in `execute` appears on the node itself."""
    execute = node.execute.__func__

    @wraps(execute)
    def shown(cls, *arguments, **inputs) -> io.NodeOutput:
        try:
            return execute(cls, *arguments, **inputs)
        except Exception as raised:
            error = host.as_host_error(raised)
            host.show_error(error)
            without_path(type(error))
            if error is raised:
                raise
            raise error from raised

    node.execute = classmethod(shown)
    return node


NODES = [showing_errors(node) for stage in STAGES for node in stage.NODES]

access.follow(sharing.access)


class KontextExtension(ComfyExtension):
    async def on_load(self) -> None:
        host.report_missing()
        sharing.write_template()
        from server import PromptServer  # exists only where a server runs

        from .. import routes

        routes.register(PromptServer.instance.routes)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
