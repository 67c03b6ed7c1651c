"""What tests of real pods do with them: wait, mount, ask."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path


def until(seconds, look, what):
    """What ``look`` gives once it is true; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not within {seconds} s: {what()}"
        time.sleep(0.2)
    return found


def ready(api, namespace, selector):
    """The first pod that is Ready and not on its way out."""
    for pod in api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]:
        conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
        if conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]:
            return pod
    return None


def volume(api, namespace, name, folder):
    """A claim for a folder of this machine, which is the node: a restricted pod may not name a folder itself."""
    size, mode = {"storage": "1Gi"}, ["ReadOnlyMany"]
    spec = {"capacity": size, "accessModes": mode, "hostPath": {"path": str(folder)}, "storageClassName": ""}
    spec |= {"claimRef": {"name": name, "namespace": namespace}}
    api.create("/api/v1/persistentvolumes", {"metadata": {"name": f"{namespace}-{name}"}, "spec": spec})
    claim = {"accessModes": mode, "resources": {"requests": size}, "storageClassName": ""}
    claim |= {"volumeName": f"{namespace}-{name}"}
    api.create(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", {"metadata": {"name": name}, "spec": claim})
    return {"persistentVolumeClaim": {"claimName": name, "readOnly": True}}


def ask(address, message):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(
        f"http://{address}/api/v1.0/predictions", json.dumps(message).encode(), {"Content-Type": "application/json"}
    )
    with opener.open(request, timeout=10) as answer:
        return json.load(answer)


def there(api, namespace, name):
    return any(p["metadata"]["name"] == name for p in api.get(f"/api/v1/namespaces/{namespace}/pods")["items"])


def api_server():
    import yaml

    return yaml.safe_load(Path(os.environ["SEAWAY_KUBECONFIG"]).read_text())["clusters"][0]["cluster"]["server"]
