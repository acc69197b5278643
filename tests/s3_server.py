"""An S3-compatible server on loopback: moto's, which keeps its buckets in memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# What s3fs reads from the environment; the key is the one that no output may show.
KEY = "planted-secret-key"


@contextmanager
def s3_server(*buckets: str) -> Iterator[str]:
    """Run a server with some empty buckets, and yield its URL."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        client = boto3.client(
            "s3", "us-east-1", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key=KEY
        )
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield url
    finally:
        server.stop()


def s3_environment(url: str) -> dict[str, str]:
    """Return the variables by which a client finds the server and may use it."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
