"""The problem table: each error code with its HTTP status and its texts in pt-BR."""

import enum
from dataclasses import dataclass


class NextStep(enum.Enum):
    """The next step that an error page offers."""

    SIGN_IN = "sign_in"
    DASHBOARD = "dashboard"
    RETRY = "retry"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Problem:
    """Status and texts of one code, in pt-BR.

    `detail` says what happened, `advice` what the user can do; only pages show the advice.
    """

    status: int
    title: str
    detail: str
    advice: str = ""
    next_step: NextStep = NextStep.DASHBOARD
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
        NextStep.SIGN_IN,
    ),
    "session_loop": Problem(
        401,
        "Não conseguimos renovar sua sessão",
        "Confira se a data e a hora do seu aparelho estão certas e se o navegador aceita cookies. "
        "Depois, tente novamente.",
        next_step=NextStep.RETRY,
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
        NextStep.NONE,
    ),
    "auto_create_disabled": Problem(
        403,
        "Novos perfis em pausa",
        "A criação de perfis está em pausa. Assim que voltar, o seu será criado.",
        "Você não precisa fazer nada: é só voltar mais tarde.",
        NextStep.RETRY,
    ),
    "not_invited": Problem(
        403,
        "Ainda sem convite",
        "Seu e-mail ainda não está na lista da mentoria.",
        "Confira se você entrou com o e-mail do convite e se ele está confirmado. Se estiver tudo "
        "certo, fale com a equipe.",
        NextStep.RETRY,
    ),
    "mentorado_inactive": Problem(
        403,
        "Perfil inativo",
        "Seu perfil está inativo. Seus dados continuam guardados.",
        "Fale com a equipe para reativá-lo.",
        NextStep.RETRY,
    ),
    "user_blocked": Problem(
        403,
        "Acesso suspenso",
        "Seu acesso está suspenso.",
        "Fale com a equipe da mentoria para saber o motivo e liberar o acesso.",
        NextStep.RETRY,
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
        NextStep.RETRY,
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
        NextStep.RETRY,
        can_retry=True,
    ),
    "internal": Problem(
        500,
        "Algo deu errado",
        "O problema foi do nosso lado e já está registrado.",
        "Tente novamente em alguns instantes. Se continuar, informe o código abaixo ao suporte.",
        NextStep.RETRY,
    ),
    "provisioning_unavailable": Problem(
        503,
        "Estamos preparando seu perfil",
        "Não foi possível criar seu perfil agora. Tente novamente em instantes.",
        next_step=NextStep.RETRY,
        can_retry=True,
    ),
    "database_unavailable": Problem(
        503,
        "Voltamos já",
        "Nosso sistema está indisponível no momento. Seus dados estão seguros.",
        "Você não precisa fazer nada: a página volta sozinha assim que o sistema voltar.",
        NextStep.RETRY,
        can_retry=True,
    ),
    "not_configured": Problem(
        503, "Ainda não configurado", "Este recurso não está configurado.", next_step=NextStep.NONE
    ),
}
