"""What `pulumi up` runs in this folder."""

import sys

import pulumi

from infra.cluster import settings
from infra.cluster.program import deploy
from infra.settings import of_stack
from seaway.errors import SeawayError

try:
    stack = pulumi.get_stack()
    read = settings.parse(pulumi.Config().require_object("settings"), f"Pulumi.{stack}.yaml: settings")
    for name, value in deploy(read, of_stack(stack)).items():
        pulumi.export(name, pulumi.Output.secret(value) if name == "kubeconfig" else value)
except SeawayError as error:
    pulumi.log.error(str(error))
    sys.exit(1)
