"""What TensorBoard shows of several runs, asked as its web page asks; test_progress.py has what is written for one."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from impala_tf import config as config_lib
from impala_tf.records.logdir import LogDir
from impala_tf.records.tensorboard import TensorBoard

RATES = {"default": {}, "high": {"learning_rate": 0.5}}


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """Two runs, each started twice."""
    root = tmp_path_factory.mktemp("runs")
    for number, (name, settings) in enumerate(RATES.items()):
        logdir = LogDir(str(root / name))
        logdir.path.mkdir()
        logdir.prepare(config_lib.from_values({"env": "catch", "logdir": str(logdir.path), **settings}))
        for frames in (100, 200):
            tensorboard = TensorBoard(logdir)
            tensorboard.write({"episodes": 9, "mean_return_100": number + frames / 1000, "total_loss": 1.0}, frames)
            tensorboard.close()
    found = EventMultiplexer().AddRunsFromDirectory(str(root))
    found.Reload()
    return found


def test_the_hparams_tab_shows_in_what_runs_differ_and_their_returns(events):
    """First, because the page shows only the first five hyperparameters and the first five metrics by itself."""
    context = backend_context.Context(TBContext(data_provider=MultiplexerDataProvider(events, "")))
    request = api_pb2.GetExperimentRequest()
    experiment = get_experiment.Handler(RequestContext(), context, "", request).run()
    differs = [info.differs for info in experiment.hparam_infos]
    assert experiment.hparam_infos[0].name == "learning_rate" and differs == [True] + [False] * (len(differs) - 1)
    assert "logdir" not in {info.name for info in experiment.hparam_infos}
    assert "episode/mean_return_100" in [info.name.tag for info in experiment.metric_infos][:5]
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=9, allowed_statuses=[0, 1, 2, 3], col_params=[api_pb2.ColParams(hparam="learning_rate")]
    )
    groups = list_session_groups.Handler(RequestContext(), context, "", request).run().session_groups
    shown = {}
    for group in groups:
        (value,) = [metric.value for metric in group.metric_values if metric.name.tag == "episode/mean_return_100"]
        shown[group.hparams["learning_rate"].number_value] = value
    assert shown == pytest.approx({0.0006: 0.2, 0.5: 1.2})


def test_a_resumed_run_goes_on_in_the_same_scalars(events):
    for number, name in enumerate(RATES):
        (run,) = [run for run in events.Runs() if run.startswith(name)]
        rows = events.Tensors(run, "episode/mean_return_100")
        assert [row.step for row in rows] == [100, 200]
        assert [float(tf.make_ndarray(row.tensor_proto)) for row in rows] == pytest.approx([number + 0.1, number + 0.2])
        metadata = events.SummaryMetadata(run, "episode/mean_return_100")
        assert metadata.summary_description.startswith("Mean return of the last 100 full games")
        assert len(events.Tensors(run, "settings")) == 2  # One for each start.
