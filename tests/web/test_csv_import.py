"""CSV lists of mentees in the forms that spreadsheets and people write."""

import pytest

from provisioning.imports import ImportLine, UnreadableListError
from web.csv_import import count_lines, read_list, write_list

EVA = ("Eva Melo", "eva@example.com")


def lines_of(content: str) -> list[ImportLine]:
    return list(read_list(content).lines)


@pytest.mark.parametrize(
    "content",
    [
        "nome;e-mail\r\nEva Melo;eva@example.com\r\n",
        "Nome,Email\nEva Melo,eva@example.com",
        "E-mail\tNome completo\neva@example.com\tEva Melo\n\n",
        "nome|e-mail\nEva Melo|eva@example.com",
        'sep=,\n"Nome",E-mail\n"Eva Melo",eva@example.com',
        '"sep=|"\r\nNome|E-mail|Observação; longa; com; pontos\r\nEva Melo|eva@example.com|',
        '\n\nnome;e-mail;outra\n"Eva Melo"; eva@example.com ;x;y;z\n;;\n',
    ],
)
def test_list_with_any_separator_is_read(content: str) -> None:
    [line] = lines_of(content)

    assert (line.name, line.email, line.faults) == (*EVA, ())


@pytest.mark.parametrize("title", ["Nome completo", "NOME", "Mentorada", "Nome do aluno", " nome "])
@pytest.mark.parametrize("address_title", ["E-mail", "email", "Endereço de e-mail", "E-mail (*)"])
def test_titles_of_name_and_address_are_read_as_people_write_them(
    title: str, address_title: str
) -> None:
    [line] = lines_of(f"{title};{address_title}\nEva Melo;eva@example.com")

    assert (line.name, line.email) == EVA


@pytest.mark.parametrize(
    ("title", "field"),
    [
        ("Meta faturamento", "meta_faturamento"),
        ("meta_faturamento", "meta_faturamento"),
        ("Meta de Faturamento (R$)", "meta_faturamento"),
        ("Meta mensal de faturamento", "meta_faturamento"),
        ("META LEADS", "meta_leads"),
        ("Meta de procedimentos por mês", "meta_procedimentos"),
        ("Meta de posts no feed", "meta_posts"),
        ("Metas de stories", "meta_stories"),
    ],
)
def test_titles_of_goals_are_read_as_people_write_them(title: str, field: str) -> None:
    [line] = lines_of(f"nome;{title}\nEva;77")

    assert line.values is not None
    assert line.values[field] == 77


def test_columns_that_are_not_read_are_listed() -> None:
    columns = read_list(
        "Nome;Telefone;E-mail;Nome completo;;Faturamento\nEva;1;e@x.com;Outra;x;9"
    ).columns

    assert columns.ignored == ("Telefone", "Faturamento")
    assert columns.repeated == ("Nome completo",)


def test_first_of_several_columns_with_one_meaning_counts() -> None:
    [line] = lines_of("Nome;E-mail;Email\nEva;eva@example.com;outra@example.com")

    assert line.email == "eva@example.com"


def test_goals_are_parsed_or_default() -> None:
    [line] = lines_of("nome;meta_faturamento;meta_leads\nEva;R$ 20.000,00;")

    assert line.values is not None
    assert (line.values["meta_faturamento"], line.values["meta_leads"]) == (20_000, 50)


@pytest.mark.parametrize("above", ["", "\n\n", "sep=;\n"])
def test_lines_have_the_numbers_of_the_file(above: str) -> None:
    """Excel neither shows nor counts the line with the separator."""
    lines = lines_of(f'{above}nome;e-mail\n"Eva\nMelo";eva@example.com\n\nFabio;f@x.com\n')

    blank = above.count("\n") if above.isspace() else 0
    assert [line.number for line in lines] == [blank + 3, blank + 5]


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        (";eva@example.com", "Nome: Informe um nome"),
        ("Eva;sem arroba", "E-mail: Informe um e-mail válido"),
        ("Eva;eva@example.com;-1", "Meta de leads: Informe zero ou um número maior."),
    ],
)
def test_fault_of_a_line_is_named_in_words(cells: str, fault: str) -> None:
    [line] = lines_of(f"nome;e-mail;meta_leads\n{cells}")

    assert line.values is None
    assert line.faults[0].startswith(fault)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "títulos das colunas"),
        ("Eva Melo;eva@example.com", "títulos das colunas"),
        ('nome;e-mail\n"' + ("x" * 19_000 + "\n") * 10, "não pode ser lida"),
        ("nome;e-mail\n" + "x" * 20_001, "A linha 2 passa de 20.000 caracteres"),
        ("nome;" * 60 + "\nEva", "50 colunas"),
        ("nome\n" + "Eva\n" * 20_001, "20.000 linhas"),
        ("nome\r" + "x;y\r" * 900_000, "20.000 linhas"),
    ],
    ids=["empty", "no titles", "quote", "long line", "columns", "lines", "carriage returns"],
)
def test_unreadable_list_is_refused(content: str, message: str) -> None:
    with pytest.raises(UnreadableListError, match=message):
        read_list(content)


def test_non_empty_lines_are_counted() -> None:
    assert count_lines("nome;e-mail\r\nEva;eva@example.com\r\n;\r\n\r\nFabio;\r\n") == 2


def test_list_without_lines_is_refused() -> None:
    with pytest.raises(UnreadableListError, match="só tem os títulos"):
        count_lines("nome;e-mail\r\n;\r\n")


def test_too_long_cells_are_one_fault() -> None:
    [line] = lines_of("nome;e-mail\n" + "x" * 9_000 + ";" + "y" * 9_000)

    assert line.faults[0].startswith("Nome: Informe um nome")
    assert len(line.name) < 300


def test_cells_without_a_title_are_ignored() -> None:
    [line] = lines_of("nome;e-mail\nEva;eva@example.com" + ";x" * 9_000)

    assert (line.name, line.faults) == ("Eva", ())


@pytest.mark.parametrize("name", ["Eva; Melo", 'Eva "a boa" Melo', "Eva, Melo", "=1+1"])
def test_written_list_can_be_read(name: str) -> None:
    [line] = lines_of(write_list([("nome", "e-mail"), (name, "eva@example.com")]))

    assert line.name == name
