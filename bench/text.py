"""How words are written: in markdown ("github") and LaTeX ("latex_raw") tables, and in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

_MARKS = {
    "github": {"up": "↑", "down": "↓", "none": "—", "few": "†", "spread": "±"},
    "latex_raw": {
        "up": r"$\uparrow$",
        "down": r"$\downarrow$",
        "none": "---",
        "few": r"$^\dagger$",
        "spread": r"$\pm$",
    },
}
_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def marked(mark: str, style: str) -> str:
    """The sign for "up", "down", "none" (no value), "few" (an interval from few sources) or "spread" (±)."""
    return _MARKS[style][mark]


def escaped(text: str, style: str) -> str:
    """`text` with the characters that have a meaning in `style` made harmless."""
    if style == "github":
        return text.replace("|", "\\|")
    return "".join(_LATEX.get(character, character) for character in text)


def weights_mark(weights: Mapping[str, str]) -> str:
    """What tells a method's weights from others: " (FILE, start of its sha256)", "" where there are none.

    Args:
        weights: sha256 of each file, by its name.
    """
    files = ", ".join(f"{name}, {sha256[:6]}" for name, sha256 in weights.items())
    return f" ({files})" if files else ""


def bold(text: str, style: str) -> str:
    """`text` in bold."""
    return f"**{text}**" if style == "github" else f"\\textbf{{{text}}}"


def raised(letters: str, style: str) -> str:
    """Significance letters, as they follow a number: plain in markdown, a superscript in LaTeX; "" for none."""
    if not letters:
        return ""
    return f" {letters}" if style == "github" else f"\\textsuperscript{{{letters}}}"


def fixed(value: float, digits: int) -> str:
    """`value` with `digits` decimals, without a negative zero."""
    text = f"{value:.{digits}f}"
    return text if text.strip("-0.") else text.removeprefix("-")


def some(names: Sequence[str], most: int) -> str:
    """The first `most` names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def faults(error: ValidationError, whole: str) -> str:
    """What is wrong with a configuration, field by field; `whole` names what is wrong with no field alone."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or whole}: {e['msg']}" for e in error.errors())
