"""The entry point, also of ``python -m hwdash``, the form in which the daemon is started."""

from __future__ import annotations

INTERRUPTED = 130


def main() -> int:
    """Run the command line; a Ctrl-C that comes while it is still being imported ends it like a later one."""
    try:
        from hwdash.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
