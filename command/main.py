"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import comfyui
from .show import Screen

EPILOG = """\
exit codes
  0  done
  1  an unexpected error
  2  the command line, the file, the pairs or a model file are wrong; nothing was started
  3  training stopped: it diverged twice, or the machine ran out of memory
  4  a file could not be written
  130  cancelled (Ctrl+C, SIGTERM); steps done are saved, `resume` goes on

What stands after -- goes to ComfyUI: -- --lowvram --extra-model-paths-config paths.yaml
Several graphics cards: torchrun --nproc-per-node 4 -m custom_nodes.<this folder> train run.yaml
"""
FILE = "run.yaml, or a file of ai-toolkit, musubi-tuner, kohya or lora-scripts; see `convert`"
RUN = "the run's name, or its folder"


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--comfyui", metavar="FOLDER", help="ComfyUI, if not found by itself")
    common.add_argument(
        "--base-directory", metavar="FOLDER", help="ComfyUI's models, input, output"
    )
    common.add_argument("--output", metavar="FOLDER", help="another output folder than ComfyUI's")
    common.add_argument("--cpu", action="store_true", help="use no graphics card")
    common.add_argument("--json", action="store_true", help="machine-readable results")
    common.add_argument("--quiet", action="store_true", help="no progress, only the result")
    common.add_argument("--traceback", action="store_true", help="show where an error arose")

    running = argparse.ArgumentParser(add_help=False)
    running.add_argument("--cache", metavar="FOLDER", help="latents; else output/kontext_cache")
    running.add_argument(
        "--progress", choices=["bar", "lines"], help="default: bar on a terminal, else lines"
    )
    setting = argparse.ArgumentParser(add_help=False)
    setting.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"
    )
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("files", nargs="+", metavar="file", help=FILE)

    top = argparse.ArgumentParser(
        prog="kontext-lora-trainer",
        description="Train FLUX.1-Kontext LoRAs without ComfyUI's graph.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)

    def add(name: str, words: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, parents=[common, *parents])

    add("validate", "check a file, its pairs and models; load nothing", files, setting)
    add("cache", "encode pictures and captions, train nothing", files, setting, running)
    train = add("train", "train, or go on with a run that was stopped", files, setting, running)
    train.add_argument("--replace", action="store_true", help="delete another run of this name")
    resume = add("resume", "go on with a run, however it was started", setting, running)
    resume.add_argument("run", help=RUN)
    export = add("export", "save a checkpoint under another name or format")
    export.add_argument("run", help=RUN)
    export.add_argument("--step", type=int, default=0, help="0: the last")
    export.add_argument("--format", default="comfyui", help="comfyui, diffusers or peft")
    export.add_argument("--to", default="", metavar="NAME", help="name in output/loras")
    export.add_argument("--overwrite", action="store_true", help="replace a LoRA of this name")
    status = add("status", "how far runs are")
    status.add_argument("run", nargs="?", default="", help=RUN + "; none: all runs")
    convert = add("convert", "another trainer's file as ours", files)
    convert.add_argument("--to", metavar="FILE", help="else it is printed")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    split = given.index("--") if "--" in given else len(given)
    options = parser().parse_args(given[:split])
    screen = Screen(mode(options))
    sys.stdout = sys.stderr  # libraries print; results stay clean
    try:
        comfyui.boot(
            comfyui.find(options.comfyui),
            [*comfyui_arguments(options), *given[split + 1 :]],
            whole=options.command not in ("status", "convert"),
        )
    except comfyui.NotFound as error:
        screen.write(screen.errors, str(error))
        return 2
    from .actions import perform

    return perform(options, screen)


def mode(options: argparse.Namespace) -> str:
    if options.json:
        return "json"
    if options.quiet or int(os.environ.get("RANK", "0")):
        return "quiet"
    # some consoles of rented machines do not tell their width, which a bar needs
    wide = sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns
    return getattr(options, "progress", None) or ("bar" if wide else "lines")


def comfyui_arguments(options: argparse.Namespace) -> list[str]:
    """Our options that are ComfyUI's too."""
    trains = options.command in ("cache", "train", "resume")  # others leave the card alone
    arguments = [] if trains and not options.cpu else ["--cpu"]
    if options.base_directory:
        arguments += ["--base-directory", options.base_directory]
    if options.output:
        arguments += ["--output-directory", options.output]
    return arguments
