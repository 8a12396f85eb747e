"""Sentences for mentees in pt-BR: changes, goals, pace, score, deadlines, and advice."""

from dataclasses import dataclass

from flask import Flask

from dashboard.month_view import Change, ClosingTask, GoalProgress, Pace
from dashboard.months import AddressState, GoalChange, Goals
from dashboard.periods import CLOSING_DAY, Period
from dashboard.score import GOAL_LABELS, MEASURES, MONEY, PERCENT_CAP, ScoreSuggestion
from provisioning.context import NOT_REQUIRED, READY, RequestContext
from provisioning.user_lists import Diagnosis
from web.formatting import MONTHS, figure, join_words, number, reais

UNITS = {
    "leads": ("lead", "leads"),
    "procedimentos": ("procedimento", "procedimentos"),
    "posts": ("post", "posts"),
    "stories": ("story", "stories"),
    "points": ("ponto", "pontos"),
}
# By column and in the order of the form.
FIGURE_LABELS = {"posts_feed" if key == "posts" else key: label for key, label in MEASURES.items()}
MILESTONES = (3, 6, 12)
NO_EMAIL = "Sua conta não informa um e-mail. Adicione um para encontrarmos seu pré-cadastro."
UNVERIFIED = "Confirme seu e-mail para que possamos encontrar seu pré-cadastro."
SEVERAL_MATCHES = "Há mais de um pré-cadastro com seu e-mail. Fale com a equipe para unificá-los."
ONE_MATCH = "Há um pré-cadastro com seu e-mail. Fale com a equipe para uni-lo ao seu perfil."
STEPS = (
    "Abra sua conta, escolha «Endereços de e-mail», {step} e digite o código que chega por e-mail. "
    "Depois atualize esta página: em cerca de um minuto encontramos seu cadastro."
)


@dataclass(frozen=True, slots=True)
class Advice:
    """What a mentee can do; `how_to` has the steps that are done on Clerk's account page."""

    text: str
    how_to: str | None = None


def register_mentee_texts(app: Flask) -> None:
    """Register the template filters of the dashboard."""
    for template_filter in (
        change_mark,
        change_text,
        closing_text,
        goal_percent,
        goal_status,
        goals_text,
        month_alone,
        streak_text,
        suggestion_text,
    ):
        app.add_template_filter(template_filter)
    app.jinja_env.globals.update(chart_measures=MEASURES, figure_labels=FIGURE_LABELS)


def month_alone(period: Period) -> str:
    """Return the name of the month without its year."""
    return MONTHS.split()[period.mes - 1]


def amount(value: int, measure: str) -> str:
    """16000, «faturamento» → «R$ 16.000»; 1, «leads» → «1 lead»."""
    if measure in MONEY:
        return reais(value)
    one, many = UNITS[measure]
    return f"{number(value)}\u00a0{one if value == 1 else many}"


def change_mark(change: Change) -> tuple[str, str]:
    """Return `more`, `less` or `same`, for the style, and a sign, which screen readers skip."""
    if change.difference == 0:
        return "same", "="
    return ("more", "▲") if change.difference > 0 else ("less", "▼")


def change_text(change: Change, measure: str, before: Period) -> str:
    """«18% a mais que em outubro», «3 leads a menos que em outubro», «igual a outubro»."""
    month = month_alone(before)
    if change.difference == 0:
        return f"igual a {month}"
    direction = "a mais" if change.difference > 0 else "a menos"
    if measure in MONEY and change.percent is not None:
        size = f"{abs(change.percent)}%"
    else:
        size = amount(abs(change.difference), measure)
    return f"{size} {direction} que em {month}"


def goal_percent(progress: GoalProgress) -> str:
    """«83%»; results above one and a half times the goal are «mais de 150%»."""
    goal = progress.goal
    is_beyond = goal.goal > 0 and goal.value * 100 > PERCENT_CAP * goal.goal
    return f"mais de {PERCENT_CAP}%" if is_beyond else f"{goal.percent}%"


def goal_status(progress: GoalProgress, pace: Pace | None) -> str:
    """«meta batida», «no ritmo: faltam 3 leads em 2 dias», «faltaram R$ 2.400»; blank: no goal."""
    goal, remaining = progress.goal, progress.remaining
    if goal.goal <= 0:
        return ""
    if remaining == 0:
        return "meta batida"
    size = amount(remaining, goal.key)
    is_one = remaining == 1 and goal.key not in MONEY
    if pace is None:
        return f"{'faltou' if is_one else 'faltaram'} {size}"
    verb = "falta" if is_one else "faltam"
    on_pace = "no ritmo: " if progress.is_on_pace else ""
    until = f"em {pace.days_left}\u00a0{'dia' if pace.days_left == 1 else 'dias'}"
    return f"{on_pace}{verb} {size} {until if pace.days_left else 'até hoje à noite'}"


def suggestion_text(suggestion: ScoreSuggestion) -> str:
    """«+1 ponto com mais 5 stories», «+2 pontos com mais R$ 400 de faturamento»."""
    more = amount(suggestion.amount, suggestion.measure)
    suffix = f" de {suggestion.measure}" if suggestion.measure in MONEY else ""
    return f"+{amount(suggestion.points, 'points')} com mais {more}{suffix}"


def goals_text(change: GoalChange, now: Goals) -> str:
    """«faturamento de R$ 16.000 para R$ 20.000; leads de 50 para 60»."""
    texts = []
    for key, label in GOAL_LABELS.items():
        before, after = getattr(change.before, key), getattr(now, key)
        if before != after:
            texts.append(f"{label.lower()} de {figure(before, key)} para {figure(after, key)}")
    return "; ".join(texts)


def closing_text(task: ClosingTask) -> str:
    """«Faltam leads e posts. O prazo é dia 10: faltam 3 dias.»."""
    names = [label.lower() for name, label in FIGURE_LABELS.items() if name in task.missing]
    missing = f"Ainda sem {join_words(names)}. " if task.given else ""
    if task.days_left is None:
        return f"{missing}O prazo era dia {CLOSING_DAY}, mas ainda dá para registrar."
    if task.days_left == 0:
        return f"{missing}O prazo é hoje, dia {CLOSING_DAY}."
    days = "falta 1 dia" if task.days_left == 1 else f"faltam {task.days_left} dias"
    return f"{missing}O prazo é dia {CLOSING_DAY}: {days}."


def streak_text(months: int) -> str:
    """«4 meses seguidos registrados até o dia 10. Com mais 2, você chega a 6.»."""
    if months == 1:
        text = f"1 mês registrado até o dia {CLOSING_DAY}."
    else:
        more = " ou mais" if months >= MILESTONES[-1] else ""
        text = f"{months} meses seguidos{more} registrados até o dia {CLOSING_DAY}."
    goal = next((each for each in MILESTONES if each > months), None)
    if months in MILESTONES:
        return f"{text} Parabéns pela constância!"
    return text if goal is None else f"{text} Com mais {goal - months}, você chega a {goal}."


def diagnostic_advice(context: RequestContext, diagnosis: Diagnosis) -> list[str]:
    """Return what the user can do or expect."""
    cases = {
        "Seu perfil está pronto.": context.status == READY,
        "Sua conta é de administração e não precisa de perfil.": context.status == NOT_REQUIRED,
        NO_EMAIL: diagnosis.is_known and not diagnosis.has_email,
        UNVERIFIED: diagnosis.has_email and not diagnosis.email_verified,
        SEVERAL_MATCHES: diagnosis.multiple_matches,
        ONE_MATCH: (
            diagnosis.linked and diagnosis.unlinked_match and not diagnosis.multiple_matches
        ),
        "Estamos tentando criar seu perfil de novo automaticamente.": (
            diagnosis.pending_attempt and not diagnosis.linked
        ),
        "Fale com a equipe da mentoria para liberar seu acesso.": (
            context.status not in (READY, NOT_REQUIRED)
        ),
    }
    return [sentence for sentence, applies in cases.items() if applies]


def address_advice(address: AddressState) -> Advice | None:
    """Return what a mentee can do about the own address; None if there is nothing to do."""
    if not address.has_email:
        return Advice(NO_EMAIL, STEPS.format(step="adicione o seu"))
    if not address.is_verified:
        step = "toque no seu, depois em «Verificar»,"
        return Advice(UNVERIFIED, STEPS.format(step=step))
    if address.unlinked_matches:
        return Advice(SEVERAL_MATCHES if address.unlinked_matches > 1 else ONE_MATCH)
    return None
