"""What a test looks for in a page of the console."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page holds: tags, attributes, rows of tables, forms with their fields, and scripts that stand within it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.text = ""
        self._within: list[str] = []
        self.feed(html)

    def values(self, tag: str, attribute: str) -> list[str]:
        """The values of an attribute of all such tags, in order."""
        return [value for of, name, value in self.attributes if (of, name) == (tag, attribute)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in given.items()]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "form":
            self.forms.append({"": given.get("action", "")})
        if tag == "input" and self.forms and "name" in given:
            self.forms[-1][given["name"]] = given.get("value", "")
        if tag in ("td", "th", "script", "style"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._within and tag == self._within[-1]:
            self._within.pop()

    def handle_data(self, data: str) -> None:
        within = self._within[-1] if self._within else ""
        if within in ("script", "style"):
            self.scripts.append(data)
            return
        self.text += data
        if within:
            self.rows[-1][-1] += data
