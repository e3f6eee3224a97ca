from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from textual.color import Color

from hwdash.client.fake import FakeClient
from hwdash.core.config import DashboardConfig
from hwdash.core.errors import UsageError
from hwdash.tui.app import HwdashApp
from hwdash.tui.theme import (
    VARIABLES,
    build_theme,
    check_theme,
    load_themes,
    parse_theme,
    shipped_folder,
    theme_names,
    variable_defaults,
)
from tests.tui.sample import mixed_snapshot
from tests.tui.screen_text import shown

SHIPPED, PROBLEMS = load_themes((shipped_folder(),))
GOOD = (shipped_folder() / "forest.toml").read_text()


def test_the_shipped_themes_are_good() -> None:
    assert PROBLEMS == ()
    assert {"hwdash", "hwdash-light", "high-contrast", "amber"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_text_and_states_can_be_read_in_every_shipped_theme(name: str) -> None:
    theme = build_theme(SHIPPED[name])
    generated = theme.to_color_system().generate()
    colours = variable_defaults(generated) | generated | theme.variables
    wanted = 7.0 if name == "high-contrast" else 4.5
    for background in ("background", "panel"):
        behind = Color.parse(colours[background])
        for variable in ("hw-text", "hw-muted", "hw-label", "hw-title", "hw-key", "hw-ok", "hw-warm", "hw-throttled"):
            ratio = contrast(Color.parse(colours[variable]), behind)
            assert ratio >= wanted - (1.0 if background == "panel" else 0.0), f"{variable} on {background}: {ratio:.1f}"


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: Color) -> float:
        parts = [part / 255 for part in colour.rgb]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("primary = ", "primry = "), "primary is missing"),
        (("#8fbc8f", "#8fbc8"), "primary is not a colour"),
        (("dark = true", 'dark = "yes"'), "dark must be true or false"),
        (("hw-cursor", "hw-curser"), "unknown variable hw-curser"),
        (("dark = true", "dark = true\nsize = 3"), "unknown key size"),
        (("dark = true", "dark = "), "at line"),
    ],
)
def test_a_bad_theme_is_named_with_its_fault(change: tuple[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        parse_theme(GOOD.replace(*change), "/x/mine.toml")
    assert caught.value.message.startswith("/x/mine.toml: ")


def test_names_start_with_the_default_and_know_the_users_own(tmp_path: Path) -> None:
    folder = tmp_path / "themes"
    folder.mkdir()
    (folder / "mine.toml").write_text(GOOD.replace('"forest"', '"mine"'))
    names = theme_names(tmp_path)
    assert names[0] == "hwdash"
    assert "mine" in names
    check_theme("mine", tmp_path)
    with pytest.raises(UsageError, match="no theme 'nope'; there are: hwdash, amber"):
        check_theme("nope", tmp_path)


def test_every_variable_has_a_default() -> None:
    theme = build_theme(SHIPPED["forest"])
    assert set(variable_defaults(theme.to_color_system().generate())) == set(VARIABLES)


def test_importing_the_names_loads_no_textual() -> None:
    script = "import hwdash.tui.theme, sys; raise SystemExit('textual' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


async def test_a_bad_theme_of_the_user_is_one_toast_and_the_rest_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "hwdash" / "themes"
    folder.mkdir(parents=True)
    (folder / "bad.toml").write_text("name = '[/red]'\n")
    (folder / "mine.toml").write_text(GOOD.replace('"forest"', '"mine"'))
    app = HwdashApp(FakeClient([mixed_snapshot()]), DashboardConfig(theme="mine"), host="node7")
    async with app.run_test(notifications=True, size=(120, 30)) as pilot:
        await shown(pilot, "gpu0")
        assert app.theme == "mine"
        assert len(app._notifications) == 1
        assert "bad.toml" in next(iter(app._notifications)).message
