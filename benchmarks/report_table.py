"""How a figure is told: beside its yardstick of the same run, with its spread and its target."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table. `ratios` are those of the repetitions, each with a yardstick of its
    own; `wrong` counts answers and rows that must not be.
    """

    work: str
    ours: str
    yardstick: str
    ratios: Sequence[float]
    target: str = ""
    is_met: bool = True
    wrong: int = 0

    @property
    def ratio(self) -> float:
        """The median of the repetitions."""
        return statistics.median(self.ratios)


def at_least(target: float, figure: Figure) -> Figure:
    """The figure, whose ratio is to be as large as the target or larger."""
    return replace(figure, target=f"≥ {target}", is_met=figure.ratio >= target)


def at_most(target: float, figure: Figure) -> Figure:
    """The figure, whose ratio is to be as small as the target or smaller."""
    return replace(figure, target=f"≤ {target}", is_met=figure.ratio <= target)


def told(figures: Sequence[Figure]) -> str:
    """The table in Markdown, as docs/performance.md shows it."""
    head = "| work | ours | yardstick | ratio (lowest to highest) | to reach | wrong |"
    return "\n".join([head, "|---|---|---|---|---|---|", *map(_line, figures)])


def keep(figures: Sequence[Figure], path: Path) -> None:
    """Write them as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(figure) | {"ratio": figure.ratio} for figure in figures]
    path.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


def _line(figure: Figure) -> str:
    spread = f"{figure.ratio:.2f} ({min(figure.ratios):.2f} to {max(figure.ratios):.2f})"
    target = f"{figure.target} {'' if figure.is_met else '**missed**'}".strip()
    cells = (figure.work, figure.ours, figure.yardstick, spread, target, str(figure.wrong))
    return f"| {' | '.join(cells)} |"
