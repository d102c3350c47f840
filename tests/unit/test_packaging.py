"""The package: a wheel holds all that the library reads, and the command runs from it, away from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from zipfile import ZipFile

import pytest
import sampan
from sampan.contracts.registry import all_contracts
from sampan.settings import HOME


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the content of a wheel of the project."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(command, cwd=HOME, check=True, capture_output=True)
    (wheel,) = folder.glob("sampan-*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def _python(installed: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SAMPAN_")}
    environment |= {"PYTHONPATH": str(installed), "HOME": str(installed.parent)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=installed.parent, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_version_is_the_library_s():
    assert version("sampan") == sampan.__version__


def test_command_of_a_wheel_checks_the_contracts_that_the_wheel_brings(installed):
    (wheel,) = distributions(path=[str(installed)])
    (script,) = wheel.entry_points.select(group="console_scripts", name="sampan")
    run = f"import sys; from {script.module} import {script.attr} as main; sys.argv[1:] = 'contracts', 'check'; main()"
    assert f"{len(all_contracts())} contracts" in _python(installed, "-c", run)


def test_library_of_a_wheel_finds_models_sql_and_a_state_folder_outside_of_it(installed):
    shown = _python(installed, "-c", "from sampan.settings import HOME, settings; print(HOME, settings().state)")
    home, state = map(Path, shown.split())
    assert home == installed / "sampan" / "_home"
    assert state == installed.parent / ".sampan"
    for folder, kind in (("dbt_project/models", "*.sql"), ("dbt_project/seeds", "*.csv"), ("infra/postgres", "*.sql")):
        brought = {path.relative_to(home) for path in (home / folder).rglob(kind)}
        assert brought
        assert brought == {path.relative_to(HOME) for path in (HOME / folder).rglob(kind)}


def test_a_wheel_brings_the_questions_and_what_pages_are_made_of(installed):
    code = (
        "from sampan.report import derived, pages, questions, words;"
        "print(len(questions.all_questions()), len(words.labels()), len(pages.environment().list_templates()),"
        " derived.check())"
    )
    # Of the templates one is the page of questions in the documents, one the style sheet.
    assert _python(installed, "-c", code).strip() == "36 3 8 []"


def test_a_wheel_brings_what_the_desks_are_made_of(installed):
    code = (
        "from sampan.desk import visit, words;"
        "print('base.html' in visit.environment().list_templates(), len(visit.style()) > 5000, 'texts' in words.labels())"
    )
    assert _python(installed, "-c", code).strip() == "True True True"


UV = """#!/bin/sh
printenv UV_DEFAULT_INDEX SSL_CERT_FILE ALL_PROXY UV_INSECURE_HOST >"$ASKED"
"""


@pytest.mark.parametrize("said_in", ["file", "variables"])
def test_setup_installs_with_the_index_the_certificates_and_the_proxy_of_pip(tmp_path, said_in):
    """Kind of fault: a tool that is called by another one knows only half of what the person has set."""
    of_pip = {
        "index-url": "https://packages.example/simple",
        "cert": "/etc/ssl/ours.pem",
        "proxy": "http://proxy.example:3128",
        "trusted-host": "packages.example",
    }
    checkout = tmp_path / "checkout"
    (checkout / "infra" / "local").mkdir(parents=True)
    shutil.copy(HOME / "infra" / "local" / "setup.sh", checkout / "infra" / "local")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "uv").write_text(UV)
    (tmp_path / "uv").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ASKED": str(tmp_path / "asked"), "PYTHON": sys.executable}
    if said_in == "file":
        settings = "\n".join(f"{name} = {value}" for name, value in of_pip.items())
        (tmp_path / "pip.conf").write_text(f"[global]\n{settings}\n")
        environment["PIP_CONFIG_FILE"] = str(tmp_path / "pip.conf")
    else:
        environment |= {f"PIP_{name.replace('-', '_').upper()}": value for name, value in of_pip.items()}
    subprocess.run(
        ["sh", checkout / "infra" / "local" / "setup.sh", tmp_path / "stamp"], env=environment, check=True, timeout=120
    )
    assert (tmp_path / "asked").read_text().splitlines() == list(of_pip.values())


def test_setup_of_a_lock_on_top_of_the_first_removes_stamps_of_its_own_kind_only(tmp_path):
    """Kind of fault: a script removes what it did not make, when a name is not as it expects."""
    checkout = tmp_path / "check-out"
    (checkout / "infra" / "local").mkdir(parents=True)
    shutil.copy(HOME / "infra" / "local" / "setup.sh", checkout / "infra" / "local")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / "uv").write_text('#!/bin/sh\necho "$@" >>"$ASKED"\n')
    (tmp_path / "uv").chmod(0o755)
    before = [".venv/.installed-1", ".venv/.celery-1", "stamp-1"]
    for name in before:
        (checkout / name).touch()
    command = ["sh", "infra/local/setup.sh", ".venv/.celery-2", "infra/celery/requirements.lock"]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "ASKED": str(tmp_path / "asked"), "PYTHON": sys.executable}
    subprocess.run(command, cwd=checkout, env=environment, check=True, timeout=120)
    assert {name for name in [*before, ".venv/.celery-2"] if (checkout / name).exists()} == {
        ".venv/.installed-1", "stamp-1", ".venv/.celery-2"
    }  # fmt: skip
    locked, library = (tmp_path / "asked").read_text().splitlines()
    assert locked.endswith("--no-deps --require-hashes --compile-bytecode -r infra/celery/requirements.lock")
    assert library.endswith("--editable .")
