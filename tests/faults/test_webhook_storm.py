"""Repeated webhooks to several processes during the first login of their user."""

import json

import pytest
import requests

from benchmarks.databases import count
from benchmarks.servers import AppServer, is_served, request_as
from dev.fake_clerk import DevUser, clerk_user
from tests.support.clerk_server import send_webhook
from tests.support.clients import concurrently

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
EVA = DevUser("user_eva", "Eva Melo", "eva@example.com")
COUNT_MESSAGES = "SELECT count(*) FROM webhook_messages"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"


@pytest.mark.parametrize("settings", [{"CLERK_WEBHOOK_SECRET": SECRET}])
def test_concurrent_webhooks_and_logins_create_one_profile(app: AppServer, url: str) -> None:
    body = json.dumps({"type": "user.created", "data": clerk_user(EVA)})

    def send(number: int) -> requests.Response:
        if number % 2:
            return request_as(app, EVA)
        return send_webhook(app.url, SECRET, body, f"msg_{number % 4}")

    answers = concurrently(send, range(40))

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert (count(url, COUNT_MESSAGES), count(url, CREATIONS)) == (2, 1)
    assert count(url, "SELECT count(*) FROM mentorados") == 1
