"""Advice to users about their e-mail address and profile, in pt-BR."""

from dataclasses import dataclass

from dashboard.months import AddressState
from provisioning.context import NOT_REQUIRED, READY, RequestContext
from provisioning.queries import Diagnosis

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


ADD_EMAIL = Advice(NO_EMAIL, STEPS.format(step="adicione o seu"))
VERIFY_EMAIL = Advice(UNVERIFIED, STEPS.format(step="toque no seu, depois em «Verificar»,"))


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
        return ADD_EMAIL
    if not address.is_verified:
        return VERIFY_EMAIL
    if address.unlinked_matches:
        return Advice(SEVERAL_MATCHES if address.unlinked_matches > 1 else ONE_MATCH)
    return None
