"""Shows results: as a table in Markdown, as JSON, as an SVG chart.

Knows results and forms. Must not measure anything.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from xml.sax.saxutils import escape

from .measure import Result, Sample
from .servers import OURS
from .workloads import Measure

_LABEL, _BAR, _ROW, _WIDTH = 100, 480, 20, 760
_OURS_COLOUR, _PEER_COLOUR, _TEXT_COLOUR = "#2a7f62", "#9aa5b1", "#57606a"


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "processor": model,
        "cores": str(len(os.sched_getaffinity(0))),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "twisted": version("Twisted"),
        "smtplite": version("twisted-smtplite"),
    }


def table(results: Sequence[Result]) -> str:
    """All medians, a block for each workload."""
    blocks = []
    for result in results:
        rows = [f"### {result.workload.name}: {result.workload.title}", ""]
        unit = result.workload.measure.value
        if result.workload.measure is Measure.MEMORY:
            rows += [f"| server | {unit} | smtplite is better by |", "|---|--:|--:|"]
        else:
            rows += [f"| server | {unit} | server cpu, us/message | p50 ms | p99 ms | smtplite is better by |", "|---|--:|--:|--:|--:|--:|"]
        rows += [_row(result, name) for name in result.samples]
        blocks.append("\n".join(rows + [f"\n{reason}" for reason in result.leftOut.values()]))
    return "\n\n".join(blocks) + "\n"


def _row(result: Result, name: str) -> str:
    sample, ratio = result.middle(name), result.ratio(name)
    times = "" if ratio is None else f"{ratio:.2f} x"
    if result.workload.measure is Measure.MEMORY:
        return f"| {name} | {sample.value:,.1f} | {times} |"
    return f"| {name} | {sample.value:,.0f} | {sample.cpuMicroseconds:,.0f} | {sample.p50:,.2f} | {sample.p99:,.2f} | {times} |"


def document(results: Sequence[Result], command: str) -> dict[str, object]:
    """All that was measured, for json.dump."""
    return {
        "machine": machine(),
        "command": command,
        "results": [
            {
                "workload": result.workload.name,
                "title": result.workload.title,
                "unit": result.workload.measure.value,
                "servers": {
                    name: {"rounds": [asdict(sample) for sample in samples], "median": asdict(result.middle(name)), "ratio": result.ratio(name)}
                    for name, samples in result.samples.items()
                },
                "leftOut": result.leftOut,
            }
            for result in results
        ],
    }


def chart(results: Sequence[Result]) -> str:
    """An SVG with a group of bars for each workload, each group on a scale of its own."""
    parts: list[str] = []
    top = 10
    for result in results:
        if not result.samples:
            continue
        better = "less" if result.workload.measure is Measure.MEMORY else "more"
        title = f"{result.workload.name}: {result.workload.title} ({result.workload.measure.value}, {better} is better)"
        parts.append(f'<text x="8" y="{top + 14}" font-weight="bold">{escape(title)}</text>')
        top += 22
        medians = {name: result.middle(name) for name in result.samples}
        scale = max(sample.value for sample in medians.values()) or 1.0
        for name, sample in medians.items():
            parts += _bar(name, sample, scale, top)
            top += _ROW
        top += 14
    style = f'font-family="sans-serif" font-size="12" fill="{_TEXT_COLOUR}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" viewBox="0 0 {_WIDTH} {top}" {style}>\n{body}\n</svg>\n'


def _bar(name: str, sample: Sample, scale: float, top: int) -> list[str]:
    width = max(1.0, sample.value / scale * _BAR)
    colour = _OURS_COLOUR if name == OURS else _PEER_COLOUR
    figure = f"{sample.value:,.1f}" if sample.value < 100 else f"{sample.value:,.0f}"
    return [
        f'<text x="{_LABEL - 6}" y="{top + 12}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{_LABEL}" y="{top}" width="{width:.1f}" height="{_ROW - 4}" fill="{colour}"/>',
        f'<text x="{_LABEL + width + 6:.1f}" y="{top + 12}">{figure}</text>',
    ]
