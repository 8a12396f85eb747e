"""Names and addresses as people type them: folded where harmless, otherwise refused by name."""

import html

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from dev.fake_clerk import DevUser
from models import Mentorado, User
from tests.support.types import Sign
from tests.support.users import BOB

API = "/api/admin/mentorados"
NEW = "/admin/mentorados/novos"
OURS = {"Origin": "http://localhost"}
FAULTS = [
    ("eva\u200b@x.com", "O e-mail contém um caractere invisível (U+200B)."),
    ("\ufeffeva@x.com", "O e-mail contém um caractere invisível (U+FEFF)."),
    ("eva@x\u00ad.com", "O e-mail contém um caractere invisível (U+00AD)."),
    ("eva\x07@x.com", "O e-mail contém um caractere de controle (U+0007)."),
    ("eva melo@x.com", "O e-mail contém um espaço em branco (U+0020)."),
    ("eva\u00a0@x.com", "O e-mail contém um espaço em branco (U+00A0)."),
    ("mailto:eva@x.com", "Informe só o e-mail, sem «mailto:» na frente."),
    ("<eva@x.com>", "O e-mail contém «<» (U+003C), que não faz parte de um endereço."),
    ('"eva"@x.com', 'O e-mail contém «"» (U+0022), que não faz parte de um endereço.'),
    ("eva@x.com.", "O e-mail termina com «.» (U+002E)."),
    ("eva@x.com!", "O e-mail termina com «!» (U+0021)."),
    ("eva@bia@x.com", "O e-mail tem mais de um «@»."),
    ("eva@localhost", "O domínio do e-mail, depois do «@», não está completo."),
    ("eva", "Informe um e-mail válido, com até 320 caracteres."),
]
faults = pytest.mark.parametrize(("address", "message"), FAULTS, ids=ascii)
FOLDED = [
    ("Eva  Melo", "Eva Melo"),
    ("Eva\u00a0Melo", "Eva Melo"),
    (" Eva\tde\r\n Melo\u3000", "Eva de Melo"),
    ("Eva\u2028Melo", "Eva Melo"),
    ("\ufeffEva\u200b Mel\u00ado", "Eva Melo"),
    ("Eva 👩\u200d⚕\ufe0f", "Eva 👩\u200d⚕\ufe0f"),
]
names = pytest.mark.parametrize(("name", "folded"), FOLDED, ids=ascii)


@pytest.fixture
def waiting(client: FlaskClient, admin: dict[str, str]) -> int:
    """The id of a pre-registered profile."""
    answer = client.post(API, headers=admin, json={"nome_completo": "Eva"})
    return int((answer.json or {})["id"])


def form_of(**changed: str) -> dict[str, str]:
    """The form that corrects a profile, with other values in it."""
    goals = ("faturamento", "leads", "procedimentos", "posts", "stories")
    return {
        "nome_completo": "Eva",
        "email": "",
        "foto_url": "",
        **{f"meta_{goal}": "1" for goal in goals},
        **changed,
    }


@faults
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_api_names_what_is_wrong_with_an_address(
    client: FlaskClient,
    admin: dict[str, str],
    waiting: int,
    method: str,
    address: str,
    message: str,
) -> None:
    path = API if method == "POST" else f"{API}/{waiting}"
    body = {"nome_completo": "Bia", "email": address}

    answer = client.open(path, method=method, headers=admin, json=body)

    [error] = (answer.json or {})["errors"]
    assert (answer.status_code, error["field"]) == (422, "email")
    assert error["message"].startswith(message)


@faults
def test_form_names_what_is_wrong_with_an_address(
    desk: FlaskClient, waiting: int, address: str, message: str
) -> None:
    path = f"/admin/mentorado/{waiting}/corrigir"

    answer = desk.post(path, data=form_of(email=address), headers=OURS)

    assert answer.status_code == 422
    assert message in html.unescape(answer.get_data(as_text=True))


@faults
def test_preview_of_a_list_names_what_is_wrong_in_a_line(
    desk: FlaskClient, address: str, message: str
) -> None:
    quoted = address.replace('"', '""')
    content = f'nome;e-mail\nBia;bia@x.com\nEva;"{quoted}"'

    answer = desk.post(NEW, data={"lista": content}, headers=OURS)

    page = html.unescape(answer.get_data(as_text=True))
    assert f"email: {message}" in page
    assert "1 de 2" in page


@pytest.mark.parametrize("address", [" Eva@x.com ", "\u00a0eva@x.com\u3000"], ids=ascii)
def test_white_space_around_an_address_is_dropped(
    client: FlaskClient, admin: dict[str, str], address: str
) -> None:
    answer = client.post(API, headers=admin, json={"nome_completo": "Eva", "email": address})

    assert (answer.json or {})["email"] == address.strip()


@names
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_api_folds_harmless_white_space_in_a_name(
    client: FlaskClient, admin: dict[str, str], waiting: int, method: str, name: str, folded: str
) -> None:
    path = API if method == "POST" else f"{API}/{waiting}"

    answer = client.open(path, method=method, headers=admin, json={"nome_completo": name})

    assert answer.status_code in (200, 201)
    assert (answer.json or {})["nome_completo"] == folded


@names
def test_list_folds_harmless_white_space_in_a_name(
    desk: FlaskClient, session: Session, name: str, folded: str
) -> None:
    content = f'e-mail;nome\neva@x.com;"{name}"'
    sent = {"confirmado": "sim", "lista": content, "chave": ""}

    desk.post(NEW, data=sent, headers=OURS)

    assert session.scalars(select(Mentorado.nome_completo)).all() == [folded]


@names
def test_token_s_name_is_folded(client: FlaskClient, sign: Sign, name: str, folded: str) -> None:
    person = DevUser("user_eva", name, "eva@x.com")

    answer = client.get("/api/mentorados/me", headers=sign(person))

    assert (answer.json or {})["nome_completo"] == folded


@pytest.mark.parametrize(("name", "code_point"), [("E\x00va", "U+0000"), ("Eva\x1b[31m", "U+001B")])
def test_control_character_in_a_name_is_refused_by_its_name(
    client: FlaskClient, admin: dict[str, str], name: str, code_point: str
) -> None:
    answer = client.post(API, headers=admin, json={"nome_completo": name})

    [error] = (answer.json or {})["errors"]
    assert (answer.status_code, error["field"]) == (422, "nome_completo")
    assert f"caractere de controle ({code_point})" in error["message"]


@pytest.mark.parametrize(
    "name", ["", " \u00a0", "\u200b\ufeff", "\u3164", "N" * 256, " " * 1_001 + "Eva"], ids=len
)
def test_name_without_visible_characters_or_too_long_is_refused(
    client: FlaskClient, admin: dict[str, str], name: str
) -> None:
    answer = client.post(API, headers=admin, json={"nome_completo": name})

    assert answer.status_code == 422


@pytest.mark.parametrize("address", [address for address, _ in FAULTS], ids=ascii)
def test_unverifiable_address_of_a_token_counts_as_no_address(
    client: FlaskClient, session: Session, sign: Sign, address: str
) -> None:
    person = DevUser(BOB.clerk_id, BOB.name, address, email_verified=True)

    answer = client.get("/api/auth/me", headers=sign(person))

    user = session.scalars(select(User).where(User.clerk_id == BOB.clerk_id)).one()
    assert (answer.status_code, (answer.json or {})["status"]) == (200, "ready")
    assert (user.email, user.email_verified) == (None, False)
