"""The SAM template as the translator hands it to CloudFormation."""

import importlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.aws.described import LAMBDA, Authorizer, Described, Json, Method, require_module

TEMPLATE = LAMBDA / "template.yaml"


def translated(template: str) -> Json:
    """What CloudFormation gets to see. The code has to be somewhere, as ``sam deploy`` puts it."""
    require_module("samtranslator")
    parse = importlib.import_module("samtranslator.yaml_helper").yaml_parse
    transform = importlib.import_module("samtranslator.translator.transform").transform
    source = parse(template)
    source["Resources"]["Authorizer"]["Properties"]["CodeUri"] = "s3://bucket/authorizer.zip"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        made: Json = json.loads(json.dumps(transform(source, {}, ManagedPolicies())))
    return made


class ManagedPolicies:
    """Those of AWS by name, which the translator would ask AWS for."""

    def load(self) -> dict[str, str]:
        names = ("AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole")
        return {name: f"arn:aws:iam::aws:policy/service-role/{name}" for name in names}


class Sam:
    """Resources are called by their logical names."""

    def __init__(self, template: Json) -> None:
        self.template = template
        self.rest = self.of_type("AWS::ApiGateway::RestApi")
        apis = self.of_type("AWS::ApiGatewayV2::Api")
        self.http = {api: made for api, made in apis.items() if made.get("ProtocolType") != "WEBSOCKET"}

    def of_type(self, name: str) -> dict[str, Json]:
        resources = self.template["Resources"].items()
        return {key: made["Properties"] for key, made in resources if made["Type"] == name}

    def described(self) -> Described:
        function = self.template["Resources"]["Authorizer"]["Properties"]
        return Described(
            "Authorizer",
            function["Timeout"],
            float(self.value_of(function["Environment"]["Variables"]["VERIFIER_TIMEOUT"])),
            [*self.methods()],
            [*self.invokers()],
            {api: self.refusals(made["Body"]) for api, made in self.rest.items()},
            {api: made["Body"].get("x-amazon-apigateway-cors", {}) for api, made in self.http.items()},
        )

    def value_of(self, node: Any) -> Any:
        """With the defaults of the parameters."""
        if isinstance(node, dict) and "Ref" in node:
            return self.template["Parameters"][node["Ref"]]["Default"]
        return node

    def methods(self) -> Iterator[Method]:
        for api, made in self.rest.items():
            yield from self.methods_of(api, "REST", made["Body"])
        for api, made in self.http.items():
            yield from self.methods_of(api, "HTTP", made["Body"])
        for made in self.of_type("AWS::ApiGatewayV2::Route").values():
            asked = made.get("AuthorizationType") == "CUSTOM"
            yield Method(
                made["ApiId"]["Ref"], made["RouteKey"], self.by_name(made["AuthorizerId"]["Ref"]) if asked else None
            )

    def methods_of(self, api: str, kind: str, body: Json) -> Iterator[Method]:
        schemes = body.get("components", {}).get("securitySchemes", {})
        for path, methods in body["paths"].items():
            for verb, method in methods.items():
                names = [name for demand in method.get("security", []) for name in demand]
                asked = self.of_scheme(api, kind, schemes[names[0]]) if names else None
                yield Method(api, f"{verb.upper()} {path}", asked)

    def of_scheme(self, api: str, kind: str, scheme: Json) -> Authorizer:
        said = scheme["x-amazon-apigateway-authorizer"]
        sources = said.get("identitySource", f"method.request.header.{scheme['name']}")
        return Authorizer(
            api,
            said["type"].upper() if kind == "REST" else kind,
            _function_of(said["authorizerUri"]),
            int(self.value_of(said["authorizerResultTtlInSeconds"])),
            tuple(sources.split(",") if isinstance(sources, str) else sources),
            said.get("identityValidationExpression"),
            said.get("enableSimpleResponses", False),
            said.get("authorizerPayloadFormatVersion"),
        )

    def by_name(self, name: str) -> Authorizer:
        made = self.of_type("AWS::ApiGatewayV2::Authorizer")[name]
        function, sources = _function_of(made["AuthorizerUri"]), tuple(made["IdentitySource"])
        return Authorizer(made["ApiId"]["Ref"], "WEBSOCKET", function, None, sources, None)

    def invokers(self) -> Iterator[str]:
        for made in self.of_type("AWS::Lambda::Permission").values():
            source = made.get("SourceArn", {}).get("Fn::Sub")
            if made["FunctionName"] == {"Ref": "Authorizer"} and isinstance(source, str):
                yield from re.findall(r":\$\{(\w+)\}/authorizers/\*$", source)

    def refusals(self, body: Json) -> dict[str, Json]:
        said = body.get("x-amazon-apigateway-gateway-responses", {})
        return {name: answer.get("responseParameters", {}) for name, answer in said.items()}


def _function_of(uri: Json) -> str:
    text = uri["Fn::Sub"]
    if isinstance(text, str):
        return str(re.findall(r"\$\{(\w+)\.Arn\}", text)[0])
    return str(text[1]["__FunctionArn__"]["Fn::GetAtt"][0])
