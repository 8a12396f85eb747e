"""Portuguese texts for the errors of failed attempts, by SQLSTATE and by class."""

# SQLSTATE (PostgreSQL, appendix A); the longest prefix counts.
TEXTS_BY_SQLSTATE = {
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
TEXTS_BY_CLASS = {
    "UnusableAnswerError": "o Clerk respondeu algo que não dá para usar",
    "OperationalError": "o banco de dados não respondeu",
    "DeadlineError": "o banco de dados demorou demais",
    "ServerSilentError": "o banco de dados demorou demais",
    "DatabaseUnavailableError": "o banco de dados não respondeu",
}
UNKNOWN = "um erro que o programa não esperava"
SQLSTATE_LENGTH = 5  # other codes are of the identity provider


def failure_text(error: str) -> str:
    """Return an error such as `IntegrityError 23505` in words."""
    error_class, _, code = error.partition(" ")
    lengths = range(SQLSTATE_LENGTH, 1, -1) if len(code) == SQLSTATE_LENGTH else ()
    for length in lengths:
        if (text := TEXTS_BY_SQLSTATE.get(code[:length])) is not None:
            return text
    return TEXTS_BY_CLASS.get(error_class, UNKNOWN)
