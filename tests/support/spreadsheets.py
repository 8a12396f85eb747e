"""Small spreadsheets (.xlsx), as Excel and LibreOffice write them."""

import io
import zipfile
from xml.sax.saxutils import escape

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
WORKBOOK = f"""<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<workbook xmlns="{MAIN}" xmlns:r="{RELATIONSHIPS}"><sheets>
<sheet name="Oculta" sheetId="1" state="hidden" r:id="rId2"/>
<sheet name="Turma" sheetId="2" r:id="rId1"/></sheets></workbook>"""
TARGETS = """<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">
<Relationship Id="rId2" Target="worksheets/sheet2.xml"/>
<Relationship Id="rId1" Target="{}"/></Relationships>"""


def sheet_of(rows: str) -> str:
    return f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData></worksheet>'


def inline(*cells: str) -> str:
    return "".join(f'<c t="inlineStr"><is><t>{escape(cell)}</t></is></c>' for cell in cells)


def spreadsheet(
    rows: str, *, strings: str = "", target: str = "worksheets/sheet1.xml", **parts: str
) -> bytes:
    """A workbook whose visible sheet has these rows, in XML, and its shared texts."""
    content = {
        "xl/workbook.xml": WORKBOOK,
        "xl/_rels/workbook.xml.rels": TARGETS.format(target),
        "xl/worksheets/sheet1.xml": sheet_of(rows),
        "xl/worksheets/sheet2.xml": sheet_of(f"<row>{inline('Outra lista')}</row>"),
        **({"xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{strings}</sst>'} if strings else {}),
        **{name.replace("__", "/"): text for name, text in parts.items()},
    }
    return zipped(content)


def zipped(content: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return file.getvalue()
