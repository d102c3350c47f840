"""What dbt is spared for each node changes nothing that a node sees: of the sessions that its workers keep."""

from __future__ import annotations

from pathlib import Path

import pytest
from sampan.marts import dbt
from sampan.marts.dbt.in_process import InProcess

SESSION = """
select
    pg_backend_pid() as pid,
    to_regclass('pg_temp.left_over') as found,
    current_setting('lock_timeout') as set_to,
    cast(pg_sleep(0.5) as text) as slept
"""
LEAVES = """
{{ config(post_hook=[
    "create temporary table left_over (n int)", "set lock_timeout = 7000"
]) }}
"""
ENDS = """
-- depends_on: {{ ref('one') }} {{ ref('two') }}
{{ config(post_hook="select pg_terminate_backend(pid, 5000) from pg_stat_activity
    where usename = current_user and application_name = 'dbt' and state = 'idle'") }}
"""
AFTER = "-- depends_on: {{ ref('ends') }}"
# Two workers take two nodes at a time, but for the third node: it ends the session of the other worker, which is idle.
MODELS = {
    "one": LEAVES + SESSION,
    "two": LEAVES + SESSION,
    "ends": ENDS + SESSION,
    "three": AFTER + SESSION,
    "four": AFTER + SESSION,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(
        "name: small\nprofile: sampan\nmodels: {small: {+materialized: table}}\nflags: {send_anonymous_usage_stats: false}\n"
    )
    (folder / "profiles.yml").write_bytes((dbt.PROJECT / "profiles.yml").read_bytes())
    for name, text in MODELS.items():
        (folder / "models" / f"{name}.sql").write_text(text)
    return folder


def test_a_worker_keeps_its_session_sets_it_back_after_each_node_and_gets_another_when_it_is_gone(sampan, project):
    place = ["--project-dir", str(project), "--profiles-dir", str(project), "--log-path", str(project / "logs")]
    with dbt.environment():
        result = InProcess(dbt.BUILD, dbt.BUILD).run(["build"], [*place, "--quiet"])
    assert result.is_done, result.problem
    union = " union all ".join(f"select pid, found, set_to, '{name}' as model from build.{name}" for name in MODELS)
    seen = {model: (pid, rest) for pid, *rest, model in sampan.rows(union, role="builder")}
    assert {model: rest for model, (_, rest) in seen.items()} == {model: [None, "0"] for model in MODELS}
    first, later = {seen["one"][0], seen["two"][0]}, {seen["three"][0], seen["four"][0]}
    # One of the first two sessions ends in the middle.
    assert seen["ends"][0] in first & later
    assert len(first) == len(later) == 2
    assert len(first | later) == 3
