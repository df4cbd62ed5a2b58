"""SavedModels that cannot be loaded; test_exporter.py tests those that can."""

import pathlib
import shutil

import pytest
import tensorflow as tf

from impala_tf import config as config_lib
from impala_tf.environments import task_set
from impala_tf.errors import UserError
from impala_tf.export.exporter import Exporter
from impala_tf.export.saved_model import METADATA, Damaged, SavedPolicy
from impala_tf.networks.agent import make_agent


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    config = config_lib.from_values({"env": "catch"})
    tasks = task_set.resolve(config.environment)
    path = tmp_path_factory.mktemp("saved_model") / "agent"
    Exporter(tasks, config).write(path, make_agent(tasks.spec, config), 0, 0)
    return path


@pytest.mark.parametrize(
    ("file", "keep"),
    [
        ("saved_model.pb", 0.5),
        ("saved_model.pb", 0),
        ("variables/variables.index", 0.3),
        ("variables/variables.data-00000-of-00001", 0.5),
        (METADATA, 0.5),
    ],
)
def test_a_truncated_model(whole, tmp_path, file, keep):
    damaged = shutil.copytree(whole, tmp_path / "agent") / file
    damaged.write_bytes(damaged.read_bytes()[: int(keep * damaged.stat().st_size)])
    with pytest.raises(Damaged, match=r"damaged") as error:
        SavedPolicy(str(tmp_path / "agent"))
    assert "\n" not in str(error.value)


def test_no_model(tmp_path):
    with pytest.raises(UserError, match="no SavedModel"):
        SavedPolicy(str(tmp_path))
    module = tf.Module()
    tf.saved_model.save(module, str(tmp_path / "other"))
    with pytest.raises(UserError, match="not an agent of impala_tf"):
        SavedPolicy(str(tmp_path / "other"))
