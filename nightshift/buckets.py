"""The calls to one bucket of S3, or of anything that speaks its protocol; what goes wrong is said in words.

Endpoint, keys and region come from the standard variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION), or from the machine's role.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error  # what an upload in parts raises
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from nightshift.errors import StoreError

TRIES = 30  # of a conditional write that somebody else's is being decided for
CONNECT_SECONDS, READ_SECONDS, CALLS = 5, 60, 4  # a call that fails is made again, up to four times in all
PART = 16 * 2**20  # bytes that are held in memory while a file is fetched
REFUSED = {"PreconditionFailed", "412"}
BUSY = {"ConditionalRequestConflict", "409"}
GONE = {"NoSuchKey", "404", "NotFound"}
CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AccessDenied",
    "403",
    "Forbidden",
    "ExpiredToken",
}


class Bucket:
    """One bucket's calls, with what went wrong in words. Safe for threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.read_before: dict[str, bytes] = {}  # the version of a document that was read last
        self.tags: dict[str, str] = {}  # entity tags by the last listing of their folder
        self._honours = False
        self._opening = threading.Lock()
        self._made: Any = None
        self._endpoint = os.environ.get("AWS_ENDPOINT_URL") or "AWS"

    def url(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def list(self, prefix: str) -> list[tuple[str, str]]:
        """Every key under a prefix with its entity tag, in order."""
        with self._saying(prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            return [(one["Key"], one["ETag"]) for page in pages for one in page.get("Contents", [])]

    def get(self, key: str) -> bytes | None:
        with self._saying(key):
            try:
                content: bytes = self._client.get_object(Bucket=self.name, Key=key)["Body"].read()
            except ClientError as error:
                if _code(error) not in GONE:
                    raise
                return None
            return content

    def tag(self, key: str) -> str | None:
        with self._saying(key):
            try:
                return str(self._client.head_object(Bucket=self.name, Key=key)["ETag"])
            except ClientError as error:
                if _code(error) not in GONE:
                    raise
                return None

    def download(self, key: str, target: Path) -> str | None:
        """The entity tag of what was fetched; None if there is nothing."""
        with self._saying(key):
            try:
                answer = self._client.get_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if _code(error) not in GONE:
                    raise
                return None
            with on_disk(target), target.open("wb") as handle:
                for chunk in answer["Body"].iter_chunks(PART):
                    handle.write(chunk)
            return str(answer["ETag"])

    def put(self, key: str, content: bytes) -> None:
        with self._saying(key):
            self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def upload(self, key: str, source: Path) -> None:
        with self._saying(key):
            self._client.upload_file(str(source), self.name, key)

    def create(self, key: str, content: bytes) -> bool:
        with self._saying(key):
            return self._if_absent(key, lambda: content)

    def upload_new(self, key: str, source: Path) -> bool:
        """Put a file there (5 GB at most) unless there is one."""
        with self._saying(key), source.open("rb") as handle:
            return self._if_absent(key, lambda: (handle.seek(0), handle)[1])

    def delete(self, key: str) -> None:
        with self._saying(key):
            self._client.delete_object(Bucket=self.name, Key=key)

    def must_honour_conditions(self, probe: str) -> None:
        """Raises StoreError if the store overwrites what it was asked to create."""
        if not self._honours and self.create(probe, b"") and self.create(probe, b""):
            raise StoreError(
                f"s3://{self.name}: this store ignores conditional writes (If-None-Match), so two machines that "
                "publish at once would lose a day; use one that honours them, such as AWS or MinIO"
            )
        self._honours = True

    @property
    def _client(self) -> Any:
        with self._opening:
            if self._made is None:
                # By path where the endpoint is one's own: few have a name for each bucket.
                style = "auto" if self._endpoint == "AWS" else "path"
                config = Config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries={"mode": "standard", "total_max_attempts": CALLS},
                    s3={"addressing_style": style},
                )
                region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or "us-east-1"
                try:
                    self._made = boto3.session.Session().client("s3", region_name=region, config=config)
                except ValueError as error:
                    raise StoreError(
                        f"AWS_ENDPOINT_URL {self._endpoint!r} is no address such as http://minio:9000 ({error})"
                    ) from error
            return self._made

    def _if_absent(self, key: str, body: Any) -> bool:
        for _ in range(TRIES):
            try:
                self._client.put_object(Bucket=self.name, Key=key, Body=body(), IfNoneMatch="*")
                return True
            except ClientError as error:
                code = _code(error)
                if code in REFUSED:
                    return False
                if code not in BUSY:
                    raise
            time.sleep(0.2)  # another one's is just being decided
        raise StoreError(f"{self.url(key)}: somebody else has been writing it all the time; try again")

    @contextmanager
    def _saying(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            cause = error.__context__ if isinstance(error, Boto3Error) and error.__context__ else error
            raise StoreError(f"{self.url(key)}: {_reason(cause, self._endpoint, self.name)}") from error


@lru_cache(maxsize=8)
def bucket(name: str, endpoint: str, process: int) -> Bucket:
    return Bucket(name)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _reason(error: BaseException, endpoint: str, bucket: str) -> str:
    """What went wrong in words, and what to do."""
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
    if not isinstance(error, ClientError):
        return f"{endpoint} cannot be reached ({error}); is it up, and is AWS_ENDPOINT_URL right?"
    code, told = _code(error), error.response.get("Error", {}).get("Message", "")
    if code == "NoSuchBucket":
        return f"{endpoint} has no bucket {bucket!r}; create it, or correct NIGHTSHIFT_STORE_URL"
    if code == "RequestTimeTooSkewed":
        return f"{endpoint} refuses this machine's clock ({told}); set it right, by NTP say"
    if code in CREDENTIALS:
        return (
            f"{endpoint} refuses ({code}: {told}); are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY right, and may "
            "they list, read, write and delete here?"
        )
    return f"{endpoint} refuses ({code}: {told})"


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: the cache cannot be written ({error.strerror or error}); make room, or delete the folder cache "
            "under NIGHTSHIFT_HOME while nothing runs: it is fetched again"
        ) from error
