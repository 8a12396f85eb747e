"""The admin console: access, contents of the pages, and changes that are done as previewed."""

import html
import re
import uuid

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session
from structlog.testing import capture_logs

from models import AuditEvent, Mentorado, MetricaMensal, SweepRun, User
from models.people import Role, SimNao, Turma
from tests.support.html_page import SAME_ORIGIN, hidden_fields, page_of
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, CHARLIE, failed_attempt
from web.services import Services

UNKNOWN_ID = 2_147_483_647


@pytest.fixture
def bob(session: Session) -> User:
    """Bob, whose ensure calls have failed until the dead letter."""
    user = User(clerk_id=BOB.clerk_id, name=BOB.name, email=BOB.email, email_verified=True)
    session.add(user)
    session.add(failed_attempt(BOB.clerk_id, error_code="23514", request_id="req-of-bob"))
    session.commit()
    return user


def add_unlinked_profile(session: Session, **columns: object) -> Mentorado:
    values = {"nome_completo": "Bob (lista)", "email": BOB.email, "turma": Turma.NEON, **columns}
    profile = Mentorado(**values)
    session.add(profile)
    session.commit()
    return profile


def path_for(rule: str) -> str:
    """A path that fits the URL rule."""
    values = {r"<any\([^>]*>": "pessoa", r"<int[^>]*>": "1", r"<uuid[^>]*>": str(uuid.uuid4())}
    for pattern, value in values.items():
        rule = re.sub(pattern, value, rule)
    return rule


def console_routes(app: Flask) -> list[tuple[str, str]]:
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/admin")]
    return [
        (method, path_for(rule.rule))
        for rule in rules
        for method in ("GET", "POST")
        if method in (rule.methods or ())
    ]


def confirm(client: FlaskClient, path: str, **form: str) -> int:
    """Preview a change and confirm it; return the status."""
    preview = client.post(path, data=form, headers=SAME_ORIGIN).get_data(as_text=True)
    sent = {**form, **hidden_fields(html.unescape(preview)), "reason": "Pedido"}
    return client.post(path, data=sent, headers=SAME_ORIGIN).status_code


def test_console_is_forbidden_for_mentees_and_anonymous_requests(
    app: Flask, client: FlaskClient, alice: Mentorado, browser_of: Browser
) -> None:
    mentee = browser_of(ALICE)

    for method, path in console_routes(app):
        anonymous = client.open(path, method=method)
        assert anonymous.status_code == (302 if method == "GET" else 401), path
        assert mentee.open(path, method=method, headers=SAME_ORIGIN).status_code == 403, path


def test_revoked_admin_has_no_access_at_the_next_request(
    console: FlaskClient, app: Flask, session: Session
) -> None:
    assert console.get("/admin").status_code == 200

    user = session.scalars(select(User)).one()
    user.role = Role.USER
    session.commit()
    app.extensions["services"].provisioning.contexts.publish([CHARLIE.clerk_id])

    assert console.get("/admin").status_code == 403


def test_get_request_changes_nothing(
    console: FlaskClient, app: Flask, alice: Mentorado, bob: User, session: Session
) -> None:
    for key in ("bloquear", "liberar", "descartar"):
        console.get(f"/admin/pessoa/{bob.id}/{key}")
    for key in ("desvincular", "desativar", "excluir"):
        console.get(f"/admin/mentorado/{alice.id}/{key}")

    assert session.scalars(select(AuditEvent)).all() == []
    assert session.get(Mentorado, alice.id) is not None


def test_overview_counts_users_without_profile(console: FlaskClient, bob: User) -> None:
    page = page_of(console, "/admin/sistema")

    assert "IntegrityError 23514" not in page  # it failed longer than a day ago
    assert re.search(
        r"Sem perfil agora</h2><p><a [^>]*>1</a></p><small>a mais antiga há \d+ dias", page
    )
    assert re.search(r"Precisam de atenção</h2><p><a [^>]*>1<", page)


def test_overview_without_users_has_no_percentages(console: FlaskClient) -> None:
    page = page_of(console, "/admin/sistema")

    assert page.count("<p>n/d</p>") == 2
    assert "Sem perfil agora</h2><p>0</p><small>ninguém esperando" in page


def test_user_with_a_profile_is_not_counted_as_missing(
    console: FlaskClient, bob: User, session: Session
) -> None:
    session.add(Mentorado(user_id=bob.id, nome_completo="Bob", turma=Turma.NEON))
    session.commit()

    assert "Sem perfil agora</h2><p>0</p>" in page_of(console, "/admin/sistema")


@pytest.mark.parametrize("query", ["lima bob", "BOB@example.com", "user_bob", "req-of-bob"])
def test_user_is_found_by_name_address_id_and_reference_code(
    console: FlaskClient, bob: User, query: str
) -> None:
    page = page_of(console, f"/admin/pessoas?q={query}")

    assert f'<a href="/admin/pessoas/{bob.id}">Bob Lima</a>' in page


def test_user_is_found_by_the_reference_code_of_an_error_page(
    console: FlaskClient, alice: Mentorado, browser_of: Browser, session: Session
) -> None:
    alice.ativo = SimNao.NAO
    session.commit()
    error_page = browser_of(ALICE).get("/dashboard")

    page = page_of(console, f"/admin/pessoas?q={error_page.headers['X-Request-ID']}")

    assert error_page.status_code == 403
    assert "Alice Prado" in page


def test_reference_code_that_equals_a_name_hides_no_user(
    console: FlaskClient, alice: Mentorado, bob: User, browser_of: Browser
) -> None:
    browser_of(BOB).get("/api/mentorados/1", headers={"X-Request-ID": "Alice"})

    page = page_of(console, "/admin/pessoas?q=Alice")

    assert ("Alice Prado" in page, "Bob Lima" in page) == (True, True)


def test_user_page_shows_reason_decision_and_history(
    console: FlaskClient, bob: User, session: Session
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

    page = page_of(console, f"/admin/pessoas/{bob.id}")

    assert "O sistema desistiu depois de 8 tentativas" in page
    assert "Ganharia um perfil novo." in page
    assert "Acesso bloqueado" in page
    assert "Motivo: Por engano" in page


@pytest.mark.parametrize(
    ("count", "decision"),
    [(1, "Receberia o pré-cadastro nº"), (2, "Há mais de um pré-cadastro com este e-mail")],
)
def test_previewed_decision_follows_the_linking_rules(
    console: FlaskClient, bob: User, session: Session, count: int, decision: str
) -> None:
    for _ in range(count):
        add_unlinked_profile(session)

    assert decision in page_of(console, f"/admin/pessoas/{bob.id}")


def test_retry_creates_the_profile_at_once(
    console: FlaskClient, bob: User, session: Session
) -> None:
    response = console.post(f"/admin/pessoas/{bob.id}/tentar", headers=SAME_ORIGIN)

    assert response.location == f"/admin/pessoas/{bob.id}"
    assert "O perfil está pronto." in page_of(console, response.location)
    assert session.scalars(select(Mentorado.user_id)).all() == [bob.id]


@pytest.mark.parametrize(("key", "action"), [("bloquear", "block"), ("descartar", "discard")])
def test_change_of_a_user_is_done_once_with_its_reason(
    console: FlaskClient, bob: User, session: Session, key: str, action: str
) -> None:
    path = f"/admin/pessoa/{bob.id}/{key}"

    with capture_logs() as logs:
        statuses = [confirm(console, path), console.get(path).status_code]

    [event] = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action"))
    logged = [line["action"] for line in logs if line["event"] == "admin_action"]
    assert (statuses, logged) == ([303, 200], [action])
    assert event.details is not None
    assert (event.details["action"], event.details["reason"]) == (action, "Pedido")


def test_change_submitted_twice_is_done_once(
    console: FlaskClient, bob: User, session: Session
) -> None:
    path = f"/admin/pessoa/{bob.id}/bloquear"
    hidden = hidden_fields(page_of(console, path))

    statuses = [console.post(path, data=hidden, headers=SAME_ORIGIN).status_code for _ in range(2)]

    events = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action")).all()
    assert (statuses, len(events)) == ([303, 303], 1)


def test_merge_submitted_twice_succeeds(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    path = f"/admin/mentorado/{add_unlinked_profile(session, email=None).id}/unir"
    form = {"destino": str(alice.id)}
    preview = html.unescape(
        console.post(path, data=form, headers=SAME_ORIGIN).get_data(as_text=True)
    )
    hidden = hidden_fields(preview)

    statuses = [console.post(path, data=hidden, headers=SAME_ORIGIN).status_code for _ in range(2)]

    assert statuses == [303, 303]


def test_change_with_another_digest_is_previewed_again(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    path = f"/admin/mentorado/{alice.id}/desativar"
    hidden = hidden_fields(page_of(console, path))
    alice.meta_leads = 99
    session.commit()

    response = console.post(path, data=hidden, headers=SAME_ORIGIN)

    session.refresh(alice)
    assert (response.status_code, alice.ativo) == (409, SimNao.SIM)
    assert "Algo mudou desde que você viu esta página." in response.get_data(as_text=True)


def test_deactivation_is_effective_at_the_next_request(
    console: FlaskClient, alice: Mentorado, browser_of: Browser
) -> None:
    mentee = browser_of(ALICE)
    statuses = [mentee.get("/dashboard").status_code]

    for key in ("desativar", "reativar"):
        confirm(console, f"/admin/mentorado/{alice.id}/{key}")
        statuses.append(mentee.get("/dashboard").status_code)

    assert statuses == [200, 403, 200]


def test_ambiguous_user_is_linked_to_the_chosen_profile(
    console: FlaskClient, bob: User, session: Session, browser_of: Browser
) -> None:
    chosen, other = add_unlinked_profile(session), add_unlinked_profile(session)
    bobs_browser = browser_of(BOB)
    bobs_browser.get("/dashboard")

    status = confirm(console, f"/admin/mentorado/{chosen.id}/vincular", pessoa=str(bob.id))

    assert status == 303
    assert (bobs_browser.get("/api/mentorados/me").json or {})["id"] == chosen.id
    assert other.user_id is None


def test_merge_shows_the_conflict_and_keeps_the_preferred_month(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    old = add_unlinked_profile(session, email=None)
    for owner, revenue in ((old, 111), (alice, 222)):
        session.add(MetricaMensal(mentorado_id=owner.id, ano=2026, mes=1, faturamento=revenue))
    session.commit()
    form = {"destino": str(alice.id), "prefere": "from"}
    path, number = f"/admin/mentorado/{old.id}/unir", old.id

    preview = html.unescape(
        console.post(path, data=form, headers=SAME_ORIGIN).get_data(as_text=True)
    )
    status = confirm(console, path, **form)

    session.expire_all()
    assert "vai para o arquivo janeiro de 2026, faturamento 222" in preview
    assert f"Bob (lista) (perfil nº {number})" in preview
    assert status == 303
    assert session.scalars(select(MetricaMensal.faturamento)).all() == [111]


def test_profile_is_edited_field_by_field(
    console: FlaskClient, alice: Mentorado, session: Session
) -> None:
    form = dict(
        re.findall(
            r'id="([a-z_]+)" name="[a-z_]+" value="([^"]*)"',
            page_of(console, f"/admin/mentorado/{alice.id}/corrigir"),
        )
    )
    path = f"/admin/mentorado/{alice.id}/corrigir"

    status = confirm(console, path, **{**form, "email": "", "meta_faturamento": "20.000"})

    session.refresh(alice)
    assert (status, alice.email, alice.meta_faturamento) == (303, None, 20_000)


@pytest.mark.parametrize(
    ("key", "form", "message"),
    [
        ("corrigir", {"nome_completo": " "}, "Informe um nome"),
        ("unir", {"destino": "abc"}, "Informe um número inteiro"),
        ("unir", {}, "Campo obrigatório"),
        ("unir", {"destino": "SELF"}, "Um perfil não pode ser unido a si mesmo."),
    ],
)
def test_invalid_form_is_shown_again_with_a_message(
    console: FlaskClient, alice: Mentorado, key: str, form: dict[str, str], message: str
) -> None:
    form = {name: value.replace("SELF", str(alice.id)) for name, value in form.items()}

    response = console.post(f"/admin/mentorado/{alice.id}/{key}", data=form, headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert message in response.get_data(as_text=True)


@pytest.mark.parametrize(
    "path",
    [
        f"/admin/pessoas/{UNKNOWN_ID}",
        f"/admin/mentorados/{UNKNOWN_ID}",
        f"/admin/varreduras/{UNKNOWN_ID}",
        f"/admin/pessoa/{UNKNOWN_ID}/bloquear",
        f"/admin/mentorado/{UNKNOWN_ID}/desativar",
        "/admin/pessoa/1/dançar",
        "/admin/outro/1/bloquear",
    ],
)
def test_unknown_page_is_not_found(console: FlaskClient, path: str) -> None:
    assert console.get(path).status_code == 404


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
    console: FlaskClient, alice: Mentorado, session: Session, kind: str, expected: set[str]
) -> None:
    add_unlinked_profile(session, nome_completo="Espera")
    add_unlinked_profile(session, nome_completo="Fora", ativo=SimNao.NAO)

    page = page_of(console, f"/admin/mentorados?tipo={kind}")

    assert set(re.findall(r'<a href="/admin/mentorados/\d+">([^<]+)</a>', page)) == expected


def test_deletion_of_a_profile_blocks_its_owner(
    console: FlaskClient, alice: Mentorado, browser_of: Browser
) -> None:
    assert "São apagados: 0 meses" in page_of(console, f"/admin/mentorado/{alice.id}/excluir")

    confirm(console, f"/admin/mentorado/{alice.id}/excluir", confirma_nome="Alice Prado")

    assert browser_of(ALICE).get("/dashboard").status_code == 403


def test_profile_page_shows_the_dashboard(console: FlaskClient, alice: Mentorado) -> None:
    page = page_of(console, f"/admin/mentorados/{alice.id}")

    assert "<h1>Alice Prado</h1>" in page


def test_auto_create_can_be_turned_off(console: FlaskClient, browser_of: Browser) -> None:
    assert "Desligar" in page_of(console, "/admin/criacao-automatica")

    console.post("/admin/criacao-automatica", data={"ligar": "nao"}, headers=SAME_ORIGIN)

    assert browser_of(BOB).get("/dashboard").status_code == 403
    assert "Ligar" in page_of(console, "/admin/criacao-automatica")


@pytest.mark.parametrize("form", [{}, {"ligar": ""}, {"ligar": "\x00"}])
def test_auto_create_form_without_value_changes_nothing(
    console: FlaskClient, browser_of: Browser, form: dict[str, str]
) -> None:
    response = console.post("/admin/criacao-automatica", data=form, headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert browser_of(BOB).get("/dashboard").status_code == 200


def test_second_sweep_request_shows_the_first_run(console: FlaskClient, session: Session) -> None:
    first = console.post("/admin/varreduras", headers=SAME_ORIGIN)
    second = console.post("/admin/varreduras", data={"ensaio": "sim"}, headers=SAME_ORIGIN)

    [run] = session.scalars(select(SweepRun))
    assert first.location == second.location == f"/admin/varreduras/{run.id}"
    assert "Já há uma varredura" in page_of(console, second.location)
    assert f"nº {run.id}" in page_of(console, "/admin/varreduras")


def test_dashboard_of_an_admin_links_to_the_console(console: FlaskClient) -> None:
    assert 'href="/admin"' in page_of(console, "/dashboard")


def test_overview_shows_a_change_by_an_admin_at_once(
    console: FlaskClient,
    admin: dict[str, str],
    services: Services,
    bob: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services.backlog, "clock", lambda: 0.0)
    before = page_of(console, "/admin/sistema")
    services.backlog._valid_until = 60.0  # as if counting had taken a second

    console.post(f"/api/admin/users/{bob.id}/block", headers=admin)

    assert re.search(r"Sem perfil agora</h2><p><a [^>]*>1</a></p>", before)
    assert "Sem perfil agora</h2><p>0</p>" in page_of(console, "/admin/sistema")
