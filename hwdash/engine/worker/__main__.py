"""``python -m hwdash.engine.worker FD``: a worker that talks over the inherited socket *FD*."""

from __future__ import annotations

import faulthandler
import logging
import socket
import sys

from hwdash.engine.worker.lifeline import die_with_parent
from hwdash.engine.worker.session import Session


def main() -> None:
    """Run one worker until its socket closes."""
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    die_with_parent()
    Session(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
