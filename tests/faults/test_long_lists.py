"""Long lists in real processes: cut off from their browser, killed in the middle, stopped."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

import psutil
import pytest

from dev.clients import ADMIN, provider_of, queue_length, request_as
from dev.databases import connect_to, count, locking
from dev.servers import Served, eventually

LINES = 1_200
LIST = "nome;e-mail\n" + "\n".join(f"Pessoa {n};p{n}@example.com" for n in range(LINES))
REGISTERED = "SELECT count(*) FROM mentorados WHERE email LIKE 'p%@example.com'"
DIFFERENT = "SELECT count(DISTINCT email) FROM mentorados WHERE email LIKE 'p%@example.com'"
RECORDED = "SELECT count(*) FROM audit_events WHERE details->>'action' = 'pre_register'"
SUCCEEDED = "SELECT count(*) FROM admin_jobs WHERE status = 'succeeded' AND content IS NULL"
NO_SCHEDULER = {"SCHEDULER": "off"}


def send_and_hang_up(app: Served) -> None:
    """Send the list to be imported, and close the connection without waiting for an answer."""
    request_as(app, ADMIN, "/admin", "GET")  # known from now on
    body = urlencode({"confirmado": "sim", "lista": LIST}).encode()
    address = urlsplit(app.url)
    head = (
        "POST /admin/mentorados/novos HTTP/1.1",
        f"Host: {address.netloc}",
        f"Authorization: Bearer {provider_of(app.instance).token(ADMIN)}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
    )
    with socket.create_connection((address.hostname, address.port)) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)


def page_of_the_job(app: Served, url: str) -> str:
    with connect_to(url) as connection:
        job_id = connection.exec_driver_sql("SELECT id FROM admin_jobs").scalar_one()
    return request_as(app, ADMIN, f"/admin/tarefas/{job_id}", "GET").text


@contextmanager
def owner_in_the_middle(app: Served, url: str, turnstile: str) -> Iterator[psutil.Process]:
    """The process that imports the list, while it is about to write its second batch."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "DROP TRIGGER turnstile ON mentorados; CREATE TRIGGER turnstile BEFORE INSERT ON"
            " mentorados FOR EACH ROW WHEN (NEW.email = 'p600@example.com')"
            " EXECUTE FUNCTION pass_the_turnstile()"
        )
    with locking(url, turnstile):
        send_and_hang_up(app)
        assert eventually(lambda: queue_length(url) == 1)
        with connect_to(url) as connection:
            owner = connection.exec_driver_sql("SELECT owner FROM admin_jobs").scalar_one()
        yield psutil.Process(int(owner.split(":")[1]))


def figures(url: str) -> tuple[int, ...]:
    return tuple(count(url, query) for query in (REGISTERED, DIFFERENT, RECORDED))


@pytest.mark.parametrize("settings", [{}, NO_SCHEDULER], ids=["scheduler", "none"])
def test_list_whose_browser_has_gone_is_a_job_to_be_seen(app: Served, url: str) -> None:
    send_and_hang_up(app)

    assert eventually(lambda: count(url, SUCCEEDED) == 1)
    assert "Feito: 1.200 de 1.200" in page_of_the_job(app, url)
    assert figures(url) == (LINES, LINES, LINES)


@pytest.mark.parametrize("settings", [NO_SCHEDULER])
def test_list_of_a_killed_process_is_finished_by_another(
    app: Served, url: str, turnstile: str
) -> None:
    with owner_in_the_middle(app, url, turnstile) as owner:
        owner.kill()
        owner.wait(timeout=10)
        half_done = count(url, REGISTERED)
    with connect_to(url) as connection:  # instead of waiting for the end of its lease
        connection.exec_driver_sql("UPDATE admin_jobs SET heartbeat_at = now() - interval '1 h'")

    # Without a scheduler, it is the page of the job that has another process look for it.
    assert eventually(lambda: "Feito: 1.200 de 1.200" in page_of_the_job(app, url))

    assert half_done == 500
    assert figures(url) == (LINES, LINES, LINES)


def test_list_of_a_stopping_process_is_finished_by_another(
    app: Served, url: str, turnstile: str
) -> None:
    with owner_in_the_middle(app, url, turnstile) as owner:
        owner.terminate()

    assert eventually(lambda: count(url, SUCCEEDED) == 1)
    assert figures(url) == (LINES, LINES, LINES)
