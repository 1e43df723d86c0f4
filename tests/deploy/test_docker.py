"""The Dockerfiles, read instruction by instruction: there is no Docker engine where these tests run."""

import fnmatch
import json
import re
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

FILES = ("Dockerfile.device", "Dockerfile.server")
TARGETS = {"Dockerfile.device": [""], "Dockerfile.server": ["server", "workbench"]}


@dataclass
class Stage:
    base: str
    name: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str | None:
        found = [rest for instruction, rest in self.lines if instruction == word]
        return found[-1] if found else None


def stages(path: Path) -> list[Stage]:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M).replace("\\\n", " ")
    found: list[Stage] = []
    for line in filter(str.strip, text.splitlines()):
        word, rest = line.strip().split(None, 1)
        if word == "FROM":
            match = re.fullmatch(r"(\S+)(?: AS (\S+))?", rest)
            assert match, f"no other options of FROM are used here: {rest}"
            found.append(Stage(match[1], match[2] or ""))
        else:
            found[-1].lines.append((word, rest))
    return found


def lineage(all_stages: list[Stage], target: str) -> list[tuple[str, str]]:
    """The instructions of a target and of the stages that it is made from, oldest first."""
    by_name = {stage.name: stage for stage in all_stages}
    stage = by_name[target] if target else all_stages[-1]
    before = lineage(all_stages, stage.base) if stage.base in by_name else []
    return [*before, *stage.lines]


def last(lines: list[tuple[str, str]], word: str) -> str | None:
    found = [rest for instruction, rest in lines if instruction == word]
    return found[-1] if found else None


def export(root: Path, *extras: str) -> set[str]:
    """Names of the packages that uv.lock gives for these extras on Linux."""
    command = [sys.executable, "-m", "uv", "export", "--frozen", "--no-emit-project", "--no-hashes", "-q"]
    command += [part for extra in extras for part in ("--extra", extra)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=120)
    return {
        match[1].lower()
        for line in done.stdout.splitlines()
        if (match := re.match(r"([A-Za-z0-9_.-]+)==", line)) and "sys_platform == 'never'" not in line
    }


@pytest.fixture(params=FILES)
def dockerfile(request, root) -> Path:
    return root / "deploy/docker" / request.param


def test_what_is_copied_exists_and_reaches_the_builder(dockerfile, root):
    ignored = (root / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    for stage in stages(dockerfile):
        for word, rest in stage.lines:
            if word != "COPY" or rest.startswith("--from="):
                continue
            for source in rest.split()[:-1]:
                assert (root / source).exists(), source
                assert any(source == name or fnmatch.fnmatch(source, f"{name}/*") for name in allowed), source


def test_what_is_taken_from_another_stage_comes_from_one_that_exists(dockerfile):
    found = stages(dockerfile)
    for stage in found:
        names = {other.name for other in found if other is not stage}
        for word, rest in stage.lines:
            if word == "COPY" and rest.startswith("--from="):
                assert rest.split()[0].removeprefix("--from=") in names


def test_every_extra_exists(dockerfile, root):
    import tomllib

    known = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    used = re.findall(r"--extra (\S+)", dockerfile.read_text())
    assert used and set(used) <= set(known)


@pytest.mark.parametrize(("name", "target"), [(name, target) for name, targets in TARGETS.items() for target in targets])
def test_a_container_is_no_root_tells_its_health_and_runs_a_real_command(root, is_fedge_command, name, target):
    lines = lineage(stages(root / "deploy/docker" / name), target)
    user = last(lines, "USER")
    assert user is not None and user.split(":")[0] not in {"0", "root"}
    assert json.loads(last(lines, "ENTRYPOINT") or "") == ["fedge"]
    is_fedge_command(json.loads(last(lines, "CMD") or ""))
    health = last(lines, "HEALTHCHECK")
    assert health is not None and (target == "workbench") == (health == "NONE")  # a one-off has no health to ask for


def test_the_devices_health_is_a_real_command(root, is_fedge_command):
    health = last(lineage(stages(root / "deploy/docker/Dockerfile.device"), ""), "HEALTHCHECK") or ""
    program, *arguments = json.loads(health[health.index("[") :])
    assert program == "fedge"
    is_fedge_command(arguments)


def test_base_images_exist_for_both_architectures(dockerfile):
    """python:*-slim-* is published for amd64 and arm64; pinned to a platform or a digest it would be one of them."""
    names = {stage.name for stage in stages(dockerfile)}
    bases = {stage.base for stage in stages(dockerfile)} - names
    assert bases and all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)


def test_a_device_installs_neither_torch_nor_what_only_a_server_needs(root):
    device = export(root, "device")
    assert {"onnxruntime", "flwr", "grpcio", "tuf"} <= device
    assert not {name for name in device if name == "torch" or name.startswith(("nvidia-", "triton"))}
    assert not device & {"scikit-learn", "scipy", "onnxscript", "psycopg", "psycopg-binary"}


def test_torch_is_in_the_workbench_alone(root):
    assert "torch" not in export(root, "server", "postgres")
    found = stages(root / "deploy/docker/Dockerfile.server")
    assert not any("torch" in rest for word, rest in lineage(found, "build") if word == "RUN")
    assert "torch" in (next(stage for stage in found if stage.name == "build-workbench").last("RUN") or "")
    assert not any("workbench" in rest for word, rest in lineage(found, "server") if word == "COPY")


def test_the_devices_image_holds_all_that_its_commands_import(root, tmp_path):
    """Only the folders that are copied, in a process that can see no other of ours."""
    copied = [
        rest.split()[0]
        for word, rest in lineage(stages(root / "deploy/docker/Dockerfile.device"), "build")
        if word == "COPY" and (root / rest.split()[0]).is_dir()
    ]
    for name in copied:
        (tmp_path / name).symlink_to(root / name)
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        f"sys.path = [{str(tmp_path)!r}, *(p for p in sys.path if p != {str(root)!r})]; "
        "import cli.main, cli.device_run, cli.device_enroll, cli.device_doctor, cli.device_data, edge_client.daemon; "
        "import edge_client.flower.node, edge_client.membership.renewal; "
        f"assert not {{'aggregator', 'sim', 'torch'}} & set(sys.modules); print(sorted({copied!r}))"
    )
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert done.stdout.strip() == "['cli', 'edge_client', 'fedge', 'protos']"


# The health of a server's part.


def healthy(root: Path, home: Path, part: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "FEDGE_PART": part, "FEDGE_HOME": str(home)}
    command = [sys.executable, str(root / "deploy/docker/healthy.py")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)


def test_a_part_is_healthy_while_its_port_takes_connections(root, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (tmp_path / "server.toml").write_text(f"central_port = {listener.getsockname()[1]}\n")
        assert healthy(root, tmp_path, "central").returncode == 0
    gone = healthy(root, tmp_path, "central")
    assert (gone.returncode, "127.0.0.1" in gone.stderr) == (1, True)
    assert healthy(root, tmp_path, "rounds").returncode == 0
    assert healthy(root, tmp_path, "kitchen").returncode == 1


def test_the_folder_that_init_makes_is_found(root, tmp_path, is_fedge_command):
    """`--home /data` puts the server into /data/server, and every command finds it there."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "server.toml").write_text("central_port = 1\n")
    assert "127.0.0.1:1:" in healthy(root, tmp_path, "central").stderr


def test_every_part_has_its_health(root, tmp_path):
    from aggregator.processes import PARTS

    (tmp_path / "server.toml").write_text("")
    for part in PARTS:
        assert "choose one of" not in healthy(root, tmp_path, part).stderr
