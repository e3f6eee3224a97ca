"""Colour themes from TOML files: those that are shipped and those in the user's configuration directory.

Textual is imported only to check and build a theme, so that a command can ask for the names cheaply.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from hwdash.core.config import DEFAULT_THEME
from hwdash.core.errors import UsageError
from hwdash.core.text import sanitise_line

if TYPE_CHECKING:
    from textual.theme import Theme

TERMINAL_THEME = "terminal"
"""The theme that uses nothing but the terminal's own 16 colours; built in, chosen by itself where there are no others."""

_COLOURS = ("primary", "secondary", "accent", "foreground", "background", "surface", "panel")
_STATES = ("success", "warning", "error")
_REQUIRED = ("name", "dark", *_COLOURS, *_STATES)

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "hw-text": "foreground",
        "hw-muted": "foreground 60%",
        "hw-faint": "foreground 38%",
        "hw-label": "foreground 60%",
        "hw-title": "primary",
        "hw-key": "accent",
        "hw-bar": "primary",
        "hw-bar-back": "foreground 20%",
        "hw-memory": "secondary",
        "hw-cursor": "panel",
        "hw-ok": "success",
        "hw-warm": "warning",
        "hw-throttled": "error",
        "hw-stale": "accent",
        "hw-lost": "error",
        "hw-trace-1": "primary",
        "hw-trace-2": "warning",
        "hw-trace-3": "secondary",
        "hw-trace-4": "accent",
        "hw-chart-band": "error",
    }
)
"""Every variable that a theme may set under ``[variables]``, with the colour that stands in for it."""


@dataclass(frozen=True, slots=True)
class ThemeFile:
    """One theme as its file has it; ``colours`` has every required colour, ``variables`` any of `VARIABLES`."""

    name: str
    dark: bool
    colours: Mapping[str, str]
    variables: Mapping[str, str]


def shipped_folder() -> Path:
    """Where the themes of this installation lie: inside the package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "themes"
    return inside if inside.is_dir() else package.parent / "themes"


def user_folder(config: Path) -> Path:
    """Where a user's own themes lie, below the configuration directory *config*."""
    return config / "themes"


def load_themes(folders: Sequence[Path]) -> tuple[dict[str, ThemeFile], tuple[str, ...]]:
    """All good themes of *folders* by name, a later folder winning, and one sentence for each file that is not."""
    themes: dict[str, ThemeFile] = {}
    problems: list[str] = []
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            try:
                theme = parse_theme(path.read_text(encoding="utf-8"), str(path))
            except UsageError as error:
                problems.append(error.message)
            except (OSError, UnicodeDecodeError) as error:
                problems.append(f"{path}: {error}")
            else:
                themes[theme.name] = theme
    return themes, tuple(sanitise_line(problem) for problem in problems)


def parse_theme(text: str, origin: str) -> ThemeFile:
    """The theme of a TOML *text*; *origin* names the file in messages.

    Raises `UsageError` that names the file and the key for broken TOML, an unknown or missing key and a bad colour.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{origin}: {error}") from None
    variables = data.pop("variables", {})
    if not isinstance(variables, dict):
        raise UsageError(f"{origin}: variables must be a section, [variables]")
    _check_keys(origin, data, variables)
    colours = {key: data[key] for key in (*_COLOURS, *_STATES)}
    for key, value in (colours | variables).items():
        _check_colour(origin, key, value)
    return ThemeFile(sanitise_line(data["name"], 40), data["dark"], colours, variables)


def _check_keys(origin: str, data: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
    if missing := [key for key in _REQUIRED if key not in data]:
        raise UsageError(f"{origin}: {missing[0]} is missing; a theme needs {', '.join(_REQUIRED)}")
    if unknown := [key for key in data if key not in _REQUIRED]:
        raise UsageError(f"{origin}: unknown key {unknown[0]}; there are: {', '.join(_REQUIRED)}")
    if unknown := [key for key in variables if key not in VARIABLES]:
        raise UsageError(f"{origin}: unknown variable {unknown[0]}; there are: {', '.join(VARIABLES)}")
    if not isinstance(data["name"], str) or not data["name"].strip():
        raise UsageError(f"{origin}: name must be a word")
    if not isinstance(data["dark"], bool):
        raise UsageError(f"{origin}: dark must be true or false")


def _check_colour(origin: str, key: str, value: object) -> None:
    from textual.color import Color, ColorParseError

    try:
        if not isinstance(value, str):
            raise UsageError(f"{origin}: {key} must be a colour like '#33aaff', not {value!r}")
        Color.parse(value)
    except ColorParseError:
        raise UsageError(f"{origin}: {key} is not a colour: {value!r}; write one like '#33aaff'") from None


def theme_names(config: Path) -> tuple[str, ...]:
    """The names that ``--theme`` takes, the default first; *config* is the user's configuration directory."""
    themes, _ = load_themes((shipped_folder(), user_folder(config)))
    return tuple(sorted({*themes, TERMINAL_THEME}, key=lambda name: (name != DEFAULT_THEME, name)))


def check_theme(name: str, config: Path) -> None:
    """Raises `UsageError` that lists the themes there are when *name* is none of them."""
    if name not in (names := theme_names(config)):
        raise UsageError(f"no theme {name!r}; there are: {', '.join(names)}", param="theme")


def variable_defaults(colours: Mapping[str, str]) -> dict[str, str]:
    """A value for every ``$hw-*`` variable, made of a theme's generated *colours*."""
    from textual.color import Color

    background = Color.parse(colours["background"])
    defaults = {}
    for variable, recipe in VARIABLES.items():
        name, _, share = recipe.partition(" ")
        colour = Color.parse(colours[name])
        if share and colour.ansi is None:
            colour = background.blend(colour, int(share.rstrip("%")) / 100)
        defaults[variable] = colour.css if colour.ansi is None else colours[name]
    return defaults


def build_theme(theme: ThemeFile) -> Theme:
    """*theme* as Textual takes it."""
    from textual.theme import Theme

    return Theme(
        name=theme.name, dark=theme.dark, variables=dict(theme.variables), **cast("dict[str, Any]", theme.colours)
    )


def terminal_theme() -> Theme:
    """The theme of the terminal's own 16 colours, for terminals without more and for ``NO_COLOR``."""
    from textual.theme import BUILTIN_THEMES, Theme

    base = BUILTIN_THEMES["ansi-dark"]
    variables = {
        "hw-muted": "ansi_default",
        "hw-faint": "ansi_bright_black",
        "hw-label": "ansi_default",
        "hw-title": "ansi_cyan",
        "hw-key": "ansi_cyan",
        "hw-bar": "ansi_green",
        "hw-bar-back": "ansi_bright_black",
        "hw-memory": "ansi_cyan",
        "hw-cursor": "ansi_blue",
        "hw-ok": "ansi_green",
        "hw-warm": "ansi_yellow",
        "hw-throttled": "ansi_red",
        "hw-stale": "ansi_magenta",
        "hw-lost": "ansi_red",
        "hw-trace-1": "ansi_green",
        "hw-trace-2": "ansi_yellow",
        "hw-trace-3": "ansi_cyan",
        "hw-trace-4": "ansi_magenta",
        "hw-chart-band": "ansi_red",
    }
    return Theme(
        name=TERMINAL_THEME,
        ansi=True,
        dark=True,
        primary="ansi_cyan",
        secondary="ansi_cyan",
        accent="ansi_magenta",
        foreground="ansi_default",
        background="ansi_default",
        surface="ansi_default",
        panel="ansi_default",
        success="ansi_green",
        warning="ansi_yellow",
        error="ansi_red",
        variables=dict(base.variables) | variables,
    )
