"""Uploaded lists: encodings, spreadsheets, and files that are refused by name."""

import pytest

from provisioning.imports import UnreadableListError
from tests.support.spreadsheets import inline, spreadsheet, zipped
from web.csv_import import decode_file, is_encoded_spreadsheet, list_text, read_list
from web.spreadsheet import MAX_SMALL_XML

ERICA = "nome;e-mail\nÉrica Conceição;e@x.com"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_encodings_of_spreadsheets_are_recognised(encoding: str) -> None:
    [line] = read_list(decode_file(ERICA.encode(encoding))).lines

    assert line.name == "Érica Conceição"


def test_lines_in_two_encodings_are_recognised_line_by_line() -> None:
    content = ERICA.encode() + b"\r\n" + "João Avô;j@x.com".encode("cp1252") + b"\nEva;e@x.com"

    lines = read_list(decode_file(content)).lines

    assert [line.name for line in lines] == ["Érica Conceição", "João Avô", "Eva"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ERICA.encode() + "\nJoão ".encode() + "Avô".encode("cp1252"), "A linha 3 mistura duas"),
        (b"nome\nEva\nJo\x81o", "A linha 3 tem caracteres que não são nem UTF-8"),
        (ERICA.encode("utf-16") + b"x", "UTF-16, mas está incompleto"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "planilha antiga do Excel"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\xef\xbb\xbf  <table><tr>", "HTML"),
        (b"\n <html>", "HTML"),
        (zipped({"mimetype": "x", "content.xml": "x"}), "LibreOffice"),
        (zipped({"foto.jpg": "x"}), "compactado"),
        (zipped({f"{number}" * 90: "" for number in range(900)}), "compactado"),
        (b"PK\x03\x04" + b"x" * 99, "danificada"),
        (spreadsheet("<row>" + inline("Nome"))[:-40], "danificada"),
        (spreadsheet("<row>"), "danificada"),
        (spreadsheet('<row><c t="s"><v>7</v></c></row>'), "danificada"),
        (spreadsheet("<row/>", target="worksheets/sheet9.xml"), "danificada"),
        (spreadsheet('<row r="40001"/>'), "20.000 linhas"),
        (
            spreadsheet("", xl__worksheets__sheet1__xml="x", **{"xl/workbook.xml": "<x/>"}),
            "danificada",
        ),
    ],
)
def test_file_that_cannot_be_read_is_refused_with_the_reason(content: bytes, message: str) -> None:
    with pytest.raises(UnreadableListError, match=message):
        decode_file(content)


def test_document_type_of_a_spreadsheet_is_refused() -> None:
    """Its entities could make a small document very long."""
    entities = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]><worksheet/>'
    content = spreadsheet("", **{"xl/worksheets/sheet1.xml": entities})

    with pytest.raises(UnreadableListError, match="danificada"):
        decode_file(content)


def test_lines_are_limited_before_they_are_decoded() -> None:
    with pytest.raises(UnreadableListError, match=r"20\.000 linhas"):
        decode_file(b"nome\n" + b"\xff\n" * 40_001)


def test_spreadsheet_is_read_with_all_kinds_of_cells() -> None:
    strings = (
        "<si><t>Nome completo</t></si><si><r><t>E-</t></r><r><t>mail</t></r></si>"
        "<si><t>Érica\nConceição</t><rPh><t>エリカ</t></rPh></si><si><t>Meta faturamento</t></si>"
    )
    rows = (
        '<row r="2"><c r="A2" t="s"><v>0</v></c><c r="B2" t="s"><v>1</v></c>'
        '<c r="D2" t="s"><v>3</v></c><c r="E2" t="str"><f>1</f><v>Meta de leads</v></c></row>'
        '<row r="4"><c r="A4" t="s"><v>2</v></c><c r="D4"><v>2.5E4</v></c>'
        '<c r="B4" t="inlineStr"><is><t>e@x.com</t></is></c><c r="E4"><v>70.0</v></c></row>'
    )

    mentees = read_list(decode_file(spreadsheet(rows, strings=strings)))

    [line] = mentees.lines
    assert (line.number, line.name, line.email) == (4, "Érica Conceição", "e@x.com")
    assert line.values is not None
    assert (line.values["meta_faturamento"], line.values["meta_leads"]) == (25_000, 70)


def test_long_spreadsheet_is_read_later() -> None:
    names = "".join(f"<row>{inline(f'Pessoa {number}')}</row>" for number in range(6_000))
    content = spreadsheet(f"<row>{inline('Nome')}</row>{names}")

    decoded = decode_file(content)

    assert is_encoded_spreadsheet(decoded)
    assert len(read_list(list_text(decoded)).lines) == 6_000


def test_spreadsheet_that_grows_too_much_is_refused() -> None:
    content = spreadsheet("<row/>" + " " * 40_000_000)

    assert len(content) < MAX_SMALL_XML
    with pytest.raises(UnreadableListError, match="grande demais"):
        list_text(decode_file(content))


@pytest.mark.parametrize("content", ["xlsx:", "xlsx:!", "xlsx:QUJD", "xlsx:" + "A" * 400])
def test_damaged_encoded_spreadsheet_is_refused(content: str) -> None:
    with pytest.raises(UnreadableListError, match="danificada"):
        list_text(content)
