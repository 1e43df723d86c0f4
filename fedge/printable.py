"""Foreign text made safe to show: what a terminal would obey is shown instead."""


def printable(text: str) -> str:
    """Return ``text`` with every character that is not printable as its escape; line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
