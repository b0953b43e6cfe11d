"""The connection's parts without a network: addresses, the command that ssh gets, what its messages mean, the agent."""

import ast
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from toolchain.deployment import remote
from toolchain.deployment.board_agent import Agent, tail
from toolchain.deployment.remote import AGENT, DOING, Access, Target, command, diagnosis
from toolchain.errors import BoardError, ConfigurationError, ToolError

ACCESS = Access(Target("me@pynq", 2222))


@pytest.mark.parametrize(
    ("text", "destination", "port"),
    [
        ("xilinx@pynq", "xilinx@pynq", None),
        ("192.168.2.99:2222", "192.168.2.99", 2222),
        ("root@[fe80::1%eth0]:22", "root@fe80::1%eth0", 22),
        ("a.b-c_d@my-board.local", "a.b-c_d@my-board.local", None),
    ],
)
def test_targets(text, destination, port):
    assert Target.parse(text) == Target(destination, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-oProxyCommand=touch x",
        "a@-b",
        "a b",
        "a;b",
        "$(x)",
        "a@b@c",
        "a:0",
        "a:65536",
        "a:b",
        "a:" + "1" * 5000,
        "fe80::1",
        "a\n",
    ],
)
def test_what_is_no_target(text):
    with pytest.raises(ConfigurationError, match="is not understood"):
        Target.parse(text)


def test_the_command_checks_host_keys_and_asks_nothing():
    argv = command(Access(Target("me@pynq", 2222), Path("some config")))
    assert "BatchMode=yes" in argv
    assert not any("StrictHostKeyChecking" in word or "KnownHosts" in word for word in argv)
    assert argv[argv.index("-F") + 1] == "some config"
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[-3:-1] == ["--", "me@pynq"]
    assert command(Access(Target("pynq"), sudo=True))[-1].startswith("sudo -n sh -c ")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_login_shell_starts_the_agent(shell, tmp_path):
    """The string that ssh hands over, with a path that wants quoting; tcsh, fish and zsh were tried by hand."""
    python = tmp_path / "it's a $python"
    python.symlink_to(sys.executable)
    line = command(Access(Target("pynq"), python=str(python)))[-1]
    folder = Path(remote.__file__).parent
    modules = [(f"toolchain.deployment.{name}", (folder / f"{name}.py").read_text()) for name in AGENT]
    text = json.dumps(modules) + "\n"
    done = subprocess.run([shell, "-c", line], input=text, capture_output=True, text=True, check=True, cwd="/")
    assert json.loads(done.stdout.splitlines()[-1])["hello"] == 1


def test_the_agent_is_python_3_8():
    for name in AGENT:
        text = (Path(remote.__file__).parent / f"{name}.py").read_text()
        tree = ast.parse(text, feature_version=(3, 8))
        modules = {n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in ast.walk(tree)
                   if isinstance(n, ast.Import | ast.ImportFrom)}  # fmt: skip
        own = {f"toolchain.deployment.{other}" for other in AGENT}
        assert {module.partition(".")[0] for module in modules - own} <= set(sys.stdlib_module_names)


def test_every_request_has_a_method_and_words():
    assert {name.removeprefix("do_") for name in dir(Agent) if name.startswith("do_")} == {*DOING, "put"}


MESSAGES = {
    "changed": ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", 255,
                BoardError, "not the one that is known"),
    "unknown": ("No ED25519 host key is known for pynq\nHost key verification failed.", 255, BoardError, "not known"),
    "key": ("me@pynq: Permission denied (publickey,password).", 255, BoardError, "ssh-copy-id"),
    "name": ("ssh: Could not resolve hostname pynq: Name or service not known", 255, BoardError, "Could not resolve"),
    "python": ("bash: line 1: exec: python3: not found", 127, ToolError, "Python 3.8 or newer"),
    "old": ("  File x\nSyntaxError: invalid syntax", 1, ToolError, "Python does not start on the board: SyntaxError"),
    "silent": ("", 255, BoardError, "ssh ended with exit code 255"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "code", "kind", "message"), MESSAGES.values(), ids=MESSAGES)
def test_what_ssh_says(text, code, kind, message):
    error = diagnosis(ACCESS, text, code, None)
    assert type(error) is kind
    assert str(error).startswith("me@pynq:2222: ")
    assert message in str(error)


def test_what_is_said_about_the_board_after_a_loss():
    assert "`current` on the board is as it was" in str(diagnosis(ACCESS, "", 255, DOING["run"]))
    assert "may be made already" in str(diagnosis(ACCESS, "", 255, DOING["commit"]))
    assert "our program on the board ended" in str(diagnosis(ACCESS, "KeyError: 'x'", 1, DOING["run"]))


class Talk:
    """An agent in a thread, at the other ends of two pipes."""

    def __init__(self) -> None:
        theirs, self.input = os.pipe()
        self.output, back = os.pipe()
        self.thread = threading.Thread(target=Agent(theirs, back).serve)
        self.thread.start()
        self.lines = os.fdopen(self.output, "rb")
        assert json.loads(self.lines.readline())["hello"] == 1

    def ask(self, do, data=b"", **more):
        os.write(self.input, json.dumps({"do": do, **more}).encode() + b"\n" + data)
        return json.loads(self.lines.readline())

    def hang_up(self) -> None:
        os.close(self.input)
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def talk(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SUDO_USER", raising=False)
    return Talk()


def opened(talk):
    return Path(talk.ask("open", directory=".dct-toolchain", name="net", build="00000001")["ok"]["staging"])


def test_a_file_that_cannot_be_stored_leaves_the_line_in_order(talk):
    staging = opened(talk)
    assert talk.ask("put", b"12345", name="a/b", size=5) == {"ok": {}}
    assert (staging / "a/b").read_bytes() == b"12345"
    assert "cannot store a/b/c" in talk.ask("put", b"x" * 5000, name="a/b/c", size=5000)["error"]
    assert "no place" in talk.ask("verify", names=["../x"])["error"]
    assert talk.ask("verify", names=["a/b", "none"])["ok"]["sha256"]["none"] == ""
    talk.hang_up()
    assert not staging.exists()


def test_only_what_deployments_leave_is_swept(talk, tmp_path):
    base = tmp_path / ".dct-toolchain"
    for name in ("net-00000001.partial-abc", "net-00000001-abc", "partial", "a b.partial-x"):
        (base / name).mkdir(parents=True)
    (base / ".current-abc").symlink_to("nowhere")
    staging = opened(talk)
    left = {p.name for p in base.iterdir()}
    assert left == {"net-00000001-abc", "partial", "a b.partial-x", ".lock", staging.name}
    talk.hang_up()


def test_a_program_ends_with_the_connection(talk, tmp_path):
    staging = opened(talk)
    script = b"import pathlib, os, time\npathlib.Path('mark').write_text(str(os.getpid()))\ntime.sleep(60)\n"
    talk.ask("put", script, name="p.py", size=len(script))
    os.write(talk.input, json.dumps({"do": "run", "argv": ["p.py"], "seconds": 50}).encode() + b"\n")
    while not (staging / "mark").exists() or not (staging / "mark").read_text():
        pass
    number = int((staging / "mark").read_text())
    talk.hang_up()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    assert not staging.exists()


def test_nothing_without_a_staging_folder(talk):
    assert "nothing is staged" in talk.ask("commit", keep=False)["error"]
    assert "no place" in talk.ask("put", b"", name="x", size=0)["error"]
    talk.hang_up()


def test_only_the_end_of_long_output_is_sent(tmp_path):
    with (tmp_path / "out").open("w+b") as file:
        file.write(b"a" * 100000 + b"\xff the end")
        assert tail(file).endswith("� the end")
        assert len(tail(file)) == 1 << 16
