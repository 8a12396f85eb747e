"""Measure the time and memory of taking over a large installation.

First with 1 000 users, then with 100 000, of whom 5 % have two profiles with months. The dry run
and the real run each have a process of their own.
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

from benchmarks.databases import connect_to
from benchmarks.servers import PROJECT, child_environment
from dev import postgres

SIZES = (1_000, 100_000)
SCHEMA = PROJECT / "tests" / "legacy" / "schema.sql"  # of the other program
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
    """Measure and print; exit code 1 if a row was lost or the reports differ."""
    results = [_take_over(users) for users in SIZES]
    is_good = all(results)
    print("nothing was lost" if is_good else "FAILED")
    return 0 if is_good else 1


def _take_over(users: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        url = postgres.start(Path(folder))
        with connect_to(url) as connection:
            connection.exec_driver_sql(SCHEMA.read_text())
            for statement in FILL:
                connection.execute(text(statement.format(n=users)))
        before, after = (_adopt(url, Path(folder), *options) for options in (("--dry-run",), ()))
        postgres.release(Path(folder))
    profiles = users + users // 20
    expected = {"users": users, "mentorados": profiles, "metricas_mensais": profiles * 3}
    return before == after and expected.items() <= after["rows"].items()


def _adopt(url: str, folder: Path, *options: str) -> dict[str, Any]:
    settings = {"DATABASE_URL": url, "INSTANCE_PATH": str(folder / "instance")}
    command = [sys.executable, "-m", "flask", "adopt", "--json", *options]
    started = time.perf_counter()
    process = subprocess.run(  # nosec B603 # fixed arguments, no shell
        command, cwd=PROJECT, env=child_environment(settings), check=True, capture_output=True
    )
    seconds = time.perf_counter() - started
    report: dict[str, Any] = json.loads(process.stdout)
    kind = "dry run" if options else "take-over"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    duplicates = len(report["decisions"])
    users = report["rows"]["users"]
    print(f"{kind}: {users} users, {duplicates} duplicates: {seconds:.1f} s, {peak:.0f} MB at most")
    return report


if __name__ == "__main__":
    sys.exit(main())
