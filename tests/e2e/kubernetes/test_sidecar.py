"""The pod of `deploy/kubernetes`: nginx and the verifier are different users, and meet at a socket."""

import os
import secrets
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.gateways import programs
from tests.e2e.gateways.gateways import Nginx
from tests.e2e.gateways.peers import Application, application
from tests.e2e.kubernetes.pod import Pod, User, running, spec

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("sidecar")]


@pytest.fixture(scope="module", autouse=True)
def _able() -> None:
    programs.require("nginx", Nginx.how_to_get)
    programs.require("setpriv", "apt-get install util-linux")
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("E2E_REQUIRE") == "1" else pytest.skip)(
            "only root can start processes as others"
        )


@pytest.fixture
def folder() -> Path:
    """One that other users can look into, with a path that is short enough for a socket; it is removed with the pod."""
    return Path(tempfile.mkdtemp(prefix="verifier-pod-"))


@pytest.fixture
def behind() -> Iterator[Application]:
    with application() as made:
        yield made


@pytest.fixture
def pod(folder: Path, behind: Application) -> Iterator[Pod]:
    with running(Pod(folder, behind.port)) as made:
        yield made


def test_a_good_token_passes_and_nothing_else_does(pod: Pod, behind: Application) -> None:
    assert (pod.answer("writer"), pod.answer(), len(behind.got)) == (200, 401, 1)


def test_the_socket_belongs_to_the_pods_group_which_may_ask_and_nobody_else(pod: Pod) -> None:
    found = pod.socket.stat()
    assert (found.st_uid, found.st_gid) == (pod.verifier.uid, spec()["securityContext"]["fsGroup"])
    assert stat.S_IMODE(found.st_mode) == 0o660


def test_a_container_that_was_killed_leaves_a_socket_that_the_next_one_replaces(pod: Pod) -> None:
    pod.kill_verifier()
    assert (pod.socket.is_socket(), pod.answer("writer")) == (True, 500)
    pod.start_verifier()
    assert pod.answer("writer") == 200


def test_without_the_pods_group_nginx_cannot_ask_and_nobody_passes(folder: Path, behind: Application) -> None:
    with running(Pod(folder, behind.port, nginx=User.of("nginx", groups=()))) as pod:
        assert (pod.answer("writer"), len(behind.got)) == (500, 0)
        assert "(13: Permission denied)" in pod.output("nginx")


def test_with_a_mode_for_the_owner_alone_nginx_cannot_ask(folder: Path, behind: Application) -> None:
    with running(Pod(folder, behind.port, socket_mode="0600")) as pod:
        assert pod.answer("writer") == 500


READ_ONLY = """
mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec setpriv --reuid "$1" --regid "$2" --groups "$3" -- \\
    /usr/bin/python3 -c "$4" "$0"
"""
CONNECT_AND_REMOVE = """
import os, socket, sys
socket.socket(socket.AF_UNIX).connect(f"{sys.argv[1]}/verifier.sock")
try:
    os.unlink(f"{sys.argv[1]}/verifier.sock")
except OSError as error:
    print(error.strerror)
"""


def test_nginx_asks_through_a_mount_that_is_read_only(pod: Pod) -> None:
    """As the manifest mounts the folder for it: it can open the socket, and not put another one in its place."""
    user = pod.nginx
    arguments = [str(pod.socket.parent), str(user.uid), str(user.gid), ",".join(map(str, user.groups))]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", READ_ONLY, *arguments, CONNECT_AND_REMOVE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Read-only file system\n", "")


def test_files_of_secrets_are_readable_for_the_pods_group_and_nobody_else(folder: Path) -> None:
    folder.chmod(0o755)
    file = folder / "secret"
    file.write_text(secrets.token_hex())
    file.chmod(0o440)  # the mode of the chart's volumes
    os.chown(file, 0, 65532)
    inside = User(65532, 65532, (65532,))
    assert (inside.may("-r", file), inside.may("-w", file)) == (True, False)
    assert User(101, 101, ()).may("-r", file) is False
    file.unlink()
    folder.rmdir()
