"""An S3 server for tests: moto's, in a thread of this process, with a bucket and credentials that it checks not."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

BUCKET, REGION = "seaway", "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}


@contextmanager
def s3_server() -> Iterator[str]:
    """The base URL of a running server that has the bucket; credentials are in the environment meanwhile."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    try:
        with patch.dict("os.environ", CREDENTIALS):
            urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=10).close()
            yield url
    finally:
        server.stop()
