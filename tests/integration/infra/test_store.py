"""The object store has one door, S3, and each identity has what it needs: attacks as a stranger and as each identity."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from botocore.exceptions import ClientError
from sampan.contracts.registry import all_contracts
from sampan.contracts.store_policy import ANALYST, LOADER, REPORTER, policies

from infra.local import s3 as local_s3
from infra.local.config import HOST, WEED_PORTS, StackError, free_port
from infra.local.s3 import EmbeddedS3

WEED = Path(sys.executable).parent / "weed"
STRANGER = 65534
DROP, LANDING, LAKE = "drop", "landing", "lake"
KEY, BODY = "customs/customs_declarations/2026-07-06/part.csv", b"a planted name, a planted number"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedS3]:
    with EmbeddedS3(tmp_path_factory.mktemp("store")) as store:
        store.client().put_object(Bucket=DROP, Key=KEY, Body=BODY)
        store.client().put_object(Bucket=LANDING, Key="customs_declarations/landed", Body=BODY)
        yield store


def listening(store: EmbeddedS3) -> list[int]:
    """Every port of any protocol that the store's process has open."""
    process = psutil.Process(store._process.pid)
    connections = [c for p in (process, *process.children(recursive=True)) for c in p.net_connections("inet")]
    return sorted({c.laddr.port for c in connections if c.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)})


def inner_ports(store: EmbeddedS3) -> list[int]:
    ports = listening(store)
    assert store.port in ports
    assert len(ports) > 5, "the store has fewer ports than it is known to have: the scan does not see them"
    return [port for port in ports if port != store.port]


def as_stranger(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program as a user who owns nothing, or as this one, with another home, where that is not possible."""
    if os.geteuid() == 0:
        options |= {"user": STRANGER, "group": STRANGER, "extra_groups": []}
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


# --- strangers --------------------------------------------------------------------------------------------------------


def answer(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes] | None:
    """Status and body of an answer, None when the connection is refused or broken off."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(url, data=body, method=method, headers={"Accept": "application/json"})
    try:
        try:
            with urllib.request.urlopen(request, timeout=5, context=context) as response:
                return response.status, response.read(4096)
        except urllib.error.HTTPError as error:
            return error.code, error.read(4096)
    except OSError:
        return None


ASKED = (
    ("GET", "/"),
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/debug/pprof/"),
    ("GET", "/ui/index.html"),
    ("GET", "/buckets/drop/?limit=10"),
    ("GET", f"/buckets/drop/{KEY}"),
    ("PUT", "/buckets/drop/customs/customs_declarations/2026-07-06/forged.csv"),
    ("POST", "/buckets/drop/customs/customs_declarations/2026-07-06/forged.csv"),
    ("DELETE", f"/buckets/drop/{KEY}"),
    ("GET", "/dir/assign"),
    ("GET", "/dir/status"),
    ("GET", "/vol/status"),
    ("GET", "/vol/vacuum?garbageThreshold=0.9"),
    ("GET", "/cluster/status"),
    ("GET", "/col/delete?collection=none"),
    ("POST", "/submit"),
    ("GET", "/{piece}"),
    ("GET", "/{piece}?readDeleted=true"),
    ("DELETE", "/{piece}"),
    ("GET", "/?proxyChunkId={piece}"),
    ("GET", "/?proxyChunkId={piece}&readDeleted=true"),
    ("GET", "/dir/lookup?fileId={piece}&read=yes"),
    ("GET", "/api/plugin/status"),
)


def test_no_inner_port_of_the_store_answers_a_stranger(store: EmbeddedS3) -> None:
    """A door that asks for nothing: who can connect reads, writes, lists, deletes, or gets a token that lets it."""
    (piece,) = pieces(store, DROP, KEY)
    told = []
    for port in inner_ports(store):
        for method, path in ASKED:
            # With TLS no stranger comes as far as a path: one is enough.
            for scheme in ("http", "https") if path == "/" else ("http",):
                body = b"forged" if method in ("PUT", "POST") else None
                got = answer(method, f"{scheme}://{HOST}:{port}{path.format(piece=piece)}", body)
                # What Go's servers say to a client that speaks HTTP where HTTPS is spoken, before any handler is asked.
                if got not in (None, (400, b"Client sent an HTTP request to an HTTPS server.\n")):
                    told.append((port - store.port, scheme, method, path, got))
    assert told == []
    assert store.client().get_object(Bucket=DROP, Key=KEY)["Body"].read() == BODY
    assert [item["Key"] for item in store.client().list_objects_v2(Bucket=DROP)["Contents"]] == [KEY]


def pieces(store: EmbeddedS3, bucket: str, key: str) -> list[str]:
    """File ids of an object, asked with the store's certificate."""
    from sampan.object_store import SeaweedFS

    names = ("SAMPAN_SEAWEEDFS_MASTER", "SAMPAN_SEAWEEDFS_FILER", "SAMPAN_SEAWEEDFS_CERTIFICATE")
    return SeaweedFS(*(store.settings[name] for name in names)).pieces(bucket, key)


@pytest.mark.parametrize("encrypted", [False, True])
def test_no_inner_port_of_the_store_takes_grpc_from_a_stranger(encrypted: bool, store: EmbeddedS3) -> None:
    """The same door by another protocol: names, keys and volumes by gRPC, in clear or with TLS and no certificate."""
    told = []
    for port in inner_ports(store):
        address = f"{HOST}:{port}"
        if encrypted:
            try:
                root = ssl.get_server_certificate((HOST, port), timeout=5).encode()
            except OSError:
                root = None
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(root))
        else:
            channel = grpc.insecure_channel(address)
        with channel:
            for method in (
                "/master_pb.Seaweed/GetMasterConfiguration",
                "/filer_pb.SeaweedFiler/GetFilerConfiguration",
                "/volume_server_pb.VolumeServer/VolumeServerStatus",
                "/grpc.health.v1.Health/Check",
            ):
                try:
                    channel.unary_unary(method)(b"", timeout=3)
                    told.append((port - store.port, method))
                except grpc.RpcError as error:
                    # A server that lets a stranger in says that it does not know the method.
                    if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                        told.append((port - store.port, method, error.code()))
    assert told == []


EVIL = "evilevilevil"


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("fs.ls /buckets/", LANDING),
        (f"fs.cat /buckets/{DROP}/{KEY}", BODY.decode()),
        ("volume.list", "volume Id:"),
        (f"s3.configure -user evil -access_key {EVIL} -secret_key {EVIL} -actions Admin -apply", '"evil"'),
    ],
)
def test_another_user_gets_nothing_from_the_shell_of_the_store(command: str, shown: str, store: EmbeddedS3) -> None:
    """The administrator's shell, run by another user of the machine: names, contents, and an identity of its own."""
    address = [f"-master={HOST}:{store.port + 2}.{store.port + 3}", f"-filer={HOST}:{store.port + 4}.{store.port + 5}"]
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o777)
        options: dict[str, Any] = {"input": f"{command}\n", "cwd": home, "env": {"HOME": home}, "timeout": 8}
        try:
            said = as_stranger([str(WEED), "shell", *address], **options).stdout
        except subprocess.TimeoutExpired as expired:
            # It waits for a server that lets it in.
            said = (expired.stdout or b"").decode()
        assert shown not in said
        if EVIL not in command:
            owner = [str(WEED), f"-config_dir={store.keys}", "shell", *address]
            assert shown in subprocess.run(owner, capture_output=True, text=True, check=True, **options).stdout
    with pytest.raises(ClientError, match="InvalidAccessKeyId"):
        local_s3.client(store.endpoint, EVIL, EVIL).list_buckets()


def test_another_user_can_read_no_key_and_reach_no_socket_of_the_store(store: EmbeddedS3) -> None:
    """Keys, certificate and sockets lie in files: another user of the machine looks for them."""
    secrets_of_store = [*store.keys.iterdir(), *store.sockets.iterdir()]
    assert {path.name for path in secrets_of_store} >= {
        "store.pem", "security.toml", "identities.json", "partners.json", "s3.sock", "filer.sock"
    }  # fmt: skip
    for folder in (store.directory, store.keys, store.sockets):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in store.keys.iterdir())
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for path in secrets_of_store:
        assert as_stranger(["cat", str(path)]).returncode != 0


def test_no_secret_of_the_store_is_in_its_command_line_environment_or_log(store: EmbeddedS3) -> None:
    process = psutil.Process(store._process.pid)
    seen = repr(process.cmdline()) + repr(process.environ()) + (store.directory / "server.log").read_text()
    identities = json.loads((store.keys / "identities.json").read_text())["identities"]
    assert len(identities) > 5
    assert [one["name"] for one in identities if one["credentials"][0]["secretKey"] in seen] == []


@pytest.mark.parametrize("path", ["", "drop", f"drop/{KEY}", "drop?versions", "?Action=ListUsers&Version=2010-05-08"])
def test_s3_itself_says_nothing_to_a_stranger(path: str, store: EmbeddedS3) -> None:
    for method in ("GET", "PUT", "POST", "DELETE"):
        status, body = answer(method, f"{store.endpoint}/{path}", b"" if method != "GET" else None) or (0, b"")
        assert 400 <= status < 500, (method, status)
        assert BODY not in body


def test_a_leftover_of_another_user_in_the_temporary_folder_does_not_hinder_the_start(tmp_path: Path) -> None:
    """A name that others can guess in a folder that all may write to. The leftovers here are folders that are not empty:
    no user can remove them as a file, just as none but root can remove another's file there."""
    port = free_port(WEED_PORTS)
    ports = range(port, port + WEED_PORTS)
    names = [f"seaweedfs-{part}-{number}.sock" for part in ("s3", "filer") for number in ports]
    parts = ("s3", "filer", "master", "volume", "admin")
    names += [f"seaweedfs-{part}-grpc-{number}.sock" for part in parts for number in ports]
    leftovers = [Path("/tmp") / name for name in names]
    for leftover in leftovers:
        # A store of an earlier run may have left a socket of that name.
        leftover.unlink(missing_ok=True)
        leftover.mkdir()
        (leftover / "x").touch()
    try:
        with EmbeddedS3(tmp_path / "store", port) as store:
            store.client().put_object(Bucket=DROP, Key="k", Body=b"v")
            assert store.client().get_object(Bucket=DROP, Key="k")["Body"].read() == b"v"
    finally:
        for leftover in leftovers:
            shutil.rmtree(leftover)


# --- identities -------------------------------------------------------------------------------------------------------


def client_of(store: EmbeddedS3, name: str) -> Any:
    identities = json.loads((store.keys / "identities.json").read_text())["identities"]
    (keys,) = (one["credentials"][0] for one in identities if one["name"] == name)
    return local_s3.client(store.endpoint, keys["accessKey"], keys["secretKey"])


OPEN = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{DROP}/*"}],
    }
)
PARTNERS = [name for name in policies(DROP, LANDING) if name not in (LOADER, REPORTER, ANALYST)]


def denied(call: Callable[[], Any]) -> bool:
    try:
        call()
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return False


def test_there_is_an_identity_for_each_partner_that_delivers_files() -> None:
    assert len(PARTNERS) > 4
    assert "platforms" in PARTNERS


@pytest.mark.parametrize("partner", PARTNERS)
def test_a_partner_writes_its_own_prefix_and_nothing_else(partner: str, store: EmbeddedS3) -> None:
    """One key that opens everything: what a partner's key does beyond its own prefix."""
    s3, own = client_of(store, partner), f"{partner}/any_feed/2026-07-06/{secrets.token_hex(4)}"
    other = next(name for name in PARTNERS if name != partner)
    s3.put_object(Bucket=DROP, Key=own, Body=b"own", Metadata={"sent-at": "now"})
    upload = s3.create_multipart_upload(Bucket=DROP, Key=own)["UploadId"]
    part = s3.upload_part(Bucket=DROP, Key=own, UploadId=upload, PartNumber=1, Body=b"x")
    s3.complete_multipart_upload(
        Bucket=DROP, Key=own, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    )
    admin = store.client()
    admin.put_object(Bucket=DROP, Key=f"{other}/feed/2026-07-06/x", Body=BODY)
    forbidden: dict[str, Callable[[], Any]] = {
        "put for another": lambda: s3.put_object(Bucket=DROP, Key=f"{other}/feed/2026-07-06/y", Body=b""),
        "put beside": lambda: s3.put_object(Bucket=DROP, Key=f"{partner}x/feed/y", Body=b""),
        "put at the root": lambda: s3.put_object(Bucket=DROP, Key="y", Body=b""),
        "put in landing": lambda: s3.put_object(Bucket=LANDING, Key=f"{partner}/x", Body=b""),
        "read own": lambda: s3.get_object(Bucket=DROP, Key=own),
        "read another's": lambda: s3.get_object(Bucket=DROP, Key=f"{other}/feed/2026-07-06/x"),
        "read landing": lambda: s3.get_object(Bucket=LANDING, Key="customs_declarations/landed"),
        "copy another's": lambda: s3.copy_object(
            Bucket=DROP, Key=own, CopySource={"Bucket": DROP, "Key": f"{other}/feed/2026-07-06/x"}
        ),
        "list": lambda: s3.list_objects_v2(Bucket=DROP),
        "list own": lambda: s3.list_objects_v2(Bucket=DROP, Prefix=f"{partner}/"),
        "list versions": lambda: s3.list_object_versions(Bucket=LANDING),
        "list uploads": lambda: s3.list_multipart_uploads(Bucket=DROP),
        "delete own": lambda: s3.delete_object(Bucket=DROP, Key=own),
        "delete another's": lambda: s3.delete_object(Bucket=DROP, Key=f"{other}/feed/2026-07-06/x"),
        "make a bucket": lambda: s3.create_bucket(Bucket="mine"),
        "delete a bucket": lambda: s3.delete_bucket(Bucket=DROP),
        "set a policy": lambda: s3.put_bucket_policy(Bucket=DROP, Policy=OPEN),
        "stop versioning": lambda: s3.put_bucket_versioning(
            Bucket=LANDING, VersioningConfiguration={"Status": "Suspended"}
        ),
    }
    assert [what for what, call in forbidden.items() if not denied(call)] == []
    with pytest.raises(ClientError, match=r"InvalidRequest|AccessDenied|400"):
        s3.put_object(Bucket=DROP, Key=f"{partner}/../{other}/feed/y", Body=b"")
    # Answered with 200, and what became of each key.
    assert "Deleted" not in s3.delete_objects(Bucket=DROP, Delete={"Objects": [{"Key": own}]})
    assert admin.get_object(Bucket=DROP, Key=own)["Body"].read() == b"x"
    names = {item["Key"] for item in admin.list_objects_v2(Bucket=DROP)["Contents"]}
    assert names >= {own, KEY, f"{other}/feed/2026-07-06/x"}
    assert not [name for name in names if name.endswith("/y") or name == "y"]
    assert s3.list_buckets()["Buckets"] == []


# Names that a store may keep for itself, or read as another one.
ODD = (
    "x.versions/y", "x.versions/sub/y", ".versions/y", "a/.versions/y", ".uploads/a/0001.part", "b/.uploads/a/0001.part",
    "sub.versions", ".uploads", "x.versions.d/y", "x.uploads/y", ".seaweedfs/x", ".snap/x", "lost+found/x", "...", "a..b",
    " x", "x ", "a.idx", "%2Fx", "a+b?c#d&e=f", "\n", "\u202ex", "cafe\u0301", "caf\u00e9", "f.csv", "f.csv/under.csv",
)  # fmt: skip


def test_what_a_partner_may_put_is_listed(store: EmbeddedS3) -> None:
    """What no one lists is not read, not searched for revocations, and not deleted when its retention is over."""
    s3, prefix = client_of(store, "customs"), f"customs/any_feed/2026-07-06/{secrets.token_hex(4)}/"
    taken = {
        prefix + name
        for name in ODD
        if not denied(lambda name=name: s3.put_object(Bucket=DROP, Key=prefix + name, Body=b"x"))
    }
    listed = {item["Key"] for item in client_of(store, LOADER).list_objects_v2(Bucket=DROP, Prefix=prefix)["Contents"]}
    assert taken - listed == set()
    assert len(taken) == len(ODD) - 6
    assert denied(lambda: s3.create_multipart_upload(Bucket=DROP, Key=f"{prefix}x.versions/y"))


def test_the_loader_reads_and_deletes_in_drop_owns_landing_and_administers_nothing(store: EmbeddedS3) -> None:
    """The key that every task has is not the administrator's."""
    s3 = client_of(store, LOADER)
    assert s3.get_object(Bucket=DROP, Key=KEY)["Body"].read() == BODY
    assert KEY in [item["Key"] for item in s3.list_objects_v2(Bucket=DROP, Prefix="customs/")["Contents"]]
    version = s3.put_object(Bucket=LANDING, Key="own", Body=b"1")["VersionId"]
    assert s3.head_object(Bucket=LANDING, Key="own")["ContentLength"] == 1
    s3.delete_object(Bucket=LANDING, Key="own")
    for item in s3.list_object_versions(Bucket=LANDING, Prefix="own")["DeleteMarkers"]:
        s3.delete_object(Bucket=LANDING, Key="own", VersionId=item["VersionId"])
    s3.delete_object(Bucket=LANDING, Key="own", VersionId=version)
    assert "Versions" not in s3.list_object_versions(Bucket=LANDING, Prefix="own")
    s3.put_object(Bucket=DROP, Key="hkma/hkma_exchange_rates/2026-07-06/x.json", Body=b"an API's answer")
    s3.delete_object(Bucket=DROP, Key="hkma/hkma_exchange_rates/2026-07-06/x.json")
    left = client_of(store, PARTNERS[0]).create_multipart_upload(Bucket=DROP, Key=f"{PARTNERS[0]}/left")["UploadId"]
    assert left in [item["UploadId"] for item in s3.list_multipart_uploads(Bucket=DROP)["Uploads"]]
    s3.abort_multipart_upload(Bucket=DROP, Key=f"{PARTNERS[0]}/left", UploadId=left)
    forbidden: dict[str, Callable[[], Any]] = {
        "deliver for a partner": lambda: s3.put_object(Bucket=DROP, Key="customs/customs_declarations/x", Body=b""),
        "put into the bucket of probes": lambda: s3.put_object(Bucket=local_s3.PROBE, Key="x", Body=b""),
        "make a bucket": lambda: s3.create_bucket(Bucket="mine"),
        "delete a bucket": lambda: s3.delete_bucket(Bucket=LANDING),
        "set a policy": lambda: s3.put_bucket_policy(Bucket=DROP, Policy=OPEN),
        "stop versioning": lambda: s3.put_bucket_versioning(
            Bucket=LANDING, VersioningConfiguration={"Status": "Suspended"}
        ),
    }
    assert [what for what, call in forbidden.items() if not denied(call)] == []


def test_the_analyst_reads_feeds_without_pseudonyms_in_the_lake_and_nothing_else(store: EmbeddedS3) -> None:
    """Files know no rule on rows: who may read one reads all of it, pseudonyms and what banks see under consents too."""
    keys = {feed: f"{feed}/business_date=2026-07-06/b1.parquet" for feed in all_contracts()}
    for own in keys.values():
        client_of(store, LOADER).put_object(Bucket=LAKE, Key=own, Body=b"rows")
    s3 = client_of(store, ANALYST)
    readable = {feed for feed, own in keys.items() if not denied(lambda own=own: s3.get_object(Bucket=LAKE, Key=own))}
    hidden = {
        "customs_declarations",
        "business_register",
        "cdi_consents",
        "cdi_financing_requests",
        "epayment_summaries",
    }
    assert readable.isdisjoint(hidden)
    assert readable >= {"platform_orders", "platform_traffic", "csd_trade_statistics", "hkma_exchange_rates"}
    assert not any(column.personal == "pseudonymise" for feed in readable for column in all_contracts()[feed].stored)
    assert {item["Key"] for item in s3.list_objects_v2(Bucket=LAKE)["Contents"]} == set(keys.values())
    key = keys["platform_orders"]
    forbidden: dict[str, Callable[[], Any]] = {
        "put": lambda: s3.put_object(Bucket=LAKE, Key=key, Body=b""),
        "delete": lambda: s3.delete_object(Bucket=LAKE, Key=key),
        "read landing": lambda: s3.get_object(Bucket=LANDING, Key="customs_declarations/landed"),
        "list landing": lambda: s3.list_objects_v2(Bucket=LANDING),
        "read drop": lambda: s3.get_object(Bucket=DROP, Key=KEY),
        "list drop": lambda: s3.list_objects_v2(Bucket=DROP),
        "read pages": lambda: s3.list_objects_v2(Bucket="reports"),
        "make a bucket": lambda: s3.create_bucket(Bucket="mine"),
        "set a policy": lambda: s3.put_bucket_policy(Bucket=LAKE, Policy=OPEN),
    }
    assert [what for what, call in forbidden.items() if not denied(call)] == []
    for other in (REPORTER, *PARTNERS):
        assert denied(lambda other=other: client_of(store, other).get_object(Bucket=LAKE, Key=key)), other
        assert denied(lambda other=other: client_of(store, other).list_objects_v2(Bucket=LAKE)), other


def test_the_store_answers_when_content_is_on_the_disk(store: EmbeddedS3) -> None:
    """By default SeaweedFS loses what it has acknowledged when the machine dies. Other rules of the store's owner stay."""
    address, own = "/etc/seaweedfs/filer.conf", {"locationPrefix": "/own/", "ttl": "7d"}
    with store.filer() as filer:
        rules = filer.get(address).json()["locations"]
        assert [rule for rule in rules if rule["locationPrefix"] == "/buckets/"] == [
            {"locationPrefix": "/buckets/", "fsync": True}
        ]
        filer.put(address, json={"version": 1, "locations": [own, {"locationPrefix": "/buckets/"}]}).raise_for_status()
        store.make_buckets()
        assert filer.get(address).json()["locations"] == [own, {"locationPrefix": "/buckets/", "fsync": True}]


def test_keys_stay_when_the_store_is_prepared_again(store: EmbeddedS3) -> None:
    before = {path.name: path.read_text() for path in store.keys.iterdir()}
    store.prepare()
    assert {path.name: path.read_text() for path in store.keys.iterdir()} == before


class EarlierS3(EmbeddedS3):
    """A store that takes identities that are kept in it, as it did before."""

    def prepare(self) -> None:
        super().prepare()
        (self.keys / "credential.toml").unlink(missing_ok=True)


def test_what_somebody_left_in_the_store_opens_nothing_once_it_is_started_with_new_keys(tmp_path: Path) -> None:
    """A thief's identity and a bucket that is open to all lie in the store, not with the keys: they outlive new keys, and
    the change from a version whose inner ports asked for nothing."""
    with EarlierS3(tmp_path / "store") as store:
        address = [
            f"-master={HOST}:{store.port + 2}.{store.port + 3}",
            f"-filer={HOST}:{store.port + 4}.{store.port + 5}",
        ]
        commands = f"""
            s3.configure -user evil -access_key {EVIL} -secret_key {EVIL} -actions Admin -apply
            s3.anonymous.set -bucket {DROP} -access Read,Write,List
        """
        owner = [str(WEED), f"-config_dir={store.keys}", "shell", *address]
        subprocess.run(owner, input=commands, capture_output=True, text=True, check=True, cwd=tmp_path, timeout=30)
        admin = store.client()
        admin.put_object(Bucket=DROP, Key=KEY, Body=BODY)
        admin.put_bucket_acl(Bucket=LANDING, ACL="public-read-write")
        admin.put_bucket_policy(Bucket=DROP, Policy=OPEN)
        rule = {"ID": "all", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
        admin.put_bucket_lifecycle_configuration(Bucket=LANDING, LifecycleConfiguration={"Rules": [rule]})
        thief = local_s3.client(store.endpoint, EVIL, EVIL)
        assert thief.get_object(Bucket=DROP, Key=KEY)["Body"].read() == BODY
    shutil.rmtree(store.keys)
    with EmbeddedS3(tmp_path / "store") as store:
        thief = local_s3.client(store.endpoint, EVIL, EVIL)
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            thief.get_object(Bucket=DROP, Key=KEY)
        asked = [
            ("GET", f"{DROP}/{KEY}"),
            ("GET", DROP),
            ("GET", LANDING),
            ("PUT", f"{DROP}/x"),
            ("PUT", f"{LANDING}/x"),
        ]
        got = [answer(how, f"{store.endpoint}/{path}", b"" if how == "PUT" else None) or (0,) for how, path in asked]
        assert [status for status, *_ in got] == [403] * len(asked)
        admin = store.client()
        assert admin.get_object(Bucket=DROP, Key=KEY)["Body"].read() == BODY
        with pytest.raises(ClientError, match="NoSuchLifecycleConfiguration"):
            admin.get_bucket_lifecycle_configuration(Bucket=LANDING)
        partner = client_of(store, PARTNERS[0])
        partner.put_object(Bucket=DROP, Key=f"{PARTNERS[0]}/x", Body=b"")
        assert denied(lambda: partner.put_object(Bucket=DROP, Key=f"{PARTNERS[1]}/x", Body=b""))


def test_a_bucket_that_denies_everything_is_healed_by_the_next_start(tmp_path: Path) -> None:
    """A policy of a thief that denies everything: S3 lets no one remove it, and nothing in the bucket may be lost."""
    buckets = (DROP, LANDING, "probe")
    with EmbeddedS3(tmp_path / "store") as store:
        admin = store.client()
        admin.put_object(Bucket=DROP, Key=KEY, Body=BODY)
        for body in (b"first", b"second"):
            admin.put_object(Bucket=LANDING, Key="x", Body=body)
        for bucket in buckets:
            places = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
            deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": places}
            policy = {"Version": "2012-10-17", "Statement": [deny]}
            admin.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))
            assert denied(lambda bucket=bucket: admin.delete_bucket_policy(Bucket=bucket))
    with EmbeddedS3(tmp_path / "store") as store:
        admin = store.client()
        assert admin.get_object(Bucket=DROP, Key=KEY)["Body"].read() == BODY
        versions = admin.list_object_versions(Bucket=LANDING)["Versions"]
        bodies = [admin.get_object(Bucket=LANDING, Key="x", VersionId=item["VersionId"]) for item in versions]
        assert [body["Body"].read() for body in bodies] == [b"second", b"first"]
        assert admin.get_bucket_versioning(Bucket=LANDING)["Status"] == "Enabled"
        for bucket in buckets:
            with pytest.raises(ClientError, match="NoSuchBucketPolicy"):
                admin.get_bucket_policy(Bucket=bucket)
        partner = client_of(store, PARTNERS[0])
        partner.put_object(Bucket=DROP, Key=f"{PARTNERS[0]}/x", Body=b"")
        assert not [file for file in store.keys.iterdir() if file.suffix == ".meta"]


def test_keys_in_somebodys_shell_open_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server takes keys in its environment for an administrator's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebodys")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "somebodys")
    with EmbeddedS3(tmp_path / "store") as store, pytest.raises(ClientError, match="InvalidAccessKeyId"):
        local_s3.client(store.endpoint, "somebodys", "somebodys").list_buckets()


def test_a_folder_for_sockets_that_another_user_made_is_refused_by_name(tmp_path: Path) -> None:
    """A name in the temporary folder that others can guess: they make the folder first."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder to another user")
    taken = tmp_path / "taken"
    taken.mkdir(mode=0o777)
    os.chown(taken, STRANGER, STRANGER)
    with pytest.raises(StackError, match="taken is another user's"):
        EmbeddedS3(tmp_path / "store", sockets=taken).prepare()


def test_the_command_prints_the_policy_that_the_store_has(store: EmbeddedS3) -> None:
    given = json.loads((store.keys / "identities.json").read_text())["policies"]
    assert {policy["name"] for policy in given} == {LOADER, REPORTER, ANALYST, *PARTNERS}
    for policy in given[:3]:
        command = [sys.executable, "-m", "sampan.cli", "contracts", "policy", policy["name"]]
        buckets = {"SAMPAN_DROP_BUCKET": DROP, "SAMPAN_LANDING_BUCKET": LANDING}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | buckets)
        assert json.loads(done.stdout) == json.loads(policy["content"])
