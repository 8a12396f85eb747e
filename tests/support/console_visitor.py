"""An admin who follows links and submits forms of the console, and counts the clicks."""

from collections.abc import Mapping

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.html_page import SAME_ORIGIN, Page


class ConsoleVisitor:
    """Opens pages as a browser without JavaScript does; each link and each button is a click."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.clicks = 0
        self.url = ""
        self.page = Page("")
        self._open("/admin")

    def follow(self, text: str) -> None:
        """Click the first link with this text or accessible name."""
        self.clicks += 1
        links = self.page.all("a")
        link = next(a for a in links if text in (a.text, a.attributes.get("aria-label")))
        self._open(link.attributes["href"])

    def search(self, text: str) -> None:
        """Type a text into the search of the page's header and press Enter."""
        self.submit("Buscar", q=text)

    def submit(self, button: str, **values: str) -> None:
        """Fill in the form with this button and click the button."""
        self.clicks += 1
        form = next(form for form in self.page.forms if button in form.buttons)
        clicked = form.buttons[button].attributes
        own = {clicked["name"]: clicked.get("value", "")} if "name" in clicked else {}
        fields = {**form.fields, **values, **own}
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
        self.page = Page(response.get_data(as_text=True))
