"""Entry point of ``python -m hwdash``, the form in which the daemon is started."""

from hwdash.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
