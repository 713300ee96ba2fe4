"""Which code computed something can be told, release or not."""

import shutil
from pathlib import Path

import pytest

import trading_pipeline
from trading_pipeline.adapters.code_version import COMPUTING, code_version, version_of

SOURCE = Path(trading_pipeline.__file__).parent


@pytest.fixture
def package(tmp_path):
    """A copy of what computes."""
    for name in COMPUTING:
        shutil.copytree(SOURCE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_same_sources_have_the_same_version_wherever_they_are(package):
    assert version_of(package) == version_of(SOURCE)
    assert code_version().startswith(f"{trading_pipeline.__version__}+")


def test_a_changed_a_renamed_and_a_new_source_are_other_code(package):
    sizing = package / "domain" / "sizing.py"
    versions = [version_of(package)]
    sizing.write_text(sizing.read_text().replace("0.", "0.0", 1) + "\n")
    versions.append(version_of(package))
    versions.append(version_of(sizing.rename(package / "domain" / "sizes.py").parents[1]))
    (package / "service" / "added.py").touch()
    versions.append(version_of(package))
    assert len(set(versions)) == 4


def test_what_does_not_compute_does_not_count(package):
    (package / "faces").mkdir()
    (package / "faces" / "words.py").write_text("GREETING = 'hello'\n")
    (package / "domain" / "notes.txt").write_text("nothing that runs\n")
    assert version_of(package) == version_of(SOURCE)
