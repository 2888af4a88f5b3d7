"""Terraform's files as it says that it made what they describe, with moto in the place of AWS.

Moto keeps less than AWS does (of an authorizer no validation expression), so what the plan
knows is taken from the plan.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.aws.described import LAMBDA, Authorizer, Described, Json, Method, require_module
from tests.e2e.gateways.programs import find
from tests.support import free_port

FILES = LAMBDA / "terraform"
SETTINGS = """
provider_installation {
  filesystem_mirror {
    path = "%s"
  }
}
disable_checkpoint = true
"""


def require_terraform() -> str:
    """Skip where it is missing, also where nothing may be (``E2E_REQUIRE=1``): neither Debian nor a package of Python
    has it, so ``.ci/run`` could not install it."""
    found = find("terraform")
    if found is None:
        pytest.skip("terraform is not installed: get it from its maker, or name it with TERRAFORM=/path/to/it")
    return found


def require_plugins() -> Path:
    """The same goes for what Terraform would otherwise download."""
    folder = Path(os.environ.get("TF_PLUGINS") or "/opt/tf-plugins")
    if not folder.is_dir():
        pytest.skip("Terraform's AWS provider is not here: name a filesystem mirror with TF_PLUGINS=/path/to/it")
    return folder


class Terraform:
    """A copy of the files in ``folder``, initialised, that sees nothing of this machine's own settings."""

    VARIABLES = (
        "-var=verifier_url=https://verifier.internal:8443",
        "-var=backend_url=https://backend.acme.example/hello",
        "-var=package=authorizer.zip",
    )

    def __init__(self, folder: Path) -> None:
        self.program = require_terraform()
        plugins = require_plugins()
        self.folder = folder / "terraform"
        shutil.copytree(FILES, self.folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        settings = folder / "terraformrc"
        settings.write_text(SETTINGS % plugins, "utf-8")
        with zipfile.ZipFile(self.folder / "authorizer.zip", "w") as package:
            package.writestr("authorizer.py", "")
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TF_CLI_CONFIG_FILE": str(settings),
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "made-up",
            "AWS_SECRET_ACCESS_KEY": "made-up",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, *arguments: str) -> str:
        command = [self.program, *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, f"{arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def init(self) -> None:
        self.run("init", "-backend=false", "-input=false", "-no-color")

    def apply(self) -> tuple[Json, Json]:
        """What was planned, and what was made of it, each by address."""
        self.run("plan", "-input=false", "-no-color", "-out=planned", *self.VARIABLES)
        planned = json.loads(self.run("show", "-json", "planned"))["planned_values"]
        self.run("apply", "-input=false", "-no-color", "planned")
        made = json.loads(self.run("show", "-json"))["values"]
        return _by_address(planned), _by_address(made)


def _by_address(values: Json) -> Json:
    return {made["address"]: made["values"] for made in values["root_module"]["resources"] if made["mode"] == "managed"}


@contextmanager
def moto(folder: Path) -> Iterator[str]:
    """What stands in for AWS."""
    require_module("moto")
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    with (folder / "moto.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait_for(address, server)
        yield address
    finally:
        server.terminate()
        server.wait()


def _wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        assert server.poll() is None, "moto ended"
        try:
            with urllib.request.urlopen(f"{address}/moto-api/", timeout=1):  # noqa: S310 - an address of the test's own
                return
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("moto does not answer")


class Made:
    """Resources are called by their ids."""

    def __init__(self, planned: Json, made: Json) -> None:
        self.resources = {
            address: {**values, **{key: value for key, value in planned[address].items() if value is not None}}
            for address, values in made.items()
        }
        self.kinds = {values["id"]: values["protocol_type"] for values in self.of_type("aws_apigatewayv2_api")}

    def of_type(self, name: str) -> list[Json]:
        return [values for address, values in self.resources.items() if address.startswith(f"{name}.")]

    def described(self) -> Described:
        (function,) = self.of_type("aws_lambda_function")
        return Described(
            function["function_name"],
            function["timeout"],
            float(function["environment"][0]["variables"]["VERIFIER_TIMEOUT"]),
            [*self.methods()],
            [*self.invokers(function["function_name"])],
            {values["id"]: self.refusals(values["id"]) for values in self.of_type("aws_api_gateway_rest_api")},
            {
                values["id"]: (values["cors_configuration"] or [{}])[0]
                for values in self.of_type("aws_apigatewayv2_api")
                if values["protocol_type"] == "HTTP"
            },
        )

    def methods(self) -> Iterator[Method]:
        authorizers = {**dict(self.of_rest()), **dict(self.of_others())}
        paths = {values["id"]: values["path"] for values in self.of_type("aws_api_gateway_resource")}
        for values in self.of_type("aws_api_gateway_method"):
            asked = authorizers[values["authorizer_id"]] if values["authorization"] == "CUSTOM" else None
            yield Method(values["rest_api_id"], f"{values['http_method']} {paths[values['resource_id']]}", asked)
        for values in self.of_type("aws_apigatewayv2_route"):
            asked = authorizers[values["authorizer_id"]] if values["authorization_type"] == "CUSTOM" else None
            yield Method(values["api_id"], values["route_key"], asked)

    def of_rest(self) -> Iterator[tuple[str, Authorizer]]:
        for values in self.of_type("aws_api_gateway_authorizer"):
            yield (
                values["id"],
                Authorizer(
                    values["rest_api_id"],
                    values["type"],
                    _function_of(values["authorizer_uri"]),
                    values["authorizer_result_ttl_in_seconds"],
                    tuple(values["identity_source"].split(",")),
                    values["identity_validation_expression"] or None,
                ),
            )

    def of_others(self) -> Iterator[tuple[str, Authorizer]]:
        for values in self.of_type("aws_apigatewayv2_authorizer"):
            yield (
                values["id"],
                Authorizer(
                    values["api_id"],
                    self.kinds[values["api_id"]],
                    _function_of(values["authorizer_uri"]),
                    values["authorizer_result_ttl_in_seconds"],
                    tuple(values["identity_sources"]),
                    None,
                    bool(values["enable_simple_responses"]),
                    values["authorizer_payload_format_version"] or None,
                ),
            )

    def invokers(self, function: str) -> Iterator[str]:
        for values in self.of_type("aws_lambda_permission"):
            if values["function_name"] == function:
                yield from re.findall(
                    r"^arn:aws:execute-api:[^:]+:\d+:([^/]+)/authorizers/[^/]+$", values["source_arn"]
                )

    def refusals(self, api: str) -> dict[str, Json]:
        said = self.of_type("aws_api_gateway_gateway_response")
        return {
            values["response_type"]: values["response_parameters"] or {}
            for values in said
            if values["rest_api_id"] == api
        }


def _function_of(uri: str) -> str:
    found = re.fullmatch(r".*:function:([^:/]+)/invocations", uri)
    return found[1] if found else uri
