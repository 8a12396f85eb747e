"""Goals of all active mentees are set in short batches that can be resumed and are never mixed."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from benchmarks.databases import connect_to, count
from core.database import transaction
from dashboard.goal_changes import GoalsOfAll, count_changes, goals_options
from dashboard.periods import Period
from models import AdminJob
from models.background import JobKind
from provisioning import jobs
from provisioning.audit import Source
from provisioning.jobs import JobRequest
from tests.support.apps import create_app_on
from tests.support.users import NOW
from web.job_runner import JobRunner

MENTEES = """
INSERT INTO users (clerk_id) SELECT 'user_' || i FROM generate_series(1, 10) i;
INSERT INTO mentorados (user_id, nome_completo, turma, ativo)
SELECT id, clerk_id, 'neon', CASE WHEN id = 3 THEN 'nao' ELSE 'sim' END::ativo FROM users;
INSERT INTO mentorados (nome_completo, turma) VALUES ('Sem conta', 'neon');
INSERT INTO metricas_mensais (mentorado_id, ano, mes) SELECT id, 2026, 1 FROM mentorados LIMIT 4;
"""
REFUSE_USER_7 = """
CREATE FUNCTION refuse_user_7() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.nome_completo = 'user_7' THEN
    RAISE EXCEPTION 'refused' USING ERRCODE = '23514';
END IF; RETURN NEW; END $$;
CREATE TRIGGER refuse_user_7 BEFORE UPDATE ON mentorados
   FOR EACH ROW EXECUTE FUNCTION refuse_user_7();
"""
CHANGED = "SELECT count(*) FROM mentorados WHERE meta_leads = 77"
RECORDED = """
SELECT count(*) FROM audit_events
 WHERE details->>'action' = 'goals_of_all' AND details->>'count' = :count
"""


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """A database with ten mentees who can sign in, one of them inactive, and one who cannot."""
    url = copy_database(f"goals_{tmp_path.name}")
    with connect_to(url) as connection:
        connection.exec_driver_sql(MENTEES)
    return url


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app that really commits."""
    with create_app_on(tmp_path, url) as app:
        yield app


def add(month: Period | None = None) -> uuid.UUID:
    options = goals_options({"meta_leads": 77}, month)
    request = JobRequest(uuid.uuid4(), JobKind.GOALS, Source("admin", "req-1"), options)
    with transaction() as session:
        return jobs.add(session, request).id


def find_job(job_id: uuid.UUID) -> AdminJob:
    with transaction() as session:
        return jobs.find(session, job_id)


def small_batches(job: AdminJob) -> GoalsOfAll:
    return GoalsOfAll(job.options, NOW, batch_size=4)


def runner(on_change: Callable[[str, Iterable[str]], None] = lambda *_: None) -> JobRunner:
    return JobRunner({JobKind.GOALS: small_batches}, on_change)


@pytest.mark.parametrize("month", [None, Period(2026, 1)], ids=["standing", "month"])
def test_count_in_advance_equals_the_changed_profiles(
    app: Flask, url: str, month: Period | None
) -> None:
    with transaction() as session:
        expected = count_changes(session, month, {"meta_leads": 77})
    job_id = add(month)

    runner().run_pending()

    job = find_job(job_id)
    assert (job.status, job.counts, job.total) == ("succeeded", {"changed": expected}, expected)
    assert count(url, RECORDED, count=str(expected)) == 1
    assert count(url, CHANGED) == (0 if month else expected)


def test_users_are_invalidated_batch_by_batch(app: Flask) -> None:
    batches: list[list[str]] = []
    add()

    runner(lambda _, clerk_ids: batches.append(sorted(clerk_ids))).run_pending()

    assert [len(batch) for batch in batches] == [4, 4, 1]
    assert "user_3" not in {clerk_id for batch in batches for clerk_id in batch}


def test_each_batch_is_committed_before_the_next(app: Flask, url: str) -> None:
    committed: list[int] = []
    add()

    runner(lambda *_: committed.append(count(url, CHANGED))).run_pending()

    assert committed == [4, 8, 10]


def test_profile_that_the_database_refuses_does_not_stop_the_others(app: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(REFUSE_USER_7)
    job_id = add()

    runner().run_pending()

    job = find_job(job_id)
    assert (job.status, job.counts) == ("succeeded", {"changed": 9, "refused": 1})
    assert count(url, CHANGED) == 9


def test_job_of_a_second_admin_waits_for_the_first(app: Flask, url: str) -> None:
    first, second = add(), add()
    with transaction() as session:
        jobs.claim(session, owner="another", job_id=first)

    runner().run_pending()

    assert (find_job(second).status, count(url, CHANGED)) == ("queued", 0)
