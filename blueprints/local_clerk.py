"""The stand-in's face: its sign-in page, its keys and its users, over HTTP. Development only."""

from secrets import compare_digest

from flask import Blueprint, jsonify, redirect, render_template, request
from flask.typing import ResponseReturnValue

from blueprints.auth import local_path
from blueprints.errors import NotFoundError, UnauthenticatedError
from blueprints.gate import SESSION_COOKIE
from blueprints.stance import public
from house import house
from identity.local import (
    CAST,
    TOKEN_LIFETIME_SECONDS,
    LocalIdentityProvider,
    Person,
    cast_member,
    clerk_user,
    newcomer,
)

local_clerk = Blueprint("local_clerk", __name__, url_prefix="/local-clerk")


@local_clerk.get("/sign-in")
@public
def sign_in() -> ResponseReturnValue:
    """The cast, one button each, and a form for anybody else."""
    target = local_path(request.args.get("redirect_url"))
    return render_template("sign_in.html", cast=CAST, redirect_url=target)


@local_clerk.post("/sign-in")
@public
def enter() -> ResponseReturnValue:
    """Sign that person in and send the browser back to where it wanted to go."""
    person = cast_member(request.form.get("pessoa", "")) or _described()
    response = redirect(local_path(request.form.get("redirect_url")), code=303)
    response.set_cookie(
        SESSION_COOKIE,
        _provider().welcome(person),
        max_age=TOKEN_LIFETIME_SECONDS,
        httponly=True,
        secure=request.is_secure,
        samesite="Lax",
    )
    return response


@local_clerk.get("/.well-known/jwks.json")
@public
def jwks() -> ResponseReturnValue:
    """The public keys of the stand-in."""
    return jsonify(_provider().key_set())


@local_clerk.get("/v1/users/<clerk_id>")
@public
def user(clerk_id: str) -> ResponseReturnValue:
    """A user as the Backend API describes them; needs the stand-in's secret key."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not compare_digest(key, _provider().secret_key):
        raise UnauthenticatedError("the stand-in's secret key is needed")
    person = _provider().find(clerk_id)
    if person is None:
        raise NotFoundError("nobody of that id has signed in here")
    return jsonify(clerk_user(person))


def _described() -> Person:
    """The person of the free form."""
    form = request.form
    return newcomer(
        Person(
            "",
            form.get("nome", "").strip() or None,
            form.get("email", "").strip() or None,
            email_verified="verificado" in form,
        )
    )


def _provider() -> LocalIdentityProvider:
    provider = house().local
    if provider is None:
        raise NotFoundError("the stand-in is not in service")
    return provider
