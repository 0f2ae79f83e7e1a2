"""Loads what a command is made of, and has no garbage looked for in it.

Knows Python's garbage collector. Must not know what is loaded.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """What is made in here is there to stay: the collector does not run meanwhile, and never looks at it later.

    A command loads hundreds of modules. To go through all that is in them, again and again while they are loaded and once more in the end, takes a
    fifth of the time of a short one.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
