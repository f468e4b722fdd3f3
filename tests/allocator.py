"""What torch's CPU allocator hands out."""

from collections.abc import Callable

import torch


def peak_of(run: Callable[[], object]) -> int:
    """Most bytes that torch's CPU allocator handed out at once while `run` ran."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run()
    events = profile.profiler.kineto_results.events()
    changes = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    level = peak = 0
    for _, change in sorted(changes):
        level += change
        peak = max(peak, level)
    return peak
