"""CSV lists of mentees in the forms that spreadsheets write."""

import pytest

from provisioning.imports import UnreadableListError
from web.csv_import import count_lines, decode_file, read_list, write_list

EVA = ("Eva Melo", "eva@example.com")


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfnome;e-mail\r\nEva Melo;eva@example.com\r\n",
        b"Nome,Email\nEva Melo,eva@example.com",
        b"E-mail\tNome completo\neva@example.com\tEva Melo\n\n",
        b'\n\nnome;e-mail;outra\n"Eva Melo"; eva@example.com ;x;y;z\n;;\n',
    ],
)
def test_list_with_any_separator_is_read(content: bytes) -> None:
    [line] = read_list(decode_file(content))

    assert (line.name, line.email, line.faults) == (*EVA, ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_accents_are_read_in_the_encodings_of_excel(encoding: str) -> None:
    [line] = read_list(decode_file("nome;e-mail\nÉrica Conceição;e@x.com".encode(encoding)))

    assert line.name == "Érica Conceição"


def test_goals_are_parsed_or_default() -> None:
    [line] = read_list("nome;meta_faturamento;meta_leads\nEva;R$ 20.000,00;")

    assert line.values is not None
    assert (line.values["meta_faturamento"], line.values["meta_leads"]) == (20_000, 50)


def test_lines_have_the_numbers_of_the_file() -> None:
    lines = read_list('nome;e-mail\n"Eva\nMelo";eva@example.com\n\nFabio;f@x.com\n')

    assert [line.number for line in lines] == [3, 5]


@pytest.mark.parametrize(
    ("cells", "fault"),
    [
        (";eva@example.com", "nome_completo: Informe um nome"),
        ("Eva;sem arroba", "email: Informe um e-mail válido"),
        ("Eva;eva@example.com;-1", "meta_leads: Informe zero ou um número maior."),
        ("Eva;eva@example.com;1,5", "meta_leads: Informe um valor inteiro, sem centavos."),
    ],
)
def test_fault_of_a_line_is_named(cells: str, fault: str) -> None:
    [line] = read_list(f"nome;e-mail;meta_leads\n{cells}")

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


def test_lines_are_limited_before_they_are_decoded() -> None:
    with pytest.raises(UnreadableListError, match=r"20\.000 linhas"):
        decode_file(b"nome\n" + b"\xff\n" * 40_001)


def test_non_empty_lines_are_counted() -> None:
    assert count_lines("nome;e-mail\r\nEva;eva@example.com\r\n;\r\n\r\nFabio;\r\n") == 2


def test_too_long_cells_are_one_fault() -> None:
    [line] = read_list("nome;e-mail\n" + "x" * 9_000 + ";" + "y" * 9_000)

    assert line.faults[0].startswith("nome_completo: Informe um nome")
    assert len(line.name) < 300


def test_cells_without_a_title_are_ignored() -> None:
    [line] = read_list("nome;e-mail\nEva;eva@example.com" + ";x" * 9_000)

    assert (line.name, line.faults) == ("Eva", ())


@pytest.mark.parametrize("name", ["Eva; Melo", 'Eva "a boa" Melo', "Eva, Melo", "=1+1"])
def test_written_list_can_be_read(name: str) -> None:
    [line] = read_list(write_list([("nome", "e-mail"), (name, "eva@example.com")]))

    assert line.name == name
