"""Tables from textprotos, and the ports they are served on."""

from __future__ import annotations

import dataclasses
import importlib.resources
import pathlib
import socket
import tempfile

import numpy as np
import pytest
import reverb
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf.config import DataConfig
from impala_tf.errors import UserError
from impala_tf.transport import GRADIENTS, REPLAY, RUN, TRAJECTORIES, VARIABLES, ports, server, tables
from impala_tf.transport.connection import read_told, wait_for_server
from impala_tf.transport.writer import UnrollWriter

FOLDER = importlib.resources.files("impala_tf") / "reverb_configs"
CONFIGS = sorted(p.name for p in FOLDER.iterdir() if p.name.endswith(".textproto"))
UNROLL = {"x": tf.TensorSpec((), tf.int32)}


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def folders() -> list[pathlib.Path]:
    return list(pathlib.Path(tempfile.gettempdir()).glob("impala_tf_reverb_*"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_that_is_shipped_can_be_served(name):
    name = name.removesuffix(".textproto")
    fraction, queue = (0.5 if name == "replay" else 0.0), (GRADIENTS if name == "a3c" else TRAJECTORIES)
    if name == "a3c":
        config, _ = server.read_config(name, 0, queue)
    else:
        config = server.load_config(DataConfig(reverb_config=name, replay_fraction=fraction))
    with server.Server(config, UNROLL, [], port=0) as running:
        tables = reverb.Client(running.address).server_info(timeout=5)
    assert {queue, VARIABLES, RUN} <= tables.keys()
    # Each unroll or gradient is learned from once, in order.
    assert tables[queue].max_times_sampled == 1
    assert tables[queue].sampler_options.fifo
    assert tables[queue].rate_limiter_info.max_diff == tables[queue].max_size
    # The newest parameters replace the ones before, and a pull never waits for another push.
    assert tables[VARIABLES].max_size == 1
    assert tables[VARIABLES].max_times_sampled == 0
    assert (REPLAY in tables) == (fraction > 0)
    if fraction:  # As in section 5.2.2; an insert never waits, and nothing that is sampled is removed.
        replay = tables[REPLAY]
        assert replay.sampler_options.uniform and replay.remover_options.fifo and replay.max_size == 10_000
        assert replay.max_times_sampled == 0 and replay.rate_limiter_info.max_diff > 1e300


@pytest.mark.parametrize(("fraction", "tables"), [(0.0, "on_policy"), (0.5, "replay")])
def test_the_tables_follow_from_the_replay(fraction, tables):
    data = DataConfig(replay_fraction=fraction)
    named = dataclasses.replace(data, reverb_config=tables)
    assert data.tables == tables and server.load_config(data) == server.load_config(named)


def test_replay_needs_its_table(tmp_path):
    """A file of one's own: the replay's size is a setting, and without replay its table is left out."""
    copy = tmp_path / "mine.textproto"
    for name in ("on_policy", "replay"):
        copy.write_text((FOLDER / f"{name}.textproto").read_text())
        data = DataConfig(reverb_config=str(copy), replay_fraction=0.5, replay_size=77)
        if name == "on_policy":
            with pytest.raises(UserError, match="has no table 'replay', which --replay_fraction needs: copy it from"):
                server.load_config(data)
            continue
        sizes = {table.table_name: table.max_size for table in server.load_config(data).tables}
        assert sizes == {TRAJECTORIES: 32, REPLAY: 77, VARIABLES: 1}
        without = server.load_config(DataConfig(reverb_config=str(copy), batch_size=31))
        assert [table.table_name for table in without.tables] == [TRAJECTORIES, VARIABLES]


def test_a_path_may_be_given(tmp_path):
    source = FOLDER / "on_policy.textproto"
    copy = tmp_path / "mine.textproto"
    copy.write_text(source.read_text())
    assert server.load_config(DataConfig(reverb_config=str(copy))) == server.load_config(DataConfig())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("tables { nonsense: 1 }", "not a ReverbServerConfig"),
        ('tables { table_name: "variables" }', "no table 'trajectories'"),
        ('tables { table_name: "trajectories" }', "no table 'variables'"),
        ("".join(f'tables {{ table_name: "{n}" }}' for n in (TRAJECTORIES, VARIABLES, RUN)), "'run' is taken"),
    ],
)
def test_a_config_that_cannot_serve_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.textproto"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        server.load_config(DataConfig(reverb_config=str(path)))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match="on_policy"):
        server.load_config(DataConfig(reverb_config="on_poliyc"))


def test_tables_are_checked_before_reverb_is_imported(tmp_path):
    mine = tmp_path / "mine.textproto"
    mine.write_text("tables { table_name: \"variables\" } tables { table_name : 'trajectories' }")
    for values, missing in (
        ({}, None),
        ({"replay_fraction": 0.5}, "replay"),
        ({"architecture": "a3c"}, "gradients"),
        ({"reverb_config": str(mine)}, None),
        ({"reverb_config": str(mine), "replay_fraction": 0.5}, "replay"),
        ({"reverb_config": "on_policy", "architecture": "a3c"}, "gradients"),
    ):
        config = config_lib.from_values(values)
        if missing and "reverb_config" in values:
            with pytest.raises(UserError, match=f"has no table '{missing}' .*copy it from reverb_configs"):
                tables.check(config)
        else:
            tables.check(config)


def test_the_queue_must_hold_more_than_a_batch():
    config = server.load_config(DataConfig(queue_size=33, batch_size=32))
    (queue,) = (table for table in config.tables if table.table_name == TRAJECTORIES)
    assert (queue.max_size, queue.rate_limiter.max_diff) == (33, 33)
    with pytest.raises(UserError, match=r"holds 32 unrolls.*--queue_size.*64"):
        server.load_config(DataConfig(queue_size=32, batch_size=32))
    with pytest.raises(UserError, match=r"holds 64 unrolls.*--batch_size=64"):  # What the textproto says.
        server.load_config(DataConfig(batch_size=64, reverb_config="on_policy"))
    for fresh, data in ((64, DataConfig(batch_size=64)), (50, DataConfig(batch_size=100, replay_fraction=0.5))):
        (queue,) = (table for table in server.load_config(data).tables if table.table_name == TRAJECTORIES)
        assert queue.max_size == queue.rate_limiter.max_diff == 2 * fresh  # Where it is left to the program.
    server.load_config(DataConfig(batch_size=32, replay_fraction=0.5, queue_size=17))
    with pytest.raises(UserError, match=r"holds 16 unrolls.* than the 16 fresh ones of a batch.*--queue_size.*32"):
        server.load_config(DataConfig(batch_size=32, replay_fraction=0.5, queue_size=16))


def test_a_full_queue_makes_writers_wait_and_loses_nothing():
    config = server.load_config(DataConfig(queue_size=4, batch_size=1))
    with server.Server(config, UNROLL, [], port=0) as running:
        writer = UnrollWriter(running.address, UNROLL)
        for i in range(6):
            writer.write({"x": np.int32(i)})
        assert not writer.flush(timeout=0.3)  # Two of them wait for room.
        assert writer.flush(timeout=5, unconfirmed=2)
        client = reverb.Client(running.address)
        got = [
            next(client.sample(TRAJECTORIES, 1, emit_timesteps=False)).data[0].view(np.int32).item() for _ in range(6)
        ]
        assert writer.flush(timeout=5)
        writer.close()
    assert got == list(range(6))


def test_a_port_in_use_is_told_and_nothing_is_left():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port} cannot be used"):
            ports.check_free(port)
        with pytest.raises(UserError, match=f"--port={port} cannot be used"):
            server.Server(server.load_config(DataConfig()), UNROLL, [], port=port)
    ports.check_free(port)
    assert folders() == []


@pytest.mark.parametrize("address", ["localhost", ":8000", "localhost:", "localhost:0", "localhost:65536", "a:b"])
def test_addresses_are_checked(address):
    with pytest.raises(UserError, match="must be the learner's host:port"):
        ports.check_address(address)
    ports.check_address("localhost:8000")


def test_ports_that_do_not_exist_are_refused():
    launch = config_lib.from_values({"num_learners": 3, "port": 65_534}).launch
    with pytest.raises(UserError, match="none above 65535; use at most 65533"):
        ports.on_this_machine(launch)


def test_a_process_gets_each_free_port_once(monkeypatch):
    monkeypatch.setattr(ports, "_PORTS", (20_000, 20_020))
    found = [ports.free_port() for _ in range(15)]
    assert len(set(found)) == 15


def test_the_folder_that_reverb_makes_is_removed_at_once_and_the_port_is_free_again():
    port = ports.free_port()
    running = server.Server(server.load_config(DataConfig()), UNROLL, [], port=port)
    assert running.address == f"localhost:{port}"
    assert folders() == []  # Already: the process may be killed.
    with pytest.raises(UserError):
        ports.check_free(port)
    for _ in range(2):  # Stopping it again does nothing.
        running.stop()
        assert folders() == []
        ports.check_free(port)


def test_a_server_that_cannot_tell_is_stopped(monkeypatch):
    """The last thing that can fail: the server runs already."""
    port = ports.free_port()

    def fail(*_arguments, **_options):
        raise RuntimeError("no room")

    monkeypatch.setattr(reverb.Client, "insert", fail)
    with pytest.raises(RuntimeError, match="no room"):
        server.Server(server.load_config(DataConfig()), UNROLL, [], port=port)
    assert folders() == []
    ports.check_free(port)


@pytest.mark.parametrize("told", [None, {}, {"tasks": ["atari/pong", "snow \N{SNOWMAN}"], "settings": {"a": 0.5}}])
def test_what_is_told_can_be_read_as_often_as_one_likes(told):
    with server.Server(server.load_config(DataConfig()), UNROLL, [], port=0, told=told) as running:
        assert RUN in wait_for_server(running.address, 10)
        for _ in range(3):
            assert read_told(running.address, 10) == (told or {})
