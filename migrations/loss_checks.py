"""Check constraints of an installation adopted earlier that refuse a month with a loss.

A constraint is of that kind when it accepts a month with a profit of zero and refuses the same
month with a loss. It is dropped and stored; the downgrade to the other program adds it again.
"""

import json

import sqlalchemy as sa
from alembic import op

from migrations import adoption

FACT_NAME = "loss_checks"
NOT_VALID = " NOT VALID"  # end of the definition of a constraint that old rows may violate
LOSSES = (-1, -2_147_483_648)
FIGURES = ("faturamento", "posts_feed", "stories", "leads", "procedimentos")
MONTH = {"id": 1, "mentorado_id": 1, "ano": 2026, "mes": 1, "observacoes": ""}

CHECKS = sa.text("""
    SELECT quote_ident(conname), pg_get_constraintdef(oid), pg_get_expr(conbin, conrelid)
      FROM pg_constraint
     WHERE conrelid = to_regclass('metricas_mensais') AND contype = 'c' AND conislocal
     ORDER BY conname
""")
REFUSES = """
    SELECT ({condition}) IS FALSE FROM jsonb_populate_record(
        NULL::metricas_mensais, CAST('{month}' AS jsonb)) AS metricas_mensais
"""
IS_VIOLATED = "SELECT EXISTS (SELECT 1 FROM metricas_mensais WHERE ({condition}) IS FALSE)"


def drop() -> None:
    """Drop the constraints of this kind and store them for `restore`."""
    bind = op.get_bind()
    for name, definition, condition in bind.execute(CHECKS).all():
        if _refuses_losses(bind, condition):
            op.execute(_statement(f"ALTER TABLE metricas_mensais DROP CONSTRAINT {name}"))
            adoption.store_facts(**{FACT_NAME: {**_stored_checks(), name: [definition, condition]}})


def restore() -> None:
    """Add the stored constraints again.

    A constraint that existing months violate is added as NOT VALID: it applies to new and changed
    months only, so that no month is lost.
    """
    for name, (definition, condition) in _stored_checks().items():
        table = "ALTER TABLE metricas_mensais"
        plain = definition.removesuffix(NOT_VALID)
        op.execute(_statement(f"{table} ADD CONSTRAINT {name} {plain}{NOT_VALID}"))
        is_violated = op.get_bind().scalar(_statement(IS_VIOLATED.format(condition=condition)))
        if plain == definition and not is_violated:
            op.execute(_statement(f"{table} VALIDATE CONSTRAINT {name}"))


def _refuses_losses(bind: sa.Connection, condition: str) -> bool:
    """Whether a check of this condition accepts a profit of zero, but not every loss."""
    return not _refuses(bind, condition, 0) and any(
        _refuses(bind, condition, loss) for loss in LOSSES
    )


def _refuses(bind: sa.Connection, condition: str, profit: int) -> bool:
    month = json.dumps({**MONTH, **dict.fromkeys(FIGURES, 0), "lucro": profit})
    query = REFUSES.format(condition=condition, month=month)
    return bool(bind.scalar(_statement(query)))


def _statement(statement: str) -> sa.TextClause:
    """Return a statement without parameters: colons in a constraint are casts or text."""
    return sa.text(statement.replace(":", r"\:"))


def _stored_checks() -> dict[str, list[str]]:
    return adoption.read_fact(FACT_NAME) or {}
