"""The broker of Celery workers: the Valkey server out of its wheel, as the local stack starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import workers
from infra.local.config import HOST, Config, free_port, load, make_folders
from infra.local.supervise import MARKER, leftovers

pytestmark = pytest.mark.skipif(not workers.are_installed(), reason="Celery is not installed: `make celery` brings it")


class Broker:
    """A broker that can be killed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        workers.prepare_broker(config)

    def start(self) -> None:
        self.process = subprocess.Popen(
            workers.broker_command(self.config),
            env=os.environ | {MARKER: self.config.marker(workers.BROKER)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while not workers.broker_answers(self.config):
            assert time.monotonic() < deadline, "the broker does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    config = load({"SAMPAN_STATE": str(tmp_path / "a state"), "SAMPAN_BROKER_PORT": str(free_port())})
    make_folders(config)
    broker = Broker(config)
    broker.start()
    yield broker
    broker.kill()


def test_broker_tells_nothing_without_its_password_which_no_other_user_reads(broker: Broker) -> None:
    import redis

    port = broker.config.port("SAMPAN_BROKER_PORT")
    for password, words in {None: "Authentication required", "wrong": "invalid username-password pair"}.items():
        with (
            redis.Redis(HOST, port, password=password, protocol=2) as stranger,
            pytest.raises(redis.RedisError, match=words),
        ):
            stranger.ping()
    settings = broker.config.state / "broker" / "valkey.conf"
    assert broker.config["SAMPAN_BROKER_PASSWORD"] in settings.read_text()
    assert settings.stat().st_mode & 0o077 == 0
    command = Path(f"/proc/{broker.process.pid}/cmdline").read_bytes()
    assert broker.config["SAMPAN_BROKER_PASSWORD"].encode() not in command


def test_broker_is_found_when_the_supervisor_that_started_it_is_gone(broker: Broker) -> None:
    """Kind of fault: a program that writes its title over its environment is left running, and holds its port."""
    assert leftovers(broker.config, workers.BROKER) == [broker.process.pid]


def test_what_waits_in_the_queue_is_there_after_the_broker_was_killed(broker: Broker) -> None:
    import redis

    def queue() -> redis.Redis:
        port, password = broker.config.port("SAMPAN_BROKER_PORT"), broker.config["SAMPAN_BROKER_PASSWORD"]
        return redis.Redis(HOST, port, password=password)

    with queue() as client:
        client.lpush("default", b"a task")
    broker.kill()
    assert not workers.broker_answers(broker.config)
    broker.start()
    with queue() as client:
        assert client.lrange("default", 0, -1) == [b"a task"]
