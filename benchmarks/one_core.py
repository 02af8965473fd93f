"""Keeping what is compared on one core."""

import os


def pin() -> int | str:
    """Keep this process and its children on the last core it may use; return that core."""
    if not hasattr(os, "sched_setaffinity"):
        return "none"
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core
