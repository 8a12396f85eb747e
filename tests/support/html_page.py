"""A page as its readers get it: its text, headings, links, forms and buttons."""

import html
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from flask.testing import FlaskClient

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
INLINE = {"a", "abbr", "b", "code", "em", "small", "span", "strong"}
SPACE = re.compile(r"[ \n\t]+")
HIDDEN = re.compile(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"')
# Of inputs whose value a browser sends as it is.
VALUE_TYPES = {"hidden", "text", "search", "email", "date", "month", ""}
SAME_ORIGIN = {"Origin": "http://localhost"}  # as browsers send it with a form of this site


@dataclass
class Element:
    """An element that was named, with its attributes and the text inside it."""

    tag: str
    attributes: dict[str, str]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text inside, with single blanks."""
        return SPACE.sub(" ", "".join(self.texts)).strip()


@dataclass
class Form:
    """A form with the values that a browser would send, and its buttons by text."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, Element] = field(default_factory=dict)


class Page(HTMLParser):
    """A parsed page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Start an element."""
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        self._separate(tag)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Add an element without content, as SVG has them."""
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        """End the innermost element of that name."""
        while self._open and self._open.pop().tag != tag:
            pass
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        """Add text to every open element."""
        for element in self._open:
            element.texts.append(data)

    def _separate(self, tag: str) -> None:
        """Add a blank at the edge of a block."""
        if tag not in INLINE:
            self.handle_data(" ")

    def all(self, tag: str) -> list[Element]:
        """Return the elements of that name, in their order."""
        return [element for element in self.elements if element.tag == tag]

    @property
    def text(self) -> str:
        """The text of the main part."""
        return self.all("main")[0].text

    @property
    def title(self) -> str:
        """The title of the window."""
        return self.all("title")[0].text

    @property
    def headings(self) -> list[str]:
        """The headings, in their order."""
        return [each.text for each in self.elements if re.fullmatch("h[1-6]", each.tag)]

    @property
    def forms(self) -> list[Form]:
        """The forms, in their order."""
        forms: list[Form] = []
        for element in self.elements:
            attributes = element.attributes
            if element.tag == "form":
                forms.append(Form(attributes.get("method", "get"), attributes.get("action", "")))
            elif element.tag == "textarea" and "name" in attributes:
                forms[-1].fields[attributes["name"]] = "".join(element.texts).removeprefix("\n")
            elif element.tag == "input" and attributes.get("type", "") in VALUE_TYPES:
                forms[-1].fields[attributes["name"]] = attributes.get("value", "")
            elif element.tag == "button" and forms:
                forms[-1].buttons[element.text] = element
        return forms

    def link(self, text: str) -> str:
        """Return the address of the one link with this text."""
        [address] = [each.attributes["href"] for each in self.all("a") if each.text == text]
        return address

    def has_link(self, text: str) -> bool:
        """Whether a link has this text."""
        return any(each.text == text for each in self.all("a"))

    def by_id(self, name: str) -> Element:
        """Return the element with this id."""
        [element] = [each for each in self.elements if each.attributes.get("id") == name]
        return element


def open_page(client: FlaskClient, path: str = "/dashboard", status: int = 200) -> Page:
    """Request a page, which must have that status, and parse it."""
    response = client.get(path)
    assert response.status_code == status, response.text
    return Page(response.get_data(as_text=True))


def submit(client: FlaskClient, path: str, **fields: str) -> Page:
    """Send a form as a page of this site does, follow the redirect, and parse the page."""
    response = client.post(path, data=fields, headers=SAME_ORIGIN, follow_redirects=True)
    assert response.status_code == 200, response.text
    return Page(response.get_data(as_text=True))


def hidden_fields(content: str) -> dict[str, str]:
    """Return the hidden fields of a page."""
    return dict(HIDDEN.findall(content))


def page_of(client: FlaskClient, path: str) -> str:
    """Return the HTML of a page, with its characters unescaped."""
    return html.unescape(client.get(path).get_data(as_text=True))
