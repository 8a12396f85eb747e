"""One table: code → status and words (CONTRACT section 4.3)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """How one code is answered; `title` and `detail` are for people, in pt-BR."""

    status: int
    title: str
    detail: str
    can_retry: bool = False


PROBLEMS = {
    "invalid_signature": Problem(
        400, "Assinatura inválida", "A assinatura ou o horário da mensagem não confere."
    ),
    "unauthenticated": Problem(401, "Entre na sua conta", "Sua sessão não é válida ou expirou."),
    "session_loop": Problem(
        401,
        "Não conseguimos renovar sua sessão",
        "Confira se a data e a hora do seu aparelho estão certas e se o navegador aceita cookies. "
        "Depois, tente novamente.",
    ),
    "forbidden": Problem(403, "Acesso não permitido", "Sua conta não tem acesso a esta página."),
    "csrf_failed": Problem(
        403, "Pedido recusado", "Este pedido não veio do nosso site. Recarregue a página."
    ),
    "mentorado_required": Problem(
        403, "Área do mentorado", "Esta área é para mentorados, e sua conta não tem um perfil."
    ),
    "auto_create_disabled": Problem(
        403,
        "Novos perfis em pausa",
        "A criação de perfis está em pausa. Assim que voltar, o seu será criado.",
    ),
    "not_invited": Problem(
        403,
        "Ainda sem convite",
        "Seu e-mail ainda não está na lista da mentoria. Fale com a equipe.",
    ),
    "mentorado_inactive": Problem(
        403, "Perfil inativo", "Seu perfil está inativo. Fale com a equipe para reativá-lo."
    ),
    "user_blocked": Problem(
        403, "Acesso suspenso", "Seu acesso está suspenso. Fale com a equipe da mentoria."
    ),
    "not_found": Problem(404, "Página não encontrada", "O endereço não existe ou mudou de lugar."),
    "method_not_allowed": Problem(
        405, "Método não permitido", "Este endereço não aceita esse tipo de pedido."
    ),
    "mentorado_exists": Problem(
        409, "Mentorado já existe", "Já existe um mentorado ou uma pessoa com este e-mail."
    ),
    "sweep_running": Problem(
        409, "Varredura em andamento", "Já existe uma varredura na fila ou em andamento."
    ),
    "conflict": Problem(409, "Conflito", "Outra alteração aconteceu ao mesmo tempo."),
    "provisioning_needs_attention": Problem(
        409,
        "Perfil não encontrado",
        "Não conseguimos preparar seu perfil. Nossa equipe já foi avisada.",
    ),
    "payload_too_large": Problem(413, "Conteúdo grande demais", "O envio passa de 64 KiB."),
    "unsupported_media_type": Problem(
        415, "Formato não aceito", "Envie o conteúdo como application/json."
    ),
    "invalid_input": Problem(422, "Dados inválidos", "Confira os campos e tente de novo."),
    "internal": Problem(
        500, "Algo deu errado", "O erro foi registrado. Tente novamente em alguns instantes."
    ),
    "provisioning_unavailable": Problem(
        503,
        "Estamos preparando seu perfil",
        "Não foi possível criar seu perfil agora. Tente novamente em instantes.",
        can_retry=True,
    ),
    "database_unavailable": Problem(
        503,
        "Voltamos já",
        "Nosso sistema está indisponível no momento. Seus dados estão seguros.",
        can_retry=True,
    ),
    "not_configured": Problem(503, "Ainda não configurado", "Este recurso não está configurado."),
}
