"""Names and addresses as users type them are normalized if harmless, otherwise refused by name."""

import html

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from dev.fake_clerk import DevUser
from models import Mentorado, User
from tests.support.html_page import SAME_ORIGIN
from tests.support.types import Sign
from tests.support.users import BOB

API = "/api/admin/mentorados"
NEW = "/admin/mentorados/novos"
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
NORMALIZED_NAMES = [
    ("Eva  Melo", "Eva Melo"),
    ("Eva\u00a0Melo", "Eva Melo"),
    (" Eva\tde\r\n Melo\u3000", "Eva de Melo"),
    ("Eva\u2028Melo", "Eva Melo"),
    ("\ufeffEva\u200b Mel\u00ado", "Eva Melo"),
    ("Eva 👩\u200d⚕\ufe0f", "Eva 👩\u200d⚕\ufe0f"),
]
names = pytest.mark.parametrize(("name", "normalized"), NORMALIZED_NAMES, ids=ascii)


@pytest.fixture
def unlinked_id(client: FlaskClient, admin: dict[str, str]) -> int:
    """The id of a pre-registered profile."""
    response = client.post(API, headers=admin, json={"nome_completo": "Eva"})
    return int((response.json or {})["id"])


def form_of(**changes: str) -> dict[str, str]:
    """The form that edits a profile, with these changes."""
    goals = ("faturamento", "leads", "procedimentos", "posts", "stories")
    return {
        "nome_completo": "Eva",
        "email": "",
        "foto_url": "",
        **{f"meta_{goal}": "1" for goal in goals},
        **changes,
    }


@faults
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_api_names_the_fault_of_an_address(
    client: FlaskClient,
    admin: dict[str, str],
    unlinked_id: int,
    method: str,
    address: str,
    message: str,
) -> None:
    path = API if method == "POST" else f"{API}/{unlinked_id}"
    body = {"nome_completo": "Bia", "email": address}

    response = client.open(path, method=method, headers=admin, json=body)

    [error] = (response.json or {})["errors"]
    assert (response.status_code, error["field"]) == (422, "email")
    assert error["message"].startswith(message)


@faults
def test_form_names_the_fault_of_an_address(
    console: FlaskClient, unlinked_id: int, address: str, message: str
) -> None:
    path = f"/admin/mentorado/{unlinked_id}/corrigir"

    response = console.post(path, data=form_of(email=address), headers=SAME_ORIGIN)

    assert response.status_code == 422
    assert message in html.unescape(response.get_data(as_text=True))


@faults
def test_preview_of_a_list_names_the_fault_of_a_line(
    console: FlaskClient, address: str, message: str
) -> None:
    escaped = address.replace('"', '""')
    content = f'nome;e-mail\nBia;bia@x.com\nEva;"{escaped}"'

    response = console.post(NEW, data={"lista": content}, headers=SAME_ORIGIN)

    page = html.unescape(response.get_data(as_text=True))
    assert f"E-mail: {message}" in page
    assert "1 de 2" in page


@pytest.mark.parametrize("address", [" Eva@x.com ", "\u00a0eva@x.com\u3000"], ids=ascii)
def test_white_space_around_an_address_is_removed(
    client: FlaskClient, admin: dict[str, str], address: str
) -> None:
    response = client.post(API, headers=admin, json={"nome_completo": "Eva", "email": address})

    assert (response.json or {})["email"] == address.strip()


@names
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_api_normalizes_white_space_in_a_name(
    client: FlaskClient,
    admin: dict[str, str],
    unlinked_id: int,
    method: str,
    name: str,
    normalized: str,
) -> None:
    path = API if method == "POST" else f"{API}/{unlinked_id}"

    response = client.open(path, method=method, headers=admin, json={"nome_completo": name})

    assert response.status_code in (200, 201)
    assert (response.json or {})["nome_completo"] == normalized


@names
def test_list_normalizes_white_space_in_a_name(
    console: FlaskClient, session: Session, name: str, normalized: str
) -> None:
    content = f'e-mail;nome\neva@x.com;"{name}"'
    form = {"confirmado": "sim", "lista": content, "chave": ""}

    console.post(NEW, data=form, headers=SAME_ORIGIN)

    assert session.scalars(select(Mentorado.nome_completo)).all() == [normalized]


@names
def test_name_of_a_token_is_normalized(
    client: FlaskClient, sign: Sign, name: str, normalized: str
) -> None:
    user = DevUser("user_eva", name, "eva@x.com")

    response = client.get("/api/mentorados/me", headers=sign(user))

    assert (response.json or {})["nome_completo"] == normalized


@pytest.mark.parametrize(("name", "code_point"), [("E\x00va", "U+0000"), ("Eva\x1b[31m", "U+001B")])
def test_error_names_the_control_character_of_a_name(
    client: FlaskClient, admin: dict[str, str], name: str, code_point: str
) -> None:
    response = client.post(API, headers=admin, json={"nome_completo": name})

    [error] = (response.json or {})["errors"]
    assert (response.status_code, error["field"]) == (422, "nome_completo")
    assert f"caractere de controle ({code_point})" in error["message"]


@pytest.mark.parametrize(
    "name", ["", " \u00a0", "\u200b\ufeff", "\u3164", "N" * 256, " " * 1_001 + "Eva"], ids=len
)
def test_name_without_visible_characters_or_too_long_is_refused(
    client: FlaskClient, admin: dict[str, str], name: str
) -> None:
    response = client.post(API, headers=admin, json={"nome_completo": name})

    assert response.status_code == 422


@pytest.mark.parametrize("address", [address for address, _ in FAULTS], ids=ascii)
def test_unverifiable_address_of_a_token_counts_as_no_address(
    client: FlaskClient, session: Session, sign: Sign, address: str
) -> None:
    user = DevUser(BOB.clerk_id, BOB.name, address, email_verified=True)

    response = client.get("/api/auth/me", headers=sign(user))

    row = session.scalars(select(User).where(User.clerk_id == BOB.clerk_id)).one()
    assert (response.status_code, (response.json or {})["status"]) == (200, "ready")
    assert (row.email, row.email_verified) == (None, False)
