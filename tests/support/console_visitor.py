"""An admin who follows links and submits forms of the console, and counts the clicks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.html_page import SAME_ORIGIN

VOID_FIELDS = ("hidden", "text", "search", "email", "date", "month", "")


@dataclass
class Link:
    """A link with its visible text and, if it has one, its accessible name."""

    url: str
    text: str = ""
    label: str = ""


@dataclass
class Form:
    """A form with the values that a browser would send, and its buttons by text."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, tuple[str, str]] = field(default_factory=dict)


class PageReader(HTMLParser):
    """Collects the links, the forms and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[Link] = []
        self.forms: list[Form] = []
        self.text = ""
        self._link: Link | None = None
        self._button: tuple[str, str] | None = None
        self._textarea: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a link, a form or a field."""
        given = {name: value or "" for name, value in attrs}
        if tag == "a":
            self._link = Link(given.get("href", ""), label=given.get("aria-label", ""))
            self.links.append(self._link)
        elif tag == "form":
            self.forms.append(Form(given.get("method", "get"), given.get("action", "")))
        elif tag == "input" and given.get("type", "") in VOID_FIELDS:
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "textarea" and "name" in given:
            self._textarea = given["name"]
            self.forms[-1].fields[self._textarea] = ""
        elif tag == "button" and self.forms:
            self._button = (given.get("name", ""), given.get("value", ""))

    def handle_data(self, data: str) -> None:
        """Add the text of a link, a button or a field."""
        self.text += data
        if self._link is not None:
            self._link.text += data
        if self._textarea is not None:
            self.forms[-1].fields[self._textarea] += data.removeprefix("\n")
        if self._button is not None and data.strip():
            self.forms[-1].buttons[data.strip()] = self._button

    def handle_endtag(self, tag: str) -> None:
        """End a link, a button or a field."""
        if tag == "a":
            self._link = None
        elif tag == "button":
            self._button = None
        elif tag == "textarea":
            self._textarea = None


class ConsoleVisitor:
    """Opens pages as a browser without JavaScript does; each link and each button is a click."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.clicks = 0
        self.url = ""
        self.page = PageReader("")
        self._open("/admin")

    def follow(self, text: str) -> None:
        """Click the first link with this text or accessible name."""
        self.clicks += 1
        link = next(
            link for link in self.page.links if text in (link.text.strip(), link.label.strip())
        )
        self._open(link.url)

    def search(self, text: str) -> None:
        """Type a text into the search of the page's header and press Enter."""
        self.submit("Buscar", q=text)

    def submit(self, button: str, **values: str) -> None:
        """Fill in the form with this button and click the button."""
        self.clicks += 1
        form = next(form for form in self.page.forms if button in form.buttons)
        name, value = form.buttons[button]
        fields = {**form.fields, **values, **({name: value} if name else {})}
        url = form.action or self.url
        if form.method == "post":
            self._show(
                self.client.post(url, data=fields, headers=SAME_ORIGIN, follow_redirects=True)
            )
        else:
            self._open(url, fields)

    def _open(self, url: str, query: Mapping[str, str] | None = None) -> None:
        self._show(self.client.get(url, query_string=query, follow_redirects=True))

    def _show(self, response: TestResponse) -> None:
        assert response.status_code == 200, (self.url, response.status_code)
        self.url = response.request.path
        self.page = PageReader(response.get_data(as_text=True))
