"""Rows of the results table: a measured value, its baseline of the same run, spread and target."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table.

    `ratios` has one ratio to the baseline for each repetition. `wrong` counts wrong answers and
    rows.
    """

    work: str
    measured: str
    baseline: str
    ratios: Sequence[float]
    target: str = ""
    is_met: bool = True
    wrong: int = 0

    @property
    def ratio(self) -> float:
        """Return the median ratio of the repetitions."""
        return statistics.median(self.ratios)


def at_least(target: float, figure: Figure) -> Figure:
    """Return the figure with a lower bound of its ratio as target."""
    return replace(figure, target=f"≥ {target}", is_met=figure.ratio >= target)


def at_most(target: float, figure: Figure) -> Figure:
    """Return the figure with an upper bound of its ratio as target."""
    return replace(figure, target=f"≤ {target}", is_met=figure.ratio <= target)


def markdown_table(figures: Sequence[Figure]) -> str:
    """Return the table in Markdown, in the form of docs/performance.md."""
    head = "| work | ours | yardstick | ratio (lowest to highest) | to reach | wrong |"
    return "\n".join([head, "|---|---|---|---|---|---|", *map(_line, figures)])


def write_json(figures: Sequence[Figure], path: Path) -> None:
    """Write the figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(figure) | {"ratio": figure.ratio} for figure in figures]
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def _line(figure: Figure) -> str:
    spread = f"{figure.ratio:.2f} ({min(figure.ratios):.2f} to {max(figure.ratios):.2f})"
    target = f"{figure.target} {'' if figure.is_met else '**missed**'}".strip()
    cells = (figure.work, figure.measured, figure.baseline, spread, target, str(figure.wrong))
    return f"| {' | '.join(cells)} |"
