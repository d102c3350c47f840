"""`python -m sampan.desk`: serve the desks on one port of this machine, in one process, which holds the sessions."""

from __future__ import annotations

import logging
import os
import sys

import uvicorn

from sampan.desk.app import make
from sampan.desk.config import DeskConfig, from_environment
from sampan.errors import SettingsFailure
from sampan.text import OneLineFormatter


def main() -> int:
    """Serve until the process is stopped."""
    os.umask(0o077)
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        config = from_environment()
    except SettingsFailure as failure:
        logging.getLogger("sampan").error("%s", failure)
        return 1
    host, port = os.environ.get("SAMPAN_DESK_HOST", "127.0.0.1"), int(os.environ.get("SAMPAN_DESK_PORT", "18095"))
    uvicorn.Server(serving(config, host, port)).run()
    return 0


def serving(config: DeskConfig, host: str, port: int) -> uvicorn.Config:
    """How the desks are served: by one process, since sessions are in its memory."""
    # Paths have ids and no names; the access log says who asked when. Any program of this machine could say in a header that
    # it is a proxy, and have each try of a password come from another address.
    return uvicorn.Config(make(config), host=host, port=port, log_config=None, server_header=False, proxy_headers=False)


if __name__ == "__main__":
    sys.exit(main())
