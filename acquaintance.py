"""What there is to know about a person: their token, and where it is silent, the provider."""

import structlog
from sqlalchemy.exc import SQLAlchemyError

from extensions import transaction
from identity.directory import Directory
from identity.errors import ProviderUnavailableError, UnusableAnswerError
from provisioning import people
from provisioning.identity import Identity

log = structlog.get_logger(__name__)

LOOKUP_SECONDS = 0.8  # the provider's share: whoever it leaves waiting is provisioned without it
QUESTION_SECONDS = 0.45  # the database's, for whether there is anything to ask


def learned(directory: Directory | None, identity: Identity) -> Identity:
    """This identity, completed by the provider unless that has been done before.

    No transaction is open while the provider is asked. Where it does not answer, or not usably, the
    person is provisioned from their token alone, and the sweep completes them later.
    """
    if identity.is_complete or directory is None or _is_known(identity.clerk_id):
        return identity
    try:
        told = directory.look_up(identity.clerk_id, wait_seconds=LOOKUP_SECONDS)
    except (ProviderUnavailableError, UnusableAnswerError) as err:
        log.warning("identity_not_completed", reason=str(err))
        return identity
    return identity.completed_by(told)


def _is_known(clerk_id: str) -> bool:
    """Whether everything has been heard of this person; without database nothing is to be asked."""
    try:
        with transaction(QUESTION_SECONDS) as session:
            return people.is_complete(session, clerk_id)
    except SQLAlchemyError:
        return True
