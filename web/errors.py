"""Errors of requests: the table of their codes, and the exceptions of views and hooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from typing_extensions import TypedDict

from provisioning.context import NOT_REQUIRED
from provisioning.errors import DatabaseUnavailableError, NeedsAttentionError, ProvisioningError


class FieldError(TypedDict):
    """An error of one field; the message is in pt-BR."""

    field: str
    message: str


FieldErrors = Sequence[FieldError]

OTHER_ACCOUNT = FieldError(
    field="",
    message="Este formulário foi aberto por outra conta. Abra a página de novo para usar a sua.",
)


class HttpError(Exception):
    """A request that is answered with a problem: its code, reason for developers, field errors."""

    def __init__(self, code: str, reason: str, errors: FieldErrors = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.errors = errors


class UnauthenticatedError(HttpError):
    """The request has no valid session."""

    def __init__(self, reason: str, code: str = "unauthenticated") -> None:
        super().__init__(code, reason)


class AccountDeletedError(UnauthenticatedError):
    """The account has been deleted, so that signing in again cannot help."""


class SessionLoopError(UnauthenticatedError):
    """The browser has been sent to Clerk for fresh cookies repeatedly, without a valid session."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, "session_loop")


class TooManyRequestsError(HttpError):
    """The rate limit of a user or an address is exceeded; `seconds` until the next request."""

    def __init__(self, seconds: float) -> None:
        super().__init__("rate_limited", f"wait {seconds:.1f} s")
        self.seconds = seconds


class InvalidInputError(HttpError):
    """Invalid input; `errors` has each wrong field with its message in pt-BR."""

    def __init__(self, errors: FieldErrors) -> None:
        super().__init__("invalid_input", "invalid input", errors)


class ProfileRequiredError(HttpError):
    """The user has no usable profile; `code` says why."""

    def __init__(self, status: str) -> None:
        super().__init__("mentorado_required" if status == NOT_REQUIRED else status, status)


def provisioning_error_code(err: ProvisioningError) -> str:
    """Return the code for a failed ensure call."""
    if isinstance(err, DatabaseUnavailableError):
        return "database_unavailable"
    if isinstance(err, NeedsAttentionError):
        return "provisioning_needs_attention"
    return "provisioning_unavailable"


@dataclass(frozen=True, slots=True)
class Problem:
    """Status and texts of one code (docs/reference/contract.md#errors), in pt-BR.

    `detail` says what happened, `advice` what the user can do; only pages show the advice.
    """

    status: int
    title: str
    detail: str
    advice: str = ""
    next_step: Literal["sign_in", "dashboard", "retry", "none"] = "dashboard"
    can_retry: bool = False


PROBLEMS = {
    "invalid_signature": Problem(
        400, "Assinatura inválida", "A assinatura ou o horário da mensagem não confere."
    ),
    "invalid_host": Problem(
        400, "Endereço inválido", "O pedido não traz um nome de servidor válido (Host)."
    ),
    "unauthenticated": Problem(
        401,
        "Entre na sua conta",
        "Sua sessão não é válida ou expirou.",
        "Entre de novo para continuar.",
        "sign_in",
    ),
    "session_loop": Problem(
        401,
        "Não conseguimos renovar sua sessão",
        "Confira se a data e a hora do seu aparelho estão certas e se o navegador aceita cookies. "
        "Depois, tente novamente.",
        next_step="retry",
    ),
    "forbidden": Problem(
        403,
        "Acesso não permitido",
        "Sua conta não tem acesso a esta página.",
        "Se você deveria ter acesso, fale com a equipe.",
    ),
    "csrf_failed": Problem(
        403,
        "Pedido recusado",
        "Este pedido não veio do nosso site.",
        "Volte ao painel e tente de novo a partir dele.",
    ),
    "mentorado_required": Problem(
        403,
        "Área do mentorado",
        "Esta área é para mentorados, e sua conta não tem um perfil.",
        "Se você participa da mentoria, fale com a equipe.",
        "none",
    ),
    "auto_create_disabled": Problem(
        403,
        "Novos perfis em pausa",
        "A criação de perfis está em pausa. Assim que voltar, o seu será criado.",
        "Você não precisa fazer nada: é só voltar mais tarde.",
        "retry",
    ),
    "not_invited": Problem(
        403,
        "Ainda sem convite",
        "Seu e-mail ainda não está na lista da mentoria.",
        "Confira se você entrou com o e-mail do convite e se ele está confirmado. Se estiver tudo "
        "certo, fale com a equipe.",
        "retry",
    ),
    "mentorado_inactive": Problem(
        403,
        "Perfil inativo",
        "Seu perfil está inativo. Seus dados continuam guardados.",
        "Fale com a equipe para reativá-lo.",
        "retry",
    ),
    "user_blocked": Problem(
        403,
        "Acesso suspenso",
        "Seu acesso está suspenso.",
        "Fale com a equipe da mentoria para saber o motivo e liberar o acesso.",
        "retry",
    ),
    "not_found": Problem(
        404,
        "Página não encontrada",
        "O endereço não existe ou mudou de lugar.",
        "Confira o endereço ou volte ao seu painel.",
    ),
    "method_not_allowed": Problem(
        405, "Método não permitido", "Este endereço não aceita esse tipo de pedido."
    ),
    "mentorado_exists": Problem(
        409, "Mentorado já existe", "Já existe um mentorado ou uma pessoa com este e-mail."
    ),
    "sweep_running": Problem(
        409, "Varredura em andamento", "Já existe uma varredura na fila ou em andamento."
    ),
    "conflict": Problem(
        409,
        "Conflito",
        "Outra alteração aconteceu ao mesmo tempo.",
        "Abra a página de novo e confira antes de salvar.",
    ),
    "provisioning_needs_attention": Problem(
        409,
        "Perfil não encontrado",
        "Não conseguimos preparar seu perfil. Nossa equipe já foi avisada.",
        "Tente novamente. Se continuar assim, fale com o suporte e informe o código abaixo.",
        "retry",
    ),
    "payload_too_large": Problem(
        413, "Conteúdo grande demais", "O envio é maior do que o aceito aqui."
    ),
    "unsupported_media_type": Problem(
        415, "Formato não aceito", "Envie o conteúdo como application/json."
    ),
    "invalid_input": Problem(422, "Dados inválidos", "Confira os campos e tente de novo."),
    "rate_limited": Problem(
        429,
        "Muitos pedidos",
        "Recebemos muitos pedidos em pouco tempo.",
        "Aguarde um momento e tente novamente.",
        "retry",
        can_retry=True,
    ),
    "internal": Problem(
        500,
        "Algo deu errado",
        "O problema foi do nosso lado e já está registrado.",
        "Tente novamente em alguns instantes. Se continuar, informe o código abaixo ao suporte.",
        "retry",
    ),
    "provisioning_unavailable": Problem(
        503,
        "Estamos preparando seu perfil",
        "Não foi possível criar seu perfil agora. Tente novamente em instantes.",
        next_step="retry",
        can_retry=True,
    ),
    "database_unavailable": Problem(
        503,
        "Voltamos já",
        "Nosso sistema está indisponível no momento. Seus dados estão seguros.",
        "Você não precisa fazer nada: a página volta sozinha assim que o sistema voltar.",
        "retry",
        can_retry=True,
    ),
    "not_configured": Problem(
        503, "Ainda não configurado", "Este recurso não está configurado.", next_step="none"
    ),
}
