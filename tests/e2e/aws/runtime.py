"""Lambda's Runtime API on loopback, and a handler under AWS's own runtime interface client in a process of its own."""

import asyncio
import importlib.util
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

TASK = Path(__file__).parents[3] / "deploy" / "lambda"
"""Where the handler is: LAMBDA_TASK_ROOT."""
HANDLER = "authorizer.handler"
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:authorizer"


def require_runtime() -> None:
    """Skip where the runtime interface client is missing; fail where it must not be (``E2E_REQUIRE=1``)."""
    if importlib.util.find_spec("awslambdaric") is None:
        lacking = "awslambdaric is not installed: make e2e installs it on Linux"
        (pytest.fail if os.environ.get("E2E_REQUIRE") == "1" else pytest.skip)(lacking)


@dataclass(frozen=True)
class Result:
    """What an invocation came to: what the handler returned, or an error."""

    payload: Any = None
    error: str | None = None
    """Lambda's ``errorMessage``, which API Gateway looks at."""
    error_type: str | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    """The whole error, with its stack trace."""

    @classmethod
    def of_error(cls, document: Mapping[str, Any]) -> "Result":
        return cls(error=document["errorMessage"], error_type=document["errorType"], document=document)


class Runtime:
    """A sandbox of Lambda: call it with an event. The first call after ``start`` finds the handler cold."""

    def __init__(self, environment: Mapping[str, str], task: Path, seconds: float) -> None:
        self.said = ""
        """What the processes that have ended wrote, which is the function's log."""
        self.address = ""
        """Where the Runtime API is."""
        self._environment = environment
        self._task = task
        self._seconds = seconds
        self._events: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._results: dict[str, asyncio.Future[Result]] = {}
        self._failed: Result | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def __call__(self, event: object) -> Result:
        """Feed one event to the handler, and wait for what comes of it. A handler that could not be imported is the
        error of every call."""
        if self._failed is not None:
            return self._failed
        name = secrets.token_hex(16)
        self._results[name] = asyncio.get_running_loop().create_future()
        self._events.put_nowait((name, json.dumps(event).encode()))
        async with asyncio.timeout(self._seconds + 20):
            return await self._results[name]

    async def start(self) -> None:
        """Start a process, in the place of the one that runs, if any."""
        await self.stop()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "awslambdaric",
            HANDLER,
            cwd=self._task,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONDONTWRITEBYTECODE": "1",
                "AWS_LAMBDA_RUNTIME_API": self.address,
                "AWS_LAMBDA_FUNCTION_NAME": "authorizer",
                "AWS_REGION": "eu-central-1",
                "LAMBDA_TASK_ROOT": str(self._task),
                "_HANDLER": HANDLER,
                **self._environment,
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def stop(self) -> None:
        process, self._process, self._failed = self._process, None, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            said, _ = await process.communicate()
            self.said += said.decode()

    async def next(self, _request: web.Request) -> web.Response:
        name, event = await self._events.get()
        headers = {
            "Lambda-Runtime-Aws-Request-Id": name,
            "Lambda-Runtime-Deadline-Ms": str(int(1000 * (time.time() + self._seconds))),
            "Lambda-Runtime-Invoked-Function-Arn": ARN,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{secrets.token_hex(12)}",
        }
        return web.Response(body=event, content_type="application/json", headers=headers)

    async def response(self, request: web.Request) -> web.Response:
        self._results.pop(request.match_info["name"]).set_result(Result(await request.json()))
        return web.Response(status=202)

    async def error(self, request: web.Request) -> web.Response:
        self._results.pop(request.match_info["name"]).set_result(Result.of_error(await request.json()))
        return web.Response(status=202)

    async def init_error(self, request: web.Request) -> web.Response:
        self._failed = Result.of_error(await request.json())
        while self._results:
            self._results.popitem()[1].set_result(self._failed)
        return web.Response(status=202)


@asynccontextmanager
async def lambda_runtime(env: Mapping[str, str], task: Path = TASK, seconds: float = 10.0) -> AsyncIterator[Runtime]:
    """``env`` is the function's environment; ``task`` the folder of its code; ``seconds`` how long an invocation may
    take. Within, ``await invoke(event)`` runs one, and ``await invoke.start()`` makes the next one a cold start."""
    app = web.Application(client_max_size=8 * 1024 * 1024)
    # A process that is gone must not go on waiting for an event, and take it from the next one.
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    made = Runtime(env, task, seconds)
    invocation = "/2018-06-01/runtime/invocation"
    app.router.add_get(f"{invocation}/next", made.next)
    app.router.add_post(f"{invocation}/{{name}}/response", made.response)
    app.router.add_post(f"{invocation}/{{name}}/error", made.error)
    app.router.add_post("/2018-06-01/runtime/init/error", made.init_error)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        made.address = f"{host}:{port}"
        await made.start()
        yield made
    finally:
        await made.stop()
        await runner.cleanup()
