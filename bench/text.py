"""How numbers and words are written in markdown ("github") and LaTeX ("latex_raw") tables."""

from __future__ import annotations

_MARKS = {
    "github": {"up": "↑", "down": "↓", "none": "—"},
    "latex_raw": {"up": r"$\uparrow$", "down": r"$\downarrow$", "none": "---"},
}
_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def marked(mark: str, style: str) -> str:
    """The sign for "up", "down" or "none" (no value)."""
    return _MARKS[style][mark]


def escaped(text: str, style: str) -> str:
    """`text` with the characters that have a meaning in `style` made harmless."""
    if style == "github":
        return text.replace("|", "\\|")
    return "".join(_LATEX.get(character, character) for character in text)


def bold(text: str, style: str) -> str:
    """`text` in bold."""
    return f"**{text}**" if style == "github" else f"\\textbf{{{text}}}"
