"""The operations of users, admins and Clerk in a chaos run, in a table with weights."""

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
from benchmarks.chaos_servers import ADMIN, ASSISTANTS, Client, Environment, Exchange, Visitor
from benchmarks.databases import connect_to
from dev.fake_clerk import DevUser, clerk_user

MOST_DEVICES = 4
LIST_LINES = 25
BACKLOG = 200  # users without a profile, inserted by another program
MESSAGES = 20
# When a denied user reads again: at once, within the bound, and after it.
READ_DELAYS_SECONDS = (0.0, 0.1, 0.5, 1.5, 3.0, 5.6, 6.5, 9.0)
PROFILE_PATHS = (
    "/api/auth/me",
    "/api/mentorados/me",
    "/api/mentorados/me/overview",
    "/dashboard",
)
ADMIN_PATHS = ("/api/admin/users?limit=1", "/api/admin/mentorados?limit=1")
ENROL, GOALS = "/admin/mentorados/novos", "/admin/metas"
CONFIRMED_FIELD = "confirmado"
ADD_BACKLOG = text("""
INSERT INTO users (clerk_id, name, email, email_verified)
SELECT 'chaos_backlog_' || n, 'Importada', 'backlog' || n || '@example.com', n % 2 = 0
  FROM generate_series(CAST(:first AS integer), :first + :number - 1) AS n
""")


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation, and its relative frequency."""

    name: str
    weight: int
    run: Callable[[Client], object]


# --- users ---------------------------------------------------------------------------------------


def new_visitor(client: Client) -> Visitor:
    """Create a new user with a verified address, an unverified one or none."""
    number = client.env.known.next_number()
    kind = client.rng.random()
    email = f"pessoa{number}@example.com" if kind < 0.9 else None
    user = DevUser(f"chaos_{number}", f"Pessoa {number}", email, email_verified=kind < 0.7)
    return client.env.known.add(Visitor(user))


def verified_visitor(client: Client) -> Visitor:
    """Create a new user with a verified address."""
    number = client.env.known.next_number()
    user = DevUser(f"chaos_{number}", f"Pessoa {number}", f"pessoa{number}@example.com")
    return client.env.known.add(Visitor(user))


def sign_in(client: Client) -> None:
    """Sign in for the first time, on several devices at once."""
    visitor = new_visitor(client)
    devices = client.rng.randint(1, MOST_DEVICES)
    at_once(*[partial(client.ensure, visitor)] * devices)


def read(client: Client) -> None:
    """Read as a known user."""
    visitor = client.env.known.any_visitor(client.rng)
    if visitor:
        read_as(client, visitor)


def read_as(client: Client, visitor: Visitor, host: str | None = None) -> None:
    """Read a random resource of the user."""
    client.request(visitor.user, "GET", client.rng.choice(PROFILE_PATHS), host=host)


def report_a_month(client: Client) -> None:
    """Report a month as a known user."""
    visitor = client.env.known.any_visitor(client.rng)
    if visitor:
        write_a_month(client, visitor)


def write_a_month(client: Client, visitor: Visitor) -> None:
    """Report a month whose note holds the Clerk id of its writer."""
    month = {"lucro": client.rng.randint(-9, 9), "observacoes": visitor.user.clerk_id}
    path = f"/api/mentorados/me/metricas/2026/{client.rng.randint(1, 3)}"
    client.request(visitor.user, "PUT", path, body=month)


def come_back_changed(client: Client) -> None:
    """Sign in as a known user with another address, or with the same one verified or not."""
    visitor = client.env.known.any_visitor(client.rng)
    if visitor:
        number = client.env.known.next_number()
        email = client.rng.choice([visitor.user.email, f"nova{number}@example.com"])
        is_verified = client.rng.random() < 0.6
        visitor.user = replace(visitor.user, email=email, email_verified=is_verified)
        client.ensure(visitor)


# --- admins --------------------------------------------------------------------------------------


def register(client: Client, address: str) -> Exchange:
    """Pre-register an address."""
    body = {"nome_completo": "Esperada", "email": address}
    exchange = client.admin("POST", "mentorados", body)
    if exchange.answer.status == 201:
        client.env.known.add_pre_registered(exchange.document["id"], address)
    return exchange


def register_before(client: Client) -> None:
    """Pre-register an address, then sign in as its user on several devices."""
    visitor = verified_visitor(client)
    register(client, str(visitor.user.email))
    at_once(*[partial(client.ensure, visitor)] * client.rng.randint(1, MOST_DEVICES))


def register_meanwhile(client: Client) -> None:
    """Pre-register an address twice while its user signs in."""
    visitor = verified_visitor(client)
    registration = partial(register, client, str(visitor.user.email))
    at_once(registration, registration, partial(client.ensure, visitor))


def register_twice(client: Client) -> None:
    """Pre-register the same address several times at once."""
    number = client.env.known.next_number()
    at_once(*[partial(register, client, f"dupla{number}@example.com")] * 3)


def change_meanwhile(client: Client, method: str, body: Mapping[str, str]) -> None:
    """Change a pre-registered profile while the user of its address signs in."""
    visitor = verified_visitor(client)
    profile_id = register(client, str(visitor.user.email)).document.get("id")
    if profile_id is not None:
        path = f"mentorados/{profile_id}"
        change = partial(client.admin, method, path, body)
        at_once(change, *[partial(client.ensure, visitor)] * 2)
        watch(client, visitor.user, PROFILE)


def change_address_meanwhile(client: Client) -> None:
    """Change the address of a pre-registered profile while the user of the old one signs in."""
    number = client.env.known.next_number()
    change_meanwhile(client, "PATCH", {"email": f"outra{number}@example.com"})


def deactivate_meanwhile(client: Client) -> None:
    """Deactivate a pre-registered profile while its user signs in."""
    change_meanwhile(client, "PATCH", {"ativo": "nao"})


def delete_meanwhile(client: Client) -> None:
    """Delete a pre-registered profile while its user signs in."""
    change_meanwhile(client, "DELETE", {})


def change_address(client: Client) -> None:
    """Give a pre-registered profile the address of a known user."""
    profile = client.env.known.any_pre_registered(client.rng)
    visitor = client.env.known.any_visitor(client.rng)
    if profile and visitor and visitor.user.email:
        body = {"email": visitor.user.email}
        client.admin("PATCH", f"mentorados/{profile[0]}", body)
        client.ensure(visitor)


def swap_addresses(client: Client) -> None:
    """Swap the addresses of two users' profiles, both changes at once."""
    first, second = (client.env.known.any_visitor(client.rng) for _ in range(2))
    if first is None or second is None or first is second:
        return
    if first.user.email and second.user.email:
        changes = [
            partial(client.admin, "PATCH", f"mentorados/{visitor.mentorado_id}", {"email": email})
            for visitor, email in ((first, second.user.email), (second, first.user.email))
        ]
        at_once(*changes)


def deny(client: Client, change: Callable[[Visitor], Exchange]) -> None:
    """Deny a user who is active on both hosts and continues to read."""
    visitor = client.env.known.any_visitor(client.rng)
    if visitor is None:
        return
    for host in client.env.hosts:
        read_as(client, visitor, host)
    change(visitor)
    client.env.known.add_blocked(visitor)
    watch(client, visitor.user, PROFILE)


def block(client: Client) -> None:
    """Block a user."""
    deny(client, lambda v: client.admin("POST", f"users/{v.user_id}/block", {}))


def deactivate(client: Client) -> None:
    """Deactivate a user's profile."""
    body = {"ativo": "nao"}
    deny(client, lambda v: client.admin("PATCH", f"mentorados/{v.mentorado_id}", body))


def delete(client: Client) -> None:
    """Delete a user's profile."""
    deny(client, lambda v: client.admin("DELETE", f"mentorados/{v.mentorado_id}", {}))


def allow(client: Client) -> None:
    """Allow and activate a user who was denied."""
    visitor = client.env.known.take_blocked()
    if visitor:
        client.admin("POST", f"users/{visitor.user_id}/allow", {})
        client.admin("PATCH", f"mentorados/{visitor.mentorado_id}", {"ativo": "sim"})
        client.ensure(visitor)


def link(client: Client) -> None:
    """Link a pre-registered profile to an active user."""
    visitor, profile_id = signed_in(client), pre_registered_profile(client)
    if profile_id and visitor.user_id:
        path, body = f"mentorados/{profile_id}/link", {"user_id": visitor.user_id}
        at_once(partial(client.admin, "POST", path, body), partial(read_as, client, visitor))
        watch(client, visitor.user, PROFILE)


def link_while_leaving(client: Client) -> None:
    """Link a pre-registered profile to a user while the Clerk account is deleted."""
    visitor, profile_id = signed_in(client), pre_registered_profile(client)
    if profile_id and visitor.user_id:
        path, body = f"mentorados/{profile_id}/link", {"user_id": visitor.user_id}
        at_once(
            partial(client.admin, "POST", path, body),
            partial(send, client, visitor.user, "user.deleted", 0),
        )
        watch(client, visitor.user, PROFILE)


def signed_in(client: Client) -> Visitor:
    """Return a user after a first login; without ids if that failed."""
    visitor = verified_visitor(client)
    client.ensure(visitor)
    return visitor


def pre_registered_profile(client: Client) -> int | None:
    """Pre-register an address without user; returns the profile's id, or None if that failed."""
    number = client.env.known.next_number()
    profile_id: int | None = register(client, f"espera{number}@example.com").document.get("id")
    return profile_id


def unlink(client: Client) -> None:
    """Unlink a profile from its user, who continues to read and write."""
    visitor = client.env.known.any_visitor(client.rng)
    if visitor:
        change = partial(client.admin, "POST", f"mentorados/{visitor.mentorado_id}/unlink", {})
        at_once(change, partial(write_a_month, client, visitor))
        watch(client, visitor.user, PROFILE)
        client.ensure(visitor)


def hand_over(client: Client) -> None:
    """Link the profile of one user to another one, while the first writes."""
    before, after = signed_in(client), signed_in(client)
    if not before.mentorado_id or not after.user_id:
        return

    def relink() -> None:
        client.admin("POST", f"mentorados/{before.mentorado_id}/unlink", {})
        body = {"user_id": after.user_id}
        client.admin("POST", f"mentorados/{before.mentorado_id}/link", body)

    at_once(relink, *[partial(write_a_month, client, before)] * 3)
    watch(client, before.user, PROFILE)


def merge(client: Client) -> None:
    """Merge a pre-registered and a user's profile, in either direction, while the user writes."""
    visitor, profile_id = (
        client.env.known.any_visitor(client.rng),
        pre_registered_profile(client),
    )
    if visitor and visitor.mentorado_id and profile_id is not None:
        pair = [profile_id, visitor.mentorado_id]
        client.rng.shuffle(pair)
        path, body = f"mentorados/{pair[0]}/merge", {"into": pair[1], "dry_run": False}
        write = partial(write_a_month, client, visitor)
        at_once(partial(client.admin, "POST", path, body), write, write)
        watch(client, visitor.user, PROFILE)
        client.ensure(visitor)


def block_an_assistant(client: Client) -> None:
    """Block another admin, who continues to read, and allow the admin later."""
    assistant = client.rng.choice(ASSISTANTS)
    user_id = client.request(assistant, "GET", "/api/auth/me").document.get("user", {}).get("id")
    if user_id is not None:
        client.admin("POST", f"users/{user_id}/block", {})
        watch(client, assistant, ADMINISTRATION)
        later = time.time() + READ_DELAYS_SECONDS[-1]
        client.env.schedule.add(later, client.operation, partial(_allow, user_id))


def _allow(user_id: int, client: Client) -> None:
    client.admin("POST", f"users/{user_id}/allow", {})


# --- pages of the admin console ------------------------------------------------------------------


def import_a_list_twice(client: Client) -> None:
    """Confirm a list twice at once, from one page or from two; then sign in as two of its users."""
    first = client.env.known.next_number(LIST_LINES)
    addresses = [f"lista{first + n}@example.com" for n in range(LIST_LINES)]
    lines = ["nome;e-mail", *(f"Da lista;{address}" for address in addresses)]
    form = {"lista": "\n".join(lines)}
    pages = [confirmation(client, ENROL, form) for _ in range(client.rng.randint(1, 2))]
    submit = partial(client.request, ADMIN, "POST", ENROL)
    at_once(*(partial(submit, form=page) for page in (pages[0], pages[-1]) if page))
    for n, address in enumerate(addresses[:2]):
        visitor = Visitor(DevUser(f"chaos_{first + n}", "Da lista", address))
        client.ensure(client.env.known.add(visitor))


def set_goals_of_all(client: Client) -> None:
    """Set a goal for all active mentees."""
    page = confirmation(client, GOALS, {"meta_leads": str(client.rng.randint(1, 99))})
    if page:
        client.request(ADMIN, "POST", GOALS, form=page)


def confirmation(client: Client, path: str, form: Mapping[str, str]) -> dict[str, str]:
    """Send a form of the console; returns the fields that confirm its preview."""
    page = client.request(ADMIN, "POST", path, form=form)
    reader = FormReader()
    reader.feed(page.body.decode())
    return next((fields for fields in reader.forms if CONFIRMED_FIELD in fields), {})


class FormReader(HTMLParser):
    """Collects the fields that a browser would send with each form of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self._area: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start a form, or add a field to it."""
        attributes = dict(attrs)
        name = attributes.get("name")
        if tag == "form":
            self.forms.append({})
        elif self.forms and name:
            self.forms[-1][name] = attributes.get("value") or ""
        self._area = name if tag == "textarea" else None

    def handle_data(self, data: str) -> None:
        """Add the content of a text area, without the first line break, as browsers do."""
        if self._area is not None and self.forms:
            self.forms[-1][self._area] = data.removeprefix("\n")
            self._area = None


# --- Clerk and other programs --------------------------------------------------------------------


def send_webhooks(client: Client) -> None:
    """Send webhooks about users, some of them twice or late."""
    visitor = client.env.known.any_visitor(client.rng)
    known = [visitor.user] if visitor else []
    number = client.env.known.next_number()
    unknown = [
        DevUser(f"chaos_new_{number}_{n}", "Contada", f"contada{number}_{n}@example.com")
        for n in range(MESSAGES // 2)
    ]
    for user in [*known, *unknown]:
        event = client.rng.choice(["user.created", "user.updated", "user.updated"])
        message = partial(send, client, user, event, client.rng.choice([0, 0, 0, 3_600]))
        if client.rng.random() < 0.3:
            at_once(message, message)
        else:
            message()


def delete_an_account(client: Client) -> None:
    """Send the webhook of a deleted account while its user reads and a sweep may run."""
    visitor = signed_in(client)
    read_as(client, visitor)
    at_once(
        partial(send, client, visitor.user, "user.deleted", 0),
        partial(read_as, client, visitor),
    )
    watch(client, visitor.user, PROFILE)


def delete_accounts_of_a_backlog(client: Client) -> None:
    """Delete accounts while the sweep creates their profiles."""
    first = add_backlog(client.env)
    for n in range(0, BACKLOG, BACKLOG // 10):
        user = DevUser(f"chaos_backlog_{first + n}", "Importada")
        send(client, user, "user.deleted", 0)


def add_backlog(env: Environment) -> int:
    """Insert users without a profile, as another program; returns the number of the first."""
    first = env.known.next_number(BACKLOG)
    with suppress(DBAPIError), connect_to(env.postgres.url) as connection:
        connection.execute(ADD_BACKLOG, {"first": first, "number": BACKLOG})
    return first


def send(client: Client, user: DevUser, event: str, age_seconds: int) -> Exchange:
    """Send a signed webhook about a user, whose data is `age_seconds` old."""
    now = datetime.now(UTC)
    data: dict[str, Any] = {
        **clerk_user(user),
        "updated_at": (now.timestamp() - age_seconds) * 1000,
    }
    body = json.dumps({"type": event, "data": data})
    secret = client.env.provider.webhook_secret
    message_id = f"msg_{user.clerk_id}_{event}_{age_seconds}"
    headers = {
        "svix-id": message_id,
        "svix-timestamp": str(int(now.timestamp())),
        "svix-signature": Webhook(secret).sign(message_id, now, body),
        "Content-Type": "application/json",
    }
    return client.request(None, "POST", "/webhooks/clerk", body=body.encode(), headers=headers)


# --- reads after a change ------------------------------------------------------------------------


def watch(client: Client, user: DevUser, access: str) -> None:
    """Schedule reads of a user whose access has just changed."""
    client.env.known.add_denied(user, access)
    schedule_reads(client.env, client.operation, user, access)


def schedule_reads(env: Environment, operation: str, user: DevUser, access: str) -> None:
    """Schedule reads of a user from now until after the bound, at any host."""
    now, paths = time.time(), PROFILE_PATHS if access == PROFILE else ADMIN_PATHS
    for delay in READ_DELAYS_SECONDS:
        env.schedule.add(now + delay, operation, partial(_read_any, user, paths))


def _read_any(user: DevUser, paths: Sequence[str], client: Client) -> None:
    client.request(user, "GET", client.rng.choice(paths))


def at_once(*calls: Callable[[], object]) -> None:
    """Make all calls at the same moment."""
    if not calls:
        return
    start = threading.Barrier(len(calls))

    def wait_then_call(call: Callable[[], object]) -> None:
        start.wait()
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(wait_then_call, call) for call in calls]:
            future.result()


OPERATIONS = (
    Operation("read", 30, read),
    Operation("first login", 14, sign_in),
    Operation("report a month", 8, report_a_month),
    Operation("come back with another address", 4, come_back_changed),
    Operation("register, then sign in", 4, register_before),
    Operation("register while signing in", 4, register_meanwhile),
    Operation("register twice at once", 3, register_twice),
    Operation("change the address while signing in", 5, change_address_meanwhile),
    Operation("deactivate while signing in", 4, deactivate_meanwhile),
    Operation("delete while signing in", 4, delete_meanwhile),
    Operation("give a pre-registered profile an address", 2, change_address),
    Operation("swap two addresses", 2, swap_addresses),
    Operation("block", 4, block),
    Operation("deactivate", 4, deactivate),
    Operation("delete", 3, delete),
    Operation("allow", 8, allow),
    Operation("link", 3, link),
    Operation("link while leaving", 2, link_while_leaving),
    Operation("unlink", 3, unlink),
    Operation("hand over", 3, hand_over),
    Operation("merge", 3, merge),
    Operation("block an assistant", 1, block_an_assistant),
    Operation("import a list twice at once", 2, import_a_list_twice),
    Operation("goals for all", 1, set_goals_of_all),
    Operation("webhooks of Clerk", 3, send_webhooks),
    Operation("delete an account", 3, delete_an_account),
    Operation("delete accounts during a sweep", 1, delete_accounts_of_a_backlog),
)
