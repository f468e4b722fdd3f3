"""The command line."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from .. import language
from ..language import say
from . import comfyui
from .show import Screen
from .terminal_language import terminal_language


def epilog() -> str:
    """The meaning of each exit code, and further hints."""
    codes = {
        0: say("done"),
        1: say("an unexpected error"),
        2: say("the command line, a file, the pairs or a model file is wrong; nothing was started"),
        3: say("training stopped: it diverged twice, or the machine ran out of memory"),
        4: say("a file could not be written"),
        130: say("cancelled (Ctrl+C, SIGTERM); steps done are saved, `resume` continues"),
    }
    lines = [f"  {code}  {words}" for code, words in codes.items()]
    more = (
        say("Arguments after -- go to ComfyUI:") + " -- --lowvram",
        say("Several graphics cards:")
        + " torchrun --nproc-per-node 4 -m custom_nodes.<this folder> "
        "train run.yaml",
    )
    return "\n".join([say("exit codes"), *lines, "", *more])


def parser() -> argparse.ArgumentParser:
    run = say("the run's name, or its folder")
    file = say(
        "run.yaml, or a file of ai-toolkit, musubi-tuner, kohya, kohya_ss, lora-scripts, … see "
        "`convert`"
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--comfyui", metavar="FOLDER", help=say("ComfyUI's folder, if it is not found")
    )
    common.add_argument(
        "--base-directory",
        metavar="FOLDER",
        help=say("the folder of ComfyUI's models, input and output"),
    )
    common.add_argument(
        "--output", metavar="FOLDER", help=say("output folder instead of ComfyUI's")
    )
    common.add_argument("--cpu", action="store_true", help=say("use no graphics card"))
    common.add_argument("--json", action="store_true", help=say("machine-readable results"))
    common.add_argument("--quiet", action="store_true", help=say("no progress, only the result"))
    common.add_argument("--traceback", action="store_true", help=say("show where an error arose"))

    running = argparse.ArgumentParser(add_help=False)
    running.add_argument(
        "--cache", metavar="FOLDER", help=say("folder for latents; default: output/kontext_cache")
    )
    running.add_argument(
        "--progress", choices=["bar", "lines"], help=say("default: bar on a terminal, else lines")
    )
    setting = argparse.ArgumentParser(add_help=False)
    setting.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help=say("change a setting")
    )
    files = argparse.ArgumentParser(add_help=False)
    files.add_argument("files", nargs="+", metavar="file", help=file)

    top = argparse.ArgumentParser(
        prog="kontext-lora-trainer",
        description=say("Train image-edit LoRAs without ComfyUI's graph."),
        epilog=epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True)

    def add(name: str, words: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, parents=[common, *parents])

    add("validate", say("check a file, its pairs and models; load nothing"), files, setting)
    add("cache", say("encode pictures and captions, train nothing"), files, setting, running)
    train = add(
        "train",
        say("train, or continue a run that was stopped; several files one after the other"),
        files,
        setting,
        running,
    )
    train.add_argument(
        "--replace", action="store_true", help=say("move another run of this name aside")
    )
    resume = add("resume", say("continue a run, however it was started"), setting, running)
    resume.add_argument("run", help=run)
    tries = add(
        "try", say("compare settings by short runs, before a long one"), files, setting, running
    )
    tries.add_argument(
        "--axis",
        action="append",
        required=True,
        metavar="KEY=VALUE,VALUE",
        help=say("what to try; several: every combination"),
    )
    tries.add_argument(
        "--steps",
        type=int,
        default=0,
        help=say("steps of the longest tries; 0: a tenth of the run's, at least 80"),
    )
    tries.add_argument(
        "--jobs",
        action="store_true",
        help=say("only write job files for the tries that are due, to train them elsewhere"),
    )
    export = add("export", say("save a checkpoint under another name or format"))
    export.add_argument("run", help=run)
    export.add_argument("--step", type=int, default=0, help=say("0: the last"))
    export.add_argument("--format", default="comfyui", help=say("comfyui, diffusers or peft"))
    export.add_argument("--to", default="", metavar="NAME", help=say("name in output/loras"))
    export.add_argument("--overwrite", action="store_true", help=say("replace a LoRA of this name"))
    status = add("status", say("show how far runs are"))
    status.add_argument("run", nargs="?", default="", help=say("{run}; none: all runs", run=run))
    convert = add("convert", say("convert another trainer's file to ours"), files)
    convert.add_argument("--to", metavar="FILE", help=say("the file to write; without it, print"))
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    language.follow(terminal_language)
    for stream in (sys.stdout, sys.stderr):  # consoles of Windows lack letters that names have
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
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
    trains = options.command in ("cache", "train", "resume", "try")  # others leave the card alone
    arguments = [] if trains and not options.cpu else ["--cpu"]
    if options.base_directory:
        arguments += ["--base-directory", options.base_directory]
    if options.output:
        arguments += ["--output-directory", options.output]
    return arguments
