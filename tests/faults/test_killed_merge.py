"""A worker that is killed during a merge has changed nothing; the next merge succeeds."""

from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from benchmarks.databases import connect_to, count, hold_locks
from benchmarks.servers import AppServer, eventually, request_as, workers
from tests.support.clients import ADMIN, queue_length

TWO_PROFILES = """
INSERT INTO mentorados (id, nome_completo, turma) VALUES (1, 'Bia N.', 'neon'), (2, 'Bia', 'neon');
INSERT INTO metricas_mensais (mentorado_id, ano, mes) VALUES (1, 2026, 1), (1, 2026, 2);
INSERT INTO feedbacks (mentorado_id, ano, mes, analise_mes, foco_proximo_mes, sugestao_mentor)
VALUES (1, 2026, 1, 'a', 'b', 'c');
"""
LOCK_LAST_MONTH = "SELECT 1 FROM metricas_mensais WHERE mes = 2 FOR UPDATE"
MOVED = "SELECT count(*) FROM metricas_mensais WHERE mentorado_id = 2"
STAYED = """
SELECT (SELECT count(*) FROM mentorados) + (SELECT count(*) FROM metricas_mensais
 WHERE mentorado_id = 1) + (SELECT count(*) FROM feedbacks WHERE mentorado_id = 1)
"""
ARCHIVED = "SELECT count(*) FROM archived_rows"


@pytest.fixture
def settings() -> dict[str, str]:
    """One worker, which the test kills."""
    return {"WEB_CONCURRENCY": "1"}


def merge(app: AppServer) -> requests.Response:
    return request_as(app, ADMIN, "/api/admin/mentorados/1/merge", body={"into": 2})


def test_killed_merge_has_moved_nothing_and_the_next_one_moves_all(
    app: AppServer, url: str
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(TWO_PROFILES)
    request_as(app, ADMIN)
    [worker] = workers(app)

    with hold_locks(url, LOCK_LAST_MONTH), ThreadPoolExecutor(1) as pool:
        killed = pool.submit(merge, app)
        assert eventually(lambda: queue_length(url) == 1)
        psutil.Process(worker.pid).kill()
        assert isinstance(killed.exception(), requests.ConnectionError)
    assert (count(url, STAYED), count(url, ARCHIVED)) == (5, 0)

    assert merge(app).status_code == 200
    assert (count(url, MOVED), count(url, ARCHIVED)) == (2, 1)
