"""CSV imports: previews match the import and lock nothing; no batch is applied twice."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from benchmarks.databases import connect_to, count, hold_locks, network_proxy
from benchmarks.servers import eventually
from core import deadlines
from core.database import transaction
from models import AdminJob, Mentorado, MetricaMensal, User
from models.background import JobKind
from models.people import Turma
from provisioning import imports, jobs
from provisioning.audit import Source
from provisioning.errors import MentoradoExistsError
from provisioning.imports import MenteeImport, preview_list
from provisioning.jobs import JobRequest
from provisioning.preregistration import Verdict, pre_register
from tests.support.apps import create_app_on
from tests.support.users import NOW
from web.csv_import import read_list
from web.job_runner import JobRunner, Work

ADMIN = Source("admin", "req-1", actor_id=None, reason="Turma nova")
REGISTERED = "SELECT count(*) FROM mentorados WHERE email LIKE 'p%@example.com'"
POISON = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN IF NEW.email = 'p7@example.com' THEN
    RAISE EXCEPTION 'poisoned' USING ERRCODE = '23514';
END IF; RETURN NEW; END $$;
CREATE TRIGGER poison BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION poison();
"""
# Locks of this connection other than those of reads.
LOCKS = text("""
    SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
       AND mode <> 'AccessShareLock' AND locktype NOT IN ('virtualxid', 'transactionid')
""")
IDS_USED = "SELECT sum(coalesce(last_value, 0)) FROM pg_sequences"


def csv_of(number: int) -> str:
    return "nome;e-mail\n" + "\n".join(f"Pessoa {n};p{n}@example.com" for n in range(number))


class ExistingRows:
    """Users and profiles for each kind of address that a line can have."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.pre_registered("waiting")
        self.pre_registered("twice", "twice")
        self.owned("untouched", is_automatic=True)
        self.owned("edited")
        self.owned("unproven", is_verified=False, is_automatic=True)
        self.owned("elsewhere", profile_email="carried@example.com")
        self.owned("unproven-elsewhere", is_verified=False, profile_email="carried-too@example.com")
        used = self.owned("used", is_automatic=True)
        session.add(MetricaMensal(mentorado_id=used.id, ano=2026, mes=1))
        self.owned("both", is_automatic=True)
        self.owned("rival", profile_email="both@example.com")
        session.add(User(clerk_id="alone", email="alone@example.com", email_verified=True))
        session.flush()

    def pre_registered(self, *names: str) -> None:
        for name in names:
            self._profile(None, f" {name.upper()}@Example.com")

    def owned(
        self,
        name: str,
        *,
        is_verified: bool = True,
        is_automatic: bool = False,
        profile_email: str | None = None,
    ) -> Mentorado:
        address = f"{name}@example.com"
        user = User(clerk_id=name, email=address, email_verified=is_verified)
        self.session.add(user)
        self.session.flush()
        return self._profile(user.id, profile_email or address, is_automatic=is_automatic)

    def _profile(self, user_id: int | None, email: str, *, is_automatic: bool = False) -> Mentorado:
        profile = Mentorado(
            user_id=user_id,
            nome_completo="X",
            email=email,
            turma=Turma.NEON,
            created_automatically=is_automatic,
        )
        self.session.add(profile)
        self.session.flush()
        return profile


ALL_KINDS_CSV = "nome;e-mail\n" + "\n".join(
    f"Nova;{address}@example.com"
    for address in (
        *("new", "waiting", "twice", "untouched", "UNTOUCHED", "edited", "unproven", "carried"),
        *("elsewhere", "carried-too", "used", "both", "alone", "NEW", "ｗaiting"),
    )
)
ALL_KINDS_CSV += "\nSem e-mail;\n;falta@example.com"


def verdict_of_registration(
    session: Session, line: imports.ImportLine
) -> tuple[Verdict, int | None]:
    """Pre-register one line, roll back, and return the verdict and the existing profile's id."""
    savepoint = session.begin_nested()
    try:
        registered = pre_register(session, line.values or {}, source=ADMIN, now=NOW)
    except MentoradoExistsError as err:
        return Verdict.EXISTS, err.mentorado_id
    else:
        if registered.verdict is Verdict.NEW:
            return Verdict.NEW, None
        return registered.verdict, registered.mentorado_id
    finally:
        savepoint.rollback()


def test_preview_import_and_single_registration_give_equal_verdicts(session: Session) -> None:
    ExistingRows(session)
    mentees = read_list(ALL_KINDS_CSV)
    lines = mentees.lines
    single = [verdict_of_registration(session, line) for line in lines if line.values]

    previewed = preview_list(session, lines)
    job = AdminJob(id=uuid.uuid4(), counts={}, results=[], position=0, dry_run=False)
    MenteeImport(mentees, NOW).run_batch(session, job, len(lines))

    expected = {r.line.number: r.to_stored(with_person=False) for r in previewed}
    done = {result["line"]: result for result in job.results}
    new = [number for number, result in expected.items() if result["verdict"] == "new"]
    assert all(done[number].pop("mentorado_id") for number in new)
    assert expected == done
    compared = [r for r in previewed if r.line.values and r.verdict is not Verdict.REPEATED]
    by_number = {
        line.number: found for line, found in zip(filter(has_values, lines), single, strict=True)
    }
    assert {r.line.number: (r.verdict, r.mentorado_id) for r in compared} == {
        r.line.number: by_number[r.line.number] for r in compared
    }
    assert set(Verdict) - {r.verdict for r in previewed} == {Verdict.REFUSED}


def has_values(line: imports.ImportLine) -> bool:
    return line.values is not None


@pytest.fixture
def statements(connection: Connection) -> Iterator[list[str]]:
    """The statements that the connection executes from now on."""
    executed: list[str] = []

    def record(*args: object) -> None:
        executed.append(str(args[2]))

    event.listen(connection, "before_cursor_execute", record)
    yield executed
    event.remove(connection, "before_cursor_execute", record)


def test_number_of_statements_does_not_depend_on_the_number_of_lines(
    session: Session, statements: list[str]
) -> None:
    def statements_for(lines: int, *, dry_run: bool) -> int:
        for n in range(0, lines, 2):
            email = f"p{n}@example.com"
            user = User(clerk_id=f"{lines}{dry_run}{n}", email=email, email_verified=True)
            session.add(user)
            session.flush()
            automatic = {"created_automatically": True, "turma": Turma.NEON}
            session.add(Mentorado(user_id=user.id, nome_completo="X", email=email, **automatic))
        session.flush()
        job = AdminJob(id=uuid.uuid4(), counts={}, results=[], position=0, dry_run=dry_run)
        statements.clear()
        MenteeImport(read_list(csv_of(lines)), NOW).run_batch(session, job, lines)
        number = len(statements)
        session.rollback()
        return number

    for dry_run in (True, False):
        assert statements_for(200, dry_run=dry_run) == statements_for(4, dry_run=dry_run) < 25


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app whose commits are real."""
    with create_app_on(tmp_path, url) as app:
        yield app


def add(content: str) -> uuid.UUID:
    job_request = JobRequest(uuid.uuid4(), JobKind.IMPORT, ADMIN, content=content)
    with transaction() as session:
        return jobs.add(session, job_request).id


def load_job(job_id: uuid.UUID) -> AdminJob:
    with transaction() as session:
        return jobs.find(session, job_id)


def import_in_small_batches(job: AdminJob) -> Work:
    return MenteeImport(read_list(job.content or ""), NOW, batch_size=4)


def runner(on_change: Callable[[str, Iterable[str]], None] = lambda *_: None) -> JobRunner:
    return JobRunner({JobKind.IMPORT: import_in_small_batches}, on_change)


class KilledProcess(BaseException):
    """Stop the runner at once, as SIGKILL would: no handler catches it."""


def kill(*_: object) -> None:
    raise KilledProcess


def expire_lease(url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql("UPDATE admin_jobs SET heartbeat_at = now() - interval '16 s'")


def test_preview_locks_nothing_and_consumes_no_id(app: Flask, url: str) -> None:
    with transaction() as session:
        ExistingRows(session)
    ids = count(url, IDS_USED)

    with transaction() as session:
        preview_list(session, read_list(ALL_KINDS_CSV).lines)
        locks = session.scalar(LOCKS)

    assert (locks, count(url, IDS_USED)) == (0, ids)


def test_preview_answers_while_listed_users_are_locked(app: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (clerk_id, email, email_verified)"
            " VALUES ('p0', 'p0@example.com', true)"
        )
    with hold_locks(url, "SELECT 1 FROM users FOR UPDATE"), transaction() as session:
        results = preview_list(session, read_list(csv_of(2)).lines)

    assert [result.verdict for result in results] == [Verdict.NEW] * 2


def test_job_of_a_killed_process_resumes_after_its_last_batch(app: Flask, url: str) -> None:
    job_id = add(csv_of(10))
    with pytest.raises(KilledProcess):
        runner(kill).run_pending()
    after_one_batch = count(url, REGISTERED)
    runner().run_pending()
    during_the_lease = count(url, REGISTERED)
    expire_lease(url)

    runner().run_pending()

    job = load_job(job_id)
    assert (after_one_batch, during_the_lease, count(url, REGISTERED)) == (4, 4, 10)
    assert (job.status, job.counts, job.scanned) == ("succeeded", {"new": 10}, 10)
    assert [result["line"] for result in job.results] == list(range(2, 12))


@pytest.mark.real_time_limits
def test_batch_whose_commit_reply_was_lost_is_not_repeated(url: str, tmp_path: Path) -> None:
    with network_proxy(url) as relay, create_app_on(tmp_path, relay.url):
        job_id = add(csv_of(10))
        deadlines.set_for_request(1.5)
        runner(lambda *_: relay.withholds.set()).run_now(job_id)
        deadlines.set_for_request(None)
        relay.withholds.clear()
        expire_lease(url)

        runner().run_pending()

        assert (relay.has_withheld.is_set(), count(url, REGISTERED)) == (True, 10)
        assert load_job(job_id).counts == {"new": 10}


def test_process_that_lost_its_lease_writes_nothing(app: Flask, url: str) -> None:
    job_id = add(csv_of(10))

    def let_another_process_claim(*_: object) -> None:
        expire_lease(url)
        with transaction() as session:
            jobs.claim(session, owner="another")

    runner(let_another_process_claim).run_pending()

    assert (load_job(job_id).owner, count(url, REGISTERED)) == ("another", 4)


def test_stopping_process_queues_its_job_again(app: Flask, url: str) -> None:
    job_id = add(csv_of(10))
    stopping = runner(lambda *_: stopping.stop())

    stopping.run_pending()

    assert (load_job(job_id).status, count(url, REGISTERED)) == ("queued", 4)
    runner().run_pending()
    assert (load_job(job_id).status, count(url, REGISTERED)) == ("succeeded", 10)


def test_line_that_the_database_refuses_blocks_no_other_line(app: Flask, url: str) -> None:
    job_id = add(csv_of(10))
    with connect_to(url) as connection:
        connection.exec_driver_sql(POISON)

    runner().run_pending()

    job = load_job(job_id)
    refused = [result["line"] for result in job.results if result["verdict"] == "refused"]
    assert (job.status, job.counts) == ("succeeded", {"new": 9, "refused": 1})
    assert (refused, count(url, REGISTERED)) == ([9], 9)


def test_thread_continues_after_a_job_with_an_unexpected_error(app: Flask, url: str) -> None:
    broken, valid = add("nome;e-mail\nX;x@example.com"), add(csv_of(4))

    def start_work(job: AdminJob) -> Work:
        if job.id == broken:
            raise RuntimeError
        return import_in_small_batches(job)

    thread = JobRunner({JobKind.IMPORT: start_work}, lambda *_: None)
    thread.start(app, polls=True)
    try:
        assert eventually(lambda: load_job(valid).status == "succeeded")
    finally:
        thread.stop()

    assert (load_job(broken).status, load_job(broken).error) == ("failed", "RuntimeError")


@pytest.mark.real_time_limits
def test_import_blocked_by_another_batch_refuses_no_line(app: Flask, url: str) -> None:
    job_id = add(csv_of(4))
    other = f"SELECT pg_advisory_xact_lock({imports.IMPORT_LOCK}, 0)"

    with hold_locks(url, other):
        deadlines.set_for_request(1.0)
        runner().run_now(job_id)
        deadlines.set_for_request(None)
    while_locked = load_job(job_id).status
    runner().run_pending()

    assert (while_locked, load_job(job_id).counts) == ("queued", {"new": 4})


def test_users_whose_profile_changed_are_passed_to_the_callback(app: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (clerk_id, email, email_verified)"
            " VALUES ('user_p0', 'p0@example.com', true)"
        )
        connection.exec_driver_sql(
            "INSERT INTO mentorados (user_id, nome_completo, email, turma, created_automatically)"
            " SELECT id, 'X', email, 'neon', true FROM users"
        )
    changed: list[str] = []
    add(csv_of(2))

    runner(lambda _, clerk_ids: changed.extend(clerk_ids)).run_pending()

    assert changed == ["user_p0"]
