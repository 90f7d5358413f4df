"""Tools that import torch, started in milliseconds: a process that has imported it forks one.

What runs is the tool's own command line in a process of its own, with its own streams, folder and
environment; only the imports are shared, and the backbone ``tiny`` is known. ``python warm.py
SOCKET TOOL WORD ...`` stands for the tool in a shell, ``Warm.spawn`` gives its process id.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def request(path: str, words: list[str], fds: dict[int, int], cwd: str,
            env: dict[str, str]) -> socket.socket:
    """Ask for a tool; the answers are lines: its process id, then its exit status."""
    link = socket.socket(socket.AF_UNIX)
    link.connect(path)
    text = json.dumps({"words": words, "cwd": cwd, "env": env, "fds": list(fds)}).encode()
    socket.send_fds(link, [len(text).to_bytes(4, "little")], list(fds.values()))
    link.sendall(text)
    return link


def client(path: str, words: list[str]) -> None:
    """Be the tool, as far as a shell can tell."""
    fds = {}
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            os.fstat(number)
            fds[number] = number
    link = request(path, words, fds, os.getcwd(), dict(os.environ))
    for number in fds:
        os.close(number)  # the tool alone holds its pipes now
    with link.makefile() as answers:
        answers.readline()
        status = int(answers.readline() or 1)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def serve(path: str) -> None:
    """Fork a tool for each request, until standard input is closed."""
    sys.path.insert(0, str(ROOT))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run behind &
    import torch

    torch.set_num_threads(1)
    for name in ("train", "_training", "_train_segment", "_train_classify", "predict",
                 "_predicting", "cam", "_cam", "_flow"):
        importlib.import_module(f"wsseg.cli.{name}")
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # imports more
    from tests.tinynet import install

    install()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        ready, _, _ = select.select([listener, 0], [], [])
        if 0 in ready:
            return
        link = listener.accept()[0]
        if os.fork() == 0:
            listener.close()
            _handle(link)
        link.close()


def _handle(link: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, given, _, _ = socket.recv_fds(link, 4, 3)
    text = b""
    while len(text) < int.from_bytes(size, "little"):
        text += link.recv(1 << 16)
    asked = json.loads(text)
    child = os.fork()
    if child == 0:
        link.close()
        _be(asked, given)
    for number in given:
        os.close(number)
    for number in (0, 1, 2):
        os.close(number)
    link.sendall(f"{child}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        link.sendall(f"{status}\n".encode())
    os._exit(0)


def _be(asked: dict, given: list[int]) -> None:
    """Run the tool in this process, and end it."""
    spare = [os.dup(number) for number in given]
    for number in given:
        os.close(number)
    for number in (0, 1, 2):
        os.close(number)
    for number, handle in zip(asked["fds"], spare):
        os.dup2(handle, number)
    for handle in spare:
        os.close(handle)
    held = asked["fds"]
    sys.stdin = open(0, closefd=False) if 0 in held else None
    sys.stdout = open(1, "w", closefd=False) if 1 in held else None
    sys.stderr = open(2, "w", closefd=False) if 2 in held else None
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    tool, *words = asked["words"]
    sys.argv = asked["words"]
    module = importlib.import_module(
        f"wsseg.cli.{tool.removeprefix('ws-').replace('-', '_')}")
    status = 1
    try:
        module.main(words)
    except SystemExit as error:
        status = int(error.code or 0)
    finally:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
        os._exit(status)


class Warm:
    """The process that forks. Use as a context."""

    def __enter__(self) -> Warm:
        self._folder = tempfile.TemporaryDirectory()
        self.path = f"{self._folder.name}/socket"
        self._server = subprocess.Popen(
            [sys.executable, __file__, self.path], stdin=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"})
        for _ in range(1200):
            if os.path.exists(self.path):
                return self
            assert self._server.poll() is None, "the warm process ended"
            time.sleep(.05)
        raise TimeoutError(self.path)

    def __exit__(self, *_: object) -> None:
        self._server.stdin.close()
        self._server.wait(20)
        self._folder.cleanup()

    def command(self, tool: str) -> list[str]:
        """The words that start a tool."""
        return [sys.executable, "-I", "-S", __file__, self.path, *tool.split()]

    def spawn(self, words: list[str], folder: Path, env: dict[str, str] | None = None) -> Tool:
        """Start a tool whose output and messages go to files in ``folder``."""
        return Tool(self.path, words, folder, env or {})


@cache
def warm() -> Warm:
    """The one of this process's tests."""
    result = Warm().__enter__()
    atexit.register(result.__exit__)
    return result


class Tool:
    """A tool that is running. ``pid``; ``wait()``; ``said``: its messages."""

    def __init__(self, path: str, words: list[str], folder: Path, env: dict[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=folder))
        with open(os.devnull, "rb") as none, open(self._folder / "out", "wb") as out, \
                open(self._folder / "err", "wb") as err:
            self._link = request(path, list(map(str, words)),
                                 {0: none.fileno(), 1: out.fileno(), 2: err.fileno()},
                                 str(folder), {**os.environ, **env})
        self._answers = self._link.makefile()
        self.pid = int(self._answers.readline())

    def wait(self, seconds: float = 60) -> int:
        """Its exit status, negative for a signal."""
        self._link.settimeout(seconds)
        return int(self._answers.readline())

    @property
    def said(self) -> str:
        return (self._folder / "err").read_text()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        client(sys.argv[1], sys.argv[2:])
    else:
        serve(sys.argv[1])
