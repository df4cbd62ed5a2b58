"""The clusters described in run/clusters: Ray's own checks accept them, and their commands exist."""

from __future__ import annotations

import json
import pathlib
import re

import pytest

ray = pytest.importorskip("ray")
import yaml  # noqa: E402 - Ray's.

from impala_tf import config as config_lib  # noqa: E402

FOLDER = pathlib.Path(__file__).parents[3] / "run" / "clusters"
HEALTH = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}


def read(name: str) -> dict:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.mark.parametrize("name", ["aws.yaml", "own_machines.yaml"])
def test_ray_up_accepts_it(name):
    import jsonschema
    from ray.autoscaler._private.util import prepare_config

    schema = json.loads((pathlib.Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = read(name)
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "max_wrokers": 1}, schema)
    prepared = prepare_config(cluster)
    assert prepared["head_node_type"] in prepared["available_node_types"]
    start = next(command for command in cluster["head_start_ray_commands"] if "ray start" in command)
    assert dict(re.findall(r"(RAY_\w+)=(\d+)", start)) == HEALTH


def test_kuberay_has_what_it_needs():
    spec = read("kuberay.yaml")["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["volumeMounts"] and pod["volumes"] and container["image"]
        assert {each["name"]: each["value"] for each in container["env"]} == HEALTH
    assert spec["entrypoint"].startswith("impala-train --cluster=ray ")


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_their_commands_are_right(name):
    flags = re.findall(r"impala-train\)? ((?:[\\#\s]*--\w+=\S+)+)", (FOLDER / name).read_text())
    assert flags
    for found in flags:
        values = dict(re.findall(r"--(\w+)=(\S+)", found))
        values = {key: int(value) if value.isdecimal() else value for key, value in values.items()}
        values.pop("env") if values["env"].startswith("...") else None
        config = config_lib.from_values(values)
        assert config.launch.cluster == "ray"


def test_there_are_files():
    assert len(list(FOLDER.glob("*.yaml"))) == 3
