"""Search for accounts and profiles by name, address, number, Clerk id or reference code.

All conditions are answered by indexes (migration 0020). Words are compared without accents and
case, in any order and by their beginnings; see docs/decisions/031-search-by-words.md.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select, and_, func, not_, or_, select, union
from sqlalchemy.orm import InstrumentedAttribute

from core.email_address import normalize_address
from models import AuditEvent, Mentorado, ProvisioningAttempt, User

CODE_LENGTH = 8  # characters of a reference code that suffice to find it
MAX_NUMBER = 2_147_483_647
# The condition of mentorados_search_idx: other profiles are found by their user's name and address.
HAS_OWN_WORDS = or_(Mentorado.user_id.is_(None), not_(Mentorado.is_unedited))
# The conditions of the two indexes of the profiles' addresses.
ADDRESS_CONDITIONS = (
    Mentorado.user_id.is_(None),
    and_(Mentorado.user_id.is_not(None), not_(Mentorado.is_unedited)),
)
MOST_MATCHES = 1_000  # of one condition: a word of most addresses must not read the whole table


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """A text that is not blank, as an admin has typed it.

    `shown_to` is the Clerk id of the user who was shown the text as a reference code, if any.
    """

    text: str
    shown_to: str | None = None

    @property
    def number(self) -> int | None:
        """The text as the number of an account or a profile: «17» or «nº 17»."""
        digits = self.text.lower().removeprefix("nº").strip()
        is_number = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(MAX_NUMBER))
        return int(digits) if is_number and int(digits) <= MAX_NUMBER else None

    def user_ids(self, *, after_id: int = 0) -> CompoundSelect[int]:
        """Return a query of the ids of matching users: by their own data or by their profile's.

        Ids begin after `after_id`; each condition gives at most MOST_MATCHES.
        """
        conditions = [
            self._has_words(User.name, User.email),
            User.clerk_id.in_({self.text, self.shown_to or self.text}),
            User.clerk_id.in_(self._clerk_ids_of_attempts()),
            User.id.in_(self._user_ids_of_events()),
        ]
        if "@" in self.text:
            conditions.append(self._has_address(User.email))
        if self.number is not None:
            conditions.append(User.id == self.number)
        return union(
            *(_first(User.id, condition, after_id) for condition in conditions),
            *(_first(Mentorado.user_id, each, after_id) for each in self._profile_conditions()),
        )

    def profile_ids(self, *, after_id: int = 0) -> CompoundSelect[int]:
        """Return a query of the ids of matching profiles, as `user_ids`."""
        users = select(User.id).where(self._has_words(User.name, User.email)).limit(MOST_MATCHES)
        conditions = [*self._profile_conditions(), Mentorado.user_id.in_(users)]
        if self.number is not None:
            conditions.append(Mentorado.id == self.number)
        return union(*(_first(Mentorado.id, condition, after_id) for condition in conditions))

    def _clerk_ids_of_attempts(self) -> Select[str]:
        return select(ProvisioningAttempt.clerk_id).where(
            self._is_code(ProvisioningAttempt.request_id)
        )

    def _user_ids_of_events(self) -> Select[int | None]:
        return select(AuditEvent.user_id).where(self._is_code(AuditEvent.request_id))

    def _profile_conditions(self) -> list[ColumnElement[bool]]:
        """Return a condition for each index of the profiles' names and addresses."""
        words = self._has_words(Mentorado.nome_completo, Mentorado.email)
        conditions = [and_(HAS_OWN_WORDS, words)]
        if "@" in self.text:
            address = self._has_address(Mentorado.email)
            conditions += [and_(condition, address) for condition in ADDRESS_CONDITIONS]
        return conditions

    def _has_words(
        self, name: InstrumentedAttribute[Any], email: InstrumentedAttribute[Any]
    ) -> ColumnElement[bool]:
        return func.search_words(name, email).op("@@")(func.search_query(self.text))

    def _has_address(self, email: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
        """Whether it is this address, also in another spelling of its domain."""
        return func.normalized_address(email) == normalize_address(self.text)

    def _is_code(self, column: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
        """Whether the text is this reference code, or at least its first eight characters."""
        return and_(
            func.left(column, CODE_LENGTH) == self.text[:CODE_LENGTH],
            func.starts_with(column, self.text),
        )


def _first(
    column: InstrumentedAttribute[Any], condition: ColumnElement[bool], after_id: int
) -> Select[int]:
    """Return a query of the first ids after `after_id` that meet the condition."""
    ids = select(column.label("id")).where(column > after_id, condition)
    return select(ids.order_by(column).limit(MOST_MATCHES).subquery().c.id)
