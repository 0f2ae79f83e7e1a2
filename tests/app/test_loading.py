"""What is loaded is not searched for garbage."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from twisted_smtplite.app.loading import loading

runs = []
gc.callbacks.append(lambda phase, facts: runs.append(phase))
gc.collect()
runs.clear()
with loading():
    made = [[] for _ in range(100_000)]
print(len(runs), gc.isenabled(), gc.get_freeze_count() > 100_000)
gc.disable()
try:
    with loading():
        raise KeyError
except KeyError:
    print(gc.isenabled())
"""


def test_the_collector_does_not_run_while_something_is_loaded_and_does_not_look_at_it_later() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0 True True\nFalse\n", "")
