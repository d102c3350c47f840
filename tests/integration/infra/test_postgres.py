"""The user that embedded PostgreSQL runs as when the one who asks is root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.config import HOME
from infra.local.postgres import SYSTEM_USER

PROCESSES = 8
# Users of the machine as they are before its first server, in a namespace of mounts that ends with the script.
FRESH = f"""
set -e
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
# userdel refuses one who runs a server elsewhere.
sed -i '/^{SYSTEM_USER}:/d' /etc/passwd /etc/shadow /etc/group /etc/gshadow
for process in $(seq {PROCESSES}); do
    "$2" -c "
import pathlib
from infra.local.postgres import server_user
while not pathlib.Path('$1/go').exists():
    pass
print(*server_user()[:4])
" >"$1/$process" &
done
sleep 3
touch "$1/go"
wait
getent passwd {SYSTEM_USER} >"$1/made"
"""


def may_make_users() -> bool:
    """Whether a test can try on a copy of the machine's users."""
    tools = ("useradd", "unshare")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_make_users(), reason="needs root, and a namespace of mounts")
def test_first_servers_that_start_at_once_share_the_user_that_one_of_them_makes(tmp_path: Path) -> None:
    command = ["unshare", "--mount", "sh", "-c", FRESH, "sh", tmp_path, sys.executable]

    subprocess.run(command, cwd=HOME, env=os.environ | {"PYTHONPATH": str(HOME)}, check=True, timeout=120)

    made = (tmp_path / "made").read_text().replace(":", " ").split()[:4]
    assert {(tmp_path / str(process)).read_text() for process in range(1, PROCESSES + 1)} == {" ".join(made) + "\n"}
