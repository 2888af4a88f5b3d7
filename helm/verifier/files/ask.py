"""`helm test`: whether the release is ready, and refuses a request without a token as it should.

Asks until both are so, for a minute at most. QUESTIONS are addresses and the statuses to expect, each as
`http://host/path=200`.
"""

import os
import ssl
import sys
import time
import urllib.error
import urllib.request


def status(url: str) -> int:
    """What is answered at ``url``. Whose certificate it is does not matter here: nothing secret is sent."""
    any_certificate = ssl._create_unverified_context()  # noqa: S323 - the service is asked for a status only
    try:
        with urllib.request.urlopen(url, timeout=5, context=any_certificate) as answer:  # noqa: S310 - the chart's own
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        return refused.code


def wrong(url: str, expected: int) -> str:
    """What is wrong with the answer at ``url``; nothing, if it is as expected."""
    try:
        found = status(url)
    except OSError as error:
        return f"{url} does not answer: {error}"
    return "" if found == expected else f"{url} answers {found}, expected {expected}"


def main() -> None:
    questions = [question.rsplit("=", 1) for question in os.environ["QUESTIONS"].split()]
    deadline = time.monotonic() + float(os.environ.get("SECONDS", "60"))
    while said := list(filter(None, (wrong(url, int(expected)) for url, expected in questions))):
        if time.monotonic() > deadline:
            sys.exit("\n".join(said))
        time.sleep(1)
    print("\n".join(f"{url} answers {expected}" for url, expected in questions))  # noqa: T201 - the test's log


if __name__ == "__main__":
    main()
