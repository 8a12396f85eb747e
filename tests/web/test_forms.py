"""Forms are bounded: in bytes, in parts, and in what is given back of them."""

import pytest
from flask.testing import FlaskClient

SIGN_IN = "/local-clerk/sign-in"
MONTH = "/metricas/2026/3"
SEAM = "--x\r\n"
PART = 'Content-Disposition: form-data; name="nome"\r\n\r\nEva\r\n'
OURS = {"Origin": "http://localhost"}


@pytest.mark.parametrize(("parts", "status"), [(100, 303), (101, 413)])
def test_form_has_a_hundred_parts_at_most(client: FlaskClient, parts: int, status: int) -> None:
    body = SEAM + SEAM.join([PART] * parts) + "--x--\r\n"

    answer = client.post(SIGN_IN, data=body, content_type="multipart/form-data; boundary=x")

    assert answer.status_code == status


def test_form_of_more_than_64_kib_is_refused_in_words(client: FlaskClient) -> None:
    answer = client.post(SIGN_IN, data={"nome": "a" * 65_536})

    assert answer.status_code == 413
    assert "O envio é maior do que o aceito aqui." in answer.text


def test_form_that_cannot_be_read_is_not_kept(client: FlaskClient) -> None:
    body = SEAM + SEAM.join([PART] * 101) + "--x--\r\n"

    answer = client.post(
        MONTH, data=body, headers=OURS, content_type="multipart/form-data; boundary=x"
    )

    assert answer.status_code == 401


@pytest.mark.parametrize(("fields", "is_kept"), [(100, True), (101, False)])
def test_form_is_kept_for_later_unless_it_is_none_of_ours(
    client: FlaskClient, fields: int, *, is_kept: bool
) -> None:
    sent = {f"campo{number}": "1" for number in range(fields)}

    answer = client.post(MONTH, data=sent, headers=OURS)

    assert answer.status_code == 401
    assert ('name="campo0"' in answer.text) is is_kept
