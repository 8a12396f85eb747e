"""How long does it take to take over a large installation, and with how much memory?

First a thousand people, then 100 000, of whom 5 % have two profiles with months of their own; the
rehearsal and the real thing, each in a process of its own.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sqlalchemy import text

from dev import postgres
from dev.databases import connect_to
from dev.legacy_installations import install
from dev.servers import PROJECT, child_environment

SIZES = (1_000, 100_000)
FILL = (
    """INSERT INTO users (clerk_id, name, email)
       SELECT 'user_' || i, 'Pessoa ' || i, 'p' || i || '@example.com'
         FROM generate_series(1, {n}) AS i""",
    """INSERT INTO mentorados (user_id, nome_completo, email, turma)
       SELECT id, name, email, turma 'neon' FROM users
       UNION ALL SELECT id, name, email, turma 'neon' FROM users WHERE id % 20 = 0""",
    """INSERT INTO metricas_mensais (mentorado_id, ano, mes, faturamento)
       SELECT id, 2026, mes, id FROM mentorados, generate_series(1, 3) AS mes""",
    """INSERT INTO interacoes (mentorado_id, tipo)
       SELECT id, tipo_interacao 'nota' FROM mentorados""",
    "ANALYZE",
)


def main() -> int:
    """Measure and print; exit code 1 when a row was lost or the reports differ."""
    results = [_take_over(people) for people in SIZES]
    is_good = all(results)
    print("nothing was lost" if is_good else "FAILED")
    return 0 if is_good else 1


def _take_over(people: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        url = postgres.start(Path(folder))
        install(url, data=False)
        with connect_to(url) as connection:
            for statement in FILL:
                connection.execute(text(statement.format(n=people)))
        before, after = (_adopt(url, Path(folder), *options) for options in (("--dry-run",), ()))
        postgres.leave(Path(folder))
    profiles = people + people // 20
    whole = {"users": people, "mentorados": profiles, "metricas_mensais": profiles * 3}
    return before == after and whole.items() <= after["rows"].items()


def _adopt(url: str, folder: Path, *options: str) -> dict[str, Any]:
    settings = {"DATABASE_URL": url, "INSTANCE_PATH": str(folder / "instance")}
    command = [sys.executable, "-m", "flask", "adopt", "--json", *options]
    started = time.perf_counter()
    done = subprocess.run(  # nosec B603 # our own words, no shell
        command, cwd=PROJECT, env=child_environment(settings), check=True, capture_output=True
    )
    seconds = time.perf_counter() - started
    report: dict[str, Any] = json.loads(done.stdout)
    kind = "rehearsal" if options else "take-over"
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    found = len(report["decisions"])
    people = report["rows"]["users"]
    print(f"{kind}: {people} people, {found} duplicates: {seconds:.1f} s, {most:.0f} MB at most")
    return report


if __name__ == "__main__":
    sys.exit(main())
