"""Forms are limited in bytes and parts, and in what an error page returns of them."""

import pytest
from flask.testing import FlaskClient

from tests.support.html_page import SAME_ORIGIN

SIGN_IN = "/local-clerk/sign-in"
MONTH = "/metricas/2026/3"
BOUNDARY = "--x\r\n"
PART = 'Content-Disposition: form-data; name="nome"\r\n\r\nEva\r\n'


@pytest.mark.parametrize(("parts", "status"), [(100, 303), (101, 413)])
def test_form_has_at_most_a_hundred_parts(client: FlaskClient, parts: int, status: int) -> None:
    body = BOUNDARY + BOUNDARY.join([PART] * parts) + "--x--\r\n"

    response = client.post(SIGN_IN, data=body, content_type="multipart/form-data; boundary=x")

    assert response.status_code == status


def test_form_of_more_than_64_kib_is_refused_with_a_message(client: FlaskClient) -> None:
    response = client.post(SIGN_IN, data={"nome": "a" * 65_536})

    assert response.status_code == 413
    assert "O envio é maior do que o aceito aqui." in response.text


def test_unreadable_form_of_an_expired_session_is_a_401(client: FlaskClient) -> None:
    body = BOUNDARY + BOUNDARY.join([PART] * 101) + "--x--\r\n"

    response = client.post(
        MONTH, data=body, headers=SAME_ORIGIN, content_type="multipart/form-data; boundary=x"
    )

    assert response.status_code == 401


@pytest.mark.parametrize(("fields", "is_resubmittable"), [(100, True), (101, False)])
def test_form_can_be_resubmitted_if_it_has_at_most_a_hundred_fields(
    client: FlaskClient, fields: int, *, is_resubmittable: bool
) -> None:
    form = {f"campo{number}": "1" for number in range(fields)}

    response = client.post(MONTH, data=form, headers=SAME_ORIGIN)

    assert response.status_code == 401
    assert ('name="campo0"' in response.text) is is_resubmittable
