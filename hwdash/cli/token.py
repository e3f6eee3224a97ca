"""``hwdash token``: the bearer tokens that requests over TCP need."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hwdash.cli.output import print_json, table_text
from hwdash.core.errors import UsageError
from hwdash.core.paths import paths_from

if TYPE_CHECKING:
    from hwdash.daemon.token import TokenFile


def add_commands(command: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add ``token`` with its three verbs. They work on this machine's file, with and without a daemon."""
    parser = command("token", "bearer tokens for requests over TCP: create, list, revoke")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    creation = verbs.add_parser("create", help="make a token and print it, this once, as the only line on stdout")
    creation.add_argument("--name", metavar="NAME", default="", help="what it is for, to tell it from others")
    creation.set_defaults(run=lambda parsed: create(_file(parsed), parsed.name))
    listing = verbs.add_parser("list", help="the tokens there are: id, name, time of creation")
    listing.add_argument("--json", action="store_true", help="one JSON document")
    listing.set_defaults(run=lambda parsed: show(_file(parsed), parsed.json))
    revocation = verbs.add_parser("revoke", help="make a token invalid, at once, also for a running daemon")
    revocation.add_argument("id", metavar="ID", help="its id, as `hwdash token list` shows it")
    revocation.set_defaults(run=lambda parsed: revoke(_file(parsed), parsed.id))


def create(file: TokenFile, name: str) -> int:
    """Make a token: the token to stdout, the rest to stderr. One that cannot be printed is taken back: nobody has it."""
    secret, token = file.create(name)
    try:
        print(secret, flush=True)
    except BaseException:
        file.revoke(token.id)
        raise
    print(
        f"token {token.id}: kept as a hash only, so it is shown this once; give it to clients as HWDASH_TOKEN, "
        f"or as the header `Authorization: Bearer TOKEN`; end it with: hwdash token revoke {token.id}",
        file=sys.stderr,
    )
    return 0


def show(file: TokenFile, as_json: bool) -> int:
    """Print the tokens there are, never themselves."""
    tokens = file.read()
    if as_json:
        print_json({"tokens": [{"id": item.id, "name": item.name, "created_at": item.created_at} for item in tokens]})
    elif not tokens:
        print("no tokens; make one with: hwdash token create")
    else:
        rows = [(item.id, item.name or "-", f"{item.created_at:%Y-%m-%d %H:%M:%S} UTC") for item in tokens]
        print(table_text(("ID", "NAME", "CREATED"), rows))
    return 0


def revoke(file: TokenFile, name: str) -> int:
    """Make a token invalid."""
    token = file.revoke(name)
    print(f"{token.id}: revoked")
    return 0


def _file(parsed: argparse.Namespace) -> TokenFile:
    from hwdash.daemon.token import TokenFile

    if parsed.connect:
        raise UsageError("tokens are made and revoked on the daemon's own machine: leave --connect out")
    return TokenFile(paths_from(os.environ).tokens)
