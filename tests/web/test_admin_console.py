"""The support desk: who may in, what it shows, and that a change is done as it was shown."""

import html
import re
import uuid

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, MetricaMensal, ProvisioningAttempt, SweepRun, User
from models.columns import SimNao
from models.mentorado import Turma
from models.user import Role
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, CHARLIE, NOW
from web.services import Services

OURS = {"Origin": "http://localhost"}
HIDDEN = re.compile(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"')
NOBODY = 2_147_483_647


@pytest.fixture
def bob(session: Session) -> User:
    """Bob, whom the background has given up on."""
    user = User(clerk_id=BOB.clerk_id, name=BOB.name, email=BOB.email, email_verified=True)
    session.add(user)
    session.add(
        ProvisioningAttempt(
            clerk_id=BOB.clerk_id,
            state="dead",
            attempts=8,
            next_attempt_at=NOW,
            error_class="IntegrityError",
            error_code="23514",
            request_id="req-of-bob",
            first_failed_at=NOW,
            last_failed_at=NOW,
        )
    )
    session.commit()
    return user


def waiting_profile(session: Session, **facts: object) -> Mentorado:
    values = {"nome_completo": "Bob (lista)", "email": BOB.email, "turma": Turma.NEON, **facts}
    profile = Mentorado(**values)
    session.add(profile)
    session.commit()
    return profile


def page_of(client: FlaskClient, path: str) -> str:
    return html.unescape(client.get(path).get_data(as_text=True))


def filled_in(rule: str) -> str:
    """An address that fits the rule."""
    places = {r"<any\([^>]*>": "pessoa", r"<int[^>]*>": "1", r"<uuid[^>]*>": str(uuid.uuid4())}
    for place, value in places.items():
        rule = re.sub(place, value, rule)
    return rule


def doors(app: Flask) -> list[tuple[str, str]]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/admin")]
    return [
        (method, filled_in(rule.rule))
        for rule in rules
        for method in ("GET", "POST")
        if method in (rule.methods or ())
    ]


def confirm(client: FlaskClient, path: str, **more: str) -> int:
    """Look at what would change, then confirm it; returns the status."""
    shown = client.post(path, data=more, headers=OURS).get_data(as_text=True)
    hidden = dict(HIDDEN.findall(html.unescape(shown)))
    return client.post(path, data={**hidden, "reason": "Pedido"}, headers=OURS).status_code


def test_desk_is_closed_to_everybody_else(
    app: Flask, client: FlaskClient, alice: Mentorado, browser_of: Browser
) -> None:
    mentee = browser_of(ALICE)

    for method, path in doors(app):
        anonymous = client.open(path, method=method)
        assert anonymous.status_code == (302 if method == "GET" else 401), path
        assert mentee.open(path, method=method, headers=OURS).status_code == 403, path


def test_revoked_admin_is_out_at_once(desk: FlaskClient, app: Flask, session: Session) -> None:
    assert desk.get("/admin").status_code == 200

    user = session.scalars(select(User)).one()
    user.role = Role.USER
    session.commit()
    app.extensions["services"].provisioning.contexts.publish([CHARLIE.clerk_id])

    assert desk.get("/admin").status_code == 403


def test_nothing_is_changed_by_looking(
    desk: FlaskClient, app: Flask, alice: Mentorado, bob: User, session: Session
) -> None:
    for key in ("bloquear", "liberar", "descartar"):
        desk.get(f"/admin/pessoa/{bob.id}/{key}")
    for key in ("desvincular", "desativar", "excluir"):
        desk.get(f"/admin/mentorado/{alice.id}/{key}")

    assert session.scalars(select(AuditEvent)).all() == []
    assert session.get(Mentorado, alice.id) is not None


def test_overview_counts_who_fails_and_why(desk: FlaskClient, bob: User) -> None:
    page = page_of(desk, "/admin")

    assert "IntegrityError 23514" not in page  # it failed longer than a day ago
    assert re.search(r"Sem perfil agora</h2><p>1</p><small>a mais antiga há \d+ dias", page)
    assert re.search(r"Precisam de atenção</h2><p><a [^>]*>1<", page)


def test_overview_of_nobody_divides_by_nothing(desk: FlaskClient) -> None:
    page = page_of(desk, "/admin")

    assert page.count("<p>n/d</p>") == 2
    assert "Sem perfil agora</h2><p>0</p><small>ninguém esperando" in page


def test_whoever_was_helped_meanwhile_waits_no_longer(
    desk: FlaskClient, bob: User, session: Session
) -> None:
    session.add(Mentorado(user_id=bob.id, nome_completo="Bob", turma=Turma.NEON))
    session.commit()

    assert "Sem perfil agora</h2><p>0</p>" in page_of(desk, "/admin")


@pytest.mark.parametrize("wanted", ["bob l", "BOB@example.com", "user_bob", "req-of-bob"])
def test_person_is_found_by_what_support_is_told(desk: FlaskClient, bob: User, wanted: str) -> None:
    page = page_of(desk, f"/admin/pessoas?q={wanted}")

    assert f'<a href="/admin/pessoas/{bob.id}">Bob Lima</a>' in page


def test_person_is_found_by_the_code_of_any_page_that_refused_them(
    desk: FlaskClient, alice: Mentorado, browser_of: Browser, session: Session
) -> None:
    alice.ativo = SimNao.NAO
    session.commit()
    refused = browser_of(ALICE).get("/dashboard")

    page = page_of(desk, f"/admin/pessoas?q={refused.headers['X-Request-ID']}")

    assert refused.status_code == 403
    assert "Alice Prado" in page


def test_nobody_hides_behind_a_code_that_is_somebody_else_s_name(
    desk: FlaskClient, alice: Mentorado, bob: User, browser_of: Browser
) -> None:
    browser_of(BOB).get("/api/mentorados/1", headers={"X-Request-ID": "Alice"})

    page = page_of(desk, "/admin/pessoas?q=Alice")

    assert ("Alice Prado" in page, "Bob Lima" in page) == (True, True)


def test_person_is_shown_with_reason_forecast_and_history(
    desk: FlaskClient, bob: User, session: Session
) -> None:
    session.add(
        AuditEvent(
            event="admin_action",
            entry="admin",
            user_id=bob.id,
            actor_id=1,
            details={"action": "block", "reason": "Por engano"},
        )
    )
    session.commit()

    page = page_of(desk, f"/admin/pessoas/{bob.id}")

    assert "O sistema desistiu depois de 8 tentativas" in page
    assert "Ganharia um perfil novo." in page
    assert "Acesso bloqueado" in page
    assert "Motivo: Por engano" in page


@pytest.mark.parametrize(
    ("count", "forecast"),
    [(1, "Receberia o pré-cadastro nº"), (2, "Há mais de um pré-cadastro com este e-mail")],
)
def test_forecast_is_that_of_the_very_same_rules(
    desk: FlaskClient, bob: User, session: Session, count: int, forecast: str
) -> None:
    for _ in range(count):
        waiting_profile(session)

    assert forecast in page_of(desk, f"/admin/pessoas/{bob.id}")


def test_retry_helps_at_once(desk: FlaskClient, bob: User, session: Session) -> None:
    answer = desk.post(f"/admin/pessoas/{bob.id}/tentar", headers=OURS)

    assert answer.location == f"/admin/pessoas/{bob.id}"
    assert "O perfil está pronto." in page_of(desk, answer.location)
    assert session.scalars(select(Mentorado.user_id)).all() == [bob.id]


@pytest.mark.parametrize(("key", "action"), [("bloquear", "block"), ("descartar", "discard")])
def test_change_of_a_person_is_done_once_with_its_reason(
    desk: FlaskClient, bob: User, session: Session, key: str, action: str
) -> None:
    path = f"/admin/pessoa/{bob.id}/{key}"

    statuses = [confirm(desk, path), desk.get(path).status_code]

    [event] = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    assert statuses == [303, 200]
    assert event.details is not None
    assert (event.details["action"], event.details["reason"]) == (action, "Pedido")


def test_second_click_does_nothing_twice(desk: FlaskClient, bob: User, session: Session) -> None:
    path = f"/admin/pessoa/{bob.id}/bloquear"
    hidden = dict(HIDDEN.findall(page_of(desk, path)))

    statuses = [desk.post(path, data=hidden, headers=OURS).status_code for _ in range(2)]

    events = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action")).all()
    assert (statuses, len(events)) == ([303, 303], 1)


def test_second_click_on_a_merge_counts_as_done(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    path = f"/admin/mentorado/{waiting_profile(session, email=None).id}/unir"
    told = {"destino": str(alice.id)}
    shown = html.unescape(desk.post(path, data=told, headers=OURS).get_data(as_text=True))
    hidden = dict(HIDDEN.findall(shown))

    statuses = [desk.post(path, data=hidden, headers=OURS).status_code for _ in range(2)]

    assert statuses == [303, 303]


def test_change_that_is_no_longer_what_was_shown_is_shown_again(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    path = f"/admin/mentorado/{alice.id}/desativar"
    hidden = dict(HIDDEN.findall(page_of(desk, path)))
    alice.meta_leads = 99
    session.commit()

    answer = desk.post(path, data=hidden, headers=OURS)

    session.refresh(alice)
    assert (answer.status_code, alice.ativo) == (409, SimNao.SIM)
    assert "Algo mudou desde que você viu esta página." in answer.get_data(as_text=True)


def test_profile_is_deactivated_and_its_mentee_sees_it_at_once(
    desk: FlaskClient, alice: Mentorado, browser_of: Browser
) -> None:
    mentee = browser_of(ALICE)
    statuses = [mentee.get("/dashboard").status_code]

    for key in ("desativar", "reativar"):
        confirm(desk, f"/admin/mentorado/{alice.id}/{key}")
        statuses.append(mentee.get("/dashboard").status_code)

    assert statuses == [200, 403, 200]


def test_ambiguity_is_resolved_by_choosing(
    desk: FlaskClient, bob: User, session: Session, browser_of: Browser
) -> None:
    chosen, other = waiting_profile(session), waiting_profile(session)
    bobs = browser_of(BOB)
    bobs.get("/dashboard")

    status = confirm(desk, f"/admin/mentorado/{chosen.id}/vincular", pessoa=str(bob.id))

    assert status == 303
    assert (bobs.get("/api/mentorados/me").json or {})["id"] == chosen.id
    assert other.user_id is None


def test_merge_shows_the_month_that_clashes_and_keeps_what_was_preferred(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    old = waiting_profile(session, email=None)
    for owner, revenue in ((old, 111), (alice, 222)):
        session.add(MetricaMensal(mentorado_id=owner.id, ano=2026, mes=1, faturamento=revenue))
    session.commit()
    told = {"destino": str(alice.id), "prefere": "from"}
    path, number = f"/admin/mentorado/{old.id}/unir", old.id

    shown = html.unescape(desk.post(path, data=told, headers=OURS).get_data(as_text=True))
    status = confirm(desk, path, **told)

    session.expire_all()
    assert "vai para o arquivo ano 2026, mes 1, faturamento 222" in shown
    assert f"Perfil nº {number}" in shown
    assert status == 303
    assert session.scalars(select(MetricaMensal.faturamento)).all() == [111]


def test_profile_is_corrected_field_by_field(
    desk: FlaskClient, alice: Mentorado, session: Session
) -> None:
    form = dict(
        re.findall(
            r'id="([a-z_]+)" name="[a-z_]+" value="([^"]*)"',
            page_of(desk, f"/admin/mentorado/{alice.id}/corrigir"),
        )
    )
    path = f"/admin/mentorado/{alice.id}/corrigir"

    status = confirm(desk, path, **{**form, "email": "", "meta_faturamento": "20.000"})

    session.refresh(alice)
    assert (status, alice.email, alice.meta_faturamento) == (303, None, 20_000)


@pytest.mark.parametrize(
    ("key", "told", "message"),
    [
        ("corrigir", {"nome_completo": " "}, "Informe um nome"),
        ("unir", {"destino": "abc"}, "Informe um número inteiro"),
        ("unir", {}, "Campo obrigatório"),
        ("unir", {"destino": "SELF"}, "Um perfil não pode ser unido a si mesmo."),
    ],
)
def test_what_does_not_fit_is_asked_for_again(
    desk: FlaskClient, alice: Mentorado, key: str, told: dict[str, str], message: str
) -> None:
    told = {name: value.replace("SELF", str(alice.id)) for name, value in told.items()}

    answer = desk.post(f"/admin/mentorado/{alice.id}/{key}", data=told, headers=OURS)

    assert answer.status_code == 422
    assert message in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    "path",
    [
        f"/admin/pessoas/{NOBODY}",
        f"/admin/mentorados/{NOBODY}",
        f"/admin/varreduras/{NOBODY}",
        f"/admin/pessoa/{NOBODY}/bloquear",
        f"/admin/mentorado/{NOBODY}/desativar",
        "/admin/pessoa/1/dançar",
        "/admin/outro/1/bloquear",
    ],
)
def test_what_is_not_there_is_not_found(desk: FlaskClient, path: str) -> None:
    assert desk.get(path).status_code == 404


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ativos", {"Alice Prado", "Espera"}),
        ("inativos", {"Fora"}),
        ("esperando", {"Fora", "Espera"}),
        ("x", {"Alice Prado", "Espera", "Fora"}),
    ],
)
def test_mentees_are_listed_by_kind(
    desk: FlaskClient, alice: Mentorado, session: Session, kind: str, expected: set[str]
) -> None:
    waiting_profile(session, nome_completo="Espera")
    waiting_profile(session, nome_completo="Fora", ativo=SimNao.NAO)

    page = page_of(desk, f"/admin/mentorados?tipo={kind}")

    assert set(re.findall(r'<a href="/admin/mentorados/\d+">([^<]+)</a>', page)) == expected


def test_deleted_profile_blocks_its_owner(
    desk: FlaskClient, alice: Mentorado, browser_of: Browser
) -> None:
    assert "deixa de existir" in page_of(desk, f"/admin/mentorado/{alice.id}/excluir")

    confirm(desk, f"/admin/mentorado/{alice.id}/excluir")

    assert browser_of(ALICE).get("/dashboard").status_code == 403


def test_dashboard_of_anybody_is_shown(desk: FlaskClient, alice: Mentorado) -> None:
    page = page_of(desk, f"/admin/mentorados/{alice.id}")

    assert "<h1>Alice Prado</h1>" in page


def test_switch_is_turned_after_a_look(desk: FlaskClient, browser_of: Browser) -> None:
    assert "Desligar" in page_of(desk, "/admin/criacao-automatica")

    desk.post("/admin/criacao-automatica", data={"ligar": "nao"}, headers=OURS)

    assert browser_of(BOB).get("/dashboard").status_code == 403
    assert "Ligar" in page_of(desk, "/admin/criacao-automatica")


@pytest.mark.parametrize("form", [{}, {"ligar": ""}, {"ligar": "\x00"}])
def test_form_without_its_answer_turns_nothing(
    desk: FlaskClient, browser_of: Browser, form: dict[str, str]
) -> None:
    answer = desk.post("/admin/criacao-automatica", data=form, headers=OURS)

    assert answer.status_code == 422
    assert browser_of(BOB).get("/dashboard").status_code == 200


def test_sweep_is_started_once(desk: FlaskClient, session: Session) -> None:
    first = desk.post("/admin/varreduras", headers=OURS)
    second = desk.post("/admin/varreduras", data={"ensaio": "sim"}, headers=OURS)

    [run] = session.scalars(select(SweepRun))
    assert first.location == second.location == f"/admin/varreduras/{run.id}"
    assert "Já há uma varredura" in page_of(desk, second.location)
    assert f"nº {run.id}" in page_of(desk, "/admin/varreduras")


def test_admin_at_the_dashboard_is_shown_the_way_to_the_desk(desk: FlaskClient) -> None:
    assert 'href="/admin"' in page_of(desk, "/dashboard")


def test_overview_shows_at_once_what_an_admin_has_changed(
    desk: FlaskClient,
    admin: dict[str, str],
    services: Services,
    bob: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services.backlog, "clock", lambda: 0.0)
    before = page_of(desk, "/admin")
    services.backlog._valid_until = 60.0  # as if counting had taken a second

    desk.post(f"/api/admin/users/{bob.id}/block", headers=admin)

    assert "Sem perfil agora</h2><p>1</p>" in before
    assert "Sem perfil agora</h2><p>0</p>" in page_of(desk, "/admin")
