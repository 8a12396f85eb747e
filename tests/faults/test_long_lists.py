"""Long CSV imports in real processes: disconnected clients, killed and stopped processes."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode, urlsplit

import psutil
import pytest

from benchmarks.databases import connect_to, count, hold_locks
from benchmarks.servers import AppServer, eventually, provider_of, request_as
from tests.support.clients import ADMIN, queue_length

LINES = 1_200
LIST = "nome;e-mail\n" + "\n".join(f"Pessoa {n};p{n}@example.com" for n in range(LINES))
REGISTERED = "SELECT count(*) FROM mentorados WHERE email LIKE 'p%@example.com'"
DISTINCT = "SELECT count(DISTINCT email) FROM mentorados WHERE email LIKE 'p%@example.com'"
AUDITED = "SELECT count(*) FROM audit_events WHERE details->>'action' = 'pre_register'"
SUCCEEDED = "SELECT count(*) FROM admin_jobs WHERE status = 'succeeded' AND content IS NULL"
NO_SCHEDULER = {"SCHEDULER": "off"}


def send_and_disconnect(app: AppServer) -> None:
    """Post the list to be imported and close the connection without reading the answer."""
    request_as(app, ADMIN, "/admin", "GET")  # stores the admin
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


def job_page(app: AppServer, url: str) -> str:
    with connect_to(url) as connection:
        job_id = connection.exec_driver_sql("SELECT id FROM admin_jobs").scalar_one()
    return request_as(app, ADMIN, f"/admin/tarefas/{job_id}", "GET").text


@contextmanager
def owner_during_import(app: AppServer, url: str, barrier: str) -> Iterator[psutil.Process]:
    """Yield the process that imports the list while its second batch is blocked."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "DROP TRIGGER barrier ON mentorados; CREATE TRIGGER barrier BEFORE INSERT ON"
            " mentorados FOR EACH ROW WHEN (NEW.email = 'p600@example.com')"
            " EXECUTE FUNCTION wait_for_barrier()"
        )
    with hold_locks(url, barrier):
        send_and_disconnect(app)
        assert eventually(lambda: queue_length(url) == 1)
        with connect_to(url) as connection:
            owner = connection.exec_driver_sql("SELECT owner FROM admin_jobs").scalar_one()
        yield psutil.Process(int(owner.split(":")[1]))


def counts(url: str) -> tuple[int, ...]:
    return tuple(count(url, query) for query in (REGISTERED, DISTINCT, AUDITED))


@pytest.mark.parametrize("settings", [{}, NO_SCHEDULER], ids=["scheduler", "none"])
def test_import_of_a_disconnected_browser_is_a_visible_job(app: AppServer, url: str) -> None:
    send_and_disconnect(app)

    assert eventually(lambda: count(url, SUCCEEDED) == 1)
    assert "Feito: 1.200 de 1.200" in job_page(app, url)
    assert counts(url) == (LINES, LINES, LINES)


@pytest.mark.parametrize("settings", [NO_SCHEDULER])
def test_import_of_a_killed_process_is_finished_by_another(
    app: AppServer, url: str, barrier: str
) -> None:
    with owner_during_import(app, url, barrier) as owner:
        owner.kill()
        owner.wait(timeout=10)
        after_one_batch = count(url, REGISTERED)
    with connect_to(url) as connection:  # expires the lease
        connection.exec_driver_sql("UPDATE admin_jobs SET heartbeat_at = now() - interval '1 h'")

    # Without a scheduler, a request of the job's page makes another process resume it.
    assert eventually(lambda: "Feito: 1.200 de 1.200" in job_page(app, url))

    assert after_one_batch == 500
    assert counts(url) == (LINES, LINES, LINES)


def test_import_of_a_stopping_process_is_finished_by_another(
    app: AppServer, url: str, barrier: str
) -> None:
    with owner_during_import(app, url, barrier) as owner:
        owner.terminate()

    assert eventually(lambda: count(url, SUCCEEDED) == 1)
    assert counts(url) == (LINES, LINES, LINES)
