"""The console that every command prints by: text is shown as it is, whoever wrote it.

Names, reasons and refusals come from devices and other people's files. Rich would read `[/b]` in them as markup and fail,
and a terminal would obey their control characters.
"""

from rich.console import Console
from rich.text import Text

from fedge.printable import printable


class PlainConsole(Console):
    """A console on which strings have no markup, no emoji codes and no control characters. Styles are given with `Text`."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **how: object) -> Text:  # with whatever rich passes on
        """Return a string as rich shows it, in a table's cell as well, its control characters made visible."""
        return super().render_str(printable(text), **how)  # type: ignore[arg-type]
