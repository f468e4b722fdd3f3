"""The state for resuming a run, besides its pairs and settings: one file, replaced at each save."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...language import say
from ..files import require_intact, save_checked
from .identity import RunError

REST_CHECKSUM = "rest_crc32"


@dataclass(frozen=True)
class State:
    """The saved state of a run: weights, optimiser, averages, and the steps done."""

    path: Path

    def exists(self) -> bool:
        return self.path.is_file()

    def write(self, step: int, tensors: Mapping[str, Tensor], rest: str = "") -> None:
        """Replace the state; `rest` is everything that is not a tensor."""
        notes = {"step": str(step), "rest": rest, "threads": str(torch.get_num_threads())}
        notes[REST_CHECKSUM] = checksum(rest)
        save_checked(tensors, self.path, notes)

    def read(self) -> tuple[int, dict[str, Tensor], str]:
        """The steps done, the tensors, and the rest. RunError if damaged."""
        metadata = self.metadata()
        try:
            # not mapped: Windows could not replace the file while the optimiser holds its tensors
            content = self.path.read_bytes()
            tensors = safetensors.torch.load(content)
            require_intact(content, metadata)
        except (SafetensorError, ValueError) as error:
            raise self.damaged(error) from error
        return int(metadata["step"]), tensors, metadata["rest"]

    def step(self) -> int:
        """The steps done; -1 without a state. RunError if damaged."""
        return int(self.metadata().get("step", -1))

    def threads(self) -> int:
        """CPU threads that the state was computed with; without a state, the present number."""
        threads = self.metadata().get("threads", "")
        return int(threads) if threads.isdecimal() and int(threads) else torch.get_num_threads()

    def metadata(self) -> dict[str, str]:
        """`step`, `threads` and `rest`; empty without a state."""
        if not self.exists():
            return {}
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata() or {}
            int(metadata["step"])
            rest = metadata.get("rest", "")
            if metadata.get(REST_CHECKSUM, checksum(rest)) != checksum(rest):
                raise ValueError(say("its content is not what was written"))
        except (SafetensorError, KeyError, ValueError) as error:
            raise self.damaged(error) from error
        return {"rest": "", **metadata}

    def damaged(self, error: Exception) -> RunError:
        return RunError(
            say(
                "{path}, which is needed to continue, is damaged ({reason}). Choose another name "
                "and continue from the last checkpoint with `start_from`.",
                path=self.path,
                reason=error,
            )
        )


def checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}"
