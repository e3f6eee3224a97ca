"""The command line: parse, run one command, turn errors into one line and an exit code.

Exit codes: 0 done, 1 it failed, 2 usage or configuration, 3 no device satisfies the request, 4 no daemon, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from hwdash import __version__
from hwdash.cli import (
    bench,
    chips,
    dashboard,
    devices,
    doctor,
    history,
    models,
    probe,
    prompt,
    rank,
    record,
    service,
    soak,
    token,
)
from hwdash.cli.stream import abandon_stdout, prepare_streams
from hwdash.core.errors import HwdashError, UsageError
from hwdash.core.text import sanitise_line

INTERRUPTED = 130
_NO_VALUE = ": expected one argument"


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are one line on stderr and exit 2."""

    def error(self, message: str) -> NoReturn:
        if message.endswith(_NO_VALUE):
            flag = message.removeprefix("argument ").removesuffix(_NO_VALUE).rpartition("/")[2]
            message += f" (one that begins with a dash is written {flag}=VALUE)"
        raise UsageError(f"{message}; see: {self.prog} --help")


class _Command(_Parser):
    """The parser of a command, or of a verb of one: it takes the common options too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        _add_common(self, suppress=True)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands. A parsed namespace has ``run``, a function of the namespace that gives the exit code."""
    parser = _Parser(
        prog="hwdash",
        description="See every AI accelerator of this machine, know which one to use and why, and prove it with a prompt.",
        epilog="Without a command the dashboard opens. Exit codes: 0 done, 1 failed, 2 usage, 3 no suitable device, 4 no daemon.",
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"hwdash {__version__}")
    _add_common(parser, suppress=False)
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=_Command)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=summary)

    dashboard.add_to(parser)
    for group in (devices, rank, prompt, probe, bench, history, models, chips, record, service, soak, token, doctor):
        group.add_commands(command)
    return parser


def _add_common(parser: argparse.ArgumentParser, *, suppress: bool) -> None:
    """The options that every command takes, before or after its name and that of its verb."""
    default: dict[str, Any] = {"default": argparse.SUPPRESS} if suppress else {}
    group = parser.add_argument_group("common options")
    group.add_argument("--config", metavar="FILE", type=_given, help="configuration file (TOML)", **default)
    group.add_argument("--socket", metavar="PATH", type=_given, help="the daemon's Unix socket", **default)
    group.add_argument(
        "--connect", metavar="URL", type=_given, help="a daemon's http(s) address; token in HWDASH_TOKEN", **default
    )
    group.add_argument("-v", "--verbose", action="store_true", help="say more on stderr and in the log", **default)


def _given(text: str) -> str:
    """*text*; empty it is a mistake (an unset variable of a script?), not the default."""
    if not text:
        raise argparse.ArgumentTypeError("its value is empty")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``hwdash`` with *arguments* (default: the process's own) and give the exit code."""
    prepare_streams()
    try:
        parsed = build_parser().parse_args(arguments)
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except HwdashError as error:
        print(f"hwdash: {sanitise_line(error.message, 2000)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()  # the reader has seen enough: `hwdash devices | head`
        return 0
    except OSError as error:
        if error.filename is not None:
            raise
        abandon_stdout()
        print(f"hwdash: the result cannot be written: {error.strerror or error}", file=sys.stderr)
        return 1
    return code
