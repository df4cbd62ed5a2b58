"""Tables from textprotos, and the ports they are served on."""

import importlib.resources
import pathlib
import socket

import numpy as np
import pytest
import reverb
import tensorflow as tf

from impala_tf.errors import UserError
from impala_tf.transport import TRAJECTORIES, VARIABLES, ports, server
from impala_tf.transport.writer import UnrollWriter

CONFIGS = sorted(p.name for p in importlib.resources.files("reverb_configs").iterdir() if p.name.endswith(".textproto"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_that_is_shipped_can_be_served(name):
    config = server.load_config(name.removesuffix(".textproto"))
    with server.Server(config, {}, port=0) as running:
        tables = reverb.Client(running.address).server_info(timeout=5)
    assert {TRAJECTORIES, VARIABLES} <= tables.keys()
    # Each unroll is trained on once, in order.
    assert tables[TRAJECTORIES].max_times_sampled == 1
    assert tables[TRAJECTORIES].sampler_options.fifo
    assert tables[TRAJECTORIES].rate_limiter_info.max_diff == tables[TRAJECTORIES].max_size
    # The newest parameters replace the ones before, and a pull never waits for another push.
    assert tables[VARIABLES].max_size == 1
    assert tables[VARIABLES].max_times_sampled == 0


def test_a_path_may_be_given(tmp_path):
    source = importlib.resources.files("reverb_configs").joinpath("on_policy.textproto")
    copy = tmp_path / "mine.textproto"
    copy.write_text(source.read_text())
    assert server.load_config(str(copy)) == server.load_config("on_policy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("tables { nonsense: 1 }", "not a ReverbServerConfig"),
        ('tables { table_name: "variables" }', "no table 'trajectories'"),
    ],
)
def test_a_config_that_cannot_serve_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.textproto"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        server.load_config(str(path))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="on_policy"):
        server.load_config("on_poliyc")


def test_the_queue_must_hold_more_than_a_batch():
    config = server.load_config("on_policy")
    server.set_queue_size(config, 33, batch_size=32)
    with pytest.raises(UserError, match="--queue_size"):
        server.set_queue_size(config, 32, batch_size=32)


def test_a_full_queue_makes_writers_wait_and_loses_nothing():
    config = server.load_config("on_policy")
    server.set_queue_size(config, 4, batch_size=1)
    signature = {TRAJECTORIES: {"x": tf.TensorSpec((), tf.int32)}}
    with server.Server(config, signature, port=0) as running:
        writer = UnrollWriter(running.address)
        for i in range(6):
            writer.write({"x": np.int32(i)})
        assert not writer.flush(timeout=0.3)  # Two of them wait for room.
        client = reverb.Client(running.address)
        got = [int(next(client.sample(TRAJECTORIES, 1, emit_timesteps=False)).data[0]) for _ in range(6)]
        assert writer.flush(timeout=5)
    assert got == list(range(6))


def test_a_port_in_use_is_told():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port}"):
            ports.check_free(port)
    ports.check_free(port)


def test_the_folder_that_reverb_makes_is_removed():
    running = server.Server(server.load_config("on_policy"), {}, port=0)
    folder = pathlib.Path(running._folder.name)
    assert folder.exists()
    running.stop()
    assert not folder.exists()
