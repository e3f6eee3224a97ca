"""The screen of all devices."""

from __future__ import annotations

from hwdash.tui.screen import FrameScreen


class OverviewScreen(FrameScreen):
    """All devices, ranked, live, with the detail of the one under the cursor."""

    MODE = "overview"
