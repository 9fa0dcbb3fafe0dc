"""``millrace router``: what the command says without running anything."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from router.command import router
from router.config.config_file import parse
from router.config.config_page import page
from router.config.settings import Settings
from router.config.settings_rules import completed


def test_check_prints_the_settings_in_effect(tmp_path: Path) -> None:
    file = tmp_path / "router.yml"
    file.write_text("port: 80\n")
    done = CliRunner().invoke(router, ["--check", "-c", str(file)])
    assert done.exit_code == 0
    assert parse(done.stdout, "printed") == completed(Settings(port=80))


def test_check_without_a_file_prints_all_defaults_explained() -> None:
    done = CliRunner().invoke(router, ["--check"])
    assert done.stdout == page(completed(Settings()))
    assert "# How long an endpoint that failed is passed over; 0s means" in done.stdout


def test_check_names_everything_that_is_wrong_on_standard_error(tmp_path: Path) -> None:
    file = tmp_path / "router.yml"
    file.write_text("port: y\nstatus: {port: x}\n")
    done = CliRunner().invoke(router, ["--check", "-c", str(file)])
    assert done.exit_code == 1
    assert done.stdout == ""
    assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == [f"{file}:1", f"{file}:2"]


def test_check_names_what_has_no_effect_on_standard_error(tmp_path: Path) -> None:
    file = tmp_path / "router.yml"
    file.write_text("prot: 80\npid_file: x\n")
    done = CliRunner().invoke(router, ["--check", "-c", str(file)])
    assert done.exit_code == 0
    assert done.stderr == (f"{file}: ignored: line 1: prot; did you mean port?\n{file}: ignored: line 2: pid_file\n")


def test_a_missing_file_is_named() -> None:
    done = CliRunner().invoke(router, ["-c", "/no/such.yml"])
    assert done.exit_code == 1
    assert done.stderr == "/no/such.yml: cannot read the configuration file: No such file or directory\n"
