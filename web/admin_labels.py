"""Portuguese labels of the admin console: states, audit events, changes, tables and failures."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flask import Flask

from models import AuditEvent
from provisioning.ensure import DecisionPreview
from provisioning.errors import Conflict, Denial
from provisioning.preview import Fact, Snapshot, Subject, SubjectKind
from provisioning.rules import Action
from provisioning.user_lists import UserState
from web.formatting import join_words, month_name, number, reais
from web.mentee_texts import FIGURE_LABELS

STATES = {
    UserState.READY: "Pronta",
    UserState.MISSING: "Sem perfil",
    UserState.PENDING: "Em nova tentativa",
    UserState.ATTENTION: "Precisa de atenção",
    UserState.BLOCKED: "Bloqueada",
    UserState.ADMIN: "Administração",
}
STATUSES = {  # of sweeps and jobs
    "queued": "na fila",
    "running": "em andamento",
    "succeeded": "concluída",
    "failed": "com erro",
    "abandoned": "abandonada",
}
TRIGGERS = {"clock": "automática", "admin": "iniciada pela administração", "cli": "pelo terminal"}
CONFLICTS = {
    Conflict.SAME_PROFILE: "Um perfil não pode ser unido a si mesmo.",
    Conflict.PROFILE_CHANGED: "O perfil acabou de mudar (dono ou e-mail). Confira de novo.",
    Conflict.OWNED: "O perfil já é de outra pessoa. Desvincule-o antes.",
    Conflict.HAS_PROFILE: "A pessoa já usa um perfil próprio. Una os dois perfis.",
    Conflict.OWN_ACCOUNT: "Ninguém bloqueia nem exclui a si mesmo.",
    Conflict.KEPT_BLOCKED: "A conta que fica está bloqueada. Libere-a antes, ou escolha a outra.",
    Conflict.DELETED_ACCOUNT: "A conta desta pessoa foi excluída no Clerk.",
    Conflict.TWO_OWNERS: "Os dois perfis têm dono. Desvincule um deles antes de unir.",
    Conflict.STILL_REFERENCED: "Registros de outro sistema ainda dependem deste perfil.",
    Conflict.UNRESOLVABLE: "Uma regra do banco de dados recusa um dos registros.",
    Conflict.ROW_STILL_REFERENCED: (
        "Registros de outro sistema dependem de um registro que teria de sair."
    ),
    Conflict.PREVIEW_OUTDATED: "Algo mudou desde que você viu esta página. Confira de novo.",
}
CONFIRMED_NAME = "confirma_nome"  # the field of a form in which an admin types a name
FACTS = {
    "name": "Nome",
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
    CONFIRMED_NAME: "Nome, para confirmar",
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
    "person_erased": "Dados pessoais apagados",
    "impersonated_write": "Alteração feita em nome da pessoa",
    "month_deleted": "Mês apagado pela própria pessoa",
    "month_restored": "Mês restaurado pela própria pessoa",
    "profile_renamed": "Nome mudado pela própria pessoa",
}
ACTIONS = {
    "block": "Acesso bloqueado",
    "allow": "Acesso liberado",
    "link": "Perfil vinculado",
    "unlink": "Perfil desvinculado",
    "delete": "Perfil excluído",
    "edit": "Perfil corrigido",
    "restore": "Perfil restaurado",
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
CHANNELS = {
    "page": "site",
    "api": "aplicativo (API)",
    "webhook": "aviso do Clerk",
    "sweep": "varredura",
    "admin": "administração",
    "cli": "terminal",
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
COUNTED = {"metricas_mensais": ("mês", "meses"), "feedbacks": ("feedback", "feedbacks")}
COLUMNS = FIGURE_LABELS | {
    "observacoes": "Observações:",
    "analise_mes": "Análise:",
    "foco_proximo_mes": "Foco:",
    "sugestao_mentor": "Sugestão:",
}
TABLES = {
    "users": "Conta",
    "mentorados": "Perfil",
    "audit_events": "Registros da auditoria (ficam, sem dados pessoais)",
    "archived_rows": "Cópias arquivadas",
    "provisioning_attempts": "Falhas de criação do perfil",
    "admin_jobs": "Tarefas (ficam, sem dados pessoais)",
}
HIDDEN_COLUMNS = (
    *("id", "mentorado_id", "created_at", "updated_at", "reported_fields"),
    *("author_id", "read_at", "focus_done_at"),
)

# SQLSTATE (PostgreSQL, appendix A); the longest prefix counts.
FAILURES_BY_SQLSTATE = {
    "08": "o banco de dados não respondeu",
    "22": "o banco de dados recusou um valor que não cabe",
    "23": "o banco de dados recusou: uma regra foi violada",
    "23505": "o banco de dados recusou: já existe um registro igual",
    "25006": "o banco de dados só aceita leitura",
    "40": "outra gravação ao mesmo tempo atrapalhou",
    "42": "o banco de dados e o programa não combinam (falta uma migração?)",
    "53": "o banco de dados ficou sem espaço ou sem conexões",
    "55P03": "outra gravação demorou demais",
    "57": "o banco de dados interrompeu o trabalho",
    "57014": "o banco de dados demorou demais",
    "P0": "o banco de dados recusou: uma regra da instalação foi violada",
}
FAILURES_BY_CLASS = {
    "UnusableAnswerError": "o Clerk respondeu algo que não dá para usar",
    "OperationalError": "o banco de dados não respondeu",
    "DeadlineError": "o banco de dados demorou demais",
    "ServerSilentError": "o banco de dados demorou demais",
    "DatabaseUnavailableError": "o banco de dados não respondeu",
}
SQLSTATE_LENGTH = 5  # other codes are of the identity provider


def register_admin_labels(app: Flask) -> None:
    """Register the template filters of the admin console, and the tables of its labels."""
    labels = (event_name, event_labels, row_labels, table_label, channel_text)
    for template_filter in (*labels, goal_text, count_text, failure_text):
        app.add_template_filter(template_filter)
    app.jinja_env.globals.update(states=STATES, statuses=STATUSES, triggers=TRIGGERS)
    app.jinja_env.globals.update(outcomes=OUTCOMES, field_labels=FIELDS)


def decision_text(result: DecisionPreview) -> str:
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
    parts = [f"Motivo: {details['reason']}"] if "reason" in details else []
    for name, value in after.items():
        old = f"{_value_text(name, before[name])} → " if name in before else ""
        parts.append(f"{FACTS.get(name, name)}: {old}{_value_text(name, value)}")
    if merged := details.get("merged_mentorado_id") or details.get("folded_mentorado_id"):
        parts.append(f"perfil nº {merged} deixou de existir")
    if "error" in details:
        parts.append(f"erro {details['error']}")
    if actor := details.get("impersonator"):
        parts.append(f"sessão aberta por {actor}")
    return "; ".join(parts) or "—"


def row_labels(row: Mapping[str, Any]) -> str:
    """Return the columns of a row as text, without technical ones: «março de 2026, leads 57»."""
    shown = {k: v for k, v in row.items() if k not in HIDDEN_COLUMNS and v not in (None, "", 0)}
    parts = []
    if {"ano", "mes"} <= shown.keys():
        parts = [month_name(shown.pop("mes"), shown.pop("ano"))]
    for name, value in shown.items():
        label = COLUMNS.get(name) or FACTS.get(name, name)
        parts.append(f"{label.lower()} {number(value) if isinstance(value, int) else value}")
    return ", ".join(parts)


def channel_text(channel: str) -> str:
    """Return where a change came from."""
    return CHANNELS.get(channel, channel)


def table_label(name: str) -> str:
    """Return the label of a table or fact; another program's table keeps its name."""
    return TABLES.get(name) or FACTS.get(name) or f"Registros de outro sistema ({name})"


def count_text(counts: Mapping[str, int]) -> str:
    """Return numbers of rows by table in words: «8 meses e 1 feedback»."""
    known = {table: counts.get(table, 0) for table in COUNTED}
    others = sum(counts.values()) - sum(known.values())
    parts = [
        f"{number(count)} {COUNTED[table][count != 1]}"
        for table, count in known.items()
        if count or not others
    ]
    if others:
        noun = "registro" if others == 1 else "registros"
        parts.append(f"{number(others)} {noun} de outro sistema")
    return join_words(parts)


def goal_text(goals: Mapping[str, int]) -> str:
    """Return goals in one line: «R$ 16.000 · 50 leads · …»; «—» without goals."""
    parts = [
        reais(goals[name]) if name == "meta_faturamento" else f"{number(goals[name])} {name[5:]}"
        for name in FACTS  # JSON does not keep the order
        if name in goals
    ]
    return " · ".join(parts) or "—"


def failure_text(error: str) -> str:
    """Return an error such as `IntegrityError 23505` in words."""
    error_class, _, code = error.partition(" ")
    if len(code) == SQLSTATE_LENGTH:
        for length in range(SQLSTATE_LENGTH, 1, -1):
            if text := FAILURES_BY_SQLSTATE.get(code[:length]):
                return text
    return FAILURES_BY_CLASS.get(error_class, "um erro que o programa não esperava")


Names = Mapping[tuple[str, int], str]  # of users and profiles, by the fact that refers to them


def list_differences(
    before: Mapping[Subject, Snapshot], after: Mapping[Subject, Snapshot], names: Names
) -> list[tuple[str, ...]]:
    """List what would change, each as: subject, fact, before, after."""
    result: list[tuple[str, ...]] = []
    for subject, old in before.items():
        new, label = after[subject], subject_label(subject, old)
        if old and not new:
            result.append((label, "Perfil", "existe", "deixa de existir"))
            continue
        for name in old | new:
            values = old.get(name), new.get(name)
            if values[0] != values[1]:
                texts = (_value_text(name, value, names) for value in values)
                result.append((label, table_label(name), *texts))
    return result


def subject_label(subject: Subject, facts: Snapshot) -> str:
    """Return the name of a user or profile: «Eva Melo (perfil nº 5)»."""
    name = facts.get("nome_completo") or facts.get("name")
    kind = "pessoa" if subject.kind is SubjectKind.USER else "perfil"
    label = f"{kind} nº {subject.id}"
    return f"{name} ({label})" if name else label.capitalize()


def _value_text(name: str, value: Fact, names: Names = MappingProxyType({})) -> str:
    if isinstance(value, int) and (name, value) in names:
        return names[name, value]
    return VALUES.get(name, {}).get(value) or ("—" if value is None else str(value))
