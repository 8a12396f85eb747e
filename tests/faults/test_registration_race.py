"""An admin pre-registers a user during the first login of that user, sixty times."""

from functools import partial

import requests

from benchmarks.databases import count
from benchmarks.servers import AppServer, is_served, request_as
from dev.fake_clerk import DevUser
from tests.support.clients import ADMIN, concurrently, new_users, run_with_few_threads

USERS = new_users(60)
REGISTERED_AND_OWNED = """
SELECT count(user_id) FROM mentorados WHERE nome_completo LIKE 'Cadastro de %'
"""


def register_and_sign_in(app: AppServer, user: DevUser) -> list[requests.Response]:
    """Register and sign in concurrently, then sign in again; return all answers."""
    data = {"nome_completo": f"Cadastro de {user.name}", "email": user.email}
    register = partial(request_as, app, ADMIN, "/api/admin/mentorados", "POST", data)
    open_dashboard = partial(request_as, app, user, "/dashboard", "GET")
    answers = concurrently(lambda call: call(), [register, open_dashboard])
    return [*answers, request_as(app, user)]


def test_concurrent_registration_and_login_give_one_profile_with_the_registered_data(
    app: AppServer, url: str
) -> None:
    rounds = run_with_few_threads(partial(register_and_sign_in, app), USERS)

    answers = [answer for answers in rounds for answer in answers]
    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert count(url, REGISTERED_AND_OWNED) == len(USERS)
    assert count(url, "SELECT count(*) FROM mentorados") == len(USERS)
