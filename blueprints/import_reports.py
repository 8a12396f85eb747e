"""What came of each line of a list, or would, in words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AdminJob, Mentorado
from provisioning.imports import LONGEST_REPORT, LineVerdict

FORESEEN = {
    LineVerdict.NEW: "Será pré-cadastrado",
    LineVerdict.TAKES_OVER: "Vai completar o perfil automático nº {mentorado_id}, ainda sem uso",
    LineVerdict.EXISTS: "Já existe: perfil nº {mentorado_id}",
    LineVerdict.REPEATED: "Repete o e-mail da linha {earlier}",
    LineVerdict.REFUSED: "O banco de dados recusou esta linha. Envie-a de novo.",
}
DONE = FORESEEN | {
    LineVerdict.NEW: "Pré-cadastrado: perfil nº {mentorado_id}",
    LineVerdict.TAKES_OVER: "Completou o perfil automático nº {mentorado_id}",
}


@dataclass(frozen=True, slots=True)
class Report:
    """A line with what came of it; the profile's number where there is one to look at."""

    line: int
    name: str
    email: str | None
    words: str
    is_good: bool
    mentorado_id: int | None


def count_good(counts: Mapping[str, int]) -> int:
    """How many lines were registered, or would be."""
    return sum(number for verdict, number in counts.items() if LineVerdict(verdict).is_good)


def previewed(results: Iterable[Mapping[str, Any]]) -> list[Report]:
    """What would come of each line; the results have its name and address."""
    return _in_order(
        _report(result, FORESEEN, result["name"], result["email"]) for result in results
    )


def imported(session: Session, job: AdminJob) -> list[Report]:
    """What came of the lines that a job has kept, with what their profiles say by now."""
    ids = [result["mentorado_id"] for result in job.results if "mentorado_id" in result]
    profiles = select(Mentorado.id, Mentorado.nome_completo, Mentorado.email)
    rows = session.execute(profiles.where(Mentorado.id.in_(ids))) if ids else ()
    people = {row.id: (row.nome_completo, row.email) for row in rows}
    return _in_order(
        _report(result, DONE, *people.get(result.get("mentorado_id"), ("—", None)))
        for result in job.results
    )


def _in_order(reports: Iterable[Report]) -> list[Report]:
    """What needs a look comes first; of a long list the rest is only counted."""
    found: Sequence[Report] = sorted(reports, key=lambda report: report.is_good)
    return list(found[:LONGEST_REPORT])


def _report(
    result: Mapping[str, Any], words: Mapping[LineVerdict, str], name: str, email: str | None
) -> Report:
    verdict, mentorado_id = LineVerdict(result["verdict"]), result.get("mentorado_id")
    if verdict is LineVerdict.FAULTY:
        told = "; ".join(result.get("faults", ()))
    else:
        told = words[verdict].format(mentorado_id=mentorado_id, earlier=result.get("earlier"))
    return Report(result["line"], name, email, told, verdict.is_good, mentorado_id)
