"""The installed package: what an import prints and checks, and what the wheel contains."""

import importlib.metadata
import os
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
    done = run_python(NATIVE_LINES, str(log))
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


# The wheel


def test_wheel_contains_the_data_files(tmp_path):
    hatchling_build = pytest.importorskip("hatchling.build")
    code = f"import hatchling.build; hatchling.build.build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
    assert hatchling_build
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("impala_tf", "run", "reverb_configs"):
        expected = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / package).rglob("*")
            if path.suffix in (".py", ".textproto", ".flags", ".json", ".typed")
        }
        assert expected
        assert expected <= names
    tops = {name.split("/")[0] for name in names}
    assert tops == {"impala_tf", "run", "reverb_configs", f"impala_tf-{impala_tf.__version__}.dist-info"}
