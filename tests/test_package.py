"""The installed package: what an import prints and checks, and what the wheel contains."""

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import impala_tf
from impala_tf import versions

ROOT = Path(__file__).resolve().parent.parent


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs `code` in a new process outside the checkout, without the log level that the tests set."""
    inherited = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**inherited, **environment},
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# impala_tf.versions


def compatible(name: str) -> str:
    return {"tensorflow": "2.15.1", "dm-reverb": "0.14.0", "tf-agents": "0.19.0", "numpy": "1.26.4"}[name]


def test_installed_versions_are_compatible():
    versions.check()


def test_compatible_versions_pass():
    versions.check(installed_version=compatible)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("tensorflow", "2.16.1"),
        ("tensorflow", "2.14.1"),
        ("tensorflow", "2.16rc0"),
        ("dm-reverb", "0.13.0"),
        ("tf-agents", "0.18.0"),
        ("numpy", "2.0.0"),
        ("numpy", "1.22.4"),
    ],
)
def test_an_incompatible_version_is_reported_with_what_to_install(name, version):
    with pytest.raises(ImportError) as error:
        versions.check(installed_version=lambda asked: version if asked == name else compatible(asked))
    assert str(error.value) == (
        f"impala_tf cannot run here: {name} is {version}. Install: pip install "
        '"tensorflow==2.15.1" "dm-reverb==0.14.0" "tf-agents==0.19.0" "numpy<2"'
    )


def test_missing_libraries_are_reported_in_one_line():
    def installed(name: str) -> str:
        if name in ("dm-reverb", "tf-agents"):
            raise importlib.metadata.PackageNotFoundError(name)
        return compatible(name)

    with pytest.raises(ImportError, match="dm-reverb is not installed, tf-agents is not installed") as error:
        versions.check(installed_version=installed)
    assert "\n" not in str(error.value)


def test_another_build_of_tensorflow_is_accepted():
    def installed(name: str) -> str:
        if name == "tensorflow":
            raise importlib.metadata.PackageNotFoundError(name)
        return "2.15.0.post1" if name == "tensorflow-cpu" else compatible(name)

    versions.check(installed_version=installed)


def test_check_agrees_with_the_declared_dependencies():
    declared = importlib.metadata.requires("impala-tf") or []
    for requirement in versions.REQUIREMENTS:
        name, _, pin = requirement.install.partition("==")
        if pin:
            assert requirement.install in declared
            assert requirement.minimum <= tuple(map(int, pin.split(".")[:2])) < requirement.below
        else:
            name, below = requirement.install.split("<")
            bound = ".".join(map(str, requirement.minimum))
            assert f"{name}<{below},>={bound}" in declared


def test_version_is_the_distribution_s():
    assert importlib.metadata.version("impala-tf") == impala_tf.__version__


@pytest.mark.parametrize(("given", "found"), [({}, "true"), ({"TF_FORCE_GPU_ALLOW_GROWTH": "false"}, "false")])
def test_processes_share_a_gpu_unless_the_user_says_otherwise(given, found):
    done = run_python("import impala_tf, os; print(os.environ['TF_FORCE_GPU_ALLOW_GROWTH'])", **given)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{found}\n", "")


# impala_tf.quiet


def test_import_is_light_and_silent():
    done = run_python("import impala_tf, sys; assert not {'tensorflow', 'reverb', 'numpy', 'gym'} & set(sys.modules)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_heavy_libraries_start_silently():
    done = run_python(
        "import impala_tf, tensorflow, reverb, tf_agents.experimental.distributed.reverb_variable_container"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_libraries_that_were_installed_without_being_compiled_start_silently():
    """TF-Agents compares to a literal with `is`, which Python warns about when it compiles the file."""
    done = run_python(
        "import impala_tf, importlib.util, pathlib\n"
        "folder = importlib.util.find_spec('tf_agents').submodule_search_locations[0]\n"
        "source = pathlib.Path(folder, 'utils', 'common.py')\n"
        "compile(source.read_text(), str(source), 'exec')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_libraries_that_use_pkg_resources_start_silently(tmp_path):
    """DeepMind Lab's module does, and its warning would come from each of its processes."""
    (tmp_path / "some_lab.py").write_text("import pkg_resources")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
    assert "pkg_resources is deprecated" in run_python(start + "import some_lab").stderr
    done = run_python(start + "import impala_tf, some_lab")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


NATIVE_LINES = """
import os, sys
import impala_tf, reverb
import tensorflow as tf
from impala_tf import quiet
quiet.native_stderr(sys.argv[1])
server = reverb.Server([reverb.Table.queue("q", 4)])
tf.function(lambda x: x + 1, jit_compile=True)(tf.ones([]))
server.stop()
print("python's line", file=sys.stderr)
"""


def test_native_lines_go_to_the_log_and_python_s_to_the_terminal(tmp_path):
    log = tmp_path / "native.log"
    log.write_text("an earlier run's line\n")
    done = run_python(NATIVE_LINES, str(log), TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "python's line\n")
    lines = log.read_text().splitlines()
    assert lines[0] == "an earlier run's line"
    assert any("Started replay server" in line for line in lines)
    assert any("Compiled cluster using XLA" in line for line in lines)


def test_traceback_and_native_crash_show_on_the_terminal(tmp_path):
    start = f"from impala_tf import quiet; quiet.native_stderr({str(tmp_path / 'native.log')!r}); "
    assert "ZeroDivisionError" in run_python(start + "1 / 0").stderr
    crash = run_python(start + "import os; os.abort()")
    assert crash.returncode < 0
    assert "Fatal Python error: Aborted" in crash.stderr


def test_user_can_see_everything(tmp_path):
    log = tmp_path / "native.log"
    code = f"from impala_tf import quiet; import os; quiet.native_stderr({str(log)!r}); os.write(2, b'a native line')"
    assert run_python(code).stderr == ""
    assert log.read_text() == "a native line"
    assert run_python(code, TF_CPP_MIN_LOG_LEVEL="0").stderr == "a native line"


# What is installed


def _build(kind: str, folder: Path) -> zipfile.ZipFile:
    """Builds a wheel, `kind` as in PEP 517 and 660."""
    pytest.importorskip("hatchling.build")
    code = f"import hatchling.build; hatchling.build.build_{kind}({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def test_wheel_has_every_file_and_takes_no_other_name(tmp_path):
    names = set(_build("wheel", tmp_path).namelist())
    for source, target in (("impala_tf", ""), ("run", "impala_tf/"), ("reverb_configs", "impala_tf/")):
        expected = {
            target + path.relative_to(ROOT).as_posix()
            for path in (ROOT / source).rglob("*")
            if path.suffix in (".py", ".textproto", ".flags", ".json", ".typed")
        }
        assert expected
        assert expected <= names
    assert {name.split("/")[0] for name in names} == {"impala_tf", f"impala_tf-{impala_tf.__version__}.dist-info"}


def test_editable_install_takes_no_other_name(tmp_path):
    wheel = _build("editable", tmp_path)
    found = "".join(wheel.read(name).decode() for name in wheel.namelist() if name.startswith("_editable"))
    assert re.findall(r"map_module\('(\w+)', '(.*)'\)", found) == [("impala_tf", str(ROOT / "impala_tf/__init__.py"))]
    assert not [line for line in found.splitlines() if line.startswith("/")]  # In a .pth: a folder for sys.path.
    scripts = wheel.read(next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))).decode()
    modules = re.findall(r"^impala-\w+ = (.*):main$", scripts, re.MULTILINE)
    assert len(modules) == 9 and all(module.startswith("impala_tf.run.") for module in modules)
    assert all((ROOT / f"{module.replace('.', '/')}.py").exists() for module in modules)


def test_a_user_s_own_modules_do_not_disturb(tmp_path):
    """People call their scripts run.py and keep them on the path."""
    for name in ("run", "reverb_configs", "tests", "command", "config", "flags"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('my own module')\n")
    read = "from impala_tf.transport import tables; print(tables.read('on_policy'))"
    start = "import sys; sys.argv = ['impala-train', '--help']; from impala_tf.run.train import main; main()"
    for code, shown in ((read, "trajectories"), (start, "--learning_rate")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": f".{os.pathsep}{ROOT}"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "") and shown in done.stdout
