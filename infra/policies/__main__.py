"""The rules as a Pulumi policy pack. Its environment is its own: pulumi-policy wants another protobuf than the rest.

cd infra/policies && uv venv venv && uv pip install --python venv --require-hashes -r requirements.txt
pulumi preview --cwd infra --stack prod --policy-pack policies
"""

from pulumi_policy import (
    EnforcementLevel,
    PolicyPack,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from rules import OF_ALL, OF_ONE, Resource


def _resource(args) -> Resource:
    return Resource(args.resource_type, args.name, args.props, bool(args.opts and args.opts.protect))


def _of_one(rule):
    def validate(args: ResourceValidationArgs, report: ReportViolation) -> None:
        for text in rule(_resource(args)):
            report(text)

    return ResourceValidationPolicy(name=_name(rule), description=rule.__doc__.splitlines()[0], validate=validate)


def _of_all(rule):
    def validate(args: StackValidationArgs, report: ReportViolation) -> None:
        for text in rule([_resource(r) for r in args.resources]):
            report(text)

    return StackValidationPolicy(name=_name(rule), description=rule.__doc__.splitlines()[0], validate=validate)


def _name(rule) -> str:
    return rule.__name__.replace("_", "-")


PolicyPack(
    name="seaway-platform",
    enforcement_level=EnforcementLevel.MANDATORY,
    policies=[*map(_of_one, OF_ONE), *map(_of_all, OF_ALL)],
)
