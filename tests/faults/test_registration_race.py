"""The team registers somebody in the moment in which they sign in: two hundred times."""

from functools import partial

import requests

from dev.clients import ADMIN, concurrently, few_at_a_time, is_served, new_users, request_as
from dev.databases import count
from dev.fake_clerk import DevUser
from dev.servers import Served

PEOPLE = new_users(200)
REGISTERED_AND_OWNED = """
SELECT count(user_id) FROM mentorados WHERE nome_completo LIKE 'Cadastro de %'
"""


def meet(app: Served, person: DevUser) -> list[requests.Response]:
    """Register and let sign in at once; then the person comes back."""
    data = {"nome_completo": f"Cadastro de {person.name}", "email": person.email}
    registering = partial(request_as, app, ADMIN, "/api/admin/mentorados", "POST", data)
    entering = partial(request_as, app, person, "/dashboard", "GET")
    answers = concurrently(lambda call: call(), [registering, entering])
    return [*answers, request_as(app, person)]


def test_whoever_comes_first_there_is_one_profile_with_the_team_s_data(
    app: Served, url: str
) -> None:
    rounds = few_at_a_time(partial(meet, app), PEOPLE)

    answers = [answer for answers in rounds for answer in answers]
    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert count(url, REGISTERED_AND_OWNED) == len(PEOPLE)
    assert count(url, "SELECT count(*) FROM mentorados") == len(PEOPLE)
