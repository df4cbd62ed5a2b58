"""A model for the small games."""

import pathlib

import pytest

from impala_tf import config as config_lib


@pytest.fixture(scope="session")
def games():
    """The module of the games, which child processes find as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(pathlib.Path(__file__).parent))
        import evaluation_games

        yield evaluation_games


@pytest.fixture(scope="session")
def games_model(games, tmp_path_factory) -> str:
    """The SavedModel of an untrained agent."""
    from impala_tf.environments import task_set
    from impala_tf.export.exporter import Exporter
    from impala_tf.networks.agent import make_agent

    config = config_lib.from_values({"env": games.GOOD})
    tasks = task_set.resolve(config.environment)
    output = tmp_path_factory.mktemp("model") / "agent"
    Exporter(tasks, config).write(output, make_agent(tasks.spec, config), 202_240, 1)
    return str(output)
