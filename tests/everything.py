"""`make test`: the whole suite, with a Dovecot for the live tests, which use the installed command from a wheel of their own.

Dovecot is installed by apt where that is allowed. Where it is not, what is left out is said loudly; with CI=true that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from tests.live import dovecot

ROOT = Path(__file__).parent.parent
PACKAGES = ["dovecot-imapd", "dovecot-pop3d"]
PARALLEL = ["-n", "auto", "--dist", "worksteal"]
"""A process for each core, each with servers of its own: most of the time goes into waiting for programs to start and end."""


def main() -> int:
    """Runs it and returns pytest's status."""
    problem = dovecot.missing()
    if problem is not None:
        install_dovecot()
        problem = dovecot.missing()
    if problem is not None and os.environ.get("CI") == "true":
        print(f"FAILED: no live tests are possible: {problem}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="fetchmail-py-wheel-") as directory:
        environment = os.environ | {"FETCHMAIL_PY_COMMAND": str(install_wheel(Path(directory)))}
        status = subprocess.run(
            [sys.executable, "-m", "pytest", *PARALLEL, *sys.argv[1:]], cwd=ROOT, env=environment, check=False
        ).returncode
    if problem is not None:
        line = "!" * 100
        print(f"{line}\nNOT TESTED: everything against a real server (tests/live). {problem}\n{line}", file=sys.stderr)
    return status


def install_dovecot() -> None:
    """By apt, as root or with a sudo that asks nothing."""
    apt = shutil.which("apt-get")
    if apt is None:
        return
    command = [apt, "install", "-y", "-qq", *PACKAGES]
    if os.geteuid() != 0:
        sudo = shutil.which("sudo")
        if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode != 0:
            return
        command = [sudo, "-n", *command]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    print(f"Installing {' '.join(PACKAGES)} for the live tests", flush=True)
    if subprocess.run(command, env=environment, capture_output=True, check=False).returncode != 0:
        update = [*command[: command.index(apt)], apt, "update", "-qq"]
        subprocess.run(update, env=environment, capture_output=True, check=False)
        subprocess.run(command, env=environment, capture_output=True, check=False)


def install_wheel(directory: Path) -> Path:
    """Builds the wheel and installs it into an environment that has nothing of the checkout; returns the command."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    place = directory / "venv"
    # What the program depends on comes from the environment we run in; the program itself from the wheel alone.
    venv.create(place, with_pip=False)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (place / "lib" / version / "site-packages" / "dependencies.pth").write_text(
        next(path for path in sys.path if path.endswith("site-packages")) + "\n", encoding="utf-8"
    )
    wheel = next(directory.glob("*.whl"))
    pip = [sys.executable, "-m", "pip", "--python", str(place), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True)
    return place / "bin" / "fetchmail-py"


if __name__ == "__main__":
    sys.exit(main())
