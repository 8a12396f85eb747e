"""The second yardstick: the app that one writes in an hour, without any guarantee.

Select, insert, one call to Clerk by urllib, a cache in the process. Simultaneous first requests of
one user get errors from the unique constraint.

    DATABASE_URL=… CLERK_API_URL=… gunicorn benchmarks.naive_app:app
"""

import json
import os
import urllib.request
from typing import Any

import jwt
from cachelib import SimpleCache
from flask import Flask, request
from sqlalchemy import create_engine, text

CLERK = os.environ["CLERK_API_URL"]
engine = create_engine(
    os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg2://")
)
keys = jwt.PyJWKClient(f"{CLERK}/.well-known/jwks.json")
cache = SimpleCache()
app = Flask(__name__)

CREATE = """
CREATE TABLE IF NOT EXISTS naive_users (
    id serial PRIMARY KEY, clerk_id text UNIQUE, name text, email text);
CREATE TABLE IF NOT EXISTS naive_mentorados (
    id serial PRIMARY KEY, user_id int UNIQUE REFERENCES naive_users, nome_completo text)
"""
SELECT = text("""
    SELECT u.id, u.name, u.email, m.id AS mentorado_id FROM naive_users u
      JOIN naive_mentorados m ON m.user_id = u.id WHERE u.clerk_id = :clerk_id
""")
INSERT_USER = text("""
    INSERT INTO naive_users (clerk_id, name, email) VALUES (:clerk_id, :name, :email) RETURNING id
""")
INSERT_PROFILE = text("""
    INSERT INTO naive_mentorados (user_id, nome_completo) VALUES (:user_id, :name) RETURNING id
""")


@app.get("/healthz")
def health() -> str:
    """Say that the process serves."""
    return "ok"


@app.post("/api/auth/ensure")
@app.get("/api/auth/me")
def me() -> tuple[dict[str, Any], int]:
    """Return the signed-in user, who gets a profile at the first request."""
    token = request.headers["Authorization"].removeprefix("Bearer ")
    key = keys.get_signing_key_from_jwt(token).key
    clerk_id = jwt.decode(token, key, algorithms=["RS256"], options={"verify_aud": False})["sub"]
    answer = cache.get(clerk_id)
    if answer is not None:
        return answer, 200
    with engine.begin() as connection:
        row = connection.execute(SELECT, {"clerk_id": clerk_id}).one_or_none()
        status = 200 if row else 201
        answer = dict(row._mapping) if row else _create(connection, clerk_id)  # noqa: SLF001 - public
    cache.set(clerk_id, answer)
    return answer, status


def _create(connection: Any, clerk_id: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{CLERK}/v1/users/{clerk_id}") as response:  # nosec B310 # noqa: S310
        user = json.load(response)
    name = f"{user['first_name']} {user['last_name']}"
    email = user["email_addresses"][0]["email_address"]
    values = {"clerk_id": clerk_id, "name": name, "email": email}
    user_id = connection.execute(INSERT_USER, values).scalar_one()
    profile_id = connection.execute(INSERT_PROFILE, {"user_id": user_id, "name": name}).scalar_one()
    return {"id": user_id, "name": name, "email": email, "mentorado_id": profile_id}


def create_tables() -> None:
    """Create the tables of this app."""
    with engine.begin() as connection:
        connection.execute(text(CREATE))
