"""``--ray``: what it takes for an address, and what is said where there is no cluster."""

import os
import socket
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from mixed_signals.store import MixedSignalsError, UsageError
from mixed_signals.store.cluster import connected, watched
from mixed_signals.store.terminal import Ray, WithRay, make_app


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (["a.store"], ("a.store", None)),
        (["a.store", "--ray"], ("a.store", "")),
        (["--ray", "a.store"], ("a.store", "")),
        (["--ray", "--", "a.store"], ("a.store", "")),
        (["--", "--ray"], ("--ray", None)),
        (["--ray", "head:6379", "a.store"], ("a.store", "head:6379")),
        (["--ray", "[::1]:6379", "a.store"], ("a.store", "[::1]:6379")),
        (["a.store", "--ray", "auto"], ("a.store", "auto")),
        (["a.store", "--ray=head:6379"], ("a.store", "head:6379")),
        (["a.store", "--ray", "ray://head:10001"], ("a.store", "ray://head:10001")),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_an_address_may_follow_and_anything_else_is_another_word(words, taken):
    app, called = make_app(), []

    @app.command(cls=WithRay)
    def command(store: str, ray: Ray = None) -> None:
        called.append((store, ray))

    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    assert called == [taken]


def test_without_ray_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(UsageError, match=r"Ray is not installed; pip install 'mixed-signals\[ray\]'"),
        connected(),
    ):
        pass


def test_ray_client_is_refused(monkeypatch):
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="run the same command on a node"), connected("ray://head:10001"):
        pass
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UsageError, match="ray://head:10001"), connected():
        pass


def test_an_address_at_which_nobody_answers_is_named_at_once():
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (
        pytest.raises(MixedSignalsError, match=f"--ray {address}: no Ray cluster answers"),
        connected(address),
    ):
        pass


def test_a_missing_token_is_told_in_one_line(tmp_path):
    pytest.importorskip("ray")
    code = (
        "from mixed_signals.store.cluster import connected; from mixed_signals.store.terminal import run_app; "
        "run_app(lambda: connected({address!r}).__enter__())"
    )
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        ran = subprocess.run(
            [sys.executable, "-c", code.format(address=address)],
            env={**os.environ, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 1
    assert "RAY_AUTH_TOKEN_PATH" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_words_that_are_no_address_are_refused():
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="--ray nonsense: Invalid address"), connected("nonsense"):
        pass


def test_a_lost_head_is_told_once_and_that_it_is_back(capsys):
    said = ""

    def wait_for(words):
        nonlocal said
        end = time.monotonic() + 20
        while words not in said:
            assert time.monotonic() < end, said
            time.sleep(0.01)
            said += capsys.readouterr().err

    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        with watched(address, every=0.01):
            time.sleep(0.2)
            assert capsys.readouterr().err == ""
            head.close()
            wait_for("no longer answers (")
            time.sleep(0.2)
            with socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))):
                wait_for("answers again")
    assert said.count(f"the Ray cluster's head at {address} no longer answers") == 1
    assert "run the same command again" in said
