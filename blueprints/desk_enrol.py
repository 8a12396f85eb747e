"""The support desk's pre-registration, of one mentee or of a list, shown before it is done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from blueprints.acting import admins_entry, make_known
from blueprints.bodies import Because, checked
from blueprints.csv_lists import Line, decoded, read_list, written_list
from blueprints.errors import Errors, InvalidInputError
from blueprints.stance import admin_required
from extensions import background_transaction
from house import house
from provisioning.enrolling import Enrolled, Verdict, enrol

desk_enrol = Blueprint("desk_enrol", __name__, url_prefix="/admin/mentorados/novos")

LARGEST_LIST_BYTES = 4 * 1024 * 1024
CONFIRMED = "confirmado"
FORESEEN = {
    Verdict.NEW: "Será pré-cadastrado",
    Verdict.TAKES_OVER: "Vai completar o perfil automático nº {}, ainda sem uso",
    Verdict.EXISTS: "Já existe: perfil nº {}",
    Verdict.REPEATED: "Repete o e-mail da linha {}",
}
DONE = FORESEEN | {
    Verdict.NEW: "Pré-cadastrado: perfil nº {}",
    Verdict.TAKES_OVER: "Completou o perfil automático nº {}",
}
GOOD = (Verdict.NEW, Verdict.TAKES_OVER)
LONGEST_REPORT = 500
EMPTY = "Escolha um arquivo, ou escreva um nome."


@dataclass(frozen=True, slots=True)
class Report:
    """A line with what comes of it, in words."""

    line: Line
    is_good: bool
    words: str


@desk_enrol.get("")
@admin_required
def ask() -> ResponseReturnValue:
    """One mentee, or a file with many."""
    return render_template("desk_enrol.html", errors=())


@desk_enrol.post("")
@admin_required
def act() -> ResponseReturnValue:
    """Report line by line what would be done; confirmed, do it."""
    request.max_content_length = request.max_form_memory_size = LARGEST_LIST_BYTES
    try:
        content = _content()
        lines = read_list(content)
        reason = checked(Because, {"reason": request.form.get("reason", "")}).reason
    except InvalidInputError as err:
        return _again(err.errors)
    is_done = CONFIRMED in request.form
    verdicts = _enrol([line.values for line in lines if line.values], reason, for_good=is_done)
    reports = _reports(lines, verdicts, DONE if is_done else FORESEEN)
    if is_done:
        make_known("pre_register", [v.clerk_id for v in verdicts if v.clerk_id])
    return render_template(
        "desk_enrol_report.html",
        is_done=is_done,
        good=sum(report.is_good for report in reports),
        total=len(reports),
        # What needs a look comes first; of a long list the rest is only counted.
        reports=sorted(reports, key=lambda report: report.is_good)[:LONGEST_REPORT],
        content=content,
        reason=reason,
    )


def _content() -> str:
    """The file, the list that was shown, or the one name and address of the form."""
    file = request.files.get("arquivo")
    content = decoded(file.read()) if file else request.form.get("lista", "")
    name, email = (request.form.get(field, "").strip() for field in ("nome", "email"))
    if not content.strip() and name:
        return written_list([("nome", "e-mail"), (name, email)])
    if not content.strip():
        raise InvalidInputError([{"field": "nome", "message": EMPTY}])
    return content


def _enrol(values: list[dict[str, Any]], reason: str | None, *, for_good: bool) -> list[Enrolled]:
    """Do it; a rehearsal does it as well and takes it back, so that it cannot differ."""
    with background_transaction() as session, session.begin_nested() as savepoint:
        verdicts = enrol(session, values, entry=admins_entry(reason), now=house().now())
        if not for_good:
            savepoint.rollback()
    return verdicts


def _reports(
    lines: list[Line], verdicts: list[Enrolled], words: Mapping[Verdict, str]
) -> list[Report]:
    """Verdicts come for the lines without fault, in their order."""
    sound = [line for line in lines if line.values is not None]
    found = {line.number: verdict for line, verdict in zip(sound, verdicts, strict=True)}
    reports = []
    for line in lines:
        verdict = found.get(line.number)
        if verdict is None:
            reports.append(Report(line, is_good=False, words="; ".join(line.faults)))
            continue
        earlier = sound[verdict.earlier].number if verdict.earlier is not None else None
        told = words[verdict.verdict].format(earlier or verdict.mentorado_id)
        reports.append(Report(line, verdict.verdict in GOOD, told))
    return reports


def _again(errors: Errors) -> ResponseReturnValue:
    return render_template("desk_enrol.html", errors=errors), 422
