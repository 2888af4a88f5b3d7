"""Events that AWS sends to authorizers, in the forms that it documents, with every field.

The addresses, names and ids are made up; the token, the method and the path are given.
"""

from collections.abc import Callable
from typing import Any

ACCOUNT, REGION, API = "123456789012", "us-east-1", "abcdef123"
DOMAIN = f"{API}.execute-api.{REGION}.amazonaws.com"
TRACE = "Root=1-63c9af36-2b1a3f6e5c0d4b8a9e7f1c2d"

Build = Callable[[str | None, str, str], dict[str, Any]]
"""An event with a value of ``Authorization``, or none, for a method and a path."""

_CERTIFICATE = {
    "clientCertPem": "CERT_CONTENT",
    "subjectDN": "www.example.com",
    "issuerDN": "Example issuer",
    "serialNumber": "a1:a1:a1:a1:a1:a1:a1:a1:a1:a1:a1:a1:a1:a1:a1:a1",
    "validity": {"notBefore": "May 28 12:30:02 2019 GMT", "notAfter": "Aug  5 09:36:04 2021 GMT"},
}


def arn(method: str, path: str, stage: str = "test") -> str:
    return f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{API}/{stage}/{method}{path}"


def rest_token(authorization: str | None, method: str = "GET", path: str = "/request") -> dict[str, Any]:
    """A REST API, type TOKEN. Without the header API Gateway asks nobody: 401."""
    return {"type": "TOKEN", "methodArn": arn(method, path), "authorizationToken": authorization or ""}


def rest_request(authorization: str | None, method: str = "GET", path: str = "/request") -> dict[str, Any]:
    """A REST API, type REQUEST."""
    headers = {
        "X-AMZ-Date": "20170718T062915Z",
        "Accept": "*/*",
        "HeaderAuth1": "headerValue1",
        "CloudFront-Viewer-Country": "US",
        "CloudFront-Forwarded-Proto": "https",
        "CloudFront-Is-Tablet-Viewer": "false",
        "CloudFront-Is-Mobile-Viewer": "false",
        "User-Agent": "curl/8",
        **({} if authorization is None else {"Authorization": authorization}),
    }
    return {
        "type": "REQUEST",
        "methodArn": arn(method, path),
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {"QueryString1": "queryValue1"},
        "multiValueQueryStringParameters": {"QueryString1": ["queryValue1"]},
        "pathParameters": {"proxy": path.lstrip("/")},
        "stageVariables": {"StageVar1": "stageValue1"},
        "requestContext": {
            "path": f"/test{path}",
            "accountId": ACCOUNT,
            "resourceId": "05c7jb",
            "stage": "test",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "identity": {"apiKey": None, "sourceIp": "192.0.2.7", "clientCert": _CERTIFICATE},
            "resourcePath": "/{proxy+}",
            "httpMethod": method,
            "apiId": API,
        },
    }


def http_1(authorization: str | None, method: str = "GET", path: str = "/request") -> dict[str, Any]:
    """An HTTP API, payload format 1.0."""
    sent = {} if authorization is None else {"identitySource": authorization, "authorizationToken": authorization}
    headers = {
        "X-AMZ-Date": "20170718T062915Z",
        "Accept": "*/*",
        "HeaderAuth1": "headerValue1",
        "User-Agent": "curl/8",
        **({} if authorization is None else {"Authorization": authorization}),
    }
    return {
        "version": "1.0",
        "type": "REQUEST",
        "methodArn": arn(method, path),
        **sent,
        "resource": "$default",
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "queryStringParameters": {"QueryString1": "queryValue1"},
        "pathParameters": {},
        "stageVariables": {"StageVar1": "stageValue1"},
        "requestContext": {
            "path": path,
            "accountId": ACCOUNT,
            "resourceId": "$default",
            "stage": "test",
            "requestId": "A-ZDfhVIvHcEPAQ=",
            "identity": {"apiKey": None, "sourceIp": "192.0.2.7", "clientCert": _CERTIFICATE},
            "resourcePath": "$default",
            "httpMethod": method,
            "apiId": API,
        },
    }


def http_2(authorization: str | None, method: str = "GET", path: str = "/request") -> dict[str, Any]:
    """An HTTP API, payload format 2.0, whose identity sources are the token, the method and the path."""
    return {
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": arn(method, path),
        "identitySource": [*([] if authorization is None else [authorization]), method, f"/test{path}"],
        "routeKey": "$default",
        "rawPath": f"/test{path}",
        "rawQueryString": "parameter1=value1&parameter1=value2&parameter2=value",
        "cookies": ["cookie1=a", "cookie2=b"],
        "headers": {
            "header1": "value1",
            "header2": "value2",
            "host": DOMAIN,
            **({} if authorization is None else {"authorization": authorization}),
        },
        "queryStringParameters": {"parameter1": "value1,value2", "parameter2": "value"},
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API,
            "authentication": {"clientCert": _CERTIFICATE},
            "domainName": DOMAIN,
            "domainPrefix": API,
            "http": {
                "method": method,
                "path": f"/test{path}",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.7",
                "userAgent": "agent",
            },
            "requestId": "A-ZDfhVIvHcEPAQ=",
            "routeKey": "$default",
            "stage": "test",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1583348638390,
        },
        "pathParameters": {"parameter1": "value1"},
        "stageVariables": {"stageVariable1": "value1", "stageVariable2": "value2"},
    }


def websocket(authorization: str | None, _method: str = "GET", _path: str = "/") -> dict[str, Any]:
    """A WebSocket API, on ``$connect``."""
    headers = {
        "Connection": "upgrade",
        "content-length": "0",
        "HeaderAuth1": "headerValue1",
        "Host": DOMAIN,
        "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        "Upgrade": "websocket",
        "X-Amzn-Trace-Id": TRACE,
        "X-Forwarded-For": "192.0.2.7",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
        **({} if authorization is None else {"Authorization": authorization}),
    }
    return {
        "type": "REQUEST",
        "methodArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{API}/default/$connect",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": {"QueryString1": "queryValue1"},
        "multiValueQueryStringParameters": {"QueryString1": ["queryValue1"]},
        "stageVariables": {},
        "requestContext": {
            "routeKey": "$connect",
            "eventType": "CONNECT",
            "extendedRequestId": "AAAAAAAAAAAAAAA=",
            "requestTime": "19/Jan/2023:21:13:26 +0000",
            "messageDirection": "IN",
            "stage": "default",
            "connectedAt": 1674162806344,
            "requestTimeEpoch": 1674162806345,
            "identity": {"sourceIp": "192.0.2.7"},
            "requestId": "AAAAAAAAAAAAAAA=",
            "domainName": DOMAIN,
            "connectionId": "AAAAAAAAAAAAAAA=",
            "apiId": API,
        },
    }


def appsync(authorization: str | None, _method: str = "POST", _path: str = "/graphql") -> dict[str, Any]:
    """AppSync."""
    return {
        "authorizationToken": authorization or "",
        "requestContext": {
            "apiId": "aaaaaa123123123example123",
            "accountId": ACCOUNT,
            "requestId": "f4081827-1111-4444-5555-5cf4695f339f",
            "queryString": "mutation CreateEvent {...}\n\nquery MyQuery {...}\n",
            "operationName": "MyQuery",
            "variables": {},
        },
        "requestHeaders": {"accept": "*/*", "host": "abc.appsync-api.us-east-1.amazonaws.com"},
    }


FORMS: list[Build] = [rest_token, rest_request, http_1, http_2, websocket, appsync]
POLICIES: list[Build] = [rest_token, rest_request, http_1, websocket]
"""Those that are answered with a policy."""

FUSIONAUTH = {
    "aud": "63b73f76-7400-487d-b122-5705b848da80",
    "exp": 1672140888,
    "iat": 1672137288,
    "iss": "https://local.fusionauth.io",
    "sub": "2df13f18-01cc-48a4-b97a-2ab04f98d006",
    "jti": "5f4a0a5f-9ab3-4ad4-8f37-8ab8d1bd0c36",
    "authenticationType": "PASSWORD",
    "email": "jo@acme.example",
    "email_verified": True,
    "preferred_username": "jo@acme.example",
    "applicationId": "63b73f76-7400-487d-b122-5705b848da80",
    "roles": [],
    "auth_time": 1672137288,
    "tid": "d7d09513-a3f5-401c-9685-34ab6c552453",
}
"""Claims of a token from FusionAuth's login."""

AUTH0_SUBJECT = "C8npTEMVnBrILsBTI91MOh6dfuZbPVAU@clients"
AUTH0_SCOPE = "read:clients write:clients update:client_grants"
"""Of the machine-to-machine token that Auth0's sample is tried with."""
