"""What users, admins and Clerk do during a chaos run: small functions in a table with weights."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from html.parser import HTMLParser
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from svix.webhooks import Webhook

from benchmarks.chaos_rules import ADMINISTRATION, PROFILE
from benchmarks.chaos_servers import ADMIN, ASSISTANTS, Asker, Exchange, Stage, Visitor
from dev.databases import connect_to
from dev.fake_clerk import DevUser, clerk_user

MOST_DEVICES = 4
LIST_LINES = 25
BACKLOG = 200  # users whom another program has written, without profile
MESSAGES = 20
# When somebody who was shut out looks again: at once, within the bound, and after it.
LOOKS_SECONDS = (0.0, 0.1, 0.5, 1.5, 3.0, 5.6, 6.5, 9.0)
PROFILE_PATHS = (
    "/api/auth/me",
    "/api/mentorados/me",
    "/api/mentorados/me/overview",
    "/dashboard",
)
ADMIN_PATHS = ("/api/admin/users?limit=1", "/api/admin/mentorados?limit=1")
ENROL, GOALS = "/admin/mentorados/novos", "/admin/metas"
CONFIRMED = "confirmado"
ADD_BACKLOG = text("""
INSERT INTO users (clerk_id, name, email, email_verified)
SELECT 'chaos_backlog_' || n, 'Importada', 'backlog' || n || '@example.com', n % 2 = 0
  FROM generate_series(CAST(:first AS integer), :first + :number - 1) AS n
""")


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that happens, and how often compared to the others."""

    name: str
    weight: int
    run: Callable[[Asker], object]


# --- users ---------------------------------------------------------------------------------------


def new_visitor(asker: Asker) -> Visitor:
    """A user who has never been here: with a verified address, an unverified one or none."""
    number = asker.stage.known.next_number()
    kind = asker.dice.random()
    email = f"pessoa{number}@example.com" if kind < 0.9 else None
    person = DevUser(f"chaos_{number}", f"Pessoa {number}", email, email_verified=kind < 0.7)
    return asker.stage.known.add(Visitor(person))


def proven_visitor(asker: Asker) -> Visitor:
    """A user who has never been here and whose address is verified."""
    number = asker.stage.known.next_number()
    person = DevUser(f"chaos_{number}", f"Pessoa {number}", f"pessoa{number}@example.com")
    return asker.stage.known.add(Visitor(person))


def sign_in(asker: Asker) -> None:
    """A first login, on several devices at once."""
    visitor = new_visitor(asker)
    devices = asker.dice.randint(1, MOST_DEVICES)
    at_once(*[partial(asker.ensure, visitor)] * devices)


def read(asker: Asker) -> None:
    """A known user looks at something."""
    visitor = asker.stage.known.any_visitor(asker.dice)
    if visitor:
        look(asker, visitor)


def look(asker: Asker, visitor: Visitor, host: str | None = None) -> None:
    """A user looks at one of their pages."""
    asker.ask(visitor.person, "GET", asker.dice.choice(PROFILE_PATHS), host=host)


def report_a_month(asker: Asker) -> None:
    """A user reports a month, which notes who has written it."""
    visitor = asker.stage.known.any_visitor(asker.dice)
    if visitor:
        write_a_month(asker, visitor)


def write_a_month(asker: Asker, visitor: Visitor) -> None:
    """Report a month as that user."""
    month = {"lucro": asker.dice.randint(-9, 9), "observacoes": visitor.person.clerk_id}
    path = f"/api/mentorados/me/metricas/2026/{asker.dice.randint(1, 3)}"
    asker.ask(visitor.person, "PUT", path, body=month)


def come_back_changed(asker: Asker) -> None:
    """A user comes back with another address, or with theirs verified or not."""
    visitor = asker.stage.known.any_visitor(asker.dice)
    if visitor:
        number = asker.stage.known.next_number()
        email = asker.dice.choice([visitor.person.email, f"nova{number}@example.com"])
        is_verified = asker.dice.random() < 0.6
        visitor.person = replace(visitor.person, email=email, email_verified=is_verified)
        asker.ensure(visitor)


# --- admins --------------------------------------------------------------------------------------


def register(asker: Asker, address: str) -> Exchange:
    """Pre-register an address."""
    body = {"nome_completo": "Esperada", "email": address}
    exchange = asker.admin("POST", "mentorados", body)
    if exchange.answer.status == 201:
        asker.stage.known.add_waiting(exchange.document["id"], address)
    return exchange


def register_before(asker: Asker) -> None:
    """An address is pre-registered, then its user signs in on several devices."""
    visitor = proven_visitor(asker)
    register(asker, str(visitor.person.email))
    at_once(*[partial(asker.ensure, visitor)] * asker.dice.randint(1, MOST_DEVICES))


def register_meanwhile(asker: Asker) -> None:
    """An address is pre-registered, by several admins, while its user signs in."""
    visitor = proven_visitor(asker)
    entry = partial(register, asker, str(visitor.person.email))
    at_once(entry, entry, partial(asker.ensure, visitor))


def register_twice(asker: Asker) -> None:
    """Several admins pre-register the same address at once."""
    number = asker.stage.known.next_number()
    at_once(*[partial(register, asker, f"dupla{number}@example.com")] * 3)


def change_meanwhile(asker: Asker, method: str, body: Mapping[str, str]) -> None:
    """A pre-registered profile is changed while the user of its address signs in."""
    visitor = proven_visitor(asker)
    profile_id = register(asker, str(visitor.person.email)).document.get("id")
    if profile_id is not None:
        path = f"mentorados/{profile_id}"
        change = partial(asker.admin, method, path, body)
        at_once(change, *[partial(asker.ensure, visitor)] * 2)
        watch(asker, visitor.person, PROFILE)


def readdress_meanwhile(asker: Asker) -> None:
    """A pre-registered profile gets another address while the user of the old one signs in."""
    number = asker.stage.known.next_number()
    change_meanwhile(asker, "PATCH", {"email": f"outra{number}@example.com"})


def deactivate_meanwhile(asker: Asker) -> None:
    """A pre-registered profile is deactivated while its user signs in."""
    change_meanwhile(asker, "PATCH", {"ativo": "nao"})


def delete_meanwhile(asker: Asker) -> None:
    """A pre-registered profile is deleted while its user signs in."""
    change_meanwhile(asker, "DELETE", {})


def readdress(asker: Asker) -> None:
    """A pre-registered profile gets the address of a known user."""
    waiting = asker.stage.known.any_waiting(asker.dice)
    visitor = asker.stage.known.any_visitor(asker.dice)
    if waiting and visitor and visitor.person.email:
        body = {"email": visitor.person.email}
        asker.admin("PATCH", f"mentorados/{waiting[0]}", body)
        asker.ensure(visitor)


def swap_addresses(asker: Asker) -> None:
    """Two admins swap the addresses of two users' profiles."""
    pair = [asker.stage.known.any_visitor(asker.dice) for _ in range(2)]
    here, there = pair
    if here and there and here.person.email and there.person.email and here is not there:
        at_once(
            *(
                partial(asker.admin, "PATCH", f"mentorados/{a.mentorado_id}", {"email": b})
                for a, b in ((here, there.person.email), (there, here.person.email))
            )
        )


def shut_out(asker: Asker, change: Callable[[Visitor], Exchange]) -> None:
    """A user who is active on both hosts is denied, and goes on looking."""
    visitor = asker.stage.known.any_visitor(asker.dice)
    if visitor is None:
        return
    for host in asker.stage.hosts:
        look(asker, visitor, host)
    change(visitor)
    asker.stage.known.add_blocked(visitor)
    watch(asker, visitor.person, PROFILE)


def block(asker: Asker) -> None:
    """An admin blocks a user."""
    shut_out(asker, lambda v: asker.admin("POST", f"users/{v.user_id}/block", {}))


def deactivate(asker: Asker) -> None:
    """An admin deactivates a user's profile."""
    body = {"ativo": "nao"}
    shut_out(asker, lambda v: asker.admin("PATCH", f"mentorados/{v.mentorado_id}", body))


def delete(asker: Asker) -> None:
    """An admin deletes a user's profile."""
    shut_out(asker, lambda v: asker.admin("DELETE", f"mentorados/{v.mentorado_id}", {}))


def let_in(asker: Asker) -> None:
    """An admin allows and activates a user who was shut out."""
    visitor = asker.stage.known.take_blocked()
    if visitor:
        asker.admin("POST", f"users/{visitor.user_id}/allow", {})
        asker.admin("PATCH", f"mentorados/{visitor.mentorado_id}", {"ativo": "sim"})
        asker.ensure(visitor)


def link(asker: Asker) -> None:
    """An admin gives a pre-registered profile to a user who is active."""
    visitor, profile_id = signed_in(asker), waiting_profile(asker)
    if profile_id and visitor.user_id:
        path, body = f"mentorados/{profile_id}/link", {"user_id": visitor.user_id}
        at_once(partial(asker.admin, "POST", path, body), partial(look, asker, visitor))
        watch(asker, visitor.person, PROFILE)


def link_while_leaving(asker: Asker) -> None:
    """An admin gives a pre-registered profile to a user whose account is just deleted."""
    visitor, profile_id = signed_in(asker), waiting_profile(asker)
    if profile_id and visitor.user_id:
        path, body = f"mentorados/{profile_id}/link", {"user_id": visitor.user_id}
        at_once(
            partial(asker.admin, "POST", path, body),
            partial(send, asker, visitor.person, "user.deleted", 0),
        )
        watch(asker, visitor.person, PROFILE)


def signed_in(asker: Asker) -> Visitor:
    """A user who has just signed in for the first time; without ids where that failed."""
    visitor = proven_visitor(asker)
    asker.ensure(visitor)
    return visitor


def waiting_profile(asker: Asker) -> int | None:
    """The id of a profile that is pre-registered for nobody who comes; None where that failed."""
    number = asker.stage.known.next_number()
    profile_id: int | None = register(asker, f"espera{number}@example.com").document.get("id")
    return profile_id


def unlink(asker: Asker) -> None:
    """An admin takes a profile from its user, who goes on reading and writing."""
    visitor = asker.stage.known.any_visitor(asker.dice)
    if visitor:
        taken = partial(asker.admin, "POST", f"mentorados/{visitor.mentorado_id}/unlink", {})
        at_once(taken, partial(write_a_month, asker, visitor))
        watch(asker, visitor.person, PROFILE)
        asker.ensure(visitor)


def hand_over(asker: Asker) -> None:
    """An admin gives the profile of one user to another one, while the first writes."""
    before, after = signed_in(asker), signed_in(asker)
    if not before.mentorado_id or not after.user_id:
        return

    def change_hands() -> None:
        asker.admin("POST", f"mentorados/{before.mentorado_id}/unlink", {})
        body = {"user_id": after.user_id}
        asker.admin("POST", f"mentorados/{before.mentorado_id}/link", body)

    at_once(change_hands, *[partial(write_a_month, asker, before)] * 3)
    watch(asker, before.person, PROFILE)


def merge(asker: Asker) -> None:
    """An admin merges a pre-registered profile into a user's, or the other way round, while the
    user writes.
    """
    visitor, profile_id = asker.stage.known.any_visitor(asker.dice), waiting_profile(asker)
    if visitor and visitor.mentorado_id and profile_id is not None:
        pair = [profile_id, visitor.mentorado_id]
        asker.dice.shuffle(pair)
        path, body = f"mentorados/{pair[0]}/merge", {"into": pair[1], "dry_run": False}
        written = partial(write_a_month, asker, visitor)
        at_once(partial(asker.admin, "POST", path, body), written, written)
        watch(asker, visitor.person, PROFILE)
        asker.ensure(visitor)


def block_an_assistant(asker: Asker) -> None:
    """An admin blocks another admin, who goes on looking, and allows them later."""
    assistant = asker.dice.choice(ASSISTANTS)
    user_id = asker.ask(assistant, "GET", "/api/auth/me").document.get("user", {}).get("id")
    if user_id is not None:
        asker.admin("POST", f"users/{user_id}/block", {})
        watch(asker, assistant, ADMINISTRATION)
        later = time.time() + LOOKS_SECONDS[-1]
        asker.stage.plan.add(later, asker.operation, partial(_allow, user_id))


def _allow(user_id: int, asker: Asker) -> None:
    asker.admin("POST", f"users/{user_id}/allow", {})


# --- pages of the admin console ------------------------------------------------------------------


def import_a_list_twice(asker: Asker) -> None:
    """A list is confirmed twice at once, from one page or from two; then some of it sign in."""
    first = asker.stage.known.next_number(LIST_LINES)
    addresses = [f"lista{first + n}@example.com" for n in range(LIST_LINES)]
    lines = ["nome;e-mail", *(f"Da lista;{address}" for address in addresses)]
    form = {"lista": "\n".join(lines)}
    pages = [confirmation(asker, ENROL, form) for _ in range(asker.dice.randint(1, 2))]
    submit = partial(asker.ask, ADMIN, "POST", ENROL)
    at_once(*(partial(submit, form=page) for page in (pages[0], pages[-1]) if page))
    for n, address in enumerate(addresses[:2]):
        guest = Visitor(DevUser(f"chaos_{first + n}", "Da lista", address))
        asker.ensure(asker.stage.known.add(guest))


def set_goals_of_all(asker: Asker) -> None:
    """An admin sets a goal for everybody who is active."""
    page = confirmation(asker, GOALS, {"meta_leads": str(asker.dice.randint(1, 99))})
    if page:
        asker.ask(ADMIN, "POST", GOALS, form=page)


def confirmation(asker: Asker, path: str, form: Mapping[str, str]) -> dict[str, str]:
    """Send a form of the console; returns the form with which what it shows is confirmed."""
    page = asker.ask(ADMIN, "POST", path, form=form)
    reader = FormReader()
    reader.feed(page.body.decode())
    return next((fields for fields in reader.forms if CONFIRMED in fields), {})


class FormReader(HTMLParser):
    """Reads what a browser would send with each form of a page, confirmed."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self._area: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a form, or add a field to it."""
        given = dict(attrs)
        name = given.get("name")
        if tag == "form":
            self.forms.append({})
        elif self.forms and name:
            self.forms[-1][name] = given.get("value") or ""
        self._area = name if tag == "textarea" else None

    def handle_data(self, data: str) -> None:
        """The content of a text area, without the line break that browsers leave out."""
        if self._area is not None and self.forms:
            self.forms[-1][self._area] = data.removeprefix("\n")
            self._area = None


# --- Clerk and other programs --------------------------------------------------------------------


def send_messages(asker: Asker) -> None:
    """Clerk tells of users: some twice, some late, some of accounts that are deleted."""
    visitor = asker.stage.known.any_visitor(asker.dice)
    known = [visitor.person] if visitor else []
    number = asker.stage.known.next_number()
    strangers = [
        DevUser(f"chaos_told_{number}_{n}", "Contada", f"contada{number}_{n}@example.com")
        for n in range(MESSAGES // 2)
    ]
    for person in [*known, *strangers]:
        event = asker.dice.choice(["user.created", "user.updated", "user.updated"])
        message = partial(send, asker, person, event, asker.dice.choice([0, 0, 0, 3_600]))
        if asker.dice.random() < 0.3:
            at_once(message, message)
        else:
            message()


def delete_an_account(asker: Asker) -> None:
    """Clerk tells that an account is deleted, while its user is active and a sweep may be on."""
    visitor = signed_in(asker)
    look(asker, visitor)
    at_once(
        partial(send, asker, visitor.person, "user.deleted", 0),
        partial(look, asker, visitor),
    )
    watch(asker, visitor.person, PROFILE)


def delete_accounts_of_a_backlog(asker: Asker) -> None:
    """Accounts are deleted while the sweep is giving them their profiles."""
    first = add_backlog(asker.stage)
    for n in range(0, BACKLOG, BACKLOG // 10):
        person = DevUser(f"chaos_backlog_{first + n}", "Importada")
        send(asker, person, "user.deleted", 0)


def add_backlog(stage: Stage) -> int:
    """Another program writes users who have no profile; returns the number of the first."""
    first = stage.known.next_number(BACKLOG)
    with suppress(DBAPIError), connect_to(stage.postgres.url) as connection:
        connection.execute(ADD_BACKLOG, {"first": first, "number": BACKLOG})
    return first


def send(asker: Asker, person: DevUser, event: str, age_seconds: int) -> Exchange:
    """Send one signed message of Clerk about a user, as of so many seconds ago."""
    now = datetime.now(UTC)
    told: dict[str, Any] = {
        **clerk_user(person),
        "updated_at": (now.timestamp() - age_seconds) * 1000,
    }
    body = json.dumps({"type": event, "data": told})
    secret = asker.stage.provider.webhook_secret
    message_id = f"msg_{person.clerk_id}_{event}_{age_seconds}"
    headers = {
        "svix-id": message_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(secret).sign(message_id, now, body),
        "Content-Type": "application/json",
    }
    return asker.ask(None, "POST", "/webhooks/clerk", body=body.encode(), headers=headers)


# --- what comes after ----------------------------------------------------------------------------


def watch(asker: Asker, person: DevUser, access: str) -> None:
    """Let this user, whose access has just changed, look again and again."""
    asker.stage.known.add_denied(person, access)
    look_again(asker.stage, asker.operation, person, access)


def look_again(stage: Stage, operation: str, person: DevUser, access: str) -> None:
    """Let this user look at once and until after the bound, at any host."""
    now, paths = time.time(), PROFILE_PATHS if access == PROFILE else ADMIN_PATHS
    for pause in LOOKS_SECONDS:
        stage.plan.add(now + pause, operation, partial(_look_at_any, person, paths))


def _look_at_any(person: DevUser, paths: Sequence[str], asker: Asker) -> None:
    asker.ask(person, "GET", asker.dice.choice(paths))


def at_once(*calls: Callable[[], object]) -> None:
    """Make all calls at the same moment."""
    if not calls:
        return
    start = threading.Barrier(len(calls))

    def wait_then(call: Callable[[], object]) -> None:
        start.wait()
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        for done in [pool.submit(wait_then, call) for call in calls]:
            done.result()


OPERATIONS = (
    Operation("read", 30, read),
    Operation("first login", 14, sign_in),
    Operation("report a month", 8, report_a_month),
    Operation("come back with another address", 4, come_back_changed),
    Operation("register, then sign in", 4, register_before),
    Operation("register while signing in", 4, register_meanwhile),
    Operation("register twice at once", 3, register_twice),
    Operation("change the address while signing in", 5, readdress_meanwhile),
    Operation("deactivate while signing in", 4, deactivate_meanwhile),
    Operation("delete while signing in", 4, delete_meanwhile),
    Operation("give a waiting profile an address", 2, readdress),
    Operation("swap two addresses", 2, swap_addresses),
    Operation("block", 4, block),
    Operation("deactivate", 4, deactivate),
    Operation("delete", 3, delete),
    Operation("allow", 8, let_in),
    Operation("link", 3, link),
    Operation("link while leaving", 2, link_while_leaving),
    Operation("unlink", 3, unlink),
    Operation("hand over", 3, hand_over),
    Operation("merge", 3, merge),
    Operation("block an assistant", 1, block_an_assistant),
    Operation("import a list twice at once", 2, import_a_list_twice),
    Operation("goals for all", 1, set_goals_of_all),
    Operation("messages of Clerk", 3, send_messages),
    Operation("delete an account", 3, delete_an_account),
    Operation("delete accounts beside a sweep", 1, delete_accounts_of_a_backlog),
)
