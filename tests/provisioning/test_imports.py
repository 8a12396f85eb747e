"""Importing lists: previews that are true and lock nothing, batches that are never done twice."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from core import deadlines
from core.database import transaction
from dev.commit_proxy import relayed
from dev.databases import app_on, connect_to, count, locking
from dev.servers import eventually
from models import AdminJob, Mentorado, MetricaMensal, User
from models.admin_job import JobKind
from models.mentorado import Turma
from provisioning import imports, jobs
from provisioning.audit import Source
from provisioning.imports import LineVerdict, MenteeImport, preview_list
from provisioning.jobs import JobRequest
from provisioning.preregistration import MentoradoExistsError, pre_register
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
# Everything that this connection holds beside the right to read.
LOCKS = text("""
    SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()
       AND mode <> 'AccessShareLock' AND locktype NOT IN ('virtualxid', 'transactionid')
""")
IDS_USED = "SELECT sum(coalesce(last_value, 0)) FROM pg_sequences"


def a_list_of(number: int) -> str:
    return "nome;e-mail\n" + "\n".join(f"Pessoa {n};p{n}@example.com" for n in range(number))


class Kinds:
    """Addresses of every kind that a line of a list can have."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.waiting("waiting")
        self.waiting("twice", "twice")
        self.owned("untouched", is_automatic=True)
        self.owned("edited")
        self.owned("unproven", is_proven=False, is_automatic=True)
        self.owned("elsewhere", carries="carried@example.com")
        self.owned("unproven-elsewhere", is_proven=False, carries="carried-too@example.com")
        used = self.owned("used", is_automatic=True)
        session.add(MetricaMensal(mentorado_id=used.id, ano=2026, mes=1))
        self.owned("both", is_automatic=True)
        self.owned("rival", carries="both@example.com")
        session.add(User(clerk_id="alone", email="alone@example.com", email_verified=True))
        session.flush()

    def waiting(self, *names: str) -> None:
        for name in names:
            self._profile(None, f" {name.upper()}@Example.com")

    def owned(
        self,
        name: str,
        *,
        is_proven: bool = True,
        is_automatic: bool = False,
        carries: str | None = None,
    ) -> Mentorado:
        address = f"{name}@example.com"
        user = User(clerk_id=name, email=address, email_verified=is_proven)
        self.session.add(user)
        self.session.flush()
        return self._profile(user.id, carries or address, is_automatic=is_automatic)

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


OF_EVERY_KIND = "nome;e-mail\n" + "\n".join(
    f"Nova;{address}@example.com"
    for address in (
        *("new", "waiting", "twice", "untouched", "UNTOUCHED", "edited", "unproven", "carried"),
        *("elsewhere", "carried-too", "used", "both", "alone", "NEW", "ｗaiting"),
    )
)
OF_EVERY_KIND += "\nSem e-mail;\n;falta@example.com"


def verdict_of_one(session: Session, line: imports.ImportLine) -> tuple[LineVerdict, int | None]:
    """What a single registration comes to, taken back."""
    savepoint = session.begin_nested()
    try:
        registered = pre_register(session, line.values or {}, source=ADMIN, now=NOW)
    except MentoradoExistsError as err:
        return LineVerdict.EXISTS, err.mentorado_id
    else:
        if registered.is_new:
            return LineVerdict.NEW, None
        return LineVerdict.TAKES_OVER, registered.mentorado.id
    finally:
        savepoint.rollback()


def test_preview_import_and_single_registration_come_to_the_same(session: Session) -> None:
    Kinds(session)
    lines = read_list(OF_EVERY_KIND)
    alone = [verdict_of_one(session, line) for line in lines if line.values]

    previewed = preview_list(session, lines)
    job = AdminJob(id=uuid.uuid4(), counts={}, results=[], position=0, dry_run=False)
    MenteeImport(lines, NOW).step(session, job, len(lines))

    foreseen = {r.line.number: r.as_kept(with_person=False) for r in previewed}
    done = {result["line"]: result for result in job.results}
    new = [number for number, result in foreseen.items() if result["verdict"] == "new"]
    assert all(done[number].pop("mentorado_id") for number in new)
    assert foreseen == done
    judged = [r for r in previewed if r.line.values and r.verdict is not LineVerdict.REPEATED]
    sound = {
        line.number: found for line, found in zip(filter(has_values, lines), alone, strict=True)
    }
    assert {r.line.number: (r.verdict, r.mentorado_id) for r in judged} == {
        r.line.number: sound[r.line.number] for r in judged
    }
    assert set(LineVerdict) - {r.verdict for r in previewed} == {LineVerdict.REFUSED}


def has_values(line: imports.ImportLine) -> bool:
    return line.values is not None


@pytest.fixture
def statements(connection: Connection) -> Iterator[list[str]]:
    """What the database is asked from now on."""
    asked: list[str] = []

    def note(*args: object) -> None:
        asked.append(str(args[2]))

    event.listen(connection, "before_cursor_execute", note)
    yield asked
    event.remove(connection, "before_cursor_execute", note)


def test_number_of_statements_does_not_depend_on_the_number_of_lines(
    session: Session, statements: list[str]
) -> None:
    def number_for(lines: int, *, dry_run: bool) -> int:
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
        MenteeImport(read_list(a_list_of(lines)), NOW).step(session, job, lines)
        number = len(statements)
        session.rollback()
        return number

    for dry_run in (True, False):
        assert number_for(200, dry_run=dry_run) == number_for(4, dry_run=dry_run) < 25


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """A database of the test's own."""
    return copy_database(f"import_{tmp_path.name}")


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    """An app whose commits are real."""
    with app_on(tmp_path, url) as app:
        yield app


def add(content: str) -> uuid.UUID:
    wanted = JobRequest(uuid.uuid4(), JobKind.IMPORT, ADMIN, content=content)
    with transaction() as session:
        return jobs.add(session, wanted).id


def found(job_id: uuid.UUID) -> AdminJob:
    with transaction() as session:
        return jobs.find(session, job_id)


def small_batches(job: AdminJob) -> Work:
    return MenteeImport(read_list(job.content or ""), NOW, batch_size=4)


def runner(on_change: Callable[[str, Iterable[str]], None] = lambda *_: None) -> JobRunner:
    return JobRunner({JobKind.IMPORT: small_batches}, on_change)


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


def die(*_: object) -> None:
    raise Killed


def let_the_lease_end(url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql("UPDATE admin_jobs SET heartbeat_at = now() - interval '16 s'")


def test_preview_locks_nothing_and_uses_up_no_id(app: Flask, url: str) -> None:
    with transaction() as session:
        Kinds(session)
    ids = count(url, IDS_USED)

    with transaction() as session:
        preview_list(session, read_list(OF_EVERY_KIND))
        locks = session.scalar(LOCKS)

    assert (locks, count(url, IDS_USED)) == (0, ids)


def test_preview_answers_while_listed_users_are_locked(app: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (clerk_id, email, email_verified)"
            " VALUES ('p0', 'p0@example.com', true)"
        )
    with locking(url, "SELECT 1 FROM users FOR UPDATE"), transaction() as session:
        results = preview_list(session, read_list(a_list_of(2)))

    assert [result.verdict for result in results] == [LineVerdict.NEW] * 2


def test_job_of_a_killed_process_goes_on_behind_its_last_batch(app: Flask, url: str) -> None:
    job_id = add(a_list_of(10))
    with pytest.raises(Killed):
        runner(die).run_pending()
    after_one_batch = count(url, REGISTERED)
    runner().run_pending()
    while_its_lease_lasts = count(url, REGISTERED)
    let_the_lease_end(url)

    runner().run_pending()

    job = found(job_id)
    assert (after_one_batch, while_its_lease_lasts, count(url, REGISTERED)) == (4, 4, 10)
    assert (job.status, job.counts, job.scanned) == ("succeeded", {"new": 10}, 10)
    assert [result["line"] for result in job.results] == list(range(2, 12))


def test_batch_whose_commit_was_not_answered_is_not_done_again(url: str, tmp_path: Path) -> None:
    with relayed(url) as relay, app_on(tmp_path, relay.url):
        job_id = add(a_list_of(10))
        deadlines.begin(1.5)
        runner(lambda *_: relay.withholds.set()).run_now(job_id)
        deadlines.end()
        relay.withholds.clear()
        let_the_lease_end(url)

        runner().run_pending()

        assert (relay.has_withheld.is_set(), count(url, REGISTERED)) == (True, 10)
        assert found(job_id).counts == {"new": 10}


def test_process_that_has_lost_its_job_writes_nothing_more(app: Flask, url: str) -> None:
    job_id = add(a_list_of(10))

    def let_another_take_it(*_: object) -> None:
        let_the_lease_end(url)
        with transaction() as session:
            jobs.claim(session, owner="another")

    runner(let_another_take_it).run_pending()

    assert (found(job_id).owner, count(url, REGISTERED)) == ("another", 4)


def test_process_that_stops_gives_its_job_back(app: Flask, url: str) -> None:
    job_id = add(a_list_of(10))
    stopping = runner(lambda *_: stopping.stop())

    stopping.run_pending()

    assert (found(job_id).status, count(url, REGISTERED)) == ("queued", 4)
    runner().run_pending()
    assert (found(job_id).status, count(url, REGISTERED)) == ("succeeded", 10)


def test_line_that_the_database_refuses_keeps_no_other_back(app: Flask, url: str) -> None:
    job_id = add(a_list_of(10))
    with connect_to(url) as connection:
        connection.exec_driver_sql(POISON)

    runner().run_pending()

    job = found(job_id)
    refused = [result["line"] for result in job.results if result["verdict"] == "refused"]
    assert (job.status, job.counts) == ("succeeded", {"new": 9, "refused": 1})
    assert (refused, count(url, REGISTERED)) == ([9], 9)


def test_thread_goes_on_after_a_job_that_fails_by_our_own_fault(app: Flask, url: str) -> None:
    broken, sound = add("nome;e-mail\nX;x@example.com"), add(a_list_of(4))

    def works(job: AdminJob) -> Work:
        if job.id == broken:
            raise RuntimeError
        return small_batches(job)

    thread = JobRunner({JobKind.IMPORT: works}, lambda *_: None)
    thread.start(app, polls=True)
    try:
        assert eventually(lambda: found(sound).status == "succeeded")
    finally:
        thread.stop()

    assert (found(broken).status, found(broken).error) == ("failed", "RuntimeError")


def test_import_waits_for_the_batch_of_another_and_blames_no_line(app: Flask, url: str) -> None:
    job_id = add(a_list_of(4))
    other = f"SELECT pg_advisory_xact_lock({imports.IMPORT_LOCK}, 0)"

    with locking(url, other):
        deadlines.begin(1.0)
        runner().run_now(job_id)
        deadlines.end()
    waiting = found(job_id).status
    runner().run_pending()

    assert (waiting, found(job_id).counts) == ("queued", {"new": 4})


def test_context_of_users_whose_profile_was_written_is_told(app: Flask, url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(
            "INSERT INTO users (clerk_id, email, email_verified)"
            " VALUES ('user_p0', 'p0@example.com', true)"
        )
        connection.exec_driver_sql(
            "INSERT INTO mentorados (user_id, nome_completo, email, turma, created_automatically)"
            " SELECT id, 'X', email, 'neon', true FROM users"
        )
    told: list[str] = []
    add(a_list_of(2))

    runner(lambda _, clerk_ids: told.extend(clerk_ids)).run_pending()

    assert told == ["user_p0"]
