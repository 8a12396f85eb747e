"""Portuguese labels of the admin console."""

from collections.abc import Mapping
from typing import Any

from flask import Flask

from models import AuditEvent
from provisioning.admin_actions import Conflict
from provisioning.ensure import ForecastResult
from provisioning.errors import Denial
from provisioning.preview import Fact, Snapshot
from provisioning.queries import UserState
from provisioning.rules import Action

STATES = {
    UserState.READY: "Pronta",
    UserState.MISSING: "Sem perfil",
    UserState.PENDING: "Em nova tentativa",
    UserState.ATTENTION: "Precisa de atenção",
    UserState.BLOCKED: "Bloqueada",
    UserState.ADMIN: "Administração",
}
CONFLICTS = {
    Conflict.SAME_PROFILE: "Um perfil não pode ser unido a si mesmo.",
    Conflict.OWNER_CHANGED: "O perfil acabou de mudar de dono.",
    Conflict.OWNED: "O perfil já é de outra pessoa. Desvincule-o antes.",
    Conflict.HAS_PROFILE: "A pessoa já usa um perfil próprio. Una os dois perfis.",
    Conflict.OWN_ACCOUNT: "Ninguém bloqueia nem exclui a si mesmo.",
    Conflict.KEPT_BLOCKED: "A conta que fica está bloqueada. Libere-a antes, ou escolha a outra.",
    Conflict.DELETED_ACCOUNT: "A conta desta pessoa foi excluída no Clerk.",
    Conflict.TWO_OWNERS: "Os dois perfis têm dono. Desvincule um deles antes de unir.",
    Conflict.STILL_REFERENCED: "Outra tabela ainda depende deste perfil.",
    Conflict.UNRESOLVABLE: "Uma regra do banco impede mover uma das linhas.",
    Conflict.ROW_STILL_REFERENCED: "Outra tabela depende de uma linha que teria de sair.",
    Conflict.PREVIEW_OUTDATED: "Algo mudou desde que você viu esta página. Confira de novo.",
}
FACTS = {
    "state": "Situação",
    "role": "Papel",
    "blocked": "Acesso bloqueado",
    "mentorado_id": "Perfil",
    "attempt": "Tentativas",
    "user_id": "Pessoa vinculada",
    "nome_completo": "Nome",
    "email": "E-mail",
    "foto_url": "Foto",
    "turma": "Turma",
    "ativo": "Ativo",
    "meta_faturamento": "Meta de faturamento",
    "meta_leads": "Meta de leads",
    "meta_procedimentos": "Meta de procedimentos",
    "meta_posts": "Meta de posts",
    "meta_stories": "Meta de stories",
    "metricas_mensais": "Meses registrados",
    "feedbacks": "Feedbacks",
}
FIELDS = FACTS | {
    "pessoa": "Número da pessoa",
    "destino": "Número do perfil que fica",
    "prefere": "Quando os dois têm o mesmo mês, vale o registro do",
}
VALUES: dict[str, dict[Fact, str]] = {
    "state": {state.value: name for state, name in STATES.items()},
    "role": {"user": "mentorado", "admin": "administração"},
    "blocked": {True: "sim", False: "não"},
    "ativo": {"sim": "sim", "nao": "não"},
    "attempt": {"pending": "em andamento", "dead": "esgotadas", None: "nenhuma"},
}
EVENTS = {
    "mentorado_created": "Perfil criado",
    "mentorado_linked": "Pré-cadastro vinculado",
    "mentorado_claimed": "Pré-cadastro assumido no lugar do perfil automático",
    "mentorado_link_ambiguous": "Mais de um pré-cadastro com o mesmo e-mail",
    "auto_create_changed": "Criação automática ligada ou desligada",
    "user_deleted": "Conta excluída no Clerk",
}
ACTIONS = {
    "block": "Acesso bloqueado",
    "allow": "Acesso liberado",
    "link": "Perfil vinculado",
    "unlink": "Perfil desvinculado",
    "delete": "Perfil excluído",
    "edit": "Perfil corrigido",
    "merge": "Perfis unidos",
    "same_person": "Contas da mesma pessoa unidas",
    "pre_register": "Pré-cadastro feito",
    "take_over": "Perfil automático completado",
    "discard": "Tentativas descartadas",
    "grant": "Papel de administração dado",
    "revoke": "Papel de administração tirado",
    "listed": "Entrou na administração (ADMIN_EMAILS)",
    "unlisted": "Saiu da administração (ADMIN_EMAILS)",
    "retry_all": "Todas as falhas tentadas de novo",
    "feedback": "Feedback escrito",
    "month_goals": "Metas do mês mudadas",
    "goals_of_all": "Metas de todos mudadas",
    "goals_in_bulk": "Metas mudadas junto com as de todos",
    "goals_undone": "Mudança das metas de todos desfeita",
}
DENIALS = {
    Denial.USER_BLOCKED: "Não entraria: o acesso está bloqueado.",
    Denial.USER_DELETED: "Não entraria: a conta foi excluída no Clerk.",
    Denial.MENTORADO_INACTIVE: "Não entraria: o perfil está inativo.",
    Denial.AUTO_CREATE_DISABLED: "Não ganharia perfil: a criação automática está desligada.",
    Denial.NOT_INVITED: "Não ganharia perfil: não há pré-cadastro com um e-mail verificado seu.",
}
FORECASTS = {
    Action.KEEP: "Encontraria o próprio perfil.",
    Action.CLAIM: "Receberia o pré-cadastro nº {id} no lugar do perfil automático, ainda sem uso.",
    Action.LINK: "Receberia o pré-cadastro nº {id}, que espera por este e-mail.",
    Action.CREATE: "Ganharia um perfil novo.",
    Action.EXEMPT: "Entraria na administração, sem perfil.",
}
AMBIGUOUS_SUFFIX = " Há mais de um pré-cadastro com este e-mail: escolha um abaixo."


OUTCOMES = {
    "created": "ganharia um perfil",
    "linked": "receberia o pré-cadastro",
    "claimed": "receberia o pré-cadastro no lugar do perfil automático",
    "existing": "já tem perfil",
    "denied": "ficaria sem perfil, pelas regras",
    "admin": "não precisa de perfil",
}
HIDDEN_COLUMNS = ("id", "mentorado_id", "created_at", "updated_at")


def register_admin_labels(app: Flask) -> None:
    """Register the template filters of the admin console."""
    for template_filter in (event_labels, row_labels, outcome_label):
        app.add_template_filter(template_filter)


def forecast_text(result: ForecastResult) -> str:
    """Return what would happen if the user signed in now, in one or two sentences."""
    decision = result.decision
    if decision.denial is not None:
        return DENIALS[decision.denial]
    sentence = FORECASTS[decision.action].format(id=decision.mentorado_id)
    return sentence + (AMBIGUOUS_SUFFIX if result.facts.is_ambiguous else "")


def event_name(event: AuditEvent) -> str:
    """Return the label of an audit event; an unknown event keeps its own name."""
    action = (event.details or {}).get("action")
    return ACTIONS.get(str(action)) or EVENTS.get(event.event) or str(action or event.event)


def event_labels(event: AuditEvent) -> str:
    """Return the reason of an audit event and the values before and after it."""
    details = event.details or {}
    before, after = details.get("before", {}), details.get("after", {})
    changes = [
        f"{FACTS.get(k, k)}: {_value_text(k, before[k])} → {_value_text(k, after[k])}"
        if k in before
        else f"{FACTS.get(k, k)}: {_value_text(k, after[k])}"
        for k in after
    ]
    merged = details.get("merged_mentorado_id") or details.get("folded_mentorado_id")
    parts = [
        *([f"Motivo: {details['reason']}"] if "reason" in details else []),
        *changes,
        *([f"perfil nº {merged} deixou de existir"] if merged else []),
        *([f"erro {details['error']}"] if "error" in details else []),
    ]
    return "; ".join(parts) or "—"


def row_labels(row: Mapping[str, Any]) -> str:
    """Return the columns of a row of any table as text, without technical ones."""
    shown = {k: v for k, v in row.items() if k not in HIDDEN_COLUMNS and v not in (None, "", 0)}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def outcome_label(outcome: str) -> str:
    """Return the text for the outcome of a dry run."""
    return OUTCOMES.get(outcome, outcome)


def list_differences(
    before: Mapping[str, Snapshot], after: Mapping[str, Snapshot]
) -> list[tuple[str, ...]]:
    """List what would change, each as: subject, fact, before, after."""
    result: list[tuple[str, ...]] = []
    for subject in before:
        old, new = before[subject], after[subject]
        if old and not new:
            result.append((subject, "Perfil", "existe", "deixa de existir"))
            continue
        names = [name for name in old | new if old.get(name) != new.get(name)]
        result += [
            (subject, FACTS.get(n, n), _value_text(n, old.get(n)), _value_text(n, new.get(n)))
            for n in names
        ]
    return result


def _value_text(name: str, value: Fact) -> str:
    label = VALUES.get(name, {}).get(value)
    return label or ("—" if value is None else str(value))
